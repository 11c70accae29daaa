//! VS Code's Remote - SSH, which Cursor has too: through a SOCKS proxy of the connection that started the server, or
//! through a second connection.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;

use boxgate_tests::cable::Cable;
use boxgate_tests::local::{free_port, random_bytes};
use boxgate_tests::{Devhost, Login, Running, until};

use super::{Answer, SOON, Window, connect, next, script, started, window};

const STAY: &str = include_str!("../../ides/stay.sh");
/// A window of VS Code has about ten connections; this is many windows.
const MANY: u32 = 60;

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
