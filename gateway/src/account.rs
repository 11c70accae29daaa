//! What a connection came to, for the line that its end leaves in the log.

use std::fmt;

use crate::relay::tap::{From, Tap};

/// Of one connection: written by its two hops in passing and read at its end.
#[derive(Debug, Default)]
pub struct Traffic {
    tap: Tap,
}

impl Traffic {
    pub(crate) fn count_from_client(&self, message: &[u8]) {
        self.tap.see(From::Client, message);
    }

    pub(crate) fn count_from_devbox(&self, message: &[u8]) {
        self.tap.see(From::Devbox, message);
    }

    /// How often the client did something: see [`Tap::acts`].
    pub(crate) fn acts(&self) -> u64 {
        self.tap.acts()
    }
}

/// As [`Tap`] tells it.
impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tap.fmt(f)
    }
}
