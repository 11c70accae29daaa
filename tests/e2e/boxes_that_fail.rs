//! When there is no box to be had, the person is told why and what to do, in one message that fits what
//! OpenSSH prints, and both programs go on.

use std::time::Duration;

use boxgate_tests::docker::{Objects, image_that_runs};
use boxgate_tests::{Devhost, Finished, Setup};

/// OpenSSH prints no more of a disconnect message than this.
const PRINTED: usize = 400;

/// The message must say all of this, and its end must have arrived.
#[track_caller]
fn assert_told(devhost: &Devhost, attempt: Finished, words: &[&str]) -> Finished {
    let mut told = attempt.code(255).stdout_is("").stderr_has("Received disconnect from 127.0.0.1");
    for word in words {
        told = told.stderr_has(word);
    }
    let errors = told.errors();
    let message = errors.split(":11: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
    assert!(message.len() < PRINTED, "a message of {} bytes is cut off:\n{told}", message.len());
    assert!(devhost.gateway.is_running(), "the gateway ended after\n{told}");
    devhost.gateway.expect_line(&["no box", words[0]]);
    told
}

#[track_caller]
fn login_fails(devhost: &Devhost, words: &[&str]) -> Finished {
    let told = assert_told(devhost, devhost.login("alice").ssh("true").finish(), words);
    assert!(devhost.provisioner.is_running(), "the provisioner ended after\n{told}");
    devhost.provisioner.expect_line(&["WARN", words[0]]);
    told
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn docker_that_cannot_be_reached() {
    let devhost =
        Setup::of(&["alice"]).set("provisioner.docker_socket", "\"/nonexistent/docker.sock\"").start();
    login_fails(&devhost, &["docker: cannot be reached", "ask your operator whether Docker runs"]);
    login_fails(&devhost, &["docker: cannot be reached"]);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_missing_image() {
    let devhost = Setup::of(&["alice"]).set("box.image", "\"boxgate/no-such-image:latest\"").start();
    login_fails(
        &devhost,
        &["box alice: the image boxgate/no-such-image:latest is not on this host", "./devhost up"],
    );
    assert_eq!(devhost.objects(), Objects::default());
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_box_that_does_not_boot_in_time() {
    let setup = Setup::of(&["alice"]).set("box.boot_timeout", "\"3s\"");
    let image = image_that_runs("#!/bin/sh\nexec /bin/busybox sleep 1000\n", &setup.instance(), "sleeps");
    let devhost = setup.set("box.image", &format!("{image:?}")).start();
    let told = login_fails(&devhost, &["box alice: its sshd did not answer within 3s", "log in again"]);
    assert!(told.took >= Duration::from_secs(3), "it was given its time:\n{told}");
    told.took_at_most(Duration::from_secs(8));
    assert_eq!(devhost.objects().containers.len(), 1, "it stays for an operator to look at");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_box_that_ends_while_it_boots() {
    let setup = Setup::of(&["alice"]);
    let script = "#!/bin/sh\necho 'no luck \x1b[31mtoday'\nexit 7\n";
    let image = image_that_runs(script, &setup.instance(), "ends");
    let devhost = setup.set("box.image", &format!("{image:?}")).start();
    let told =
        login_fails(&devhost, &["ended while it was booting, with exit code 7", "no luck", "log in again"]);
    told.stderr_lacks("\x1b").took_at_most(Duration::from_secs(10));
    login_fails(&devhost, &["ended while it was booting, with exit code 7"]);
    assert_eq!(devhost.objects().containers.len(), 1);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_provisioner_that_does_not_run() {
    let devhost = Setup::of(&["alice"]).start_without_provisioner();
    let attempt = || devhost.login("alice").ssh("true").finish();
    assert_told(
        &devhost,
        attempt(),
        &["provisioner", "the service that makes boxes is not running", "boxgate-provisioner"],
    );
    devhost.start_provisioner();
    devhost.login("alice").ssh("echo in").ok().stdout_is("in\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_provisioner_that_knows_another_gateway() {
    let setup = Setup::of(&["alice"]).set("provisioner.gateway_user", "\"daemon\"");
    let devhost = setup.start();
    let attempt = devhost.login("alice").ssh("true").finish();
    assert_told(
        &devhost,
        attempt,
        &["provisioner", "the gateway may not ask for boxes", "provisioner.gateway_user"],
    );
    assert_eq!(devhost.objects(), Objects::default());
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn without_isolation_there_is_no_second_user_unless_the_operator_says_so() {
    let setup = Setup::of(&["alice", "bob"]).set("box.i_understand_boxes_are_root_on_this_host", "false");
    let devhost = setup.start();
    devhost.login("alice").ssh("whoami").ok().stdout_is("alice\n");
    let refused = devhost.login("bob").ssh("whoami").finish();
    let words = [
        "runc does not isolate boxes, and alice has a box",
        "i_understand_boxes_are_root_on_this_host = true",
    ];
    assert_told(&devhost, refused, &words);
    devhost.login("alice").ssh("whoami").ok().stdout_is("alice\n");
    assert_eq!(devhost.objects().containers, [devhost.container("alice")]);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_name_that_something_else_has() {
    let devhost = Devhost::start(&["alice"]);
    let volume = format!("{}.home", devhost.container("alice"));
    boxgate_tests::docker::docker([
        "volume",
        "create",
        "--label",
        &format!("io.boxgate.instance={}", devhost.instance()),
        &volume,
    ]);
    login_fails(&devhost, &[&format!("the volume {volume} is something else's"), "rename or remove"]);
    assert_eq!(devhost.objects().containers, [""; 0]);
}
