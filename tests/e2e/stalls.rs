//! Somebody stops reading: nothing else stops, nothing is lost, and nobody keeps what she does not read.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use boxgate_tests::devhost::Shared;
use boxgate_tests::local::{free_port, random_bytes};
use boxgate_tests::{Devhost, Login, Run, Running, Stopwatch, until, until_succeeds};

const LIMIT: Duration = Duration::from_secs(60);
/// What a reader misses while it is away.
const AWAY: Duration = Duration::from_secs(6);
/// The same where nothing but the waiting takes time.
const LONG_AWAY: Duration = Duration::from_secs(20);

/// What the gateway may need beyond its idle size: buffers of some dozen connections, and what the allocator keeps.
const ROOM_KIB: u64 = 8 * 1024;

/// Resident memory of the gateway's worker (proc(5), `VmRSS`), in KiB.
#[track_caller]
fn resident_kib(devhost: &Devhost) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", devhost.gateway.worker())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Looks at the gateway's memory all the while, and says at the end how large it has ever been.
fn largest_while<T>(devhost: &Devhost, mut look: impl FnMut() -> Result<T, String>) -> (T, u64) {
    let mut largest = 0;
    let found = until("the end of the transfer", LIMIT, || {
        largest = largest.max(resident_kib(devhost));
        look()
    });
    (found, largest)
}

#[track_caller]
fn assert_bounded(largest: u64, before: u64, what: &str) {
    assert!(largest < before + ROOM_KIB, "{what}: the gateway grew from {before} to {largest} KiB");
}

