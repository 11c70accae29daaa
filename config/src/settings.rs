//! What one box may have: the settings of `[box]`, changed by its owner's group, by her, and by the box itself.
//!
//! ```text
//! [box]  ◄──  [groups.NAME.box]  ◄──  [users.alice.box]  ◄──  [users.alice.boxes.web]      the last one that says it
//! ```

use std::time::Duration;

use bytesize::ByteSize;

use crate::{Comfort, Config, DevBoxId, LoginName};

/// What a box is made from, what it may use and how long it may idle.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxSettings {
    /// Name of a local Docker image.
    pub image: String,
    pub limits: BoxLimits,
    /// A box in which nobody did anything for so long is stopped.
    pub idle_stop: IdleStop,
    /// Boxes that its owner may have, her default one among them.
    pub max_boxes: usize,
    pub cluster: Cluster,
    pub comfort: Comfort,
}

/// Limits of one box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxLimits {
    /// Cores' worth of processor time, for example 1.5.
    pub cpus: f64,
    /// Memory and swap together. Always set: a box that uses it up dies alone.
    pub memory: ByteSize,
    /// Processes and threads; at least 4096, since systemd, Docker and an IDE need them.
    pub pids: i64,
    /// Of each of its volumes, where Docker's storage has project quotas.
    pub disk: Option<ByteSize>,
}

/// Settings that are other than those they override; what is none stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    pub image: Option<String>,
    pub cpus: Option<f64>,
    pub memory: Option<ByteSize>,
    pub pids: Option<i64>,
    pub disk: Option<ByteSize>,
    pub idle_stop: Option<IdleStop>,
    pub max_boxes: Option<usize>,
    pub cluster: Option<Cluster>,
    pub comfort: Comfort,
}

/// When a box that idles is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleStop {
    Never,
    After(Duration),
}

/// When a box gets a Kubernetes cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cluster {
    /// The box makes one by itself, in the background, when it is new.
    OnFirstLogin,
    /// When its owner says `kind create cluster`.
    OnDemand,
    /// Its `kind` makes none.
    Never,
}

impl Cluster {
    /// As it is written, here and in the box's `box.json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OnFirstLogin => "on-first-login",
            Self::OnDemand => "on-demand",
            Self::Never => "never",
        }
    }
}

impl IdleStop {
    /// The time, if there is one.
    #[must_use]
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::After(limit) => Some(limit),
        }
    }
}

impl BoxSettings {
    pub(crate) fn overridden(self, by: &Overrides) -> Self {
        let limits = BoxLimits {
            cpus: by.cpus.unwrap_or(self.limits.cpus),
            memory: by.memory.unwrap_or(self.limits.memory),
            pids: by.pids.unwrap_or(self.limits.pids),
            disk: by.disk.or(self.limits.disk),
        };
        Self {
            image: by.image.clone().unwrap_or(self.image),
            limits,
            idle_stop: by.idle_stop.unwrap_or(self.idle_stop),
            max_boxes: by.max_boxes.unwrap_or(self.max_boxes),
            cluster: by.cluster.unwrap_or(self.cluster),
            comfort: self.comfort.overridden(&by.comfort),
        }
    }
}

impl Config {
    /// What this box may have.
    #[must_use]
    pub fn settings(&self, id: &DevBoxId) -> BoxSettings {
        let hers = self.settings_of(&id.owner);
        let user = self.users.get(&id.owner);
        let of_this_box = id.name.as_ref().and_then(|name| user?.boxes.get(name));
        of_this_box.map_or(hers.clone(), |overrides| hers.overridden(overrides))
    }

    /// What her boxes may have, unless a single one of them has it otherwise.
    #[must_use]
    pub fn settings_of(&self, owner: &LoginName) -> BoxSettings {
        let group = self.groups.values().find(|group| group.members.contains(owner));
        let user = self.users.get(owner);
        let overrides = [group.map(|group| &group.devbox), user.map(|user| &user.devbox)];
        overrides.into_iter().flatten().fold(self.devbox.settings.clone(), BoxSettings::overridden)
    }

