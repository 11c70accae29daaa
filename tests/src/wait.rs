//! Waiting for something to become so: polls with a deadline, never a bare sleep.
#![expect(
    clippy::disallowed_methods,
    reason = "real programs run in real time; no runtime to pause it is here"
)]

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Looks until `look` finds something, and panics with what it saw last when `limit` is over.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let watch = Stopwatch::start();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if watch.elapsed() > limit => panic!("{what}: not within {limit:?}; last seen: {seen}"),
            Err(_) => sleep(POLL),
        }
    }
}

/// Time since its start.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Panics unless `what` happened between `least` and `most` after the start.
    #[track_caller]
    pub fn assert_between(self, least: Duration, most: Duration, what: &str) {
        let took = self.elapsed();
        assert!(
            least <= took && took <= most,
            "{what} took {took:?}, expected between {least:?} and {most:?}"
        );
    }
}

impl fmt::Display for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.elapsed().as_secs_f64())
    }
}
