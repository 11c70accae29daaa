//! Docker's answers → what the provisioner looks at. Pure.

use std::collections::{BTreeMap, HashSet};

use bollard::container::LogOutput;
use bollard::models::{
    self, ContainerInspectResponse, ContainerStateStatusEnum as Status, ContainerSummary,
    ContainerSummaryStateEnum,
};
use boxgate_config::{DevBoxId, InstanceName};
use boxgate_provisioner_api::Usage;
use ipnet::Ipv4Net;

use crate::backend::{Container, ContainerLimits, Image, Network, Resident, State};
use crate::blueprint::Blueprint;
use crate::claims::Claims;
use crate::failure;
use crate::objects::{self, Names};

/// `network` is the name of the box's own.
pub(super) fn container(inspected: ContainerInspectResponse, name: &str, network: &str) -> Container {
    let networks = inspected.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let attached = networks.get(network);
    let address = attached.and_then(|endpoint| endpoint.ip_address.as_ref()?.parse().ok());
    let config = inspected.config.unwrap_or_default();
    let host = inspected.host_config.unwrap_or_default();
    Container {
        name: name.to_owned(),
        id: inspected.id.unwrap_or_default(),
        labels: config.labels.unwrap_or_default(),
        image: config.image.unwrap_or_default(),
        image_id: inspected.image.unwrap_or_default(),
        limits: ContainerLimits {
            nano_cpus: host.nano_cpus.unwrap_or_default(),
            memory: host.memory.unwrap_or_default(),
            pids: host.pids_limit.unwrap_or_default(),
        },
        runtime: host.runtime.unwrap_or_default(),
        state: state(inspected.state.unwrap_or_default(), address),
        network: attached.map(|endpoint| endpoint.network_id.clone().unwrap_or_default()),
    }
}

fn state(state: models::ContainerState, address: Option<std::net::Ipv4Addr>) -> State {
    match state.status {
        Some(Status::CREATED) => State::Created,
        Some(Status::RUNNING) => State::Running { since: state.started_at.unwrap_or_default(), address },
        Some(Status::EXITED) => State::Stopped {
            since: state.finished_at.unwrap_or_default(),
            exit_code: state.exit_code.unwrap_or_default(),
        },
        Some(Status::PAUSED) => State::Paused,
        Some(Status::DEAD) => State::Dead,
        Some(Status::RESTARTING | Status::REMOVING | Status::STOPPING | Status::EMPTY) | None => {
            State::Changing
        }
    }
}

/// The networks of this name. An engine may hold several: they come in the same order every time, those with other
/// labels than `labels` first, so that whoever takes the first one sees that the name is taken.
pub(super) fn networks(networks: Vec<models::Network>, name: &str, labels: &objects::Labels) -> Vec<Network> {
    let named = networks.into_iter().filter(|network| network.name.as_deref() == Some(name));
    let read = |network: models::Network| {
        Some(Network { id: network.id?, labels: network.labels.unwrap_or_default() })
    };
    let mut found: Vec<_> = named.filter_map(read).collect();
    found.sort_by_key(|network| {
        (network.labels.get(objects::DEVBOX) == labels.get(objects::DEVBOX), network.id.clone())
    });
    found
}

/// The IPv4 ranges of a network.
pub(super) fn subnets(network: &models::Network) -> Vec<Ipv4Net> {
    let ranges = network.ipam.as_ref().and_then(|ipam| ipam.config.as_deref()).unwrap_or_default();
    ranges.iter().filter_map(|range| range.subnet.as_ref()?.parse().ok()).collect()
}

/// Whether the container of the spare that the box lives in has the spare's name still.
pub(super) fn is_unadopted(containers: &[ContainerSummary], devbox: &Blueprint) -> bool {
    devbox.spare.as_ref().is_some_and(|spare| {
        let former = Names::of(&devbox.instance, spare).container;
        containers.iter().any(|container| name(container).as_deref() == Some(former.as_str()))
    })
}

