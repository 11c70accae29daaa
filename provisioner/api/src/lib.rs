//! All that the gateway may know of the provisioner: what it asks, what it hears, and how it asks.
//!
//! ```text
//! gateway ── Client ── HTTP/1 on a Unix socket, peer credentials checked ──► provisioner
//!            POST /v1/ensure   EnsureRequest  → lines of EnsureEvent, the last one ready or failed
//!            GET  /v1/health                  → Health
//!            GET  /v1/boxes                   → list of BoxSummary
//! ```
//!
//! Nothing here names Docker. What is read from the socket is bounded, whoever wrote it: [`MAX_LINE`],
//! [`MAX_REPLY`].

mod client;
mod id;
mod lines;
mod messages;

pub use client::{Client, ClientError};
pub use messages::{
    BoxState, BoxSummary, Endpoint, Engine, EnsureEvent, EnsureRequest, Failure, FailureCode, Firewall,
    Health, Progress, Refusal,
};

/// Makes or wakes a box: [`EnsureRequest`] → lines of JSON, each an [`EnsureEvent`].
pub const ENSURE_PATH: &str = "/v1/ensure";
/// Whether the provisioner can work: [`Health`].
pub const HEALTH_PATH: &str = "/v1/health";
/// Every box there is: a list of [`BoxSummary`].
pub const BOXES_PATH: &str = "/v1/boxes";

/// Most bytes of one [`EnsureEvent`] line. The longest is a failure, which is a few sentences.
pub const MAX_LINE: usize = 16 * 1024;
/// Most bytes of a reply that is no stream: thousands of boxes at a few hundred bytes each.
pub const MAX_REPLY: usize = 4 * 1024 * 1024;
/// Most bytes of a request: a box's id, a public key and a few words.
pub const MAX_REQUEST: usize = 64 * 1024;
