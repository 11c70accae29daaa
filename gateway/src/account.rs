//! What a connection came to: bytes, messages, channels, time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytesize::ByteSize;
use tokio::time::Instant;

/// Message number of a channel open (RFC 4254 §5.1).
const CHANNEL_OPEN: u8 = 90;

/// Counters of one connection, written by its two hops in passing and read at its end.
#[derive(Debug)]
pub struct Traffic {
    since: Instant,
    bytes_from_client: AtomicU64,
    bytes_from_devbox: AtomicU64,
    channels: AtomicU64,
}

impl Traffic {
    #[must_use]
    pub fn begin() -> Self {
        Self {
            since: Instant::now(),
            bytes_from_client: AtomicU64::new(0),
            bytes_from_devbox: AtomicU64::new(0),
            channels: AtomicU64::new(0),
        }
    }

    pub(crate) fn count_from_client(&self, message: &[u8]) {
        self.bytes_from_client.fetch_add(message.len() as u64, Relaxed);
        self.count_channel(message);
    }

    pub(crate) fn count_from_devbox(&self, message: &[u8]) {
        self.bytes_from_devbox.fetch_add(message.len() as u64, Relaxed);
        self.count_channel(message);
    }

    fn count_channel(&self, message: &[u8]) {
        if message.first() == Some(&CHANNEL_OPEN) {
            self.channels.fetch_add(1, Relaxed);
        }
    }
}

/// `12 s, 3 channels, 1.2 KiB from the client, 4.5 MiB from the box`.
impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.since.elapsed().as_secs();
        let channels = self.channels.load(Relaxed);
        let up = ByteSize(self.bytes_from_client.load(Relaxed));
        let down = ByteSize(self.bytes_from_devbox.load(Relaxed));
        write!(f, "{seconds} s, {channels} channels, {up} from the client, {down} from the box")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counts_what_passed() {
        let traffic = Traffic::begin();
        traffic.count_from_client(&[CHANNEL_OPEN, 0, 0]);
        traffic.count_from_devbox(&[94; 2048]);
        tokio::time::advance(std::time::Duration::from_secs(12)).await;
        assert_eq!(traffic.to_string(), "12 s, 1 channels, 3 B from the client, 2.0 KiB from the box");
    }
}
