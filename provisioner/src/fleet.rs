//! All boxes, and one task per box at a time: whoever asks for what is being done to a box joins in, whoever
//! asks for something else waits until it is done.
//!
//! ```text
//! ensure(alice) ─┐
//! ensure(alice) ─┼─► flight of alice ──► Ensurer     every asker sees the latest progress, then the result
//! ensure(alice) ─┘
//! stop(alice) ────── waits ──► flight of alice
//! ensure(bob) ─────► flight of bob ────► Ensurer
//! ```
//!
//! A flight goes on when its askers go away, and ends with its result or with the fleet's shutdown. A login that
//! comes while its box is being stopped waits for that and wakes the box: whoever comes gets in.
//!
//! `moving` takes their data out of this host and in, `boxes` lists them, `disk` says what they take of it, `uses` and `leases` which of them idle, `gc` removes what no box
//! needs, `images` knows the images among that, and `spares` keeps boxes ready for who has none.

mod boxes;
mod clusters;
mod disk;
mod flight;
mod gc;
mod images;
mod leases;
mod moving;
mod spares;
mod uses;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{Engine, Health, Kept, Order, UseReport};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::backend::{self, Backend};
use crate::devbox_files::UserCa;
use crate::ensure::{EnsureError, Ensurer};
use crate::failure;
use crate::objects::Names;
use crate::reconcile::Trouble;
pub use clusters::ClustersError;
use disk::DiskUse;
use flight::{Flight, Purpose};
pub use flight::{Outcome, Status, lost};
use images::Images;
use leases::Leases;
use uses::Uses;

/// Boxes that may be asked for at once. More than these wait for their turns longer than anyone would.
const FLIGHTS_MAX: usize = 1024;

/// All boxes of the installation.
pub struct Fleet<B> {
    shared: Arc<Shared<B>>,
}

struct Shared<B> {
    ensurer: Ensurer<B>,
    flights: Mutex<HashMap<DevBoxId, Flight>>,
    /// Why the last flights of boxes failed, until the next ones.
    failed: Mutex<HashMap<DevBoxId, String>>,
    uses: Uses,
    leases: Leases,
    disk: DiskUse,
    images: Images,
    tasks: TaskTracker,
    shutdown: CancellationToken,
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

