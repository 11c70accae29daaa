//! Who is not known learns nothing, and who does not give up has to wait.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use russh::client::{self, AuthResult};
use russh::keys::PrivateKeyWithHashAlg;
use russh::keys::PublicKeyOrCertificate;
use ssh_key::{Algorithm, PrivateKey};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::{Answer, Gateway, output, text};

/// A connection that keeps how many bytes each reply had.
struct Counting {
    stream: TcpStream,
    read: Arc<AtomicUsize>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.read.fetch_add(buf.filled().len() - before, SeqCst);
        polled
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Keeps whatever the server says to it beside the answers.
#[derive(Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

impl client::Handler for Listener {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut client::Session) -> Result<(), russh::Error> {
        self.0.lock().unwrap().push(banner.to_owned());
        Ok(())
    }
}

/// The answers to `none` and to two wrong keys: what they say, and how long each is on the wire.
async fn answers(gateway: &Gateway, login: &str) -> Vec<(AuthResult, usize)> {
    let read = Arc::new(AtomicUsize::new(0));
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let stream = Counting { stream, read: Arc::clone(&read) };
    let listener = Listener::default();
    let said = Arc::clone(&listener.0);
    let mut client = client::connect_stream(Arc::default(), stream, listener).await.unwrap();
    let mut answers = Vec::new();
    let mut since = None;
    for attempt in 0..3 {
        let answer = if attempt == 0 {
            client.authenticate_none(login).await.unwrap()
        } else {
            let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
            client
                .authenticate_publickey(login, PrivateKeyWithHashAlg::new(Arc::new(key), None))
                .await
                .unwrap()
        };
        let now = read.load(SeqCst);
        // The first answer comes with what belongs to the handshake.
        answers.push((answer, since.map_or(0, |since| now - since)));
        since = Some(now);
    }
    assert!(said.lock().unwrap().is_empty());
    answers
}

#[tokio::test]
async fn a_name_that_nobody_has_is_answered_as_a_wrong_key_is() {
    let gateway = Gateway::start(Answer::the_box()).await;
    let wrong_key = answers(&gateway, "alice").await;
    for login in ["mallory", "box", "alice+web", "../alice", "root", "", &"a".repeat(300)] {
        assert_eq!(answers(&gateway, login).await, wrong_key, "{login:?}");
    }
    assert_eq!(gateway.asked.load(SeqCst), 0);
}

/// How long the answers to wrong keys for `login` take, over one connection.
async fn answer_times(gateway: &Gateway, login: &str) -> Vec<Duration> {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let mut client = client::connect_stream(Arc::default(), stream, Listener::default()).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..5 {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let asked = Instant::now();
        assert!(!client.authenticate_publickey(login, key).await.unwrap().success());
        times.push(asked.elapsed());
    }
    times
}

/// Medians, because a machine that does other things too is late now and then, and in turns, because it is so for a
/// while. An answer takes a millisecond or so: what looked a name up in a file or waited for one kind of answer alone
/// would be seen.
#[tokio::test]
async fn a_name_that_nobody_has_is_answered_as_soon_as_a_wrong_key_is() {
    const LOGINS: [&str; 2] = ["alice", "mallory"];
    let gateway = Gateway::start(Answer::the_box()).await;
    let mut times = LOGINS.map(|_| Vec::new());
    for _ in 0..20 {
        for (login, times) in LOGINS.iter().zip(&mut times) {
            times.extend(answer_times(&gateway, login).await);
        }
    }
    let [wrong_key, nobody] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    let apart = wrong_key.abs_diff(nobody);
    assert!(apart < Duration::from_millis(10), "a wrong key: {wrong_key:?}, a name of nobody: {nobody:?}");
}

/// What the gateway says first.
async fn greeting(gateway: &Gateway) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let mut line = [0; 64];
    let read = timeout(Duration::from_secs(10), stream.read(&mut line)).await.unwrap().unwrap();
    text(&line[..read])
}

#[tokio::test]
async fn who_fails_again_and_again_is_turned_away() {
    let settings = "[gateway.penalties]\nexempt = []\nfailed = \"60s\"\nmin = \"100s\"\nnot_tried = \"0s\"";
    let gateway = Gateway::start_with(settings, Answer::the_box()).await;
    for _ in 0..3 {
        assert!(gateway.run("true").await.status.success(), "success is no offence");
    }
    for _ in 0..2 {
        let refused = output(gateway.ssh("alice", "stranger").arg("true")).await;
        assert!(text(&refused.stderr).contains("Permission denied (publickey)"), "{}", text(&refused.stderr));
    }
    assert_eq!(greeting(&gateway).await, "Not allowed at this time\r\n");
    assert!(!gateway.run("true").await.status.success(), "her good key does not help her source");
}

#[tokio::test]
async fn who_uses_up_the_grace_time_is_turned_away() {
    let settings =
        "login_grace_time = \"1s\"\n[gateway.penalties]\nexempt = []\nmin = \"10s\"\nnot_tried = \"0s\"";
    let gateway = Gateway::start_with(settings, Answer::the_box()).await;
    let mut silent = TcpStream::connect(gateway.address).await.unwrap();
    silent.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(greeting(&gateway).await, "Not allowed at this time\r\n");
}

#[tokio::test]
async fn who_is_exempt_may_fail_as_often_as_she_likes() {
    let gateway = Gateway::start_with("[gateway.penalties]\nmin = \"0s\"", Answer::the_box()).await;
    for _ in 0..3 {
        output(gateway.ssh("alice", "stranger").arg("true")).await;
    }
    assert!(gateway.run("true").await.status.success());
}

#[tokio::test]
async fn a_random_part_of_new_connections_is_turned_away_before_all_are() {
    let settings = "max_startups = \"5:100:10\"";
    let gateway = Gateway::start_with(settings, Answer::the_box()).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let mut line = [0; 8];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"SSH-2.0-");
        held.push(stream);
    }
    assert_eq!(greeting(&gateway).await, "Exceeded MaxStartups\r\n");
    drop(held);
    timeout(Duration::from_secs(10), async {
        while !greeting(&gateway).await.starts_with("SSH-2.0-") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}
