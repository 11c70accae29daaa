//! A [`Grant`] becomes an [`Endpoint`]: the provisioner makes or wakes the box and says where its sshd is. A
//! [`LobbyGrant`] becomes a [`LobbyEndpoint`], for which nothing has to be made.

use boxgate_provisioner_api::{Client, ClientError, Endpoint, EnsureRequest, LobbyEndpoint, LobbyRequest};
use tokio::sync::mpsc;

use crate::authority::Authority;
use crate::resolve::{Grant, LobbyGrant};

/// Lines of progress that may wait for a slow client; when it is full, further ones are dropped.
pub const PROGRESS_QUEUE: usize = 16;

/// Asks for the box of `grant`, sending each line of progress to `progress`. Dropping the call leaves the
/// provisioner to finish what it began, so that the next login finds the box further on.
///
/// # Errors
/// Why there is no box, in the provisioner's words.
pub async fn ensure(
    provisioner: &Client,
    grant: &Grant,
    authority: &Authority,
    progress: mpsc::Sender<String>,
) -> Result<Endpoint, EnsureError> {
    let request = EnsureRequest {
        devbox: grant.devbox().clone(),
        user_ca: authority.public_line()?,
        client: grant.principal().to_string(),
    };
    let on_progress = move |line: boxgate_provisioner_api::Progress| {
        // A client that does not read its progress does not hold up its box.
        drop(progress.try_send(line.text));
    };
    Ok(provisioner.ensure(&request, on_progress).await?)
}

/// Asks where the lobby is, which believes this gateway's certificates from then on.
///
/// # Errors
/// Why there is no lobby.
pub async fn lobby(
    provisioner: &Client,
    _: &LobbyGrant,
    authority: &Authority,
) -> Result<LobbyEndpoint, EnsureError> {
    let request = LobbyRequest { user_ca: authority.public_line()? };
    Ok(provisioner.lobby(&request).await?)
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    #[error(transparent)]
    Provisioner(#[from] ClientError),
    #[error("cannot write the authority's key: {0}")]
    Authority(#[from] ssh_key::Error),
}
