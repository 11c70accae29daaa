//! Who uses which box, and since when nobody does: what the gateways say, and who asked for it.
//!
//! A gateway says all that it knows every few seconds, so nothing is lost for long when either side restarts. What
//! is not known is taken as use: after a start of the provisioner every box has been used until then.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::UseReport;
use tokio::time::Instant;

/// A gateway that said nothing for so long is gone, and its connections with it. It speaks every few seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// Gateways that are remembered at once: the worker that serves, and those before it that keep their connections, for a
/// day or longer. One that is too many is not counted; that its boxes are in use is known all the same.
const GATEWAYS_MAX: usize = 256;

/// What is known of the use of boxes.
#[derive(Debug)]
pub(super) struct Uses {
    inner: Mutex<Inner>,
    /// When there began to be something to know.
    since: Instant,
}

#[derive(Debug, Default)]
struct Inner {
    /// When each box was used last, as far as is known.
    used: HashMap<DevBoxId, Instant>,
    gateways: HashMap<String, Gateway>,
}

#[derive(Debug)]
struct Gateway {
    heard: Instant,
    connections: HashMap<DevBoxId, u32>,
}

impl Default for Uses {
    fn default() -> Self {
        Self { inner: Mutex::default(), since: Instant::now() }
    }
}

impl Uses {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody asked for the box.
    pub(super) fn touch(&self, id: &DevBoxId) {
        self.inner().used.insert(id.clone(), Instant::now());
    }

    pub(super) fn forget(&self, id: &DevBoxId) {
        self.inner().used.remove(id);
    }

    pub(super) fn report(&self, report: &UseReport) {
        let now = Instant::now();
        let mut inner = self.inner();
        for of in &report.boxes {
            let used = now.checked_sub(Duration::from_secs(of.idle_seconds)).unwrap_or(self.since);
            let known = inner.used.entry(of.devbox.clone()).or_insert(used);
            *known = used.max(*known);
        }
        inner.gateways.retain(|_, gateway| now - gateway.heard < SILENCE);
        if inner.gateways.len() < GATEWAYS_MAX || inner.gateways.contains_key(&report.gateway) {
            let connections = report.boxes.iter().map(|of| (of.devbox.clone(), of.connections)).collect();
            inner.gateways.insert(report.gateway.clone(), Gateway { heard: now, connections });
        }
    }

    /// For how long nobody has done anything in the box.
    pub(super) fn idle(&self, id: &DevBoxId) -> Duration {
        let used = self.inner().used.get(id).copied();
        used.unwrap_or(self.since).max(self.since).elapsed()
    }

    /// Connections of clients to the box.
    pub(super) fn connections(&self, id: &DevBoxId) -> u32 {
        let inner = self.inner();
        let heard = inner.gateways.values().filter(|gateway| gateway.heard.elapsed() < SILENCE);
        heard.filter_map(|gateway| gateway.connections.get(id)).sum()
    }
}

#[cfg(test)]
mod tests {
    use boxgate_provisioner_api::BoxUse;
    use tokio::time::advance;

    use super::*;
    use crate::testing::id;

    const MINUTE: Duration = Duration::from_secs(60);

    fn report(gateway: &str, boxes: &[(&str, u32, u64)]) -> UseReport {
        let of = |&(of, connections, idle_seconds): &(&str, u32, u64)| BoxUse {
            devbox: id(of),
            connections,
            idle_seconds,
        };
        UseReport { gateway: gateway.to_owned(), boxes: boxes.iter().map(of).collect() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_use_of_all_counts() {
        let uses = Uses::default();
        advance(10 * MINUTE).await;
        assert_eq!(uses.idle(&id("alice")), 10 * MINUTE);
        uses.report(&report("one", &[("alice", 2, 300)]));
        uses.report(&report("two", &[("alice", 1, 120)]));
        assert_eq!((uses.idle(&id("alice")), uses.connections(&id("alice"))), (2 * MINUTE, 3));
        // A login that came after the report was written.
        uses.touch(&id("alice"));
        uses.report(&report("one", &[("alice", 2, 300)]));
        assert_eq!(uses.idle(&id("alice")), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_box_that_is_not_named_any_more_has_no_connections_and_keeps_its_last_use() {
        let uses = Uses::default();
        advance(MINUTE).await;
        uses.report(&report("one", &[("alice", 1, 0)]));
        advance(MINUTE).await;
        uses.report(&report("one", &[]));
        assert_eq!((uses.idle(&id("alice")), uses.connections(&id("alice"))), (MINUTE, 0));
    }

    /// The gateway's worker drains for hours while another one serves, and hers is the only connection through it.
    #[tokio::test(start_paused = true)]
    async fn who_works_through_a_gateway_that_drains_keeps_her_box_in_use() {
        let uses = Uses::default();
        for _ in 0..60 {
            advance(MINUTE / 2).await;
            uses.report(&report("draining", &[("alice", 1, 0)]));
            uses.report(&report("serving", &[("bob", 1, 0)]));
        }
        assert_eq!((uses.idle(&id("alice")), uses.connections(&id("alice"))), (Duration::ZERO, 1));
        assert_eq!((uses.idle(&id("bob")), uses.connections(&id("bob"))), (Duration::ZERO, 1));
    }

    /// An operator who reloads after every change leaves many behind.
    #[tokio::test(start_paused = true)]
    async fn many_gateways_may_drain_at_once() {
        let uses = Uses::default();
        for gateway in 0..100 {
            uses.report(&report(&gateway.to_string(), &[("alice", 1, 0)]));
        }
        assert_eq!(uses.connections(&id("alice")), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_gateway_holds_nothing() {
        let uses = Uses::default();
        uses.report(&report("one", &[("alice", 1, 0)]));
        assert_eq!(uses.connections(&id("alice")), 1);
        advance(SILENCE).await;
        assert_eq!(uses.connections(&id("alice")), 0);
        assert_eq!(uses.idle(&id("alice")), SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_start_nothing_has_idled_for_longer_than_that() {
        let uses = Uses::default();
        uses.report(&report("one", &[("alice", 1, 86_400)]));
        assert_eq!(uses.idle(&id("alice")), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_gateways_do_not_fill_the_memory() {
        let uses = Uses::default();
        for gateway in 0..1000 {
            uses.report(&report(&gateway.to_string(), &[]));
        }
        assert_eq!(uses.inner().gateways.len(), GATEWAYS_MAX);
    }
}
