//! The lobby over its real socket, asked by an SSH client as the gateway asks it, with a stand-in for the API behind it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::Uri;
use axum::routing::{get, post};
use axum::{Json, Router};
use boxgate_config::{DevBoxId, PublicName};
use boxgate_provisioner_api::{
    BOXES_PATH, BoxCluster, BoxClusters, BoxState, BoxSummary, CLUSTERS_PATH, Failure, FailureCode,
    KEEP_PATH, KeepRequest, Kept, LOGS_PATH, Limits, ORDER_PATH, OrderEvent, OrderRequest, Progress,
};
use rstest::rstest;
use russh::ChannelMsg;
use russh::client::{self, AuthResult, Handle};
use russh::keys::PublicKeyOrCertificate;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::{Algorithm, Certificate, PrivateKey};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use super::*;
use crate::testing;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was asked of the API, in words.
type Asked = Arc<Mutex<Vec<String>>>;

struct Setup {
    _directory: TempDir,
    asked: Asked,
    door: Door,
    authority: PrivateKey,
    shutdown: CancellationToken,
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// What a command came to.
#[derive(Debug, Default)]
struct Ran {
    exit: Option<u32>,
    out: String,
    err: String,
}

/// Believes any host: the pin is the gateway's.
struct Gateway;

impl client::Handler for Gateway {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

fn key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
}

/// What a gateway's certificate is made of.
struct Pass<'a> {
    principal: &'a str,
    extensions: &'a [&'a str],
    forced: Option<&'a str>,
    kind: CertType,
    until: Duration,
}

impl Default for Pass<'_> {
    fn default() -> Self {
        let until = SystemTime::UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(60);
        Self { principal: "alice", extensions: &["permit-pty"], forced: None, kind: CertType::User, until }
    }
}

impl Pass<'_> {
    fn sign(&self, authority: &PrivateKey) -> (Arc<PrivateKey>, Certificate) {
        let key = key();
        let (from, until) = (self.until.saturating_sub(Duration::from_secs(120)), self.until);
        let random = &mut rand::rng();
        let mut builder =
            Builder::new_with_random_nonce(random, key.public_key(), from.as_secs(), until.as_secs())
                .unwrap();
        let came = format!("{} SHA256:abc from 192.0.2.1:51234", self.principal);
        builder.cert_type(self.kind).unwrap().key_id(came).unwrap();
        builder.valid_principal(self.principal).unwrap();
        for &extension in self.extensions {
            builder.extension(extension, "").unwrap();
        }
        if let Some(command) = self.forced {
            builder.critical_option("force-command", command).unwrap();
        }
        (Arc::new(key), builder.sign(authority).unwrap())
    }
}

impl Setup {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = TempDir::new().unwrap();
        let mut config = testing::config_in(&directory);
        config.gateway.public_name = PublicName::parse("devhost.example.org:2222").ok();
        change(&mut config);
        let asked = Asked::default();
        api(config.provisioner.socket.clone(), Arc::clone(&asked));
        let lobby = Lobby::bind(&Arc::new(config)).await.unwrap();
        let (door, authority, shutdown) = (lobby.door(), key(), CancellationToken::new());
        drop(door.open_to(authority.public_key()));
        tokio::spawn(lobby.serve(shutdown.clone()));
        Self { _directory: directory, asked, door, authority, shutdown }
    }

    /// A connection, and whether it is authenticated.
    async fn knock(&self, login: &str, pass: (Arc<PrivateKey>, Certificate)) -> (Handle<Gateway>, bool) {
        let socket = self.door.open_to(self.authority.public_key()).socket;
        let stream = UnixStream::connect(socket).await.unwrap();
        let mut client = client::connect_stream(Arc::default(), stream, Gateway).await.unwrap();
        let answer = client.authenticate_openssh_cert(login, pass.0, pass.1).await;
        (client, matches!(answer, Ok(AuthResult::Success)))
    }

    async fn enter(&self, pass: Pass<'_>) -> Handle<Gateway> {
        let (client, entered) = self.knock(pass.principal, pass.sign(&self.authority)).await;
        assert!(entered);
        client
    }

    async fn alice(&self) -> Handle<Gateway> {
        self.enter(Pass::default()).await
    }

    /// Runs one command as alice, without a terminal.
    async fn run(&self, command: &str) -> Ran {
        run(&self.alice().await, command, None).await
    }

    /// The same with a terminal on which `typed` is typed.
    async fn type_in(&self, command: &str, typed: &'static [u8]) -> Ran {
        run(&self.alice().await, command, Some(typed)).await
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    async fn until_asked(&self, what: &str) {
        let seen = async {
            while !self.asked().iter().any(|asked| asked == what) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("never asked: {what}"));
    }
}

