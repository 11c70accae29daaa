//! One task per box at a time: whoever asks for a box that is being made or woken joins in.
//!
//! ```text
//! ensure(alice) ─┐
//! ensure(alice) ─┼─► flight of alice ──► Ensurer     every asker sees the latest progress, then the result
//! ensure(alice) ─┘
//! ensure(bob) ─────► flight of bob ────► Ensurer
//! ```
//!
//! A flight goes on when its askers go away, and ends with its result or with the fleet's shutdown.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{BoxState, BoxSummary, Engine, EnsureEvent, Failure, Health, Progress};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span, warn};

use crate::backend::{self, Backend, Container, State};
use crate::devbox_files::UserCa;
use crate::ensure::{EnsureError, Ensurer};
use crate::{failure, objects};

/// Boxes that may be asked for at once. More than these wait for their turns longer than anyone would.
const FLIGHTS_MAX: usize = 1024;

/// What a flight says: nothing yet, then progress, then ready or failed.
pub type Status = watch::Receiver<Option<EnsureEvent>>;

/// All boxes of the installation.
pub struct Fleet<B> {
    shared: Arc<Shared<B>>,
}

struct Shared<B> {
    ensurer: Ensurer<B>,
    flights: Mutex<HashMap<DevBoxId, Flight>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

struct Flight {
    user_ca: UserCa,
    status: Status,
}

/// Takes a flight off the list when its task ends, however it ends.
struct Landing<B> {
    shared: Arc<Shared<B>>,
    id: DevBoxId,
}

impl<B> Drop for Landing<B> {
    fn drop(&mut self) {
        self.shared.flights().remove(&self.id);
    }
}

impl<B> Clone for Fleet<B> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<B> fmt::Debug for Fleet<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

impl<B> Shared<B> {
    fn flights(&self) -> MutexGuard<'_, HashMap<DevBoxId, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Backend> Fleet<B> {
    /// Cancelling `shutdown` ends every flight at its next pause; what it made so far stays.
    #[must_use]
    pub fn new(ensurer: Ensurer<B>, shutdown: CancellationToken) -> Self {
        let shared = Shared { ensurer, flights: Mutex::default(), tasks: TaskTracker::new(), shutdown };
        Self { shared: Arc::new(shared) }
    }

    /// Starts the box's flight, or joins the one under way. `client` is for the log.
    pub async fn ensure(&self, id: &DevBoxId, user_ca: &UserCa, client: &str) -> Status {
        loop {
            let mut other = {
                let mut flights = self.shared.flights();
                match flights.get(id) {
                    Some(flight) if flight.user_ca == *user_ca => return flight.status.clone(),
                    Some(flight) => flight.status.clone(),
                    None if flights.len() >= FLIGHTS_MAX => return refused(id, &EnsureError::Busy),
                    None => {
                        let status = self.launch(id, user_ca, client);
                        let flight = Flight { user_ca: user_ca.clone(), status: status.clone() };
                        flights.insert(id.clone(), flight);
                        return status;
                    }
                }
            };
            // The flight brings another CA into the box than this asker needs: its turn comes after.
            while other.changed().await.is_ok() {}
        }
    }

    fn launch(&self, id: &DevBoxId, user_ca: &UserCa, client: &str) -> Status {
        let (sender, status) = watch::channel(None);
        let span = info_span!("ensure", devbox = %id);
        let shared = Arc::clone(&self.shared);
        let (id, user_ca, client) = (id.clone(), user_ca.clone(), failure::one_line(client));
        let flight = async move {
            let landing = Landing { shared, id: id.clone() };
            let result = fly(&landing.shared, &id, &user_ca, &client, &sender).await;
            // First off the list, then the result: whoever asks from now on gets a flight of its own.
            drop(landing);
            sender.send_replace(Some(result));
        };
        self.shared.tasks.spawn(flight.instrument(span));
        status
    }

    /// Whether the provisioner can work.
    pub async fn health(&self) -> Health {
        let ensurer = &self.shared.ensurer;
        let engine = match ensurer.backend().ping().await {
            Ok(()) => Engine::Ok,
            Err(error) => Engine::Unavailable { reason: failure::one_line(&error.to_string()) },
        };
        let isolated = ensurer.config().devbox.runtime.isolates();
        let firewall = ensurer.firewall().health();
        Health { version: env!("CARGO_PKG_VERSION").to_owned(), engine, firewall, isolated }
    }

    /// Every box that has a container, sorted by id.
    ///
    /// # Errors
    /// What the engine said instead.
    pub async fn boxes(&self) -> Result<Vec<BoxSummary>, backend::Error> {
        let ensurer = &self.shared.ensurer;
        let instance = &ensurer.config().provisioner.instance;
        let containers = ensurer.backend().containers(instance).await?;
        let summary = |container: Container| {
            let id = objects::devbox_of(&container.labels, instance)?;
            Some(summary(id, container))
        };
        let mut boxes: Vec<_> = containers.into_iter().filter_map(summary).collect();
        boxes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(boxes)
    }

    /// Waits until the last flight has ended. Call it after the shutdown was asked for.
    pub async fn landed(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

async fn fly<B: Backend>(
    shared: &Shared<B>,
    id: &DevBoxId,
    user_ca: &UserCa,
    client: &str,
    sender: &watch::Sender<Option<EnsureEvent>>,
) -> EnsureEvent {
    let begun = Instant::now();
    let progress = |text: &str| {
        info!("{text}");
        sender.send_replace(Some(EnsureEvent::Progress(Progress { text: text.to_owned() })));
    };
    let result = tokio::select! {
        result = shared.ensurer.ensure(id, user_ca, progress) => result,
        () = shared.shutdown.cancelled() => Err(EnsureError::ShuttingDown),
    };
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match result {
        Ok(endpoint) => {
            info!(ms, client, address = %endpoint.address, "ready");
            EnsureEvent::Ready(endpoint)
        }
        Err(error) => {
            let failure = failure::explain(id, &error);
            warn!(ms, client, code = ?failure.code, "{}", failure.message);
            EnsureEvent::Failed(failure)
        }
    }
}

/// What a flight that left no result has come to: its task panicked.
#[must_use]
pub fn lost(id: &DevBoxId) -> Failure {
    failure::explain(id, &EnsureError::Panicked)
}

fn refused(id: &DevBoxId, error: &EnsureError) -> Status {
    warn!(devbox = %id, "{error}");
    watch::channel(Some(EnsureEvent::Failed(failure::explain(id, error)))).1
}

fn summary(id: DevBoxId, container: Container) -> BoxSummary {
    let isolated = container.isolates();
    let (state, since) = match container.state {
        State::Created => (BoxState::Created, None),
        State::Running { since, .. } => (BoxState::Running, Some(since)),
        State::Stopped { since, .. } => (BoxState::Stopped, Some(since)),
        State::Dead => (BoxState::Stopped, None),
        State::Paused | State::Changing => (BoxState::Changing, None),
    };
    BoxSummary { id, state, container: container.name, image: container.image, isolated, since }
}

#[cfg(test)]
mod tests;
