//! The program as its service manager has it: renewed, restarted, killed, while people are connected. The test plays
//! systemd: it holds the listening socket, hears the notifications, and counts processes.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use crate::support::{Answer, Gateway, Site, config, keygen, output, prepare, text};
use crate::{children, eventually};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The user that the gateway runs as when tests are root: it refuses to be root itself.
const NOBODY: u32 = 65534;
/// Between two signs of life, twice over, as `WatchdogSec` says.
const WATCHDOG: Duration = Duration::from_millis(400);

/// A gateway under its service manager.
struct Service {
    site: Site,
    listener: TcpListener,
    /// What it has been notified of, in order.
    told: Arc<Mutex<Vec<String>>>,
    supervisor: Child,
}

impl Service {
    async fn start(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path()).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        configure(dir.path(), settings);
        let site = Site::start(dir, address, Answer::the_box()).await;
        let told = hear(site.dir.path());
        install(site.dir.path()).await;
        let supervisor = supervisor(site.dir.path(), &listener);
        let service = Self { site, listener, told, supervisor };
        service.ready(1).await;
        service
    }

    /// Starts it once more with the same socket, after its end.
    async fn start_again(&mut self) {
        let times = self.count("READY=1");
        self.supervisor = supervisor(self.site.dir.path(), &self.listener);
        self.ready(times + 1).await;
    }

    /// Waits until it has been ready so often.
    async fn ready(&self, times: usize) {
        eventually(&format!("READY=1 for the {times}. time"), || self.count("READY=1") >= times).await;
    }

    async fn renew(&self) {
        let times = self.count("READY=1");
        self.signal(Signal::SIGHUP);
        self.ready(times + 1).await;
    }

    /// Tells it to end with `signal`, and says how it does.
    async fn ended_by(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.ended().await
    }

    async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.supervisor.wait()).await.expect("the supervisor goes on").unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.supervisor.id().unwrap().cast_signed()), signal).unwrap();
    }

    /// How many of the notifications' lines are `line`.
    fn count(&self, line: &str) -> usize {
        self.told.lock().unwrap().iter().filter(|told| *told == line).count()
    }

    /// The status that it gave last.
    fn status(&self) -> String {
        let told = self.told.lock().unwrap();
        told.iter().rev().find_map(|line| line.strip_prefix("STATUS=")).unwrap_or_default().to_owned()
    }

    /// Its worker processes, the oldest first.
    fn workers(&self) -> Vec<Pid> {
        let program = self.site.path("boxgate-gateway").display().to_string();
        let is_worker = |pid: i32| {
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.starts_with(&program) && words.contains("--worker")
        };
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut workers: Vec<i32> = pids.filter(|&pid| is_worker(pid)).collect();
        workers.sort_by_key(|pid| started(*pid));
        workers.into_iter().map(Pid::from_raw).collect()
    }

    async fn left_with(&self, workers: usize) {
        eventually(&format!("{workers} workers"), || self.workers().len() == workers).await;
    }

    fn log(&self) -> String {
        fs::read_to_string(self.site.path("gateway.log")).unwrap()
    }

    async fn logs(&self, words: &str) {
        let waited = timeout(PATIENCE, async {
            while !self.log().contains(words) {
                sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(waited.await.is_ok(), "no {words:?} in\n{}", self.log());
    }

    async fn login_works(&self) {
        let ran = self.site.run("echo in").await;
        assert_eq!(text(&ran.stdout), "in\n", "{}\n{}", text(&ran.stderr), self.log());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\ntold: {:?}", self.log(), self.told.lock().unwrap());
        }
        // Whoever is left when a test fails, workers without a supervisor among them.
        let supervisor = self.supervisor.id().map(|id| Pid::from_raw(id.cast_signed()));
        for pid in supervisor.into_iter().chain(self.workers()) {
            kill(pid, Signal::SIGKILL).ok();
        }
    }
}

/// When a process was started, in clock ticks (proc(5), field 22).
fn started(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(19).find_map(|field| field.parse().ok()).unwrap_or_default()
}

/// The settings of before are replaced, as an operator does.
fn configure(dir: &Path, settings: &str) {
    fs::write(dir.join("boxgate.toml"), config(dir, settings)).unwrap();
}

/// Puts the program where the gateway's user may run it, which is not where it was built.
async fn install(dir: &Path) {
    fs::copy(env!("CARGO_BIN_EXE_boxgate-gateway"), dir.join("boxgate-gateway")).unwrap();
    fs::create_dir(dir.join("gateway")).unwrap();
    // Making this one takes the program seconds, and half a minute on a machine that does much else.
    keygen(&dir.join("gateway/ssh_host_rsa_key"), &["-t", "rsa", "-b", "3072"]).await;
    fs::write(dir.join("gateway.log"), "").unwrap();
    if nix::unistd::geteuid().is_root() {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        for mine in ["gateway", "gateway/ssh_host_rsa_key", "provisioner.sock", "notify"] {
            chown(dir.join(mine), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
}

/// Hears the notifications (`sd_notify(3)`).
fn hear(dir: &Path) -> Arc<Mutex<Vec<String>>> {
    let socket = UnixDatagram::bind(dir.join("notify")).unwrap();
    let told = Arc::<Mutex<Vec<String>>>::default();
    let lines = Arc::clone(&told);
    std::thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(length) = socket.recv(&mut message) {
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            lines.lock().unwrap().extend(text.lines().map(str::to_owned));
        }
    });
    told
}

fn supervisor(dir: &Path, listener: &TcpListener) -> Child {
    let log = fs::OpenOptions::new().append(true).open(dir.join("gateway.log")).unwrap();
    let drop_root = format!(
        "setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --bounding-set -all --no-new-privs"
    );
    let drop_root = if nix::unistd::geteuid().is_root() { drop_root } else { String::new() };
    // The variables name the process that they are for, as systemd's do.
    let line = format!(
        "LISTEN_PID=$$ WATCHDOG_PID=$$ exec {drop_root} {0}/boxgate-gateway --config {0}/boxgate.toml",
        dir.display()
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &line]).stdin(Stdio::null()).stderr(log);
    command.env("NOTIFY_SOCKET", dir.join("notify")).env("LISTEN_FDS", "1").env_remove("RUST_LOG");
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let parent_fd = OwnedFd::from(listener.try_clone().unwrap());
    command.fd_mappings(vec![FdMapping { parent_fd, child_fd: 3 }]).unwrap();
    Command::from(command).kill_on_drop(true).spawn().unwrap()
}

/// A connection in which what is sent comes back.
struct Echo {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Echo {
    async fn open(site: &Site) -> Self {
        let mut ssh = site.ssh("alice", "alice");
        let piped = ssh.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut echo = Self { child, stdin, stdout };
        echo.works().await;
        echo
    }

    async fn works(&mut self) {
        let mut back = [0; 5];
        self.stdin.write_all(b"ping\n").await.unwrap();
        timeout(PATIENCE, self.stdout.read_exact(&mut back)).await.expect("no echo").unwrap();
        assert_eq!(&back, b"ping\n");
    }

    /// Ends it from this side, which must go well.
    async fn close(self) {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
    }

    /// What the client prints when the gateway ends it.
    async fn cut(self) -> String {
        let Self { child, stdin, .. } = self;
        let ended =
            timeout(PATIENCE, child.wait_with_output()).await.expect("the connection goes on").unwrap();
        drop(stdin);
        assert_eq!(ended.status.code(), Some(255));
        text(&ended.stderr)
    }
}

#[tokio::test]
async fn a_transfer_goes_on_through_renewals_and_a_restart() {
    const BLOCK: usize = 64 << 10;
    let mut service = Service::start("").await;
    let Echo { mut child, mut stdin, mut stdout } = Echo::open(&service.site).await;
    let (done, mut is_done) = tokio::sync::watch::channel(false);
    let writing = tokio::spawn(async move {
        let mut sent = Vec::new();
        while !*is_done.borrow_and_update() {
            let block: Vec<u8> = (0..=250).cycle().skip(sent.len() % 251).step_by(7).take(BLOCK).collect();
            stdin.write_all(&block).await.unwrap();
            sent.extend(block);
            sleep(Duration::from_millis(5)).await;
        }
        sent
    });
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        stdout.read_to_end(&mut got).await.unwrap();
        got
    });
    let first = service.workers();
    service.renew().await;
    service.renew().await;
    assert!(service.ended_by(Signal::SIGTERM).await.success(), "{}", service.log());
    service.start_again().await;
    service.login_works().await;
    assert_eq!(service.workers()[..1], first, "the first worker has the connection still");
    done.send(true).unwrap();
    let sent = writing.await.unwrap();
    let got = timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert!(sent.len() > BLOCK, "nothing was sent");
    assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
    assert!(child.wait().await.unwrap().success());
    service.left_with(1).await;
}

