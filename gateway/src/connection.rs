//! One client's connection, from its first byte to its account.
//!
//! ```text
//!  Startup ──signature verified──► Opening ──box is connected──► Relaying ──either side ends──► accounted
//!     │                              │
//!     └─ grace time is up            └─ no box: the reason, as a disconnect message
//! ```
//!
//! russh drives the protocol and calls `Front`; this module's [`serve`] owns the connection's lifetime.
//! Between them pass two things: the word that a signature was verified, and, back, the pipe to relay over.
//!
//! Invariant: nothing is asked of the provisioner before `Front::auth_publickey`, which russh calls only
//! with a verified signature (RFC 4252 §7).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::Endpoint;
use russh::Disconnect;
use russh::server::{
    Auth, Handle, Handler, PublicKeyOffer, RunningSession, SecurityKeyStatement, Session,
    VerifiedCertificate, VerifiedPublicKey, run_stream,
};
use ssh_key::Algorithm;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{Span, debug, field, info, warn};

use crate::account::Account;
use crate::authenticate::{Admission, Credential};
use crate::dial::{DialError, Lease, Upstream};
use crate::ensure::{PROGRESS_QUEUE, ensure, lobby};
use crate::farewell::{self, OpenError, Wanted};
use crate::penalties::Offence;
use crate::relay::ClientEnd;
use crate::resolve::{Grant, Granted, LobbyGrant, Principal, resolve};
use crate::server::Shared;
use crate::socket::{Acknowledging, Ender};

/// How long a client may take to read why it is disconnected.
const FAREWELL: Duration = Duration::from_secs(2);

/// Characters of a login name that are logged.
const LOGGED_NAME: usize = 64;

/// Where the pipe's end waits until russh says that authentication succeeded.
type ClientEndSlot = Arc<Mutex<Option<ClientEnd>>>;

/// russh's view of the connection: answers its questions about keys, hands over the link.
struct Front {
    shared: Arc<Shared>,
    peer: SocketAddr,
    /// Taken by the first verified signature.
    verified: Option<oneshot::Sender<Verified>>,
    end: ClientEndSlot,
    /// The connection's span, until the first name that is asked for is in it.
    unnamed: Option<Span>,
    /// Whether the client has offered a key.
    tried: Arc<AtomicBool>,
}

impl Front {
    /// Puts the name that is asked for into the log, escaped and short: it is whatever a stranger sends.
    fn name(&mut self, user: &str) {
        if let Some(span) = self.unnamed.take() {
            let short: String = user.chars().take(LOGGED_NAME).collect();
            span.record("login", field::debug(short));
        }
    }

    /// Who would be let in as `user` by a key or a certificate.
    fn admission(&mut self, user: &str, algorithm: &Algorithm, with: Credential<'_>) -> Option<Admission> {
        self.tried.store(true, Relaxed);
        // An RSA signature without a hash in its name is one over SHA-1.
        let strong = *algorithm != Algorithm::Rsa { hash: None };
        self.shared.users.authenticate(user, with, self.peer).filter(|_| strong)
    }

    /// The answer to a verified signature.
    fn admit(
        &mut self,
        user: &str,
        admission: Option<Admission>,
        statement: Option<SecurityKeyStatement>,
    ) -> Auth {
        let principal = match admission.map(|admission| admission.admit(statement)) {
            Some(Ok(principal)) => principal,
            Some(Err(reason)) => {
                info!("refused: {reason}");
                return Auth::reject();
            }
            None => return Auth::reject(),
        };
        let verified = Verified { principal, login: user.to_owned() };
        let sent = self.verified.take().is_some_and(|waiting| waiting.send(verified).is_ok());
        if sent { Auth::Pending } else { Auth::reject() }
    }
}

/// Somebody proved to hold her key, and asked for `login`.
struct Verified {
    principal: Principal,
    login: String,
}

