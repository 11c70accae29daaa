//! A gateway in this process, between the real `ssh` and the real `sshd`; only the provisioner is a
//! stand-in, which answers what the test tells it to. Needs no container engine.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use boxgate_config::Config;
use boxgate_gateway::leash::Orders;
use boxgate_gateway::listeners;
use boxgate_gateway::server::Server;
use boxgate_provisioner_api::{ENSURE_PATH, Endpoint, EnsureEvent, Failure, Progress, USE_PATH, UseReport};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Longest that any client of a test may take.
const CLIENT_LIMIT: Duration = Duration::from_secs(60);

/// What the stand-in provisioner says to a request.
pub(crate) enum Answer {
    /// Some progress, then the sshd of the test.
    Box {
        progress: Vec<&'static str>,
        isolated: bool,
    },
    Failure(Failure),
    /// The box's sshd, but another host key than it has.
    WrongHostKey,
    /// Nothing, ever.
    Silence,
}

impl Answer {
    pub(crate) fn the_box() -> Self {
        Self::Box { progress: Vec::new(), isolated: true }
    }
}

/// All but the gateway itself: keys and configuration, the box's sshd, the provisioner.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    /// Where the gateway listens.
    pub(crate) address: SocketAddr,
    /// Where the box's sshd listens.
    pub(crate) box_address: SocketAddr,
    /// Requests that reached the provisioner.
    pub(crate) asked: Arc<AtomicUsize>,
    /// What it was told of the use of boxes.
    pub(crate) reports: Arc<Mutex<Vec<UseReport>>>,
    sshd: Child,
}

pub(crate) struct Gateway {
    site: Site,
    pub(crate) orders: Orders,
    /// Ends with the gateway.
    pub(crate) served: JoinHandle<()>,
}

impl Deref for Gateway {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.orders.end.cancel();
    }
}

impl Gateway {
    pub(crate) async fn start(answer: Answer) -> Self {
        Self::start_with("", answer).await
    }

    /// `settings` are lines of the `[gateway]` table, and tables that follow it; `DIR` in them is the test's
    /// directory.
    pub(crate) async fn start_with(settings: &str, answer: Answer) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings, answer).await
    }

    /// The same in a directory in which the test has put something.
    pub(crate) async fn start_in(dir: TempDir, settings: &str, answer: Answer) -> Self {
        prepare(dir.path()).await;
        let config = Config::parse(Path::new("test.toml"), &config(dir.path(), settings)).unwrap();
        let listeners = listeners::bind(&config.gateway.listen).await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listeners[0].local_addr().unwrap().port()));
        let server = Server::new(config, listeners).unwrap();
        let site = Site::start(dir, address, answer).await;
        let orders = Orders::default();
        let ends = tokio::spawn(server.run(orders.clone()));
        Self { site, orders, served: ends }
    }
}