#[tokio::test]
async fn no_login_is_refused_meanwhile() {
    const LOGINS: usize = 40;
    let mut service = Service::start("").await;
    let mut logins = tokio::task::JoinSet::new();
    for lane in 0..2 {
        let commands: Vec<_> = (0..LOGINS / 2)
            .map(|number| {
                let mut ssh = service.site.ssh("alice", "alice");
                ssh.arg(format!("echo {lane}.{number}"));
                (format!("{lane}.{number}\n"), ssh)
            })
            .collect();
        logins.spawn(async move {
            for (expected, mut ssh) in commands {
                let ran = output(&mut ssh).await;
                assert_eq!(text(&ran.stdout), expected, "{}", text(&ran.stderr));
            }
        });
    }
    let mut renewals = 0;
    while !logins.is_empty() {
        if renewals % 4 == 3 {
            assert!(service.ended_by(Signal::SIGTERM).await.success());
            service.start_again().await;
        } else {
            service.renew().await;
        }
        renewals += 1;
        while let Some(ended) = logins.try_join_next() {
            ended.unwrap();
        }
    }
    assert!(renewals > 4, "only {renewals} renewals");
    service.left_with(1).await;
}

#[tokio::test]
async fn a_worker_that_cannot_start_leaves_the_one_before_it_serving() {
    let service = Service::start("").await;
    let mut before = Echo::open(&service.site).await;
    let workers = service.workers();
    configure(service.site.dir.path(), "drain = \"soon\"");
    service.renew().await;
    service.logs("gateway.drain: \"soon\" is not a time").await;
    service.logs("the worker was not renewed").await;
    before.works().await;
    service.login_works().await;
    assert_eq!(service.workers(), workers);
    assert!(service.status().contains("the last reload came to nothing"), "{}", service.status());

    configure(service.site.dir.path(), "");
    service.renew().await;
    service.login_works().await;
    assert!(!service.status().contains("nothing"), "{}", service.status());
    assert_eq!((service.workers().len(), service.workers()[0]), (2, workers[0]));
    before.close().await;
    service.left_with(1).await;
    service.logs("a worker has drained").await;
}

