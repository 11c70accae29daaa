//! Observed and wanted → the next step. Pure.
//!
//! ```text
//! answering   look around ─► ours? allowed? room for it? ─┬─ none, and a spare is ready ────► claim ─► adopt ───┤
//!                                                         ├─ none ────► home ─► docker ─► network + container ──┤
//!                                                         ├─ at rest, of another image ─► remove container ─────┤
//!                                                         ├─ at rest ─► limits ─► network ─► attach ─► start ───┤
//!                                                         ├─ running ─► network ─► attach (if it lost it) ──────┤
//!                                                         └─ running, with an address ─► probe                  │
//! stopped     running ─► stop ──────────────────────────────────────────────────────────────────────────────────┤
//! unmade      running ─► stop ─► remove container ──────────────────────────────────────────────────────────────┤
//! removed     running ─► stop ─► remove container ─► home ─► docker ─► network ─► claim ─► end restore ────────┤
//!      ▲ each step is followed by another look ◄────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Each step depends on what is there and on nothing that was done before, so that a provisioner that was
//! killed anywhere goes on where it was. Invariants: an object with other labels than the box's is never
//! touched or used; no goal but `Removed` removes a volume or a network; what is half restored is no box.

use std::net::{Ipv4Addr, SocketAddr};

use boxgate_config::{DevBoxId, Runtime};
use bytesize::ByteSize;

use crate::backend::{Change, Container, Host, State, Surroundings, Volume};
use crate::blueprint::Blueprint;
use crate::network::{self, Exhausted};

/// Port of a box's sshd.
const SSH: u16 = 22;

/// What a box should come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Its sshd answers; with `make` even if there is no such box yet.
    Answering { make: bool },
    /// Nothing of it runs.
    Stopped,
    /// It has no container; all else stays.
    Unmade,
    /// Nothing of it is left.
    Removed,
}

/// What is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    pub container: Option<Container>,
    /// Not looked at until they are needed.
    pub host: Option<Host>,
    pub around: Option<Surroundings>,
    pub others: Option<Others>,
    /// A spare box that this one may live in, kept for it.
    pub spare: Option<DevBoxId>,
    /// Whether that was claimed in this attempt.
    pub claimed: bool,
    /// Whether the container was started in this attempt: one that is at rest again has failed to boot, and
    /// must not be started over and over.
    pub started: bool,
}

/// What the other boxes leave for this one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Others {
    /// Bytes of memory that those which run, or are being started, may use.
    pub promised: u64,
    /// How many there are of the same owner's, or are being made.
    pub hers: usize,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Observe the surroundings too.
    LookAround,
    /// Observe the other boxes, and let no other attempt count on what this one takes.
    Admit,
    Perform(Change),
    /// Two changes at once: neither needs the other, and each takes its time.
    Both(Change, Change),
    /// The engine is at work on the container: look again soon.
    Wait,
    /// All is there: wait for the box's sshd.
    Probe {
        address: SocketAddr,
    },
    /// The goal is reached.
    Done,
}

