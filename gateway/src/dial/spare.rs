//! Spare connections: a box that is in use has one ready, authenticated, so that a login pays for one
//! handshake and not for two.
//!
//! A task per box ([`keep`]) dials what its [`Stock`] lacks; logins take from the stock. The stock decides, this
//! module does.
//!
//! Invariants:
//! - Only who may do all that a box's user may takes a spare: it was authenticated without restrictions, before
//!   anyone came.
//! - Nobody gets a spare that was made before the last connection to the box ended, so who logs out and in again
//!   finds her new groups, shell and environment; nor one older than [`stock::FRESH_FOR`].
//! - Whatever goes wrong with a spare, the login dials for itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::Endpoint;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{Dialer, Upstream};

mod stock;

use stock::{Plan, Stock, Taken};

/// The spare connections of all boxes.
#[derive(Debug)]
pub struct Spares {
    /// Per box; 0 is none.
    wanted: usize,
    dialer: Dialer,
    /// None once they are given up.
    boxes: Mutex<Option<HashMap<DevBoxId, Shelf>>>,
}

/// What is kept for one box.
#[derive(Debug)]
struct Shelf {
    endpoint: Endpoint,
    stock: Stock<Upstream>,
    /// Wakes the box's task when its plan may have changed.
    changed: Arc<Notify>,
}

impl Spares {
    /// Up to `wanted` spare connections per box.
    #[must_use]
    pub fn new(wanted: usize, dialer: Dialer) -> Arc<Self> {
        Arc::new(Self { wanted, dialer, boxes: Mutex::new(Some(HashMap::new())) })
    }

    /// A connection to the box at `endpoint`: at once, when one is ready, or the one that is being dialed.
    /// `None` when the caller had better dial.
    pub async fn take(&self, devbox: &DevBoxId, endpoint: &Endpoint) -> Option<Upstream> {
        let taken = self.with(devbox, |entry| {
            if entry.endpoint != *endpoint {
                return Taken::Nothing;
            }
            entry.stock.take(Instant::now(), Upstream::is_alive)
        });
        match taken? {
            Taken::Ready(upstream) => Some(upstream),
            Taken::Coming(upstream) => upstream.await.ok().filter(Upstream::is_alive),
            Taken::Nothing => None,
        }
    }

    /// A key that may log in to the box was offered. Whether its holder can also sign is not known yet, so this
    /// does no more than dial, once, a box that is in use.
    pub fn expect(&self, devbox: &DevBoxId) {
        self.with(devbox, |entry| entry.stock.expect(Instant::now()));
    }

    /// Somebody is connected to the box until the lease is dropped. Begins to keep spares for it.
    #[must_use]
    pub fn lease(self: &Arc<Self>, devbox: &DevBoxId, endpoint: &Endpoint) -> Lease {
        let now = Instant::now();
        let mut shelves = self.lock();
        let lease = Lease { spares: Arc::clone(self), devbox: devbox.clone() };
        let Some(boxes) = shelves.as_mut() else { return lease };
        if let Some(entry) = boxes.get_mut(devbox) {
            if entry.endpoint != *endpoint {
                entry.endpoint = endpoint.clone();
                entry.stock.discard();
            }
            entry.stock.opened(now);
            entry.changed.notify_one();
        } else if self.wanted > 0 {
            let mut stock = Stock::new(self.wanted, now);
            stock.opened(now);
            let changed = Arc::<Notify>::default();
            let entry = Shelf { endpoint: endpoint.clone(), stock, changed: Arc::clone(&changed) };
            boxes.insert(devbox.clone(), entry);
            tokio::spawn(keep(Arc::clone(self), devbox.clone(), changed));
        }
        drop(shelves);
        lease
    }

    /// Ends all spare connections, and keeps none from now on: whoever comes next goes to another worker.
    pub fn give_up(&self) {
        // Each box's task finds then that it has nothing to do.
        for shelf in self.lock().take().into_iter().flat_map(HashMap::into_values) {
            shelf.changed.notify_one();
        }
    }

    /// Does something with a box's shelf, if it has one, and tells the box's task.
    fn with<T>(&self, devbox: &DevBoxId, act: impl FnOnce(&mut Shelf) -> T) -> Option<T> {
        let mut shelves = self.lock();
        let entry = shelves.as_mut()?.get_mut(devbox)?;
        let done = act(entry);
        entry.changed.notify_one();
        Some(done)
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<DevBoxId, Shelf>>> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do next for a box. The shelf of one that nobody uses any more is gone then.
    fn plan(&self, devbox: &DevBoxId) -> (Plan, Option<Endpoint>) {
        let mut shelves = self.lock();
        let Some(boxes) = shelves.as_mut() else { return (Plan::End, None) };
        let Some(entry) = boxes.get_mut(devbox) else { return (Plan::End, None) };
        let plan = entry.stock.plan(Instant::now());
        let endpoint = entry.endpoint.clone();
        if matches!(plan, Plan::End) {
            boxes.remove(devbox);
        }
        (plan, Some(endpoint))
    }
}

/// The task of one box's spares, until nobody uses the box any more.
async fn keep(spares: Arc<Spares>, devbox: DevBoxId, changed: Arc<Notify>) {
    loop {
        match spares.plan(&devbox) {
            (Plan::Dial, Some(endpoint)) => {
                let dialed = spares.dialer.dial_spare(&endpoint).await;
                if let Err(fault) = &dialed {
                    debug!(%devbox, %fault, "no spare connection");
                }
                spares.with(&devbox, |entry| entry.stock.dialed(dialed.ok(), Instant::now()));
            }
            (Plan::Wait { until }, _) => {
                let time = async {
                    match until {
                        Some(until) => sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = time => {}
                    () = changed.notified() => {}
                }
            }
            (Plan::End, _) | (Plan::Dial, None) => return,
        }
    }
}

/// Somebody is connected to a box.
#[derive(Debug)]
pub struct Lease {
    spares: Arc<Spares>,
    devbox: DevBoxId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.spares.with(&self.devbox, |entry| entry.stock.closed(Instant::now()));
    }
}