impl Handler for Front {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        self.name(user);
        Ok(Auth::reject())
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        self.name(user);
        let credential = offer.certificate.map_or(Credential::Key(offer.public_key), Credential::Certificate);
        let Some(admission) = self.admission(user, offer.algorithm, credential) else {
            return Ok(Auth::reject());
        };
        if admission.is_unrestricted()
            && let Ok(devbox) = DevBoxId::parse(user)
        {
            self.shared.spares.expect(&devbox);
        }
        Ok(Auth::Accept)
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let admission = self.admission(user, key.algorithm, Credential::Key(key.public_key));
        Ok(self.admit(user, admission, key.security_key))
    }

    async fn auth_certificate(
        &mut self,
        user: &str,
        verified: VerifiedCertificate<'_>,
    ) -> Result<Auth, Self::Error> {
        let credential = Credential::Certificate(verified.certificate);
        let admission = self.admission(user, verified.algorithm, credential);
        Ok(self.admit(user, admission, verified.security_key))
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ClientEnd { link, session_id, .. } = end.ok_or(russh::Error::Inconsistent)?;
        // It is set once: authentication succeeds once.
        drop(session_id.set(session.session_id().ok_or(russh::Error::Inconsistent)?.to_vec()));
        session.set_raw(link);
        Ok(())
    }
}

/// Serves one client until she or her box is done. `startup` is given back when she is authenticated.
pub async fn serve(
    stream: TcpStream,
    ender: Ender,
    peer: SocketAddr,
    shared: Arc<Shared>,
    startup: OwnedSemaphorePermit,
) {
    let slot = ClientEndSlot::default();
    let Some((mut session, Verified { principal, login })) = authenticate(stream, peer, &shared, &slot).await
    else {
        return ender.end();
    };
    drop(startup);
    info!(%principal, "authenticated");

    let since = Instant::now();
    let handle = session.handle();
    let opened = tokio::select! {
        opened = open(&shared, &handle, principal, &login) => opened,
        _ = &mut session => return info!("left before the box was ready"),
        why = shared.ending.begun() => return part(session, &ender, &farewell::end(why)).await,
    };
    let Opened { upstream: Upstream { client, hold }, devbox } = match opened {
        Ok(opened) => opened,
        Err(fault) => {
            warn!(%fault, "no box");
            return part(session, &ender, &farewell::text(&fault)).await;
        }
    };
    let tap = Arc::clone(&client.tap);
    let account = Account::open(since, Arc::clone(&tap));
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
    if handle.auth_finish(Auth::Accept).await.is_err() {
        return info!("left before the box was ready");
    }
    let presence = devbox.as_ref().map(|(devbox, _)| shared.uses.enter(devbox, tap));
    info!("relaying");

    tokio::select! {
        result = &mut session => account.close(Some(result)),
        why = shared.ending.begun() => {
            part(session, &ender, &farewell::end(why)).await;
            account.close(None);
        }
    }
    drop(hold);
    drop(presence);
    drop(devbox);
}

/// What is connected to.
struct Opened {
    upstream: Upstream,
    /// None for the lobby, which nobody's use keeps up.
    devbox: Option<(DevBoxId, Lease)>,
}

/// Startup: the handshake, and the keys that the client tries, until one is verified. `None` when the client,
/// the grace time or the gateway ended it; the log says which, and the client's address serves a penalty.
async fn authenticate(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    end: &ClientEndSlot,
) -> Option<(RunningSession<Front>, Verified)> {
    let (verified, proof) = oneshot::channel();
    let tried = Arc::new(AtomicBool::new(false));
    let front = Front {
        shared: Arc::clone(shared),
        peer,
        verified: Some(verified),
        end: Arc::clone(end),
        unnamed: Some(Span::current()),
        tried: Arc::clone(&tried),
    };
    let startup = async {
        let stream = Acknowledging::new(stream);
        // Returns when the client has identified itself (RFC 4253 §4.2).
        let mut session = run_stream(Arc::clone(&shared.ssh), stream, front).await?;
        tokio::select! {
            biased;
            // The sender goes away with the session, which then says why.
            Ok(verified) = proof => Ok(Some((session, verified))),
            ended = &mut session => ended.map(|()| None),
        }
    };
    let in_vain = || if tried.load(Relaxed) { Offence::Failed } else { Offence::NotTried };
    let offence = tokio::select! {
        ended = timeout(shared.login_grace_time, startup) => match ended {
            Ok(Ok(Some(proven))) => return Some(proven),
            Ok(Ok(None)) => {
                info!("left before authentication");
                in_vain()
            }
            Ok(Err(fault)) => {
                info!(%fault, "ended before authentication");
                if matches!(&fault, russh::Error::Join(_)) { Offence::Crashed } else { in_vain() }
            }
            Err(_) => {
                info!("not authenticated within the login grace time");
                Offence::GraceExceeded
            }
        },
        _ = shared.ending.begun() => return None,
    };
    shared.penalties.add(peer.ip(), offence);
    None
}

