//! The engine is restarted under everybody's feet. All boxes on this machine end with it, so this story has the machine
//! to itself: `./devhost test` runs it after all others.

use std::time::Duration;

use boxgate_tests::docker::inspect;
use boxgate_tests::{Run, Setup};

#[test]
#[ignore = "needs the machine to itself: ./devhost test runs it last"]
fn after_a_restart_of_the_engine_everybody_finds_her_box() {
    let devhost = Setup::of(&["alice", "bob"]).start();
    let (alice, bob) = (devhost.login("alice"), devhost.login("bob"));
    for who in [&alice, &bob] {
        who.ssh("echo mark >marked; sudo sh -c 'echo mark >/var/lib/docker/marked'").ok();
    }
    let before = devhost.objects();
    let id = inspect(&devhost.container("alice"))["Id"].clone();
    let mut live = alice.ssh("echo in; cat").start();
    live.expect_stdout("in\n");

    let restart =
        std::env::var("BOXGATE_RESTART_ENGINE").expect("./devhost test says how to restart the engine");
    Run::shell(&restart).within(Duration::from_secs(90)).ok();
    live.finish_within(Duration::from_secs(30)).code(255);

    for who in [&alice, &bob] {
        who.ssh("cat marked; sudo cat /var/lib/docker/marked").ok().stdout_is("mark\nmark\n");
    }
    assert_eq!(devhost.objects(), before);
    assert_eq!(inspect(&devhost.container("alice"))["Id"], id, "the same container, started again");
    // The rules are there again, too.
    let network =
        &inspect(&devhost.container("bob"))["NetworkSettings"]["Networks"][devhost.container("bob")];
    let address = network["IPAddress"].as_str().unwrap();
    assert!(address.starts_with(&devhost.network_prefix()), "{address}");
    alice.ssh(&format!("timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/22'")).finish().failed();
    bob.ssh(&format!("timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/22 && head -c 4 <&3'"))
        .ok()
        .stdout_is("SSH-");
}
