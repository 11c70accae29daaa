//! All that the gateway may know of the provisioner: what it asks, what it hears, and how it asks.
//!
//! ```text
//! gateway ── Client ── HTTP/1 on a Unix socket, peer credentials checked ──► provisioner
//!            POST /v1/ensure   EnsureRequest  → lines of EnsureEvent, the last one ready or failed
//!            POST /v1/use      UseReport      → nothing
//!            POST /v1/lobby    LobbyRequest   → LobbyEndpoint
//!            GET  /v1/health                  → Health
//!            GET  /v1/boxes    [?usage=true]  → list of BoxSummary
//!                              and for root alone:
//!            POST /v1/order    OrderRequest   → lines of OrderEvent, the last one done or failed
//!            POST /v1/keep     KeepRequest    → Kept
//!            GET  /v1/logs     ?box=alice&lines=100&follow=false → the lines that its console got, as text
//!            GET  /v1/clusters ?box=alice     → BoxClusters
//!            POST /v1/gc       GcRequest      → GcReport
//!            POST /v1/backup   BackupRequest  → lines of BackupEvent, the archive's bytes among them
//!            POST /v1/restore  RestoreRequest, then the archive's bytes → lines of OrderEvent
//! ```
//!
//! Nothing here names Docker. What is read from the socket is bounded, whoever wrote it: [`MAX_LINE`],
//! [`MAX_REPLY`].

mod archive;
mod boxes;
mod client;
mod id;
mod lines;
mod lobby;
mod messages;

pub use archive::{ARCHIVE_FORMAT, BackupEvent, BackupRequest, Completion, Manifest, RestoreRequest};
pub use boxes::{
    BoxCluster, BoxClusters, BoxState, BoxSummary, BoxUse, GcReport, GcRequest, KeepRequest, Kept, Limits,
    Order, OrderEvent, OrderRequest, Orphan, OrphanKind, Usage, UseReport,
};
pub use client::{Backup, Client, ClientError, Log, Piece};
pub use lobby::{LobbyEndpoint, LobbyRequest};
pub use messages::{
    Endpoint, Engine, EnsureEvent, EnsureRequest, Failure, FailureCode, Firewall, Health, Progress, Refusal,
};

/// Makes or wakes a box: [`EnsureRequest`] → lines of JSON, each an [`EnsureEvent`].
pub const ENSURE_PATH: &str = "/v1/ensure";
/// Whether the provisioner can work: [`Health`].
pub const HEALTH_PATH: &str = "/v1/health";
/// Every box there is: a list of [`BoxSummary`], with what each uses at the moment for `?usage=true`.
pub const BOXES_PATH: &str = "/v1/boxes";
/// Changes a box: [`OrderRequest`] → lines of JSON, each an [`OrderEvent`]. For root alone.
pub const ORDER_PATH: &str = "/v1/order";
/// Keeps a box running while it is idle: [`KeepRequest`] → [`Kept`]. For root alone.
pub const KEEP_PATH: &str = "/v1/keep";
/// What the console of `?box=` got, as lines of text without anything that controls a terminal: the last `&lines=`, and with `&follow=true` all that
/// comes, until the box or the reader ends. For root alone.
pub const LOGS_PATH: &str = "/v1/logs";
/// The Kubernetes clusters in `?box=`, with the credentials of their administrators: [`BoxClusters`]. For root alone.
pub const CLUSTERS_PATH: &str = "/v1/clusters";
/// Who uses what, said by a gateway: [`UseReport`].
pub const USE_PATH: &str = "/v1/use";
/// Where the lobby answers: [`LobbyRequest`] → [`LobbyEndpoint`].
pub const LOBBY_PATH: &str = "/v1/lobby";
/// Finds and removes what no box needs: [`GcRequest`] → [`GcReport`]. For root alone.
pub const GC_PATH: &str = "/v1/gc";
/// Reads a box's home and inner Docker data: [`BackupRequest`] → lines of JSON, each a [`BackupEvent`]. For root alone.
pub const BACKUP_PATH: &str = "/v1/backup";
/// Makes a box of what was read so: a line with a [`RestoreRequest`], and then the archive → lines of JSON, each an [`OrderEvent`]. For root alone.
pub const RESTORE_PATH: &str = "/v1/restore";

/// Most bytes of one [`EnsureEvent`] line. The longest is a failure, which is a few sentences.
pub const MAX_LINE: usize = 16 * 1024;
/// Most bytes of a reply that is no stream: thousands of boxes at a few hundred bytes each.
pub const MAX_REPLY: usize = 4 * 1024 * 1024;
/// Most bytes of a request: or who uses each of thousands of boxes.
pub const MAX_REQUEST: usize = 1024 * 1024;
