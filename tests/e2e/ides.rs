//! What IDEs do over ssh, with OpenSSH's client as they call it. Their servers are played by `../ides/server.py`, which
//! like them outlives connections, and tells its pid and how much was ever said to it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxgate_tests::cable::Cable;
use boxgate_tests::local::{free_port, random_bytes, serve_http};
use boxgate_tests::{Devhost, Finished, Login, Run, Running, Setup, until};

const SERVER: &str = include_str!("../ides/server.py");
const START: &str = include_str!("../ides/start.sh");
const STAY: &str = include_str!("../ides/stay.sh");
/// What IDEs wait for their first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// So long `JetBrains` waits to be told which system it is.
const SYSTEM_PROBE: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(10);
/// VS Code has about ten connections per window; this is many windows.
const MANY: u32 = 60;

// --- the server ----------------------------------------------------------------------------------------

/// The script for bash: `name` tells servers of one box apart, `listen` is a port or a path that may begin with TMP.
fn script(id: &str, name: &str, listen: &str) -> String {
    format!("id={id} name={name} listen={listen}\n{}", START.replace("@SERVER@", SERVER))
}

/// What the script tells an IDE.
struct Started {
    /// The server's port, or the path of its socket.
    listening: String,
    /// The pid of the bash that runs the script.
    shell: String,
}

/// Reads what the script printed, which must be that alone.
#[track_caller]
fn started(id: &str, said: &str) -> Started {
    let field = |name: &str| {
        let rest = said.split(&format!("\n{name}==")).nth(1).and_then(|rest| rest.split("==").next());
        rest.unwrap_or_else(|| panic!("no {name} in what the script printed:\n{said}")).to_owned()
    };
    let (listening, shell, tmp) = (field("listeningOn"), field("shell"), field("tmpDir"));
    assert!(tmp.starts_with("/run/user/"), "a directory for sockets: {tmp}");
    let arch = std::env::consts::ARCH;
    let expected = format!(
        "{id}: running\n{id}: start\nlisteningOn=={listening}==\nshell=={shell}==\narch=={arch}==\n\
         tmpDir=={tmp}==\nplatform==linux==\n{id}: end\n"
    );
    // The keep-alive prints blanks.
    assert_eq!(said.trim_end_matches(' '), expected, "left the script's output, right what it prints");
    Started { listening, shell }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection of an IDE's window to the server.
struct Window(Box<dyn Stream>);

/// From whom an answer came, and how many frames the server had got by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    pid: u32,
    frames: u32,
}

impl Window {
    fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(Box::new(stream))
    }

    fn of_unix(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(Box::new(stream))
    }

    /// Through a SOCKS5 proxy here to a port that is open in the box.
    #[track_caller]
    fn through_proxy(proxy: u16, port: u16) -> Self {
        let mut stream = connect(proxy);
        stream.write_all(&[5, 1, 0]).unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
        stream.write_all(&[&[5, 1, 0, 1, 127, 0, 0, 1][..], &port.to_be_bytes()].concat()).unwrap();
        let mut reply = [0; 10];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..2], [5, 0], "the proxy's reply");
        Self::of(stream)
    }

    /// Sends a frame, whose answer must hold the same bytes.
    #[track_caller]
    fn say(&mut self, body: &[u8]) -> Answer {
        let length = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes();
        self.0.write_all(&[&length(body.len())[..], body].concat()).unwrap();
        let mut reply = vec![0; 12 + body.len()];
        self.0.read_exact(&mut reply).unwrap();
        assert!(reply[..4] == length(8 + body.len()) && reply[12..] == *body, "the answer is another");
        let number = |at: usize| u32::from_le_bytes(reply[at..at + 4].try_into().unwrap());
        Answer { pid: number(4), frames: number(8) }
    }
}

#[track_caller]
fn connect(port: u16) -> TcpStream {
    until("the forward", SOON, || TcpStream::connect(("127.0.0.1", port)).map_err(|fault| fault.to_string()))
}

