//! The gateway between the real `ssh` and the real `sshd`: what crosses, who is refused, what is said.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]

#[path = "gateway/agent.rs"]
mod agent;
#[path = "gateway/certificates.rs"]
mod certificates;
#[path = "gateway/key_urls.rs"]
mod key_urls;
#[path = "gateway/keys.rs"]
mod keys;
#[path = "gateway/lobby.rs"]
mod lobby;
#[path = "gateway/renewal.rs"]
mod renewal;
#[path = "gateway/strangers.rs"]
mod strangers;
mod support;

use std::fs;
use std::process::Stdio;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use boxgate_provisioner_api::{Failure, FailureCode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Answer, Gateway, output, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn a_command_runs_and_its_exit_code_and_streams_come_back() {
    let gateway = Gateway::start(Answer::the_box()).await;
    let ran = gateway.run("echo out; echo err >&2; exit 42").await;
    assert_eq!(ran.status.code(), Some(42), "{}", text(&ran.stderr));
    assert_eq!(text(&ran.stdout), "out\n");
    assert!(text(&ran.stderr).ends_with("err\n"));
}

#[tokio::test]
async fn eight_megabytes_cross_both_ways_unchanged_through_many_key_exchanges() {
    let gateway = Gateway::start(Answer::the_box()).await;
    let sent: Vec<u8> = (0..8 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut ssh = gateway.ssh("alice", "alice");
    let mut child = ssh
        .args(["-o", "RekeyLimit=1M", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut got = Vec::new();
    let (wrote, read) = tokio::join!(
        async {
            stdin.write_all(&sent).await?;
            stdin.shutdown().await?;
            drop(stdin);
            Ok::<_, std::io::Error>(())
        },
        timeout(Duration::from_secs(60), stdout.read_to_end(&mut got))
    );
    wrote.unwrap();
    read.unwrap().unwrap();
    assert!(child.wait().await.unwrap().success());
    assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
}

#[tokio::test]
async fn progress_and_the_missing_isolation_are_told_before_the_shell() {
    let answer = Answer::Box { progress: vec!["making your box", "waiting for it to boot"], isolated: false };
    let gateway = Gateway::start(answer).await;
    let ran = gateway.run("echo out").await;
    assert_eq!(text(&ran.stdout), "out\n");
    let told = text(&ran.stderr);
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with("boxgate: ")).collect();
    assert_eq!(
        lines,
        [
            "boxgate: making your box",
            "boxgate: waiting for it to boot",
            "boxgate: warning: boxes on this host are not isolated, root in a box is root on the host",
        ]
    );
}

#[tokio::test]
async fn strangers_are_refused_alike_and_the_provisioner_never_hears_of_them() {
    let gateway = Gateway::start(Answer::the_box()).await;
    let mut seen = Vec::new();
    for (login, key) in
        [("alice", "stranger"), ("mallory", "stranger"), ("mallory", "alice"), ("../a b", "alice")]
    {
        let refused = output(gateway.ssh(login, key).arg("true")).await;
        assert_eq!(refused.status.code(), Some(255));
        seen.push(text(&refused.stderr).lines().last().unwrap_or_default().replace(login, "LOGIN"));
    }
    assert!(seen.iter().all(|line| line == "LOGIN@127.0.0.1: Permission denied (publickey)."), "{seen:?}");
    assert_eq!(gateway.asked.load(SeqCst), 0);
}

#[tokio::test]
async fn why_there_is_no_box_is_said_to_the_person() {
    let failure = Failure {
        code: FailureCode::EngineUnavailable,
        message: "box alice: Docker is not running".to_owned(),
        remedy: "Tell your operator.".to_owned(),
        retryable: true,
    };
    let gateway = Gateway::start(Answer::Failure(failure)).await;
    let ran = gateway.run("true").await;
    assert_eq!(ran.status.code(), Some(255));
    assert!(
        text(&ran.stderr).contains("box alice: Docker is not running. Tell your operator."),
        "{}",
        text(&ran.stderr)
    );
}

#[tokio::test]
async fn a_box_with_another_host_key_is_not_talked_to() {
    let gateway = Gateway::start(Answer::WrongHostKey).await;
    let ran = gateway.run("true").await;
    assert_eq!(ran.status.code(), Some(255));
    assert!(text(&ran.stderr).contains("another host key"), "{}", text(&ran.stderr));
}

#[tokio::test]
async fn a_further_box_is_hers_too() {
    let gateway = Gateway::start(Answer::the_box()).await;
    let ran = output(gateway.ssh("alice+web", "alice").arg("echo web")).await;
    assert_eq!(text(&ran.stdout), "web\n", "{}", text(&ran.stderr));
    assert_eq!(gateway.asked.load(SeqCst), 1);
}

#[tokio::test]
async fn who_leaves_while_her_box_is_made_leaves_nothing_waiting() {
    let gateway = Gateway::start_with("max_connections = 1", Answer::Silence).await;
    let mut waiting = gateway.ssh("alice", "alice").arg("true").spawn().unwrap();
    while gateway.asked.load(SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    waiting.kill().await.unwrap();
    // The only permit is free again, so the next client is greeted.
    assert!(greeting(&gateway).await.starts_with("SSH-2.0-OpenSSH_9.9_Boxgate"));
}

#[tokio::test]
async fn silence_garbage_and_giants_end_within_the_grace_time_and_harm_nobody() {
    let gateway = Gateway::start_with("login_grace_time = \"1s\"\nmax_startups = 2", Answer::the_box()).await;
    let giant = [b"SSH-2.0-x\r\n".as_slice(), &[0xff; 64]].concat();
    for bytes in [b"".as_slice(), b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", &giant, &[0; 4096]] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut heard = Vec::new();
        let ended = timeout(Duration::from_secs(5), stream.read_to_end(&mut heard)).await;
        assert!(ended.is_ok(), "still open after {} bytes sent", bytes.len());
    }
    let ran = gateway.run("echo fine").await;
    assert_eq!(text(&ran.stdout), "fine\n", "{}", text(&ran.stderr));
}

#[tokio::test]
async fn a_restart_tells_those_who_are_connected() {
    let gateway = Gateway::start(Answer::the_box()).await;
    let mut ssh = gateway.ssh("alice", "alice");
    let mut child =
        ssh.arg("echo up; sleep 60").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).await.unwrap();
    drop(gateway);
    let ended = timeout(Duration::from_secs(10), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(255));
    assert!(text(&ended.stderr).contains("the gateway is being restarted"), "{}", text(&ended.stderr));
}

#[tokio::test]
async fn a_client_over_a_socket_for_both_ip_versions_is_known_by_its_own_address() {
    let gateway = Gateway::start_with("listen = [\"[::]:0\"]", Answer::the_box()).await;
    assert_eq!(text(&gateway.run("echo out").await.stdout), "out\n");
    let log = fs::read_to_string(gateway.path("sshd.log")).unwrap();
    assert!(log.contains("127.0.0.1") && !log.contains("::ffff"), "{log}");
}

async fn greeting(gateway: &Gateway) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let mut line = [0; 32];
    let read = timeout(Duration::from_secs(10), stream.read(&mut line)).await.unwrap().unwrap();
    text(&line[..read])
}

#[tokio::test]
async fn a_command_whose_reader_has_seen_enough_ends() {
    // OpenSSH tells a server that it no longer reads (`eow@openssh.com`) only if the server's name is OpenSSH's.
    let gateway = Gateway::start(Answer::the_box()).await;
    let mut ssh = gateway.ssh("alice", "alice");
    let mut child = ssh.arg("yes").stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 2]).await.unwrap();
    drop(stdout);
    timeout(Duration::from_secs(10), child.wait()).await.expect("`yes` goes on").unwrap();
}