impl Site {
    /// In a directory that was [prepared](prepare).
    pub(crate) async fn start(dir: TempDir, address: SocketAddr, answer: Answer) -> Self {
        let (sshd, box_address) = sshd(dir.path()).await;
        let (asked, reports) = (Arc::default(), Arc::default());
        provisioner(dir.path(), box_address, answer, Arc::clone(&asked), Arc::clone(&reports));
        Self { dir, address, box_address, asked, reports, sshd }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `ssh` as `login` with a key of the test's directory; more arguments may follow.
    pub(crate) fn ssh(&self, login: &str, key: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
            .args(["-o", "StrictHostKeyChecking=accept-new", "-o"])
            .arg(format!("UserKnownHostsFile={}", self.path("known_hosts").display()))
            .env_remove("SSH_AUTH_SOCK")
            .args(["-p", &self.address.port().to_string(), "-l", login, "-i"])
            .arg(self.path(key))
            .arg("127.0.0.1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        ssh
    }

    pub(crate) fn sshd_pid(&self) -> u32 {
        self.sshd.id().unwrap()
    }

    /// Makes a key and writes the line `options KEY` of alice's file. What the file says already stays.
    pub(crate) async fn key_of_alices(&self, name: &str, options: &str, kind: &[&str]) {
        keygen(&self.path(name), kind).await;
        let key = fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        self.line_of_alices(&format!("{options} {}", key.trim()));
    }

    /// Appends a line to alice's file.
    pub(crate) fn line_of_alices(&self, line: &str) {
        let mut file =
            fs::OpenOptions::new().append(true).create(true).open(self.path("keys.d/alice")).unwrap();
        writeln!(file, "{}", line.trim()).unwrap();
    }

    /// Runs a command in the box as alice with another key.
    pub(crate) async fn run_with(&self, key: &str, options: &[&str], command: &str) -> Output {
        let mut ssh = self.ssh("alice", key);
        // Options come before the host, which is there already: ssh takes them after it as well.
        output(ssh.args(options).arg(command)).await
    }

    /// Runs a command in the box as alice.
    pub(crate) async fn run(&self, command: &str) -> Output {
        output(self.ssh("alice", "alice").arg(command)).await
    }
}

pub(crate) async fn output(command: &mut Command) -> Output {
    let output = timeout(CLIENT_LIMIT, command.output()).await;
    output.unwrap_or_else(|_| panic!("took longer than {CLIENT_LIMIT:?}: {command:?}")).unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes a key pair, an ed25519 one unless `options` say another.
pub(crate) async fn keygen(file: &Path, options: &[&str]) {
    let mut keygen = Command::new("ssh-keygen");
    let made = output(keygen.args(["-q", "-N", "", "-t", "ed25519"]).args(options).arg("-f").arg(file)).await;
    assert!(made.status.success(), "{}", text(&made.stderr));
}

/// Makes the keys of those who come, and of the box.
pub(crate) async fn prepare(dir: &Path) {
    fs::create_dir(dir.join("keys.d")).unwrap();
    for name in ["alice", "stranger", "box_host"] {
        keygen(&dir.join(name), &[]).await;
    }
}

/// The configuration; see [`Gateway::start_with`].
pub(crate) fn config(dir: &Path, settings: &str) -> String {
    let key = fs::read_to_string(dir.join("alice.pub")).unwrap();
    let dir_text = dir.display();
    let settings = settings.replace("DIR", &dir_text.to_string());
    // What is hers goes to her table, which stands last.
    let (users, settings): (Vec<_>, Vec<_>) = settings.lines().partition(|line| line.starts_with("key_urls"));
    let (users, settings) = (users.join("\n"), settings.join("\n"));
    let listen = if settings.contains("listen = ") { "" } else { "listen = [\"127.0.0.1:0\"]\n" };
    format!(
        "[gateway]\n{listen}state_dir = \"{dir_text}/gateway\"\n\
         authorized_keys_dir = \"{dir_text}/keys.d\"\n{settings}\n\
         [provisioner]\nsocket = \"{dir_text}/provisioner.sock\"\n[users.alice]\nkeys = [\"{}\"]\n{users}",
        key.trim()
    )
}

/// A real sshd on loopback that trusts the gateway's CA, as a box's does.
async fn sshd(dir: &Path) -> (Child, SocketAddr) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = dir.join("sshd_config");
    // sshd insists on its privilege separation directory when it runs as root.
    if nix::unistd::geteuid().is_root() {
        fs::create_dir_all("/run/sshd").unwrap();
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    let dir = dir.display();
    let text = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/box_host\nPidFile none\n\
         TrustedUserCAKeys {dir}/gateway/user_ca_ed25519_key.pub\nAuthorizedKeysFile none\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin yes\n\
         MaxStartups 1000\nMaxSessions 1000\nStrictModes no\nSubsystem sftp internal-sftp\n"
    );
    fs::write(&file, text).unwrap();
    let sshd = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(&file)
        .stderr(fs::File::create(format!("{dir}/sshd.log")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .expect("/usr/sbin/sshd: install openssh-server (./devhost test does)");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return (sshd, address);
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("sshd does not listen: {}", fs::read_to_string(format!("{dir}/sshd.log")).unwrap());
}

struct Provisioner {
    answer: Answer,
    endpoint: Endpoint,
    stranger: String,
    asked: Arc<AtomicUsize>,
    reports: Arc<Mutex<Vec<UseReport>>>,
}

fn provisioner(
    dir: &Path,
    address: SocketAddr,
    answer: Answer,
    asked: Arc<AtomicUsize>,
    reports: Arc<Mutex<Vec<UseReport>>>,
) {
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap().trim().to_owned();
    let isolated = !matches!(answer, Answer::Box { isolated: false, .. });
    let unix_user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let endpoint = Endpoint { address, host_key: read("box_host.pub"), unix_user, isolated };
    let state = Provisioner { answer, endpoint, stranger: read("stranger.pub"), asked, reports };
    let app = Router::new().route(ENSURE_PATH, post(ensure)).route(USE_PATH, post(hear));
    let app = app.with_state(Arc::new(state));
    let listener = tokio::net::UnixListener::bind(dir.join("provisioner.sock")).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
}

async fn hear(State(provisioner): State<Arc<Provisioner>>, Json(report): Json<UseReport>) -> StatusCode {
    provisioner.reports.lock().unwrap().push(report);
    StatusCode::NO_CONTENT
}

async fn ensure(State(provisioner): State<Arc<Provisioner>>) -> String {
    provisioner.asked.fetch_add(1, SeqCst);
    let endpoint = provisioner.endpoint.clone();
    let events = match &provisioner.answer {
        Answer::Box { progress, .. } => progress
            .iter()
            .map(|text| EnsureEvent::Progress(Progress { text: (*text).to_owned() }))
            .chain([EnsureEvent::Ready(endpoint)])
            .collect(),
        Answer::Failure(failure) => vec![EnsureEvent::Failed(failure.clone())],
        Answer::WrongHostKey => {
            vec![EnsureEvent::Ready(Endpoint { host_key: provisioner.stranger.clone(), ..endpoint })]
        }
        Answer::Silence => std::future::pending().await,
    };
    events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect()
}