#[tokio::test]
async fn at_the_drain_limit_who_is_left_is_told_why() {
    let service = Service::start("drain = \"2s\"").await;
    let before = Echo::open(&service.site).await;
    service.renew().await;
    let after = Echo::open(&service.site).await;
    let told = before.cut().await;
    assert!(told.contains("the gateway was renewed 2s ago"), "{told}");
    after.close().await;
    service.left_with(1).await;
}

#[tokio::test]
async fn a_worker_does_not_outlive_a_supervisor_that_was_killed() {
    let mut service = Service::start("").await;
    let connected = Echo::open(&service.site).await;
    service.ended_by(Signal::SIGKILL).await;
    let told = connected.cut().await;
    assert!(told.contains("the gateway is being restarted"), "{told}");
    service.left_with(0).await;
}

#[tokio::test]
async fn a_worker_that_drains_outlives_any_end_of_its_supervisor() {
    let mut service = Service::start("").await;
    let mut connected = Echo::open(&service.site).await;
    service.renew().await;
    service.ended_by(Signal::SIGKILL).await;
    service.left_with(1).await;
    connected.works().await;
    connected.close().await;
    service.left_with(0).await;
}

#[tokio::test]
async fn a_worker_that_crashes_ends_its_supervisor_with_a_failure() {
    let mut service = Service::start("").await;
    let mut drained = Echo::open(&service.site).await;
    service.renew().await;
    kill(service.workers()[1], Signal::SIGKILL).unwrap();
    assert_eq!(service.ended().await.code(), Some(1));
    service.logs("the worker ended by itself (signal: 9 (SIGKILL))").await;
    drained.works().await;
    service.start_again().await;
    service.login_works().await;
}

