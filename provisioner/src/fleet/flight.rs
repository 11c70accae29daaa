//! One task at work on one box, and those who wait for it.

use std::sync::{Arc, Mutex, PoisonError};

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{Endpoint, Failure, FailureCode, Order, Progress};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{Instrument, info, info_span, warn};

use super::Shared;
use crate::backend::Backend;
use crate::devbox_files::UserCa;
use crate::ensure::{EnsureError, Note};
use crate::failure;
use crate::state::{Event, State};

/// What a flight says: nothing yet, then progress, then what it came to.
pub type Status = watch::Receiver<Option<Outcome>>;

/// The latest word of a flight; all but progress are its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Progress(Progress),
    Ready(Endpoint),
    Done,
    Failed(Failure),
}

/// What a flight is for. Whoever asks for the same joins it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Somebody logs in; the box is to trust this CA.
    Login(UserCa),
    Order(Order),
    IdleStop,
    /// A box is made ready for whoever comes.
    Spare,
    /// What is left of a box that is not there goes.
    Tidy,
    /// Its archive is made. Nobody joins in: an archive has one reader.
    Backup(Once<mpsc::Sender<Bytes>>),
    /// It is made of an archive.
    Restore(Once<mpsc::Receiver<Bytes>>),
}

/// What one flight takes, and no other can be asked for.
#[derive(Debug)]
pub(super) struct Once<T>(Arc<Mutex<Option<T>>>);

impl<T> Once<T> {
    pub(super) fn new(thing: T) -> Self {
        Self(Arc::new(Mutex::new(Some(thing))))
    }

    fn take(&self) -> Result<T, EnsureError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(EnsureError::Gone)
    }
}

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for Once<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Once<T> {}

pub(super) struct Flight {
    pub(super) purpose: Purpose,
    pub(super) status: Status,
    state: Arc<Mutex<State>>,
}

impl Flight {
    pub(super) fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
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

/// A flight and the task that it is.
pub(super) fn prepare<B: Backend>(
    shared: &Arc<Shared<B>>,
    id: &DevBoxId,
    purpose: &Purpose,
    client: &str,
) -> (Flight, impl Future<Output = ()> + Send + 'static) {
    let (sender, status) = watch::channel(None);
    let state = Arc::<Mutex<State>>::default();
    let flight = Flight { purpose: purpose.clone(), status, state: Arc::clone(&state) };
    let span = info_span!("flight", devbox = %id, task = purpose.name());
    let (id, purpose, client) = (id.clone(), purpose.clone(), failure::one_line(client));
    let shared = Arc::clone(shared);
    let task = async move {
        let landing = Landing { shared, id };
        let report = |note: Note<'_>| note_down(&note, &state, &sender);
        let result = fly(&landing.shared, &landing.id, &purpose, &client, report).await;
        // First off the list, then the result: whoever asks from now on gets a flight of its own.
        drop(landing);
        sender.send_replace(Some(result));
    };
    (flight, task.instrument(span))
}

fn note_down(note: &Note<'_>, state: &Mutex<State>, sender: &watch::Sender<Option<Outcome>>) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    match note {
        Note::Progress(text) => {
            info!("{text}");
            sender.send_replace(Some(Outcome::Progress(Progress { text: (*text).to_owned() })));
        }
        Note::Seen(seen) => *state = seen.clone(),
        Note::Event(event) => *state = std::mem::take(&mut *state).next(event.clone()),
    }
}

