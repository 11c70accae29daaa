//! What Docker and Sysbox do not say on Docker's socket.

use std::fs;
use std::path::Path;

use boxgate_config::Runtime;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::host::answer;
use crate::backend::docker::EngineReport;

const DAEMON_JSON: &str = "/etc/docker/daemon.json";
const PID_FILES: [&str; 2] = ["/run/docker.pid", "/var/run/docker.pid"];
/// The sockets of Sysbox's two services.
const SYSBOX_FS: &str = "/run/sysbox/sysfs.sock";
const SYSBOX_MGR: &str = "/run/sysbox/sysmgr.sock";

/// How the engine was started, as far as boxes care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DaemonSettings {
    /// Whether it makes packet filter rules: without, boxes reach nothing.
    pub(super) iptables: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sysbox {
    /// Of `sysbox-runc`.
    pub(super) version: Option<String>,
    /// Which of its services do not answer.
    pub(super) silent: Vec<&'static str>,
}

#[derive(Debug, Default, Deserialize)]
struct DaemonJson {
    iptables: Option<bool>,
}

pub(super) fn daemon_settings() -> DaemonSettings {
    // An engine without a file, or without a pid file, has its defaults as far as can be told.
    let json = fs::read_to_string(DAEMON_JSON).unwrap_or_default();
    let pid = PID_FILES.iter().find_map(|file| fs::read_to_string(file).ok());
    let command = pid.and_then(|pid| fs::read(Path::new("/proc").join(pid.trim()).join("cmdline")).ok());
    settings(&json, &String::from_utf8_lossy(&command.unwrap_or_default()))
}

/// Out of `daemon.json` and the command line, whose words end in NUL; dockerd takes a setting in one of them only.
fn settings(json: &str, command: &str) -> DaemonSettings {
    let file: DaemonJson = serde_json::from_str(json).unwrap_or_default();
    let off = command.split('\0').any(|word| word == "--iptables=false");
    DaemonSettings { iptables: file.iptables.unwrap_or(true) && !off }
}

/// Nothing of it when the engine does not know Sysbox.
pub(super) async fn sysbox(engine: Option<&EngineReport>) -> Sysbox {
    let Some(program) = engine.and_then(|engine| engine.runtimes.get(Runtime::Sysbox.docker_name())) else {
        return Sysbox::default();
    };
    let program = program.as_deref().unwrap_or(Path::new(Runtime::Sysbox.docker_name()));
    let version = answer(&program.to_string_lossy(), &["--version"]).await.and_then(|said| version(&said));
    let mut silent = Vec::new();
    for (name, socket) in [("sysbox-fs", SYSBOX_FS), ("sysbox-mgr", SYSBOX_MGR)] {
        if UnixStream::connect(socket).await.is_err() {
            silent.push(name);
        }
    }
    Sysbox { version, silent }
}

/// The line `version: 0.7.1` of what `sysbox-runc --version` prints.
fn version(said: &str) -> Option<String> {
    said.lines().find_map(|line| Some(line.trim().strip_prefix("version:")?.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", "dockerd\0", true)]
    #[case("{}", "", true)]
    #[case(r#"{"iptables": false, "live-restore": true}"#, "dockerd\0", false)]
    #[case("", "/usr/bin/dockerd\0-H\0fd://\0--iptables=false\0", false)]
    #[case("broken", "dockerd\0--iptables=true\0", true)]
    fn iptables(#[case] json: &str, #[case] command: &str, #[case] expected: bool) {
        assert_eq!(settings(json, command).iptables, expected);
    }

    #[test]
    fn the_version_of_sysbox() {
        let said = "sysbox-runc\n\tedition: \tCommunity Edition (CE)\n\tversion: \t0.7.1\n\tcommit: \tab12\n";
        assert_eq!(version(said).as_deref(), Some("0.7.1"));
        assert_eq!(version("runc version 1.1.5"), None);
    }
}
