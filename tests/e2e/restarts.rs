//! Whatever is killed, the next login finds the same box: home, Docker's images, host keys.

use std::time::Duration;

use boxgate_tests::docker::{busybox_root, docker, inspect};
use boxgate_tests::{Devhost, Login, Setup, Stopwatch, until};
use nix::sys::signal::Signal;

const TOLD: [&str; 2] = ["-o", "LogLevel=INFO"];

/// Leaves marks in what must outlive everything: the home and Docker's images.
#[track_caller]
fn leave_marks(alice: &Login) {
    alice.ssh("echo mark >marked").ok();
    alice.ssh("docker import - marked").input(busybox_root(None)).ok();
}

#[track_caller]
fn assert_marks(alice: &Login) {
    alice.ssh("cat marked").ok().stdout_is("mark\n");
    alice.ssh("docker image ls -q marked | wc -l").ok().stdout_is("1\n");
    alice.ssh("docker run --rm marked /bin/busybox echo runs").ok().stdout_is("runs\n");
}

fn container_id(devhost: &Devhost) -> String {
    inspect(&devhost.container("alice"))["Id"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_killed_gateway_comes_back_with_its_host_keys_and_the_same_box() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    alice.ssh("echo mark >marked").ok();
    let made = (devhost.objects(), container_id(&devhost));
    let mut cut = alice.ssh("echo in; cat").start();
    cut.expect_stdout("in\n");

    devhost.gateway.kill();
    cut.finish_within(Duration::from_secs(10)).code(255);
    devhost.start_gateway();
    // The host keys of before are the only ones that this login believes.
    alice.ssh_with(TOLD, "cat marked").ok().stdout_is("mark\n").stderr_lacks("making").stderr_lacks("waking");
    assert_eq!((devhost.objects(), container_id(&devhost)), made);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_killed_provisioner_cuts_nobody_off_and_finds_the_boxes_again() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    let mut live = alice.ssh("cat").start();
    live.write("before\n");
    live.expect_stdout("before\n");
    let made = (devhost.objects(), container_id(&devhost));

    devhost.provisioner.kill();
    live.write("while it is dead\n");
    live.expect_stdout("while it is dead\n");
    let told = alice.ssh("true").finish().code(255).stderr_has("the service that makes boxes is not running");
    told.stderr_has("tell your operator");

    devhost.start_provisioner();
    alice.ssh("hostname").ok().stdout_is("alice\n");
    live.write("after\n");
    live.expect_stdout("after\n");
    live.finish_within(Duration::from_secs(10)).code(0);
    assert_eq!((devhost.objects(), container_id(&devhost)), made);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_provisioner_killed_while_it_makes_a_box_goes_on_where_it_was() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    let mut first = alice.ssh_with(TOLD, "true").start();
    first.expect_stderr("boxgate: making your box");
    devhost.provisioner.kill();
    first.finish_within(Duration::from_secs(10)).code(255).stderr_has("not running");
    devhost.start_provisioner();
    alice.ssh("hostname").ok().stdout_is("alice\n");
    let made = devhost.objects();
    assert_eq!((made.containers.len(), made.volumes.len(), made.networks.len()), (1, 2, 1), "of {made:?}");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_box_that_was_stopped_or_removed_comes_back_with_its_home_and_images() {
    let devhost = Devhost::start(&["alice"]);
    let (alice, container) = (devhost.login("alice"), devhost.container("alice"));
    leave_marks(&alice);
    let (first_id, host_key) =
        (container_id(&devhost), alice.ssh("cat /etc/boxgate/ssh_host_ed25519_key.pub").ok());

    docker(["stop", &container]);
    alice.ssh_with(TOLD, "cat marked").ok().stdout_is("mark\n").stderr_has("boxgate: waking your box");
    assert_eq!(container_id(&devhost), first_id);

    docker(["kill", &container]);
    assert_marks(&alice);

    docker(["rm", "--force", &container]);
    alice.ssh_with(TOLD, "true").ok().stderr_has("boxgate: making your box anew, with your home as it was");
    assert_ne!(container_id(&devhost), first_id);
    assert_marks(&alice);
    alice.ssh("cat /etc/boxgate/ssh_host_ed25519_key.pub").ok().stdout_is(host_key.stdout);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_box_with_another_host_key_is_refused() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    alice.ssh("true").ok();
    // In the box an impostor takes the place of its sshd: same address, another key.
    let impostor = "sudo ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/impostor && sudo sh -c 'grep -v ^HostKey \
                    /etc/ssh/sshd_config.d/10-boxgate.conf >/tmp/c; echo HostKey /etc/ssh/impostor >>/tmp/c; \
                    cp /tmp/c /etc/ssh/sshd_config.d/10-boxgate.conf' && sudo systemctl restart ssh";
    alice.ssh(impostor).ok();
    alice.ssh("true").finish().code(255).stdout_is("").stderr_has("another host key");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn programs_that_are_asked_to_end_say_so_to_their_clients() {
    let devhost = Devhost::start(&["alice"]);
    let mut live = devhost.login("alice").ssh("echo in; cat").start();
    live.expect_stdout("in\n");
    devhost.gateway.interrupt();
    live.finish_within(Duration::from_secs(10)).code(255).stderr_has("the gateway is being restarted");
    devhost.provisioner.terminate();
    assert_eq!(devhost.objects().containers, [devhost.container("alice")], "the box stays");
}

/// The provisioner hears of her from the worker that drains, so that her box does not idle.
#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn connections_live_through_a_renewal_and_a_restart_and_keep_their_box_in_use() {
    const IDLE: Duration = Duration::from_secs(5);
    let devhost = Setup::of(&["alice"]).set("box.idle_stop", "\"5s\"").start();
    let alice = devhost.login("alice");
    let mut live = alice.ssh("cat").start();
    live.write("before\n");
    live.expect_stdout("before\n");
    let first = devhost.gateway.worker();

    devhost.gateway.signal(Signal::SIGHUP);
    devhost.gateway.expect_line(&["a new worker serves", &format!("before={first}")]);
    alice.ssh("hostname").ok().stdout_is("alice\n");
    devhost.gateway.terminate();
    devhost.start_gateway();
    alice.ssh("hostname").ok().stdout_is("alice\n");

    // A box that idles is stopped, which would cut her off.
    let watch = Stopwatch::start();
    while watch.elapsed() < 3 * IDLE {
        let words = format!("after {watch}\n");
        live.write(&words);
        live.expect_stdout(&words);
        std::thread::sleep(Duration::from_millis(500));
    }
    live.finish_within(Duration::from_secs(10)).code(0);
    until("end of the workers that drained", Duration::from_secs(10), || {
        let left = devhost.gateway.processes();
        if left.len() == 2 { Ok(()) } else { Err(format!("{left:?}, and not a supervisor and its worker")) }
    });
}
