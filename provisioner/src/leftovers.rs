//! What of an installation no box needs. Pure.
//!
//! A box is there as long as its container or its home is, or the mark of its restore. What an interrupted making or removal left beside that
//! can go: networks and directories, which hold nothing that anyone made. Volumes are never among what may go: only
//! who names a box removes its data.

use std::collections::BTreeSet;

use boxgate_config::{DevBoxId, InstanceName};
use boxgate_provisioner_api::OrphanKind;

use crate::backend::Inventory;
use crate::objects::{self, Labels};

/// Something that no box needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub kind: OrphanKind,
    pub name: String,
    pub reason: String,
    /// The box that it was of, if it may be removed without asking anyone.
    pub of: Option<DevBoxId>,
}

/// What is left over of `inventory` and of the `directories` of boxes, given the boxes that tasks are at work on.
#[must_use]
pub fn find(
    inventory: &Inventory,
    directories: &[String],
    busy: &BTreeSet<DevBoxId>,
    instance: &InstanceName,
) -> Vec<Leftover> {
    let claims = inventory.claims(instance);
    let of = |labels: &Labels| claims.devbox_of(labels, instance);
    let names_of = |id: &DevBoxId| claims.names(instance, id);
    let mut there = busy.clone();
    let mut found = Vec::new();
    for container in &inventory.containers {
        match of(&container.labels) {
            Some(id) if names_of(&id).container == container.name => drop(there.insert(id)),
            id => found.push(strange(OrphanKind::Container, &container.name, id.as_ref())),
        }
    }
    for (name, labels) in &inventory.volumes {
        let makes_a_box = |id: &DevBoxId| [names_of(id).home, names_of(id).restoring].contains(name);
        if let Some(id) = of(labels).filter(makes_a_box) {
            there.insert(id);
        }
    }
    for (name, labels) in &inventory.volumes {
        match of(labels) {
            Some(id) if [names_of(&id).home, names_of(&id).restoring].contains(name) => {}
            Some(id) if names_of(&id).docker == *name => {
                if !there.contains(&id) {
                    found.push(without_home(name, &id));
                }
            }
            Some(id) if names_of(&id).claim == *name => {
                if !there.contains(&id) {
                    found.push(unneeded(OrphanKind::Claim, name, id));
                }
            }
            id => found.push(strange(OrphanKind::Volume, name, id.as_ref())),
        }
    }
    for (name, labels) in &inventory.networks {
        match of(labels) {
            Some(id) if names_of(&id).network == *name => {
                if !there.contains(&id) {
                    found.push(unneeded(OrphanKind::Network, name, id));
                }
            }
            id => found.push(strange(OrphanKind::Network, name, id.as_ref())),
        }
    }
    for name in directories {
        let id = objects::id_of_path_name(name).map(|id| claims.owner_of(&id).unwrap_or(id));
        if let Some(id) = id.filter(|id| !there.contains(id)) {
            found.push(unneeded(OrphanKind::Directory, name, id));
        }
    }
    found
}

fn unneeded(kind: OrphanKind, name: &str, id: DevBoxId) -> Leftover {
    let reason = format!("there is no box {id}: its making or its removal did not come to its end");
    Leftover { kind, name: name.to_owned(), reason, of: Some(id) }
}

fn without_home(name: &str, id: &DevBoxId) -> Leftover {
    let reason = format!(
        "the home of box {id} is gone: restore it from a backup, or remove the rest with boxgate rm {id}"
    );
    Leftover { kind: OrphanKind::Volume, name: name.to_owned(), reason, of: None }
}

fn strange(kind: OrphanKind, name: &str, id: Option<&DevBoxId>) -> Leftover {
    let reason = match id {
        Some(id) => {
            format!("it has the labels of box {id} and another name: rename it, or remove it by hand")
        }
        None => "its labels name no box: somebody changed them; look at it, and remove it by hand".to_owned(),
    };
    Leftover { kind, name: name.to_owned(), reason, of: None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{self, id};

    fn instance() -> InstanceName {
        testing::config().provisioner.instance
    }

    fn labelled(name: &str, of: &str) -> (String, Labels) {
        (name.to_owned(), objects::labels(&instance(), &id(of)))
    }

    fn names(found: &[Leftover]) -> Vec<(&str, bool)> {
        found.iter().map(|leftover| (leftover.name.as_str(), leftover.of.is_some())).collect()
    }

    fn find_in(inventory: &Inventory, directories: &[&str], busy: &[&str]) -> Vec<Leftover> {
        let directories: Vec<String> = directories.iter().map(|name| (*name).to_owned()).collect();
        let busy = busy.iter().map(|of| id(of)).collect();
        find(inventory, &directories, &busy, &instance())
    }

    #[test]
    fn what_an_interrupted_making_left() {
        let inventory =
            Inventory { networks: vec![labelled("boxgate.alice", "alice")], ..Inventory::default() };
        let found = find_in(&inventory, &["alice"], &[]);
        assert_eq!(names(&found), [("boxgate.alice", true), ("alice", true)]);
        assert!(find_in(&inventory, &["alice"], &["alice"]).is_empty());
    }

    #[test]
    fn a_home_is_a_box() {
        let inventory = Inventory {
            networks: vec![labelled("boxgate.alice", "alice")],
            volumes: vec![labelled("boxgate.alice.home", "alice")],
            ..Inventory::default()
        };
        assert!(find_in(&inventory, &["alice"], &[]).is_empty());
    }

    #[test]
    fn data_without_a_home_is_told_and_kept() {
        let volumes = vec![labelled("boxgate.alice.docker", "alice")];
        let found = find_in(&Inventory { volumes, ..Inventory::default() }, &[], &[]);
        assert_eq!(names(&found), [("boxgate.alice.docker", false)]);
        assert!(found[0].reason.contains("boxgate rm alice"));
    }

    #[test]
    fn labels_and_names_that_were_changed_by_hand() {
        let mut broken = labelled("boxgate.bob", "bob");
        broken.1.insert(objects::OWNER.to_owned(), "carol".to_owned());
        let networks = vec![labelled("renamed", "alice"), broken];
        let found = find_in(&Inventory { networks, ..Inventory::default() }, &["lost+found"], &[]);
        assert_eq!(names(&found), [("renamed", false), ("boxgate.bob", false)]);
    }

    proptest! {
        #[test]
        fn no_volume_and_nothing_of_a_box_that_is_there_may_go(
            homes in proptest::collection::hash_set("[ab]", 0..2),
            others in proptest::collection::hash_set("[ab]", 0..2),
            networks in proptest::collection::hash_set("[abc]", 0..3),
        ) {
            let volume = |kind: &str, of: &String| labelled(&format!("boxgate.{of}.{kind}"), of);
            let homes_of = homes.iter().map(|of| volume("home", of));
            let inventory = Inventory {
                volumes: homes_of.chain(others.iter().map(|of| volume("docker", of))).collect(),
                networks: networks.iter().map(|of| labelled(&format!("boxgate.{of}"), of)).collect(),
                ..Inventory::default()
            };
            for leftover in find_in(&inventory, &["a", "b", "c"], &[]) {
                if let Some(of) = leftover.of {
                    prop_assert!(leftover.kind != OrphanKind::Volume && !homes.contains(of.owner.as_str()));
                }
            }
        }
    }
}
