//! TCP as SSH wants it: no delay, dead peers found, and a way to end a connection from outside.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};
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
