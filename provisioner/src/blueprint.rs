//! What a box should be, whatever it is now: everything that its making needs, worked out once from the
//! configuration. Pure.

use std::path::PathBuf;

use boxgate_config::{BoxLimits, Cluster, Comfort, Config, DevBoxId, InstanceName, RegistryMirror, Runtime};
use ipnet::Ipv4Net;

use crate::objects::{self, Labels, Names};

/// Uid of the box's only person. Images keep their first ordinary user's number free.
const UID: u32 = 1000;

/// A box as it should be.
#[derive(Debug, Clone)]
pub struct Blueprint {
    pub instance: InstanceName,
    pub id: DevBoxId,
    /// The spare box that it lives in, if it does.
    pub spare: Option<DevBoxId>,
    pub names: Names,
    /// On each of the box's objects.
    pub labels: Labels,
    pub image: String,
    pub hostname: String,
    pub runtime: Runtime,
    pub limits: BoxLimits,
    /// How many boxes its owner may have.
    pub max_boxes: usize,
    /// What the running boxes' memory limits may come to, as a share of the host's memory.
    pub memory_share: f64,
    /// Where the box's network is cut from.
    pub pool: Ipv4Net,
    /// The host's directory that is bound read-only to `/etc/boxgate`.
    pub files: PathBuf,
    pub user: BoxUser,
    /// When the box gets a Kubernetes cluster, which it sees to itself.
    pub cluster: Cluster,
    /// What the box's own units see to, as for the cluster.
    pub comfort: Comfort,
    /// Where its Docker asks for Docker Hub's images first.
    pub registry_mirrors: Vec<RegistryMirror>,
}

/// The Unix user of a box, as `box.json` tells it to the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoxUser {
    pub name: String,
    pub uid: u32,
    pub shell: PathBuf,
}

impl Blueprint {
    #[must_use]
    pub fn new(config: &Config, id: DevBoxId) -> Self {
        let provisioner = &config.provisioner;
        let devbox = &config.devbox;
        let settings = config.settings(&id);
        Self {
            names: Names::of(&provisioner.instance, &id),
            labels: objects::labels(&provisioner.instance, &id),
            instance: provisioner.instance.clone(),
            image: settings.image,
            hostname: hostname(&id),
            runtime: devbox.runtime,
            limits: settings.limits,
            max_boxes: if id.is_spare() { usize::MAX } else { settings.max_boxes },
            memory_share: provisioner.memory_share,
            pool: provisioner.network_pool,
            files: files(config, &id),
            user: BoxUser { name: id.owner.to_string(), uid: UID, shell: devbox.shell.clone() },
            spare: None,
            cluster: settings.cluster,
            comfort: settings.comfort,
            registry_mirrors: devbox.registry_mirrors.clone(),
            id,
        }
    }

    /// The same, for a box that lives in what was made as a spare one.
    #[must_use]
    pub fn living_in(self, config: &Config, spare: &DevBoxId) -> Self {
        Self {
            names: self.names.living_in(&Names::of(&self.instance, spare)),
            files: files(config, spare),
            spare: Some(spare.clone()),
            ..self
        }
    }

    /// Whether an object with these labels is this box's.
    #[must_use]
    pub fn owns(&self, labels: &Labels) -> bool {
        let of = objects::devbox_of(labels, &self.instance);
        of.is_some() && (of.as_ref() == Some(&self.id) || of == self.spare)
    }
}

fn files(config: &Config, id: &DevBoxId) -> PathBuf {
    config.provisioner.state_dir.join("boxes").join(objects::path_name(id))
}

/// The prompt of `alice+web` says `web`: whose it is, its user name says already. A host name has no
/// underscore and ends in no hyphen (RFC 1123 §2.1).
fn hostname(id: &DevBoxId) -> String {
    id.short_name().replace('_', "-").trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("alice", "alice")]
    #[case("alice+web", "web")]
    #[case("alice_b", "alice-b")]
    #[case("alice+w_", "w")]
    fn hostnames(#[case] id: &str, #[case] expected: &str) {
        assert_eq!(hostname(&DevBoxId::parse(id).unwrap()), expected);
    }
}
