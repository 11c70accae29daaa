//! What boxes take of the disk. Measuring that may take minutes, so no list waits for it for long: what was measured
//! last is shown, and nothing while there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::{Fleet, Shared};
use crate::backend::{Backend, Disk};

/// What is older is measured anew when somebody asks,
const FRESH: Duration = Duration::from_secs(60);
/// but the engine rests ten times as long as it was at work.
const REST: u32 = 10;
/// What is older than this is not shown any more.
const STALE: Duration = Duration::from_secs(3600);
/// How long a list waits: it takes a second to measure processor time as well.
const PATIENCE: Duration = Duration::from_secs(1);

/// The latest measurement.
#[derive(Debug)]
pub(super) struct DiskUse {
    latest: watch::Sender<Option<Measured>>,
    under_way: AtomicBool,
}

#[derive(Debug, Clone)]
struct Measured {
    disk: Arc<Disk>,
    at: Instant,
    took: Duration,
}

impl Default for DiskUse {
    fn default() -> Self {
        Self { latest: watch::Sender::new(None), under_way: AtomicBool::new(false) }
    }
}

impl Measured {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < FRESH.max(self.took * REST)
    }
}

/// Lets the next measurement begin, however this one ends.
struct UnderWay<B>(Arc<Shared<B>>);

impl<B> Drop for UnderWay<B> {
    fn drop(&mut self) {
        self.0.disk.under_way.store(false, Ordering::Release);
    }
}

impl<B: Backend> Fleet<B> {
    /// What is known of it, at most a second later.
    pub(super) async fn disk(&self) -> Option<Arc<Disk>> {
        let disk = &self.shared.disk;
        let mut latest = disk.latest.subscribe();
        let fresh = |known: &Option<Measured>| known.as_ref().is_some_and(Measured::is_fresh);
        let known = fresh(&latest.borrow());
        if !known {
            if !disk.under_way.swap(true, Ordering::AcqRel) {
                self.measure_disk();
            }
            // Whether it is there in time or not, the list is made with what there is.
            drop(timeout(PATIENCE, latest.wait_for(fresh)).await);
        }
        let known = latest.borrow().clone();
        known.filter(|known| known.at.elapsed() < STALE).map(|known| known.disk)
    }

    fn measure_disk(&self) {
        let under_way = UnderWay(Arc::clone(&self.shared));
        let measure = async move {
            let shared = &under_way.0;
            let begun = Instant::now();
            let measured = shared.shutdown.run_until_cancelled(shared.ensurer.backend().disk()).await;
            match measured {
                Some(Ok(disk)) => {
                    let (disk, at, took) = (Arc::new(disk), Instant::now(), begun.elapsed());
                    shared.disk.latest.send_replace(Some(Measured { disk, at, took }));
                }
                Some(Err(error)) => warn!("what boxes take of the disk cannot be measured: {error}"),
                None => {}
            }
        };
        self.shared.tasks.spawn(measure);
    }
}
