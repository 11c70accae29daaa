//! What a connection came to: bytes, channels.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytesize::ByteSize;

/// Message number of a channel open (RFC 4254 §5.1).
const CHANNEL_OPEN: u8 = 90;

/// Counters of one connection, written by its two hops in passing and read at its end.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes_from_client: AtomicU64,
    bytes_from_devbox: AtomicU64,
    channels: AtomicU64,
}

impl Traffic {
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

/// `3 channels, 1.2 KiB from the client, 4.5 MiB from the box`.
impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channels = self.channels.load(Relaxed);
        let up = ByteSize(self.bytes_from_client.load(Relaxed));
        let down = ByteSize(self.bytes_from_devbox.load(Relaxed));
        write!(f, "{channels} channels, {up} from the client, {down} from the box")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_passed() {
        let traffic = Traffic::default();
        traffic.count_from_client(&[CHANNEL_OPEN, 0, 0]);
        traffic.count_from_devbox(&[94; 2048]);
        assert_eq!(traffic.to_string(), "1 channels, 3 B from the client, 2.0 KiB from the box");
    }
}
