//! What Docker is asked to create for a blueprint. Pure.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Ipam, IpamConfig, Mount, MountType, MountVolumeOptions, NetworkCreateRequest, RestartPolicy,
    RestartPolicyNameEnum, VolumeCreateRequest,
};
use boxgate_config::{DevBoxId, Runtime};
use ipnet::Ipv4Net;

use crate::backend::ContainerLimits;
use crate::blueprint::Blueprint;
use crate::network::bridge;
use crate::objects::{CLAIMS, RESTORING};

/// What systemd takes as "power off".
const STOP_SIGNAL: &str = "SIGRTMIN+3";
/// Under runc this makes the mounts that Sysbox makes by itself, then becomes systemd.
const INIT_RUNC: &str = "/usr/lib/boxgate/init-runc";
/// A box's console is a few hundred lines per boot; what it writes beyond this is dropped, oldest first.
const LOG_SIZE: &str = "10m";
const LOG_FILES: &str = "3";

pub(super) fn network(devbox: &Blueprint, subnet: Ipv4Net) -> NetworkCreateRequest {
    let range = IpamConfig { subnet: Some(subnet.to_string()), ..IpamConfig::default() };
    // The firewall's rules know a box by this name.
    let bridge = bridge::name(&devbox.instance, subnet);
    NetworkCreateRequest {
        name: devbox.names.network.clone(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam { config: Some(vec![range]), ..Ipam::default() }),
        enable_ipv6: Some(false),
        options: Some(strings([("com.docker.network.bridge.name", bridge.as_str())])),
        labels: Some(devbox.labels.clone()),
        ..NetworkCreateRequest::default()
    }
}

/// With a limit of its size only where `limited`: an engine whose storage has no project quotas refuses it.
pub(super) fn volume(devbox: &Blueprint, name: &str, limited: bool) -> VolumeCreateRequest {
    let size = devbox.limits.disk.filter(|_| limited).map(|disk| disk.as_u64().to_string());
    VolumeCreateRequest {
        name: Some(name.to_owned()),
        labels: Some(devbox.labels.clone()),
        driver_opts: size.map(|size| strings([("size", size.as_str())])),
        ..VolumeCreateRequest::default()
    }
}

/// The empty volume that says which spare the box lives in.
pub(super) fn claim(devbox: &Blueprint, spare: &DevBoxId) -> VolumeCreateRequest {
    let mut labels = devbox.labels.clone();
    labels.insert(CLAIMS.to_owned(), spare.to_string());
    VolumeCreateRequest {
        name: Some(devbox.names.claim.clone()),
        labels: Some(labels),
        ..VolumeCreateRequest::default()
    }
}

/// The empty volume that says that the box is being restored.
pub(super) fn restoring(devbox: &Blueprint) -> VolumeCreateRequest {
    let mut labels = devbox.labels.clone();
    labels.insert(RESTORING.to_owned(), devbox.id.to_string());
    VolumeCreateRequest {
        name: Some(devbox.names.restoring.clone()),
        labels: Some(labels),
        ..VolumeCreateRequest::default()
    }
}

/// The limits that a container at rest gets anew.
pub(super) fn limits(devbox: &Blueprint) -> ContainerUpdateBody {
    let ContainerLimits { nano_cpus, memory, pids } = devbox.limits.into();
    ContainerUpdateBody {
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(nano_cpus),
        pids_limit: Some(pids),
        ..ContainerUpdateBody::default()
    }
}

pub(super) fn container(devbox: &Blueprint, drop_sys_resource: bool) -> ContainerCreateBody {
    let isolated = ContainerCreateBody {
        hostname: Some(devbox.hostname.clone()),
        image: Some(devbox.image.clone()),
        labels: Some(devbox.labels.clone()),
        env: Some(vec!["container=docker".to_owned()]),
        stop_signal: Some(STOP_SIGNAL.to_owned()),
        // systemd writes what happens at boot to the console, if there is one: that is what the log has to
        // say about a box that failed to boot.
        tty: Some(true),
        host_config: Some(host_config(devbox)),
        ..ContainerCreateBody::default()
    };
    match devbox.runtime {
        Runtime::Sysbox => isolated,
        Runtime::Runc { .. } => without_isolation(isolated, drop_sys_resource),
    }
}

fn host_config(devbox: &Blueprint) -> HostConfig {
    let ContainerLimits { nano_cpus, memory, pids } = devbox.limits.into();
    HostConfig {
        runtime: Some(devbox.runtime.docker_name().to_owned()),
        network_mode: Some(devbox.names.network.clone()),
        mounts: Some(mounts(devbox)),
        memory: Some(memory),
        // Both together: the same number leaves no swap.
        memory_swap: Some(memory),
        nano_cpus: Some(nano_cpus),
        pids_limit: Some(pids),
        // A box that was up when the host went down wakes on its next login, like any other.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(strings([("max-size", LOG_SIZE), ("max-file", LOG_FILES)])),
        }),
        ..HostConfig::default()
    }
}