#[tokio::test]
async fn an_interrupt_ends_everything() {
    let mut service = Service::start("").await;
    let before = Echo::open(&service.site).await;
    service.renew().await;
    let after = Echo::open(&service.site).await;
    assert!(service.ended_by(Signal::SIGINT).await.success());
    assert!(service.workers().is_empty());
    for connection in [before, after] {
        let told = connection.cut().await;
        assert!(told.contains("the gateway is being restarted"), "{told}");
    }
}

/// As `systemctl kill` does.
#[tokio::test]
async fn a_signal_for_all_processes_ends_connections_too() {
    let mut service = Service::start("").await;
    let connection = Echo::open(&service.site).await;
    for pid in service.workers() {
        kill(pid, Signal::SIGTERM).unwrap();
    }
    service.ended_by(Signal::SIGTERM).await;
    let told = connection.cut().await;
    assert!(told.contains("the gateway is being restarted"), "{told}");
    service.left_with(0).await;
}

#[tokio::test]
async fn the_worker_that_serves_is_the_one_that_is_watched() {
    let service = Service::start("").await;
    let draining = Echo::open(&service.site).await;
    service.renew().await;
    let pings = || service.count("WATCHDOG=1");
    let seen = pings();
    eventually("signs of life", || pings() > seen + 2).await;
    let serving = service.workers()[1];
    kill(serving, Signal::SIGSTOP).unwrap();
    // What was under way may still arrive.
    sleep(WATCHDOG).await;
    let seen = pings();
    sleep(3 * WATCHDOG).await;
    assert_eq!(pings(), seen, "the worker that serves has stopped, and somebody says that it lives");
    kill(serving, Signal::SIGCONT).unwrap();
    eventually("a sign of life", || pings() > seen).await;
    draining.close().await;
}

#[tokio::test]
async fn the_service_manager_is_told_what_goes_on() {
    let mut service = Service::start("").await;
    let address = service.site.address;
    eventually("a status", || service.status() == format!("Serving 0 connections on {address}")).await;
    let connection = Echo::open(&service.site).await;
    eventually("a count", || service.status() == format!("Serving 1 connection on {address}")).await;
    service.renew().await;
    let expected = format!("Serving 0 connections on {address}; 1 connection of before in 1 draining worker");
    eventually("what drains", || service.status() == expected).await;
    connection.close().await;
    service.ended_by(Signal::SIGTERM).await;
    let told = service.told.lock().unwrap().clone();
    let states = told.iter().filter(|line| !line.starts_with("STATUS") && !line.starts_with("WATCHDOG"));
    let states: Vec<_> = states.map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(states, ["READY", "RELOADING", "MONOTONIC_USEC", "READY", "STOPPING"]);
}

#[tokio::test]
async fn a_server_that_drains_gives_up_its_spares_and_reports_to_its_end() {
    let mut gateway = Gateway::start(Answer::the_box()).await;
    let connection = Echo::open(&gateway).await;
    let connections = || children(gateway.sshd_pid()).len();
    eventually("a spare connection", || connections() == 2).await;
    gateway.orders.drain.cancel();
    eventually("the end of the spare connection", || connections() == 1).await;
    let count = || gateway.reports.lock().unwrap().len();
    let seen = count();
    eventually("further reports", || count() > seen + 1).await;
    let last = || gateway.reports.lock().unwrap().last().unwrap().boxes.clone();
    assert_eq!(last()[0].connections, 1);
    connection.close().await;
    timeout(PATIENCE, &mut gateway.served).await.expect("it goes on without connections").unwrap();
    assert_eq!(gateway.reports.lock().unwrap().last().unwrap().boxes[0].connections, 0);
}
