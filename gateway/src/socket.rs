//! TCP as SSH wants it: no delay in what is sent nor in its acknowledgement, dead peers found, and a way to end a
//! connection from outside.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Silence after which the peer's TCP is probed.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(120);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// A peer that has not acknowledged anything for this long is gone: longer than a laptop takes to change
/// networks, shorter than a working day.
const USER_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Bytes that may wait unsent in the kernel. More would make a keystroke queue behind a download.
const NOTSENT_LOWAT: u32 = 128 * 1024;
/// What comes in one go and is more than this is part of a transfer, not a message that another one waits behind.
const TRANSFER: usize = 16 * 1024;

/// Sets the options that both hops share.
///
/// # Errors
/// What the kernel says when the socket is already dead.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)
}

/// Ends a connection from outside of the task that speaks SSH over it. Holds a descriptor of its own.
#[derive(Debug)]
pub struct Ender(Socket);

impl Ender {
    /// # Errors
    /// No descriptor is left.
    pub fn of(stream: &TcpStream) -> io::Result<Self> {
        SockRef::from(stream).try_clone().map(Self)
    }

    /// Ends the connection at once, whoever reads or writes it.
    pub fn end(&self) {
        // It fails only when the connection has ended already.
        drop(self.0.shutdown(Shutdown::Both));
    }
}

/// A connection that acknowledges messages as soon as it has read them.
///
/// TCP would wait 40 ms for something to send along (`TCP_QUICKACK` in tcp(7); RFC 1122 §4.2.3.2). But OpenSSH leaves
/// Nagle's algorithm on until there is a terminal, in its client as in its server, and its second small message then
/// waits for the acknowledgement of the first: the client's in every key exchange, the box's in every login, and both
/// whenever a command has little to say. An acknowledgement by itself, 40 bytes of IP and TCP, is the lesser cost.
///
/// Transfers are acknowledged by the kernel's own rules, which have an eye on the amount: acknowledging each 32 KiB of
/// an upload made it slower by a fifth (`./devhost bench --only bulk-aes`).
#[derive(Debug)]
pub struct Acknowledging {
    stream: TcpStream,
    /// Bytes read since there was last nothing more to read.
    unacknowledged: usize,
}

impl Acknowledging {
    #[must_use]
    pub const fn new(stream: TcpStream) -> Self {
        Self { stream, unacknowledged: 0 }
    }

    /// The kernel forgets this wish as soon as it sends something, so it is made anew each time.
    fn acknowledge(&mut self) {
        let read = std::mem::take(&mut self.unacknowledged);
        if (1..=TRANSFER).contains(&read) {
            // It fails only when the connection has ended already.
            drop(SockRef::from(&self.stream).set_tcp_quickack(true));
        }
    }
}

impl AsyncRead for Acknowledging {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.unacknowledged += buffer.filled().len() - before;
        } else {
            self.acknowledge();
        }
        read
    }
}

impl AsyncWrite for Acknowledging {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    struct Pair {
        ours: Acknowledging,
        peer: TcpStream,
    }

    impl Pair {
        async fn new() -> Self {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (peer, _) = listener.accept().await.unwrap();
            Self { ours: Acknowledging::new(stream), peer }
        }

        /// Both answer each other until the kernel sees that acknowledgements can go along with answers.
        async fn talk(&mut self) {
            for _ in 0..10 {
                self.hear(1).await;
                self.ours.write_all(b"!").await.unwrap();
                assert_eq!(self.peer.read_u8().await.unwrap(), b'!');
            }
            assert!(!self.acknowledges(), "the kernel acknowledges by itself, and these tests find nothing");
        }

        async fn hear(&mut self, bytes: usize) {
            let (said, mut heard) = (vec![b'?'; bytes], vec![0; bytes]);
            self.peer.write_all(&said).await.unwrap();
            self.ours.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, said);
        }

        fn find_nothing_to_read(&mut self) {
            assert!(self.ours.read_u8().now_or_never().is_none());
        }

        fn acknowledges(&self) -> bool {
            SockRef::from(&self.ours.stream).tcp_quickack().unwrap()
        }
    }

    #[tokio::test]
    async fn messages_are_acknowledged_once_all_are_read() {
        let mut pair = Pair::new().await;
        pair.talk().await;
        pair.hear(1).await;
        assert!(!pair.acknowledges(), "more may be there to read");
        pair.find_nothing_to_read();
        assert!(pair.acknowledges());
    }

    #[tokio::test]
    async fn a_message_after_a_transfer_is_acknowledged() {
        let mut pair = Pair::new().await;
        pair.hear(TRANSFER + 1).await;
        pair.find_nothing_to_read();
        pair.talk().await;
        pair.find_nothing_to_read();
        assert!(pair.acknowledges());
    }
}
