//! What is said of the boxes that there are: listed, changed, kept, used, cleared up after. As JSON; fields may
//! be added: a reader ignores those that it does not know.

use std::net::Ipv4Addr;

use boxgate_config::{BoxLimits, DevBoxId};
use serde::{Deserialize, Serialize};

use crate::{Failure, Progress, id};

/// Asks for a change of a box. Answered by lines of [`OrderEvent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRequest {
    /// On the wire `"alice"` or `"alice+web"`.
    #[serde(with = "id")]
    pub devbox: DevBoxId,
    pub order: Order,
    /// Who asks, for the log.
    pub client: String,
}

/// What can be done to a box. Each may be given again: what is done already is not done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Makes a box that there is not yet, and starts it.
    New,
    /// Starts a box that there is, and waits until it answers.
    Start,
    /// Stops it; its connections end.
    Stop,
    Restart,
    /// Makes its container anew from the current image: home and inner Docker data stay, all else goes.
    Reset,
    /// Removes it with all its data.
    Remove,
}

/// One line of the answer to an [`OrderRequest`]. The last one is `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum OrderEvent {
    Progress(Progress),
    Done,
    Failed(Failure),
}

/// A box as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoxSummary {
    /// On the wire `"alice"` or `"alice+web"`.
    #[serde(with = "id")]
    pub id: DevBoxId,
    pub state: BoxState,
    /// Why the last attempt to have it failed.
    pub reason: Option<String>,
    /// When the box got into its state (RFC 3339); none for a box that never ran.
    pub since: Option<String>,
    /// The container's name. There may be none of that name: it is made at the next login.
    pub container: String,
    /// The image that the container was made from.
    pub image: Option<String>,
    /// Whether the box moves to another image at its next cold start.
    pub outdated: bool,
    /// Whether the box was made by a runtime that isolates.
    pub isolated: bool,
    /// On the box's own network, while it runs.
    pub address: Option<Ipv4Addr>,
    /// Connections of clients to it, as its gateways said last.
    pub connections: u32,
    /// Seconds since somebody did something in it, while it runs.
    pub idle_seconds: Option<u64>,
    /// It is not stopped for being idle before this time (RFC 3339).
    pub keep_until: Option<String>,
    pub limits: Limits,
    /// Only when it was asked for, and while the box runs.
    pub usage: Option<Usage>,
    /// What it takes of the host's disk, running or not: home, Docker data, and what it changed of its image. Only when
    /// it was asked for; none while it is not known.
    pub disk_bytes: Option<u64>,
}

/// What a box may use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Cores' worth of processor time.
    pub cpus: f64,
    pub memory_bytes: u64,
    pub pids: i64,
    /// Of each of its volumes, where the storage can limit it.
    pub disk_bytes: Option<u64>,
}

impl From<BoxLimits> for Limits {
    fn from(limits: BoxLimits) -> Self {
        Self {
            cpus: limits.cpus,
            memory_bytes: limits.memory.as_u64(),
            pids: limits.pids,
            disk_bytes: limits.disk.map(|disk| disk.as_u64()),
        }
    }
}

/// What a box uses at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Cores' worth of processor time over the last second or so.
    pub cpus: f64,
    /// Without the page cache that the kernel would give back.
    pub memory_bytes: u64,
    pub pids: u64,
}

/// What a box is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxState {
    /// Its network, volumes or container are being made.
    Creating,
    /// Started; its sshd does not answer yet.
    Booting,
    /// Its sshd answers.
    Ready,
    Stopping,
    /// The next login wakes it.
    Stopped,
    /// It was stopped and is being started.
    Waking,
    /// The last attempt to have it failed; the next one starts afresh.
    Failed,
    /// An operator has frozen its container.
    Paused,
    /// It is being removed.
    Removing,
}

/// Keeps a box from being stopped for being idle. Answered by [`Kept`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepRequest {
    /// On the wire `"alice"` or `"alice+web"`.
    #[serde(with = "id")]
    pub devbox: DevBoxId,
    /// From now on; 0 ends what was asked for before.
    pub seconds: u64,
    /// Who asks, for the log.
    pub client: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// When it ends (RFC 3339); none when it has ended.
    pub until: Option<String>,
}

/// The Kubernetes clusters of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxClusters {
    /// None when the box does not run.
    pub clusters: Option<Vec<BoxCluster>>,
}

/// One of them. All of it is what the box says: whoever owns the box chose it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxCluster {
    /// As kind calls it.
    pub name: String,
    /// With the address that its API has in the box. Empty when the cluster does not run.
    pub kubeconfig: String,
}

/// What a gateway says every few seconds: all the boxes that have connections through it.
/// A box that is not named has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UseReport {
    /// Tells this gateway process from any other.
    pub gateway: String,
    pub boxes: Vec<BoxUse>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxUse {
    /// On the wire `"alice"` or `"alice+web"`.
    #[serde(with = "id")]
    pub devbox: DevBoxId,
    pub connections: u32,
    /// Since a client last sent something that a person or a program of hers asked for: keepalives, window
    /// adjustments and what the box sends do not count.
    pub idle_seconds: u64,
}

/// Looks for what no box needs any more. Answered by [`GcReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcRequest {
    /// Whether it is removed, or only told.
    pub remove: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    pub orphans: Vec<Orphan>,
}

/// Something of this installation's that no box needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    pub kind: OrphanKind,
    pub name: String,
    /// Why nothing needs it.
    pub reason: String,
    pub removed: bool,
    /// Why it could not be removed.
    pub fault: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrphanKind {
    Container,
    Network,
    Volume,
    /// The empty volume that said which spare box a box lives in.
    Claim,
    /// An image that boxes were made from.
    Image,
    /// A directory below the provisioner's state directory.
    Directory,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_comes_back_as_it_went() {
        let summary = BoxSummary {
            id: DevBoxId::parse("alice+web").unwrap(),
            state: BoxState::Ready,
            reason: None,
            since: Some("2026-01-01T00:00:00Z".to_owned()),
            container: "boxgate.alice.web".to_owned(),
            image: Some("boxgate/box:latest".to_owned()),
            outdated: false,
            isolated: true,
            address: Some([10, 201, 0, 2].into()),
            connections: 2,
            idle_seconds: Some(7),
            keep_until: None,
            limits: Limits { cpus: 1.5, memory_bytes: 1 << 30, pids: 4096, disk_bytes: None },
            usage: Some(Usage { cpus: 0.25, memory_bytes: 60 << 20, pids: 40 }),
            disk_bytes: Some(3 << 30),
        };
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!((&json["id"], &json["state"]), (&"alice+web".into(), &"ready".into()));
        assert_eq!(serde_json::from_value::<BoxSummary>(json).unwrap(), summary);
    }

    #[test]
    fn orders_and_their_events_have_names() {
        let order: OrderRequest =
            serde_json::from_str(r#"{"devbox":"alice","order":"reset","client":"root"}"#).unwrap();
        assert_eq!(order.order, Order::Reset);
        assert_eq!(serde_json::to_string(&OrderEvent::Done).unwrap(), r#"{"event":"done"}"#);
        assert!(
            serde_json::from_str::<OrderRequest>(r#"{"devbox":"alice","order":"rm","client":""}"#).is_err()
        );
    }
}
