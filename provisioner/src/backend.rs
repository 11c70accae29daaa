//! What boxes are made with: the little that the rest of the provisioner knows of a container engine.
//!
//! [`docker`] is the real one; `fake` is a world in memory for tests. A backend reports what is there and
//! makes one change at a time; what to make of it is [`reconcile`](crate::reconcile)'s business.

pub mod docker;
#[cfg(test)]
pub(crate) mod fake;
mod probe;
mod spare;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use boxgate_config::{BoxLimits, DevBoxId, InstanceName, Runtime};
use boxgate_provisioner_api::Usage;
use bytes::Bytes;
use ipnet::Ipv4Net;
use tokio::sync::mpsc;

use crate::blueprint::Blueprint;
use crate::claims::Claims;
use crate::objects::{Labels, Names};

/// A container engine. Every call is bounded in time and may be dropped at any point.
pub trait Backend: Send + Sync + 'static {
    /// The container of this name, whosever it is.
    fn container(&self, names: &Names) -> impl Future<Output = Result<Option<Container>, Error>> + Send;

    /// What the host offers a box. No change of ours changes it.
    fn host(&self, devbox: &Blueprint) -> impl Future<Output = Result<Host, Error>> + Send;

    /// All else that bears on the making of a box.
    fn surroundings(&self, devbox: &Blueprint) -> impl Future<Output = Result<Surroundings, Error>> + Send;

    /// Makes one change and returns when it is made.
    fn perform(&self, devbox: &Blueprint, change: &Change) -> impl Future<Output = Result<(), Error>> + Send;

    /// Which boxes of the installation's live in spare ones.
    fn claims(&self, instance: &InstanceName) -> impl Future<Output = Result<Claims, Error>> + Send;

    /// Everything of the installation's.
    fn inventory(&self, instance: &InstanceName) -> impl Future<Output = Result<Inventory, Error>> + Send;

    /// What a running container uses; none when it does not run.
    fn usage(&self, names: &Names) -> impl Future<Output = Result<Option<Usage>, Error>> + Send;

    /// What everything takes of the disk. This may take minutes.
    fn disk(&self) -> impl Future<Output = Result<Disk, Error>> + Send;

    /// The box images, known by the label that their recipe gives them, that have no name any more, and that nobody's
    /// container was made from.
    fn nameless_images(&self) -> impl Future<Output = Result<Vec<Image>, Error>> + Send;

    /// Removes an image, unless something needs it.
    fn remove_image(&self, id: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Sends what a container's first process wrote to `into`, line by line and free of control characters: the
    /// last `lines`, and then, to `follow` it, what it writes until it ends. Returns when nobody listens.
    fn console(
        &self,
        names: &Names,
        lines: u32,
        follow: bool,
        into: mpsc::Sender<String>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Runs a program in a running container and reads what it prints; none when the container does not run.
    fn run(
        &self,
        names: &Names,
        program: &Program<'_>,
    ) -> impl Future<Output = Result<Option<Ran>, Error>> + Send;

    /// Sends what is in a box's two volumes to `into` as one tar stream. Nothing may write to them meanwhile.
    fn pack(
        &self,
        devbox: &Blueprint,
        into: mpsc::Sender<Bytes>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Fills a box's two volumes, which are empty, from such a stream: all of it is on the disk then.
    fn unpack(
        &self,
        devbox: &Blueprint,
        from: mpsc::Receiver<Bytes>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Removes what packs or unpacks a box's volumes, or did. Each that was called must be followed by it, whatever became
    /// of the call.
    fn end_move(&self, names: &Names) -> impl Future<Output = Result<(), Error>> + Send;

    /// The boxes of which there is such a thing.
    fn moves(&self, instance: &InstanceName) -> impl Future<Output = Result<Vec<DevBoxId>, Error>> + Send;

    /// Whether the engine answers.
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Whether an SSH server answers at an address.
    fn answers(&self, address: SocketAddr) -> impl Future<Output = bool> + Send {
        probe::answers(address)
    }

    /// Tells the spare box at this address that it is somebody's now, whom its `box.json` names, and returns what
    /// came of making her user; none when it does not listen for that, or not any more.
    fn move_in(&self, address: Ipv4Addr) -> impl Future<Output = Option<Ran>> + Send {
        spare::move_in((address, spare::PORT).into())
    }
}

/// A container as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    /// The engine's own name for it, which no other container ever has.
    pub id: String,
    pub labels: Labels,
    /// The image's name when the container was made from it,
    pub image: String,
    /// and the engine's own name of what it was then.
    pub image_id: String,
    /// The engine's name of the runtime that it was made with.
    pub runtime: String,
    pub limits: ContainerLimits,
    pub state: State,
    /// The id of the network of the box's name that it is attached to. Empty until the first start, when the
    /// engine looks the network up by its name; none when it is attached to no network of that name.
    pub network: Option<String>,
}

impl Container {
    /// Whether root in it is someone else than root on the host.
    #[must_use]
    pub fn isolates(&self) -> bool {
        self.runtime == Runtime::Sysbox.docker_name()
    }
}

/// A program that is run in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program<'a> {
    pub user: &'a str,
    /// Its working directory, and its user's home.
    pub directory: &'a str,
    pub command: &'a [&'a str],
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran {
    pub exit_code: i64,
    /// What it wrote to standard output, up to a bound.
    pub output: Vec<u8>,
}

/// What the engine lets a container use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerLimits {
    /// Billionths of a core.
    pub nano_cpus: i64,
    /// Bytes of memory and swap together.
    pub memory: i64,
    pub pids: i64,
}