    fn failed(&self) -> MutexGuard<'_, HashMap<DevBoxId, String>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Backend> Fleet<B> {
    /// Cancelling `shutdown` ends every flight at its next pause; what it made so far stays.
    #[must_use]
    pub fn new(ensurer: Ensurer<B>, shutdown: CancellationToken) -> Self {
        let state_dir = &ensurer.config().provisioner.state_dir;
        let (leases, images) = (Leases::new(state_dir), Images::new(state_dir));
        let shared = Shared {
            ensurer,
            flights: Mutex::default(),
            failed: Mutex::default(),
            uses: Uses::default(),
            leases,
            disk: DiskUse::default(),
            images,
            tasks: TaskTracker::new(),
            shutdown,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes or wakes a box, or joins in. `client` is for the log.
    #[must_use]
    pub fn ensure(&self, id: &DevBoxId, user_ca: &UserCa, client: &str) -> Status {
        if id.is_spare() {
            return flight::refused(id, &Trouble::NoSuchBox.into());
        }
        self.ask(id, &Purpose::Login(user_ca.clone()), client)
    }

    /// Does to a box what somebody orders, or joins in.
    #[must_use]
    pub fn order(&self, id: &DevBoxId, order: Order, client: &str) -> Status {
        self.ask(id, &Purpose::Order(order), client)
    }

    fn ask(&self, id: &DevBoxId, purpose: &Purpose, client: &str) -> Status {
        match self.try_ask(id, purpose, client) {
            Ok(status) => status,
            Err((other, says)) => self.wait_for_turn(other, says, id, purpose, client),
        }
    }

    /// The flight that is asked for, or the status of another one that comes before it, with what to say of that.
    fn try_ask(&self, id: &DevBoxId, purpose: &Purpose, client: &str) -> Result<Status, (Status, Outcome)> {
        let mut flights = self.shared.flights();
        match flights.get(id) {
            Some(flight) if flight.purpose == *purpose => Ok(flight.status.clone()),
            Some(flight) => Err((flight.status.clone(), flight::waits(&flight.purpose))),
            None if flights.len() >= FLIGHTS_MAX => Ok(flight::refused(id, &EnsureError::Busy)),
            None => Ok(self.launch(&mut flights, id, purpose, client)),
        }
    }

    /// Something else is done to the box: this asker's turn comes after, and she hears that she waits.
    fn wait_for_turn(
        &self,
        mut other: Status,
        says: Outcome,
        id: &DevBoxId,
        purpose: &Purpose,
        client: &str,
    ) -> Status {
        let (sender, status) = watch::channel(Some(says));
        let fleet = self.clone();
        let (id, purpose, client) = (id.clone(), purpose.clone(), client.to_owned());
        self.shared.tasks.spawn(async move {
            let mut own = loop {
                while other.changed().await.is_ok() {}
                match fleet.try_ask(&id, &purpose, &client) {
                    Ok(own) => break own,
                    Err((next, says)) => {
                        other = next;
                        sender.send_replace(Some(says));
                    }
                }
            };
            own.mark_changed();
            while own.changed().await.is_ok() {
                let latest = own.borrow_and_update().clone();
                if latest.is_some() {
                    sender.send_replace(latest);
                }
            }
        });
        status
    }

    fn launch(
        &self,
        flights: &mut HashMap<DevBoxId, Flight>,
        id: &DevBoxId,
        purpose: &Purpose,
        client: &str,
    ) -> Status {
        let (flight, task) = flight::prepare(&self.shared, id, purpose, client);
        let status = flight.status.clone();
        flights.insert(id.clone(), flight);
        self.shared.tasks.spawn(task);
        status
    }

    /// Finishes the removals that an earlier provisioner did not.
    pub fn finish_removals(&self) {
        for id in self.shared.ensurer.removals_due() {
            info!(devbox = %id, "finishing its removal");
            drop(self.order(&id, Order::Remove, "an earlier start"));
        }
    }

    /// Stops the boxes in which nobody did anything for as long as they may idle.
    ///
    /// # Errors
    /// What the engine said when it was asked which boxes run.
    pub async fn stop_idle(&self) -> Result<(), backend::Error> {
        let ensurer = &self.shared.ensurer;
        for id in self.running().await? {
            let Some(limit) = ensurer.config().settings(&id).idle_stop.limit() else { continue };
            if self.shared.leases.holds(&id) {
                continue;
            }
            // The look and the launch are one step: whoever comes in between is seen, or waits for the stop.
            let mut flights = self.shared.flights();
            let idle = self.shared.uses.idle(&id);
            if idle >= limit && !flights.contains_key(&id) {
                info!(devbox = %id, idle_s = idle.as_secs(), "stopping it: nobody does anything in it");
                drop(self.launch(&mut flights, &id, &Purpose::IdleStop, "the idle limit"));
            }
        }
        Ok(())
    }

    /// Takes what a gateway says of the connections through it.
    pub fn report_use(&self, report: &UseReport) {
        self.shared.uses.report(report);
    }

    /// Keeps a box running for `time` from now on, whether somebody uses it or not.
    ///
    /// # Errors
    /// Why it cannot be written down.
    pub fn keep(&self, id: &DevBoxId, time: Duration) -> Result<Kept, EnsureError> {
        Ok(Kept { until: self.shared.leases.keep(id, time)?.map(|until| until.to_string()) })
    }

    /// Sends what a box's console got to `into`, and with `follow` what comes until it ends.
    ///
    /// # Errors
    /// What the engine said instead.
    pub async fn console(
        &self,
        id: &DevBoxId,
        lines: u32,
        follow: bool,
        into: mpsc::Sender<String>,
    ) -> Result<(), backend::Error> {
        let ensurer = &self.shared.ensurer;
        let names = Names::of(&ensurer.config().provisioner.instance, id);
        ensurer.backend().console(&names, lines, follow, into).await
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

    /// Waits until the last flight has ended. Call it after the shutdown was asked for.
    pub async fn landed(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Looks after the boxes until the shutdown: finishes what was left, stops what idles, keeps spares ready.
    pub async fn look_after(&self) {
        self.finish_removals();
        if let Err(error) = self.end_moves().await {
            warn!("cannot look for backups and restores that did not come to their end: {error}");
        }
        let every = self
            .shared
            .ensurer
            .config()
            .shortest_idle_stop()
            .map_or(REAP_MAX, |shortest| (shortest / 4).clamp(REAP_MIN, REAP_MAX));
        let look = async {
            loop {
                tokio::time::sleep(every).await;
                if let Err(error) = self.stop_idle().await {
                    warn!("cannot look for boxes that idle: {error}");
                }
            }
        };
        let both = async { tokio::join!(look, self.keep_spares()) };
        self.shared.shutdown.run_until_cancelled(both).await;
    }
}

/// Between two looks for boxes that idle.
const REAP_MIN: Duration = Duration::from_millis(250);
const REAP_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
