//! `JetBrains`: asks which system it is, brings a worker by sftp and runs it, many short commands, forwards.

use boxgate_tests::local::{free_port, random_bytes, serve_http};
use boxgate_tests::{Devhost, Run};

use super::{FIRST_ANSWER, SYSTEM_PROBE, Window, connect, next, script, started, window};

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
