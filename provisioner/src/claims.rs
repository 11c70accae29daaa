//! Which boxes live in what was made as spare ones. Pure.
//!
//! A spare box is a box of nobody's, `box+s7`, kept booted. Whoever has no box yet gets it: a *claim*, an empty
//! volume with her box's labels, says so from the moment it exists. The engine cannot change labels, nor rename
//! volumes and networks, so these stay the spare's; whose they are is what its claim says.

use std::collections::BTreeMap;

use boxgate_config::{DevBoxId, InstanceName};

use crate::objects::{self, CLAIMS, Labels, Names};

/// The spare that each claimed box lives in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    spares: BTreeMap<DevBoxId, DevBoxId>,
}

impl Claims {
    /// Those that are among an installation's volumes, given with names and labels.
    #[must_use]
    pub fn among<'a>(
        volumes: impl IntoIterator<Item = (&'a str, &'a Labels)>,
        instance: &InstanceName,
    ) -> Self {
        let claim = |(name, labels): (&str, &Labels)| {
            let id = objects::devbox_of(labels, instance)?;
            let spare = claimed(labels)?;
            (name == Names::of(instance, &id).claim).then_some((id, spare))
        };
        Self { spares: volumes.into_iter().filter_map(claim).collect() }
    }

    /// The spare that a box lives in.
    #[must_use]
    pub fn spare_of(&self, id: &DevBoxId) -> Option<&DevBoxId> {
        self.spares.get(id)
    }

    /// Whether somebody has this spare.
    #[must_use]
    pub fn has(&self, spare: &DevBoxId) -> bool {
        self.owner_of(spare).is_some()
    }

    pub fn insert(&mut self, id: DevBoxId, spare: DevBoxId) {
        self.spares.insert(id, spare);
    }

    pub fn remove(&mut self, id: &DevBoxId) {
        self.spares.remove(id);
    }

    /// What a box's objects are called.
    #[must_use]
    pub fn names(&self, instance: &InstanceName, id: &DevBoxId) -> Names {
        let names = Names::of(instance, id);
        match self.spare_of(id) {
            Some(spare) => names.living_in(&Names::of(instance, spare)),
            None => names,
        }
    }

    /// The box that an object belongs to, by its labels and by who claimed what they say.
    #[must_use]
    pub fn devbox_of(&self, labels: &Labels, instance: &InstanceName) -> Option<DevBoxId> {
        let id = objects::devbox_of(labels, instance)?;
        Some(self.owner_of(&id).unwrap_or(id))
    }

    /// Who lives in this spare.
    #[must_use]
    pub fn owner_of(&self, spare: &DevBoxId) -> Option<DevBoxId> {
        self.spares.iter().find(|(_, claimed)| *claimed == spare).map(|(id, _)| id.clone())
    }
}

/// The spare that a claim's labels name.
#[must_use]
pub fn claimed(labels: &Labels) -> Option<DevBoxId> {
    DevBoxId::parse(labels.get(CLAIMS)?).ok().filter(DevBoxId::is_spare)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, id};

    fn instance() -> InstanceName {
        testing::config().provisioner.instance
    }

    fn claim(name: &str, of: &str, spare: &str) -> (String, Labels) {
        let mut labels = objects::labels(&instance(), &id(of));
        labels.insert(CLAIMS.to_owned(), spare.to_owned());
        (name.to_owned(), labels)
    }

    fn among(volumes: &[(String, Labels)]) -> Claims {
        Claims::among(volumes.iter().map(|(name, labels)| (name.as_str(), labels)), &instance())
    }

    #[test]
    fn what_a_claimed_box_is_made_of() {
        let claims = among(&[claim("boxgate.alice.claim", "alice", "box+s7")]);
        let names = claims.names(&instance(), &id("alice"));
        assert_eq!(
            (names.container.as_str(), names.claim.as_str()),
            ("boxgate.alice", "boxgate.alice.claim")
        );
        assert_eq!((names.network.as_str(), names.home.as_str()), ("boxgate.box.s7", "boxgate.box.s7.home"));
        assert_eq!(claims.names(&instance(), &id("bob")), Names::of(&instance(), &id("bob")));
    }

    #[test]
    fn an_object_of_a_claimed_spare_is_its_claimants() {
        let claims = among(&[claim("boxgate.alice.claim", "alice", "box+s7")]);
        let of = |spare: &str| claims.devbox_of(&objects::labels(&instance(), &id(spare)), &instance());
        assert_eq!(
            (of("box+s7"), of("box+s8"), of("alice")),
            (Some(id("alice")), Some(id("box+s8")), Some(id("alice")))
        );
    }

    #[test]
    fn only_a_claim_with_its_own_name_and_a_spare_counts() {
        let volumes = [
            claim("boxgate.alice.home", "alice", "box+s7"),
            claim("boxgate.bob.claim", "bob", "carol"),
            claim("boxgate.carol.claim", "carol", ""),
        ];
        assert_eq!(among(&volumes), Claims::default());
    }
}
