//! Owns what all connections share, limits how many there are, accepts until it drains, and ends them at the end.
//!
//! ```text
//!  accepting ──drain──► draining ──the last connection has ended, or gateway.drain is over──► ending
//!      └───────────────────┴────────────────────────end────────────────────────────────────────▲
//! ```

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use boxgate_config::Config;
use boxgate_provisioner_api::Client;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use russh::server;
use russh::{MethodKind, MethodSet, SshId};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, error, field, info, info_span, warn};

use crate::authenticate::{Users, UsersError};
use crate::authority::Authority;
use crate::dial::{Dialer, Spares};
use crate::host_keys::HostCertificateError;
use crate::key_file::KeyFileError;
use crate::leash::Orders;
use crate::penalties::Penalties;
use crate::relay::HostKeys;
use crate::socket::Ender;
use crate::startups::Startups;
use crate::uses::Uses;
use crate::{authenticate, connection, host_keys, relay, socket};

/// How long connections may take to end once they are told to.
const GOODBYE: Duration = Duration::from_secs(5);
/// For telling the provisioner that the last connection has ended.
const LAST_REPORT: Duration = Duration::from_secs(1);
/// Pause after a failed accept, which is nearly always a lack of file descriptors: they come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every connection uses and none changes.
#[derive(Debug)]
pub struct Shared {
    pub users: Users,
    pub authority: Arc<Authority>,
    pub dialer: Dialer,
    pub spares: Arc<Spares>,
    pub provisioner: Client,
    /// Who is connected to which box.
    pub uses: Arc<Uses>,
    pub ssh: Arc<server::Config>,
    pub login_grace_time: Duration,
    /// Permits for connections that are not authenticated yet.
    pub startups: Startups,
    /// Who is turned away for what came from there before.
    pub penalties: Penalties,
    /// Permits for connections of any kind.
    pub connections: Arc<Semaphore>,
    /// That all connections are to end.
    pub ending: Ending,
}

/// Why connections are ended that are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The gateway ends.
    Restart,
    /// They went on for so long after another worker had taken over.
    Drained { after: Duration },
}

/// That all connections are to end, once it has begun.
#[derive(Debug, Default)]
pub struct Ending {
    begun: CancellationToken,
    why: OnceLock<Why>,
}

impl Ending {
    fn begin(&self, why: Why) {
        // The first reason is the one that is told.
        self.why.get_or_init(|| why);
        self.begun.cancel();
    }

    /// Waits until it begins, and says why.
    pub async fn begun(&self) -> Why {
        self.begun.cancelled().await;
        self.why.get().copied().unwrap_or(Why::Restart)
    }
}

/// A gateway that is ready and not yet accepting.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    shared: Shared,
    connections: TaskTracker,
    /// How long connections may go on once it drains; none is for as long as they like.
    drain: Option<Duration>,
}

