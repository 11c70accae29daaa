//! The API over a real socket, with a fake engine behind it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use boxgate_config::Config;
use boxgate_provisioner_api::{
    BackupRequest, BoxUse, Client, ClientError, Engine, FailureCode, MAX_LINE, Order, Piece, RestoreRequest,
    UseReport,
};
use nix::unistd::Uid;
use rstest::rstest;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::backend::fake::{Boot, Fake};
use crate::ensure::Ensurer;
use crate::testing;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A provisioner on a socket of its own.
struct Setup {
    directory: TempDir,
    config: Config,
    fake: Fake,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Setup {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Server)) -> Self {
        let directory = TempDir::new().unwrap();
        let config = testing::config_in(&directory);
        let (fake, shutdown) = (Fake::new(), CancellationToken::new());
        let fleet = Fleet::new(Ensurer::new(fake.clone(), Arc::new(config.clone())), shutdown.clone());
        let mut server = Server::bind(&config.provisioner).await.unwrap();
        change(&mut server);
        let serving = tokio::spawn(server.serve(fleet, shutdown.clone()));
        Self { directory, config, fake, shutdown, serving }
    }

    fn socket(&self) -> &Path {
        &self.config.provisioner.socket
    }

    fn client(&self) -> Client {
        Client::new(self.socket())
    }

    /// The whole answer to a request written by hand.
    async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    async fn post(&self, body: &str) -> String {
        let length = body.len();
        let head =
            format!("POST /v1/ensure HTTP/1.1\r\nhost: p\r\nconnection: close\r\ncontent-length: {length}");
        self.raw(&format!("{head}\r\n\r\n{body}")).await
    }
}

fn request(id: &str) -> EnsureRequest {
    let (devbox, user_ca) = (testing::id(id), testing::USER_CA.to_owned());
    EnsureRequest { devbox, user_ca, client: "SHA256:x from 203.0.113.7:51234".to_owned() }
}

#[tokio::test]
async fn ensure_streams_progress_and_ends_with_the_endpoint() {
    let setup = Setup::new().await;
    let mut told = Vec::new();
    let endpoint =
        setup.client().ensure(&request("alice"), |progress| told.push(progress.text)).await.unwrap();
    assert_eq!((endpoint.address.port(), endpoint.unix_user.as_str()), (22, "alice"));
    assert!(endpoint.host_key.starts_with("ssh-ed25519 "));
    assert_eq!(told, ["making your box (first login, a few seconds)", "waiting for it to boot"]);

    let again = setup.client().ensure(&request("alice"), |progress| panic!("{progress:?}")).await.unwrap();
    assert_eq!(again, endpoint);
}

