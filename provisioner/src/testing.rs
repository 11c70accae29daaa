//! What tests share.

use std::path::Path;

use boxgate_config::{Config, DevBoxId, Runtime};
use boxgate_provisioner_api::{BoxState, BoxSummary, Limits};
use tempfile::TempDir;

use crate::devbox_files::UserCa;

/// A public key to be the gateway's user CA.
pub(crate) const USER_CA: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdNx4zHfOgGmj6MKNg9Vh8vgTqB6fjOSC5M2vTgVTzd ca";

/// Another one.
pub(crate) const OTHER_CA: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDnlXa2RHsQyuD3yUUSHGS+DEQNwHZMH7QvqkqRqQKIy";

/// Every setting at its default, but for runc with its danger accepted.
pub(crate) fn config() -> Config {
    let mut config = Config::parse(Path::new("test.toml"), "").unwrap();
    config.devbox.runtime = Runtime::Runc { boxes_are_root_on_this_host: true };
    config
}

pub(crate) fn user_ca() -> UserCa {
    UserCa::parse(USER_CA).unwrap()
}

pub(crate) fn id(id: &str) -> DevBoxId {
    DevBoxId::parse(id).unwrap()
}

/// A box as it is listed of which little is known, and nothing is used.
pub(crate) fn summary(id: &str, state: BoxState) -> BoxSummary {
    BoxSummary {
        id: DevBoxId::parse(id).unwrap(),
        state,
        reason: None,
        since: None,
        container: format!("boxgate.{}", id.replace('+', ".")),
        image: None,
        outdated: false,
        isolated: true,
        address: None,
        connections: 0,
        idle_seconds: None,
        keep_until: None,
        limits: Limits { cpus: 2.0, memory_bytes: 4 << 30, pids: 4096, disk_bytes: None },
        usage: None,
        disk_bytes: None,
    }
}

/// The configuration with its directories in one that is removed in the end.
pub(crate) fn config_in(directory: &TempDir) -> Config {
    let mut config = config();
    config.provisioner.state_dir = directory.path().join("state");
    config.provisioner.socket = directory.path().join("provisioner.sock");
    config.provisioner.lobby_socket = directory.path().join("lobby.sock");
    config.provisioner.gateway_user = nix::unistd::Uid::current().to_string();
    config
}
