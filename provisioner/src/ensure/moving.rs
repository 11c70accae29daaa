//! A box's home and Docker data on their way out of this host and into it.
//!
//! ```text
//! backup    stop ─► pack ─► start again, if it ran
//! restore   nothing there ─► begin restore ─► home ─► docker ─► unpack ─► whole? ─► end restore
//!                                    └── whatever fails: remove home, docker and, last, the mark ──►
//! ```
//!
//! A box is packed at rest: what its programs had half written would be half in the archive, and on kernels where Sysbox cannot map
//! the owners of files it changes them on the disk while the box runs.
//!
//! A restore begins with a mark, an empty volume, and ends with its removal. As long as the mark is there the box is none: no login gets
//! it, and it is listed as failed. So a provisioner that was killed leaves what is known to be half; the next restore, or `rm`, takes it away.

use std::time::Duration;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::Manifest;
use bytes::Bytes;
use jiff::{Timestamp, Unit};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;

use super::{EnsureError, Ensurer, Note};
use crate::archive::{self, Reader, Unfit};
use crate::backend::{Backend, Change, Container, State, Volume};
use crate::blueprint::Blueprint;
use crate::reconcile::{Goal, Trouble, refuse_what_is_not_ours};
use crate::state;

/// How long whoever takes an archive may take nothing of it, and whoever gives one give nothing: until then nobody gets the box.
const STALLED: Duration = Duration::from_secs(10 * 60);
/// Pieces of an archive, of some ten thousand bytes each, between tar and whoever takes or gives them.
const PIECES: usize = 16;

/// An archive as it comes.
struct Source {
    from: mpsc::Receiver<Bytes>,
    reader: Reader,
}

impl Source {
    /// Whether more has come.
    async fn more(&mut self) -> Result<bool, EnsureError> {
        let piece = timeout(STALLED, self.from.recv()).await.map_err(|_| EnsureError::Stalled)?;
        if let Some(piece) = &piece {
            self.reader.push(piece);
        }
        Ok(piece.is_some())
    }

    async fn manifest(&mut self) -> Result<Manifest, EnsureError> {
        loop {
            if let Some(manifest) = self.reader.manifest()? {
                return Ok(manifest.clone());
            }
            if !self.more().await? {
                return Err(Unfit::CutShort.into());
            }
        }
    }

    /// Passes on what is between the archive's ends.
    async fn feed(mut self, into: mpsc::Sender<Bytes>) -> Result<(), EnsureError> {
        loop {
            let piece = self.reader.take();
            // tar says by itself why it takes no more.
            if !piece.is_empty() && into.send(piece).await.is_err() {
                std::future::pending::<()>().await;
            }
            if !self.more().await? {
                break;
            }
        }
        Ok(self.reader.finish()?)
    }
}

