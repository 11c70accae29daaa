//! Boxes as a list: a table for people, tab-separated lines for scripts, JSON for programs. Pure.
//!
//! Invariants: the columns of [`tab_separated`] never change their places, new ones come after the last; a
//! cell never breaks its line or its column, whoever wrote what is in it.

mod cells;
mod table;

use boxgate_provisioner_api::{BoxState, BoxSummary};

pub use cells::{age, size};
pub use table::{Look, Of, table};

use cells::{cell, optional};

/// The columns of [`tab_separated`], in their order.
pub const COLUMNS: [&str; 20] = [
    "box",
    "user",
    "state",
    "since",
    "connections",
    "idle_seconds",
    "keep_until",
    "cpus",
    "cpus_limit",
    "memory_bytes",
    "memory_limit_bytes",
    "pids",
    "pids_limit",
    "disk_bytes",
    "disk_limit_bytes",
    "image",
    "outdated",
    "isolated",
    "address",
    "reason",
];

/// A line for each box, without a heading. What is not known is `-`, so that no field is ever empty: shells
/// read two tabs as one.
#[must_use]
pub fn tab_separated(boxes: &[BoxSummary]) -> String {
    boxes.iter().map(|devbox| fields(devbox).join("\t") + "\n").collect()
}

fn fields(devbox: &BoxSummary) -> [String; COLUMNS.len()] {
    let limits = &devbox.limits;
    let usage = devbox.usage.as_ref();
    [
        devbox.id.to_string(),
        devbox.id.owner.to_string(),
        state(devbox.state).to_owned(),
        optional(devbox.since.as_ref()),
        devbox.connections.to_string(),
        optional(devbox.idle_seconds),
        optional(devbox.keep_until.as_ref()),
        optional(usage.map(|usage| usage.cpus)),
        limits.cpus.to_string(),
        optional(usage.map(|usage| usage.memory_bytes)),
        limits.memory_bytes.to_string(),
        optional(usage.map(|usage| usage.pids)),
        limits.pids.to_string(),
        optional(devbox.disk_bytes),
        optional(limits.disk_bytes),
        optional(devbox.image.as_ref()),
        devbox.outdated.to_string(),
        devbox.isolated.to_string(),
        optional(devbox.address),
        optional(devbox.reason.as_ref()),
    ]
    .map(|field| cell(&field))
}

/// The list as the API has it, times in RFC 3339 and sizes in bytes.
///
/// # Errors
/// Never in practice: a summary holds nothing that JSON does not know.
pub fn json(boxes: &[BoxSummary]) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(boxes)? + "\n")
}

/// A state's name, the same as in the API.
#[must_use]
pub fn state(state: BoxState) -> &'static str {
    match state {
        BoxState::Creating => "creating",
        BoxState::Booting => "booting",
        BoxState::Ready => "ready",
        BoxState::Stopping => "stopping",
        BoxState::Stopped => "stopped",
        BoxState::Waking => "waking",
        BoxState::Failed => "failed",
        BoxState::Paused => "paused",
        BoxState::Removing => "removing",
    }
}

#[cfg(test)]
mod tests;
