//! Docker's answers → what the provisioner looks at. Pure.

use bollard::container::LogOutput;
use bollard::models::{self, ContainerInspectResponse, ContainerStateStatusEnum as Status, ContainerSummary};
use boxgate_config::InstanceName;
use ipnet::Ipv4Net;

use crate::backend::{Container, Network, State};
use crate::{failure, objects};

/// `network` is the name of the box's own.
pub(super) fn container(inspected: ContainerInspectResponse, name: &str, network: &str) -> Container {
    let networks = inspected.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let attached = networks.get(network);
    let address = attached.and_then(|endpoint| endpoint.ip_address.as_ref()?.parse().ok());
    let config = inspected.config.unwrap_or_default();
    Container {
        name: name.to_owned(),
        id: inspected.id.unwrap_or_default(),
        labels: config.labels.unwrap_or_default(),
        image: config.image.unwrap_or_default(),
        runtime: inspected.host_config.and_then(|host| host.runtime).unwrap_or_default(),
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

/// The network of this name. Old engines may hold several: the same one is taken every time.
pub(super) fn network(networks: Vec<models::Network>, name: &str) -> Option<Network> {
    let named = networks.into_iter().filter(|network| network.name.as_deref() == Some(name));
    let read = |network: models::Network| {
        Some(Network { id: network.id?, labels: network.labels.unwrap_or_default() })
    };
    named.filter_map(read).min_by(|a, b| a.id.cmp(&b.id))
}

/// The IPv4 ranges of a network.
pub(super) fn subnets(network: &models::Network) -> Vec<Ipv4Net> {
    let ranges = network.ipam.as_ref().and_then(|ipam| ipam.config.as_deref()).unwrap_or_default();
    ranges.iter().filter_map(|range| range.subnet.as_ref()?.parse().ok()).collect()
}

/// Who owns a listed container, if it is a box's.
pub(super) fn owner(container: ContainerSummary, instance: &InstanceName) -> Option<String> {
    objects::devbox_of(&container.labels?, instance).map(|id| id.owner.to_string())
}

/// The name of a listed container, which Docker writes with a slash in front.
pub(super) fn name(container: ContainerSummary) -> Option<String> {
    Some(container.names?.first()?.trim_start_matches('/').to_owned())
}

/// Chunks of a container's output as lines that are safe to print; a console is full of colours.
pub(super) fn lines(output: Vec<LogOutput>) -> Vec<String> {
    let mut bytes = Vec::new();
    for chunk in output {
        bytes.extend_from_slice(&chunk.into_bytes());
    }
    let text = without_escapes(&String::from_utf8_lossy(&bytes));
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
        let output = vec![
            chunk("[\u{1b}[0;32m  OK  \u{1b}[0m] Started \u{1b}[0;1;39mssh"),
            chunk(".service\r\n\r\n"),
            chunk("half\u{1b}["),
        ];
        assert_eq!(lines(output), ["[ OK ] Started ssh.service", "half"]);
    }
}
