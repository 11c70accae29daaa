//! Any sequence of messages, in any chunking of the bytes that carry them, crosses a relay unchanged and in order,
//! whenever keys are exchanged; and the tap's counts are exact.
//!
//! ```text
//!  the test ═link═ client ──chunks── near hop ═pair, tapped═ far hop ──chunks── box ═link═ the test
//! ```
//!
//! Both ends are raw as well, so that the test can send whatever it likes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use boxgate_gateway::relay::tap::{From, Tap};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;
use russh::keys::{PrivateKey, PublicKeyOrCertificate};
use russh::server::{Auth, RunningSession};
use russh::{Error, Limits, RawFilter, RawLink, RawVerdict, client, raw_pair, server};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::time::timeout;

/// Room between two parties, less than many of the messages.
const ROOM: usize = 64 * 1024;
const LIMIT: Duration = Duration::from_secs(60);
const CHANNEL_DATA: u8 = 94;

/// A stream that reads and writes at most so many bytes at a time, in turns.
struct Chunked {
    inner: DuplexStream,
    sizes: Vec<usize>,
    turn: usize,
}

impl Chunked {
    fn next(&mut self) -> usize {
        self.turn += 1;
        self.sizes[self.turn % self.sizes.len()]
    }
}

impl AsyncRead for Chunked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let most = self.next().min(out.remaining());
        let mut chunk = vec![0; most];
        let mut part = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        out.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Chunked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let most = self.next().min(bytes.len());
        Pin::new(&mut self.inner).poll_write(cx, &bytes[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

struct ServerEnd(Option<RawLink>);

impl server::Handler for ServerEnd {
    type Error = Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Error> {
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut server::Session) -> Result<(), Error> {
        session.set_raw(self.0.take().unwrap());
        Ok(())
    }
}

struct ClientEnd;

impl client::Handler for ClientEnd {
    type Error = Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Error> {
        Ok(true)
    }
}

/// One side's message: number, and the length of what follows.
#[derive(Debug, Clone, Copy)]
struct Message {
    number: u8,
    length: usize,
}

impl Message {
    fn any() -> impl Strategy<Value = Self> {
        let length = prop_oneof![0..40_usize, 0..5_000_usize, 30_000..200_000_usize];
        (prop_oneof![Just(CHANNEL_DATA), 80..=127_u8], length)
            .prop_map(|(number, length)| Self { number, length })
    }

    /// Bytes that tell its place in the sequence; valid as far as the tap reads when it is data.
    fn payload(self, place: usize) -> Bytes {
        let filler = (0..self.length).map(|at| (at.wrapping_mul(31) ^ place).to_le_bytes()[0]);
        if self.number == CHANNEL_DATA {
            let length = u32::try_from(self.length).unwrap().to_be_bytes();
            [CHANNEL_DATA, 0, 0, 0, 7].into_iter().chain(length).chain(filler).collect()
        } else {
            [self.number].into_iter().chain(filler).collect()
        }
    }
}

fn payloads(messages: &[Message]) -> Vec<Bytes> {
    messages.iter().enumerate().map(|(place, message)| message.payload(place)).collect()
}

fn data(messages: &[Message]) -> u64 {
    messages
        .iter()
        .filter(|message| message.number == CHANNEL_DATA)
        .map(|message| message.length as u64)
        .sum()
}

fn forward() -> RawFilter {
    Box::new(|_| RawVerdict::Forward)
}

fn tapped(tap: &Arc<Tap>, from: From) -> RawFilter {
    let tap = Arc::clone(tap);
    Box::new(move |message| {
        tap.see(from, message);
        RawVerdict::Forward
    })
}

/// Two hops with their real peers, all in this process.
struct Rig {
    client: RawLink,
    devbox: RawLink,
    _sessions: [RunningSession<ServerEnd>; 2],
    _handles: [client::Handle<ClientEnd>; 2],
}

async fn connection(
    key: &PrivateKey,
    sizes: &[usize],
    rekey_after: usize,
    [server_link, client_link]: [RawLink; 2],
) -> (RunningSession<ServerEnd>, client::Handle<ClientEnd>) {
    let (one, other) = duplex(ROOM);
    let limits = Limits::new(rekey_after, rekey_after, Duration::from_secs(3600));
    let chunked = |inner| Chunked { inner, sizes: sizes.to_vec(), turn: 0 };
    let config = server::Config { keys: vec![key.clone()], limits: limits.clone(), ..Default::default() };
    let serve = server::run_stream(Arc::new(config), chunked(one), ServerEnd(Some(server_link)));
    let config = Arc::new(client::Config { limits, ..Default::default() });
    let connect = client::connect_stream(config, chunked(other), ClientEnd);
    let (session, handle) = tokio::join!(serve, connect);
    let mut handle = handle.unwrap();
    handle.set_raw(client_link).await.unwrap();
    assert!(handle.authenticate_none("alice").await.unwrap().success());
    (session.unwrap(), handle)
}

async fn rig(sizes: &[usize], rekey_after: usize, tap: &Arc<Tap>) -> Rig {
    let key = PrivateKey::random(&mut rand::rng(), russh::keys::Algorithm::Ed25519).unwrap();
    let (client, client_link) = raw_pair(ROOM, forward(), forward());
    let (near, far) = raw_pair(ROOM, tapped(tap, From::Client), tapped(tap, From::Devbox));
    let (devbox, devbox_link) = raw_pair(ROOM, forward(), forward());
    let (near_session, client_handle) = connection(&key, sizes, rekey_after, [near, client_link]).await;
    let (devbox_session, far_handle) = connection(&key, sizes, rekey_after, [devbox_link, far]).await;
    Rig { client, devbox, _sessions: [near_session, devbox_session], _handles: [client_handle, far_handle] }
}

async fn send_all(link: &RawLink, messages: &[Bytes]) {
    for message in messages {
        link.send(message.clone()).await.unwrap();
    }
}

async fn receive(link: &RawLink, count: usize) -> Vec<Bytes> {
    let mut received = Vec::new();
    while received.len() < count {
        received.push(link.recv().await.unwrap());
    }
    received
}

async fn cross(up: &[Message], down: &[Message], sizes: &[usize], rekey_after: usize) {
    let tap = Arc::<Tap>::default();
    let rig = rig(sizes, rekey_after, &tap).await;
    let (sent_up, sent_down) = (payloads(up), payloads(down));
    let ((), (), came_up, came_down) = tokio::join!(
        send_all(&rig.client, &sent_up),
        send_all(&rig.devbox, &sent_down),
        receive(&rig.devbox, up.len()),
        receive(&rig.client, down.len()),
    );
    assert!(came_up == sent_up, "what came to the box is not what the client sent");
    assert!(came_down == sent_down, "what came to the client is not what the box sent");
    for (from, sent) in [(From::Client, up), (From::Devbox, down)] {
        assert_eq!((tap.messages(from), tap.data(from)), (sent.len() as u64, data(sent)), "{from:?}");
    }
}

proptest! {
    // Each case makes four parties and moves about a megabyte.
    #![proptest_config(Config { cases: 128, max_shrink_iters: 64, failure_persistence: None, ..Config::default() })]
    #[test]
    fn any_messages_in_any_chunking_cross_unchanged(
        up in vec(Message::any(), 0..16),
        down in vec(Message::any(), 0..16),
        sizes in vec(prop_oneof![1..20_usize, 1..3_000_usize, 1..100_000_usize], 1..8),
        rekey_after in prop_oneof![Just(1 << 30), 20_000..500_000_usize],
    ) {
        // Otherwise a case of a megabyte in single bytes takes minutes.
        prop_assume!(sizes.iter().sum::<usize>() / sizes.len() >= 64 || up.len() + down.len() < 6);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            timeout(LIMIT, cross(&up, &down, &sizes, rekey_after)).await.expect("all has crossed");
        });
    }
}