impl From<BoxLimits> for ContainerLimits {
    fn from(limits: BoxLimits) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a fraction of a billionth of a core is none")]
        let nano_cpus = (limits.cpus * 1e9).round() as i64;
        let memory = i64::try_from(limits.memory.as_u64()).unwrap_or(i64::MAX);
        Self { nano_cpus, memory, pids: limits.pids }
    }
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Made, never started.
    Created,
    Running {
        /// When it was started (RFC 3339). Together with the container's id this names one boot.
        since: String,
        /// On the box's own network.
        address: Option<Ipv4Addr>,
    },
    Stopped {
        /// When it ended (RFC 3339).
        since: String,
        exit_code: i64,
    },
    /// Frozen by an operator.
    Paused,
    /// On its way to another state.
    Changing,
    /// The engine failed to remove it and cannot start it any more.
    Dead,
}

/// What the host offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// The engine's own name of what the wanted image is now, if it is on this host.
    pub image_id: Option<String>,
    /// Names of the runtimes that the engine knows.
    pub runtimes: HashSet<String>,
    /// Bytes of memory.
    pub memory: u64,
}

/// What bears on the making of a box, besides its container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// What has the box's network's name,
    pub network: Option<Network>,
    /// and the ids of further ones of the box's that have it too: an engine that was asked twice, the first time
    /// by a provisioner that was killed, may make two. It finds neither by its name then.
    pub surplus: Vec<String>,
    /// The labels of the volumes that have the names of the box's.
    pub home: Option<Labels>,
    pub docker: Option<Labels>,
    /// The same of the volume that would say which spare the box lives in.
    pub claim: Option<Labels>,
    /// The same of the volume that would say that the box is being restored.
    pub restoring: Option<Labels>,
    /// Whether the container of the spare that the box lives in has the spare's name still.
    pub unadopted: bool,
    /// All boxes of this installation, this one among them.
    pub boxes: Vec<Resident>,
    /// Networks of the engine and routes of the host.
    pub subnets: Vec<Ipv4Net>,
}

/// A box that there is: it has a container, or a home for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    pub id: DevBoxId,
    pub has_container: bool,
    pub running: bool,
}

/// What there is of an installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    pub containers: Vec<Container>,
    /// Names and labels.
    pub networks: Vec<(String, Labels)>,
    pub volumes: Vec<(String, Labels)>,
}

