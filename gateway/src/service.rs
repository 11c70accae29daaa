//! What the service manager is told (`sd_notify(3)`). Where there is none, nothing is.

use sd_notify::NotifyState;
use tracing::warn;

/// Tells it.
pub fn tell(states: &[NotifyState<'_>]) {
    if let Err(fault) = sd_notify::notify(states) {
        warn!(%fault, "cannot tell the service manager");
    }
}
