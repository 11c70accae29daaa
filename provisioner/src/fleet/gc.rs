//! Removes what no box needs. Each removal is a flight of the box that it was of, which looks again first: somebody
//! may be logging in.

use std::collections::{BTreeSet, HashSet};
use std::fs;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{GcReport, Orphan, OrphanKind};
use futures_util::future::join_all;

use super::Fleet;
use super::flight::{Purpose, landed};
use crate::backend::{self, Backend};
use crate::leftovers::{self, Leftover};
use crate::objects::Names;

impl<B: Backend> Fleet<B> {
    /// Finds what is left over, and removes what may go if `remove`.
    ///
    /// # Errors
    /// What the engine said instead of what there is.
    pub async fn gc(&self, remove: bool) -> Result<GcReport, backend::Error> {
        let found = self.leftovers().await?;
        if remove {
            let of: HashSet<DevBoxId> = found.iter().filter_map(|leftover| leftover.of.clone()).collect();
            let tidied = of.iter().map(|id| async move { landed(self.ask(id, &Purpose::Tidy, "gc")).await });
            drop(join_all(tidied).await);
        }
        let left: HashSet<String> = if remove {
            self.leftovers().await?.into_iter().map(|leftover| leftover.name).collect()
        } else {
            HashSet::new()
        };
        let faults = self.shared.failed().clone();
        let orphan = |leftover: Leftover| {
            let may_go = leftover.of.is_some();
            let removed = remove && may_go && !left.contains(&leftover.name);
            let fault = leftover.of.filter(|_| remove && !removed).and_then(|id| faults.get(&id).cloned());
            Orphan { kind: leftover.kind, name: leftover.name, reason: leftover.reason, removed, fault }
        };
        let mut orphans: Vec<_> = found.into_iter().map(orphan).collect();
        orphans.extend(self.old_images(remove).await?);
        Ok(GcReport { orphans })
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, backend::Error> {
        let ensurer = &self.shared.ensurer;
        let provisioner = &ensurer.config().provisioner;
        let inventory = ensurer.backend().inventory(&provisioner.instance).await?;
        let entries = fs::read_dir(provisioner.state_dir.join("boxes")).into_iter().flatten().flatten();
        let directories: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let moves = ensurer.backend().moves(&provisioner.instance).await?;
        let busy: BTreeSet<DevBoxId> = self.shared.flights().keys().cloned().collect();
        let mut found = leftovers::find(&inventory, &directories, &busy, &provisioner.instance);
        found.extend(moves.into_iter().filter(|id| !busy.contains(id)).map(|id| Leftover {
            kind: OrphanKind::Container,
            name: Names::of(&provisioner.instance, &id).mover,
            reason: format!("the backup or the restore of box {id} that it was for did not come to its end"),
            of: Some(id),
        }));
        Ok(found)
    }
}