/// A window on a server that a forward leads to, once it does.
#[track_caller]
fn window(open: impl Fn() -> Window, body: &[u8], expected: Answer) -> Window {
    let mut window = open();
    assert_eq!(window.say(body), expected, "left the server seen, right the one expected");
    window
}

fn next(answer: Answer) -> Answer {
    Answer { frames: answer.frames + 1, ..answer }
}

// --- VS Code, Cursor -----------------------------------------------------------------------------------

/// Runs bash with the script on its standard input, and stays.
#[track_caller]
fn open_and_stay(login: &Login, options: &[&str], name: &str, listen: &str) -> (Running, u16, String) {
    let id = "0e21d0e5a3e0";
    let mut ssh = login.ssh_with([&["-T"], options].concat(), "bash").start();
    ssh.write(&(script(id, name, listen) + STAY));
    ssh.close_input();
    let said = ssh.expect_stdout(&format!("{id}: end\n"));
    let started = started(id, &said);
    (ssh, started.listening.parse().unwrap(), started.shell)
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn vs_code_through_its_own_proxy() {
    let devhost = Devhost::shared();
    let (alice, proxy) = (devhost.login("alice"), free_port());
    let options = ["-D", &proxy.to_string(), "-o", "ConnectTimeout=15"];
    let (mut ssh, port, _) = open_and_stay(&alice, &options, "vscode-proxy", "0");
    let open = || Window::through_proxy(proxy, port);

    let first = open().say(b"who is there");
    let mut windows: Vec<_> = (0..MANY).map(|_| open()).collect();
    let body = random_bytes(100_000);
    for (number, window) in (1..).zip(&mut windows) {
        let answer = window.say(&body);
        assert_eq!(answer, Answer { pid: first.pid, frames: first.frames + number });
    }
    // A reload of the window: every connection is new, and ssh stays.
    drop(windows);
    window(open, b"again", Answer { pid: first.pid, frames: first.frames + MANY + 1 });
    ssh.expect_stdout("end\n ");
    assert!(ssh.is_running(), "the connection goes on");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_cut_connection_finds_its_server_again() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let proxy = free_port();
    let dynamic = ["-D", &proxy.to_string()];
    let open = |port| move || Window::through_proxy(proxy, port);
    let (ssh, port, killed) = open_and_stay(&alice, &dynamic, "vscode-cut", "0");
    let first = open(port)().say(b"first");
    drop(ssh);

    // The next one is cut off without either side being told.
    let cable = Cable::to(devhost.address());
    let plugged = Login { port: cable.port(), ..alice.clone() };
    let alias = format!("HostKeyAlias=[127.0.0.1]:{}", alice.port);
    let pings = ["-o", &alias, "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"];
    let (mut ssh, same_port, unplugged) =
        open_and_stay(&plugged, &[&dynamic[..], &pings].concat(), "vscode-cut", "0");
    assert_eq!(same_port, port, "the same server");
    let mut idle = window(open(port), b"second", next(first));
    cable.pull();
    idle.0.write_all(&[0]).unwrap();
    // ssh notices by itself.
    ssh.finish_within(SOON).code(255);

    let (_ssh, same_port, _) = open_and_stay(&alice, &dynamic, "vscode-cut", "0");
    assert_eq!(same_port, port, "the same server");
    window(open(port), b"third", next(next(first)));
    // What kept the cut connections up goes with them, the second one's when its end is seen.
    until_gone(&alice, &killed);
    drop(cable);
    until_gone(&alice, &unplugged);
}

#[track_caller]
fn until_gone(login: &Login, pid: &str) {
    until(&format!("end of process {pid}"), SOON, || {
        let asked = login.ssh(&format!("ps -o args= -p {pid}")).finish();
        if asked.succeeded() { Err(asked.text()) } else { Ok(()) }
    });
}

/// A script that ends, then a second connection for the tunnel, to a port or to a socket in `/run/user/UID`.
#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn vs_code_through_a_tunnel_of_its_own() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    for (name, listen, to_socket) in [
        ("exec-port", "0", false),
        ("exec-socket", "TMP/vscode-ssh-remote-server-sock", false),
        ("exec-sockets", "TMP/vscode-ssh-exec-server-sock", true),
    ] {
        let id = "85c27ff0a2d1";
        let install = alice.ssh_with(["-T", "-o", "ClearAllForwardings=true"], "bash");
        let said = install.input(script(id, name, listen)).ok().stderr_is("").text() + "\n";
        let listening = started(id, &said).listening;
        let remote = if listen == "0" { format!("127.0.0.1:{listening}") } else { listening };

        let (socket, port) = (devhost.directory().join(name), free_port());
        let open = || {
            if !to_socket {
                return Window::of(connect(port));
            }
            let socket = || UnixStream::connect(&socket).map_err(|fault| fault.to_string());
            Window::of_unix(until("the tunnel", SOON, socket))
        };
        let local = if to_socket { socket.display().to_string() } else { format!("127.0.0.1:{port}") };
        let tunnel = || {
            fs::remove_file(&socket).ok();
            let mut ssh = alice.ssh_with(["-T", "-L", &format!("{local}:{remote}")], "bash").start();
            ssh.write(&format!("echo connected\n{STAY}"));
            ssh.expect_stdout("connected\n");
            ssh
        };
        let ssh = tunnel();
        let mut windows: Vec<_> = (0..10).map(|_| open()).collect();
        let body = random_bytes(1_000_000);
        let answers: Vec<_> = windows.iter_mut().map(|window| window.say(&body)).collect();
        drop(windows);
        let second = next(answers[9]);
        assert_eq!(second.frames, 11, "{name}: {answers:?}");
        window(open, b"reloaded", second);
        drop(ssh);
        let _ssh = tunnel();
        window(open, b"connected again", next(second));
    }
}

