//! A provisioner that speaks the API over boxes in memory, and `boxgate` run against it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{
    BOXES_PATH, BoxState, BoxSummary, Engine, Failure, FailureCode, Firewall, GC_PATH, GcReport, GcRequest,
    HEALTH_PATH, Health, KEEP_PATH, KeepRequest, Kept, LOGS_PATH, Limits, ORDER_PATH, OrderEvent,
    OrderRequest, Orphan, Progress, Refusal, Usage,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_boxgate");

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the provisioner was asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    Boxes { usage: bool },
    Order(OrderRequest),
    Keep(KeepRequest),
    Logs(String),
    Gc(GcRequest),
}

#[derive(Debug, Default)]
struct World {
    boxes: Vec<BoxSummary>,
    failures: Vec<(DevBoxId, Failure)>,
    orphans: Vec<Orphan>,
    refuses: bool,
    asked: Vec<Asked>,
}

type Shared = Arc<Mutex<World>>;

pub(crate) struct Site {
    directory: TempDir,
    world: Shared,
    serving: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Site {
    /// With these boxes, all of them ready.
    pub(crate) async fn with(boxes: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let boxes = boxes.iter().map(|id| devbox(id)).collect();
        let world = Shared::new(Mutex::new(World { boxes, ..World::default() }));
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let router = router(Arc::clone(&world));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let site = Self { directory, world, serving };
        let path = |name: &str| site.directory().join(name).display().to_string();
        let config = format!(
            "[provisioner]\nsocket = {:?}\nstate_dir = {:?}\ndocker_socket = {:?}\ngateway_user = \"root\"\n",
            path("socket"),
            path("state"),
            path("docker.sock"),
        );
        tokio::fs::write(site.config(), config).await.unwrap();
        site
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory().join("socket")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory().join("boxgate.toml")
    }

    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut BoxSummary)) {
        let id = DevBoxId::parse(id).unwrap();
        change(self.world().boxes.iter_mut().find(|devbox| devbox.id == id).unwrap());
    }

    /// Orders for this box fail.
    pub(crate) fn fail(&self, id: &str, failure: Failure) {
        self.world().failures.push((DevBoxId::parse(id).unwrap(), failure));
    }

    pub(crate) fn leave(&self, orphan: Orphan) {
        self.world().orphans.push(orphan);
    }

    /// Whoever asks is not served.
    pub(crate) fn refuse(&self) {
        self.world().refuses = true;
    }

    /// What was asked since the last time this was called.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.world().asked)
    }

    /// The boxes among them that were to be changed, sorted.
    pub(crate) fn ordered(&self) -> Vec<String> {
        let orders = self.asked().into_iter().filter_map(|asked| match asked {
            Asked::Order(order) => Some(order.devbox.to_string()),
            _ => None,
        });
        let mut ordered: Vec<_> = orders.collect();
        ordered.sort();
        ordered
    }

    /// With this site's configuration and no terminal.
    pub(crate) async fn run(&self, words: &[&str]) -> Finished {
        let config = self.config();
        self.run_alone(&[&["--config", config.to_str().unwrap()], words].concat()).await
    }

    pub(crate) async fn run_alone(&self, words: &[&str]) -> Finished {
        let mut command = Command::new(PROGRAM);
        command.args(words);
        finished(command).await
    }

    pub(crate) async fn shell(&self, line: &str) -> Finished {
        let mut command = Command::new("bash");
        command.args(["-c", line]);
        finished(command).await
    }

    /// On a pseudo-terminal of script(1), where `keys` are typed once `prompt` was shown. Both streams are one there.
    pub(crate) async fn on_a_terminal(&self, words: &[&str], prompt: &str, keys: &str) -> Finished {
        let line = format!("{PROGRAM} --config {} {}", self.config().display(), words.join(" "));
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
        command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let talk = async {
            let mut said = Vec::new();
            while !String::from_utf8_lossy(&said).contains(prompt) {
                assert_ne!(
                    stdout.read_buf(&mut said).await.unwrap(),
                    0,
                    "{}",
                    String::from_utf8_lossy(&said)
                );
            }
            stdin.write_all(keys.as_bytes()).await.unwrap();
            stdout.read_to_end(&mut said).await.unwrap();
            (child.wait().await.unwrap(), said)
        };
        let (status, said) = timeout(PATIENCE, talk).await.unwrap();
        Finished {
            code: status.code(),
            stdout: String::from_utf8_lossy(&said).into_owned(),
            stderr: String::new(),
        }
    }
}

