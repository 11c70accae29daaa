//! How many connections may be unauthenticated at once: beyond a first number more and more of the new ones are
//! turned away at random, so that a flood hits itself more often than it hits a person (`sshd_config(5)`,
//! `MaxStartups start:rate:full`).

use std::sync::Arc;

use rand::RngExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits for connections that are not authenticated yet.
#[derive(Debug)]
pub struct Startups {
    limits: boxgate_config::Startups,
    permits: Arc<Semaphore>,
}

impl Startups {
    #[must_use]
    pub fn new(limits: boxgate_config::Startups) -> Self {
        Self { limits, permits: Arc::new(Semaphore::new(limits.full)) }
    }

    /// A permit for a new connection, unless it is turned away.
    #[must_use]
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        self.admit_by(rand::rng().random_range(0..100))
    }

    /// `dice` is 0 to 99.
    fn admit_by(&self, dice: usize) -> Option<OwnedSemaphorePermit> {
        let pending = self.limits.full - self.permits.available_permits();
        if dice < self.percentage(pending) {
            return None;
        }
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// How many of a hundred new connections are turned away while so many are pending.
    fn percentage(&self, pending: usize) -> usize {
        let boxgate_config::Startups { start, rate, full } = self.limits;
        let rate = rate as usize;
        if pending < start {
            return 0;
        }
        if pending >= full {
            return 100;
        }
        // Here `start` is less than `full`.
        rate + (100 - rate) * (pending - start) / (full - start)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn startups(start: usize, rate: u32, full: usize) -> Startups {
        Startups::new(boxgate_config::Startups { start, rate, full })
    }

    #[rstest]
    #[case(0, 0)]
    #[case(9, 0)]
    #[case(10, 30)]
    #[case(60, 65)]
    #[case(109, 99)]
    #[case(110, 100)]
    fn the_part_grows_from_start_to_full(#[case] pending: usize, #[case] percentage: usize) {
        assert_eq!(startups(10, 30, 110).percentage(pending), percentage);
    }

    #[test]
    fn a_number_alone_is_where_all_are_turned_away() {
        let startups = startups(2, 100, 2);
        let held = [startups.admit(), startups.admit()];
        assert!(held.iter().all(Option::is_some));
        assert!(startups.admit().is_none());
        drop(held);
        assert!(startups.admit().is_some());
    }

    #[test]
    fn the_dice_decide_in_between() {
        let startups = startups(1, 30, 3);
        let _first = startups.admit_by(0).unwrap();
        assert!(startups.admit_by(29).is_none());
        let _second = startups.admit_by(30).unwrap();
        assert!(startups.admit_by(64).is_none());
        let _third = startups.admit_by(65).unwrap();
        assert!(startups.admit_by(99).is_none());
    }
}
