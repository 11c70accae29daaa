//! Binds the addresses, owns what all connections share, limits how many there are, and drains at the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use boxgate_config::Config;
use boxgate_provisioner_api::Client;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use russh::server;
use russh::{MethodKind, MethodSet, SshId};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, error, field, info, info_span, warn};

use crate::authenticate::{Users, UsersError};
use crate::authority::Authority;
use crate::dial::{Dialer, Spares};
use crate::host_keys::HostCertificateError;
use crate::key_file::KeyFileError;
use crate::penalties::Penalties;
use crate::relay::HostKeys;
use crate::socket::Ender;
use crate::startups::Startups;
use crate::uses::Uses;
use crate::{authenticate, connection, host_keys, relay, socket};

/// How long connections may take to end once the gateway is told to.
const DRAIN: Duration = Duration::from_secs(5);
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
    /// Cancelled when the gateway is told to end.
    pub stop: CancellationToken,
}

/// A gateway that is bound and not yet accepting.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    shared: Shared,
}

/// Why a gateway could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {address}: {source}{}", remedy(*address, source))]
    Listen { address: SocketAddr, source: io::Error },
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

impl Server {
    /// Reads or makes the keys and binds every address.
    ///
    /// # Errors
    /// The first thing that is in the way, with what to do about it.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let dir = &config.gateway.state_dir;
        std::fs::create_dir_all(dir).map_err(|source| BindError::StateDir { dir: dir.clone(), source })?;
        let mut listeners = Vec::new();
        for &address in &config.gateway.listen {
            let bound = TcpListener::bind(address).await;
            listeners.push(bound.map_err(|source| BindError::Listen { address, source })?);
        }
        let keys = host_keys::load_or_make_all(dir)?;
        let host_keys = Arc::new(HostKeys::new(keys.clone())?);
        let certificates = host_keys::load_certificates(&config.gateway.host_certificates, &keys)?;
        let ssh = ssh_config(keys, config.gateway.max_auth_tries);
        let authority = Arc::new(Authority::load_or_make(dir)?);
        let dialer = Dialer::new(&authority, &host_keys);
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
            stop: CancellationToken::new(),
        };
        raise_file_limit();
        Ok(Self { listeners, shared })
    }

    /// The addresses bound, with the ports that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Serves until `stop`, then tells every client and waits for them, but not for long.
    pub async fn run(self, stop: CancellationToken) {
        for address in self.addresses() {
            info!(%address, "listening");
        }
        let shared = Arc::new(Shared { stop: stop.clone(), ..self.shared });
        let tasks = TaskTracker::new();
        let urls = shared.users.urls();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move { urls.run().await }));
        let telling = Arc::clone(&shared);
        let tell = async move { telling.uses.report_to(&telling.provisioner).await };
        tasks.spawn(stop.clone().run_until_cancelled_owned(tell));
        for listener in self.listeners {
            let accepting = accept(listener, Arc::clone(&shared), tasks.clone());
            tasks.spawn(stop.clone().run_until_cancelled_owned(accepting));
        }
        stop.cancelled().await;
        tasks.close();
        info!("ending");
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            warn!(connections = tasks.len(), "ended with connections still open");
        }
    }
}

/// Takes a connection's permit before it accepts: what cannot be served waits in the kernel's backlog, not in
/// memory. A start-up's permit is taken after, and what gets none is turned away at once: strangers who say
/// nothing may fill the start-ups, and whoever comes then should learn it and try again, not queue behind them.
async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker) {
    loop {
        let Ok(connection) = Arc::clone(&shared.connections).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(fault) => {
                error!(%fault, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
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
        tasks.spawn(serve.instrument(span));
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