// --- JetBrains ------------------------------------------------------------------------------------------

/// Each word as one, whatever is in it.
fn escaped(command: &str) -> String {
    command
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\{c}") })
        .collect()
}

/// The worker is a static program, as theirs.
#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn jetbrains_probes_uploads_and_runs() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let system = format!("Linux {}\n", std::env::consts::ARCH);
    alice.ssh("uname -sm").ok().stdout_is(&system).took_at_most(SYSTEM_PROBE);
    let probe = format!("/bin/bash -lc {}", escaped("echo MARKER && uname -sm && echo $SHELL $HOME"));
    alice.ssh(&probe).ok().stdout_is(format!("MARKER\n{system}/bin/bash /home/alice\n")).stderr_is("");
    alice.ssh(&format!("/bin/sh -c {}", escaped("printenv XDG_RUNTIME_DIR"))).ok().stdout_has("/run/user/");

    let directory = ".cache/JetBrains/RemoteDev/remote-dev-worker";
    let (upload, worker) = (format!("{directory}/worker.36861.tmp"), format!("{directory}/busybox-worker"));
    alice.ssh(&format!("mkdir -p {directory}")).ok();
    alice.sftp(&format!("put /bin/busybox {upload}\nchmod 755 {upload}\nrename {upload} {worker}\n")).ok();
    let sum = Run::new("sha256sum").arg("/bin/busybox").ok().text();
    let sum = sum.split(' ').next().unwrap();
    alice.ssh(&format!("{worker} sha256sum {worker}")).ok().stdout_has(sum);

    let short = |number: i32| alice.ssh(&format!("{worker} echo {number}; exit {number}"));
    for number in 1..=25 {
        short(number).finish().code(number).stdout_is(format!("{number}\n")).stderr_is("");
    }
    let at_once: Vec<_> = (1..=25).map(|number| (number, short(number).start())).collect();
    for (number, mut one) in at_once {
        one.finish_within(FIRST_ANSWER).code(number).stdout_is(format!("{number}\n")).stderr_is("");
    }
}

