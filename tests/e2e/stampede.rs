//! Everyone at once, before there is a box.

use std::time::Duration;

use boxgate_tests::{Devhost, docker};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn fifty_simultaneous_first_logins_make_one_box_and_all_get_in() {
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
