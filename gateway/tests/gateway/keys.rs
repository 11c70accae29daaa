//! Keys of every kind, and what their options allow, with the real `ssh`, `ssh-agent` and `sshd`.

use std::process::Stdio;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use rstest::rstest;
use tokio::process::Command;
use tokio::time::Instant;

use crate::agent::{Agent, SecurityKey};
use crate::support::{Answer, Gateway, keygen, output, text};

const PTY: &[&str] = &["-tt"];

/// What a key may do: (a terminal, a forward).
async fn abilities(gateway: &Gateway, key: &str) -> (bool, bool) {
    let terminal = gateway.run_with(key, PTY, "test -t 0 && echo terminal").await;
    // The box's own sshd greets whoever is forwarded to it.
    let mut forward = gateway.ssh("alice", key);
    let target = format!("127.0.0.1:{}", gateway.box_address.port());
    let forward = output(forward.args(["-W", &target])).await;
    (text(&terminal.stdout).contains("terminal"), text(&forward.stdout).starts_with("SSH-2.0-"))
}

#[rstest]
#[case("", (true, true))]
#[case("restrict", (false, false))]
#[case("restrict,pty", (true, false))]
#[case("no-pty", (false, true))]
#[case("no-port-forwarding", (true, false))]
#[tokio::test]
async fn the_box_enforces_what_a_key_may_not_do(#[case] options: &str, #[case] expected: (bool, bool)) {
    let gateway = Gateway::start(Answer::the_box()).await;
    gateway.key_of_alices("limited", options, &[]).await;
    assert_eq!(text(&gateway.run_with("limited", &[], "echo in").await.stdout), "in\n");
    assert_eq!(abilities(&gateway, "limited").await, expected);
}

#[tokio::test]
async fn a_forced_command_runs_instead_of_what_is_asked_for() {
    let gateway = Gateway::start(Answer::the_box()).await;
    let options = r#"restrict,command="echo forced \"$SSH_ORIGINAL_COMMAND\"""#;
    gateway.key_of_alices("forced", options, &[]).await;
    let ran = gateway.run_with("forced", &[], "rm -rf /nowhere").await;
    assert_eq!(text(&ran.stdout), "forced rm -rf /nowhere\n", "{}", text(&ran.stderr));
    let subsystem = output(gateway.ssh("alice", "forced").args(["-s", "sftp"])).await;
    assert!(text(&subsystem.stdout).starts_with("forced"), "{}", text(&subsystem.stdout));
    // Her other key is as free as ever.
    assert_eq!(text(&gateway.run("echo free").await.stdout), "free\n");
}

#[rstest]
#[case(r#"from="127.0.0.0/8""#, true)]
#[case(r#"from="192.0.2.1""#, false)]
#[case(r#"expiry-time="20380101Z""#, true)]
#[case(r#"expiry-time="20200101""#, false)]
#[case(r#"permitopen="localhost:80""#, false)]
#[tokio::test]
async fn options_decide_who_gets_in(#[case] options: &str, #[case] expected: bool) {
    let gateway = Gateway::start(Answer::the_box()).await;
    gateway.key_of_alices("key", options, &[]).await;
    let ran = gateway.run_with("key", &[], "true").await;
    assert_eq!(ran.status.success(), expected, "{}", text(&ran.stderr));
}

#[rstest]
#[case(&["-t", "ecdsa", "-b", "256"], &[], true)]
#[case(&["-t", "ecdsa", "-b", "384"], &[], true)]
#[case(&["-t", "ecdsa", "-b", "521"], &[], true)]
#[case(&["-t", "rsa", "-b", "2048"], &[], true)]
#[case(&["-t", "rsa", "-b", "2048"], &["-o", "PubkeyAcceptedAlgorithms=rsa-sha2-256"], true)]
#[case(&["-t", "rsa", "-b", "2048"], &["-o", "PubkeyAcceptedAlgorithms=ssh-rsa"], false)]
#[case(&["-t", "rsa", "-b", "1024"], &["-o", "RequiredRSASize=1024"], false)]
#[tokio::test]
async fn keys_of_every_kind(#[case] kind: &[&str], #[case] options: &[&str], #[case] expected: bool) {
    let gateway = Gateway::start(Answer::the_box()).await;
    gateway.key_of_alices("key", "", kind).await;
    let ran = gateway.run_with("key", options, "true").await;
    assert_eq!(ran.status.success(), expected, "{}", text(&ran.stderr));
}