impl Inventory {
    /// Which boxes live in spare ones.
    #[must_use]
    pub fn claims(&self, instance: &InstanceName) -> Claims {
        Claims::among(self.volumes.iter().map(|(name, labels)| (name.as_str(), labels)), instance)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub id: String,
    pub labels: Labels,
}

/// Bytes that volumes, and what containers wrote over their images, take of the disk, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    pub volumes: HashMap<String, u64>,
    pub containers: HashMap<String, u64>,
}

impl Disk {
    /// What a box takes; none while its home was not measured.
    #[must_use]
    pub fn of(&self, names: &Names) -> Option<u64> {
        let others = [self.volumes.get(&names.docker), self.containers.get(&names.container)];
        Some(self.volumes.get(&names.home)? + others.into_iter().flatten().sum::<u64>())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The engine's own name for it.
    pub id: String,
    pub bytes: u64,
}

/// One of a box's two volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volume {
    Home,
    Docker,
}

impl Volume {
    #[must_use]
    pub fn name(self, names: &Names) -> &str {
        match self {
            Self::Home => &names.home,
            Self::Docker => &names.docker,
        }
    }
}

/// One change to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    CreateNetwork {
        subnet: Ipv4Net,
    },
    CreateVolume(Volume),
    CreateContainer,
    /// Lets the box live in a spare one from now on.
    Claim {
        spare: DevBoxId,
    },
    /// Renames the container of the spare that the box lives in.
    Adopt,
    /// Says of the box, whose volumes are about to be made and filled, that it is none yet.
    BeginRestore,
    /// Says of the box that it is one, or that nothing is left of it.
    EndRestore,
    /// Removes a further network of the box's name by its id.
    RemoveSurplus {
        network: String,
    },
    /// Attaches the container to the network of its name, in place of one that is gone.
    Attach,
    /// Gives a container at rest, or one that was just claimed, the limits that it should have.
    Limit,
    Start,
    /// Lets the box shut itself down; what takes too long is killed.
    Stop,
    RemoveContainer,
    RemoveVolume(Volume),
    RemoveNetwork,
    RemoveClaim,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateNetwork { subnet } => write!(f, "create network {subnet}"),
            Self::CreateVolume(Volume::Home) => f.write_str("create home volume"),
            Self::CreateVolume(Volume::Docker) => f.write_str("create docker volume"),
            Self::CreateContainer => f.write_str("create container"),
            Self::Claim { spare } => write!(f, "claim {spare}"),
            Self::Adopt => f.write_str("rename container"),
            Self::BeginRestore => f.write_str("begin restore"),
            Self::EndRestore => f.write_str("end restore"),
            Self::RemoveSurplus { network } => write!(f, "remove surplus network {network}"),
            Self::Attach => f.write_str("attach container to network"),
            Self::Limit => f.write_str("set limits"),
            Self::Start => f.write_str("start container"),
            Self::Stop => f.write_str("stop container"),
            Self::RemoveContainer => f.write_str("remove container"),
            Self::RemoveVolume(Volume::Home) => f.write_str("remove home volume"),
            Self::RemoveVolume(Volume::Docker) => f.write_str("remove docker volume"),
            Self::RemoveNetwork => f.write_str("remove network"),
            Self::RemoveClaim => f.write_str("remove claim"),
        }
    }
}

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("docker: cannot be reached: {0}")]
    Unreachable(String),
    /// It may have done what it was asked: looking again tells.
    #[error("docker: \"{call}\" got no whole answer: {cause}")]
    NoAnswer { call: &'static str, cause: String },
    #[error("docker: no answer to \"{call}\" within {after:?}")]
    TimedOut { call: &'static str, after: Duration },
    /// Someone else was faster: looking again tells more than this error.
    #[error("docker: \"{call}\" conflicts with what is there: {message}")]
    Conflict { call: &'static str, message: String },
    #[error("docker: \"{call}\" refused: {message}")]
    Refused { call: &'static str, message: String },
    /// What packs or unpacks volumes failed.
    #[error("tar ended with exit code {exit_code}: {said}")]
    Tar { exit_code: i64, said: String },
}
