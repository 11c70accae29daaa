//! One client's connection, from its first byte to its account.
//!
//! ```text
//!  Startup ──signature verified──► Opening ──box is connected──► Relaying ──either side ends──► accounted
//!     │                              │
//!     └─ grace time is up            └─ no box: the reason, as a disconnect message
//! ```
//!
//! russh drives the protocol and calls `Front`; this module's [`serve`] owns the connection's lifetime.
//! Between them pass two things: the word that a signature was verified, and, back, the link to relay over.
//!
//! Invariant: nothing is asked of the provisioner before `Front::auth_publickey`, which russh calls only
//! with a verified signature (RFC 4252 §7).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boxgate_provisioner_api::Endpoint;
use russh::server::{
    Auth, Handle, Handler, PublicKeyOffer, RunningSession, Session, VerifiedPublicKey, run_stream,
};
use russh::{Disconnect, RawLink};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;
use tracing::{Span, debug, field, info, warn};

use crate::account::Traffic;
use crate::dial::{Upstream, dial};
use crate::ensure::{PROGRESS_QUEUE, ensure};
use crate::farewell::{self, OpenError};
use crate::relay;
use crate::resolve::{Grant, Principal, resolve};
use crate::server::Shared;
use crate::socket::ClientSocket;

/// How long a client may take to read why it is disconnected.
const FAREWELL: Duration = Duration::from_secs(2);

/// Characters of a login name that are logged.
const LOGGED_NAME: usize = 64;
const RESTARTING: &str = "the gateway is being restarted. Log in again in a moment.";

/// Where the box's link waits until russh says that authentication succeeded.
type LinkSlot = Arc<Mutex<Option<RawLink>>>;

/// russh's view of the connection: answers its questions about keys, hands over the link.
struct Front {
    shared: Arc<Shared>,
    peer: SocketAddr,
    /// Taken by the first verified signature.
    verified: Option<oneshot::Sender<Verified>>,
    link: LinkSlot,
    /// The connection's span, until the first name that is asked for is in it.
    unnamed: Option<Span>,
}

impl Front {
    /// Puts the name that is asked for into the log, escaped and short: it is whatever a stranger sends.
    fn name(&mut self, user: &str) {
        if let Some(span) = self.unnamed.take() {
            let short: String = user.chars().take(LOGGED_NAME).collect();
            span.record("login", field::debug(short));
        }
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
        let known = self.shared.users.authenticate(user, offer.public_key, self.peer).is_some();
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let Some(principal) = self.shared.users.authenticate(user, key.public_key, self.peer) else {
            return Ok(Auth::reject());
        };
        let verified = Verified { principal, login: user.to_owned() };
        let sent = self.verified.take().is_some_and(|waiting| waiting.send(verified).is_ok());
        Ok(if sent { Auth::Pending } else { Auth::reject() })
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).take();
        session.set_raw(link.ok_or(russh::Error::Inconsistent)?);
        Ok(())
    }
}

/// Serves one client until she or her box is done. `startup` is given back when she is authenticated.
pub async fn serve(
    socket: ClientSocket,
    peer: SocketAddr,
    shared: Arc<Shared>,
    startup: OwnedSemaphorePermit,
) {
    let link = LinkSlot::default();
    let Some((mut session, Verified { principal, login })) =
        authenticate(&socket, peer, &shared, &link).await
    else {
        return socket.end();
    };
    drop(startup);
    info!(%principal, "authenticated");

    let traffic = Arc::new(Traffic::begin());
    let handle = session.handle();
    let opened = tokio::select! {
        opened = open(&shared, &handle, principal, &login, &traffic) => opened,
        _ = &mut session => return info!("left before the box was ready"),
        () = shared.stop.cancelled() => return part(session, &socket, RESTARTING).await,
    };
    let (upstream, client_link) = match opened {
        Ok(opened) => opened,
        Err(fault) => {
            warn!(%fault, "no box");
            return part(session, &socket, &farewell::text(&fault)).await;
        }
    };
    *link.lock().unwrap_or_else(PoisonError::into_inner) = Some(client_link);
    if handle.auth_finish(Auth::Accept).await.is_err() {
        return info!("left before the box was ready");
    }
    info!("relaying");

    tokio::select! {
        ended = &mut session => match ended {
            Ok(()) => info!(%traffic, "done"),
            Err(fault) => info!(%traffic, %fault, "cut"),
        },
        () = shared.stop.cancelled() => part(session, &socket, RESTARTING).await,
    }
    drop(upstream);
}

/// Startup: the handshake, and the keys that the client tries, until one is verified. `None` when the client,
/// the grace time or the gateway ended it; the log says which.
async fn authenticate(
    socket: &ClientSocket,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    link: &LinkSlot,
) -> Option<(RunningSession<Front>, Verified)> {
    let (verified, proof) = oneshot::channel();
    let front = Front {
        shared: Arc::clone(shared),
        peer,
        verified: Some(verified),
        link: Arc::clone(link),
        unnamed: Some(Span::current()),
    };
    let startup = async {
        // Returns when the client has identified itself (RFC 4253 §4.2).
        let mut session = run_stream(Arc::clone(&shared.ssh), socket.clone(), front).await?;
        tokio::select! {
            biased;
            // The sender goes away with the session, which then says why.
            Ok(verified) = proof => Ok(Some((session, verified))),
            ended = &mut session => ended.map(|()| None),
        }
    };
    tokio::select! {
        ended = timeout(shared.login_grace_time, startup) => match ended {
            Ok(Ok(Some(proven))) => return Some(proven),
            Ok(Ok(None)) => info!("left before authentication"),
            Ok(Err(fault)) => info!(%fault, "ended before authentication"),
            Err(_) => info!("not authenticated within the login grace time"),
        },
        () = shared.stop.cancelled() => {}
    }
    None
}

/// Resolve, ensure, dial: what lies between a verified signature and a relayed connection.
async fn open(
    shared: &Shared,
    handle: &Handle,
    principal: Principal,
    login: &str,
    traffic: &Arc<Traffic>,
) -> Result<(Upstream, RawLink), OpenError> {
    let grant = resolve(principal, login)?;
    Span::current().record("devbox", field::display(grant.devbox()));
    let endpoint = ensure_with_progress(shared, handle, &grant).await?;
    if !endpoint.isolated {
        banner(handle, "warning: boxes on this host are not isolated, root in a box is root on the host")
            .await;
    }
    let (client_link, devbox_link) = relay::pipe(traffic);
    let upstream = dial(&endpoint, grant.principal(), &shared.authority, devbox_link)
        .await
        .map_err(|source| OpenError::Dial { devbox: grant.devbox().clone(), source })?;
    Ok((upstream, client_link))
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
    endpoint.map_err(|source| OpenError::Ensure { devbox: grant.devbox().clone(), source })
}

async fn banner(handle: &Handle, line: &str) {
    if handle.auth_banner(format!("boxgate: {line}\r\n")).await.is_err() {
        debug!("the client left before it was told: {line}");
    }
}

/// Says why and ends the connection: a client that does not listen is not waited for.
async fn part(session: RunningSession<Front>, socket: &ClientSocket, text: &str) {
    let goodbye = async {
        let handle = session.handle();
        let said = handle.disconnect(Disconnect::ByApplication, text.to_owned(), "en".to_owned());
        said.await.is_ok() && session.await.is_ok()
    };
    if timeout(FAREWELL, goodbye).await != Ok(true) {
        debug!("the client may not have been told: {text}");
    }
    socket.end();
}