async fn run(client: &Handle<Gateway>, command: &str, typed: Option<&'static [u8]>) -> Ran {
    let channel = client.channel_open_session().await.unwrap();
    if typed.is_some() {
        channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    }
    if command.is_empty() {
        channel.request_shell(true).await.unwrap();
    } else {
        channel.exec(true, command).await.unwrap();
    }
    channel.data(typed.unwrap_or_default()).await.unwrap();
    finish(channel).await
}

async fn finish(mut channel: russh::Channel<client::Msg>) -> Ran {
    let mut ran = Ran::default();
    let all = async {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => ran.out.push_str(&String::from_utf8_lossy(&data)),
                ChannelMsg::ExtendedData { data, .. } => ran.err.push_str(&String::from_utf8_lossy(&data)),
                ChannelMsg::ExitStatus { exit_status } => ran.exit = Some(exit_status),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, all).await.expect("the command does not end");
    ran
}

fn summary(id: &str, state: BoxState) -> BoxSummary {
    BoxSummary {
        id: DevBoxId::parse(id).unwrap(),
        state,
        reason: None,
        since: Some("2026-01-01T00:00:00Z".to_owned()),
        container: format!("boxgate.{id}"),
        image: Some("boxgate/box:latest".to_owned()),
        outdated: false,
        isolated: true,
        address: None,
        connections: 1,
        idle_seconds: None,
        keep_until: None,
        limits: Limits { cpus: 2.0, memory_bytes: 1 << 30, pids: 4096, disk_bytes: None },
        usage: None,
    }
}

/// Alice has her default box and `web`; bob has his. `alice+slow` never starts, and `alice+full` cannot.
fn api(socket: PathBuf, asked: Asked) {
    let boxes = || async {
        Json([
            summary("alice", BoxState::Ready),
            summary("alice+web", BoxState::Stopped),
            summary("bob", BoxState::Ready),
        ])
    };
    let app = Router::new()
        .route(BOXES_PATH, get(boxes))
        .route(ORDER_PATH, post(order))
        .route(KEEP_PATH, post(keep))
        .route(LOGS_PATH, get(logs))
        .route(CLUSTERS_PATH, get(clusters))
        .with_state(asked);
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
}

async fn order(State(asked): State<Asked>, Json(request): Json<OrderRequest>) -> String {
    assert_eq!(request.client, format!("{} SHA256:abc from 192.0.2.1:51234", request.devbox.owner));
    let devbox = request.devbox.to_string();
    asked.lock().unwrap().push(format!("{:?} {devbox}", request.order));
    let fails = |code, retryable| {
        let message = format!("box {devbox}: it went wrong\u{1b}[2J");
        OrderEvent::Failed(Failure { code, message, remedy: "Do something".to_owned(), retryable })
    };
    let last = match devbox.as_str() {
        "alice+slow" => std::future::pending().await,
        "alice+full" => fails(FailureCode::HostFull, true),
        "alice+many" => fails(FailureCode::TooManyBoxes, false),
        "alice+none" => fails(FailureCode::NoSuchBox, false),
        _ => OrderEvent::Done,
    };
    let progress = OrderEvent::Progress(Progress { text: format!("working on {devbox}") });
    [progress, last].iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect()
}

