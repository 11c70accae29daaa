//! What a connection came to: the line that its end leaves in the log.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::info;

use crate::relay::tap::Tap;

/// Of one connection that is relayed: opened when its client was authenticated, closed when it has ended.
#[derive(Debug)]
pub struct Account {
    since: Instant,
    tap: Arc<Tap>,
}

impl Account {
    #[must_use]
    pub fn open(since: Instant, tap: Arc<Tap>) -> Self {
        Self { since, tap }
    }

    /// Writes the line. `ended` is how the client's hop did, or `None` when the gateway itself ended it.
    pub fn close(self, ended: Option<Result<(), russh::Error>>) {
        let (seconds, traffic) = (self.since.elapsed().as_secs(), self.tap);
        match ended {
            Some(Ok(())) => info!(seconds, %traffic, "done"),
            Some(Err(fault)) => info!(seconds, %traffic, %fault, "cut"),
            None => info!(seconds, %traffic, "ended by the gateway"),
        }
    }
}