/// Why a gateway could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot accept connections: {0}")]
    Listen(io::Error),
    #[error("cannot make the directory {}: {source}", dir.display())]
    StateDir { dir: std::path::PathBuf, source: io::Error },
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("cannot announce the host keys: {0}")]
    HostKeys(#[from] ssh_key::Error),
    #[error(transparent)]
    HostCertificate(#[from] HostCertificateError),
    #[error(transparent)]
    Users(#[from] UsersError),
}

impl Server {
    /// Reads or makes the keys. To be called where tokio runs.
    ///
    /// # Errors
    /// The first thing that is in the way, with what to do about it.
    pub fn new(config: Config, listeners: Vec<std::net::TcpListener>) -> Result<Self, StartError> {
        let dir = &config.gateway.state_dir;
        std::fs::create_dir_all(dir).map_err(|source| StartError::StateDir { dir: dir.clone(), source })?;
        let listeners = listeners.into_iter().map(listener).collect::<Result<_, _>>();
        let listeners = listeners.map_err(StartError::Listen)?;
        let keys = host_keys::load_or_make_all(dir)?;
        let host_keys = Arc::new(HostKeys::new(keys.clone())?);
        let certificates = host_keys::load_certificates(&config.gateway.host_certificates, &keys)?;
        let ssh = ssh_config(keys, config.gateway.max_auth_tries);
        let authority = Arc::new(Authority::load_or_make(dir)?);
        let dialer = Dialer::new(&authority, &host_keys, config.devbox.boot_timeout);
        let shared = Shared {
            users: Users::load(&config)?,
            spares: Spares::new(config.gateway.spare_connections, dialer.clone()),
            dialer,
            authority,
            provisioner: Client::new(config.provisioner.socket),
            uses: Uses::new(),
            ssh: Arc::new(server::Config { certificates, ..ssh }),
            login_grace_time: config.gateway.login_grace_time,
            startups: Startups::new(config.gateway.max_startups),
            penalties: Penalties::new(config.gateway.penalties),
            connections: Arc::new(Semaphore::new(config.gateway.max_connections)),
            ending: Ending::default(),
        };
        raise_file_limit();
        Ok(Self { listeners, shared, connections: TaskTracker::new(), drain: config.gateway.drain })
    }

    /// Those that there are at any time.
    #[must_use]
    pub fn connections(&self) -> TaskTracker {
        self.connections.clone()
    }

    /// The addresses bound, with the ports that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Serves until it is told to end, or to drain and has drained. Clients who are connected then are told and waited
    /// for, but not for long.
    pub async fn run(self, orders: Orders) {
        for address in self.addresses() {
            info!(%address, "listening");
        }
        let (connections, shared) = (self.connections, Arc::new(self.shared));
        let chores = chores(&shared);
        let accepting = TaskTracker::new();
        let stop = CancellationToken::new();
        for listener in self.listeners {
            let accept = accept(listener, Arc::clone(&shared), connections.clone());
            accepting.spawn(stop.clone().run_until_cancelled_owned(accept));
        }
        tokio::select! {
            () = orders.drain.cancelled() => {}
            () = orders.end.cancelled() => {}
        }
        stop.cancel();
        accepting.close();
        accepting.wait().await;
        orders.closed.cancel();
        connections.close();
        let why = tokio::select! {
            biased;
            () = orders.end.cancelled() => Why::Restart,
            why = drained(&shared, &connections, self.drain) => why,
        };
        info!(connections = connections.len(), "ending");
        shared.ending.begin(why);
        if timeout(GOODBYE, connections.wait()).await.is_err() {
            warn!(connections = connections.len(), "ended with connections still open");
        }
        drop(chores);
        // So that nobody is counted who is gone. Whether the provisioner hears it or not, this is the end.
        drop(timeout(LAST_REPORT, shared.uses.report(&shared.provisioner)).await);
    }
}

/// What is done beside the connections, and for them, until it is dropped.
fn chores(shared: &Arc<Shared>) -> JoinSet<()> {
    let mut chores = JoinSet::new();
    let urls = shared.users.urls();
    chores.spawn(async move { urls.run().await });
    let telling = Arc::clone(shared);
    chores.spawn(async move { telling.uses.report_to(&telling.provisioner).await });
    chores
}

/// Lets the connections that there are go on to their end, but not for longer than `limit`.
async fn drained(shared: &Shared, connections: &TaskTracker, limit: Option<Duration>) -> Why {
    info!(connections = connections.len(), "draining: accepts nobody any more");
    shared.spares.give_up();
    let over = async {
        match limit {
            Some(limit) => sleep(limit).await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = connections.wait() => Why::Restart,
        () = over => Why::Drained { after: limit.unwrap_or_default() },
    }
}

fn listener(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    // systemd's are blocking.
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Takes a connection's permit before it accepts: what cannot be served waits in the kernel's backlog, not in
/// memory. A start-up's permit is taken after, and what gets none is turned away at once: strangers who say
/// nothing may fill the start-ups, and whoever comes then should learn it and try again, not queue behind them.
async fn accept(listener: TcpListener, shared: Arc<Shared>, connections: TaskTracker) {
    loop {
        let Ok(connection) = Arc::clone(&shared.connections).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            // A socket for both IP versions tells IPv4 clients by IPv6 addresses, in which no person would know them.
            Ok((stream, peer)) => (stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())),
            Err(fault) => {
                error!(%fault, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if shared.penalties.refuses(peer.ip()) {
            // Whoever does not give up must not fill the log either.
            debug!(client = %peer, "turned away: its penalty is not served yet");
            drop(stream.try_write(b"Not allowed at this time\r\n"));
            continue;
        }
        let Some(startup) = shared.startups.admit() else {
            info!(client = %peer, "turned away: too many connections are not authenticated yet");
            // What sshd(8) says then. It fits any socket buffer; a client that is gone need not hear it.
            drop(stream.try_write(b"Exceeded MaxStartups\r\n"));
            continue;
        };
        let shared = Arc::clone(&shared);
        let span = info_span!("conn", client = %peer, login = field::Empty, devbox = field::Empty);
        let serve = async move {
            match socket::tune(&stream).and_then(|()| Ender::of(&stream)) {
                Ok(ender) => connection::serve(stream, ender, peer, shared, startup).await,
                Err(fault) => info!(%fault, "gone before it began"),
            }
            drop(connection);
        };
        connections.spawn(serve.instrument(span));
    }
}

fn ssh_config(keys: Vec<ssh_key::PrivateKey>, max_auth_tries: usize) -> server::Config {
    server::Config {
        server_id: SshId::Standard(relay::IDENTIFICATION.into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // A wrong key of an agent that has five costs nothing; what is limited are the tries.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: None,
        keys,
        limits: relay::rekey_limits(),
        preferred: relay::preferred_downstream(),
        user_signature_algorithms: Some(authenticate::signature_algorithms()),
        max_auth_attempts: max_auth_tries,
        // The grace time bounds the time before, and nothing bounds the time after authentication.
        inactivity_timeout: None,
        keepalive_interval: None,
        nodelay: true,
        ..server::Config::default()
    }
}

/// Each connection needs three descriptors; the soft limit of most systems (1024) is for programs that use
/// `select(2)`.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(fault) = raised {
        warn!(%fault, "cannot raise the limit of open files");
    }
}
