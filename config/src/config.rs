//! The configuration as the programs use it: typed, complete, valid.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::{
    AddressPatterns, AuthorizedKey, BoxSettings, DevBoxName, Egress, Faults, InstanceName, KeyUrl, LoadError,
    LoginName, Overrides, PublicName, RegistryMirror, raw, validate,
};

/// All of `boxgate.toml`. Each program reads the whole file, so that both agree on what it says.
#[derive(Debug, Clone)]
pub struct Config {
    pub gateway: GatewayConfig,
    pub provisioner: ProvisionerConfig,
    pub devbox: DevBoxConfig,
    pub groups: BTreeMap<String, Group>,
    pub users: BTreeMap<LoginName, User>,
}

/// `[gateway]`: the network-facing SSH server.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Addresses to listen on; never empty.
    pub listen: Vec<SocketAddr>,
    /// What people write behind the `@`, for what is written for them.
    pub public_name: Option<PublicName>,
    /// Where host keys and the certificate authority's key live; the gateway's user alone may read it.
    pub state_dir: PathBuf,
    /// From accept to the end of authentication, provisioning not counted (`sshd_config(5)`, `LoginGraceTime`).
    pub login_grace_time: Duration,
    /// Rejected requests before the connection is ended (`sshd_config(5)`, `MaxAuthTries`).
    pub max_auth_tries: usize,
    /// Connections that may be unauthenticated at once.
    pub max_startups: Startups,
    /// Connections that may exist at once, authenticated or not.
    pub max_connections: usize,
    /// Authenticated connections kept ready to each box in use, so that logins are quick. May be 0.
    pub spare_connections: usize,
    /// Host certificates (`…-cert.pub`) of the host keys in `state_dir`.
    pub host_certificates: Vec<PathBuf>,
    /// A file for each person, of her login name, in `authorized_keys` format.
    pub authorized_keys_dir: PathBuf,
    /// Authorities whose certificates let in whoever has her login name among their principals.
    pub user_ca_keys: Vec<AuthorizedKey>,
    /// Keys and fingerprints that nobody may use, as herself or as an authority.
    pub revoked_keys: Option<PathBuf>,
    /// How often the keys at URLs are fetched anew.
    pub key_url_refresh: Duration,
    /// Authorities of the HTTPS servers at those URLs, in PEM, beside those that this host trusts anyway.
    pub key_url_ca_file: Option<PathBuf>,
    /// How long a worker that another one has taken over from keeps its connections. None: until they end.
    pub drain: Option<Duration>,
    pub penalties: PenaltyConfig,
}

/// Connections that may be unauthenticated at once (`sshd_config(5)`, `MaxStartups start:rate:full`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Startups {
    /// From this many on some are turned away,
    pub start: usize,
    /// first this percentage, and with each more,
    pub rate: u32,
    /// until from this many on all are.
    pub full: usize,
}

/// `[gateway.penalties]`: how long a source that misbehaved is turned away (`sshd_config(5)`,
/// `PerSourcePenalties`). A source is an IPv4 address or an IPv6 /64.
#[derive(Debug, Clone)]
pub struct PenaltyConfig {
    /// For each connection that tried to authenticate and did not.
    pub failed: Duration,
    /// For each connection that ended without an attempt.
    pub not_tried: Duration,
    /// For each connection that used up the grace time.
    pub grace_exceeded: Duration,
    /// For each connection whose handling crashed.
    pub crashed: Duration,
    /// Penalties below this sum are only remembered.
    pub min: Duration,
    /// Sums above this are this.
    pub max: Duration,
    /// Sources remembered at once.
    pub max_sources: usize,
    /// Sources that are never turned away.
    pub exempt: Option<AddressPatterns>,
}

