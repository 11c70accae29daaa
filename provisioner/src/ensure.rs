//! One attempt at a box: look, take the next step, look again, until it is what it should come to.
//!
//! What to do is decided by [`reconcile`](crate::reconcile); `attempt` does it, waits, and tells the person
//! who waits. Nothing that matters is kept here: an attempt may be dropped anywhere, and the next one goes on
//! from what is there.

mod admission;
mod attempt;
mod moving;
mod removal;
mod spares;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boxgate_config::{Config, DevBoxId, Runtime};
use boxgate_provisioner_api::{Endpoint, Order};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::spawn_blocking;

use crate::archive::Unfit;
use crate::backend::{self, Backend, Change, Container, State};
use crate::blueprint::Blueprint;
use crate::claims::Claims;
use crate::devbox_files::{self, UserCa};
use crate::network::firewall::{Firewall, FirewallFault};
use crate::reconcile::{Goal, Trouble, is_nothing_there, ssh_at};
use crate::state;
use admission::Admission;
use attempt::Attempt;
use removal::Removals;
pub(crate) use spares::Spares;

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
    #[error("its user could not be made (exit code {exit_code}): {output}")]
    NoUser { exit_code: i64, output: String },
    #[error(transparent)]
    Archive(#[from] Unfit),
    #[error("there is such a box already")]
    Exists,
    #[error("whoever asked for its archive, or gave one, has gone")]
    Gone,
    #[error("whoever takes its archive, or gives one, has been silent for too long")]
    Stalled,
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
    /// Held from counting what other boxes take until this one is counted too.
    admitting: Semaphore,
    admission: Admission,
    removals: Removals,
    /// What the engine's claims say, read once: no other program makes any.
    claims: OnceCell<Mutex<Claims>>,
    spares: Spares,
    /// The boot of each box that was seen to answer. It answers still, or the gateway finds out: asking its
    /// sshd again at every login would cost the box a process and the person a wait.
    answered: Mutex<HashMap<DevBoxId, Boot>>,
}

