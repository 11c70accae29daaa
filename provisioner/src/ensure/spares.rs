//! The spare boxes that are booted and nobody's yet, and those that somebody is about to get.
//!
//! No record of what exists: a spare that is in neither list is looked at and offered, or removed, by
//! [`fleet`](crate::fleet)'s next round.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boxgate_config::DevBoxId;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a spare that was taken may go without a claim. Longer than any call to the engine may take.
const CLAIMED_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
pub(crate) struct Spares {
    lists: Mutex<Lists>,
    fewer: Notify,
}

#[derive(Debug, Default)]
struct Lists {
    ready: BTreeMap<DevBoxId, Ready>,
    taken: BTreeMap<DevBoxId, Instant>,
}

#[derive(Debug)]
struct Ready {
    /// The engine's name of the image that it was made from.
    image_id: String,
    address: Ipv4Addr,
}

impl Spares {
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A spare has booted.
    pub(crate) fn offer(&self, spare: &DevBoxId, image_id: String, address: Ipv4Addr) {
        self.lists().ready.insert(spare.clone(), Ready { image_id, address });
    }

    /// One of this image with its address, which nobody else gets then.
    pub(crate) fn take(&self, image_id: &str) -> Option<(DevBoxId, Ipv4Addr)> {
        let mut lists = self.lists();
        let (spare, &Ready { address, .. }) = lists.ready.iter().find(|(_, of)| of.image_id == image_id)?;
        let spare = spare.clone();
        lists.ready.remove(&spare);
        lists.taken.insert(spare.clone(), Instant::now());
        self.fewer.notify_one();
        Some((spare, address))
    }

    pub(crate) fn is_ready(&self, spare: &DevBoxId) -> bool {
        self.lists().ready.contains_key(spare)
    }

    /// Whether somebody is about to get it.
    pub(crate) fn is_taken(&self, spare: &DevBoxId) -> bool {
        let mut lists = self.lists();
        lists.taken.retain(|_, since| since.elapsed() < CLAIMED_WITHIN);
        lists.taken.contains_key(spare)
    }

    /// Somebody has it: from now on its claim says so.
    pub(crate) fn hand_over(&self, spare: &DevBoxId) {
        self.lists().taken.remove(spare);
    }

    /// Nobody gets it from now on; false when somebody does.
    pub(crate) fn withdraw(&self, spare: &DevBoxId) -> bool {
        self.lists().ready.remove(spare);
        !self.is_taken(spare)
    }

    /// Returns when one was taken.
    pub(crate) async fn fewer(&self) {
        self.fewer.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 2);

    #[test]
    fn nobody_gets_what_another_took() {
        let spares = Spares::default();
        spares.offer(&id("box+s1"), "image".to_owned(), ADDRESS);
        assert_eq!(spares.take("another image"), None);
        assert_eq!(spares.take("image"), Some((id("box+s1"), ADDRESS)));
        assert_eq!(spares.take("image"), None);
        assert!(!spares.withdraw(&id("box+s1")));
    }

    #[test]
    fn nobody_gets_what_was_withdrawn() {
        let spares = Spares::default();
        spares.offer(&id("box+s1"), "image".to_owned(), ADDRESS);
        assert!(spares.withdraw(&id("box+s1")));
        assert_eq!(spares.take("image"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_and_never_claimed_is_free_again() {
        let spares = Spares::default();
        spares.offer(&id("box+s1"), "image".to_owned(), ADDRESS);
        spares.take("image");
        tokio::time::sleep(CLAIMED_WITHIN).await;
        assert!(!spares.is_taken(&id("box+s1")));
    }
}