/// Which boxes live in spare ones.
pub(super) fn claims(volumes: &[models::Volume], instance: &InstanceName) -> Claims {
    Claims::among(volumes.iter().map(|volume| (volume.name.as_str(), &volume.labels)), instance)
}

/// The boxes that listed containers and volumes are of.
pub(super) fn residents(
    containers: Vec<ContainerSummary>,
    volumes: &[models::Volume],
    instance: &InstanceName,
) -> Vec<Resident> {
    let claims = claims(volumes, instance);
    let mut boxes: BTreeMap<DevBoxId, (bool, bool)> = BTreeMap::new();
    for volume in volumes {
        if let Some(id) = claims.devbox_of(&volume.labels, instance)
            && volume.name == claims.names(instance, &id).home
        {
            boxes.entry(id).or_default();
        }
    }
    for container in containers {
        if let Some(id) = container.labels.as_ref().and_then(|labels| claims.devbox_of(labels, instance)) {
            boxes.insert(id, (true, container.state == Some(ContainerSummaryStateEnum::RUNNING)));
        }
    }
    let resident = |(id, (has_container, running))| Resident { id, has_container, running };
    boxes.into_iter().map(resident).collect()
}

/// The box images among `images` that nobody can have in mind: neither a name nor a registry's digest leads to them, and
/// no container was made from them.
pub(super) fn nameless(images: Vec<models::ImageSummary>, containers: &[ContainerSummary]) -> Vec<Image> {
    let used: HashSet<_> = containers.iter().filter_map(|container| container.image_id.as_deref()).collect();
    // Engines write `<none>:<none>` and `<none>@<none>` for no name, or nothing.
    let named = |names: &[String]| names.iter().any(|name| !name.starts_with("<none>"));
    let unneeded = |image: &models::ImageSummary| {
        image.labels.contains_key(objects::RECIPE)
            && !named(&image.repo_tags)
            && !named(&image.repo_digests)
            && !used.contains(image.id.as_str())
    };
    let read = |image: models::ImageSummary| Image {
        id: image.id,
        bytes: u64::try_from(image.size).unwrap_or_default(),
    };
    images.into_iter().filter(unneeded).map(read).collect()
}

/// The name of a listed container, which Docker writes with a slash in front.
pub(super) fn name(container: &ContainerSummary) -> Option<String> {
    Some(container.names.as_ref()?.first()?.trim_start_matches('/').to_owned())
}

/// What a container used between the two samples that one answer holds, as `docker stats` works it out.
pub(super) fn usage(stats: models::ContainerStatsResponse) -> Usage {
    let times = |cpu: Option<models::ContainerCpuStats>| {
        let cpu = cpu.unwrap_or_default();
        let used = cpu.cpu_usage.and_then(|usage| usage.total_usage).unwrap_or_default();
        (used, cpu.system_cpu_usage.unwrap_or_default(), cpu.online_cpus.unwrap_or(1))
    };
    let (used, all, cores) = times(stats.cpu_stats);
    let (used_before, all_before, _) = times(stats.precpu_stats);
    #[expect(clippy::cast_precision_loss, reason = "a ratio of nanoseconds that a person reads")]
    let share = used.saturating_sub(used_before) as f64 / all.saturating_sub(all_before).max(1) as f64;
    let memory = stats.memory_stats.unwrap_or_default();
    // The kernel gives cold page cache back: cgroup v1 and v2 name it differently.
    let details = memory.stats.unwrap_or_default();
    let cold = ["total_inactive_file", "inactive_file"].iter().find_map(|name| details.get(*name));
    Usage {
        cpus: share * f64::from(cores),
        memory_bytes: memory.usage.unwrap_or_default().saturating_sub(cold.copied().unwrap_or_default()),
        pids: stats.pids_stats.and_then(|pids| pids.current).unwrap_or_default(),
    }
}

/// Longest piece of a console that is one line, whatever it holds.
const LINE_MAX: usize = 4096;