fn mounts(devbox: &Blueprint) -> Vec<Mount> {
    let volume = |name: &str, target: &str| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.to_owned()),
        target: Some(target.to_owned()),
        // Docker makes a volume that vanished meanwhile: then let it be ours.
        volume_options: Some(MountVolumeOptions {
            labels: Some(devbox.labels.clone()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    };
    let files = Mount {
        typ: Some(MountType::BIND),
        source: Some(devbox.files.to_string_lossy().into_owned()),
        target: Some("/etc/boxgate".to_owned()),
        read_only: Some(true),
        ..Mount::default()
    };
    vec![volume(&devbox.names.home, "/home"), volume(&devbox.names.docker, "/var/lib/docker"), files]
}

/// A plain container that can be a machine: it boots systemd and runs containers of its own, at the price of
/// being root on the host.
fn without_isolation(body: ContainerCreateBody, drop_sys_resource: bool) -> ContainerCreateBody {
    let list = |items: &[&str]| Some(items.iter().map(|item| (*item).to_owned()).collect());
    let host_config = HostConfig {
        cap_add: list(&["ALL"]),
        cap_drop: if drop_sys_resource { list(&["SYS_RESOURCE"]) } else { None },
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        security_opt: list(&["seccomp=unconfined", "apparmor=unconfined"]),
        device_cgroup_rules: list(&["a *:* rwm"]),
        sysctls: Some(strings([("net.ipv4.ip_forward", "1")])),
        ..body.host_config.unwrap_or_default()
    };
    ContainerCreateBody { entrypoint: list(&[INIT_RUNC]), host_config: Some(host_config), ..body }
}

fn strings<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

#[cfg(test)]
mod tests {
    use boxgate_config::DevBoxId;

    use super::*;
    use crate::testing;

    fn blueprint(runtime: Runtime) -> Blueprint {
        let mut config = testing::config();
        config.devbox.runtime = runtime;
        config.devbox.settings.limits.cpus = 1.5;
        config.devbox.settings.limits.disk = Some(bytesize::ByteSize::gib(50));
        Blueprint::new(&config, DevBoxId::parse("alice+web").unwrap())
    }

    #[test]
    fn an_isolated_box_gets_no_privilege() {
        let body = container(&blueprint(Runtime::Sysbox), true);
        let host = body.host_config.unwrap();
        assert_eq!(host.runtime.as_deref(), Some("sysbox-runc"));
        assert_eq!((body.entrypoint, host.cap_add, host.security_opt), (None, None, None));
        assert_eq!((host.privileged, host.device_cgroup_rules), (None, None));
    }

    #[test]
    fn a_trial_box_gets_what_systemd_and_docker_need() {
        let runc = Runtime::Runc { boxes_are_root_on_this_host: true };
        let dropped = |drop| container(&blueprint(runc), drop).host_config.unwrap().cap_drop;
        assert_eq!(dropped(false), None);
        assert_eq!(dropped(true), Some(vec!["SYS_RESOURCE".to_owned()]));
        let body = container(&blueprint(runc), true);
        assert_eq!(body.entrypoint, Some(vec!["/usr/lib/boxgate/init-runc".to_owned()]));
        assert_eq!(body.host_config.unwrap().runtime.as_deref(), Some("runc"));
    }

    #[test]
    fn limits_and_labels_are_always_set() {
        for runtime in [Runtime::Sysbox, Runtime::Runc { boxes_are_root_on_this_host: false }] {
            let devbox = blueprint(runtime);
            let body = container(&devbox, false);
            let host = body.host_config.unwrap();
            assert_eq!(host.memory, Some(4 << 30));
            assert_eq!(host.memory_swap, host.memory);
            assert_eq!(host.nano_cpus, Some(1_500_000_000));
            assert_eq!(host.pids_limit, Some(16_384));
            assert!(devbox.owns(&body.labels.unwrap()));
            let labelled = |mount: &Mount| {
                let labels = mount.volume_options.as_ref().and_then(|options| options.labels.as_ref());
                labels.is_some_and(|labels| devbox.owns(labels)) || mount.read_only == Some(true)
            };
            assert!(host.mounts.unwrap().iter().all(labelled));
        }
    }

    #[test]
    fn a_volume_is_limited_where_that_can_be() {
        let devbox = blueprint(Runtime::Sysbox);
        let size = |limited| volume(&devbox, "home", limited).driver_opts.map(|opts| opts["size"].clone());
        assert_eq!((size(true), size(false)), (Some((50_u64 << 30).to_string()), None));
    }

    #[test]
    fn the_firewall_knows_the_bridge() {
        let devbox = blueprint(Runtime::Sysbox);
        let request = network(&devbox, "10.201.0.16/28".parse().unwrap());
        let options = request.options.unwrap();
        assert!(options["com.docker.network.bridge.name"].starts_with(&bridge::prefix(&devbox.instance)));
    }
}
