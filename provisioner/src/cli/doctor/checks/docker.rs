//! Docker: whether it answers, what it can limit, how it was started.

use super::version::version;
use crate::backend::docker::{Cgroup, EngineReport};
use crate::cli::doctor::facts::Facts;
use crate::cli::doctor::finding::Finding;

/// The oldest engine that boxes were seen to work with.
const OLDEST: (u32, u32, u32) = (20, 10, 0);
/// Where the snap has its data, confined so that no box's directory can be bound.
const SNAP: &str = "/var/snap";

const CHECK: &str = "docker";

pub(super) fn engine(facts: &Facts) -> Vec<Finding> {
    let engine = match &facts.engine {
        Ok(engine) => engine,
        Err(fault) => {
            return vec![Finding::fail(
                CHECK,
                fault,
                "systemctl status docker; journalctl -u docker says why",
            )];
        }
    };
    let message = format!("{} with {}", engine.version, engine.storage_driver);
    let finding = if engine.root_dir.starts_with(SNAP) {
        let remedy = "snap remove docker, then install the distribution's or Docker's own package";
        Finding::fail(CHECK, "it is the snap, which boxes' directories cannot be bound into", remedy)
    } else if engine.rootless {
        let remedy = "name the socket of an engine that runs as root in provisioner.docker_socket";
        Finding::fail(CHECK, "it runs without root, and so has no networks of its own for boxes", remedy)
    } else if version(&engine.version).is_some_and(|version| version < OLDEST) {
        Finding::fail(CHECK, format!("{message} is too old"), "install Docker 20.10 or newer")
    } else if engine.storage_driver == "vfs" {
        let remedy = "put Docker's directory on ext4, xfs or btrfs, so that it takes overlay2";
        Finding::warn(CHECK, format!("{message}: each box copies the whole image"), remedy)
    } else {
        Finding::ok(CHECK, message)
    };
    vec![finding]
}

pub(super) fn cgroup(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "cgroup";
    let Ok(engine) = &facts.engine else { return Vec::new() };
    let version = match engine.cgroup {
        Cgroup::V2 => Finding::ok(CHECK, "version 2"),
        Cgroup::V1 => Finding::warn(
            CHECK,
            "version 1, which kubelets from 1.35 on refuse in boxes unless told otherwise",
            "start the kernel with systemd.unified_cgroup_hierarchy=1",
        ),
        Cgroup::Unknown => {
            Finding::warn(CHECK, "Docker does not say which version", "install Docker 20.10 or newer")
        }
    };
    vec![version, limited(engine)]
}

fn limited(engine: &EngineReport) -> Finding {
    const CHECK: &str = "limits";
    let remedy =
        "start the kernel with cgroup_enable=memory swapaccount=1, and mount the missing controllers";
    let without = engine.unlimited.join(", ");
    if engine.unlimited.is_empty() {
        Finding::ok(CHECK, "memory, swap, processes and CPU of a box can be limited")
    } else if engine.unlimited == ["swap"] {
        Finding::warn(CHECK, "boxes' swap cannot be limited: a box may swap out the whole host", remedy)
    } else {
        Finding::fail(CHECK, format!("boxes cannot be limited in: {without}"), remedy)
    }
}

/// How it was started.
pub(super) fn settings(facts: &Facts) -> Vec<Finding> {
    let Ok(engine) = &facts.engine else { return Vec::new() };
    let iptables = if facts.daemon.iptables {
        Finding::ok("iptables", "Docker makes its packet filter rules")
    } else {
        let remedy = "take \"iptables\": false out of /etc/docker/daemon.json, then restart Docker";
        Finding::fail("iptables", "Docker makes no packet filter rules, so boxes reach nothing", remedy)
    };
    let restore = if engine.live_restore {
        Finding::ok("live-restore", "boxes go on while Docker restarts")
    } else {
        let remedy = "\"live-restore\": true in /etc/docker/daemon.json, then systemctl reload docker";
        Finding::warn("live-restore", "a restart of Docker, as by its upgrade, stops all boxes", remedy)
    };
    vec![iptables, restore]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::testing::{facts, statuses};
    use super::*;
    use crate::cli::doctor::finding::Status;

    fn with(change: impl FnOnce(&mut EngineReport)) -> Facts {
        let mut facts = facts();
        change(facts.engine.as_mut().unwrap());
        facts
    }

    #[test]
    fn an_engine_that_does_not_answer_is_said_once() {
        let mut facts = facts();
        facts.engine = Err("docker: cannot be reached: connection refused".to_owned());
        assert_eq!(statuses(&engine(&facts)), [Status::Fail]);
        assert!(cgroup(&facts).is_empty() && settings(&facts).is_empty());
    }

    #[rstest]
    #[case(|_: &mut EngineReport| {}, Status::Ok)]
    #[case(|engine: &mut EngineReport| engine.root_dir = "/var/snap/docker/common/var-lib-docker".into(), Status::Fail)]
    #[case(|engine: &mut EngineReport| engine.rootless = true, Status::Fail)]
    #[case(|engine: &mut EngineReport| engine.version = "19.03.15".to_owned(), Status::Fail)]
    #[case(|engine: &mut EngineReport| engine.version = "20.10.24+dfsg1".to_owned(), Status::Ok)]
    #[case(|engine: &mut EngineReport| engine.storage_driver = "vfs".to_owned(), Status::Warn)]
    fn engines(#[case] change: fn(&mut EngineReport), #[case] expected: Status) {
        assert_eq!(statuses(&engine(&with(change))), [expected]);
    }

    #[rstest]
    #[case(Cgroup::V2, &[], [Status::Ok, Status::Ok])]
    #[case(Cgroup::V1, &["swap"], [Status::Warn, Status::Warn])]
    #[case(Cgroup::Unknown, &["memory", "swap"], [Status::Warn, Status::Fail])]
    fn cgroups(#[case] version: Cgroup, #[case] unlimited: &[&'static str], #[case] expected: [Status; 2]) {
        let facts = with(|engine| {
            engine.cgroup = version;
            engine.unlimited = unlimited.to_vec();
        });
        assert_eq!(statuses(&cgroup(&facts)), expected);
    }

    #[test]
    fn how_it_was_started() {
        let mut facts = with(|engine| engine.live_restore = false);
        assert_eq!(statuses(&settings(&facts)), [Status::Ok, Status::Warn]);
        facts.daemon.iptables = false;
        assert_eq!(statuses(&settings(&facts))[0], Status::Fail);
    }
}
