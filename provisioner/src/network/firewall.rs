//! Keeps boxes from each other, from the host and from the cloud's metadata. `rules` says how, `nft` runs nft(8).
//!
//! ```text
//!            made                          a look every LOOK_EVERY: gone or changed?
//! start ──► Holding ◄──────────────────────── make them anew
//!   │          ▲ made                          │ that fails
//!   └──────► Failing(why): no box is had ◄─────┘
//! ```
//!
//! The rules stay when the provisioner ends, since boxes go on; `./devhost down --purge` removes them with the boxes.
//! Docker's own rules are not touched, and Docker does not touch these: they outlast its restarts.

mod nft;
mod resolvers;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use boxgate_config::{Config, FirewallSwitch};
use boxgate_provisioner_api as api;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use nft::Listing;
use rules::Rules;

/// Between two looks at the rules: how long boxes can be without when somebody else flushes all rules of the host. A
/// look takes a few milliseconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why boxes cannot be kept apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirewallFault {
    #[error("firewall: nft is not installed on this host")]
    NotInstalled,
    #[error("firewall: the provisioner may not change this host's rules")]
    NotPermitted,
    #[error("firewall: nft did not end within {after:?}")]
    TimedOut { after: Duration },
    #[error("firewall: {0}")]
    Refused(String),
    #[error("firewall: the rules are not there: this host has no table {table}")]
    Absent { table: String },
    #[error("firewall: the rules in table {table} are not those of this configuration")]
    Altered { table: String },
}

impl FirewallFault {
    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotInstalled => "apt-get install nftables",
            Self::NotPermitted => "run the provisioner as root, or with CAP_NET_ADMIN",
            Self::TimedOut { .. } | Self::Refused(_) => {
                "load the kernel's modules nf_tables, nft_ct and nft_fib_inet, and look at the provisioner's log"
            }
            Self::Absent { .. } | Self::Altered { .. } => {
                "start the provisioner, which makes them, and find out who else changes this host's rules"
            }
        }
    }
}

/// The rules' state, for all who ask. They are kept by a task of their own.
#[derive(Debug, Clone)]
pub struct Firewall {
    /// What the last look found. None: the operator switched it off.
    kept: Option<watch::Receiver<Result<(), FirewallFault>>>,
}

impl Firewall {
    /// Makes the rules, or learns why not, and from then on keeps them until `shutdown` is cancelled.
    pub async fn keep(config: &Arc<Config>, shutdown: CancellationToken) -> Self {
        if config.provisioner.firewall == FirewallSwitch::Off {
            warn!(
                "provisioner.firewall is off: unless something else prevents it, boxes reach each other, this host's \
                 services and the cloud's metadata, credentials among them"
            );
            return Self::off();
        }
        let mut keeper = Keeper { config: Arc::clone(config), made: None };
        let (state, kept) = watch::channel(keeper.mend().await);
        report(&Ok(()), &state.borrow());
        tokio::spawn(keeper.keep(state, shutdown));
        Self { kept: Some(kept) }
    }

    /// One that keeps nothing and never objects.
    #[must_use]
    pub fn off() -> Self {
        Self { kept: None }
    }

    /// Whether a box may be had. Takes no time: it is what the last look found.
    ///
    /// # Errors
    /// Why boxes cannot be kept apart.
    pub fn state(&self) -> Result<(), FirewallFault> {
        self.kept.as_ref().map_or(Ok(()), |kept| kept.borrow().clone())
    }

    /// The state as the API tells it.
    #[must_use]
    pub fn health(&self) -> api::Firewall {
        match self.state() {
            Err(fault) => api::Firewall::Failing { reason: format!("{fault} ({})", fault.remedy()) },
            Ok(()) if self.kept.is_some() => api::Firewall::Ok,
            Ok(()) => api::Firewall::Off,
        }
    }
}

/// Whether the rules of a configuration are in place. Only looks, and needs no provisioner that runs.
///
/// # Errors
/// What is wrong; also when they cannot be looked at.
pub async fn in_place(config: &Config) -> Result<(), FirewallFault> {
    let wanted = Rules::new(config, &resolvers::read());
    if nft::list(&wanted.table).await?.is_of(&wanted) {
        Ok(())
    } else {
        Err(FirewallFault::Altered { table: wanted.table })
    }
}

/// The task that alone changes the rules.
struct Keeper {
    config: Arc<Config>,
    /// What was made last, and how it was listed right after.
    made: Option<(Rules, Listing)>,
}

impl Keeper {
    async fn keep(mut self, state: watch::Sender<Result<(), FirewallFault>>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(LOOK_EVERY) => {}
            }
            let now = self.mend().await;
            report(&state.borrow(), &now);
            drop(state.send_replace(now));
        }
    }

    /// Looks, and makes the rules unless they are exactly as they were made last.
    async fn mend(&mut self) -> Result<(), FirewallFault> {
        let wanted = Rules::new(&self.config, &resolvers::read());
        if let Some((rules, listing)) = &self.made {
            match nft::list(&wanted.table).await {
                Ok(found) if *rules == wanted && found == *listing => return Ok(()),
                Ok(_) if *rules != wanted => info!("firewall: this host's DNS servers are others now"),
                Ok(_) => warn!("firewall: somebody changed the rules in table {}", wanted.table),
                // What is not there is made; what else is wrong shows when that is tried.
                Err(fault) => warn!("{fault}"),
            }
        }
        self.made = None;
        nft::make(&wanted).await?;
        let listing = nft::list(&wanted.table).await?;
        info!("firewall: the rules in table {} are made", wanted.table);
        self.made = Some((wanted, listing));
        Ok(())
    }
}

/// Says once that the rules cannot be made; that they can again is said when they are.
fn report(before: &Result<(), FirewallFault>, now: &Result<(), FirewallFault>) {
    if let Err(fault) = now
        && before != now
    {
        error!("{fault}; no box is had until this is mended: {}", fault.remedy());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_off_never_objects() {
        let firewall = Firewall::off();
        assert_eq!((firewall.state(), firewall.health()), (Ok(()), api::Firewall::Off));
    }

    #[test]
    fn one_that_fails_says_why_and_what_to_do() {
        let (_sender, kept) = watch::channel(Err(FirewallFault::NotInstalled));
        let firewall = Firewall { kept: Some(kept) };
        assert_eq!(firewall.state(), Err(FirewallFault::NotInstalled));
        let reason = "firewall: nft is not installed on this host (apt-get install nftables)".to_owned();
        assert_eq!(firewall.health(), api::Firewall::Failing { reason });
    }
}
