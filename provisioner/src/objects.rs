//! What the Docker objects of a box are called, and whose an object is. Labels say everything: there is no
//! other record of what exists. An object that has our name and not our labels is never ours.

use std::collections::HashMap;

use boxgate_config::{DevBoxId, InstanceName};

/// Labels of a Docker object.
pub type Labels = HashMap<String, String>;

/// Which installation an object belongs to.
pub const INSTANCE: &str = "io.boxgate.instance";
/// The box that an object is part of: `alice` or `alice+web`.
pub const DEVBOX: &str = "io.boxgate.box";
/// The login name of the box's owner.
pub const OWNER: &str = "io.boxgate.owner";
/// On a claim: the spare box that its box lives in ([`claims`](crate::claims)).
pub const CLAIMS: &str = "io.boxgate.claims";
/// On the empty volume that is there while a box is being restored: as long as it is, the box is none.
pub const RESTORING: &str = "io.boxgate.restoring";
/// On the container that packs or unpacks a box's volumes, in place of [`INSTANCE`], so that nothing takes it for a box's: which
/// installation it is of.
pub const MOVER: &str = "io.boxgate.mover";
/// What a box image was made from: its recipe gives it this label (`ami/box/build.sh`).
pub const RECIPE: &str = "io.boxgate.recipe";
/// The version of Boxgate that made the object.
pub const VERSION: &str = "io.boxgate.version";

/// The names of a box's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub container: String,
    pub network: String,
    /// The volume at `/home`.
    pub home: String,
    /// The volume at `/var/lib/docker`.
    pub docker: String,
    /// The empty volume that says which spare box it was, if it was one.
    pub claim: String,
    /// The empty volume that says that the other two are not whole yet.
    pub restoring: String,
    /// The container that packs or unpacks them.
    pub mover: String,
}

impl Names {
    /// `boxgate.alice` or `boxgate.alice.web`: no name holds a dot itself, so no two boxes share one.
    #[must_use]
    pub fn of(instance: &InstanceName, id: &DevBoxId) -> Self {
        let name = format!("{instance}.{}", path_name(id));
        Self {
            home: format!("{name}.home"),
            docker: format!("{name}.docker"),
            claim: format!("{name}.claim"),
            restoring: format!("{name}.restoring"),
            // No box's container is called so: their names have no capitals.
            mover: format!("{name}.MOVER"),
            network: name.clone(),
            container: name,
        }
    }
}

impl Names {
    /// Those of a box that lives in what was made as a spare one. A container can be renamed, volumes and networks
    /// can not.
    #[must_use]
    pub fn living_in(self, spare: &Names) -> Self {
        Self {
            network: spare.network.clone(),
            home: spare.home.clone(),
            docker: spare.docker.clone(),
            ..self
        }
    }
}

/// The box's id with a dot for the plus, which neither Docker nor every tool takes in a name.
#[must_use]
pub fn path_name(id: &DevBoxId) -> String {
    id.to_string().replace('+', ".")
}

/// The box that [`path_name`] named so.
#[must_use]
pub fn id_of_path_name(name: &str) -> Option<DevBoxId> {
    let id = DevBoxId::parse(&name.replace('.', "+")).ok()?;
    (path_name(&id) == name).then_some(id)
}

/// The labels of each object of a box.
#[must_use]
pub fn labels(instance: &InstanceName, id: &DevBoxId) -> Labels {
    [
        (INSTANCE, instance.to_string()),
        (DEVBOX, id.to_string()),
        (OWNER, id.owner.to_string()),
        (VERSION, env!("CARGO_PKG_VERSION").to_owned()),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .into()
}

/// The box that an object belongs to, if it is of this installation and its labels agree with each other.
#[must_use]
pub fn devbox_of(labels: &Labels, instance: &InstanceName) -> Option<DevBoxId> {
    if labels.get(INSTANCE).map(String::as_str) != Some(instance.as_str()) {
        return None;
    }
    let id = DevBoxId::parse(labels.get(DEVBOX)?).ok()?;
    (labels.get(OWNER).map(String::as_str) == Some(id.owner.as_str())).then_some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn instance() -> InstanceName {
        InstanceName::parse("boxgate").unwrap()
    }

    #[rstest]
    #[case("alice", "boxgate.alice", "boxgate.alice.home")]
    #[case("alice+web", "boxgate.alice.web", "boxgate.alice.web.home")]
    fn names(#[case] id: &str, #[case] container: &str, #[case] home: &str) {
        let names = Names::of(&instance(), &DevBoxId::parse(id).unwrap());
        assert_eq!((names.container.as_str(), names.home.as_str()), (container, home));
    }

    #[rstest]
    #[case::ours(&[], Some("alice+web"))]
    #[case::of_another_installation(&[(INSTANCE, "other")], None)]
    #[case::no_label(&[(INSTANCE, "")], None)]
    #[case::not_an_id(&[(DEVBOX, "../etc")], None)]
    #[case::owners_disagree(&[(OWNER, "bob")], None)]
    fn only_labels_that_agree_make_an_object_ours(
        #[case] changed: &[(&str, &str)],
        #[case] expected: Option<&str>,
    ) {
        let mut labels = labels(&instance(), &DevBoxId::parse("alice+web").unwrap());
        labels.extend(changed.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())));
        let found = devbox_of(&labels, &instance()).map(|id| id.to_string());
        assert_eq!(found.as_deref(), expected);
    }

    proptest! {
        #[test]
        fn no_two_boxes_share_a_name(
            one in "[a-z][a-z0-9_-]{0,3}([+][a-z]{1,3})?",
            two in "[a-z][a-z0-9_-]{0,3}([+][a-z]{1,3})?",
        ) {
            if let (Ok(one), Ok(two)) = (DevBoxId::parse(&one), DevBoxId::parse(&two)) {
                let same = Names::of(&instance(), &one).container == Names::of(&instance(), &two).container;
                prop_assert_eq!(same, one == two);
            }
        }
    }
}
