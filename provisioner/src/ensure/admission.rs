//! What boxes that are being made or woken count on, from the moment they were let until they run: two that are
//! asked for at once must not both be given what is left for one.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use boxgate_config::{Config, DevBoxId};
use ipnet::Ipv4Net;

use crate::backend::Resident;
use crate::reconcile::Others;

/// The boxes that are on their way up.
#[derive(Debug, Default)]
pub(super) struct Admission {
    coming: Mutex<HashMap<DevBoxId, Coming>>,
}

#[derive(Debug, Default)]
struct Coming {
    /// How many count on the box.
    attempts: usize,
    /// What its network is to be, which the engine may not have yet.
    subnet: Option<Ipv4Net>,
}

/// Takes a box off the list when its attempt ends: by then it runs, or it takes nothing.
#[derive(Debug)]
pub(super) struct Place<'a> {
    admission: &'a Admission,
    id: DevBoxId,
}

impl Admission {
    pub(super) fn admit(&self, id: &DevBoxId, subnet: Option<Ipv4Net>) -> Place<'_> {
        let mut coming = self.coming();
        let one = coming.entry(id.clone()).or_default();
        one.attempts += 1;
        one.subnet = one.subnet.or(subnet);
        drop(coming);
        Place { admission: self, id: id.clone() }
    }

    /// The subnets that are kept for all boxes but `id`. What the engine has must be looked at after this: a network
    /// is in one of the two then.
    pub(super) fn subnets_of_others(&self, id: &DevBoxId) -> Vec<Ipv4Net> {
        self.coming().iter().filter(|(other, _)| *other != id).filter_map(|(_, one)| one.subnet).collect()
    }

    /// What all boxes but `id` take: those that there are and those on their way. Spare ones take nothing: whoever
    /// gets one is counted then.
    pub(super) fn others(&self, id: &DevBoxId, boxes: &[Resident], config: &Config) -> Others {
        let coming: HashSet<DevBoxId> = self.coming().keys().cloned().collect();
        let running = boxes.iter().filter(|resident| resident.running).map(|resident| &resident.id);
        let counts = |other: &&DevBoxId| *other != id && !other.is_spare();
        let taking: HashSet<&DevBoxId> = running.chain(&coming).filter(counts).collect();
        let there: HashSet<&DevBoxId> =
            boxes.iter().map(|resident| &resident.id).chain(&coming).filter(counts).collect();
        Others {
            promised: taking.into_iter().map(|other| config.settings(other).limits.memory.as_u64()).sum(),
            hers: there.into_iter().filter(|other| other.owner == id.owner).count(),
        }
    }

    fn coming(&self) -> MutexGuard<'_, HashMap<DevBoxId, Coming>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut coming = self.admission.coming();
        if let Some(one) = coming.get_mut(&self.id) {
            one.attempts -= 1;
            if one.attempts == 0 {
                coming.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytesize::GIB;

    use super::*;
    use crate::testing::{self, id};

    #[test]
    fn what_others_take_counts_once() {
        let (admission, config) = (Admission::default(), testing::config());
        let resident = |of: &str, running| Resident { id: id(of), has_container: true, running };
        let boxes = [resident("alice", true), resident("alice+web", false), resident("bob", true)];
        let others = |of: &str| {
            let Others { promised, hers } = admission.others(&id(of), &boxes, &config);
            (promised / GIB, hers)
        };
        assert_eq!((others("alice"), others("alice+db"), others("carol")), ((4, 1), (8, 2), (8, 0)));
        let places = [
            admission.admit(&id("alice+web"), None),
            admission.admit(&id("bob"), None),
            admission.admit(&id("alice+db"), None),
        ];
        assert_eq!((others("alice"), others("alice+db"), others("carol")), ((12, 2), (12, 2), (16, 0)));
        drop(places);
        assert_eq!(others("carol"), (8, 0));
    }

    #[test]
    fn a_subnet_is_kept_from_others_while_an_attempt_counts_on_the_box() {
        let (admission, subnet) = (Admission::default(), "10.201.0.16/28".parse().unwrap());
        let (first, second) =
            (admission.admit(&id("alice"), Some(subnet)), admission.admit(&id("alice"), None));
        let _bob = admission.admit(&id("bob"), None);
        drop(first);
        assert_eq!(admission.subnets_of_others(&id("bob")), [subnet]);
        assert_eq!(admission.subnets_of_others(&id("alice")), []);
        drop(second);
        assert_eq!(admission.subnets_of_others(&id("bob")), []);
    }
}
