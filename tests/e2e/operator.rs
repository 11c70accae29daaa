//! What an operator does with `boxgate`, to boxes that people use.

use std::time::Duration;

use boxgate_tests::docker::{Objects, docker};
use boxgate_tests::{Devhost, Finished, Setup, until};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(60);

/// The only box's field of `boxgate ls`.
#[track_caller]
fn field(devhost: &Devhost, at: usize) -> String {
    let listed = devhost.boxgate(&["ls", "--quick"]).ok().text();
    listed.split('\t').nth(at).unwrap().to_owned()
}

#[track_caller]
fn state(devhost: &Devhost) -> String {
    field(devhost, 2)
}

#[track_caller]
fn order(devhost: &Devhost, words: &[&str]) -> Finished {
    devhost.boxgate(words).within(LONG).ok().stdout_is("")
}

fn with_a_box() -> Devhost {
    let devhost = Devhost::start(&["alice"]);
    devhost.login("alice").ssh("echo mine > file").ok();
    devhost
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_box_is_stopped_started_and_listed_all_the_while() {
    let devhost = with_a_box();
    assert_eq!(state(&devhost), "ready");
    order(&devhost, &["stop", "alice"]).stderr_has("boxgate: alice: stopped\n");
    assert_eq!(state(&devhost), "stopped");
    order(&devhost, &["start", "--all"]).stderr_has("boxgate: alice: ready\n");
    assert_eq!(state(&devhost), "ready");
    order(&devhost, &["restart", "alice"]);
    devhost.login("alice").ssh("cat file").ok().stdout_is("mine\n");

    let listed: Value = serde_json::from_str(&devhost.boxgate(&["ls", "--json"]).ok().text()).unwrap();
    assert_eq!((&listed[0]["id"], &listed[0]["isolated"]), (&"alice".into(), &false.into()));
    assert!(listed[0]["usage"]["memory_bytes"].as_u64().unwrap() > 1 << 20, "{listed}");
    devhost.boxgate(&["show", "alice"]).ok().stdout_has("isolation    none: root in it is root on this host");
    devhost.boxgate(&["ls", "--table"]).ok().stdout_has("USER   BOX").stdout_has("1.0 GiB");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn connections_are_counted() {
    let devhost = with_a_box();
    let connection = devhost.login("alice").ssh("sleep 1000").start();
    until("a connection that is listed", LONG, || match field(&devhost, 4) {
        count if count == "1" => Ok(()),
        count => Err(count),
    });
    drop(connection);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn commands_run_as_the_boxs_user_or_as_root() {
    let devhost = with_a_box();
    let exec = |words: &[&str]| devhost.boxgate(&[&["exec"], words].concat());
    exec(&["alice", "sh", "-c", "whoami; pwd; cat file; exit 7"])
        .finish()
        .code(7)
        .stdout_is("alice\n/home/alice\nmine\n");
    exec(&["--root", "alice", "id", "-un"]).ok().stdout_is("root\n");
    exec(&["alice", "cat"]).input("in\0out").ok().stdout_is("in\0out");
    exec(&["alice"])
        .input("echo $0 $USER; shopt -q login_shell && echo login\n")
        .ok()
        .stdout_has("bash alice\nlogin");
    exec(&["alice", "tty"]).finish().code(1).stdout_is("not a tty\n");
    exec(&["bob", "true"]).finish().code(3);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_reset_keeps_home_and_nothing_else() {
    let devhost = with_a_box();
    devhost.login("alice").ssh("sudo touch /etc/changed").ok();
    devhost.boxgate(&["reset", "alice"]).finish().code(5);
    order(&devhost, &["reset", "alice", "--yes", "alice"]).stderr_has("alice: made anew");
    devhost.login("alice").ssh("cat file; ls /etc/changed").finish().code(2).stdout_is("mine\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_removed_box_is_gone_with_all_its_data() {
    let devhost = with_a_box();
    devhost.boxgate(&["rm", "alice"]).finish().code(5).stderr_has("--yes alice");
    order(&devhost, &["rm", "alice", "--yes", "alice"]).stderr_has("alice: removed");
    assert_eq!(devhost.objects(), Objects::default());
    devhost.boxgate(&["show", "alice"]).finish().code(3);
    devhost.boxgate(&["rm", "alice", "--yes", "alice"]).finish().code(3);
    devhost.boxgate(&["start", "alice"]).finish().code(3);
    devhost.boxgate(&["gc"]).ok().stdout_is("").stderr_is("boxgate: nothing is left over\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_box_is_made_before_its_user_comes() {
    let devhost = Devhost::start(&["alice"]);
    order(&devhost, &["new", "alice"]).stderr_has("alice: ready");
    assert_eq!(state(&devhost), "ready");
    devhost.login("alice").ssh("whoami").ok().stdout_is("alice\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_console_is_followed_until_its_box_ends() {
    let devhost = with_a_box();
    devhost.boxgate(&["logs", "alice"]).ok().stdout_has("systemd");
    let mut following = devhost.boxgate(&["logs", "--follow", "-n", "5", "alice"]).start();
    order(&devhost, &["stop", "alice"]);
    following.finish_within(LONG).code(0).stdout_has("Reached target");
    devhost.boxgate(&["logs", "bob"]).finish().code(3);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_box_is_kept_until_it_is_not() {
    let devhost = with_a_box();
    devhost.boxgate(&["keep", "alice", "8h"]).ok().stdout_has("box alice is kept until 2");
    assert!(field(&devhost, 6).starts_with('2'), "{}", field(&devhost, 6));
    devhost.boxgate(&["keep", "alice", "off"]).ok();
    assert_eq!(field(&devhost, 6), "-");
    devhost.boxgate(&["keep", "bob", "8h"]).finish().code(3);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_doctor_finds_what_is_left_over_and_removes_it_when_told() {
    let devhost = with_a_box();
    let instance = devhost.instance();
    let network = format!("{instance}.bob");
    let labels = [("instance", instance.as_str()), ("box", "bob"), ("owner", "bob")];
    let labels = labels.map(|(label, value)| format!("--label=io.boxgate.{label}={value}"));
    let subnet = format!("--subnet={}240/28", devhost.network_prefix());
    docker(["network", "create", &subnet, &labels[0], &labels[1], &labels[2], &network]);

    let status = |findings: &Value, check: &str| {
        let found = findings.as_array().unwrap().iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("{findings}"))["status"].as_str().unwrap().to_owned()
    };
    let look = |words: &[&str]| -> Value {
        // Whatever else this machine may lack.
        let doctor = devhost.boxgate(&[&["doctor", "--json"], words].concat()).within(LONG).finish();
        serde_json::from_str(&doctor.text()).unwrap()
    };
    let findings = look(&[]);
    for check in ["docker", "image", "networks", "permissions", "provisioner", "boxes"] {
        assert_eq!(status(&findings, check), "ok", "{findings}");
    }
    assert_eq!(
        (status(&findings, "runtime"), status(&findings, "leftovers")),
        ("warn".into(), "warn".into())
    );
    assert!(devhost.objects().networks.contains(&network));
    assert_eq!(status(&look(&["--fix"]), "leftovers"), "ok");
    assert!(!devhost.objects().networks.contains(&network));
    devhost.login("alice").ssh("cat file").ok().stdout_is("mine\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_provisioner_that_does_not_run_is_said() {
    let devhost = Setup::of(&["alice"]).start_without_provisioner();
    devhost.boxgate(&["ls"]).finish().code(75).stdout_is("").stderr_has("does boxgate-provisioner run?");
    devhost.boxgate(&["doctor"]).within(LONG).finish().code(1).stdout_has("FAIL  provisioner");
}