async fn finished(mut command: Command) -> Finished {
    command.stdin(Stdio::null()).kill_on_drop(true).env_remove("NO_COLOR");
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Finished {
    code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, Some(expected), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn stdout_is(self, expected: &str) -> Self {
        assert_eq!(self.stdout, expected);
        self
    }

    #[track_caller]
    pub(crate) fn stderr_is(self, expected: &str) -> Self {
        assert_eq!(self.stderr, expected);
        self
    }
}

/// A box that is ready.
fn devbox(id: &str) -> BoxSummary {
    BoxSummary {
        id: DevBoxId::parse(id).unwrap(),
        state: BoxState::Ready,
        reason: None,
        since: Some("2026-01-01T00:00:00Z".to_owned()),
        container: format!("boxgate.{}", id.replace('+', ".")),
        image: Some("boxgate/box:latest".to_owned()),
        outdated: false,
        isolated: true,
        address: Some([10, 201, 0, 2].into()),
        connections: 2,
        idle_seconds: Some(7),
        keep_until: None,
        limits: Limits { cpus: 1.5, memory_bytes: 1 << 30, pids: 4096, disk_bytes: None },
        usage: None,
        disk_bytes: None,
    }
}

pub(crate) fn failure(code: FailureCode, message: &str, remedy: &str) -> Failure {
    Failure { code, message: message.to_owned(), remedy: remedy.to_owned(), retryable: false }
}

fn router(world: Shared) -> Router {
    Router::new()
        .route(BOXES_PATH, get(boxes))
        .route(HEALTH_PATH, get(health))
        .route(ORDER_PATH, post(order))
        .route(KEEP_PATH, post(keep))
        .route(LOGS_PATH, get(logs))
        .route(GC_PATH, post(gc))
        .with_state(world)
}

async fn boxes(State(world): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let usage = query.as_deref() == Some("usage=true");
    let mut world = world.lock().unwrap();
    world.asked.push(Asked::Boxes { usage });
    let mut boxes = world.boxes.clone();
    for devbox in boxes.iter_mut().filter(|_| usage) {
        devbox.usage = Some(Usage { cpus: 0.25, memory_bytes: 60 << 20, pids: 40 });
        devbox.disk_bytes = Some(3 << 30);
    }
    Json(boxes).into_response()
}

async fn health() -> Json<Health> {
    Json(Health {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engine: Engine::Ok,
        firewall: Firewall::Ok,
        isolated: true,
    })
}

async fn order(State(world): State<Shared>, Json(asked): Json<OrderRequest>) -> Response {
    let mut world = world.lock().unwrap();
    if world.refuses {
        let error = "user 7 is not served here".to_owned();
        return (StatusCode::FORBIDDEN, Json(Refusal { error })).into_response();
    }
    let failed = world.failures.iter().find(|(id, _)| *id == asked.devbox);
    let last = failed.map_or(OrderEvent::Done, |(_, failure)| OrderEvent::Failed(failure.clone()));
    let events = [OrderEvent::Progress(Progress { text: "working on it".to_owned() }), last];
    world.asked.push(Asked::Order(asked));
    events.map(|event| serde_json::to_string(&event).unwrap() + "\n").concat().into_response()
}

async fn keep(State(world): State<Shared>, Json(asked): Json<KeepRequest>) -> Json<Kept> {
    let until = (asked.seconds > 0).then(|| "2026-03-01T20:00:00Z".to_owned());
    world.lock().unwrap().asked.push(Asked::Keep(asked));
    Json(Kept { until })
}

async fn logs(State(world): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap();
    if query.starts_with("box=bob&") {
        let failure = failure(FailureCode::NoSuchBox, "there is no box bob", "none");
        return (StatusCode::NOT_FOUND, Json(failure)).into_response();
    }
    world.lock().unwrap().asked.push(Asked::Logs(query));
    "[ OK ] booted\nlogin:\n".into_response()
}

async fn gc(State(world): State<Shared>, Json(asked): Json<GcRequest>) -> Json<GcReport> {
    let mut world = world.lock().unwrap();
    let mut orphans = world.orphans.clone();
    for orphan in &mut orphans {
        orphan.removed = asked.remove && orphan.fault.is_none();
    }
    world.asked.push(Asked::Gc(asked));
    Json(GcReport { orphans })
}
