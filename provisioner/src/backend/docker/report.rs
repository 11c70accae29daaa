//! What a doctor wants to know of the engine, beyond what boxes are made from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bollard::models::{self, SystemInfo, SystemInfoCgroupVersionEnum};
use boxgate_config::InstanceName;
use ipnet::Ipv4Net;

use super::{Docker, found, read};
use crate::backend::Error;
use crate::objects;

/// The engine and what of it bears on boxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineReport {
    pub version: String,
    /// Names of the runtimes that it knows, with the program of each where it says so.
    pub runtimes: BTreeMap<String, Option<PathBuf>>,
    pub root_dir: PathBuf,
    pub storage_driver: String,
    pub cgroup: Cgroup,
    pub live_restore: bool,
    pub rootless: bool,
    /// Which limits of a container the kernel cannot enforce.
    pub unlimited: Vec<&'static str>,
    /// Of the host.
    pub memory_bytes: u64,
    pub image: Option<ImageReport>,
    pub networks: Vec<NetworkReport>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroup {
    V1,
    V2,
    Unknown,
}

/// The image that new boxes are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReport {
    /// RFC 3339.
    pub created: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkReport {
    pub name: String,
    /// Whether it is this installation's.
    pub ours: bool,
    pub subnets: Vec<Ipv4Net>,
}

impl Docker {
    /// Asks for all of it.
    ///
    /// # Errors
    /// What the engine said, or that it did not answer.
    pub async fn report(&self, image: &str, instance: &InstanceName) -> Result<EngineReport, Error> {
        let connection = &self.connection;
        let (info, image, networks) =
            tokio::try_join!(
                connection.call("info", self.ask, |docker| async move { docker.info().await }),
                connection.call("inspect image", self.ask, |docker| async move {
                    found(docker.inspect_image(image).await)
                }),
                connection.call("list networks", self.ask, |docker| async move {
                    docker.list_networks(None).await
                }),
            )?;
        let networks = networks.into_iter().map(|network| summed_up(network, instance)).collect();
        Ok(report(info, image.map(|image| ImageReport { created: image.created }), networks))
    }
}

fn report(info: SystemInfo, image: Option<ImageReport>, networks: Vec<NetworkReport>) -> EngineReport {
    let options = info.security_options.unwrap_or_default();
    let limits = [
        ("memory", info.memory_limit),
        ("CPU", info.cpu_cfs_quota),
        ("process", info.pids_limit),
        ("swap", info.swap_limit),
    ];
    EngineReport {
        version: info.server_version.unwrap_or_default(),
        runtimes: info.runtimes.unwrap_or_default().into_iter().map(runtime).collect(),
        root_dir: info.docker_root_dir.unwrap_or_default().into(),
        storage_driver: info.driver.unwrap_or_default(),
        cgroup: match info.cgroup_version {
            Some(SystemInfoCgroupVersionEnum::_1) => Cgroup::V1,
            Some(SystemInfoCgroupVersionEnum::_2) => Cgroup::V2,
            _ => Cgroup::Unknown,
        },
        live_restore: info.live_restore_enabled.unwrap_or_default(),
        rootless: options.iter().any(|option| option == "name=rootless"),
        unlimited: limits
            .into_iter()
            .filter(|(_, limit)| *limit == Some(false))
            .map(|(name, _)| name)
            .collect(),
        memory_bytes: info.mem_total.and_then(|bytes| bytes.try_into().ok()).unwrap_or_default(),
        image,
        networks,
    }
}

fn runtime((name, runtime): (String, models::Runtime)) -> (String, Option<PathBuf>) {
    (name, runtime.path.filter(|path| !path.is_empty()).map(PathBuf::from))
}

fn summed_up(network: models::Network, instance: &InstanceName) -> NetworkReport {
    let subnets = read::subnets(&network);
    let labels = network.labels.unwrap_or_default();
    NetworkReport {
        name: network.name.unwrap_or_default(),
        ours: labels.get(objects::INSTANCE).map(String::as_str) == Some(instance.as_str()),
        subnets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_of_its_kind() {
        let json = r#"{"ServerVersion": "29.1.0", "DockerRootDir": "/var/lib/docker", "Driver": "overlay2",
            "CgroupVersion": "2", "LiveRestoreEnabled": true, "MemTotal": 1024,
            "MemoryLimit": true, "SwapLimit": false, "SecurityOptions": ["name=seccomp,profile=default"],
            "Runtimes": {"runc": {"path": "runc"}, "sysbox-runc": {"path": "/usr/bin/sysbox-runc"}}}"#;
        let report = report(serde_json::from_str(json).unwrap(), None, Vec::new());
        assert_eq!((report.cgroup, report.live_restore, report.rootless), (Cgroup::V2, true, false));
        assert_eq!(report.unlimited, ["swap"]);
        assert_eq!(report.runtimes["sysbox-runc"], Some("/usr/bin/sysbox-runc".into()));
    }

    #[test]
    fn whose_a_network_is() {
        let instance = InstanceName::parse("boxgate").unwrap();
        let json = r#"{"Name": "boxgate.alice", "Labels": {"io.boxgate.instance": "boxgate"},
            "IPAM": {"Config": [{"Subnet": "10.201.0.0/28"}, {"Subnet": "fd00::/64"}]}}"#;
        let network = summed_up(serde_json::from_str(json).unwrap(), &instance);
        assert_eq!((network.ours, network.subnets), (true, vec!["10.201.0.0/28".parse().unwrap()]));
        let other = InstanceName::parse("other").unwrap();
        assert!(!summed_up(serde_json::from_str(json).unwrap(), &other).ours);
    }
}
