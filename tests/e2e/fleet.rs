//! Several boxes for one person, boxes that idle, boxes that are one too many.

use std::time::Duration;

use boxgate_tests::docker::inspect;
use boxgate_tests::{Devhost, Login, Setup, until};

const TOLD: [&str; 2] = ["-o", "LogLevel=INFO"];
/// Longer than a box takes to be found idle, told to stop, and to end.
const PATIENCE: Duration = Duration::from_secs(40);

fn web(devhost: &Devhost) -> Login {
    devhost.login_with_key_of("alice+web", "alice")
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_further_box_is_a_machine_of_its_own() {
    let devhost = Setup::of(&["alice", "bob"]).set("box.max_boxes", "2").start();
    let (alice, web) = (devhost.login("alice"), web(&devhost));
    alice.ssh("echo mine >here; hostname").ok().stdout_is("alice\n");
    web.ssh("hostname; whoami; ls -A | grep here").finish().code(1).stdout_is("web\nalice\n");
    assert_eq!(devhost.objects().containers.len(), 2);

    let third = devhost.login_with_key_of("alice+db", "alice").ssh("true").finish();
    third.code(255).stderr_has("alice+db").stderr_has("2 other boxes").stderr_has("rm NAME");
    devhost.login_with_key_of("alice+web", "bob").ssh("true").finish().code(255);
    devhost.login("bob").ssh("hostname").ok().stdout_is("bob\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_spare_box_is_whoevers_comes_first() {
    let devhost = Setup::of(&["alice"]).set("provisioner.spare_boxes", "1").start();
    let ready = || match devhost.boxgate(&["ls", "--quick"]).ok().text() {
        listed if listed.contains("ready") => Ok(()),
        listed => Err(listed),
    };
    until("a spare box", PATIENCE, ready);
    let id = |name: &str| inspect(&devhost.container(name))["Id"].clone();
    let spare = id("box.s1");
    let alice = devhost.login("alice");
    let first = alice.ssh_with(TOLD, "hostname; whoami; sudo id -un; echo $HOME; docker ps -q | wc -l").ok();
    first.stdout_is("alice\nalice\nroot\n/home/alice\n0\n").stderr_has("your box is ready");
    assert_eq!(id("alice"), spare);
    devhost.login_with_key_of("box+s2", "alice").ssh("true").finish().code(255);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn further_boxes_may_be_for_those_who_ask_only() {
    let devhost = Setup::of(&["alice"]).set("box.new_on_login", "false").start();
    let slip = devhost.login_with_key_of("alice+wbe", "alice").ssh("true").finish();
    slip.code(255).stderr_has("there is no such box").stderr_has("ssh box@HOST new wbe");
    assert_eq!(devhost.objects().containers.len(), 0);
    devhost.login("alice").ssh("hostname").ok().stdout_is("alice\n");
}

/// What a client sends on its own, and what a box says, is nobody's use of it.
#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_box_in_which_nobody_does_anything_stops_and_wakes() {
    let devhost = Setup::of(&["alice"]).set("box.idle_stop", "\"5s\"").start();
    let (alice, web) = (devhost.login("alice"), web(&devhost));
    let mut typing = web.ssh("cat").start();
    typing.write("0\n");
    typing.expect_stdout("0\n");
    let talking = "echo up; while :; do date; sleep 0.2; done";
    let mut forgotten = alice.ssh_with(["-o", "ServerAliveInterval=1"], talking).start();
    forgotten.expect_stdout("up\n");

    for n in 1..200 {
        typing.write(&format!("{n}\n"));
        typing.expect_stdout(&format!("{n}\n"));
        if inspect(&devhost.container("alice"))["State"]["Running"] == false {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    forgotten.finish_within(PATIENCE).code(255);
    typing.write("still here\n");
    typing.expect_stdout("still here\n");
    alice.ssh_with(TOLD, "hostname").ok().stdout_is("alice\n").stderr_has("boxgate: waking your box");
    typing.finish_within(PATIENCE).code(0);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn whoever_logs_in_while_her_box_stops_gets_in() {
    let devhost = Setup::of(&["alice"]).set("box.idle_stop", "\"5s\"").start();
    let alice = devhost.login("alice");
    // A login a moment after, in the middle of, and long after the stop.
    for pause in [4800, 5000, 5200, 5500, 5800, 6200, 7000] {
        alice.ssh("true").ok();
        std::thread::sleep(Duration::from_millis(pause));
    }
    alice.ssh("hostname").ok().stdout_is("alice\n");
}