impl<B: Backend> Ensurer<B> {
    /// Sends the archive of a box to `into`. The box is stopped meanwhile.
    ///
    /// # Errors
    /// Why there is no archive: what was sent so far is none. The box is what it was before.
    pub async fn back_up(
        &self,
        id: &DevBoxId,
        into: mpsc::Sender<Bytes>,
        report: impl Fn(Note<'_>) + Send + Sync,
    ) -> Result<(), EnsureError> {
        if into.is_closed() {
            return Err(EnsureError::Gone);
        }
        let wanted = self.blueprint(id).await?;
        let container = self.backend.container(&wanted.names).await?;
        report(Note::Seen(state::State::observed(container.as_ref())));
        self.can_be_packed(&wanted, container.as_ref()).await?;
        let ran = matches!(container, Some(Container { state: State::Running { .. }, .. }));
        self.bring(&wanted, Goal::Stopped, &report).await?;
        report(Note::Progress("reading its home and its Docker data"));
        let packed = self.pack(&wanted, into).await;
        if ran {
            report(Note::Progress("starting it again"));
            // The archive is what it is: the next login starts the box, or says why not.
            if let Err(error) = self.bring(&wanted, Goal::Answering { make: false }, &report).await {
                warn!("cannot be started again: {error}");
                report(Note::Progress(&format!("it could not be started again: {error}")));
            }
        }
        packed
    }

    async fn can_be_packed(
        &self,
        wanted: &Blueprint,
        container: Option<&Container>,
    ) -> Result<(), EnsureError> {
        let (host, around) = tokio::try_join!(self.backend.host(wanted), self.backend.surroundings(wanted))?;
        refuse_what_is_not_ours(wanted, container, &around)?;
        if around.restoring.is_some() {
            return Err(Trouble::HalfRestored.into());
        }
        if wanted.id.is_spare()
            || self.removals.is_due(&wanted.id)
            || (container.is_none() && around.home.is_none() && around.docker.is_none())
        {
            return Err(Trouble::NoSuchBox.into());
        }
        for (found, volume) in [(around.home, Volume::Home), (around.docker, Volume::Docker)] {
            if found.is_none() {
                let name = volume.name(&wanted.names).to_owned();
                return Err(Trouble::VolumeMissing { volume, name }.into());
            }
        }
        if host.image_id.is_none() {
            return Err(Trouble::ImageMissing(wanted.image.clone()).into());
        }
        Ok(())
    }

    async fn pack(&self, wanted: &Blueprint, into: mpsc::Sender<Bytes>) -> Result<(), EnsureError> {
        // One of a provisioner that was killed may be there.
        self.backend.end_move(&wanted.names).await?;
        let packed = tokio::select! {
            packed = self.pack_whole(wanted, &into) => packed,
            () = into.closed() => Err(EnsureError::Gone),
        };
        self.end_move(wanted).await;
        packed
    }

    async fn pack_whole(&self, wanted: &Blueprint, into: &mpsc::Sender<Bytes>) -> Result<(), EnsureError> {
        let made_at = Timestamp::now().round(Unit::Second).unwrap_or_default().to_string();
        give(into, archive::head(wanted, made_at)).await?;
        let (packer, mut pieces) = mpsc::channel::<Bytes>(PIECES);
        let pass_on = async {
            let mut passed = 0_u64;
            while let Some(piece) = pieces.recv().await {
                passed += piece.len() as u64;
                give(into, piece).await?;
            }
            Ok::<_, EnsureError>(passed)
        };
        let pack = async { Ok::<_, EnsureError>(self.backend.pack(wanted, packer).await?) };
        let ((), passed) = tokio::try_join!(pack, pass_on)?;
        give(into, archive::tail(passed)).await
    }

    /// What moves volumes is gone when it is at work no more. One that cannot be removed now is removed before the
    /// next, or by `gc`.
    async fn end_move(&self, wanted: &Blueprint) {
        if let Err(error) = self.backend.end_move(&wanted.names).await {
            warn!("what packs and unpacks volumes cannot be removed: {error}");
        }
    }

    /// Makes a box of an archive: its volumes, around which the next login makes the rest.
    ///
    /// # Errors
    /// Why there is no such box, then. What was made of it is removed again, as far as that is possible: otherwise it is half
    /// restored, and known to be.
    pub async fn restore(
        &self,
        id: &DevBoxId,
        from: mpsc::Receiver<Bytes>,
        report: impl Fn(Note<'_>) + Send + Sync,
    ) -> Result<(), EnsureError> {
        let mut source = Source { from, reader: Reader::default() };
        archive::fits(&source.manifest().await?, &Blueprint::new(&self.config, id.clone()))?;
        let wanted = self.make_room(id, &report).await?;
        let restored = self.fill(&wanted, source, &report).await;
        self.end_move(&wanted).await;
        let ended = match restored {
            Ok(()) => Ok(self.backend.perform(&wanted, &Change::EndRestore).await?),
            Err(error) => Err(error),
        };
        if ended.is_err()
            && let Err(error) = self.take_back(&wanted, &report).await
        {
            warn!("what was restored of it cannot be removed: {error}");
        }
        ended
    }

    /// Removes what is half restored. Without its mark it is whole, whatever the engine said to that.
    async fn take_back(
        &self,
        wanted: &Blueprint,
        report: &(impl Fn(Note<'_>) + Send + Sync),
    ) -> Result<(), EnsureError> {
        match self.backend.surroundings(wanted).await?.restoring {
            Some(_) => self.bring(wanted, Goal::Removed, report).await,
            None => Ok(()),
        }
    }

    /// Returns once there is nothing of the box.
    async fn make_room(
        &self,
        id: &DevBoxId,
        report: &(impl Fn(Note<'_>) + Send + Sync),
    ) -> Result<Blueprint, EnsureError> {
        if id.is_spare() {
            return Err(Trouble::NoSuchBox.into());
        }
        let wanted = self.blueprint(id).await?;
        if self.removals.is_due(id) {
            self.remove(&wanted, report).await?;
        }
        let (container, around) =
            tokio::try_join!(self.backend.container(&wanted.names), self.backend.surroundings(&wanted))?;
        report(Note::Seen(state::State::observed(container.as_ref())));
        refuse_what_is_not_ours(&wanted, container.as_ref(), &around)?;
        self.backend.end_move(&wanted.names).await?;
        if around.restoring.is_some() {
            self.bring(&wanted, Goal::Removed, report).await?;
        } else if container.is_some() || around.home.is_some() || around.docker.is_some() {
            return Err(EnsureError::Exists);
        }
        self.tidy(id).await?;
        // What an interrupted removal left of a spare's names is gone with it.
        Ok(self.blueprint(id).await?)
    }

    async fn fill(
        &self,
        wanted: &Blueprint,
        source: Source,
        report: &(impl Fn(Note<'_>) + Send + Sync),
    ) -> Result<(), EnsureError> {
        self.make_volumes(wanted, report).await?;
        report(Note::Progress("unpacking its home and its Docker data"));
        let (into, pieces) = mpsc::channel(PIECES);
        let unpack = async { Ok::<_, EnsureError>(self.backend.unpack(wanted, pieces).await?) };
        tokio::try_join!(unpack, source.feed(into)).map(drop)
    }

    async fn make_volumes(
        &self,
        wanted: &Blueprint,
        report: &(impl Fn(Note<'_>) + Send + Sync),
    ) -> Result<(), EnsureError> {
        let _alone = self.admitting.acquire().await.map_err(|_| EnsureError::ShuttingDown)?;
        let (host, around) = tokio::try_join!(self.backend.host(wanted), self.backend.surroundings(wanted))?;
        if host.image_id.is_none() {
            return Err(Trouble::ImageMissing(wanted.image.clone()).into());
        }
        let count = self.admission.others(&wanted.id, &around.boxes, &self.config).hers;
        if count >= wanted.max_boxes {
            return Err(Trouble::TooManyBoxes { count, max: wanted.max_boxes }.into());
        }
        let volumes = [Volume::Home, Volume::Docker].map(Change::CreateVolume);
        for change in [Change::BeginRestore].iter().chain(&volumes) {
            report(Note::Event(state::Event::before(change)));
            self.backend.perform(wanted, change).await?;
        }
        Ok(())
    }
}

async fn give(into: &mpsc::Sender<Bytes>, piece: Bytes) -> Result<(), EnsureError> {
    match timeout(STALLED, into.send(piece)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(EnsureError::Gone),
        Err(_) => Err(EnsureError::Stalled),
    }
}