/// The backend's port comes here, and a port of here goes there, over a connection that runs nothing.
#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn jetbrains_forwards_without_a_session() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let id = "36861";
    let said = alice.ssh("bash -s").input(script(id, "backend", "0")).ok().text() + "\n";
    let backend = started(id, &said).listening;
    let (port, here) = (free_port(), serve_http(b"from the laptop"));
    let there = "9217";
    let (forward, back) =
        (format!("127.0.0.1:{port}:127.0.0.1:{backend}"), format!("127.0.0.1:{there}:127.0.0.1:{here}"));
    let options = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", &forward, "-R", &back];
    let _forwards = alice.ssh_only(options).start();
    let first = Window::of(connect(port)).say(b"backend");
    window(|| Window::of(connect(port)), &random_bytes(5_000_000), next(first));
    let fetch = format!("curl -sS http://127.0.0.1:{there}/");
    alice.ssh(&fetch).ok().stdout_is("from the laptop");
}

// --- Zed ------------------------------------------------------------------------------------------------

/// The one connection that carries all others.
struct Master {
    ssh: Running,
    /// What the others know: the way through this one, and no key.
    config: PathBuf,
    socket: String,
}

impl Master {
    /// Zed takes the end of ssh's standard output for the sign that the login is through.
    #[track_caller]
    fn open(login: &Login, place: &Path) -> Self {
        let socket = format!("ControlPath={}", place.with_extension("sock").display());
        let line = login.line(&["-N", "-o", "ControlPersist=no", "-o", "ControlMaster=yes", "-o", &socket]);
        let line = format!("exec 3< <(exec {line}); cat <&3; echo connected; wait $!");
        let mut ssh = Run::shell(&line).within(FIRST_ANSWER).start();
        assert_eq!(ssh.expect_stdout("connected\n"), "connected\n", "nothing else on standard output");
        let config = place.with_extension("config");
        let keyless = Login { key: "/dev/null".into(), ..login.clone() };
        fs::write(&config, keyless.config_block("zed")).unwrap();
        Self { ssh, config, socket }
    }

    fn client(&self, program: &str, options: &[&str]) -> Run {
        let through = ["-o", "ControlMaster=no", "-o", &self.socket];
        Run::new(program).arg("-F").arg(&self.config).args(through).args(options).arg("zed")
    }

    fn run(&self, command: &str) -> Run {
        self.client("ssh", &["-T"]).arg(command)
    }

