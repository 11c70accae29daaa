//! Whatever arrives on the port, the gateway names the client in its log, ends it, and serves the next one.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use boxgate_tests::local::random_bytes;
use boxgate_tests::{Devhost, Setup, Stopwatch, until, until_succeeds};

const GRACE: Duration = Duration::from_secs(2);
/// For a busy machine to notice that the grace time is over.
const SLACK: Duration = Duration::from_secs(3);
/// For what can be told from its first bytes.
const AT_ONCE: Duration = Duration::from_millis(1500);
const VERSION: &[u8] = b"SSH-2.0-story\r\n";

/// A connection that sends what it likes.
struct Rude {
    stream: TcpStream,
    since: Stopwatch,
}

impl Rude {
    fn connect(devhost: &Devhost) -> Self {
        Self { stream: TcpStream::connect(devhost.address()).unwrap(), since: Stopwatch::start() }
    }

    fn sends(mut self, bytes: &[u8]) -> Self {
        // The gateway may have had enough before all is sent.
        self.stream.write_all(bytes).ok();
        self
    }

    fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Reads until the gateway ends it, which must be within `limit` of its begin.
    #[track_caller]
    fn assert_ended_within(&mut self, limit: Duration, what: &str) {
        let mut said = Vec::new();
        self.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        until(&format!("end of {what}"), limit, || match self.stream.read_to_end(&mut said) {
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => Err(format!("open, {} bytes", said.len())),
            // A reset is an end too.
            _ => Ok(()),
        });
        self.since.assert_between(Duration::ZERO, limit, what);
    }
}

/// What every kind of bad input has to come to.
#[track_caller]
fn assert_ended_and_named(devhost: &Devhost, mut rude: Rude, limit: Duration, what: &str) {
    let client = format!("client={}", rude.address());
    rude.assert_ended_within(limit, what);
    let line = devhost.gateway.expect_line(&[&client]);
    assert!(
        !line.contains("ERROR") && !line.contains("panic"),
        "{what}: a client's fault is no error of ours: {line}"
    );
    devhost.login("alice").ssh("echo served").ok().stdout_is("served\n");
    let log = devhost.gateway.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(&client)).collect();
    assert_eq!(lines.len(), 1, "{what}: one line for one client, seen: {lines:#?}");
}

fn devhost_of_little_patience() -> Devhost {
    let setup =
        Setup::of(&["alice"]).set("gateway.login_grace_time", "\"2s\"").set("gateway.max_startups", "20");
    let devhost = setup.start();
    devhost.login("alice").ssh("true").ok();
    devhost
}

fn packet(payload_length: u32, padding: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload_length + u32::from(padding) + 1).to_be_bytes();
    [&length[..], &[padding], payload, &vec![0; padding.into()]].concat()
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn bad_input_is_ended_and_named_and_harms_nobody() {
    let devhost = devhost_of_little_patience();
    let mut live = devhost.login("alice").ssh("echo in; cat").start();
    live.expect_stdout("in\n");

    let endless_name = [&b"SSH-2.0-"[..], &vec![b'x'; 1 << 20]].concat();
    for (what, bytes) in [
        ("silence", &b""[..]),
        ("garbage", &random_bytes(64 * 1024)),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: devhost\r\n\r\n"),
        ("SSH 1", b"SSH-1.5-old\r\n"),
        ("a version line without an end", &endless_name),
    ] {
        assert_ended_and_named(&devhost, Rude::connect(&devhost).sends(bytes), GRACE + SLACK, what);
    }
    let over_long = [&[0x7f, 0xff, 0xff, 0xff, 4][..], &vec![0; 100_000]].concat();
    let padding_over_all = [&[0, 0, 0, 12, 255][..], &[0; 300]].concat();
    for (what, bytes, limit) in [
        ("half a handshake", Vec::new(), GRACE + SLACK),
        ("half a packet", packet(1000, 4, &[20; 40]), GRACE + SLACK),
        ("an over-long packet", over_long, AT_ONCE),
        ("a packet of length 0", vec![0; 16], AT_ONCE),
        ("a packet of padding only", padding_over_all, AT_ONCE),
        ("a channel before the handshake", packet(11, 4, b"\x5a\0\0\0\x07session"), AT_ONCE),
        ("a broken KEXINIT", packet(19, 4, b"\x14................\xff\xff"), AT_ONCE),
    ] {
        let rude = Rude::connect(&devhost).sends(&[VERSION, &bytes].concat());
        assert_ended_and_named(&devhost, rude, limit, what);
    }
    live.write("untouched\n");
    live.expect_stdout("untouched\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_client_that_leaves_at_once_leaves_nothing() {
    let devhost = devhost_of_little_patience();
    for _ in 0..50 {
        drop(Rude::connect(&devhost).sends(VERSION));
    }
    devhost.login("alice").ssh("echo served").ok().took_at_most(SLACK);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn silent_connections_keep_nobody_out_beyond_the_grace_time() {
    let devhost = devhost_of_little_patience();
    let mut live = devhost.login("alice").ssh("echo in; cat").start();
    live.expect_stdout("in\n");
    let silent: Vec<_> = (0..200).map(|_| Rude::connect(&devhost)).collect();
    let watch = Stopwatch::start();
    // Some may be turned away meanwhile, as sshd does when it is full.
    until_succeeds("a login past 200 silent connections", GRACE + SLACK, || {
        devhost.login("alice").ssh_with(["-o", "ConnectTimeout=5"], "echo in")
    });
    watch.assert_between(Duration::ZERO, GRACE + SLACK, "a login past 200 silent connections");
    live.write("untouched\n");
    live.expect_stdout("untouched\n");
    drop(silent);
}
