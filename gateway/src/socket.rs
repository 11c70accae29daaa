//! TCP as SSH wants it: no delay, dead peers found, and a way to end a connection from outside.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
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

/// A client's socket, shared between the task that speaks SSH over it and the one that may end it.
#[derive(Debug, Clone)]
pub struct ClientSocket(Arc<TcpStream>);

impl ClientSocket {
    /// # Errors
    /// See [`tune`].
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        tune(&stream)?;
        Ok(Self(Arc::new(stream)))
    }

    /// Ends the connection at once, whoever reads or writes it.
    pub fn end(&self) {
        // It fails only when the connection has ended already.
        drop(SockRef::from(&*self.0).shutdown(Shutdown::Both));
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {}
                Err(fault) => return Poll::Ready(Err(fault)),
            }
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(buf) {
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match SockRef::from(&*self.0).shutdown(Shutdown::Write) {
            Err(fault) if fault.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(fault)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
