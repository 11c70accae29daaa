//! Everyone at once, before there is a box.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use boxgate_tests::{Devhost, Setup, docker};

const LIMIT: Duration = Duration::from_secs(60);
/// Held by crowds: each is to find what it does to Boxgate, not what another one does to the machine.
static CROWD: Mutex<()> = Mutex::new(());
/// For sixteen boxes, eight of which boot at a time, on two cores that run other stories too.
const CROWD_LIMIT: Duration = Duration::from_secs(180);

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn fifty_simultaneous_first_logins_make_one_box_and_all_get_in() {
    let _alone = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    let logins: Vec<_> =
        (0..50).map(|number| alice.ssh(&format!("echo {number} $(hostname)")).start()).collect();
    for (number, mut login) in logins.into_iter().enumerate() {
        login.finish_within(LIMIT).code(0).stdout_is(format!("{number} alice\n")).stderr_is("");
    }
    let made = devhost.objects();
    assert_eq!(made.containers, [devhost.container("alice")]);
    assert_eq!((made.volumes.len(), made.networks.len()), (2, 1), "of {made:?}");
    assert_eq!(docker::inspect(&devhost.container("alice"))["RestartCount"], 0);
    let log = devhost.provisioner.log();
    assert_eq!(log.matches("create container: done").count(), 1, "containers made:\n{log}");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn whoever_leaves_while_the_box_is_made_leaves_it_to_the_next() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    let mut gone = alice.ssh_with(["-o", "LogLevel=INFO"], "true").start();
    gone.expect_stderr("boxgate: making your box");
    drop(gone);
    alice.ssh("hostname").ok().stdout_is("alice\n");
    assert_eq!(devhost.objects().containers, [devhost.container("alice")]);
}

/// Sixteen networks are there for twenty people: all logins of sixteen of them succeed, whichever these are, and all of
/// the others are told why not.
#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_hundred_first_logins_of_twenty_people_get_in_or_are_told_the_limit() {
    let _alone = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let names: Vec<_> = (0..20).map(|number| format!("user{number}")).collect();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    let devhost = Setup::of(&users).set("box.memory", "\"512MiB\"").start();
    let logins: Vec<_> = (0..100).map(|login| users[login % 20]).collect();
    let running: Vec<_> = logins
        .iter()
        .map(|user| devhost.login(user).ssh_with(["-o", "LogLevel=INFO"], "hostname").start())
        .collect();
    let mut let_in = BTreeMap::<&str, usize>::new();
    for (user, mut login) in logins.into_iter().zip(running) {
        let finished = login.finish_within(CROWD_LIMIT);
        if finished.succeeded() {
            finished.stdout_is(format!("{user}\n"));
            *let_in.entry(user).or_default() += 1;
        } else {
            finished.code(255).stdout_is("").stderr_has("all 16 networks of").stderr_has("network_pool");
        }
    }
    assert!(
        let_in.values().all(|logins| *logins == 5),
        "one of a person's logins got in and another did not: {let_in:?}"
    );
    let made = devhost.objects();
    assert_eq!((let_in.len(), made.containers.len(), made.networks.len()), (16, 16, 16), "of {made:?}");
    assert_eq!(made.volumes.len(), 32, "of {made:?}");
}
