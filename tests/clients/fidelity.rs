//! Message by message: what nobody has heard of, in an order that shows who waits for whom.

use std::fs;
use std::time::Duration;

use boxgate_tests::{Devhost, Login, until};

use crate::driver::{self, python};

const CASES: &[(&str, &str)] = &[
    (
        "global requests",
        r#"["global failure","global success, port given","global failure","global failure","global success, port given","global failure","not opened 9: 2 open failed"]"#,
    ),
    (
        "channels",
        r#"["not opened 5: 2 open failed","opened 6, window True","failure 6","success 6","failure 6","failure 6","window 6","success 6","failure 6","data 6 'echoed'","channel-eof 6","request 6 exit-status False 00000009","channel-close 6"]"#,
    ),
    ("unknown messages", r#"["unimplemented","global failure","unimplemented","global failure"]"#),
    ("strict key exchange", r#"[true,"global failure"]"#),
];

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn fidelity() {
    driver::check("fidelity", || python("wire_client.py"), CASES);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn pings_are_announced_and_answered() {
    // OpenSSH answers them since 9.5, and the box's may be older: the gateway's alone.
    driver::check_gateway(
        "ping",
        || python("wire_client.py"),
        &[("ping", r#"["b'0'","pong are you there?"]"#)],
    );
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn openssh_learns_the_gateways_host_keys_and_no_other() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let all = sorted(&fs::read_to_string(&alice.known_hosts).unwrap());
    assert_eq!(all.len(), 3, "the gateway's keys: {all:?}");
    // She knows one of them.
    let known_hosts = devhost.directory().join("learning_known_hosts");
    fs::write(&known_hosts, all.iter().find(|line| line.contains("ssh-ed25519")).unwrap().clone() + "\n")
        .unwrap();
    let learning = Login { known_hosts, ..alice };
    until("the gateway's keys in known_hosts", Duration::from_secs(10), || {
        learning.ssh_with(["-o", "UpdateHostKeys=yes"], "sleep 0.5").ok();
        let known = sorted(&fs::read_to_string(&learning.known_hosts).unwrap());
        if known == all { Ok(()) } else { Err(format!("{known:?}")) }
    });
}

/// The lines of a `known_hosts` file without their comments.
fn sorted(known_hosts: &str) -> Vec<String> {
    let words = |line: &str| line.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let mut lines: Vec<_> = known_hosts.lines().map(words).filter(|line| !line.is_empty()).collect();
    lines.sort();
    lines
}
