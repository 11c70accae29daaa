//! Zed: everything goes over one connection.

use std::fs;
use std::path::{Path, PathBuf};

use boxgate_tests::local::{free_port, random_bytes};
use boxgate_tests::{Devhost, Login, Run, Running, until};

use super::{Answer, FIRST_ANSWER, SERVER, SOON, Window, connect};

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
