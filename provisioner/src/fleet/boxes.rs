//! The boxes as they are listed: what the engine shows, what is being done to them, who uses them.

use std::collections::{BTreeMap, BTreeSet};

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{BoxSummary, Limits};
use futures_util::{StreamExt, stream};

use super::Fleet;
use crate::backend::{self, Backend, Container, Host, State as ContainerState};
use crate::blueprint::Blueprint;
use crate::objects::{self, Names};
use crate::reconcile;
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
        let instance = &ensurer.config().provisioner.instance;
        let inventory = ensurer.backend().inventory(instance).await?;
        let mut containers: BTreeMap<DevBoxId, Container> = BTreeMap::new();
        for container in inventory.containers {
            if let Some(id) = objects::devbox_of(&container.labels, instance)
                && container.name == Names::of(instance, &id).container
            {
                containers.insert(id, container);
            }
        }
        let homes = inventory.volumes.into_iter().filter_map(|(name, labels)| {
            objects::devbox_of(&labels, instance).filter(|id| name == Names::of(instance, id).home)
        });
        let ids: BTreeSet<DevBoxId> =
            homes.chain(containers.keys().cloned()).chain(self.shared.flights().keys().cloned()).collect();
        let mut hosts = Hosts::default();
        let mut boxes = Vec::new();
        for id in ids {
            let container = containers.remove(&id);
            let host = hosts.of(ensurer.backend(), &Blueprint::new(ensurer.config(), id.clone())).await?;
            boxes.push(self.summary(id, container, &host));
        }
        Ok(boxes)
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
        Ok(stream::iter(self.boxes().await?).map(ask).buffered(ASKED_MAX).collect().await)
    }

    /// The boxes whose containers run.
    pub(super) async fn running(&self) -> Result<Vec<DevBoxId>, backend::Error> {
        let boxes = self.boxes().await?;
        Ok(boxes.into_iter().filter(|summary| summary.address.is_some()).map(|summary| summary.id).collect())
    }

    /// Whether something is being done to the box, or it is listed.
    ///
    /// # Errors
    /// What the engine said instead.
    pub async fn has(&self, id: &DevBoxId) -> Result<bool, backend::Error> {
        Ok(self.boxes().await?.iter().any(|summary| summary.id == *id))
    }

    fn summary(&self, id: DevBoxId, container: Option<Container>, host: &Host) -> BoxSummary {
        let shared = &self.shared;
        let flying = shared.flights().get(&id).map(super::Flight::state);
        let failed = shared.failed().get(&id).cloned();
        let state = match (flying, State::observed(container.as_ref()), failed) {
            (Some(state), ..) => state,
            // Its container may run all the same: nobody has seen it answer.
            (None, _, Some(reason)) => State::Failed { reason },
            (None, observed, None) => observed,
        };
        let runs = container.as_ref().and_then(|container| match container.state {
            ContainerState::Running { address, .. } => address,
            _ => None,
        });
        let settings = shared.ensurer.config().settings(&id);
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
            address: runs,
            connections: shared.uses.connections(&id),
            idle_seconds: runs.map(|_| shared.uses.idle(&id).as_secs()),
            keep_until: shared.leases.until(&id).map(|until| until.to_string()),
            limits: Limits {
                cpus: settings.limits.cpus,
                memory_bytes: settings.limits.memory.as_u64(),
                pids: settings.limits.pids,
                disk_bytes: settings.limits.disk.map(|disk| disk.as_u64()),
            },
            usage: None,
            id,
        }
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