/// `[provisioner]`: the owner of the boxes.
#[derive(Debug, Clone)]
pub struct ProvisionerConfig {
    /// Prefix and label value of every Docker object that is ours.
    pub instance: InstanceName,
    /// The Unix socket on which the provisioner answers and the gateway asks.
    pub socket: PathBuf,
    /// The Unix socket on which the provisioner's SSH server, the lobby, answers the gateway.
    pub lobby_socket: PathBuf,
    /// The Unix user that the gateway runs as: besides root, the only one that is answered.
    pub gateway_user: String,
    /// Holds the directory of each box that is bound read-only into it.
    pub state_dir: PathBuf,
    /// Docker's Unix socket.
    pub docker_socket: PathBuf,
    /// How long Docker may take for one change.
    pub docker_timeout: Duration,
    /// Boxes' networks are cut from this range, a /28 each.
    pub network_pool: Ipv4Net,
    /// What the running boxes' memory limits may come to together, as a share of the host's memory: 1.0 is all
    /// of it, 2.0 twice as much.
    pub memory_share: f64,
    /// Boxes kept booted for people who have none yet. May be 0.
    pub spare_boxes: usize,
    pub firewall: FirewallSwitch,
}

/// Whether the provisioner keeps boxes apart from each other and from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirewallSwitch {
    /// No box is had where it cannot.
    On,
    /// Somebody else does, or nobody.
    Off,
}

/// `[box]`: what every box is made from.
#[derive(Debug, Clone)]
pub struct DevBoxConfig {
    pub runtime: Runtime,
    /// Whether a login to a further box that there is not yet makes it. If not, its owner asks for it first.
    pub new_on_login: bool,
    /// What groups, users and single boxes may have otherwise: ask [`Config::settings`].
    pub settings: BoxSettings,
    /// What boxes may connect to.
    pub egress: Egress,
    /// Where the Docker in a box asks for Docker Hub's images first.
    pub registry_mirrors: Vec<RegistryMirror>,
    /// From start to sshd's answer; a box that takes longer has failed to boot. The gateway waits as long for its
    /// connection to a box.
    pub boot_timeout: Duration,
    /// Login shell of the box's user.
    pub shell: PathBuf,
}

/// What isolates a box from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// A Sysbox container: its own user namespace, root inside is nobody outside.
    Sysbox,
    /// A plain container with nearly every capability, for trying and for CI: root inside is root outside.
    Runc {
        /// The operator accepts that boxes of several users share one host's root.
        boxes_are_root_on_this_host: bool,
    },
}

impl Runtime {
    /// The name that Docker knows it by.
    #[must_use]
    pub fn docker_name(self) -> &'static str {
        match self {
            Self::Sysbox => "sysbox-runc",
            Self::Runc { .. } => "runc",
        }
    }

    /// Whether root in a box is someone else than root on the host.
    #[must_use]
    pub fn isolates(self) -> bool {
        matches!(self, Self::Sysbox)
    }
}

/// `[users.NAME]`.
#[derive(Debug, Clone, Default)]
pub struct User {
    /// Any of these may log in as the user, beside those in her file and at her URLs.
    pub keys: Vec<AuthorizedKey>,
    /// Where more of her keys are, in `authorized_keys` format.
    pub key_urls: Vec<KeyUrl>,
    /// What her boxes have otherwise than others',
    pub devbox: Overrides,
    /// and what single ones of her further boxes have otherwise than that.
    pub boxes: BTreeMap<DevBoxName, Overrides>,
}

/// `[groups.NAME]`. Nobody is in two.
#[derive(Debug, Clone, Default)]
pub struct Group {
    pub members: BTreeSet<LoginName>,
    /// What their boxes have otherwise than others'.
    pub devbox: Overrides,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`LoadError::Read`] when there is no reading it, else [`LoadError::Faults`] with all that is wrong.
    pub fn load(file: &Path) -> Result<Self, LoadError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| LoadError::Read { file: file.to_owned(), source })?;
        Ok(Self::parse(file, &text)?)
    }

    /// Checks `text`; `file` only names it in messages.
    ///
    /// # Errors
    /// Every [`Fault`](crate::Fault) of the text.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Faults> {
        let (raw, mut faults) = raw::parse(text);
        let config = raw.and_then(|raw| validate::validate(&raw, text, &mut faults));
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => {
                faults.sort_by(|a, b| a.line.cmp(&b.line).then_with(|| a.setting.cmp(&b.setting)));
                Err(Faults { file: file.to_owned(), faults })
            }
        }
    }
}