#[tokio::test]
async fn the_stream_is_one_event_a_line() {
    let setup = Setup::new().await;
    let answer = setup.post(&serde_json::to_string(&request("alice")).unwrap()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("application/x-ndjson"), "{answer}");
    let events: Vec<_> = answer.lines().filter(|line| line.starts_with('{')).collect();
    assert!(events[0].starts_with(r#"{"event":"progress","text":"making"#), "{answer}");
    assert!(events.last().unwrap().starts_with(r#"{"event":"ready","address":"10.201.0.2:22""#), "{answer}");
}

#[tokio::test]
async fn a_failure_is_the_last_event() {
    let setup = Setup::new().await;
    setup.fake.world().images.clear();
    match setup.client().ensure(&request("alice"), |_| {}).await {
        Err(ClientError::Failed(failure)) => {
            assert_eq!(failure.code, FailureCode::ImageMissing);
            assert_eq!(failure.message, "box alice: the image boxgate/box:latest is not on this host");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_panic_is_told_as_a_failure() {
    let setup = Setup::new().await;
    setup.fake.world().boot = Boot::Panics;
    match setup.client().ensure(&request("alice"), |_| {}).await {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.code, FailureCode::Internal),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_work_going() {
    let setup = Setup::new().await;
    let (client, asked) = (setup.client(), request("alice"));
    let gone = timeout(Fake::BOOT / 4, client.ensure(&asked, |_| {})).await;
    assert!(gone.is_err(), "{gone:?}");
    // It goes on: whoever asks now waits for the rest of the same boot only.
    setup.client().ensure(&request("alice"), |_| {}).await.unwrap();
    assert_eq!(setup.fake.world().changes.len(), 5);
}

#[tokio::test]
async fn health_and_boxes() {
    let setup = Setup::new().await;
    assert_eq!(setup.client().boxes().await.unwrap(), []);
    setup.client().ensure(&request("alice+web"), |_| {}).await.unwrap();
    let boxes = setup.client().boxes().await.unwrap();
    assert_eq!((boxes.len(), boxes[0].container.as_str()), (1, "boxgate.alice.web"));
    assert_eq!(setup.client().boxes_with_usage().await.unwrap()[0].usage.map(|usage| usage.pids), Some(30));
    let health = setup.client().health().await.unwrap();
    assert_eq!((health.engine, health.isolated), (Engine::Ok, false));

    setup.fake.world().changes_left = Some(0);
    let health = setup.client().health().await.unwrap();
    assert!(matches!(health.engine, Engine::Unavailable { reason } if reason.contains("refused")));
    match setup.client().boxes().await {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.code, FailureCode::EngineUnavailable),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::no_json("alice", "400", "malformed")]
#[case::no_box(r#"{"user_ca":"","client":""}"#, "400", "missing field")]
#[case::odd_name(r#"{"devbox":"../etc","user_ca":"","client":""}"#, "400", "the box id")]
#[case::no_key(
    r#"{"devbox":"alice","user_ca":"nonsense","client":""}"#,
    "400",
    "user_ca is not one public key"
)]
#[case::too_long(&"x".repeat(MAX_REQUEST + 1), "413", "length limit")]
#[tokio::test]
async fn a_bad_request_is_refused_and_makes_nothing(
    #[case] body: &str,
    #[case] status: &str,
    #[case] reason: &str,
) {
    let setup = Setup::new().await;
    let answer = setup.post(body).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(r#"{"error":"#) && answer.contains(reason), "{answer}");
    assert_eq!(setup.fake.world().calls, 0);
}

#[rstest]
#[case("GET /v2/boxes", "404")]
#[case("GET /", "404")]
#[case("GET /v1/ensure", "405")]
#[case("DELETE /v1/boxes", "405")]
#[tokio::test]
async fn what_is_not_there(#[case] asked: &str, #[case] status: &str) {
    let setup = Setup::new().await;
    let answer = setup.raw(&format!("{asked} HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n")).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(r#"{"error":"#), "{answer}");
}

#[tokio::test]
async fn garbage_is_no_request() {
    let setup = Setup::new().await;
    let answer = setup.raw("SSH-2.0-OpenSSH_9.6\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn only_root_and_the_gateways_user_are_answered() {
    let own = Uid::current().as_raw();
    // The gateway is someone else; who asks is neither that nor root.
    let setup = Setup::with(|server| server.permitted.gateway = own + 1).await;
    let answer = if own == 0 { ask_as_nobody(&setup).await } else { refusal(setup.client().health().await) };
    assert!(answer.contains("is not served here"), "{answer}");
    assert_eq!(setup.fake.world().calls, 0);
}

#[tokio::test]
async fn the_socket_is_the_gateways_alone() {
    let setup = Setup::new().await;
    let found = fs::metadata(setup.socket()).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
}

fn refusal(answer: Result<Health, ClientError>) -> String {
    match answer {
        Err(ClientError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// Someone who is not root.
const NOBODY: u32 = 65_534;

/// Asks as that user, with the socket opened for all, so that only the peer check is left.
async fn as_nobody(setup: &Setup, arguments: &[&str]) -> String {
    fs::set_permissions(setup.directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(setup.socket(), Permissions::from_mode(0o666)).unwrap();
    let mut curl = Command::new("curl");
    curl.uid(NOBODY).gid(NOBODY).args(["--silent", "--include", "--unix-socket"]);
    let output = curl.arg(setup.socket()).args(arguments).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

async fn ask_as_nobody(setup: &Setup) -> String {
    let answer = as_nobody(setup, &["http://provisioner/v1/health"]).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    answer
}

#[tokio::test]
async fn a_shutdown_tells_who_waits_and_removes_the_socket() {
    let setup = Setup::new().await;
    setup.fake.world().boot = Boot::Hangs;
    let (client, shutdown) = (setup.client(), setup.shutdown.clone());
    let ended = client.ensure(&request("alice"), |_| shutdown.cancel()).await;
    assert!(matches!(&ended, Err(ClientError::Failed(failure)) if failure.code == FailureCode::ShuttingDown));
    timeout(PATIENCE, setup.serving).await.unwrap().unwrap();
    assert!(!setup.config.provisioner.socket.exists());
}

fn socket_in(directory: &TempDir) -> (Config, PathBuf) {
    let config = testing::config_in(directory);
    let socket = config.provisioner.socket.clone();
    (config, socket)
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let directory = TempDir::new().unwrap();
    let (config, socket) = socket_in(&directory);
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    Server::bind(&config.provisioner).await.unwrap();
}

#[tokio::test]
async fn a_second_provisioner_does_not_take_the_socket() {
    let setup = Setup::new().await;
    let fault = Server::bind(&setup.config.provisioner).await.unwrap_err();
    assert!(matches!(fault, ServerError::InUse(_)), "{fault}");
    setup.client().health().await.unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_not_removed() {
    let directory = TempDir::new().unwrap();
    let (config, socket) = socket_in(&directory);
    fs::write(&socket, "precious").unwrap();
    let fault = Server::bind(&config.provisioner).await.unwrap_err();
    assert!(matches!(fault, ServerError::NotASocket(_)), "{fault}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[tokio::test]
async fn an_unknown_gateway_user_is_said_at_the_start() {
    let directory = TempDir::new().unwrap();
    let (mut config, socket) = socket_in(&directory);
    config.provisioner.gateway_user = "no-such-user-here".to_owned();
    let fault = Server::bind(&config.provisioner).await.unwrap_err();
    assert!(fault.to_string().contains("there is no user no-such-user-here"), "{fault}");
    assert!(!socket.exists());
}

fn order(id: &str, order: Order) -> OrderRequest {
    OrderRequest { devbox: testing::id(id), order, client: "a test".to_owned() }
}

fn failure_code<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> FailureCode {
    match answer {
        Err(ClientError::Failed(failure)) => failure.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn orders_are_told_how_they_went() {
    let setup = Setup::new().await;
    let client = setup.client();
    assert_eq!(
        failure_code(client.order(&order("alice", Order::Stop), |_| {}).await),
        FailureCode::NoSuchBox
    );
    client.order(&order("alice", Order::New), |_| {}).await.unwrap();
    let mut told = Vec::new();
    client.order(&order("alice", Order::Reset), |progress| told.push(progress.text)).await.unwrap();
    assert!(told.contains(&"making your box anew, with your home as it was".to_owned()), "{told:?}");
    client.order(&order("alice", Order::Remove), |_| {}).await.unwrap();
    assert_eq!(client.boxes().await.unwrap(), []);
}

#[tokio::test]
async fn leases_logs_use_and_leftovers() {
    let setup = Setup::new().await;
    let client = setup.client();
    let keep = KeepRequest { devbox: testing::id("alice"), seconds: 3600, client: "a test".to_owned() };
    assert_eq!(failure_code(client.keep(&keep).await), FailureCode::NoSuchBox);
    let no_log = client.logs(&testing::id("alice"), 5, false, |_| {}).await;
    assert_eq!(failure_code(no_log), FailureCode::NoSuchBox);

    client.ensure(&request("alice+web"), |_| {}).await.unwrap();
    client.ensure(&request("alice"), |_| {}).await.unwrap();
    let until = client.keep(&keep).await.unwrap().until.unwrap();
    let boxes = vec![BoxUse { devbox: testing::id("alice"), connections: 3, idle_seconds: 0 }];
    client.report_use(&UseReport { gateway: "test".to_owned(), boxes }).await.unwrap();
    let listed = client.boxes().await.unwrap();
    assert_eq!((listed[0].connections, listed[0].keep_until.as_ref()), (3, Some(&until)));
    assert_eq!((listed[1].connections, listed[1].keep_until.as_ref()), (0, None));

    let mut log = Vec::new();
    client.logs(&testing::id("alice+web"), 5, true, |bytes| log.extend_from_slice(bytes)).await.unwrap();
    assert_eq!(String::from_utf8(log).unwrap(), "booting\ninit: nothing to run\n");
    assert_eq!(client.gc(&GcRequest { remove: true }).await.unwrap().orphans, []);
}

#[rstest]
#[case("POST", "/v1/order", "403")]
#[case("POST", "/v1/keep", "403")]
#[case("POST", "/v1/gc", "403")]
#[case("GET", "/v1/logs?box=alice", "403")]
#[case("GET", "/v1/clusters?box=alice", "403")]
#[case("GET", "/v1/boxes", "200")]
#[tokio::test]
async fn the_gateway_takes_nothing_from_anyone(
    #[case] method: &str,
    #[case] path: &str,
    #[case] status: &str,
) {
    let setup = Setup::with(|server| server.permitted.gateway = NOBODY).await;
    let answer = as_nobody(&setup, &["--request", method, &format!("http://provisioner{path}")]).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
}

#[tokio::test]
async fn a_gateway_is_told_of_the_lobby_and_believed_there() {
    let user_ca = PublicKey::from_openssh(testing::USER_CA).unwrap();
    let (door, host_key) = Door::make("/run/boxgate/lobby.sock".into()).unwrap();
    let told = door.clone();
    let setup = Setup::with(|server| server.door = Some(told)).await;
    let asked = |user_ca: &str| LobbyRequest { user_ca: user_ca.to_owned() };
    let endpoint = setup.client().lobby(&asked(testing::USER_CA)).await.unwrap();
    assert_eq!(endpoint.host_key, host_key.public_key().to_openssh().unwrap());
    assert!(door.believes(user_ca.key_data()));
    match setup.client().lobby(&asked("nonsense")).await {
        Err(ClientError::Protocol(fault)) => {
            assert!(fault.starts_with("user_ca is not one public key"), "{fault}");
        }
        other => panic!("{other:?}"),
    }
    assert!(Setup::new().await.client().lobby(&asked(testing::USER_CA)).await.is_err());
}

#[tokio::test]
async fn an_archive_comes_and_goes_over_the_socket() {
    const HOME: &str = "boxgate.alice.home";
    let setup = Setup::new().await;
    let client = setup.client();
    client.ensure(&request("alice"), |_| {}).await.unwrap();
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    setup.fake.world().contents.insert(HOME.to_owned(), content.clone());

    let asked = BackupRequest { devbox: testing::id("alice"), client: "a test".to_owned() };
    let (mut archive, mut told) = (Vec::new(), Vec::new());
    let mut backup = client.back_up(&asked).await.unwrap();
    while let Some(piece) = backup.next().await.unwrap() {
        match piece {
            Piece::Data(data) => archive.extend_from_slice(&data),
            Piece::Progress(progress) => told.push(progress.text),
        }
    }
    assert!(told.contains(&"reading its home and its Docker data".to_owned()), "{told:?}");

    let restore = async || {
        let (sender, pieces) = mpsc::channel(1);
        let send = async {
            for piece in archive.chunks(7000) {
                if sender.send(Bytes::copy_from_slice(piece)).await.is_err() {
                    break;
                }
            }
            drop(sender);
        };
        let request = RestoreRequest { devbox: testing::id("alice"), client: "a test".to_owned() };
        let restore = client.restore(&request, pieces, |_| {});
        timeout(PATIENCE, async { tokio::join!(restore, send) }).await.unwrap().0
    };
    // Whoever is refused is told why, however much she still has to say.
    match restore().await {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.code, FailureCode::BoxExists),
        other => panic!("{other:?}"),
    }
    let remove =
        OrderRequest { devbox: testing::id("alice"), order: Order::Remove, client: "a test".to_owned() };
    client.order(&remove, |_| {}).await.unwrap();
    restore().await.unwrap();
    assert_eq!(setup.fake.world().contents[HOME], content);
}

#[tokio::test]
async fn a_restore_that_does_not_begin_with_a_line_is_refused() {
    let setup = Setup::new().await;
    let body = "x".repeat(MAX_LINE * 3);
    let length = body.len();
    let head =
        format!("POST /v1/restore HTTP/1.1\r\nhost: p\r\nconnection: close\r\ncontent-length: {length}");
    let answer = setup.raw(&format!("{head}\r\n\r\n{body}")).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("a line of JSON"), "{answer}");
}