async fn keep(State(asked): State<Asked>, Json(request): Json<KeepRequest>) -> Json<Kept> {
    asked.lock().unwrap().push(format!("Keep {} {}", request.devbox, request.seconds));
    Json(Kept { until: (request.seconds > 0).then(|| "2026-01-01T00:00:00Z".to_owned()) })
}

async fn logs(uri: Uri) -> String {
    uri.query().unwrap_or_default().to_owned() + "\n"
}

/// The default box has a cluster and one that does not answer, `web` does not run, and `bare` has none.
async fn clusters(uri: Uri) -> Json<BoxClusters> {
    let cluster = |name: &str, kubeconfig: &str| BoxCluster {
        name: name.to_owned(),
        kubeconfig: kubeconfig.to_owned(),
    };
    let clusters = match uri.query() {
        Some("box=alice") => Some(vec![cluster("kind", kubeconfig::tests::KIND), cluster("old", "")]),
        Some("box=alice%2Bbare") => Some(Vec::new()),
        _ => None,
    };
    Json(BoxClusters { clusters })
}

#[rstest]
#[case::her_own(Pass::default(), "alice", true)]
#[case::nothing_allowed(Pass { extensions: &[], ..Pass::default() }, "alice", true)]
#[case::another(Pass::default(), "bob", false)]
#[case::nobodys_name(Pass { principal: "root", ..Pass::default() }, "root", false)]
#[case::a_forced_command(Pass { forced: Some("ls"), ..Pass::default() }, "alice", false)]
#[case::a_hosts(Pass { kind: CertType::Host, ..Pass::default() }, "alice", false)]
#[case::expired(Pass { until: Duration::from_secs(1_000_000_000), ..Pass::default() }, "alice", false)]
#[tokio::test]
async fn who_gets_in(#[case] pass: Pass<'static>, #[case] login: &str, #[case] expected: bool) {
    let setup = Setup::new().await;
    let (_, entered) = setup.knock(login, pass.sign(&setup.authority)).await;
    assert_eq!(entered, expected);
    let (_, entered) = setup.knock(login, pass.sign(&key())).await;
    assert!(!entered, "by an authority that no gateway has named");
}

#[rstest]
#[case("new more", 0, "New alice+more")]
#[case("new -", 0, "New alice")]
#[case("start", 0, "Start alice")]
#[case("stop alice+web", 0, "Stop alice+web")]
#[case("restart web", 0, "Restart alice+web")]
#[case("reset web --yes", 0, "Reset alice+web")]
#[case("rm web --yes web", 0, "Remove alice+web")]
#[case("rm web --yes alice+web", 0, "Remove alice+web")]
#[case("rm --yes alice", 0, "Remove alice")]
#[case("keep 8h web", 0, "Keep alice+web 28800")]
#[case("keep --off", 0, "Keep alice 0")]
#[case("start full", 75, "Start alice+full")]
#[case("new many", 1, "New alice+many")]
#[case("start none", 4, "Start alice+none")]
#[case("reset web", 2, "")]
#[case("rm web", 2, "")]
#[case("rm web --yes alice", 2, "")]
#[case("rm web --yes bob+web", 2, "")]
#[case("rm --yes -", 2, "")]
#[case("rm --yes ''", 2, "")]
#[case("rm nothing --yes nothing", 4, "")]
#[case("reset nothing --yes", 4, "")]
#[case("rm bob --yes bob", 4, "")]
#[case("rm bob+web --yes bob+web", 3, "")]
#[case("stop bob+nothing", 3, "")]
#[case("logs bob+web", 3, "")]
#[case("keep 8h bob+web", 3, "")]
#[case("keep 0s", 2, "")]
#[case("stop ../etc", 2, "")]
#[case("stop 'al\u{1b}[2Jice'", 2, "")]
#[case("id", 2, "")]
#[tokio::test]
async fn verbs(#[case] command: &str, #[case] exit: u32, #[case] asked: &str) {
    let setup = Setup::new().await;
    let ran = setup.run(command).await;
    assert_eq!(ran.exit, Some(exit), "{ran:?}");
    assert_eq!(setup.asked(), if asked.is_empty() { vec![] } else { vec![asked] });
    assert_eq!(exit == 0, !ran.out.is_empty(), "{ran:?}");
    assert!(exit == 0 || !ran.err.is_empty(), "{ran:?}");
    assert!(exit == 2 || !(ran.out.clone() + &ran.err).contains('\u{1b}'), "{ran:?}");
}

