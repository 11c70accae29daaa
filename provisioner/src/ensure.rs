//! One attempt to have a box that answers: look, take the next step, look again, until its sshd answers.
//!
//! What to do is decided by [`reconcile`](crate::reconcile); `attempt` does it, waits, and tells the person
//! who waits. Nothing that matters is kept here: an attempt may be dropped anywhere, and the next one goes on
//! from what is there.

mod attempt;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boxgate_config::{Config, DevBoxId, Runtime};
use boxgate_provisioner_api::Endpoint;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::backend::{self, Backend, Container, State};
use crate::blueprint::Blueprint;
use crate::devbox_files::{self, UserCa};
use crate::network::firewall::{Firewall, FirewallFault};
use crate::reconcile::{Trouble, ssh_at};
use attempt::Attempt;

/// Boxes that are made or woken at once. Each boot keeps a core or two busy for a second or more; a host that
/// boots more than these at once serves nobody sooner.
const STARTING_MAX: usize = 8;

/// Why there is no box.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    #[error(transparent)]
    Backend(#[from] backend::Error),
    #[error(transparent)]
    Firewall(#[from] FirewallFault),
    #[error(transparent)]
    Files(#[from] devbox_files::Error),
    #[error(transparent)]
    Trouble(#[from] Trouble),
    #[error("its container ended while it was booting, with exit code {exit_code}")]
    BootFailed { exit_code: i64, last_word: Option<String> },
    #[error("its sshd did not answer within {after:?}")]
    BootTimeout { after: Duration },
    #[error("its container did not come to rest")]
    Unsettled,
    #[error("too many boxes are asked for at once")]
    Busy,
    #[error("the provisioner is shutting down")]
    ShuttingDown,
    #[error("the provisioner failed at it; its log says where")]
    Panicked,
}

/// Makes and wakes boxes. Two attempts at one box must not overlap; that is [`fleet`](crate::fleet)'s care.
#[derive(Debug)]
pub struct Ensurer<B> {
    backend: B,
    config: Arc<Config>,
    firewall: Firewall,
    /// Held from the first change until the box answers.
    starting: Semaphore,
    /// Held from choosing a subnet until the engine has it, so that no two boxes choose the same.
    choosing_subnet: Semaphore,
    /// The boot of each box that was seen to answer. It answers still, or the gateway finds out: asking its
    /// sshd again at every login would cost the box a process and the person a wait.
    answered: Mutex<HashMap<DevBoxId, Boot>>,
}

/// One start of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Boot {
    container: String,
    since: String,
}

/// A container whose sshd has answered.
struct Answering {
    boot: Boot,
    address: SocketAddr,
    isolated: bool,
}

impl<B: Backend> Ensurer<B> {
    #[must_use]
    pub fn new(backend: B, config: Arc<Config>) -> Self {
        // Without isolation only one owner may have boxes: looking for others' and making one must then be
        // a single step.
        let exclusive = config.devbox.runtime == Runtime::Runc { boxes_are_root_on_this_host: false };
        Self {
            backend,
            config,
            firewall: Firewall::off(),
            starting: Semaphore::new(if exclusive { 1 } else { STARTING_MAX }),
            choosing_subnet: Semaphore::new(1),
            answered: Mutex::default(),
        }
    }

    /// Has boxes only while this one keeps them apart.
    #[must_use]
    pub fn behind(self, firewall: Firewall) -> Self {
        Self { firewall, ..self }
    }

    pub fn firewall(&self) -> &Firewall {
        &self.firewall
    }

    pub fn backend(&self) -> &B {
        &self.backend
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns once the box's sshd answers. `progress` is told what is going on, and nothing at all when the
    /// box is up already.
    ///
    /// # Errors
    /// Why there is no box. What was made so far stays, for the next attempt or an operator to look at.
    pub async fn ensure(
        &self,
        id: &DevBoxId,
        user_ca: &UserCa,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<Endpoint, EnsureError> {
        self.firewall.state()?;
        let wanted = Blueprint::new(&self.config, id.clone());
        let host_key = write_files(wanted.clone(), user_ca.clone()).await?;
        let container = self.backend.container(&wanted.names).await?;
        let answering = match container.as_ref().and_then(Answering::of) {
            Some(up) if self.has_answered(id, &up.boot) => up,
            _ => {
                let up = Attempt::new(self, &wanted, &progress, container).converge().await?;
                self.remember(id, &up.boot);
                up
            }
        };
        Ok(Endpoint {
            address: answering.address,
            host_key,
            unix_user: wanted.user.name,
            isolated: answering.isolated,
        })
    }

    fn has_answered(&self, id: &DevBoxId, boot: &Boot) -> bool {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).get(id) == Some(boot)
    }

    fn remember(&self, id: &DevBoxId, boot: &Boot) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.insert(id.clone(), boot.clone());
    }
}

impl Answering {
    /// The container as it would answer; none when it cannot.
    fn of(container: &Container) -> Option<Self> {
        match &container.state {
            State::Running { since, address: Some(address) } => Some(Self {
                boot: Boot { container: container.id.clone(), since: since.clone() },
                address: ssh_at(*address),
                isolated: container.isolates(),
            }),
            _ => None,
        }
    }
}

async fn write_files(wanted: Blueprint, user_ca: UserCa) -> Result<String, EnsureError> {
    match spawn_blocking(move || devbox_files::write(&wanted, &user_ca)).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(EnsureError::Panicked),
    }
}

#[cfg(test)]
mod tests;
