//! The listening sockets: those that the service manager has opened already, or else those of `gateway.listen`.
//!
//! A worker gets them from its supervisor as the supervisor gets them from systemd (`sd_listen_fds(3)`), so both ask
//! here. A socket that systemd holds needs no privilege, and whoever connects while nobody accepts waits in its queue.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

/// Why there are no sockets to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {address}: {source}{}", remedy(*address, source))]
    Bind { address: SocketAddr, source: io::Error },
    #[error(
        "socket {number} of those that the service manager gives is none to accept connections on: {source}"
    )]
    Given { number: usize, source: io::Error },
}

fn remedy(address: SocketAddr, fault: &io::Error) -> String {
    match fault.kind() {
        io::ErrorKind::AddrInUse => {
            format!(": another program has port {}, end it or change gateway.listen", address.port())
        }
        io::ErrorKind::PermissionDenied => {
            format!(": port {} needs CAP_NET_BIND_SERVICE, or choose one above 1023", address.port())
        }
        _ => String::new(),
    }
}

/// The sockets that whoever started this process has opened; none when it did not. To be called once, before there are
/// threads: it takes what it reads out of the environment.
///
/// # Errors
/// [`ListenError::Given`].
pub fn given() -> Result<Vec<TcpListener>, ListenError> {
    let mut sockets = ListenFd::from_env();
    let count = sockets.len();
    let take = |number| match sockets.take_tcp_listener(number) {
        Ok(socket) => socket.map(Ok),
        Err(source) => Some(Err(ListenError::Given { number, source })),
    };
    (0..count).filter_map(take).collect()
}

/// Binds every address.
///
/// # Errors
/// [`ListenError::Bind`], with what to do about it.
pub async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ListenError> {
    let mut bound = Vec::new();
    for &address in addresses {
        let socket = tokio::net::TcpListener::bind(address).await.and_then(tokio::net::TcpListener::into_std);
        bound.push(socket.map_err(|source| ListenError::Bind { address, source })?);
    }
    Ok(bound)
}