/// What an attempt says while it goes on.
#[derive(Debug)]
pub enum Note<'a> {
    /// One line for whoever waits.
    Progress(&'a str),
    /// What the box was doing when it was first looked at.
    Seen(state::State),
    Event(state::Event),
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
            firewall: Firewall::off(),
            starting: Semaphore::new(if exclusive { 1 } else { STARTING_MAX }),
            choosing_subnet: Semaphore::new(1),
            admitting: Semaphore::new(1),
            admission: Admission::default(),
            removals: Removals::new(&config),
            claims: OnceCell::new(),
            spares: Spares::default(),
            answered: Mutex::default(),
            config,
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

    pub(crate) fn spares(&self) -> &Spares {
        &self.spares
    }

    /// What a box should be, with the names of what it lives in.
    pub(crate) async fn blueprint(&self, id: &DevBoxId) -> Result<Blueprint, backend::Error> {
        let instance = &self.config.provisioner.instance;
        let read = async || Ok(Mutex::new(self.backend.claims(instance).await?));
        let claims = self.claims.get_or_try_init(read).await?;
        let wanted = Blueprint::new(&self.config, id.clone());
        let claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match claims.spare_of(id) {
            Some(spare) => wanted.living_in(&self.config, spare),
            None => wanted,
        })
    }

    /// Keeps a spare from being given to anyone while something is done to it: two must not work on one container.
    /// One that somebody has, or is about to get, is no spare any more.
    fn withhold(&self, id: &DevBoxId) -> Result<(), EnsureError> {
        let claimed = || self.with_claims(|claims| claims.has(id)).unwrap_or_default();
        if id.is_spare() && (claimed() || !self.spares.withdraw(id)) {
            return Err(Trouble::NoSuchBox.into());
        }
        Ok(())
    }

    /// The claims as they are known; none when nobody has asked for them yet.
    fn with_claims<T>(&self, with: impl FnOnce(&mut Claims) -> T) -> Option<T> {
        let claims = self.claims.get()?;
        Some(with(&mut claims.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Returns once the box's sshd answers, with where it does. `report` is told what is going on, and no
    /// progress at all when the box is up already.
    ///
    /// # Errors
    /// Why there is no box. What was made so far stays, for the next attempt or an operator to look at.
    pub async fn ensure(
        &self,
        id: &DevBoxId,
        user_ca: &UserCa,
        report: impl Fn(Note<'_>) + Send + Sync,
    ) -> Result<Endpoint, EnsureError> {
        self.firewall.state()?;
        let mut wanted = self.blueprint(id).await?;
        if self.removals.is_due(id) {
            self.remove(&wanted, &report).await?;
            wanted = self.blueprint(id).await?;
        }
        let container = self.backend.container(&wanted.names).await?;
        report(Note::Seen(state::State::observed(container.as_ref())));
        let (answering, host_key) = match container.as_ref().and_then(Answering::of) {
            Some(up) if self.has_answered(id, &up.boot) => {
                let host_key = write_files(wanted.clone(), Some(user_ca.clone())).await?;
                (up, host_key)
            }
            _ => {
                let make = id.name.is_none() || self.config.devbox.new_on_login;
                let attempt = Attempt::new(self, &wanted, Goal::Answering { make }, &report, container);
                attempt.with_user_ca(user_ca).answer().await?
            }
        };
        report(Note::Event(state::Event::Answered));
        Ok(Endpoint {
            address: answering.address,
            host_key,
            unix_user: wanted.user.name,
            isolated: answering.isolated,
        })
    }

    /// Does to the box what somebody ordered.
    ///
    /// # Errors
    /// Why it could not be done, or not to its end: what was done so far stays done.
    pub async fn order(
        &self,
        id: &DevBoxId,
        order: Order,
        report: impl Fn(Note<'_>) + Send + Sync,
    ) -> Result<(), EnsureError> {
        let wanted = self.blueprint(id).await?;
        self.withhold(id)?;
        let container = self.backend.container(&wanted.names).await?;
        report(Note::Seen(state::State::observed(container.as_ref())));
        if order != Order::New && container.is_none() && !self.is_anything_left(&wanted).await? {
            return Err(Trouble::NoSuchBox.into());
        }
        let up = Goal::Answering { make: order == Order::New };
        let goals: &[Goal] = match order {
            Order::New | Order::Start => &[up],
            Order::Stop => &[Goal::Stopped],
            Order::Restart => &[Goal::Stopped, up],
            Order::Reset => &[Goal::Unmade, up],
            Order::Remove => return self.remove(&wanted, &report).await,
        };
        for goal in goals {
            self.bring(&wanted, *goal, &report).await?;
        }
        Ok(())
    }

    /// Makes or wakes a spare box, and offers it to whoever comes.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn prepare(
        &self,
        spare: &DevBoxId,
        report: impl Fn(Note<'_>) + Send + Sync,
    ) -> Result<(), EnsureError> {
        self.firewall.state()?;
        let wanted = self.blueprint(spare).await?;
        self.withhold(spare)?;
        self.bring(&wanted, Goal::Answering { make: true }, &report).await?;
        let container = self.backend.container(&wanted.names).await?;
        if let Some(Container { image_id, state: State::Running { address: Some(address), .. }, .. }) =
            container
        {
            self.spares.offer(spare, image_id, address);
        }
        Ok(())
    }

    /// Removes the network, the claim and the directory of a box that is not there, nor any data of its; and of any box what packs
    /// or unpacks its volumes.
    ///
    /// # Errors
    /// Why they stay.
    pub async fn tidy(&self, id: &DevBoxId) -> Result<(), EnsureError> {
        let wanted = self.blueprint(id).await?;
        self.withhold(id)?;
        self.backend.end_move(&wanted.names).await?;
        let (container, around) =
            tokio::try_join!(self.backend.container(&wanted.names), self.backend.surroundings(&wanted))?;
        let volumes = [&around.home, &around.docker, &around.restoring];
        if container.is_some() || volumes.iter().any(|volume| volume.is_some()) {
            return Ok(());
        }
        if around.network.is_some_and(|network| wanted.owns(&network.labels)) {
            self.backend.perform(&wanted, &Change::RemoveNetwork).await?;
        }
        if around.claim.is_some_and(|claim| wanted.owns(&claim)) {
            self.backend.perform(&wanted, &Change::RemoveClaim).await?;
            self.with_claims(|claims| claims.remove(id));
        }
        Ok(self.removals.finish(&wanted)?)
    }

    /// Boxes whose removal an earlier provisioner did not finish.
    pub fn removals_due(&self) -> Vec<DevBoxId> {
        self.removals.all_due()
    }

    async fn is_anything_left(&self, wanted: &Blueprint) -> Result<bool, EnsureError> {
        let around = self.backend.surroundings(wanted).await?;
        let left = !is_nothing_there(&around);
        Ok(left || self.removals.is_due(&wanted.id))
    }

    /// Brings a box to a goal.
    async fn bring(
        &self,
        wanted: &Blueprint,
        goal: Goal,
        report: &(impl Fn(Note<'_>) + Send + Sync),
    ) -> Result<(), EnsureError> {
        let container = self.backend.container(&wanted.names).await?;
        let attempt = Attempt::new(self, wanted, goal, report, container);
        let reached = match goal {
            Goal::Answering { .. } => {
                attempt.answer().await?;
                state::Event::Answered
            }
            Goal::Stopped => {
                attempt.finish().await?;
                state::Event::Rests
            }
            Goal::Unmade | Goal::Removed => {
                attempt.finish().await?;
                state::Event::Removed
            }
        };
        report(Note::Event(reached));
        Ok(())
    }

    async fn remove(
        &self,
        wanted: &Blueprint,
        report: &(impl Fn(Note<'_>) + Send + Sync),
    ) -> Result<(), EnsureError> {
        self.removals.write_down(&wanted.id)?;
        self.bring(wanted, Goal::Removed, report).await?;
        self.with_claims(|claims| claims.remove(&wanted.id));
        self.removals.finish(wanted)?;
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).remove(&wanted.id);
        Ok(())
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

async fn write_files(wanted: Blueprint, user_ca: Option<UserCa>) -> Result<String, EnsureError> {
    match spawn_blocking(move || devbox_files::write(&wanted, user_ca.as_ref())).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(EnsureError::Panicked),
    }
}

#[cfg(test)]
mod tests;
