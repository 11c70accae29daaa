//! The lobby: `ssh box@devhost VERB`, where people say what they want of their boxes.
//!
//! ```text
//! client ══ gateway, which pipes packets ══ Unix socket ══► connection ──► verb ──► desk ──► Client ──► the API
//!           and whose certificate says who comes            one channel    what is   does it   its own socket
//!                                                           one verb       wanted
//! ```
//!
//! What a visitor wants is asked of the provisioner's own API, as root asks it: the lobby can do nothing that the
//! API does not check, and knows nothing of fleet, backend and Docker.
//!
//! Invariants: only the gateway's user and root are heard, and of those only who has a certificate of an authority
//! that the gateway named ([`Door`]); a visitor orders about her own boxes and no others (`name`); a channel that
//! ends takes its verb's waiting with it and not the work; everything that a visitor sends is bounded.

mod connection;
mod desk;
mod door;
mod exit;
mod kubeconfig;
mod name;
mod ssh_config;
mod terminal;
#[cfg(test)]
mod tests;
mod verb;
mod visitor;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::serve::Listener;
use boxgate_config::{Config, LoginName};
use boxgate_provisioner_api::Client;
use russh::{MethodKind, MethodSet, SshId, server};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span, warn};

use crate::server::{Cleanup, Gate, Permitted, ServerError};
use connection::Connection;
pub use door::Door;

/// Connections of one person at once: more than anyone's scripts need, so few that nobody keeps the others out.
const VISITS_MAX: usize = 32;
/// Bytes of a channel's input that are on their way: enough for whatever is typed.
const WINDOW: u32 = 64 * 1024;
/// Messages that wait for the connection's task.
const QUEUE: usize = 16;

/// The lobby's socket, bound and not yet served.
#[derive(Debug)]
pub struct Lobby {
    gate: Gate,
    permitted: Permitted,
    cleanup: Cleanup,
    ssh: Arc<server::Config>,
    site: Arc<Site>,
}

/// What all connections share.
#[derive(Debug)]
struct Site {
    door: Door,
    provisioner: Client,
    /// How the host is reached, and what people may have.
    config: Arc<Config>,
    visits: Mutex<HashMap<LoginName, usize>>,
}

/// Somebody's connection among those that she may have. Dropping it gives it back.
#[derive(Debug)]
struct Visit {
    site: Arc<Site>,
    login: LoginName,
}

impl Lobby {
    /// Makes a host key and takes the socket.
    ///
    /// # Errors
    /// A [`ServerError`] that says what to do.
    pub async fn bind(config: &Arc<Config>) -> Result<Self, ServerError> {
        let permitted = Permitted::of(&config.provisioner)?;
        let (door, host_key) = Door::make(config.provisioner.lobby_socket.clone())?;
        let (gate, cleanup) = Gate::open(&config.provisioner.lobby_socket, permitted).await?;
        let site = Site {
            door,
            provisioner: Client::new(config.provisioner.socket.clone()),
            config: Arc::clone(config),
            visits: Mutex::default(),
        };
        Ok(Self { gate, permitted, cleanup, ssh: Arc::new(ssh_config(host_key)), site: Arc::new(site) })
    }

    /// What the API tells of the lobby.
    #[must_use]
    pub fn door(&self) -> Door {
        self.site.door.clone()
    }

    /// Serves until `shutdown` is cancelled and every visitor was told. Removes the socket at the end.
    pub async fn serve(mut self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        while let Some((stream, peer)) = shutdown.run_until_cancelled(self.gate.accept()).await {
            if !self.permitted.includes(peer) {
                warn!("turned {peer} away from the lobby, who is neither root nor provisioner.gateway_user");
                continue;
            }
            let serving =
                Connection::serve(stream, Arc::clone(&self.ssh), Arc::clone(&self.site), shutdown.clone());
            tasks.spawn(serving.instrument(info_span!("lobby", login = tracing::field::Empty)));
        }
        tasks.close();
        tasks.wait().await;
        drop(self.cleanup);
    }
}

impl Site {
    /// One more connection of somebody's, unless she has too many.
    fn admit(self: &Arc<Self>, login: &LoginName) -> Option<Visit> {
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        let count = visits.entry(login.clone()).or_default();
        if *count >= VISITS_MAX {
            return None;
        }
        *count += 1;
        Some(Visit { site: Arc::clone(self), login: login.clone() })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut visits = self.site.visits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = visits.get_mut(&self.login) {
            *count -= 1;
            if *count == 0 {
                visits.remove(&self.login);
            }
        }
    }
}

fn ssh_config(host_key: ssh_key::PrivateKey) -> server::Config {
    server::Config {
        server_id: SshId::Standard(concat!("SSH-2.0-Boxgate_", env!("CARGO_PKG_VERSION")).into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // It is the gateway that asks: nobody guesses here.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: None,
        keys: vec![host_key],
        window_size: WINDOW,
        channel_buffer_size: QUEUE,
        event_buffer_size: QUEUE,
        // A connection without channels is ended by its own task, and one with channels is waited for.
        inactivity_timeout: None,
        keepalive_interval: None,
        ..server::Config::default()
    }
}
