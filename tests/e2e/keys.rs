//! Keys that may do less, and people who come with a certificate, in a real box.

use std::fs;
use std::path::PathBuf;

use boxgate_tests::devhost::make_key;
use boxgate_tests::{Devhost, Login, Run};

/// A new key beside those of the users, and its public half.
fn new_key(devhost: &Devhost, name: &str) -> (PathBuf, String) {
    let key = devhost.directory().join("keys").join(name);
    make_key(&key);
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    (key, public)
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_restricted_key_runs_its_command_and_nothing_else() {
    let devhost = Devhost::shared();
    let (key, public) = new_key(&devhost, "nightly");
    devhost.authorize(
        "alice",
        &format!("restrict,command=\"echo nightly for $USER: $SSH_ORIGINAL_COMMAND\" {public}"),
    );
    let nightly = Login { key, ..devhost.login("alice") };
    nightly.ssh("rm -rf ~").ok().stdout_is("nightly for alice: rm -rf ~\n");
    nightly.ssh_with(["-tt"], "sh").finish().code(255).stderr_has("PTY allocation");
    nightly.ssh_only(["-W", "127.0.0.1:22"]).finish().code(255).stdout_is("");
    devhost.login("alice").ssh_with(["-tt"], "test -t 0").ok();
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn who_has_a_certificate_gets_into_her_own_box_and_no_other() {
    let devhost = Devhost::shared();
    let (authority, public) = new_key(&devhost, "authority");
    devhost.authorize("alice", &format!("cert-authority {public}"));
    let (key, _) = new_key(&devhost, "certified");
    let certify = |principal: &str| {
        let sign = Run::new("ssh-keygen").arg("-q").arg("-s").arg(&authority);
        sign.args(["-I", "laptop", "-n", principal, "-O", "no-pty"]).arg(key.with_extension("pub")).ok();
    };
    let login = |name: &str| Login { key: key.clone(), ..devhost.login(name) };
    certify("alice");
    login("alice").ssh("whoami").ok().stdout_is("alice\n");
    login("alice").ssh_with(["-tt"], "true").finish().stderr_has("PTY allocation");
    devhost.gateway.expect_line(&["authenticated", "certificate", "laptop"]);
    login("bob").ssh("true").finish().code(255).stderr_has("Permission denied (publickey).");
    certify("bob");
    login("alice").ssh("true").finish().code(255).stderr_has("Permission denied (publickey).");
}