/// Resolve, ensure, dial: what lies between a verified signature and a relayed connection.
async fn open(
    shared: &Shared,
    handle: &Handle,
    principal: Principal,
    login: &str,
) -> Result<Opened, OpenError> {
    match resolve(principal, login)? {
        Granted::DevBox(grant) => open_devbox(shared, handle, &grant).await,
        Granted::Lobby(grant) => open_lobby(shared, &grant).await,
    }
}

/// The lobby is there or it is not: there is nothing to wait for, and no spare connection to have.
async fn open_lobby(shared: &Shared, grant: &LobbyGrant) -> Result<Opened, OpenError> {
    let endpoint = lobby(&shared.provisioner, grant, &shared.authority).await;
    let endpoint = endpoint.map_err(|source| OpenError::Ensure { what: Wanted::Lobby, source })?;
    match shared.dialer.dial_lobby(&endpoint, grant).await {
        Ok(upstream) => Ok(Opened { upstream, devbox: None }),
        Err(source) => Err(OpenError::Dial { what: Wanted::Lobby, source }),
    }
}

async fn open_devbox(shared: &Shared, handle: &Handle, grant: &Grant) -> Result<Opened, OpenError> {
    Span::current().record("devbox", field::display(grant.devbox()));
    let endpoint = ensure_with_progress(shared, handle, grant).await?;
    if !endpoint.isolated {
        banner(handle, "warning: boxes on this host are not isolated, root in a box is root on the host")
            .await;
    }
    let devbox = grant.devbox().clone();
    let lease = shared.spares.lease(&devbox, &endpoint);
    match connect(shared, grant, &endpoint).await {
        Ok(upstream) => Ok(Opened { upstream, devbox: Some((devbox, lease)) }),
        Err(source) => Err(OpenError::Dial { what: wanted(grant), source }),
    }
}

/// A connection to the box: a spare one, if its user may do all there and there is one.
async fn connect(shared: &Shared, grant: &Grant, endpoint: &Endpoint) -> Result<Upstream, DialError> {
    if grant.principal().is_unrestricted()
        && let Some(upstream) = shared.spares.take(grant.devbox(), endpoint).await
    {
        debug!("took a spare connection");
        return Ok(upstream);
    }
    shared.dialer.dial(endpoint, grant.principal()).await
}

/// Ensures the box while its progress is shown as authentication banners (RFC 4252 §5.4), which OpenSSH
/// prints on standard error.
async fn ensure_with_progress(
    shared: &Shared,
    handle: &Handle,
    grant: &Grant,
) -> Result<Endpoint, OpenError> {
    let (progress, mut lines) = mpsc::channel::<String>(PROGRESS_QUEUE);
    let show = async {
        while let Some(line) = lines.recv().await {
            banner(handle, &line).await;
        }
    };
    let (endpoint, ()) = tokio::join!(ensure(&shared.provisioner, grant, &shared.authority, progress), show);
    endpoint.map_err(|source| OpenError::Ensure { what: wanted(grant), source })
}

fn wanted(grant: &Grant) -> Wanted {
    Wanted::DevBox(grant.devbox().clone())
}

async fn banner(handle: &Handle, line: &str) {
    if handle.auth_banner(format!("boxgate: {line}\r\n")).await.is_err() {
        debug!("the client left before it was told: {line}");
    }
}

/// Says why and ends the connection: a client that does not listen is not waited for.
async fn part(session: RunningSession<Front>, ender: &Ender, text: &str) {
    let goodbye = async {
        let handle = session.handle();
        let said = handle.disconnect(Disconnect::ByApplication, text.to_owned(), "en".to_owned());
        said.await.is_ok() && session.await.is_ok()
    };
    if timeout(FAREWELL, goodbye).await != Ok(true) {
        debug!("the client may not have been told: {text}");
    }
    ender.end();
}