#[tokio::test]
async fn progress_and_reasons_are_told_on_standard_error() {
    let setup = Setup::new().await;
    let ran = setup.run("start web").await;
    assert_eq!(ran.err, "boxgate: working on alice+web\n");
    assert_eq!(ran.out, "box alice+web is ready: ssh -p 2222 alice+web@devhost.example.org\n");
    let ran = setup.run("start full").await;
    assert_eq!(ran.err.lines().last(), Some("boxgate: box alice+full: it went wrong [2J (Do something)"));
}

#[tokio::test]
async fn everybody_sees_her_own_boxes() {
    let setup = Setup::new().await;
    let boxes = |text: &str| text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect();
    let seen: Vec<String> = boxes(&setup.run("ls").await.out);
    assert_eq!(seen, ["alice", "alice+web"]);
    let bob = setup.enter(Pass { principal: "bob", ..Pass::default() }).await;
    let seen: Vec<String> = boxes(&run(&bob, "ls", None).await.out);
    assert_eq!(seen, ["bob"]);
    let carol = setup.enter(Pass { principal: "carol", ..Pass::default() }).await;
    assert_eq!(run(&carol, "ls", None).await.out, "");
    let json: Vec<BoxSummary> = serde_json::from_str(&setup.run("ls --json").await.out).unwrap();
    assert_eq!(json.len(), 2);
    let table = setup.type_in("ls", b"").await.out;
    assert!(table.starts_with("BOX ") && table.contains("\u{1b}[") && table.ends_with("\r\n"), "{table:?}");
}

#[tokio::test]
async fn she_is_told_who_she_is() {
    let setup = Setup::new().await;
    let json: serde_json::Value = serde_json::from_str(&setup.run("whoami --json").await.out).unwrap();
    let expected = ["alice", "SHA256:abc", "192.0.2.1:51234"].map(serde_json::Value::from);
    assert_eq!(["login", "key", "address"].map(|name| json[name].clone()), expected);
    assert_eq!((&json["terminal"], &json["boxes"][1]["id"]), (&true.into(), &"alice+web".into()));
    assert_eq!((&json["max_boxes"], &json["limits"]["cpus"]), (&3.into(), &2.0.into()));
    let lines = setup.run("whoami").await.out;
    assert!(lines.contains("login\talice\n") && lines.contains("certificate\t-\n"), "{lines}");
    let greeting = setup.type_in("", b"").await;
    assert_eq!(greeting.exit, Some(0));
    assert!(greeting.out.contains("ssh -p 2222 box@devhost.example.org help"), "{}", greeting.out);
    assert_eq!(setup.run("").await.exit, Some(2), "a script says what it wants");
}