/// A container's output in chunks → lines that are safe to print; a console is full of colours.
#[derive(Default)]
pub(super) struct Console {
    pending: Vec<u8>,
}

impl Console {
    /// The lines that `chunk` completes.
    pub(super) fn push(&mut self, chunk: LogOutput) -> Vec<String> {
        self.pending.extend_from_slice(&chunk.into_bytes());
        let whole = match self.pending.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if self.pending.len() > LINE_MAX => self.pending.len(),
            None => 0,
        };
        let rest = self.pending.split_off(whole);
        plain(&std::mem::replace(&mut self.pending, rest))
    }

    /// What is left at the end of the output.
    pub(super) fn finish(self) -> Vec<String> {
        plain(&self.pending)
    }
}

fn plain(bytes: &[u8]) -> Vec<String> {
    let text = without_escapes(&String::from_utf8_lossy(bytes));
    text.lines().map(failure::one_line).filter(|line| !line.is_empty()).collect()
}

/// Leaves out control sequences (ECMA-48 §5.4): from ESC `[` to the first byte from `@` to `~`.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, sequence)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = sequence.find(|c| matches!(c, '@'..='~')).map_or(sequence.len(), |end| end + 1);
        rest = &sequence[end..];
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(json: &str) -> Container {
        container(serde_json::from_str(json).unwrap(), "boxgate.alice", "boxgate.alice")
    }

    #[test]
    fn a_running_container() {
        let json = r#"{"Id": "c1", "Config": {"Image": "boxgate/box:latest", "Labels": {"a": "b"}},
            "HostConfig": {"Runtime": "runc"},
            "State": {"Status": "running", "StartedAt": "2026-01-01T00:00:00.5Z"},
            "NetworkSettings":
                {"Networks": {"boxgate.alice": {"NetworkID": "n1", "IPAddress": "10.201.0.2"}}}}"#;
        let container = inspected(json);
        assert_eq!(
            container.state,
            State::Running {
                since: "2026-01-01T00:00:00.5Z".to_owned(),
                address: Some([10, 201, 0, 2].into())
            }
        );
        assert_eq!((container.network.as_deref(), container.runtime.as_str()), (Some("n1"), "runc"));
        assert!(!container.isolates());
    }

    #[test]
    fn a_container_on_somebody_elses_network_has_no_address() {
        let json = r#"{"Id": "c1", "State": {"Status": "running", "StartedAt": "t"},
            "NetworkSettings": {"Networks": {"bridge": {"NetworkID": "n1", "IPAddress": "172.17.0.2"}}}}"#;
        let container = inspected(json);
        assert_eq!(container.state, State::Running { since: "t".to_owned(), address: None });
        assert_eq!(container.network, None);
    }

    #[test]
    fn a_stopped_container_has_no_address_either() {
        let json = r#"{"Id": "c1", "State": {"Status": "exited", "ExitCode": 137, "FinishedAt": "t"},
            "NetworkSettings": {"Networks": {"boxgate.alice": {"NetworkID": "n1", "IPAddress": ""}}}}"#;
        assert_eq!(inspected(json).state, State::Stopped { since: "t".to_owned(), exit_code: 137 });
    }

    #[test]
    fn a_console_as_plain_lines() {
        let chunk = |text: &'static str| LogOutput::Console { message: text.into() };
        let mut console = Console::default();
        assert!(console.push(chunk("[\u{1b}[0;32m  OK  \u{1b}[0m] Started \u{1b}[0;1;39mssh")).is_empty());
        assert_eq!(console.push(chunk(".service\r\n\r\n")), ["[ OK ] Started ssh.service"]);
        assert!(console.push(chunk("half\u{1b}[")).is_empty());
        assert_eq!(console.finish(), ["half"]);
    }

    #[test]
    fn a_line_that_never_ends_is_cut() {
        let mut console = Console::default();
        for _ in 0..100 {
            console.push(LogOutput::Console { message: vec![b'x'; 1000].into() });
            assert!(console.pending.len() <= LINE_MAX);
        }
    }

    #[test]
    fn what_a_container_uses() {
        let json = r#"{"cpu_stats": {"cpu_usage": {"total_usage": 1500}, "system_cpu_usage": 9000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 500}, "system_cpu_usage": 5000},
            "memory_stats": {"usage": 1000, "stats": {"inactive_file": 300}}, "pids_stats": {"current": 7}}"#;
        let usage = usage(serde_json::from_str(json).unwrap());
        assert_eq!(usage, Usage { cpus: 0.5, memory_bytes: 700, pids: 7 });
    }

    #[test]
    fn an_image_that_somebody_may_need_is_not_nameless() {
        let json = r#"[{"Id": "old", "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]},
            {"Id": "also old", "RepoTags": null, "RepoDigests": []},
            {"Id": "named", "RepoTags": ["boxgate/box:1"], "RepoDigests": []},
            {"Id": "pulled", "RepoTags": [], "RepoDigests": ["boxgate/box@sha256:1"]},
            {"Id": "used", "RepoTags": [], "RepoDigests": []},
            {"Id": "others", "RepoTags": [], "RepoDigests": [], "Labels": {"a": "b"}}]"#;
        let mut images: Vec<serde_json::Value> = serde_json::from_str(json).unwrap();
        for image in &mut images {
            let image = image.as_object_mut().unwrap();
            for number in ["Created", "Size", "SharedSize", "Containers"] {
                image.insert(number.to_owned(), 7.into());
            }
            image.insert("ParentId".to_owned(), "".into());
            image.entry("Labels").or_insert_with(|| serde_json::json!({"io.boxgate.recipe": "1"}));
        }
        let images = serde_json::from_value(images.into()).unwrap();
        let container = ContainerSummary { image_id: Some("used".to_owned()), ..ContainerSummary::default() };
        let found: Vec<_> = nameless(images, &[container]).into_iter().map(|image| image.id).collect();
        assert_eq!(found, ["old", "also old"]);
    }

    #[test]
    fn two_networks_of_one_name() {
        let network = |id: &str, of: &str| models::Network {
            id: Some(id.to_owned()),
            name: Some("boxgate.alice".to_owned()),
            labels: Some([(objects::DEVBOX.to_owned(), of.to_owned())].into()),
            ..models::Network::default()
        };
        let labels = [(objects::DEVBOX.to_owned(), "alice".to_owned())].into();
        let ids = |all: Vec<models::Network>| -> Vec<String> {
            networks(all, "boxgate.alice", &labels).into_iter().map(|network| network.id).collect()
        };
        assert_eq!(ids(vec![network("2", "alice"), network("1", "alice")]), ["1", "2"]);
        assert_eq!(ids(vec![network("1", "alice"), network("2", "bob")]), ["2", "1"]);
    }

    #[test]
    fn a_box_is_a_container_or_a_home() {
        let instance = InstanceName::parse("boxgate").unwrap();
        let id = |id: &str| DevBoxId::parse(id).unwrap();
        let volume = |name: &str, of: &str| models::Volume {
            name: name.to_owned(),
            labels: objects::labels(&instance, &id(of)),
            ..models::Volume::default()
        };
        let container = ContainerSummary {
            labels: Some(objects::labels(&instance, &id("bob"))),
            state: Some(ContainerSummaryStateEnum::RUNNING),
            ..ContainerSummary::default()
        };
        let volumes = vec![
            volume("boxgate.alice.home", "alice"),
            volume("boxgate.bob.home", "bob"),
            volume("boxgate.carol.docker", "carol"),
        ];
        let found = residents(vec![container], &volumes, &instance);
        let resident =
            |of: &str, has_container| Resident { id: id(of), has_container, running: has_container };
        assert_eq!(found, [resident("alice", false), resident("bob", true)]);
    }
}