    /// The proxy's standard input and output, as a window.
    fn proxy(&self, reconnect: &str) -> (Running, Window) {
        let command = format!("env RUST_LOG='info' .zed_server/server proxy workspace-7 {reconnect}");
        let (proxy, stream) = self.run(&command).converse();
        (proxy, Window::of_unix(stream))
    }
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn zed_over_one_connection() {
    let devhost = Devhost::shared();
    let (alice, place) = (devhost.login("alice"), devhost.directory().join("zed"));
    let mut master = Master::open(&alice, &place);
    master.run("uname -sm").ok().stdout_is(format!("Linux {}\n", std::env::consts::ARCH));
    master.run("sh -c 'echo $SHELL'").ok().stdout_is("/bin/bash\n");
    master.run(".zed_server/server version").finish().code(127).stdout_is("");
    upload(&master, &place);

    let (_proxy, mut workspace) = master.proxy("");
    let first = workspace.say(b"hello");
    assert_eq!(first.frames, 1);
    assert_eq!(workspace.say(&random_bytes(3_000_000)).frames, 2, "bytes of every value, both ways");

    let mut other = master.run("exec .zed_server/server serve 0").start();
    let port = other.expect_stdout("\n").trim().rsplit(' ').next().unwrap().to_owned();
    let (ordered, asked) = (free_port(), free_port());
    let forward = |here: u16| format!("{here}:127.0.0.1:{port}");
    master.client("ssh", &["-O", "forward", "-L", &forward(ordered)]).ok();
    let _asked = master.client("ssh", &["-N", "-L", &forward(asked)]).start();
    Window::of(connect(ordered)).say(b"by an order to the master");
    Window::of(connect(asked)).say(b"by a client of the master");

    assert!(master.ssh.is_running(), "one connection all the while");
    drop(master);
    let gone = until("end of the proxy", SOON, || match workspace.0.read(&mut [0]) {
        Ok(0) => Ok(true),
        other => Err(format!("{other:?}")),
    });
    assert!(gone);
    let master = Master::open(&alice, &place.with_file_name("zed-again"));
    let (_proxy, mut workspace) = master.proxy("--reconnect");
    assert_eq!(workspace.say(b"still there"), Answer { pid: first.pid, frames: 3 });
    let none = master.run(".zed_server/server proxy workspace-8 --reconnect").finish();
    none.code(1).stdout_is("").stderr_is("the server is gone\n");
}

/// Packed, by sftp over the master, then unpacked where it belongs.
#[track_caller]
fn upload(master: &Master, place: &Path) {
    let packed = place.with_extension("gz");
    fs::write(&packed, Run::new("gzip").input(SERVER).ok().stdout).unwrap();
    let there = ".zed_server/server-download-36861";
    master.run("mkdir -p .zed_server").ok();
    master.client("sftp", &["-b", "-"]).input(format!("put {} {there}.gz\n", packed.display())).ok();
    let unpack = format!("gunzip -f {there}.gz && chmod 755 {there} && mv {there} .zed_server/server");
    master.run(&format!("sh -c '{unpack}'")).ok().stdout_is("").stderr_is("");
}

// --- the first connection of all ------------------------------------------------------------------------

/// What an IDE starts with, its patience, and how its standard output is judged.
type Opening = (&'static str, Duration, fn(&Login) -> Run, fn(&Finished));

const ID: &str = "5ec4cfce9118";

fn is_script_result(finished: &Finished) {
    started(ID, &(finished.text() + "\n"));
}

fn is_system(finished: &Finished) {
    assert_eq!(finished.text(), format!("Linux {}", std::env::consts::ARCH), "{finished}");
}

const OPENINGS: [Opening; 5] = [
    (
        "vscode",
        FIRST_ANSWER,
        |login| {
            let proxy = free_port().to_string();
            let options = ["-T", "-D", &proxy, "-o", "ConnectTimeout=15", "-o", "LogLevel=INFO"];
            login.ssh_with(options, "bash").input(script(ID, "vscode", "0"))
        },
        is_script_result,
    ),
    (
        "exec",
        FIRST_ANSWER,
        |login| {
            let options = ["-T", "-o", "ClearAllForwardings=true", "-o", "LogLevel=INFO"];
            login.ssh_with(options, "bash").input(script(ID, "exec", "TMP/first.sock"))
        },
        is_script_result,
    ),
    (
        // open-remote-ssh gives bash its script as one word.
        "codium",
        FIRST_ANSWER,
        |login| {
            let script = script(ID, "codium", "0").replace('\'', r"'\''");
            login.ssh_with(["-o", "LogLevel=INFO"], &format!("bash -c '{script}'"))
        },
        is_script_result,
    ),
    ("jetbrains", SYSTEM_PROBE, |login| login.ssh_with(["-o", "LogLevel=INFO"], "uname -sm"), is_system),
    (
        "zed",
        FIRST_ANSWER,
        |login| {
            let socket = login.known_hosts.with_file_name("zed-first.sock");
            let socket = format!("ControlPath={}", socket.display());
            let options = ["-N", "-o", "ControlPersist=no", "-o", "ControlMaster=yes", "-o", &socket];
            let (master, client) = (login.line(&options), login.line(&["-T", "-o", &socket]));
            let wait = "cat <&3";
            Run::shell(&format!("exec 3< <(exec {master}); {wait}; {client} uname -sm; kill $!"))
        },
        is_system,
    ),
];

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn the_first_connection_makes_the_box_in_time() {
    let users = OPENINGS.map(|(user, ..)| user);
    let devhost = Setup::of(&users).start();
    for (user, patience, opening, judge) in OPENINGS {
        let first = opening(&devhost.login(user)).ok().took_at_most(patience);
        judge(&first);
        eprintln!("{user}: first answer complete after {:.1} s", first.took.as_secs_f64());
        let container = devhost.container(user);
        assert!(devhost.objects().containers.contains(&container), "{user} got a box by that");
    }
}
