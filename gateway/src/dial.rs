//! An [`Endpoint`] becomes an [`Upstream`]: a connection to the box's sshd, its host key pinned,
//! authenticated with a certificate of this login's own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use boxgate_provisioner_api::Endpoint;
use russh::client::{self, AuthResult, Handle};
use russh::keys::PublicKeyOrCertificate;
use russh::{RawLink, SshId};
use ssh_key::PublicKey;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::authority::Authority;
use crate::resolve::Principal;
use crate::{relay, socket};

/// Boxes are on this host: one that has not authenticated us by then is not going to.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);

/// An authenticated connection to a box, whose packets go over the link that came with it.
pub struct Upstream {
    /// Dropping it ends the connection to the box.
    _handle: Handle<Pin>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upstream")
    }
}

/// Why a box that should be there could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("cannot be reached: {0}")]
    Connect(#[from] io::Error),
    #[error("does not answer within {} s", DIAL_TIMEOUT.as_secs())]
    Timeout,
    #[error("has another host key than it was made with")]
    HostKey,
    #[error("does not accept the gateway's certificate")]
    Certificate,
    #[error("cannot write a certificate or read the host key: {0}")]
    Key(#[from] ssh_key::Error),
    #[error("ended the handshake: {0}")]
    Ssh(#[from] russh::Error),
}

/// Connects to the box and authenticates as its user. `link` carries the connection's packets from the
/// moment the box has accepted us; until somebody takes them from its other end they wait there.
///
/// # Errors
/// A [`DialError`]; nothing of the attempt is left then.
pub async fn dial(
    endpoint: &Endpoint,
    principal: &Principal,
    authority: &Authority,
    link: RawLink,
) -> Result<Upstream, DialError> {
    timeout(DIAL_TIMEOUT, connect(endpoint, principal, authority, link))
        .await
        .map_err(|_| DialError::Timeout)?
}

async fn connect(
    endpoint: &Endpoint,
    principal: &Principal,
    authority: &Authority,
    link: RawLink,
) -> Result<Upstream, DialError> {
    let pin = Pin { host_key: PublicKey::from_openssh(&endpoint.host_key)? };
    let (key, certificate) = authority.mint(&endpoint.unix_user, principal)?;
    let stream = TcpStream::connect(endpoint.address).await?;
    socket::tune(&stream)?;
    let mut handle = match client::connect_stream(Arc::new(config()), stream, pin).await {
        Err(DialError::Ssh(russh::Error::UnknownKey)) => return Err(DialError::HostKey),
        handle => handle?,
    };
    handle.set_raw(link).await?;
    match handle.authenticate_openssh_cert(&endpoint.unix_user, key, certificate).await? {
        AuthResult::Success => Ok(Upstream { _handle: handle }),
        AuthResult::Failure { .. } => Err(DialError::Certificate),
    }
}

fn config() -> client::Config {
    client::Config {
        client_id: SshId::Standard(relay::IDENTIFICATION.into()),
        limits: relay::rekey_limits(),
        preferred: relay::preferred_upstream(),
        inactivity_timeout: None,
        keepalive_interval: None,
        ..client::Config::default()
    }
}

/// Believes a box by the key that the provisioner made for it, and by nothing else.
struct Pin {
    host_key: PublicKey,
}

impl client::Handler for Pin {
    type Error = DialError;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, DialError> {
        Ok(match presented {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.key_data() == self.host_key.key_data(),
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }
}