    /// The shortest time that any box may idle; none when no box is ever stopped for it.
    #[must_use]
    pub fn shortest_idle_stop(&self) -> Option<Duration> {
        let overrides = self.overrides().filter_map(|overrides| overrides.idle_stop);
        overrides.chain([self.devbox.settings.idle_stop]).filter_map(IdleStop::limit).min()
    }

    /// Every image that a box may be made from.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let others = self.overrides().filter_map(|overrides| overrides.image.as_deref());
        others.chain([self.devbox.settings.image.as_str()])
    }

    fn overrides(&self) -> impl Iterator<Item = &Overrides> {
        let groups = self.groups.values().map(|group| &group.devbox);
        let users =
            self.users.values().flat_map(|user| std::iter::once(&user.devbox).chain(user.boxes.values()));
        groups.chain(users)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;
    use crate::Dotfiles;

    const TEXT: &str = r#"
[box]
memory = "4GiB"
cpus = 2
timezone = "Europe/Berlin"
idle_stop = "8h"

[groups.data]
members = ["alice", "carol"]
[groups.data.box]
memory = "16GiB"
max_boxes = 9
cluster = "on-first-login"
dotfiles = "https://example.org/data.git"

[users.alice.box]
memory = "8GiB"
idle_stop = "never"
[users.alice.boxes.web]
memory = "1GiB"
image = "web:1"
cluster = "never"
timezone = "UTC"
dotfiles = "none"
"#;

    #[rstest]
    #[case::of_all("bob", 4, Some(8), 3, "boxgate/box:latest")]
    #[case::of_a_group("carol", 16, Some(8), 9, "boxgate/box:latest")]
    #[case::of_a_user("alice", 8, None, 9, "boxgate/box:latest")]
    #[case::of_a_further_box("alice+x", 8, None, 9, "boxgate/box:latest")]
    #[case::of_one_box("alice+web", 1, None, 9, "web:1")]
    #[case::of_a_namesake("bob+web", 4, Some(8), 3, "boxgate/box:latest")]
    fn the_last_one_that_says_it(
        #[case] id: &str,
        #[case] gib: u64,
        #[case] idle_hours: Option<u64>,
        #[case] max_boxes: usize,
        #[case] image: &str,
    ) {
        let config = Config::parse(Path::new("test.toml"), TEXT).unwrap();
        let settings = config.settings(&DevBoxId::parse(id).unwrap());
        assert_eq!(settings.limits.memory, ByteSize::gib(gib));
        assert_eq!(settings.idle_stop.limit(), idle_hours.map(|hours| Duration::from_secs(hours * 3600)));
        assert_eq!((settings.max_boxes, settings.image.as_str()), (max_boxes, image));
    }

    #[test]
    fn images_of_all() {
        let config = Config::parse(Path::new("test.toml"), TEXT).unwrap();
        assert_eq!(config.images().collect::<Vec<_>>(), ["web:1", "boxgate/box:latest"]);
    }

    #[rstest]
    #[case("bob", Cluster::OnDemand)]
    #[case("carol", Cluster::OnFirstLogin)]
    #[case("alice+web", Cluster::Never)]
    fn whose_box_gets_a_cluster(#[case] id: &str, #[case] expected: Cluster) {
        let config = Config::parse(Path::new("test.toml"), TEXT).unwrap();
        assert_eq!(config.settings(&DevBoxId::parse(id).unwrap()).cluster, expected);
    }

    #[rstest]
    #[case("bob", "Europe/Berlin", None)]
    #[case("alice", "Europe/Berlin", Some("https://example.org/data.git"))]
    #[case("alice+web", "UTC", None)]
    fn whose_box_has_which_zone_and_dotfiles(
        #[case] id: &str,
        #[case] timezone: &str,
        #[case] dotfiles: Option<&str>,
    ) {
        let config = Config::parse(Path::new("test.toml"), TEXT).unwrap();
        let comfort = config.settings(&DevBoxId::parse(id).unwrap()).comfort;
        assert_eq!(comfort.timezone.unwrap().to_string(), timezone);
        let from = match comfort.dotfiles {
            Some(Dotfiles::From(url)) => Some(url.to_string()),
            Some(Dotfiles::None) | None => None,
        };
        assert_eq!(from.as_deref(), dotfiles);
    }
}
