//! The loop of one attempt: observe, decide, do, observe again.

use std::net::Ipv4Addr;
use std::time::Duration;

use boxgate_config::DevBoxId;
use ipnet::Ipv4Net;
use tokio::sync::{SemaphorePermit, mpsc};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::admission::Place;
use super::{Answering, EnsureError, Ensurer, Note, write_files};
use crate::backend::{Backend, Change, Container, Error, Program, Ran, State, Surroundings};
use crate::blueprint::Blueprint;
use crate::claims;
use crate::devbox_files::UserCa;
use crate::failure::one_line;
use crate::network;
use crate::reconcile::{Goal, Observed, Step, Trouble, create_network, is_nothing_there, next_step};
use crate::state::Event;

/// Steps of one attempt. Eight make a box from nothing; the rest is waiting for the engine.
const STEPS_MAX: usize = 60;
/// What makes a box's user at each boot, and may be run again at any time.
const MAKE_USER: Program<'_> = Program {
    user: "root",
    directory: "/root",
    command: &["/bin/sh", "-c", "exec /usr/lib/boxgate/make-user 2>&1"],
};
/// Lines of a failed boot that are worth reading.
const LAST_WORDS: u32 = 20;
/// Between two looks at a container that the engine is at work on, or after a conflict.
const WAIT: Duration = Duration::from_millis(200);
/// Between two questions to a booting box's sshd: what a person waits too long at most.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// Between two looks at whether a booting container still runs.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) struct Attempt<'a, B, R> {
    ensurer: &'a Ensurer<B>,
    wanted: Blueprint,
    goal: Goal,
    report: &'a R,
    /// The gateway's, if it is one that asks.
    user_ca: Option<&'a UserCa>,
    /// The box's public host key, once its files are written.
    host_key: Option<String>,
    observed: Observed,
    /// This attempt's turn to make or wake a box.
    turn: Option<SemaphorePermit<'a>>,
    /// What the box takes of the host while it is on its way up.
    place: Option<Place<'a>>,
    /// Where the spare box that was kept for this one is.
    spare_address: Option<Ipv4Addr>,
    /// Whether it has made its user.
    moved_in: bool,
    /// What the person knows of what is being done.
    told: Option<&'static str>,
    /// When a box that does not answer has failed to boot; set when it is first asked.
    deadline: Option<Instant>,
}

