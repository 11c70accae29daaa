//! Who is not known gets nothing: no box, no hint, no object in Docker.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use boxgate_tests::devhost::make_key;
use boxgate_tests::docker::Objects;
use boxgate_tests::{Devhost, Finished, Login, Run, until};

/// What OpenSSH says when public keys are the only way in, and none of its keys is one.
const REFUSED: &str = "Permission denied (publickey).";

#[track_caller]
fn assert_refused(attempt: Finished) {
    attempt.code(255).stdout_is("").stderr_has(REFUSED);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn strangers_and_wrong_keys_are_refused_and_nothing_is_made() {
    let devhost = Devhost::start(&["alice", "bob"]);
    for (login, key) in [
        ("alice", "stranger"),
        ("box", "stranger"),
        ("mallory", "stranger"),
        ("mallory", "alice"),
        ("alice", "bob"),
    ] {
        assert_refused(devhost.login_with_key_of(login, key).ssh("true").finish());
    }
    let by_password =
        ["-o", "PubkeyAuthentication=no", "-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1"];
    assert_refused(devhost.login("alice").ssh_with(by_password, "true").finish());
    assert_eq!(devhost.objects(), Objects::default());

    devhost.login("alice").ssh("true").ok();
    assert_eq!(
        devhost.objects().containers,
        [devhost.container("alice")],
        "the owner of the key gets her box"
    );
}

/// Asks for `name` with a good key, and returns whether the client sent the name at all: newer ones do not send
/// every name.
#[track_caller]
fn is_refused(devhost: &Devhost, name: OsString) -> bool {
    let odd = Login { name, ..devhost.login("alice") };
    let refused = odd.ssh("true").finish().code(255).stdout_is("");
    if ["invalid characters", "invalid user"].iter().any(|word| refused.errors().contains(word)) {
        return false;
    }
    refused.stderr_has(REFUSED);
    true
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn odd_login_names_are_refused_like_any_stranger() {
    let devhost = Devhost::start(&["alice", "bob"]);
    let plain = ["root", "Alice", "alice ", " alice", "al ice", "../alice", "../../etc", "-oProxyCommand=id"];
    let quoted =
        ["alice'", "\"alice\"", "$(id)", "`id`", "alice;id", "alice\nbob", "alice\u{1b}[2J", "älice", "%n"];
    let plus = ["+", "alice+", "+web", "alice+../x", "alice+web+x", "bob+web"];
    for name in plain.iter().chain(&quoted).chain(&plus) {
        is_refused(&devhost, name.into());
    }
    assert!(is_refused(&devhost, "a".repeat(300).into()));
    assert_eq!(devhost.objects(), Objects::default());
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_login_name_that_is_no_text_is_refused_like_any_stranger() {
    let devhost = Devhost::start(&["alice"]);
    is_refused(&devhost, OsString::from_vec(b"al\xff\xfeice".to_vec()));
    assert_eq!(devhost.objects(), Objects::default());
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn whoever_is_refused_is_in_the_log_once() {
    let devhost = Devhost::start(&["alice"]);
    assert_refused(devhost.login_with_key_of("mallory", "stranger").ssh("true").finish());
    assert_refused(devhost.login_with_key_of("alice", "stranger").ssh("true").finish());
    is_refused(&devhost, "mal\u{1b}[2Jlory".into());
    devhost.gateway.expect_line(&["client=127.0.0.1:", "mallory"]);
    devhost.gateway.expect_line(&["client=127.0.0.1:", "alice"]);
    let log = devhost.gateway.log();
    assert!(!log.contains('\u{1b}'), "a client writes control characters into the log:\n{log}");
    let lines = log.lines().filter(|line| line.contains("client=127.0.0.1:")).count();
    assert!((2..=3).contains(&lines), "expected one line for each stranger, seen:\n{log}");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn an_agent_may_offer_a_few_wrong_keys_and_no_more() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let keys: Vec<_> = (0..7).map(|n| devhost.directory().join(format!("keys/wrong-{n}"))).collect();
    for key in &keys {
        make_key(key);
    }
    let socket = devhost.directory().join("wrong-agent.sock");
    let _agent = Run::new("ssh-agent").arg("-D").arg("-a").arg(&socket).start();
    until("the agent", Duration::from_secs(5), || socket.exists().then_some(()).ok_or(String::new()));
    let add = |keys: &[_]| Run::new("ssh-add").arg("-q").args(keys).env("SSH_AUTH_SOCK", &socket).ok();
    // With IdentitiesOnly off the agent's keys come in its order, then the file's.
    let agent_first =
        |command| alice.ssh_with(["-o", "IdentitiesOnly=no"], command).env("SSH_AUTH_SOCK", &socket);
    add(&keys[..4]);
    agent_first("echo in").ok().stdout_is("in\n");
    add(&keys[4..]);
    agent_first("echo in").finish().code(255).stderr_has("Too many authentication");
}