#[rstest]
#[case("", 1, true)]
#[case("", 0, false)]
#[case("no-touch-required", 0, true)]
#[case("verify-required", 1, false)]
#[case("verify-required", 5, true)]
#[tokio::test]
async fn a_security_key_must_have_been_touched(
    #[values(SecurityKey::ed25519(), SecurityKey::ecdsa())] key: SecurityKey,
    #[case] options: &str,
    #[case] flags: u8,
    #[case] expected: bool,
) {
    let gateway = Gateway::start(Answer::the_box()).await;
    gateway.line_of_alices(&format!("{options} {}", key.public_line()));
    let agent = Agent::start(&gateway.path("agent"), key, Some(flags));
    let ran = output(agent.use_in(&mut gateway.ssh("alice", "agent.pub")).arg("echo in")).await;
    assert_eq!(text(&ran.stdout) == "in\n", expected, "{}", text(&ran.stderr));
    assert!(agent.signatures() > 0, "the agent was not asked for a signature");
}

#[tokio::test]
async fn a_key_that_is_only_offered_makes_nothing() {
    let gateway = Gateway::start(Answer::the_box()).await;
    let key = SecurityKey::ed25519();
    gateway.line_of_alices(&key.public_line());
    let agent = Agent::start(&gateway.path("agent"), key, None);
    let refused = output(agent.use_in(&mut gateway.ssh("alice", "agent.pub")).arg("true")).await;
    assert_eq!(refused.status.code(), Some(255));
    assert!(agent.signatures() > 0, "the key was not accepted when it was offered");
    assert_eq!(gateway.asked.load(SeqCst), 0);
}

#[tokio::test]
async fn clients_are_told_what_is_verified_and_bind_their_signatures() {
    let gateway = Gateway::start(Answer::the_box()).await;
    let ran = gateway.run_with("alice", &["-vv"], "true").await;
    let said = text(&ran.stderr);
    assert!(
        said.contains(
            "server-sig-algs=<ssh-ed25519,sk-ssh-ed25519@openssh.com,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,\
             ecdsa-sha2-nistp521,sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256>"
        ),
        "{said}"
    );
    assert!(said.contains("publickey-hostbound@openssh.com=<0>"), "{said}");
}

#[tokio::test]
async fn an_agents_key_may_be_meant_for_this_gateway_alone() {
    let gateway = Gateway::start(Answer::the_box()).await;
    // Who connects learns the gateway's host key.
    assert!(gateway.run("true").await.status.success());
    let known_hosts = gateway.path("known_hosts");
    let elsewhere = gateway.path("elsewhere");
    let strangers_key = std::fs::read_to_string(gateway.path("stranger.pub")).unwrap();
    std::fs::write(&elsewhere, format!("elsewhere.example.org {strangers_key}")).unwrap();
    let here = format!("[127.0.0.1]:{}", gateway.address.port());
    for (destination, expected) in [(here.as_str(), true), ("elsewhere.example.org", false)] {
        let socket = gateway.path(&format!("agent-{expected}"));
        let mut agent = Command::new("ssh-agent");
        let _agent =
            agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut add = Command::new("ssh-add");
        add.args(["-q", "-h", destination, "-H"]).arg(&known_hosts).arg("-H").arg(&elsewhere);
        let added = output(add.arg(gateway.path("alice")).env("SSH_AUTH_SOCK", &socket)).await;
        assert!(added.status.success(), "{}", text(&added.stderr));
        let mut ssh = gateway.ssh("alice", "alice.pub");
        let ran = output(ssh.env("SSH_AUTH_SOCK", &socket).arg("true")).await;
        assert_eq!(ran.status.success(), expected, "{destination}: {}", text(&ran.stderr));
    }
}

#[tokio::test]
async fn four_wrong_keys_before_the_right_one_cost_no_time() {
    let gateway = Gateway::start(Answer::the_box()).await;
    let mut ssh = gateway.ssh("alice", "stranger");
    for name in ["one", "two", "three", "alice"] {
        if name != "alice" {
            keygen(&gateway.path(name), &[]).await;
        }
        ssh.arg("-i").arg(gateway.path(name));
    }
    let begin = Instant::now();
    let ran = output(ssh.arg("echo in")).await;
    assert_eq!(text(&ran.stdout), "in\n", "{}", text(&ran.stderr));
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}
