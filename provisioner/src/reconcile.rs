//! Observed and wanted → the next step. Pure.
//!
//! ```text
//! container   look around ─► allowed? ─┬─ none ────► network ─► home ─► docker ─► container ─┐
//!                                      ├─ at rest ─► network ─► attach ─► start ─────────────┤
//!                                      ├─ running ─► network ─► attach (if it lost it) ──────┤
//!                                      └─ running, with an address ─► probe                  │
//!      ▲ each step is followed by another look ◄────────────────────────────────────────────┘
//! ```
//!
//! Each step depends on what is there and on nothing that was done before, so that a provisioner that was
//! killed anywhere goes on where it was. Invariants: an object with other labels than the box's is never
//! touched or used; nothing is ever removed.

use std::net::{Ipv4Addr, SocketAddr};

use boxgate_config::Runtime;

use crate::backend::{Change, Container, Host, State, Surroundings, Volume};
use crate::blueprint::Blueprint;
use crate::network::{self, Exhausted};

/// Port of a box's sshd.
const SSH: u16 = 22;

/// What is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    pub container: Option<Container>,
    /// Not looked at until they are needed.
    pub host: Option<Host>,
    pub around: Option<Surroundings>,
    /// Whether the container was started in this attempt: one that is at rest again has failed to boot, and
    /// must not be started over and over.
    pub started: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Observe the surroundings too.
    LookAround,
    Perform(Change),
    /// The engine is at work on the container: look again soon.
    Wait,
    /// All is there: wait for the box's sshd.
    Probe {
        address: SocketAddr,
    },
}

/// Why no step leads to the box.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("the {kind} {name} is something else's: it lacks the labels of this box")]
    NameTaken { kind: &'static str, name: String },
    #[error("the image {0} is not on this host")]
    ImageMissing(String),
    #[error("docker does not know the runtime {0}")]
    RuntimeMissing(String),
    #[error("runc does not isolate boxes, and {owner} has a box on this host")]
    NotIsolated { owner: String },
    #[error("its container was made with {runtime}, which does not isolate, and sysbox is configured")]
    MadeWithoutIsolation { runtime: String },
    #[error(transparent)]
    PoolExhausted(#[from] Exhausted),
    #[error("its container is paused")]
    Paused,
    #[error("its container is dead and cannot be started")]
    Dead,
    #[error("its container ended while it was booting, with exit code {exit_code}")]
    BootFailed { exit_code: i64 },
}

/// The one step that brings the box closer to answering.
pub fn next_step(wanted: &Blueprint, observed: &Observed) -> Result<Step, Trouble> {
    let (Some(host), Some(around)) = (&observed.host, &observed.around) else { return Ok(Step::LookAround) };
    refuse_what_is_not_ours(wanted, observed.container.as_ref(), around)?;
    let Some(container) = &observed.container else {
        allowed(wanted, wanted.runtime.docker_name(), host, around)?;
        return make(wanted, host, around).map(Step::Perform);
    };
    allowed(wanted, &container.runtime, host, around)?;
    match &container.state {
        State::Running { address: Some(address), .. } => Ok(Step::Probe { address: ssh_at(*address) }),
        State::Running { address: None, .. } => {
            Ok(Step::Perform(networking(wanted, container, around)?.unwrap_or(Change::Attach)))
        }
        State::Stopped { exit_code, .. } if observed.started => {
            Err(Trouble::BootFailed { exit_code: *exit_code })
        }
        State::Created | State::Stopped { .. } => {
            Ok(Step::Perform(networking(wanted, container, around)?.unwrap_or(Change::Start)))
        }
        State::Changing => Ok(Step::Wait),
        State::Paused => Err(Trouble::Paused),
        State::Dead => Err(Trouble::Dead),
    }
}

/// Where the sshd of a box with this address answers.
#[must_use]
pub fn ssh_at(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((address, SSH))
}

fn refuse_what_is_not_ours(
    wanted: &Blueprint,
    container: Option<&Container>,
    around: &Surroundings,
) -> Result<(), Trouble> {
    let names = &wanted.names;
    let found = [
        ("container", &names.container, container.map(|container| &container.labels)),
        ("network", &names.network, around.network.as_ref().map(|network| &network.labels)),
        ("volume", &names.home, around.home.as_ref()),
        ("volume", &names.docker, around.docker.as_ref()),
    ];
    for (kind, name, labels) in found {
        if labels.is_some_and(|labels| !wanted.owns(labels)) {
            return Err(Trouble::NameTaken { kind, name: name.clone() });
        }
    }
    Ok(())
}

/// Whether a container of this runtime may run here.
fn allowed(wanted: &Blueprint, runtime: &str, host: &Host, around: &Surroundings) -> Result<(), Trouble> {
    if !host.runtimes.contains(runtime) {
        return Err(Trouble::RuntimeMissing(runtime.to_owned()));
    }
    if runtime == Runtime::Sysbox.docker_name() {
        return Ok(());
    }
    match wanted.runtime {
        Runtime::Sysbox => Err(Trouble::MadeWithoutIsolation { runtime: runtime.to_owned() }),
        Runtime::Runc { boxes_are_root_on_this_host: true } => Ok(()),
        Runtime::Runc { boxes_are_root_on_this_host: false } => {
            let own = wanted.id.owner.as_str();
            match around.owners.iter().filter(|owner| *owner != own).min() {
                Some(owner) => Err(Trouble::NotIsolated { owner: owner.clone() }),
                None => Ok(()),
            }
        }
    }
}

fn make(wanted: &Blueprint, host: &Host, around: &Surroundings) -> Result<Change, Trouble> {
    if !host.image {
        return Err(Trouble::ImageMissing(wanted.image.clone()));
    }
    if around.network.is_none() {
        return create_network(wanted, around);
    }
    Ok(if around.home.is_none() {
        Change::CreateVolume(Volume::Home)
    } else if around.docker.is_none() {
        Change::CreateVolume(Volume::Docker)
    } else {
        Change::CreateContainer
    })
}

/// What an existing container's network lacks. The engine remembers a network by its id: a network that was
/// pruned and made again is another one.
fn networking(
    wanted: &Blueprint,
    container: &Container,
    around: &Surroundings,
) -> Result<Option<Change>, Trouble> {
    let Some(network) = &around.network else { return create_network(wanted, around).map(Some) };
    let attached = container.network.as_ref().is_some_and(|id| id.is_empty() || *id == network.id);
    Ok((!attached).then_some(Change::Attach))
}

fn create_network(wanted: &Blueprint, around: &Surroundings) -> Result<Change, Trouble> {
    Ok(Change::CreateNetwork { subnet: network::next_free(wanted.pool, &around.subnets)? })
}

#[cfg(test)]
mod tests;
