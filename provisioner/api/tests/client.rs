//! The client against sockets that answer well, badly, or not at all.
#![expect(clippy::unwrap_used, reason = "a test's set-up may panic")]

use std::path::PathBuf;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{Client, ClientError, EnsureRequest, FailureCode, MAX_LINE};
use rstest::rstest;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

const READY: &str =
    r#"{"event":"ready","address":"10.0.0.2:22","host_key":"k","unix_user":"alice","isolated":true}"#;

/// A socket that gives each connection the same `answer` once it has seen a request's head.
struct Canned {
    directory: TempDir,
    _server: JoinHandle<()>,
}

impl Canned {
    fn new(answer: String) -> Self {
        let directory = TempDir::new().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                answer_with(stream, &answer).await;
            }
        });
        Self { directory, _server: server }
    }

    fn stream(lines: &str) -> Self {
        Self::new(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{lines}"))
    }

    fn status(status: &str, body: &str) -> Self {
        let length = body.len();
        Self::new(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"))
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn client(&self) -> Client {
        Client::new(self.socket())
    }
}

async fn answer_with(mut stream: UnixStream, answer: &str) {
    let mut request = vec![0; 4096];
    let _any = stream.read(&mut request).await.unwrap();
    stream.write_all(answer.as_bytes()).await.unwrap();
}

fn request() -> EnsureRequest {
    EnsureRequest {
        devbox: DevBoxId::parse("alice").unwrap(),
        user_ca: "ssh-ed25519 AAAA".to_owned(),
        client: "a test".to_owned(),
    }
}

async fn ensure(server: &Canned) -> Result<Vec<String>, ClientError> {
    let mut heard = Vec::new();
    let endpoint = server.client().ensure(&request(), |progress| heard.push(progress.text)).await?;
    heard.push(endpoint.address.to_string());
    Ok(heard)
}

#[tokio::test]
async fn progress_then_ready() {
    let server = Canned::stream(&format!("{{\"event\":\"progress\",\"text\":\"one\"}}\n{READY}\n"));
    assert_eq!(ensure(&server).await.unwrap(), ["one", "10.0.0.2:22"]);
}

#[tokio::test]
async fn a_failure_is_told_as_it_was_said() {
    let line = r#"{"event":"failed","code":"boot_timeout","message":"m","remedy":"r","retryable":true}"#;
    match ensure(&Canned::stream(&format!("{line}\n"))).await {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.code, FailureCode::BootTimeout),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_stops_halfway_is_no_answer() {
    let server = Canned::stream("{\"event\":\"progress\",\"text\":\"one\"}\n{\"event\":");
    assert!(matches!(ensure(&server).await, Err(ClientError::Unreachable { .. })));
}

#[rstest]
#[case("not json\n".to_owned(), "cannot read")]
#[case("x".repeat(MAX_LINE + 1), "a line of more than")]
#[case("{\"event\":\"melted\"}\n".to_owned(), "cannot read")]
#[tokio::test]
async fn nonsense_is_a_protocol_fault(#[case] lines: String, #[case] expected: &str) {
    match ensure(&Canned::stream(&lines)).await {
        Err(ClientError::Protocol(fault)) => assert!(fault.contains(expected), "{fault}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_carries_its_reason() {
    let server = Canned::status("403 Forbidden", r#"{"error":"user 7 is not served"}"#);
    match server.client().health().await {
        Err(ClientError::Refused(reason)) => assert_eq!(reason, "user 7 is not served"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn another_status_is_a_protocol_fault() {
    let server = Canned::status("404 Not Found", "<html>");
    match server.client().boxes().await {
        Err(ClientError::Protocol(reason)) => assert_eq!(reason, "404 Not Found"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nothing_listens() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("socket");
    let fault = Client::new(&socket).health().await.unwrap_err();
    assert!(fault.to_string().contains(&socket.display().to_string()), "{fault}");
    assert!(matches!(fault, ClientError::Unreachable { .. }));
}

#[tokio::test]
async fn garbage_is_not_http() {
    let server = Canned::new("SSH-2.0-OpenSSH_9.6\r\n".to_owned());
    assert!(matches!(server.client().health().await, Err(ClientError::Unreachable { .. })));
}
