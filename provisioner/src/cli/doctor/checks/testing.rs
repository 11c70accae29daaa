//! A host with nothing wrong, for tests to spoil.

use std::path::Path;

use boxgate_config::Config;
use boxgate_provisioner_api::{BoxState, Engine, Firewall, GcReport, Health};

use crate::backend::docker::{Cgroup, EngineReport, ImageReport};
use crate::cli::doctor::engine::{DaemonSettings, Sysbox};
use crate::cli::doctor::facts::Facts;
use crate::cli::doctor::finding::{Finding, Status};
use crate::cli::doctor::host::Clock;
use crate::testing::summary;

pub(super) fn statuses(findings: &[Finding]) -> Vec<Status> {
    findings.iter().map(|finding| finding.status).collect()
}

/// Two boxes under Sysbox on a host of 64 GiB.
pub(super) fn facts() -> Facts {
    let sysctls = [
        ("fs.inotify.max_user_instances", 1_048_576),
        ("fs.inotify.max_user_watches", 1_048_576),
        ("kernel.keys.maxkeys", 20_000),
        ("kernel.keys.maxbytes", 2_000_000),
        ("kernel.pid_max", 4_194_304),
        ("net.ipv4.ip_forward", 1),
        ("user.max_user_namespaces", 65_536),
    ];
    let engine = EngineReport {
        version: "29.1.0".to_owned(),
        runtimes: [("sysbox-runc".to_owned(), Some("/usr/bin/sysbox-runc".into()))].into(),
        root_dir: "/var/lib/docker".into(),
        storage_driver: "overlay2".to_owned(),
        cgroup: Cgroup::V2,
        live_restore: true,
        rootless: false,
        unlimited: Vec::new(),
        memory_bytes: 64 << 30,
        image: Some(ImageReport { created: Some("2026-02-20T12:00:00Z".to_owned()) }),
        networks: Vec::new(),
    };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Facts {
        config: Config::parse(Path::new("test.toml"), "").unwrap(),
        now: "2026-03-01T12:00:00Z".parse().unwrap(),
        root: true,
        kernel: Ok("6.8.0-48-generic".to_owned()),
        sysctls: sysctls.into(),
        clock: Clock::Synchronised,
        disks: Vec::new(),
        files: Vec::new(),
        routes: Ok(Vec::new()),
        engine: Ok(engine),
        daemon: DaemonSettings { iptables: true },
        sysbox: Sysbox { version: Some("0.7.1".to_owned()), silent: Vec::new() },
        firewall: Some(Ok(())),
        health: Ok(Health { version, engine: Engine::Ok, firewall: Firewall::Ok, isolated: true }),
        boxes: Ok(vec![summary("alice", BoxState::Ready), summary("alice+web", BoxState::Stopped)]),
        leftovers: Ok(GcReport { orphans: Vec::new() }),
        fix: false,
    }
}
