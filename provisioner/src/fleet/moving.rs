//! Archives of boxes, made and taken. Each is a flight of its box, like any other order: a login waits for its end.

use boxgate_config::DevBoxId;
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::info;

use super::Fleet;
use super::flight::{Once, Purpose, Status};
use crate::backend::{self, Backend};

/// Pieces of an archive that may wait for a slow reader; then tar waits too.
const QUEUE: usize = 16;

impl<B: Backend> Fleet<B> {
    /// Makes the archive of a box, which comes out of the receiver. Dropping that ends it.
    #[must_use]
    pub fn back_up(&self, id: &DevBoxId, client: &str) -> (Status, mpsc::Receiver<Bytes>) {
        let (into, archive) = mpsc::channel(QUEUE);
        (self.ask(id, &Purpose::Backup(Once::new(into)), client), archive)
    }

    /// Makes a box of the archive that is put into the sender. Dropping that before the archive's end ends it.
    #[must_use]
    pub fn restore(&self, id: &DevBoxId, client: &str) -> (Status, mpsc::Sender<Bytes>) {
        let (archive, from) = mpsc::channel(QUEUE);
        (self.ask(id, &Purpose::Restore(Once::new(from)), client), archive)
    }

    /// Removes what an earlier provisioner packed or unpacked volumes with when it was killed.
    pub(super) async fn end_moves(&self) -> Result<(), backend::Error> {
        let ensurer = &self.shared.ensurer;
        for id in ensurer.backend().moves(&ensurer.config().provisioner.instance).await? {
            info!(devbox = %id, "its backup or restore did not come to its end");
            drop(self.ask(&id, &Purpose::Tidy, "an earlier start"));
        }
        Ok(())
    }
}