#[tokio::test]
async fn a_client_learns_the_gateways_host_keys_and_has_them_proven() {
    let gateway = Gateway::start(Answer::the_box()).await;
    // A host must be known before further keys of it are believed (ssh_config(5), UpdateHostKeys).
    gateway.run("true").await;
    let mut ssh = gateway.ssh("alice", "alice");
    // The forwarding asks for a port of the box: its reply must not be taken for the proof, nor the other way round.
    let learning = ssh
        .args(["-v", "-o", "UpdateHostKeys=yes", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9"])
        .arg("sleep 2; echo done");
    let learned = output(learning).await;
    assert_eq!(text(&learned.stdout), "done\n", "{}", text(&learned.stderr));
    let mut known: Vec<String> = fs::read_to_string(gateway.path("known_hosts"))
        .unwrap()
        .lines()
        .map(|line| line.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" "))
        .collect();
    let mut own: Vec<String> = ["ed25519", "ecdsa", "rsa"]
        .map(|kind| fs::read_to_string(gateway.path(&format!("gateway/ssh_host_{kind}_key.pub"))).unwrap())
        .iter()
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ").trim().to_owned())
        .collect();
    known.sort();
    own.sort();
    assert_eq!(known, own, "{}", text(&learned.stderr));
}

#[tokio::test]
async fn a_second_login_takes_a_spare_connection_and_off_means_off() {
    for (settings, spares) in [("", true), ("spare_connections = 0", false)] {
        let gateway = Gateway::start_with(settings, Answer::the_box()).await;
        assert_eq!(text(&gateway.run("echo one").await.stdout), "one\n");
        let accepted = |what: &str| {
            let log = fs::read_to_string(gateway.path("sshd.log")).unwrap();
            log.lines().filter(|line| line.contains("Accepted publickey") && line.contains(what)).count()
        };
        if spares {
            eventually("a spare connection", || accepted("spare connection") == 1).await;
        }
        assert_eq!(text(&gateway.run("echo two").await.stdout), "two\n");
        assert_eq!(accepted("SHA256:") - accepted("spare connection"), if spares { 1 } else { 2 });
        assert_eq!(gateway.asked.load(SeqCst), 2, "each login asks for its box");
    }
}

#[tokio::test]
async fn a_spare_connection_that_has_died_is_not_given() {
    let gateway = Gateway::start(Answer::the_box()).await;
    gateway.run("true").await;
    let spare = || fs::read_to_string(gateway.path("sshd.log")).unwrap().matches("spare connection").count();
    eventually("a spare connection", || spare() == 1).await;
    for pid in children(gateway.sshd_pid()) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    assert_eq!(text(&gateway.run("echo alive").await.stdout), "alive\n");
}

fn children(parent: u32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

async fn eventually(what: &str, done: impl Fn() -> bool) {
    let waited = timeout(Duration::from_secs(20), async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("no {what} in 20 s"));
}