impl<'a, B: Backend, R: Fn(Note<'_>) + Send + Sync> Attempt<'a, B, R> {
    pub(super) fn new(
        ensurer: &'a Ensurer<B>,
        wanted: &Blueprint,
        goal: Goal,
        report: &'a R,
        container: Option<Container>,
    ) -> Self {
        Self {
            ensurer,
            wanted: wanted.clone(),
            goal,
            report,
            user_ca: None,
            host_key: None,
            observed: Observed { container, ..Observed::default() },
            turn: None,
            place: None,
            spare_address: None,
            moved_in: false,
            told: None,
            deadline: None,
        }
    }

    pub(super) fn with_user_ca(self, user_ca: &'a UserCa) -> Self {
        Self { user_ca: Some(user_ca), ..self }
    }

    /// Goes on until the box answers or nothing more can be done. Returns its public host key too.
    pub(super) async fn answer(mut self) -> Result<(Answering, String), EnsureError> {
        match self.converge().await? {
            Some(answering) => {
                let host_key = self.write_files().await?;
                if self.wanted.spare.is_some() && !self.observed.started && !self.moved_in {
                    self.make_user().await?;
                }
                self.ensurer.remember(&self.wanted.id, &answering.boot);
                Ok((answering, host_key))
            }
            None => Err(EnsureError::Unsettled),
        }
    }

    /// Goes on until the goal, which is not that it answers, is reached.
    pub(super) async fn finish(mut self) -> Result<(), EnsureError> {
        self.converge().await.map(drop)
    }

    async fn converge(&mut self) -> Result<Option<Answering>, EnsureError> {
        for _ in 0..STEPS_MAX {
            match next_step(self.goal, &self.wanted, &self.observed) {
                Ok(Step::LookAround) => self.look_around().await?,
                Ok(Step::Admit) => self.admit().await?,
                Ok(Step::Perform(change)) => self.perform(change, None).await?,
                Ok(Step::Both(one, other)) => self.perform(one, Some(other)).await?,
                Ok(Step::Wait) => {
                    sleep(WAIT).await;
                    self.look().await?;
                }
                // A spare box's sshd has answered before, and the box has just now.
                Ok(Step::Probe { .. }) if self.moved_in => {
                    return Ok(self.observed.container.as_ref().and_then(Answering::of));
                }
                Ok(Step::Probe { .. }) => {
                    if let Some(answering) = self.await_answer().await? {
                        return Ok(Some(answering));
                    }
                }
                Ok(Step::Done) => return Ok(None),
                Err(Trouble::BootFailed { exit_code }) => {
                    let last_word = self.log_last_words().await;
                    return Err(EnsureError::BootFailed { exit_code, last_word });
                }
                Err(trouble) => return Err(trouble.into()),
            }
        }
        Err(EnsureError::Unsettled)
    }

    /// Whether the box is to run in the end.
    fn is_going_up(&self) -> bool {
        matches!(self.goal, Goal::Answering { .. })
    }

    fn progress(&self, text: &str) {
        (self.report)(Note::Progress(text));
    }

    /// The first look at all that bears on the box. Unless it runs already there will be something to do, so
    /// the look waits for this attempt's turn: what it shows must still be so when it is acted on.
    async fn look_around(&mut self) -> Result<(), EnsureError> {
        let running =
            matches!(&self.observed.container, Some(Container { state: State::Running { .. }, .. }));
        if self.is_going_up() && !running {
            self.take_turn().await?;
        }
        let (ensurer, wanted) = (self.ensurer, self.wanted.clone());
        let (host, looked) = tokio::join!(ensurer.backend.host(&wanted), self.look());
        self.observed.host = Some(host?);
        looked
    }

    async fn look(&mut self) -> Result<(), EnsureError> {
        let backend = &self.ensurer.backend;
        loop {
            let wanted = &self.wanted;
            let (container, around) =
                tokio::try_join!(backend.container(&wanted.names), self.surroundings())?;
            let claim = around.claim.as_ref().filter(|labels| wanted.owns(labels));
            let spare = claim.and_then(claims::claimed).filter(|_| wanted.spare.is_none());
            self.observed.container = container;
            self.observed.around = Some(around);
            match spare {
                Some(spare) => self.live_in(&spare),
                None => return Ok(()),
            }
        }
    }

    /// What is around the box. Subnets that are kept for others count as theirs already.
    async fn surroundings(&self) -> Result<Surroundings, Error> {
        let kept = self.ensurer.admission.subnets_of_others(&self.wanted.id);
        let mut around = self.ensurer.backend.surroundings(&self.wanted).await?;
        around.subnets.extend(kept);
        Ok(around)
    }

    /// The box was found to live in a spare one, which has other names and files.
    fn live_in(&mut self, spare: &DevBoxId) {
        self.observed.claimed = self.observed.spare.as_ref() == Some(spare);
        self.host_key = None;
        self.ensurer.with_claims(|claims| claims.insert(self.wanted.id.clone(), spare.clone()));
        self.ensurer.spares.hand_over(spare);
        self.wanted = self.wanted.clone().living_in(&self.ensurer.config, spare);
    }

    /// Makes the user of a box that booted as a spare one and was not told, or not heard to the end, whose it is.
    /// What is made already stays.
    async fn make_user(&self) -> Result<(), EnsureError> {
        let begun = Instant::now();
        let made = self.ensurer.backend.run(&self.wanted.names, &MAKE_USER).await?;
        made.ok_or(EnsureError::Unsettled).and_then(user_made)?;
        info!(ms = millis(begun), "make user: done");
        Ok(())
    }

    /// Gives the container the box's name, and has the box make its user meanwhile.
    async fn adopt(&mut self) -> Result<bool, EnsureError> {
        let tell = async {
            let begun = Instant::now();
            let address = self.spare_address.filter(|_| self.observed.claimed)?;
            let moved = self.ensurer.backend.move_in(address).await?;
            info!(ms = millis(begun), "move in: done");
            Some(moved)
        };
        let (adopted, moved) = tokio::join!(self.make(&Change::Adopt), tell);
        if let Some(ran) = moved {
            user_made(ran)?;
            self.moved_in = true;
        }
        adopted
    }

    /// Counts what the other boxes take, and takes this one's part, while no other attempt counts.
    async fn admit(&mut self) -> Result<(), EnsureError> {
        let ensurer = self.ensurer;
        let _alone = ensurer.admitting.acquire().await.map_err(|_| EnsureError::ShuttingDown)?;
        self.look().await?;
        let boxes = self.observed.around.as_ref().map(|around| around.boxes.as_slice()).unwrap_or_default();
        let others = ensurer.admission.others(&self.wanted.id, boxes, &ensurer.config);
        self.observed.others = Some(others);
        // What is refused takes nothing: the loop ends with the reason.
        if next_step(self.goal, &self.wanted, &self.observed).is_ok() {
            let spare = self.take_spare();
            let subnet = if spare.is_none() { self.subnet_to_be() } else { None };
            self.place = Some(ensurer.admission.admit(&self.wanted.id, subnet));
            self.spare_address = spare.as_ref().map(|(_, address)| *address);
            self.observed.spare = spare.map(|(id, _)| id);
        }
        Ok(())
    }

    /// What the network of a box without one is to be, so that of many boxes that are made at once only as many are begun
    /// as there are networks.
    fn subnet_to_be(&self) -> Option<Ipv4Net> {
        let around = self.observed.around.as_ref().filter(|around| around.network.is_none())?;
        network::next_free(self.wanted.pool, &around.subnets).ok()
    }

    /// A spare box with its address, for one that is not there yet and would be made alike.
    fn take_spare(&self) -> Option<(DevBoxId, Ipv4Addr)> {
        let usual = &self.ensurer.config.devbox.settings;
        let (wanted, observed) = (&self.wanted, &self.observed);
        let alike = wanted.image == usual.image && wanted.limits.disk == usual.limits.disk;
        let nothing = observed.container.is_none() && observed.around.as_ref().is_some_and(is_nothing_there);
        let image_id = observed.host.as_ref().and_then(|host| host.image_id.as_deref());
        let image_id = image_id.filter(|_| alike && nothing && !wanted.id.is_spare())?;
        self.ensurer.spares.take(image_id)
    }

    /// Writes what `/etc/boxgate` shows, once, and returns the public host key.
    async fn write_files(&mut self) -> Result<String, EnsureError> {
        if let Some(host_key) = &self.host_key {
            return Ok(host_key.clone());
        }
        let host_key = write_files(self.wanted.clone(), self.user_ca.cloned()).await?;
        self.host_key = Some(host_key.clone());
        Ok(host_key)
    }

    async fn take_turn(&mut self) -> Result<(), EnsureError> {
        let starting = &self.ensurer.starting;
        let turn = if let Ok(turn) = starting.try_acquire() {
            turn
        } else {
            self.progress("waiting for other boxes to start");
            starting.acquire().await.map_err(|_| EnsureError::ShuttingDown)?
        };
        self.turn = Some(turn);
        Ok(())
    }

    /// Makes a change, and another one meanwhile.
    async fn perform(&mut self, change: Change, other: Option<Change>) -> Result<(), EnsureError> {
        if self.is_going_up() && self.turn.is_none() {
            self.take_turn().await?;
            return self.look().await;
        }
        self.tell(&change);
        // Those of a claimed box are the spare's, which is known after the claim.
        if self.is_going_up() && !matches!(change, Change::Claim { .. }) {
            self.write_files().await?;
        }
        let this = &*self;
        let made = match other {
            Some(other) => tokio::try_join!(this.make_or_choose(&change), this.make(&other))?.0,
            None if change == Change::Adopt => self.adopt().await?,
            None => this.make_or_choose(&change).await?,
        };
        self.observed.started |= made && change == Change::Start;
        self.look().await?;
        if matches!(change, Change::Claim { .. }) {
            self.observed.spare = None;
        }
        Ok(())
    }

    async fn make_or_choose(&self, change: &Change) -> Result<bool, EnsureError> {
        match change {
            Change::CreateNetwork { .. } => self.create_network().await,
            change => self.make(change).await,
        }
    }

    /// Chooses a subnet and takes it, while no other attempt chooses.
    async fn create_network(&self) -> Result<bool, EnsureError> {
        let choosing = &self.ensurer.choosing_subnet;
        let _alone = choosing.acquire().await.map_err(|_| EnsureError::ShuttingDown)?;
        let around = self.surroundings().await?;
        match around.network {
            None => self.make(&create_network(&self.wanted, &around)?).await,
            Some(_) => Ok(false),
        }
    }

    /// Whether the change was made: where somebody else was faster, another look tells more.
    async fn make(&self, change: &Change) -> Result<bool, EnsureError> {
        if *change == Change::Start {
            // It may have been long since it was asked last.
            self.ensurer.firewall.state()?;
        }
        let begun = Instant::now();
        (self.report)(Note::Event(Event::before(change)));
        match self.ensurer.backend.perform(&self.wanted, change).await {
            Ok(()) => {
                info!(ms = millis(begun), "{change}: done");
                Ok(true)
            }
            Err(conflict @ Error::Conflict { .. }) => {
                warn!("{conflict}; looking again");
                sleep(WAIT).await;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Says what is being done, when it is known and before it is done. What leads up to a box that answers is
    /// one thing, told once.
    fn tell(&mut self, change: &Change) {
        let text = match (change, self.goal) {
            (Change::Stop, _) => "stopping the box",
            (Change::Claim { .. }, _) => "your box is ready, moving you in",
            (Change::RemoveContainer, Goal::Answering { .. }) => {
                "moving your box to its new image, home and Docker data stay"
            }
            (Change::RemoveContainer, Goal::Unmade) => "removing its container, home and Docker data stay",
            (Change::RemoveVolume(_) | Change::EndRestore, _) if self.is_half_restored() => {
                "removing what there is of a restore that did not come to its end"
            }
            (
                Change::RemoveContainer
                | Change::RemoveVolume(_)
                | Change::RemoveNetwork
                | Change::RemoveClaim
                | Change::EndRestore,
                _,
            ) => "removing the box and its data",
            _ if self.told.is_some() => return,
            _ => self.way_up(),
        };
        if self.told != Some(text) {
            self.told = Some(text);
            self.progress(text);
        }
    }

    fn way_up(&self) -> &'static str {
        match self.observed.container.as_ref().map(|container| &container.state) {
            None if self.has_volumes() => "making your box anew, with your home as it was",
            None | Some(State::Created) => "making your box (first login, a few seconds)",
            Some(State::Running { .. }) => "mending your box's network",
            Some(_) => "waking your box",
        }
    }

    fn is_half_restored(&self) -> bool {
        self.observed.around.as_ref().is_some_and(|around| around.restoring.is_some())
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
                self.progress("waiting for it to boot");
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
        let (into, mut lines) = mpsc::channel(LAST_WORDS as usize);
        let read = self.ensurer.backend.console(&self.wanted.names, LAST_WORDS, false, into);
        let log = async {
            let mut last = None;
            while let Some(line) = lines.recv().await {
                warn!("the box wrote: {line}");
                last = Some(line);
            }
            last
        };
        let (read, last) = tokio::join!(read, log);
        if let Err(error) = read {
            warn!("what the box wrote cannot be read: {error}");
        }
        last
    }
}

fn user_made(Ran { exit_code, output }: Ran) -> Result<(), EnsureError> {
    match exit_code {
        0 => Ok(()),
        _ => Err(EnsureError::NoUser { exit_code, output: one_line(&String::from_utf8_lossy(&output)) }),
    }
}

/// Milliseconds since `begun`, for the log.
fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
