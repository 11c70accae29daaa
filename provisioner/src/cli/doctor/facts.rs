//! All that the checks look at. What could not be learned is said as such, with its reason.

use std::path::PathBuf;

use boxgate_config::{Config, FirewallSwitch};
use boxgate_provisioner_api::{BoxSummary, GcReport, GcRequest, Health};
use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::engine::{self, DaemonSettings, Sysbox};
use super::host::{self, Clock, Disk, FileFact, Sysctls};
use crate::backend::docker::{Docker, EngineReport};
use crate::cli::site::Site;
use crate::network::firewall::{self, FirewallFault};
use crate::network::host::routed;

/// What could not be learned, in words.
pub(super) type Unknown = String;

#[derive(Debug)]
pub(super) struct Facts {
    pub(super) config: Config,
    pub(super) now: Timestamp,
    /// Whether everything could be seen.
    pub(super) root: bool,
    /// The kernel's release.
    pub(super) kernel: Result<String, Unknown>,
    pub(super) sysctls: Sysctls,
    pub(super) clock: Clock,
    pub(super) disks: Vec<Disk>,
    pub(super) files: Vec<FileFact>,
    pub(super) routes: Result<Vec<Ipv4Net>, Unknown>,
    pub(super) engine: Result<EngineReport, Unknown>,
    pub(super) daemon: DaemonSettings,
    pub(super) sysbox: Sysbox,
    /// Whether the rules that keep boxes apart are there; none when they are switched off.
    pub(super) firewall: Option<Result<(), FirewallFault>>,
    pub(super) health: Result<Health, Unknown>,
    pub(super) boxes: Result<Vec<BoxSummary>, Unknown>,
    pub(super) leftovers: Result<GcReport, Unknown>,
    /// Whether the leftovers were to be removed.
    pub(super) fix: bool,
}

impl Facts {
    pub(super) async fn collect(site: &Site, config: Config, fix: bool) -> Self {
        let client = site.client_of(&config);
        let docker = Docker::new(&config.provisioner);
        let request = GcRequest { remove: fix };
        let (engine, health, boxes, leftovers) = tokio::join!(
            docker.report(&config.devbox.settings.image, &config.provisioner.instance),
            client.health(),
            client.boxes(),
            client.gc(&request),
        );
        let engine = engine.map_err(unknown);
        let root_dir = engine.as_ref().map(|engine| engine.root_dir.clone()).unwrap_or_default();
        Self {
            now: Timestamp::now(),
            root: nix::unistd::Uid::effective().is_root(),
            kernel: host::kernel_release().map_err(unknown),
            sysctls: host::sysctls(),
            clock: host::clock().await,
            disks: host::disks(&disks(&config, root_dir)),
            files: host::files(&config, site.config_file()),
            routes: routed().map_err(unknown),
            daemon: engine::daemon_settings(),
            sysbox: engine::sysbox(engine.as_ref().ok()).await,
            engine,
            firewall: firewall(&config).await,
            health: health.map_err(unknown),
            boxes: boxes.map_err(unknown),
            leftovers: leftovers.map_err(unknown),
            fix,
            config,
        }
    }

    /// How many boxes there are, or may well soon be.
    pub(super) fn box_count(&self) -> u64 {
        self.boxes.as_ref().map_or(0, |boxes| boxes.len() as u64).max(1)
    }
}

async fn firewall(config: &Config) -> Option<Result<(), FirewallFault>> {
    match config.provisioner.firewall {
        FirewallSwitch::On => Some(firewall::in_place(config).await),
        FirewallSwitch::Off => None,
    }
}

/// Where boxes' data and the programs' own are.
fn disks(config: &Config, root_dir: PathBuf) -> [PathBuf; 3] {
    [root_dir, config.provisioner.state_dir.clone(), config.gateway.state_dir.clone()]
}

fn unknown(error: impl std::fmt::Display) -> Unknown {
    error.to_string()
}