#[tokio::test]
async fn ssh_config_needs_a_name_to_write() {
    let setup = Setup::new().await;
    assert!(
        setup
            .run("ssh-config")
            .await
            .out
            .contains("HostName devhost.example.org\n    User alice+web\n    Port")
    );
    let given = setup.run("ssh-config --host 192.0.2.7").await.out;
    assert!(given.contains("Host devbox-web\n    HostName 192.0.2.7\n    User alice+web\n"), "{given}");
    let nameless = Setup::with(|config| config.gateway.public_name = None).await;
    let ran = nameless.run("ssh-config").await;
    assert_eq!((ran.exit, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.contains("--host"), "{}", ran.err);
}

#[tokio::test]
async fn a_kubeconfig_is_to_be_written_to_a_file() {
    let setup = Setup::new().await;
    let ran = setup.run("kubeconfig --port 7443").await;
    assert_eq!(ran.exit, Some(0), "{ran:?}");
    assert!(ran.out.contains("current-context: alice\n"), "{}", ran.out);
    let tunnel =
        "ssh -N -o ExitOnForwardFailure=yes -L 7443:127.0.0.1:6443 -p 2222 alice@devhost.example.org\n";
    assert!(ran.out.contains(tunnel) && ran.err.ends_with(tunnel), "{ran:?}");
    assert!(ran.err.contains("boxgate: old does not answer"), "{}", ran.err);
}

#[rstest]
#[case("kubeconfig web", "does not run (start it: ssh box@HOST start web)")]
#[case("kubeconfig bare", "has no cluster (make one in it: kind create cluster)")]
#[tokio::test]
async fn without_a_kubeconfig_she_is_told_what_to_do(#[case] command: &str, #[case] expected: &str) {
    let ran = Setup::new().await.run(command).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.err.contains(expected), "{}", ran.err);
}

#[tokio::test]
async fn logs_are_read_as_they_are_asked_for() {
    let setup = Setup::new().await;
    assert_eq!(setup.run("logs").await.out, "box=alice&lines=100&follow=false\n");
    assert_eq!(setup.run("logs web -fn 5").await.out, "box=alice%2Bweb&lines=5&follow=true\n");
}

#[rstest]
#[case("rm web", b"web\r", 0, "Remove alice+web")]
#[case("rm web", b"alice+web\r", 0, "Remove alice+web")]
#[case("rm web", b"wen\x7fb\r", 0, "Remove alice+web")]
#[case("rm web", b"yes\r", 2, "")]
#[case("rm web", b"\r", 2, "")]
#[case("rm", b"\r", 2, "")]
#[case("rm", b"alice\r", 0, "Remove alice")]
#[case("rm web", b"web\x04", 2, "")]
#[case("rm web", b"web\x03", 130, "")]
#[case("reset web", b"y\r", 0, "Reset alice+web")]
#[case("reset web", b"Yes\r", 0, "Reset alice+web")]
#[case("reset web", b"\r", 2, "")]
#[case("reset web", b"n\r", 2, "")]
#[tokio::test]
async fn on_a_terminal_she_is_asked(
    #[case] command: &str,
    #[case] typed: &'static [u8],
    #[case] exit: u32,
    #[case] asked: &str,
) {
    let setup = Setup::new().await;
    let ran = setup.type_in(command, typed).await;
    assert_eq!(ran.exit, Some(exit), "{ran:?}");
    assert_eq!(setup.asked(), if asked.is_empty() { vec![] } else { vec![asked] });
    // A Ctrl-C may come before the question.
    assert!(exit == 130 || ran.err.contains("home directory"), "{ran:?}");
    assert!(!ran.err.contains("no longer waiting"), "nothing was begun: {ran:?}");
}

#[tokio::test]
async fn without_leave_there_is_no_terminal() {
    let setup = Setup::new().await;
    let restricted = setup.enter(Pass { extensions: &[], ..Pass::default() }).await;
    let ran = run(&restricted, "rm web", Some(b"web\r")).await;
    assert_eq!(ran.exit, Some(2), "{ran:?}");
    assert_eq!(run(&restricted, "rm web --yes web", None).await.exit, Some(0));
}

