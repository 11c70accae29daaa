//! What stands in one cell: ages, sizes, and text that others wrote.

use std::fmt::Display;

use boxgate_provisioner_api::{BoxSummary, Limits, Usage};
use bytesize::ByteSize;
use jiff::Timestamp;

use crate::failure;

/// What stands for a value that is not known.
pub(super) const NONE: &str = "-";

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How long ago a moment (RFC 3339) was, or how far ahead it is, to the unit that matters: `3 h`. None for what
/// is no moment.
#[must_use]
pub fn age(moment: &str, now: Timestamp) -> Option<String> {
    let seconds = now.duration_since(moment.parse().ok()?).as_secs().abs();
    Some(match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR..DAY => format!("{} h", seconds / HOUR),
        _ => format!("{} d", seconds / DAY),
    })
}

/// `60.0 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// Text that fits a field of a line, never empty.
pub(super) fn cell(text: &str) -> String {
    let line = failure::one_line(text);
    if line.is_empty() { NONE.to_owned() } else { line }
}

pub(super) fn optional(value: Option<impl Display>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// `0.25/2`: used and promised.
pub(super) fn cpus(usage: Option<&Usage>, limits: &Limits) -> String {
    let used = usage.map(|usage| (usage.cpus * 100.0).round() / 100.0);
    format!("{}/{}", optional(used), limits.cpus)
}

pub(super) fn memory(usage: Option<&Usage>, limits: &Limits) -> String {
    format!("{}/{}", optional(usage.map(|usage| size(usage.memory_bytes))), size(limits.memory_bytes))
}

/// Where the storage has no limits there is none to show.
pub(super) fn disk(devbox: &BoxSummary) -> String {
    let used = optional(devbox.disk_bytes.map(size));
    devbox.limits.disk_bytes.map_or_else(|| used.clone(), |limit| format!("{used}/{}", size(limit)))
}