/// A connection of alice's that others share.
fn master(devhost: &Shared, alice: &Login, name: &str, more: &[&str]) -> (Running, String) {
    let socket = format!("ControlPath={}", devhost.directory().join(name).display());
    let options = [&["-o", &socket, "-o", "ControlMaster=yes", "-N"], more].concat();
    let master = alice.ssh_only(options).start();
    until_succeeds("the master", LIMIT, || alice.ssh_only(["-o", &socket, "-O", "check"]));
    (master, socket)
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn both_directions_fill_up_and_resume() {
    // Its own gateway, so that its memory is this story's alone.
    let devhost = Devhost::start(&["alice"]);
    devhost.login("alice").ssh("true").ok();
    let before = resident_kib(&devhost);
    let ssh = devhost.login("alice").line(&[]);
    let away = LONG_AWAY.as_secs();
    let line = format!("seq 1 9999999 | tee >(sha256sum >&2) | {ssh} cat | (sleep {away}; sha256sum)");
    let mut running = Run::shell(&line).start();
    let ((), largest) =
        largest_while(&devhost, || if running.is_running() { Err("running".to_owned()) } else { Ok(()) });
    let done = running.finish_within(LIMIT).code(0);
    let (sent, back) = (done.errors(), done.text());
    assert_eq!(sent.trim(), back, "all 79 MB came back as they were sent");
    done.took_at_most(LONG_AWAY + Duration::from_secs(15));
    assert_bounded(largest, before, "both ways full");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_paused_download_through_a_forward_resumes() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let body = random_bytes(64 << 20);
    alice.ssh("mkdir -p www-stall; cat >www-stall/body").input(body.clone()).ok();
    let mut server =
        alice.ssh("exec python3 -u -m http.server --bind 127.0.0.1 --directory www-stall 8150").start();
    server.expect_stdout("Serving HTTP");
    let before = resident_kib(&devhost);
    let port = free_port();
    let mut forward =
        alice.ssh_with(["-L", &format!("127.0.0.1:{port}:127.0.0.1:8150")], "echo up; cat").start();
    forward.expect_stdout("up\n");

    let mut paused = TcpStream::connect(("127.0.0.1", port)).unwrap();
    paused.write_all(b"GET /body HTTP/1.0\r\n\r\n").unwrap();
    let watch = Stopwatch::start();
    let ((), largest) = largest_while(&devhost, || {
        // What shares its connection runs as if alone.
        Run::new("curl")
            .args(["-sS", "--max-time", "10", "-r", "0-99999", &format!("http://127.0.0.1:{port}/")])
            .ok()
            .took_at_most(Duration::from_secs(3));
        forward.write("and a line\n");
        if watch.elapsed() < AWAY { Err("paused".to_owned()) } else { Ok(()) }
    });
    forward.expect_stdout("and a line\n");
    let mut reply = Vec::new();
    paused.read_to_end(&mut reply).unwrap();
    assert!(reply.ends_with(&body), "the whole of the body arrived: {} bytes", reply.len());
    assert_bounded(largest, before, "a paused download");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_process_that_never_reads_its_input_holds_up_nobody() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let before = resident_kib(&devhost);
    let (_master, socket) = master(&devhost, &alice, "never-reads", &[]);
    let reuse = alice.line(&["-o", &socket]);
    // More than every window and buffer on the way, and never read.
    let stuck = Run::shell(&format!("head -c 64M /dev/zero | {reuse} 'echo started; sleep 60'")).start();
    let mut stuck = stuck;
    stuck.expect_stdout("started\n");
    let watch = Stopwatch::start();
    let ((), largest) = largest_while(&devhost, || {
        let sent = random_bytes(1 << 20);
        let done = alice.ssh_with(["-o", &socket], "cat").input(sent.clone()).ok();
        done.stdout_is(&sent).took_at_most(Duration::from_secs(3));
        if watch.elapsed() < AWAY { Err("stuck".to_owned()) } else { Ok(()) }
    });
    assert!(stuck.is_running());
    assert_bounded(largest, before, "input that is never read");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn ten_of_fifty_channels_are_stuck_and_forty_run_as_if_alone() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    alice.ssh("true").ok();
    let before = resident_kib(&devhost);
    let socket = format!("ControlPath={}", devhost.directory().join("fifty").display());
    let mut master = alice.ssh_only(["-o", &socket, "-o", "ControlMaster=yes", "-N"]).start();
    until_succeeds("the master", LIMIT, || alice.ssh_only(["-o", &socket, "-O", "check"]));
    let reuse = alice.line(&["-o", &socket]);
    let away = AWAY.as_secs();
    // Five are not read here, five not there; all have more to say than fits in any window.
    let stuck: Vec<_> = (0..10)
        .map(|number| match number % 2 {
            0 => Run::shell(&format!(
                "{reuse} 'head -c 12M /dev/zero' | (sleep {away}; exec sha256sum) | cut -c -16"
            )),
            _ => Run::shell(&format!(
                "head -c 12M /dev/zero | {reuse} '(sleep {away}; exec sha256sum)' | cut -c -16"
            )),
        })
        .map(Run::start)
        .collect();
    let watch = Stopwatch::start();
    let lively: Vec<_> = (0..40)
        .map(|number| {
            let command =
                format!("echo {number}; head -c 1M /dev/zero | sha256sum | cut -c -16; exit {number}");
            alice.ssh_with(["-o", &socket], &command).start()
        })
        .collect();
    let sum =
        |count: &str| Run::shell(&format!("head -c {count} /dev/zero | sha256sum | cut -c -16")).ok().text();
    let (small, large) = (sum("1M"), sum("12M"));
    for (number, mut one) in (0..).zip(lively) {
        let said = format!("{number}\n{small}\n");
        one.finish_within(LIMIT).code(number).stdout_is(said);
    }
    watch.assert_between(Duration::ZERO, AWAY, "forty channels beside ten that are stuck");
    let mut stuck = stuck;
    let ((), largest) = largest_while(&devhost, || {
        if stuck.iter_mut().any(Running::is_running) { Err("running".to_owned()) } else { Ok(()) }
    });
    for mut one in stuck {
        one.finish_within(LIMIT).code(0).stdout_is(format!("{large}\n"));
    }
    assert!(master.is_running());
    assert_bounded(largest, before, "ten of fifty stuck");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn keys_are_exchanged_at_any_moment() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    alice.ssh("true").ok();
    let before = resident_kib(&devhost);
    // A gigabyte, half of it each way at once, with a new key for every mebibyte of either direction.
    let ssh = alice.line(&["-o", "RekeyLimit=1M", "-v"]);
    let (log, sent) = (devhost.directory().join("rekeys"), devhost.directory().join("sent"));
    let sent = sent.display().to_string();
    let line = format!(
        "head -c 512M /dev/urandom | tee >(sha256sum >{sent}) | {ssh} -E {} cat | sha256sum",
        log.display(),
    );
    let mut running = Run::shell(&line).start();
    let ((), largest) =
        largest_while(&devhost, || if running.is_running() { Err("running".to_owned()) } else { Ok(()) });
    let done = running.finish_within(LIMIT).code(0);
    assert_eq!(done.text(), fs::read_to_string(&sent).unwrap().trim(), "what came back is what was sent");
    let exchanges = fs::read_to_string(&log).unwrap().matches("SSH2_MSG_NEWKEYS received").count();
    assert!(exchanges > 400, "only {exchanges} key exchanges during 1 GiB");
    assert_bounded(largest, before, "a new key every mebibyte");
}
