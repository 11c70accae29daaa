//! An [`Endpoint`] becomes an [`Upstream`]: a connection to the box's sshd, its host key pinned,
//! authenticated with a certificate of this login's own. So does the [`LobbyEndpoint`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use boxgate_provisioner_api::{Endpoint, LobbyEndpoint};
use russh::SshId;
use russh::client::{self, AuthResult, Handle};
use russh::keys::PublicKeyOrCertificate;
use ssh_key::{Certificate, PrivateKey, PublicKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::authority::Authority;
use crate::relay::{ClientEnd, HostKeys, Pipe};
use crate::resolve::{LobbyGrant, Principal};
use crate::{relay, socket};

mod spare;

pub use spare::{Lease, Spares};

/// An authenticated connection to a box, and the client's end of its pipe. What the box sends before a client
/// takes it waits there.
pub struct Upstream {
    pub client: ClientEnd,
    pub hold: Hold,
}

/// Dropping it ends the connection to the box.
pub struct Hold {
    _handle: Handle<Pin>,
}

impl Upstream {
    /// Whether the box has not ended the connection, as far as anyone knows.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.client.link.is_closed()
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upstream")
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

/// Why a box that should be there could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("cannot be reached: {0}")]
    Connect(#[from] io::Error),
    #[error("does not answer within {} s", after.as_secs())]
    Timeout { after: Duration },
    #[error("has another host key than it was made with")]
    HostKey,
    #[error("does not accept the gateway's certificate")]
    Certificate,
    #[error("cannot write a certificate or read the host key: {0}")]
    Key(#[from] ssh_key::Error),
    #[error("ended the handshake: {0}")]
    Ssh(#[from] russh::Error),
}

/// Makes connections to boxes.
#[derive(Debug, Clone)]
pub struct Dialer {
    authority: Arc<Authority>,
    host_keys: Arc<HostKeys>,
    patience: Duration,
}

impl Dialer {
    /// Whoever has not authenticated us within `patience` is not going to. A box whose sshd answers may still be at its
    /// boot, beside many others, so it is given as long as a boot may take.
    #[must_use]
    pub fn new(authority: &Arc<Authority>, host_keys: &Arc<HostKeys>, patience: Duration) -> Self {
        Self { authority: Arc::clone(authority), host_keys: Arc::clone(host_keys), patience }
    }

    /// Connects to the box and authenticates as its user, for `principal`.
    ///
    /// # Errors
    /// A [`DialError`]; nothing of the attempt is left then.
    pub async fn dial(&self, endpoint: &Endpoint, principal: &Principal) -> Result<Upstream, DialError> {
        self.dial_with(endpoint, self.authority.mint(&endpoint.unix_user, principal)?).await
    }

    /// The same before anyone has come.
    async fn dial_spare(&self, endpoint: &Endpoint) -> Result<Upstream, DialError> {
        self.dial_with(endpoint, self.authority.mint_for_spare(&endpoint.unix_user)?).await
    }

    /// Connects to the lobby as the person who was granted it.
    ///
    /// # Errors
    /// See [`Self::dial`].
    pub async fn dial_lobby(
        &self,
        endpoint: &LobbyEndpoint,
        grant: &LobbyGrant,
    ) -> Result<Upstream, DialError> {
        let login = grant.principal().login().as_str();
        let pass = self.authority.mint(login, grant.principal())?;
        let dialing = async {
            let stream = UnixStream::connect(&endpoint.socket).await?;
            handshake(stream, &endpoint.host_key, login, pass, relay::pipe(&self.host_keys)).await
        };
        self.wait(dialing).await
    }

    async fn dial_with(&self, endpoint: &Endpoint, pass: Pass) -> Result<Upstream, DialError> {
        let dialing = connect(endpoint, pass, relay::pipe(&self.host_keys));
        self.wait(dialing).await
    }

    // Boxed: a dial's state is large, and the task that holds it lives as long as the connection.
    async fn wait(
        &self,
        dialing: impl Future<Output = Result<Upstream, DialError>>,
    ) -> Result<Upstream, DialError> {
        let after = self.patience;
        timeout(after, Box::pin(dialing)).await.map_err(|_| DialError::Timeout { after })?
    }
}

/// A certificate and the key that it certifies.
type Pass = (Arc<PrivateKey>, Certificate);

async fn connect(endpoint: &Endpoint, pass: Pass, pipe: Pipe) -> Result<Upstream, DialError> {
    let stream = TcpStream::connect(endpoint.address).await?;
    socket::tune(&stream)?;
    let stream = socket::Acknowledging::new(stream);
    handshake(stream, &endpoint.host_key, &endpoint.unix_user, pass, pipe).await
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host_key: &str,
    user: &str,
    (key, certificate): Pass,
    pipe: Pipe,
) -> Result<Upstream, DialError> {
    let pin = Pin { host_key: PublicKey::from_openssh(host_key)? };
    let mut handle = match client::connect_stream(Arc::new(config()), stream, pin).await {
        Err(DialError::Ssh(russh::Error::UnknownKey)) => return Err(DialError::HostKey),
        handle => handle?,
    };
    handle.set_raw(pipe.devbox).await?;
    match handle.authenticate_openssh_cert(user, key, certificate).await? {
        AuthResult::Success => Ok(Upstream { client: pipe.client, hold: Hold { _handle: handle } }),
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

/// Believes a box, or the lobby, by the key that the provisioner made for it, and by nothing else.
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
