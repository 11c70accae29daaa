//! The provisioner: makes boxes, wakes them, and tells the gateway where they answer.
//!
//! ```text
//! gateway ─► server ─────► fleet ──────────► ensure ───────────► reconcile      what is next? (pure)
//! boxgate    the socket,   one task per box  look, take a step,      │
//!            who may ask     │     │         look again          network        which subnet? (pure)
//!                          state   │           │       │         blueprint      what should it be? (pure)
//!                    what it does  │           │       ▼
//!                          (pure)  │           │   devbox_files                 what /etc/boxgate shows
//!                             leftovers        ▼
//!                    what no box needs       backend ─► Docker                  what is there, one change
//!                                (pure)
//!
//! archive                  what a box's home and Docker data look like on their way to another host (pure)
//! network/firewall ─► nft        a task that keeps boxes from each other and from the host; ensure asks it first
//! ```
//!
//! Invariants: Docker's labels say what exists, and nothing else does; an attempt may be dropped or killed
//! anywhere and the next one goes on from what is there; only `backend/docker` names bollard; nothing here
//! listens on a network.

pub mod archive;
pub mod backend;
pub mod blueprint;
pub mod claims;
pub mod cli;
pub mod devbox_files;
pub mod ensure;
mod exit;
pub mod failure;
pub mod fleet;
pub mod leftovers;
pub mod listing;
pub mod lobby;
pub mod network;
pub mod objects;
pub mod reconcile;
pub mod server;
mod service;
pub mod state;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::Duration;

use boxgate_config::Config;
use sd_notify::NotifyState;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use backend::Backend;
use backend::docker::Docker;
use ensure::Ensurer;
use fleet::Fleet;
use lobby::Lobby;
use network::firewall::Firewall;
use server::{Server, ServerError};

/// How long what is under way may take to end at a shutdown. All of it may be cut anywhere.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// When the socket cannot be served. That Docker is down is none: each request says so, until it is back.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ServerError> {
    let config = Arc::new(config);
    let server = Server::bind(&config.provisioner).await?;
    let lobby = Lobby::bind(&config).await?;
    let server = server.with_lobby(lobby.door());
    let docker = Docker::new(&config.provisioner);
    announce(&config, &docker).await;
    let firewall = Firewall::keep(&config, shutdown.clone()).await;
    let ensurer = Ensurer::new(docker, Arc::clone(&config)).behind(firewall);
    // What serves ends only once the service manager was told: on its own it could be through before that.
    let end = CancellationToken::new();
    let fleet = Fleet::new(ensurer, end.clone());
    let (answering, receiving) = (server.serve(fleet.clone(), end.clone()), lobby.serve(end.clone()));
    let serving = async {
        let reporting = end.clone().run_until_cancelled_owned(service::report(&fleet));
        tokio::join!(answering, receiving, fleet.look_after(), reporting)
    };
    tokio::pin!(serving);
    tokio::select! {
        () = shutdown.cancelled() => {
            info!("shutting down");
            service::tell(&[NotifyState::Stopping]);
            end.cancel();
            let ended = async { tokio::join!(&mut serving, fleet.landed()) };
            if timeout(SHUTDOWN, ended).await.is_err() {
                warn!("not all came to an end in {SHUTDOWN:?}; the next start goes on from what is there");
            }
        }
        _ = &mut serving => {}
    }
    Ok(())
}

/// What an operator wants to know of a fresh start.
async fn announce(config: &Config, docker: &Docker) {
    let provisioner = &config.provisioner;
    info!(
        instance = %provisioner.instance,
        socket = %provisioner.socket.display(),
        image = config.devbox.settings.image,
        runtime = config.devbox.runtime.docker_name(),
        "serving"
    );
    if !config.devbox.runtime.isolates() {
        warn!("box.runtime is runc, which does not isolate: root in a box is root on this host");
    }
    if let Err(error) = docker.ping().await {
        warn!("{error}; boxes can be had as soon as it answers");
    }
}
