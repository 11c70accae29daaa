//! Keeps spare boxes ready: makes what is missing, removes what nobody should get any more.
//!
//! Whoever logs in comes first: a spare is made while nobody waits for a box.

use std::collections::BTreeMap;
use std::time::Duration;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::Order;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::Fleet;
use super::flight::{Purpose, landed};
use crate::backend::{self, Backend, Container, Host, State};
use crate::blueprint::Blueprint;
use crate::objects;
use crate::reconcile::outdated;

/// Between two rounds, when nobody takes a spare in between.
const ROUND: Duration = Duration::from_secs(30);
/// Whoever got a spare is to have the machine to herself until her first session has begun.
const SETTLE: Duration = Duration::from_secs(5);
/// Between two looks at whether people wait for their boxes.
const LOOK: Duration = Duration::from_millis(100);
/// A spare is made then in spite of them.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who says in the log that she wants them.
const CLIENT: &str = "spare_boxes";

impl<B: Backend> Fleet<B> {
    pub(super) async fn keep_spares(&self) {
        let ensurer = &self.shared.ensurer;
        loop {
            if let Err(error) = self.tend_spares().await {
                warn!("cannot look for spare boxes: {error}");
            } else if ensurer.config().provisioner.spare_boxes == 0 {
                // Those of an earlier configuration are gone.
                return;
            }
            tokio::select! {
                () = sleep(ROUND) => {}
                () = async { ensurer.spares().fewer().await; sleep(SETTLE).await } => {}
            }
        }
    }

    /// One round.
    ///
    /// # Errors
    /// What the engine said instead of which spares there are.
    pub async fn tend_spares(&self) -> Result<(), backend::Error> {
        let spares = self.shared.ensurer.spares();
        let wanted = self.shared.ensurer.config().provisioner.spare_boxes;
        let Found { there, next_number } = self.find_spares().await?;
        let host = self.host_of_spares().await?;
        let mut ready = 0;
        for (id, container) in there {
            if spares.is_taken(&id) {
                continue;
            }
            if ready < wanted && self.is_as_new(container.as_ref(), &host) {
                ready += usize::from(self.is_up(&id, container.as_ref()) || self.prepare(&id).await);
            } else if spares.withdraw(&id) {
                landed(self.order(&id, Order::Remove, CLIENT)).await;
            }
        }
        for number in (next_number..).take(wanted.saturating_sub(ready)) {
            self.let_people_in().await;
            // What fails now fails for the others too, and is tried again in the next round.
            if !self.prepare(&DevBoxId::spare(number)).await {
                break;
            }
        }
        Ok(())
    }

    /// Whether whoever gets it gets what she would if it were made for her.
    fn is_as_new(&self, container: Option<&Container>, host: &Host) -> bool {
        let runtime = self.shared.ensurer.config().devbox.runtime.docker_name();
        container.is_some_and(|container| container.runtime == runtime && !outdated(container, host))
    }

    /// What the host offers spares: the same for all of them.
    async fn host_of_spares(&self) -> Result<Host, backend::Error> {
        let ensurer = &self.shared.ensurer;
        ensurer.backend().host(&Blueprint::new(ensurer.config(), DevBoxId::spare(0))).await
    }

    fn is_up(&self, id: &DevBoxId, container: Option<&Container>) -> bool {
        let runs = container.is_some_and(|container| matches!(container.state, State::Running { .. }));
        runs && self.shared.ensurer.spares().is_ready(id)
    }

    async fn prepare(&self, id: &DevBoxId) -> bool {
        landed(self.ask(id, &Purpose::Spare, CLIENT)).await;
        self.shared.ensurer.spares().is_ready(id)
    }

    /// Waits until nobody waits for a box.
    async fn let_people_in(&self) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && !self.shared.flights().is_empty() {
            sleep(LOOK).await;
        }
    }

    async fn find_spares(&self) -> Result<Found, backend::Error> {
        let ensurer = &self.shared.ensurer;
        let instance = &ensurer.config().provisioner.instance;
        let inventory = ensurer.backend().inventory(instance).await?;
        let claims = inventory.claims(instance);
        let containers =
            inventory.containers.into_iter().map(|container| (container.labels.clone(), Some(container)));
        let others =
            inventory.volumes.into_iter().chain(inventory.networks).map(|(_, labels)| (labels, None));
        let mut found = Found { there: BTreeMap::new(), next_number: 1 };
        for (labels, container) in others.chain(containers) {
            let of = objects::devbox_of(&labels, instance);
            let Some((id, number)) = of.and_then(|id| id.spare_number().map(|number| (id, number))) else {
                continue;
            };
            found.next_number = found.next_number.max(number.saturating_add(1));
            if !claims.has(&id) {
                let known = found.there.entry(id).or_default();
                *known = container.or(known.take());
            }
        }
        Ok(found)
    }
}

/// The spare boxes of which there is something, with their containers,
struct Found {
    there: BTreeMap<DevBoxId, Option<Container>>,
    /// and a number that no spare has, nor any that somebody claimed.
    next_number: u32,
}