async fn fly<B: Backend>(
    shared: &Shared<B>,
    id: &DevBoxId,
    purpose: &Purpose,
    client: &str,
    report: impl Fn(Note<'_>) + Send + Sync,
) -> Outcome {
    let begun = Instant::now();
    let result = tokio::select! {
        result = attempt(shared, id, purpose, &report) => result,
        () = shared.shutdown.cancelled() => Err(EnsureError::ShuttingDown),
    };
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match result {
        Ok(endpoint) => {
            let address = endpoint.as_ref().map(|endpoint| tracing::field::display(endpoint.address));
            info!(ms, client, address, "done");
            shared.failed().remove(id);
            // Before the flight is off the list: nothing that idles may be stopped in between.
            match purpose {
                Purpose::Order(Order::Remove) | Purpose::Tidy => shared.uses.forget(id),
                // A box that is up again after its backup does not idle since before it.
                Purpose::Login(_) | Purpose::Order(_) | Purpose::Backup(_) => shared.uses.touch(id),
                Purpose::IdleStop | Purpose::Spare | Purpose::Restore(_) => {}
            }
            endpoint.map_or(Outcome::Done, Outcome::Ready)
        }
        Err(error) => {
            let failure = failure::explain(id, &error);
            warn!(ms, client, code = ?failure.code, "{}", failure.message);
            report(Note::Event(Event::Failed { reason: failure.message.clone() }));
            // A name that somebody made up is not remembered; and a box is none the worse for an archive that failed.
            let made_up = matches!(failure.code, FailureCode::NoSuchBox | FailureCode::TooManyBoxes);
            if !made_up && !matches!(purpose, Purpose::Backup(_) | Purpose::Restore(_)) {
                shared.failed().insert(id.clone(), failure.message.clone());
            }
            Outcome::Failed(failure)
        }
    }
}

async fn attempt<B: Backend>(
    shared: &Shared<B>,
    id: &DevBoxId,
    purpose: &Purpose,
    report: &(impl Fn(Note<'_>) + Send + Sync),
) -> Result<Option<Endpoint>, EnsureError> {
    let ensurer = &shared.ensurer;
    match purpose {
        Purpose::Login(user_ca) => return ensurer.ensure(id, user_ca, report).await.map(Some),
        Purpose::Spare => ensurer.prepare(id, report).await?,
        Purpose::Order(order) => ensurer.order(id, *order, report).await?,
        Purpose::IdleStop => ensurer.order(id, Order::Stop, report).await?,
        Purpose::Tidy => ensurer.tidy(id).await?,
        Purpose::Backup(into) => ensurer.back_up(id, into.take()?, report).await?,
        Purpose::Restore(from) => ensurer.restore(id, from.take()?, report).await?,
    }
    if matches!(purpose, Purpose::Order(Order::Remove)) {
        shared.leases.end(id)?;
    }
    Ok(None)
}

impl Purpose {
    fn name(&self) -> &'static str {
        match self {
            Self::Login(_) => "login",
            Self::IdleStop => "idle stop",
            Self::Spare => "spare",
            Self::Tidy => "tidy",
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
            Self::Order(Order::New) => "new",
            Self::Order(Order::Start) => "start",
            Self::Order(Order::Stop) => "stop",
            Self::Order(Order::Restart) => "restart",
            Self::Order(Order::Reset) => "reset",
            Self::Order(Order::Remove) => "rm",
        }
    }
}

/// What is said to whoever waits for another flight of the same box.
pub(super) fn waits(other: &Purpose) -> Outcome {
    let text = match other {
        Purpose::Backup(_) => "waiting until the box is backed up",
        Purpose::Restore(_) => "waiting until the box is restored",
        _ => "waiting until what is being done to the box is done",
    };
    Outcome::Progress(Progress { text: text.to_owned() })
}

/// What a flight that left no result has come to: its task panicked.
#[must_use]
pub fn lost(id: &DevBoxId) -> Failure {
    failure::explain(id, &EnsureError::Panicked)
}

pub(super) fn refused(id: &DevBoxId, error: &EnsureError) -> Status {
    warn!(devbox = %id, "{error}");
    watch::channel(Some(Outcome::Failed(failure::explain(id, error)))).1
}

/// Waits for the end of a flight.
pub(super) async fn landed(mut status: Status) {
    let ended = |outcome: &Option<Outcome>| {
        outcome.as_ref().is_some_and(|outcome| !matches!(outcome, Outcome::Progress(_)))
    };
    drop(status.wait_for(ended).await);
}
