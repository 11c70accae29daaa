//! The loop of one attempt: observe, decide, do, observe again.

use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::{Answering, EnsureError, Ensurer};
use crate::backend::{Backend, Change, Container, Error, State};
use crate::blueprint::Blueprint;
use crate::reconcile::{Observed, Step, Trouble, next_step};

/// Steps of one attempt. Seven make a box from nothing; the rest is waiting for the engine.
const STEPS_MAX: usize = 60;
/// Between two looks at a container that the engine is at work on, or after a conflict.
const WAIT: Duration = Duration::from_millis(200);
/// Between two questions to a booting box's sshd: what a person waits too long at most.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// Between two looks at whether a booting container still runs.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) struct Attempt<'a, B, P> {
    ensurer: &'a Ensurer<B>,
    wanted: &'a Blueprint,
    progress: &'a P,
    observed: Observed,
    /// This attempt's turn to make or wake a box.
    turn: Option<SemaphorePermit<'a>>,
    /// Whether the person knows what is being done.
    told: bool,
    /// When a box that does not answer has failed to boot; set when it is first asked.
    deadline: Option<Instant>,
}

impl<'a, B: Backend, P: Fn(&str) + Send + Sync> Attempt<'a, B, P> {
    pub(super) fn new(
        ensurer: &'a Ensurer<B>,
        wanted: &'a Blueprint,
        progress: &'a P,
        container: Option<Container>,
    ) -> Self {
        let observed = Observed { container, ..Observed::default() };
        Self { ensurer, wanted, progress, observed, turn: None, told: false, deadline: None }
    }

    /// Goes on until the box answers or nothing more can be done.
    pub(super) async fn converge(mut self) -> Result<Answering, EnsureError> {
        for _ in 0..STEPS_MAX {
            match next_step(self.wanted, &self.observed) {
                Ok(Step::LookAround) => self.look_around().await?,
                Ok(Step::Perform(change)) => self.perform(change).await?,
                Ok(Step::Wait) => {
                    sleep(WAIT).await;
                    self.look().await?;
                }
                Ok(Step::Probe { .. }) => {
                    if let Some(answering) = self.await_answer().await? {
                        return Ok(answering);
                    }
                }
                Err(Trouble::BootFailed { exit_code }) => {
                    let last_word = self.log_last_words().await;
                    return Err(EnsureError::BootFailed { exit_code, last_word });
                }
                Err(trouble) => return Err(trouble.into()),
            }
        }
        Err(EnsureError::Unsettled)
    }

    /// The first look at all that bears on the box. Unless it runs already there will be something to do, so
    /// the look waits for this attempt's turn: what it shows must still be so when it is acted on.
    async fn look_around(&mut self) -> Result<(), EnsureError> {
        if !matches!(&self.observed.container, Some(Container { state: State::Running { .. }, .. })) {
            self.take_turn().await?;
        }
        self.observed.host = Some(self.ensurer.backend.host(self.wanted).await?);
        self.look().await
    }

    async fn look(&mut self) -> Result<(), EnsureError> {
        let backend = &self.ensurer.backend;
        let (container, around) =
            tokio::try_join!(backend.container(&self.wanted.names), backend.surroundings(self.wanted))?;
        self.observed.container = container;
        self.observed.around = Some(around);
        Ok(())
    }

    async fn take_turn(&mut self) -> Result<(), EnsureError> {
        let starting = &self.ensurer.starting;
        let turn = if let Ok(turn) = starting.try_acquire() {
            turn
        } else {
            (self.progress)("waiting for other boxes to start");
            starting.acquire().await.map_err(|_| EnsureError::ShuttingDown)?
        };
        self.turn = Some(turn);
        Ok(())
    }

    async fn perform(&mut self, change: Change) -> Result<(), EnsureError> {
        if self.turn.is_none() {
            self.take_turn().await?;
        } else {
            self.tell();
            match change {
                Change::CreateNetwork { .. } => self.create_network().await?,
                change => self.make(&change).await?,
            }
        }
        self.look().await
    }

    /// Chooses a subnet and takes it, while no other attempt chooses.
    async fn create_network(&mut self) -> Result<(), EnsureError> {
        let choosing = &self.ensurer.choosing_subnet;
        let _alone = choosing.acquire().await.map_err(|_| EnsureError::ShuttingDown)?;
        self.look().await?;
        match next_step(self.wanted, &self.observed)? {
            Step::Perform(change @ Change::CreateNetwork { .. }) => self.make(&change).await,
            _ => Ok(()),
        }
    }

    async fn make(&mut self, change: &Change) -> Result<(), EnsureError> {
        let begun = Instant::now();
        match self.ensurer.backend.perform(self.wanted, change).await {
            Ok(()) => {
                self.observed.started |= *change == Change::Start;
                info!(ms = millis(begun), "{change}: done");
                Ok(())
            }
            Err(conflict @ Error::Conflict { .. }) => {
                warn!("{conflict}; looking again");
                sleep(WAIT).await;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Says once what is being done, when it is known and before it is done.
    fn tell(&mut self) {
        let text = match self.observed.container.as_ref().map(|container| &container.state) {
            None if self.has_volumes() => "making your box anew, with your home as it was",
            None | Some(State::Created) => "making your box (first login, a few seconds)",
            Some(State::Running { .. }) => "mending your box's network",
            Some(_) => "waking your box",
        };
        if !self.told {
            self.told = true;
            (self.progress)(text);
        }
    }

    fn has_volumes(&self) -> bool {
        self.observed.around.as_ref().is_some_and(|around| around.home.is_some())
    }

    /// Asks the box's sshd until it answers. `None`: the container is not the one that was asked any more.
    async fn await_answer(&mut self) -> Result<Option<Answering>, EnsureError> {
        let Some(asked) = self.observed.container.as_ref().and_then(Answering::of) else { return Ok(None) };
        let begun = Instant::now();
        let deadline = self.deadline();
        let mut next_look = begun + LOOK_EVERY;
        let mut silent = false;
        while !self.ensurer.backend.answers(asked.address).await {
            if !silent {
                (self.progress)("waiting for it to boot");
                silent = true;
            }
            let now = Instant::now();
            if now >= deadline {
                self.log_last_words().await;
                return Err(EnsureError::BootTimeout { after: self.ensurer.config.devbox.boot_timeout });
            }
            if now >= next_look {
                next_look = now + LOOK_EVERY;
                self.observed.container = self.ensurer.backend.container(&self.wanted.names).await?;
                let found = self.observed.container.as_ref().and_then(Answering::of);
                if found.is_none_or(|found| found.boot != asked.boot || found.address != asked.address) {
                    return Ok(None);
                }
            }
            sleep(ASK_EVERY).await;
        }
        debug!(ms = millis(begun), "sshd answers");
        Ok(Some(asked))
    }

    fn deadline(&mut self) -> Instant {
        let boot_timeout = self.ensurer.config.devbox.boot_timeout;
        *self.deadline.get_or_insert_with(|| Instant::now() + boot_timeout)
    }

    /// Logs what the container wrote last, and returns the last line of it.
    async fn log_last_words(&self) -> Option<String> {
        match self.ensurer.backend.last_words(&self.wanted.names).await {
            Ok(lines) => {
                for line in &lines {
                    warn!("the box wrote: {line}");
                }
                lines.into_iter().next_back()
            }
            Err(error) => {
                warn!("what the box wrote cannot be read: {error}");
                None
            }
        }
    }
}

/// Milliseconds since `begun`, for the log.
fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