/// Why no step leads to the goal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("the {kind} {name} is something else's: it lacks the labels of this box")]
    NameTaken { kind: &'static str, name: String },
    #[error("there is no such box")]
    NoSuchBox,
    #[error("its owner has {count} other boxes, and may have {max} in all")]
    TooManyBoxes { count: usize, max: usize },
    #[error("its {wanted} of memory are more than is left: running boxes may use {promised} of {limit}")]
    HostFull { wanted: ByteSize, promised: ByteSize, limit: ByteSize },
    #[error("its volume {name} is gone")]
    VolumeMissing { volume: Volume, name: String },
    #[error("it is half restored: its restore did not come to its end")]
    HalfRestored,
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

/// The one step that brings the box closer to the goal.
pub fn next_step(goal: Goal, wanted: &Blueprint, observed: &Observed) -> Result<Step, Trouble> {
    let (Some(host), Some(around)) = (&observed.host, &observed.around) else { return Ok(Step::LookAround) };
    let container = observed.container.as_ref();
    refuse_what_is_not_ours(wanted, container, around)?;
    if around.unadopted {
        return Ok(Step::Perform(Change::Adopt));
    }
    let running = matches!(container, Some(Container { state: State::Running { .. }, .. }));
    if let Some(network) = around.surplus.first().filter(|_| !running) {
        return Ok(Step::Perform(Change::RemoveSurplus { network: network.clone() }));
    }
    match goal {
        Goal::Answering { .. } if around.restoring.is_some() => Err(Trouble::HalfRestored),
        Goal::Answering { make } => match container {
            Some(container) => wake(wanted, container, host, around, observed),
            None => create(make, wanted, host, around, observed),
        },
        Goal::Stopped => match container.map(|container| &container.state) {
            Some(State::Paused) => Err(Trouble::Paused),
            Some(state) => Ok(rest(state).unwrap_or(Step::Done)),
            None => Ok(Step::Done),
        },
        Goal::Unmade => Ok(unmake(container).unwrap_or(Step::Done)),
        Goal::Removed => Ok(unmake(container).unwrap_or_else(|| remove(around))),
    }
}

/// Where the sshd of a box with this address answers.
#[must_use]
pub fn ssh_at(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((address, SSH))
}

/// What brings a container to rest; none when it rests.
fn rest(state: &State) -> Option<Step> {
    match state {
        State::Running { .. } => Some(Step::Perform(Change::Stop)),
        State::Changing => Some(Step::Wait),
        State::Created | State::Stopped { .. } | State::Paused | State::Dead => None,
    }
}

fn unmake(container: Option<&Container>) -> Option<Step> {
    Some(rest(&container?.state).unwrap_or(Step::Perform(Change::RemoveContainer)))
}

/// The home goes before what could be made again: as long as it is there, the box is.
fn remove(around: &Surroundings) -> Step {
    if around.home.is_some() {
        Step::Perform(Change::RemoveVolume(Volume::Home))
    } else if around.docker.is_some() {
        Step::Perform(Change::RemoveVolume(Volume::Docker))
    } else if around.network.is_some() {
        Step::Perform(Change::RemoveNetwork)
    } else if around.claim.is_some() {
        Step::Perform(Change::RemoveClaim)
    } else if around.restoring.is_some() {
        Step::Perform(Change::EndRestore)
    } else {
        Step::Done
    }
}

fn create(
    make: bool,
    wanted: &Blueprint,
    host: &Host,
    around: &Surroundings,
    observed: &Observed,
) -> Result<Step, Trouble> {
    match (&around.home, &around.docker) {
        // Homes are made first and removed first: someone took this one. An empty one in its place would look
        // as if all were well.
        (None, Some(_)) => return Err(missing(Volume::Home, wanted)),
        (None, None) if !make => return Err(Trouble::NoSuchBox),
        _ => {}
    }
    allowed(wanted, wanted.runtime.docker_name(), host, around)?;
    if host.image_id.is_none() {
        return Err(Trouble::ImageMissing(wanted.image.clone()));
    }
    let Some(others) = &observed.others else { return Ok(Step::Admit) };
    if around.home.is_none() && others.hers >= wanted.max_boxes {
        return Err(Trouble::TooManyBoxes { count: others.hers, max: wanted.max_boxes });
    }
    fits(wanted, host, others)?;
    if let Some(spare) = observed.spare.as_ref().filter(|_| is_nothing_there(around)) {
        return Ok(Step::Perform(Change::Claim { spare: spare.clone() }));
    }
    // Before anything is made: a home without hope of a network would stay.
    let network = match around.network {
        None => Some(create_network(wanted, around)?),
        Some(_) => None,
    };
    if around.home.is_none() {
        return Ok(Step::Perform(Change::CreateVolume(Volume::Home)));
    }
    if around.docker.is_none() {
        return Ok(Step::Perform(Change::CreateVolume(Volume::Docker)));
    }
    // A container needs its network only when it is started.
    Ok(match network {
        Some(network) => Step::Both(network, Change::CreateContainer),
        None => Step::Perform(Change::CreateContainer),
    })
}

/// Whether the making of the box has not begun: it may live in a spare one.
#[must_use]
pub fn is_nothing_there(around: &Surroundings) -> bool {
    let volumes = [&around.home, &around.docker, &around.claim, &around.restoring];
    around.network.is_none() && volumes.iter().all(|volume| volume.is_none())
}

fn wake(
    wanted: &Blueprint,
    container: &Container,
    host: &Host,
    around: &Surroundings,
    observed: &Observed,
) -> Result<Step, Trouble> {
    allowed(wanted, &container.runtime, host, around)?;
    match &container.state {
        // Its limits are a spare's. Those of other boxes change only at rest: what runs may need what it has.
        State::Running { .. } if observed.claimed && container.limits != wanted.limits.into() => {
            Ok(Step::Perform(Change::Limit))
        }
        State::Running { address: Some(address), .. } => Ok(Step::Probe { address: ssh_at(*address) }),
        State::Running { address: None, .. } => {
            Ok(Step::Perform(networking(wanted, container, around)?.unwrap_or(Change::Attach)))
        }
        State::Stopped { exit_code, .. } if observed.started => {
            Err(Trouble::BootFailed { exit_code: *exit_code })
        }
        State::Created | State::Stopped { .. } => {
            volumes_are_there(wanted, around)?;
            let Some(others) = &observed.others else { return Ok(Step::Admit) };
            fits(wanted, host, others)?;
            start(wanted, container, host, around).map(Step::Perform)
        }
        State::Changing => Ok(Step::Wait),
        State::Paused => Err(Trouble::Paused),
        State::Dead => Err(Trouble::Dead),
    }
}

/// The next change on the way to starting a container at rest.
fn start(
    wanted: &Blueprint,
    container: &Container,
    host: &Host,
    around: &Surroundings,
) -> Result<Change, Trouble> {
    if outdated(container, host) {
        return Ok(Change::RemoveContainer);
    }
    if container.limits != wanted.limits.into() {
        return Ok(Change::Limit);
    }
    Ok(networking(wanted, container, around)?.unwrap_or(Change::Start))
}

/// Whether the container was made from something else than what the wanted image is now. One whose image is
/// not here to be replaced by is as good as it gets.
#[must_use]
pub fn outdated(container: &Container, host: &Host) -> bool {
    host.image_id.as_ref().is_some_and(|image| *image != container.image_id)
}

/// A container without its volumes would start with empty ones, as if all were well.
fn volumes_are_there(wanted: &Blueprint, around: &Surroundings) -> Result<(), Trouble> {
    let volumes = [(&around.home, Volume::Home), (&around.docker, Volume::Docker)];
    match volumes.into_iter().find(|(found, _)| found.is_none()) {
        Some((_, volume)) => Err(missing(volume, wanted)),
        None => Ok(()),
    }
}

fn missing(volume: Volume, wanted: &Blueprint) -> Trouble {
    Trouble::VolumeMissing { volume, name: volume.name(&wanted.names).to_owned() }
}

/// Whether the host has promised less memory than it may.
fn fits(wanted: &Blueprint, host: &Host, others: &Others) -> Result<(), Trouble> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a host's memory, to a few bytes"
    )]
    let limit = (host.memory as f64 * wanted.memory_share) as u64;
    let memory = wanted.limits.memory;
    if others.promised.saturating_add(memory.as_u64()) <= limit {
        return Ok(());
    }
    let (promised, limit) = (ByteSize::b(others.promised), ByteSize::b(limit));
    Err(Trouble::HostFull { wanted: memory, promised, limit })
}

/// Whether everything that has the name of one of the box's objects is the box's.
///
/// # Errors
/// [`Trouble::NameTaken`]
pub fn refuse_what_is_not_ours(
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
        ("volume", &names.claim, around.claim.as_ref()),
        ("volume", &names.restoring, around.restoring.as_ref()),
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
        // Nobody is in a spare box.
        _ if wanted.id.is_spare() => Ok(()),
        Runtime::Runc { boxes_are_root_on_this_host: true } => Ok(()),
        Runtime::Runc { boxes_are_root_on_this_host: false } => {
            let own = wanted.id.owner.as_str();
            let owners =
                around.boxes.iter().filter(|resident| resident.has_container && !resident.id.is_spare());
            match owners.map(|resident| &resident.id.owner).filter(|owner| owner.as_str() != own).min() {
                Some(owner) => Err(Trouble::NotIsolated { owner: owner.to_string() }),
                None => Ok(()),
            }
        }
    }
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

/// The box's network, with a subnet that nothing uses.
pub fn create_network(wanted: &Blueprint, around: &Surroundings) -> Result<Change, Trouble> {
    Ok(Change::CreateNetwork { subnet: network::next_free(wanted.pool, &around.subnets)? })
}

#[cfg(test)]
mod tests;