#[tokio::test]
async fn who_does_not_wait_ends_the_waiting_and_nothing_else() {
    let setup = Setup::new().await;
    let alice = setup.alice().await;
    let channel = alice.channel_open_session().await.unwrap();
    channel.request_pty(true, "dumb", 80, 24, 0, 0, &[]).await.unwrap();
    channel.exec(true, "start slow").await.unwrap();
    setup.until_asked("Start alice+slow").await;
    // Others are served meanwhile, on this connection too.
    assert_eq!(run(&alice, "start web", None).await.exit, Some(0));
    channel.data(&b"\x03"[..]).await.unwrap();
    let ran = finish(channel).await;
    assert_eq!(ran.exit, Some(130));
    assert!(ran.err.contains("no longer waiting"), "{ran:?}");

    let channel = alice.channel_open_session().await.unwrap();
    channel.exec(true, "new slow").await.unwrap();
    setup.until_asked("New alice+slow").await;
    channel.eof().await.unwrap();
    assert_eq!(run(&alice, "stop web", None).await.exit, Some(0));
    channel.signal(russh::Sig::INT).await.unwrap();
    assert_eq!(finish(channel).await.exit, Some(130), "the end of input ends nothing, a signal does");
}

#[tokio::test]
async fn odd_and_giant_commands_end_with_words() {
    let setup = Setup::new().await;
    let alice = setup.alice().await;
    for command in [&b"rm \xff\xfe"[..], b"ls '", &[b'x'; 15_000], b"\0", "ls \u{202e}".as_bytes()] {
        let channel = alice.channel_open_session().await.unwrap();
        channel.exec(true, command).await.unwrap();
        let ran = finish(channel).await;
        assert_eq!(ran.exit, Some(2), "{ran:?}");
        assert!(!ran.err.is_empty() && ran.err.len() < 1000, "{ran:?}");
    }
    assert_eq!(setup.asked(), [""; 0]);
}

#[tokio::test]
async fn what_is_no_verb_is_refused_and_the_connection_goes_on() {
    let setup = Setup::new().await;
    let alice = setup.alice().await;
    assert!(alice.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await.is_err());
    assert!(alice.channel_open_direct_streamlocal("/run/docker.sock").await.is_err());
    assert!(alice.tcpip_forward("127.0.0.1", 0).await.is_err());
    let channel = alice.channel_open_session().await.unwrap();
    channel.request_subsystem(true, "sftp").await.unwrap();
    let ran = finish(channel).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.contains("name a box of yours"), "{ran:?}");
    assert_eq!(run(&alice, "ls", None).await.exit, Some(0));
}

#[tokio::test]
async fn one_command_for_each_channel() {
    let setup = Setup::new().await;
    let alice = setup.alice().await;
    let channel = alice.channel_open_session().await.unwrap();
    channel.exec(true, "start web").await.unwrap();
    channel.exec(true, "stop web").await.unwrap();
    assert_eq!(finish(channel).await.exit, Some(0));
    assert_eq!(setup.asked(), ["Start alice+web"]);
}

#[tokio::test]
async fn one_person_cannot_take_all_the_room() {
    let setup = Setup::new().await;
    let mut held = Vec::new();
    for _ in 0..VISITS_MAX {
        held.push(setup.alice().await);
    }
    let one_more = setup.alice().await;
    assert!(one_more.channel_open_session().await.is_err());
    let bob = setup.enter(Pass { principal: "bob", ..Pass::default() }).await;
    assert_eq!(run(&bob, "ls", None).await.exit, Some(0));
    held.clear();
    let again = async {
        while setup.alice().await.channel_open_session().await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("what was given back can be had again");

    for _ in 0..30 {
        // What has ended makes room, on this connection too.
        assert_eq!(run(&bob, "whoami", None).await.exit, Some(0));
    }
    let mut channels = Vec::new();
    while let Ok(channel) = bob.channel_open_session().await {
        channels.push(channel);
        assert!(channels.len() < 100, "there is a limit");
    }
    assert!(channels.len() > 1);
}

#[tokio::test]
async fn a_restart_is_told() {
    let setup = Setup::new().await;
    let alice = setup.alice().await;
    let channel = alice.channel_open_session().await.unwrap();
    channel.exec(true, "start slow").await.unwrap();
    setup.until_asked("Start alice+slow").await;
    setup.shutdown.cancel();
    assert_eq!(finish(channel).await.exit, None, "it is not known how it ends");
}
