//! The relay under load: readers that stop, transfers both ways at once, keys exchanged in the middle.

use std::time::Duration;

use boxgate_tests::{Devhost, Run};

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_stalled_reader_resumes() {
    let devhost = Devhost::shared();
    let ssh = devhost.login("alice").line(&[]);
    // Both directions are full when the reader wakes up.
    let line = format!("yes | {ssh} cat | (sleep 3; head -c 200M | wc -c)");
    Run::shell(&line).within(Duration::from_secs(60)).ok().stdout_is("209715200\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn both_ways_at_once_through_many_key_exchanges() {
    let devhost = Devhost::shared();
    let ssh = devhost.login("alice").line(&["-o", "RekeyLimit=1M"]);
    let file = devhost.directory().join("random").display().to_string();
    Run::shell(&format!("head -c 200M /dev/urandom >{file}")).ok();
    let sums = format!("sha256sum <{file}; {ssh} cat <{file} | sha256sum");
    let sums = Run::shell(&sums).within(Duration::from_secs(120)).ok().text();
    let sums: Vec<_> = sums.lines().collect();
    assert!(
        matches!(sums[..], [sent, back] if sent == back),
        "what came back is not what was sent: {sums:?}"
    );
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn downloads_and_uploads_each_at_their_own_pace() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let limit = Duration::from_secs(60);
    let down = alice.ssh("head -c 100M /dev/zero").within(limit).start();
    let mut up = alice.ssh("sha256sum >up.sum; cat up.sum").within(limit).start();
    up.write(&"0123456789abcdef".repeat(1 << 20));
    let sum = Run::shell("yes 0123456789abcdef | tr -d '\\n' | head -c 16M | sha256sum").ok();
    up.finish_within(limit).code(0).stdout_is(sum.stdout);
    let mut down = down;
    assert_eq!(down.finish_within(limit).code(0).stdout.len(), 100 << 20);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_command_whose_reader_has_seen_enough_ends() {
    let devhost = Devhost::shared();
    let ssh = devhost.login("alice").line(&[]);
    Run::shell(&format!("{ssh} yes | head -n 1")).within(Duration::from_secs(10)).ok().stdout_is("y\n");
}
