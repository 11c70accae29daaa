//! The boxes as they are listed: what the engine shows, what is being done to them, who uses them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::BoxSummary;
use futures_util::{StreamExt, stream};

use super::Fleet;
use crate::backend::{self, Backend, Container, Host, State as ContainerState};
use crate::blueprint::Blueprint;
use crate::objects::Names;
use crate::reconcile::{self, Trouble};
use crate::state::State;

/// Boxes that are asked what they use at once.
const ASKED_MAX: usize = 32;

impl<B: Backend> Fleet<B> {
    /// Every box that has a container or a home, or gets one, sorted by id.
    ///
    /// # Errors
    /// What the engine said instead.
    pub async fn boxes(&self) -> Result<Vec<BoxSummary>, backend::Error> {
        let ensurer = &self.shared.ensurer;
        let mut hosts = Hosts::default();
        let mut boxes = Vec::new();
        for (id, found) in self.found().await? {
            let host = hosts.of(ensurer.backend(), &Blueprint::new(ensurer.config(), id.clone())).await?;
            boxes.push(self.summary(id, found, &host));
        }
        Ok(boxes)
    }

    /// What there is of each box.
    async fn found(&self) -> Result<BTreeMap<DevBoxId, Found>, backend::Error> {
        let ensurer = &self.shared.ensurer;
        let instance = &ensurer.config().provisioner.instance;
        let inventory = ensurer.backend().inventory(instance).await?;
        let claims = inventory.claims(instance);
        let mut found = BTreeMap::<_, Found>::new();
        for (name, labels) in inventory.volumes {
            let Some(id) = claims.devbox_of(&labels, instance) else { continue };
            let names = claims.names(instance, &id);
            if name == names.home || name == names.restoring {
                found.entry(id).or_default().half_restored |= name == names.restoring;
            }
        }
        for id in self.shared.flights().keys() {
            found.entry(id.clone()).or_default();
        }
        for container in inventory.containers {
            if let Some(id) = claims.devbox_of(&container.labels, instance)
                && container.name == Names::of(instance, &id).container
            {
                self.shared.images.see(&container.image_id);
                found.entry(id).or_default().container = Some(container);
            }
        }
        Ok(found)
    }

    /// The same with what each box uses, as far as the engine says.
    ///
    /// # Errors
    /// As for [`Self::boxes`].
    pub async fn boxes_with_usage(&self) -> Result<Vec<BoxSummary>, backend::Error> {
        let instance = &self.shared.ensurer.config().provisioner.instance;
        let ask = |summary: BoxSummary| async move {
            if summary.address.is_none() {
                return summary;
            }
            let names = Names::of(instance, &summary.id);
            // One that ended meanwhile, or an engine too busy to say: the list is worth having all the same.
            let usage = self.shared.ensurer.backend().usage(&names).await.ok().flatten();
            BoxSummary { usage, ..summary }
        };
        let boxes = self.boxes().await?;
        let asked = stream::iter(boxes).map(ask).buffered(ASKED_MAX).collect::<Vec<_>>();
        let (mut boxes, disk) = tokio::join!(asked, self.disk());
        let Some(disk) = disk else { return Ok(boxes) };
        for devbox in &mut boxes {
            let names = self.shared.ensurer.blueprint(&devbox.id).await?.names;
            devbox.disk_bytes = disk.of(&names);
        }
        Ok(boxes)
    }

    /// The boxes of people's whose containers run.
    pub(super) async fn running(&self) -> Result<Vec<DevBoxId>, backend::Error> {
        let found = self.found().await?.into_iter();
        let running = |(_, found): &(_, Found)| address(found.container.as_ref()).is_some();
        Ok(found.filter(running).map(|(id, _)| id).filter(|id| !id.is_spare()).collect())
    }

    /// Whether something is being done to the box, or it is listed.
    ///
    /// # Errors
    /// What the engine said instead.
    pub async fn has(&self, id: &DevBoxId) -> Result<bool, backend::Error> {
        Ok(self.found().await?.contains_key(id))
    }

    fn summary(&self, id: DevBoxId, found: Found, host: &Host) -> BoxSummary {
        let shared = &self.shared;
        let Found { container, half_restored } = found;
        let flying = shared.flights().get(&id).map(super::Flight::state);
        let half = half_restored.then(|| Trouble::HalfRestored.to_string());
        let failed = half.or_else(|| shared.failed().get(&id).cloned());
        let state = match (flying, State::observed(container.as_ref()), failed) {
            (Some(state), ..) => state,
            // Its container may run all the same: nobody has seen it answer.
            (None, _, Some(reason)) => State::Failed { reason },
            (None, observed, None) => observed,
        };
        let address = address(container.as_ref());
        BoxSummary {
            reason: match &state {
                State::Failed { reason } => Some(reason.clone()),
                _ => None,
            },
            state: state.listed(),
            since: container.as_ref().and_then(since),
            container: Names::of(&shared.ensurer.config().provisioner.instance, &id).container,
            outdated: container.as_ref().is_some_and(|container| reconcile::outdated(container, host)),
            isolated: container
                .as_ref()
                .map_or(shared.ensurer.config().devbox.runtime.isolates(), Container::isolates),
            image: container.map(|container| container.image),
            address,
            connections: shared.uses.connections(&id),
            idle_seconds: address.map(|_| shared.uses.idle(&id).as_secs()),
            keep_until: shared.leases.until(&id).map(|until| until.to_string()),
            limits: shared.ensurer.config().settings(&id).limits.into(),
            usage: None,
            disk_bytes: None,
            id,
        }
    }
}

/// What there is of a box.
#[derive(Debug, Default)]
struct Found {
    container: Option<Container>,
    /// Whether it is no box yet: its restore goes on, or did not come to its end.
    half_restored: bool,
}

/// Where a running container is on its box's network.
fn address(container: Option<&Container>) -> Option<Ipv4Addr> {
    match container?.state {
        ContainerState::Running { address, .. } => address,
        _ => None,
    }
}

fn since(container: &Container) -> Option<String> {
    match &container.state {
        ContainerState::Running { since, .. } | ContainerState::Stopped { since, .. } => Some(since.clone()),
        _ => None,
    }
}

/// What the engine offers, asked once for each image.
#[derive(Default)]
struct Hosts {
    known: BTreeMap<String, Host>,
}

impl Hosts {
    async fn of(&mut self, backend: &impl Backend, devbox: &Blueprint) -> Result<Host, backend::Error> {
        if let Some(host) = self.known.get(&devbox.image) {
            return Ok(host.clone());
        }
        let host = backend.host(devbox).await?;
        self.known.insert(devbox.image.clone(), host.clone());
        Ok(host)
    }
}
