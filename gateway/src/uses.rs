//! Who uses which box through this gateway, told to the provisioner every few seconds: it stops boxes that nobody
//! uses, and lists connections.
//!
//! Each report says all there is, so neither side has to remember what the other one knows. While one worker drains and
//! another one serves, each reports its own connections under its own name, to its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{BoxUse, Client, ClientError, UseReport};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use crate::relay::tap::Tap;

/// Between two reports when nobody comes or goes: less than any box may idle. The provisioner takes a gateway that is
/// silent for a minute to be gone.
const EVERY: Duration = Duration::from_secs(2);
/// Between two reports when many come and go.
const PAUSE: Duration = Duration::from_millis(500);

/// The relayed connections.
#[derive(Debug)]
pub struct Uses {
    /// Tells this process from any other.
    gateway: String,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    connections: HashMap<u64, Connection>,
    /// Boxes that connections have left, and when, until that is told.
    left: HashMap<DevBoxId, Instant>,
}

#[derive(Debug)]
struct Connection {
    devbox: DevBoxId,
    tap: Arc<Tap>,
    /// How often the client had acted when it was looked at last,
    acts: u64,
    /// and when it was first seen to have acted that often.
    acted: Instant,
}

/// A connection is on the list as long as this is held.
#[derive(Debug)]
pub struct Presence {
    uses: Arc<Uses>,
    key: u64,
}

impl Uses {
    #[must_use]
    pub fn new() -> Arc<Self> {
        let gateway = format!("{}-{:08x}", std::process::id(), rand::random::<u32>());
        Arc::new(Self { gateway, inner: Mutex::default(), changed: Notify::new() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn enter(self: &Arc<Self>, devbox: &DevBoxId, tap: Arc<Tap>) -> Presence {
        let mut inner = self.inner();
        inner.next += 1;
        let key = inner.next;
        let connection = Connection { devbox: devbox.clone(), tap, acts: 0, acted: Instant::now() };
        inner.connections.insert(key, connection);
        drop(inner);
        self.changed.notify_one();
        Presence { uses: Arc::clone(self), key }
    }

    /// What is so now.
    fn boxes(&self) -> Vec<BoxUse> {
        let now = Instant::now();
        let mut boxes: HashMap<DevBoxId, (u32, Instant)> = HashMap::new();
        let mut inner = self.inner();
        for (devbox, left) in &inner.left {
            boxes.insert(devbox.clone(), (0, *left));
        }
        for connection in inner.connections.values_mut() {
            let acts = connection.tap.acts();
            if acts != connection.acts {
                (connection.acts, connection.acted) = (acts, now);
            }
            let (count, used) = boxes.entry(connection.devbox.clone()).or_insert((0, connection.acted));
            *count += 1;
            *used = connection.acted.max(*used);
        }
        let one = |(devbox, (connections, used)): (DevBoxId, (u32, Instant))| BoxUse {
            devbox,
            connections,
            idle_seconds: (now - used).as_secs(),
        };
        boxes.into_iter().map(one).collect()
    }

    /// Tells the provisioner once.
    ///
    /// # Errors
    /// Why it does not know.
    pub async fn report(&self, provisioner: &Client) -> Result<(), ClientError> {
        let begun = Instant::now();
        let report = UseReport { gateway: self.gateway.clone(), boxes: self.boxes() };
        provisioner.report_use(&report).await?;
        self.inner().left.retain(|_, left| *left > begun);
        Ok(())
    }

    /// Tells the provisioner, until it is dropped.
    pub async fn report_to(&self, provisioner: &Client) {
        let mut reached = true;
        loop {
            match self.report(provisioner).await {
                Ok(()) => reached = true,
                // It comes back, and is told then.
                Err(fault) if reached => {
                    warn!(%fault, "cannot tell the provisioner which boxes are in use");
                    reached = false;
                }
                Err(fault) => debug!(%fault, "the provisioner is still away"),
            }
            sleep(PAUSE).await;
            // An elapsed time is what it waits for, too.
            drop(timeout(EVERY, self.changed.notified()).await);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut inner = self.uses.inner();
        if let Some(connection) = inner.connections.remove(&self.key) {
            inner.left.insert(connection.devbox, Instant::now());
        }
        drop(inner);
        self.uses.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::relay::tap::From;

    fn id(id: &str) -> DevBoxId {
        DevBoxId::parse(id).unwrap()
    }

    /// Window adjustment, keepalive, data (RFC 4254 §5.2, OpenSSH `PROTOCOL` §1.7).
    const WINDOW: &[u8] = &[93, 0, 0, 0, 0, 0, 0, 0, 1];
    const KEEPALIVE: &[u8] = b"\x50\0\0\0\x15keepalive@openssh.com\x01";
    const KEY: &[u8] = &[94, 0, 0, 0, 0, 0, 0, 0, 1, b'x'];

    fn seconds(uses: &Uses, devbox: &str) -> Option<(u32, u64)> {
        let boxes = uses.boxes();
        boxes.iter().find(|of| of.devbox == id(devbox)).map(|of| (of.connections, of.idle_seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_somebody_did_is_use() {
        let uses = Uses::new();
        let tap = Arc::<Tap>::default();
        let _presence = uses.enter(&id("alice"), Arc::clone(&tap));
        assert_eq!(seconds(&uses, "alice"), Some((1, 0)));
        advance(Duration::from_secs(60)).await;
        tap.see(From::Client, WINDOW);
        tap.see(From::Client, KEEPALIVE);
        tap.see(From::Devbox, KEY);
        assert_eq!(seconds(&uses, "alice"), Some((1, 60)));
        tap.see(From::Client, KEY);
        assert_eq!(seconds(&uses, "alice"), Some((1, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_counted_by_box_and_their_end_is_told() {
        let uses = Uses::new();
        let tap = Arc::<Tap>::default();
        let (one, two) =
            (uses.enter(&id("alice"), Arc::clone(&tap)), uses.enter(&id("alice"), Arc::clone(&tap)));
        let _other = uses.enter(&id("alice+web"), Arc::clone(&tap));
        advance(Duration::from_secs(60)).await;
        assert_eq!(seconds(&uses, "alice"), Some((2, 60)));
        drop(one);
        assert_eq!(seconds(&uses, "alice"), Some((1, 0)));
        drop(two);
        advance(Duration::from_secs(10)).await;
        assert_eq!(seconds(&uses, "alice"), Some((0, 10)));
        assert_eq!(seconds(&uses, "alice+web"), Some((1, 70)));
    }
}
