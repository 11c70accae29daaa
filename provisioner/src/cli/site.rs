//! Where the provisioner is that is asked, and as whom.

use std::path::PathBuf;

use boxgate_config::{Config, DevBoxId};
use boxgate_provisioner_api::{BoxSummary, Client};
use nix::unistd::{Uid, User};

use super::error::CliError;
use crate::failure::one_line;

/// One installation of Boxgate on this host.
#[derive(Debug)]
pub(super) struct Site {
    config: PathBuf,
    /// Instead of the configuration's.
    socket: Option<PathBuf>,
}

impl Site {
    pub(super) fn new(config: PathBuf, socket: Option<PathBuf>) -> Self {
        Self { config, socket }
    }

    pub(super) fn config_file(&self) -> &PathBuf {
        &self.config
    }

    pub(super) fn config(&self) -> Result<Config, CliError> {
        Ok(Config::load(&self.config)?)
    }

    /// Reads the configuration only for a socket that the command line does not name.
    pub(super) fn client(&self) -> Result<Client, CliError> {
        match &self.socket {
            Some(socket) => Ok(Client::new(socket)),
            None => Ok(self.client_of(&self.config()?)),
        }
    }

    pub(super) fn client_of(&self, config: &Config) -> Client {
        Client::new(self.socket.as_ref().unwrap_or(&config.provisioner.socket))
    }
}

/// The box of this name among those there are.
pub(super) fn find(boxes: Vec<BoxSummary>, id: &DevBoxId) -> Result<BoxSummary, CliError> {
    boxes.into_iter().find(|devbox| devbox.id == *id).ok_or_else(|| CliError::NoSuchBox(id.clone()))
}

/// Who asks, for the provisioner's log.
pub(super) fn asker() -> String {
    let uid = Uid::current();
    // A user without a name, or names that cannot be read, still have a number.
    let user = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    match std::env::var("SUDO_USER") {
        Ok(real) if real != user => one_line(&format!("operator {real} as {user}")),
        _ => format!("operator {user}"),
    }
}
