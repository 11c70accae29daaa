//! A Unix socket: who may own it, who is at the other end, and how many may be at once.
//!
//! Invariants: a socket on which another provisioner answers is never taken from it; only root and the
//! gateway's user can connect, and the kernel says who did (unix(7), `SO_PEERCRED`).

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use boxgate_config::ProvisionerConfig;
use nix::unistd::{Uid, User, chown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tracing::warn;

use crate::lobby::Door;

/// Connections at once: one for each login that waits for its box, and some for listings. Further ones wait
/// in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// After an accept that failed, most likely for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// The socket, bound and not yet served.
#[derive(Debug)]
pub struct Server {
    gate: Gate,
    pub(super) permitted: Permitted,
    cleanup: Cleanup,
    pub(super) door: Option<Door>,
}

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(
        "provisioner.gateway_user: there is no user {0} on this host; create it, or set the user that runs \
         the gateway"
    )]
    NoSuchUser(String),
    #[error("provisioner.gateway_user: cannot look up {user}: {source}")]
    Lookup { user: String, source: nix::Error },
    #[error("{}: another provisioner answers here; stop it, or set another socket in [provisioner]", .0.display())]
    InUse(PathBuf),
    #[error("{}: is not a socket, so it stays; remove it, or set another socket in [provisioner]", .0.display())]
    NotASocket(PathBuf),
    #[error("{}: cannot be served: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot make the lobby's host key: {0}")]
    HostKey(#[from] ssh_key::Error),
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    uid: u32,
    pid: Option<i32>,
}

/// Who is answered: root, and the gateway's user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permitted {
    pub(super) gateway: u32,
}

/// Accepts connections, no more than there are permits.
#[derive(Debug)]
pub(crate) struct Gate {
    listener: UnixListener,
    permits: Arc<Semaphore>,
}

/// A connection, which gives its permit back when it ends.
#[derive(Debug)]
pub(crate) struct Admitted {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
}

/// Removes the socket when dropped, if it is still the one that was bound.
#[derive(Debug)]
pub(crate) struct Cleanup {
    socket: PathBuf,
    inode: u64,
}

impl Server {
    /// Takes the socket, in place of one that nobody answers on.
    ///
    /// # Errors
    /// A [`ServerError`] that says what to do; nothing was changed then but directories made.
    pub async fn bind(config: &ProvisionerConfig) -> Result<Self, ServerError> {
        let permitted = Permitted::of(config)?;
        let (gate, cleanup) = Gate::open(&config.socket, permitted).await?;
        Ok(Self { gate, permitted, cleanup, door: None })
    }

    /// Has it tell whoever asks where the lobby is.
    #[must_use]
    pub fn with_lobby(self, door: Door) -> Self {
        Self { door: Some(door), ..self }
    }

    pub(super) fn into_parts(self) -> (Gate, Permitted, Cleanup) {
        (self.gate, self.permitted, self.cleanup)
    }
}

impl Gate {
    /// Takes a socket, in place of one that nobody answers on.
    pub(crate) async fn open(socket: &Path, permitted: Permitted) -> Result<(Self, Cleanup), ServerError> {
        remove_stale(socket).await?;
        let failed = |source| ServerError::Io { path: socket.to_owned(), source };
        if let Some(directory) = socket.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let listener = UnixListener::bind(socket).map_err(failed)?;
        let inode = fs::metadata(socket).map_err(failed)?.ino();
        let cleanup = Cleanup { socket: socket.to_owned(), inode };
        chown(socket, Some(Uid::from_raw(permitted.gateway)), None).map_err(|fault| failed(fault.into()))?;
        fs::set_permissions(socket, Permissions::from_mode(0o600)).map_err(failed)?;
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Ok((Self { listener, permits }, cleanup))
    }
}

/// A user by name or by number; a number needs no entry in the user database.
fn uid_of(user: &str) -> Result<u32, ServerError> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    match User::from_name(user) {
        Ok(Some(found)) => Ok(found.uid.as_raw()),
        Ok(None) => Err(ServerError::NoSuchUser(user.to_owned())),
        Err(source) => Err(ServerError::Lookup { user: user.to_owned(), source }),
    }
}

/// A killed provisioner leaves its socket behind: nobody answers there.
async fn remove_stale(socket: &Path) -> Result<(), ServerError> {
    let failed = |source| ServerError::Io { path: socket.to_owned(), source };
    match fs::symlink_metadata(socket) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ServerError::NotASocket(socket.to_owned()));
        }
        Ok(_) => {}
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(fault) => return Err(failed(fault)),
    }
    match UnixStream::connect(socket).await {
        Ok(_) => Err(ServerError::InUse(socket.to_owned())),
        // Its queue is full: someone is there, if busy.
        Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => Err(ServerError::InUse(socket.to_owned())),
        Err(fault) if fault.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(socket).map_err(failed)
        }
        Err(fault) => Err(failed(fault)),
    }
}

impl Permitted {
    pub(crate) fn of(config: &ProvisionerConfig) -> Result<Self, ServerError> {
        Ok(Self { gateway: uid_of(&config.gateway_user)? })
    }

    pub(crate) fn includes(self, peer: Peer) -> bool {
        peer.is_root() || peer.uid == self.gateway
    }
}

impl Peer {
    pub(super) fn is_root(self) -> bool {
        Uid::from_raw(self.uid).is_root()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}", self.uid)?;
        self.pid.map_or(Ok(()), |pid| write!(f, " (process {pid})"))
    }
}

impl Connected<IncomingStream<'_, Gate>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Gate>) -> Self {
        *stream.remote_addr()
    }
}

impl Listener for Gate {
    type Io = Admitted;
    type Addr = Peer;

    async fn accept(&mut self) -> (Admitted, Peer) {
        loop {
            // The permit comes first: a connection that was accepted is served.
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
                std::future::pending().await
            };
            match self.listener.accept().await.and_then(|(stream, _)| Ok((stream.peer_cred()?, stream))) {
                Ok((cred, stream)) => {
                    let peer = Peer { uid: cred.uid(), pid: cred.pid() };
                    return (Admitted { stream, _permit: permit }, peer);
                }
                Err(fault) => {
                    warn!("a connection cannot be accepted: {fault}");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { uid: Uid::current().as_raw(), pid: None })
    }
}

impl AsyncRead for Admitted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Admitted {
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

impl Drop for Cleanup {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.socket).is_ok_and(|found| found.ino() == self.inode)
            && let Err(fault) = fs::remove_file(&self.socket)
        {
            warn!("{}: cannot be removed: {fault}", self.socket.display());
        }
    }
}
