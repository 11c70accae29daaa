//! Many at once: sessions of one connection, and connections of one user.

use std::time::Duration;

use boxgate_tests::{Devhost, Run, Running, until_succeeds};

const LIMIT: Duration = Duration::from_secs(20);

/// Each of these must print what its number says, and exit with it.
#[track_caller]
fn assert_each_its_own(many: impl Iterator<Item = Running>) {
    for (number, mut one) in (1..).zip(many.collect::<Vec<_>>()) {
        one.finish_within(LIMIT).code(number).stdout_is(format!("{number}\n")).stderr_is("");
    }
}

fn say(number: i32) -> String {
    format!("sleep 0.5; echo {number}; exit {number}")
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn sessions_share_one_connection() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let socket = format!("ControlPath={}", devhost.directory().join("mux").display());
    let master = ["-o", &socket, "-o", "ControlMaster=yes", "-N"];
    let mut master = alice.ssh_only(master).start();
    until_succeeds("the master", LIMIT, || alice.ssh_only(["-o", &socket, "-O", "check"]));
    assert_each_its_own((1..=12).map(|number| alice.ssh_with(["-o", &socket], &say(number)).start()));
    assert!(master.is_running(), "the master goes on when its sessions end");
    alice.ssh_only(["-o", &socket, "-O", "exit"]).ok();
    master.finish_within(LIMIT);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn ten_connections_at_once() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    assert_each_its_own((1..=10).map(|number| alice.ssh(&say(number)).start()));
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn keepalives_are_answered() {
    let devhost = Devhost::shared();
    let often = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1"];
    devhost.login("alice").ssh_with(often, "sleep 4; echo alive").ok().stdout_is("alive\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_stalled_reader_holds_up_no_other_session() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let socket = format!("ControlPath={}", devhost.directory().join("stalled").display());
    let reuse = ["-o", &socket, "-o", "ControlMaster=auto"];
    let line = format!("yes | {} cat | sleep 8", alice.line(&reuse));
    let _stalled = Run::shell(&line).start();
    until_succeeds("the stalled session", LIMIT, || alice.ssh_only(["-o", &socket, "-O", "check"]));
    alice
        .ssh_with(["-o", &socket], "seq 100000 | tail -n 1")
        .ok()
        .stdout_is("100000\n")
        .took_at_most(Duration::from_secs(3));
}
