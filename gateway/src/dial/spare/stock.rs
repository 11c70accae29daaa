//! The spare connections of one box: what there is, what is asked of them, what to do next. Pure but for the
//! time that it is given.
//!
//! ```text
//!   opened ──► (PAUSE, or somebody is expected) ──► Dial ──► parked ──► taken
//!                                                    ▲          │
//!                                                    └──────────┴─ FRESH_FOR is over, a connection has ended
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// A spare is replaced when it is older: what a login reads (groups, shell, environment) may have changed.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(120);
/// After a login the processors are its own: who runs one short command after another then pays for one
/// handshake each, not for two.
const PAUSE: Duration = Duration::from_millis(400);
/// How long after the last login or logout a box that nobody is connected to has spares.
const KEEP_FOR: Duration = Duration::from_secs(10 * 60);
/// After a failure to dial. The next login finds out what is wrong, and says so.
const RETRY_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Stock<T> {
    wanted: usize,
    parked: VecDeque<(Instant, T)>,
    /// The epoch in which what is being dialed was begun.
    dialing: Option<u64>,
    /// The login that waits for it.
    claim: Option<oneshot::Sender<T>>,
    /// What was dialed in an earlier one is stale.
    epoch: u64,
    /// Connections to the box.
    open: usize,
    last_used: Instant,
    not_before: Instant,
}

/// What a login gets.
#[derive(Debug)]
pub(super) enum Taken<T> {
    Ready(T),
    /// What is being dialed. Its sender goes away when that fails.
    Coming(oneshot::Receiver<T>),
    Nothing,
}

/// What the box's task is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Dial, and say how that went.
    Dial,
    /// Ask again then, or when something has changed.
    Wait { until: Option<Instant> },
    /// Nobody uses the box.
    End,
}

impl<T> Stock<T> {
    pub(super) fn new(wanted: usize, now: Instant) -> Self {
        Self {
            wanted,
            parked: VecDeque::new(),
            dialing: None,
            claim: None,
            epoch: 0,
            open: 0,
            last_used: now,
            not_before: now,
        }
    }

    pub(super) fn take(&mut self, now: Instant, is_alive: impl Fn(&T) -> bool) -> Taken<T> {
        while let Some((since, spare)) = self.parked.pop_front() {
            if now.duration_since(since) < FRESH_FOR && is_alive(&spare) {
                return Taken::Ready(spare);
            }
        }
        if self.dialing == Some(self.epoch) && self.claim.is_none() {
            let (claim, coming) = oneshot::channel();
            self.claim = Some(claim);
            return Taken::Coming(coming);
        }
        Taken::Nothing
    }

    /// Somebody may take one soon.
    pub(super) fn expect(&mut self, now: Instant) {
        if self.parked.is_empty() {
            self.not_before = self.not_before.min(now);
        }
    }

    pub(super) fn opened(&mut self, now: Instant) {
        self.open += 1;
        self.last_used = now;
        self.not_before = now + PAUSE;
    }

    /// A connection has ended. What it changed, the next login should find.
    pub(super) fn closed(&mut self, now: Instant) {
        self.open = self.open.saturating_sub(1);
        self.last_used = now;
        self.not_before = now;
        self.discard();
    }

    pub(super) fn discard(&mut self) {
        self.parked.clear();
        self.epoch += 1;
    }

    pub(super) fn plan(&mut self, now: Instant) -> Plan {
        let end = self.last_used + KEEP_FOR;
        if self.open == 0 && now >= end {
            return Plan::End;
        }
        self.parked.retain(|(since, _)| now.duration_since(*since) < FRESH_FOR);
        let lacking = self.parked.len() < self.wanted;
        if lacking && now >= self.not_before {
            self.dialing = Some(self.epoch);
            return Plan::Dial;
        }
        let lacking = lacking.then_some(self.not_before);
        let stale = self.parked.front().map(|(since, _)| *since + FRESH_FOR);
        let unused = (self.open == 0).then_some(end);
        Plan::Wait { until: [lacking, stale, unused].into_iter().flatten().min() }
    }

    /// How dialing went. Who waits for it began her login before whatever made it stale.
    pub(super) fn dialed(&mut self, spare: Option<T>, now: Instant) {
        let epoch = self.dialing.take();
        let claim = self.claim.take();
        let Some(spare) = spare else {
            self.not_before = now + RETRY_AFTER;
            return;
        };
        let unclaimed = match claim {
            Some(claim) => claim.send(spare).err(),
            None => Some(spare),
        };
        if epoch == Some(self.epoch)
            && let Some(spare) = unclaimed
        {
            self.parked.push_back((now, spare));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready<T>(taken: Taken<T>) -> Option<T> {
        match taken {
            Taken::Ready(spare) => Some(spare),
            _ => None,
        }
    }

    /// A stock after one login.
    fn stock(wanted: usize, now: Instant) -> Stock<&'static str> {
        let mut stock = Stock::new(wanted, now);
        stock.opened(now);
        assert_eq!(stock.plan(now), Plan::Wait { until: Some(now + PAUSE) });
        stock
    }

    /// One that somebody expected to be there.
    fn dial(stock: &mut Stock<&'static str>, spare: &'static str, now: Instant) {
        stock.expect(now);
        assert_eq!(stock.plan(now), Plan::Dial);
        stock.dialed(Some(spare), now);
    }

    #[tokio::test(start_paused = true)]
    async fn a_spare_is_dialed_after_the_pause_and_given_once() {
        let now = Instant::now();
        let mut stock = stock(1, now);
        assert!(matches!(stock.take(now, |_| true), Taken::Nothing));
        let later = now + PAUSE;
        assert_eq!(stock.plan(later), Plan::Dial);
        stock.dialed(Some("first"), later);
        assert_eq!(stock.plan(later), Plan::Wait { until: Some(later + FRESH_FOR) });
        assert_eq!(ready(stock.take(later, |_| true)), Some("first"));
        assert!(matches!(stock.take(later, |_| true), Taken::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_expected_does_not_wait_for_the_pause() {
        let now = Instant::now();
        let mut stock = stock(1, now);
        stock.expect(now);
        assert_eq!(stock.plan(now), Plan::Dial);
        // One login may wait for it; the second does better to dial.
        let Taken::Coming(mut coming) = stock.take(now, |_| true) else { panic!("not coming") };
        assert!(matches!(stock.take(now, |_| true), Taken::Nothing));
        stock.dialed(Some("first"), now);
        assert_eq!(coming.try_recv(), Ok("first"));
        assert!(matches!(stock.take(now, |_| true), Taken::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_was_given_up_leaves_the_spare() {
        let now = Instant::now();
        let mut stock = stock(1, now);
        stock.expect(now);
        stock.plan(now);
        drop(stock.take(now, |_| true));
        stock.dialed(Some("first"), now);
        assert_eq!(ready(stock.take(now, |_| true)), Some("first"));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_from_before_a_logout_is_given() {
        let now = Instant::now();
        let mut stock = stock(2, now);
        dial(&mut stock, "parked", now);
        assert_eq!(stock.plan(now), Plan::Dial);
        let Taken::Ready("parked") = stock.take(now, |_| true) else { panic!("not ready") };
        let Taken::Coming(mut coming) = stock.take(now, |_| true) else { panic!("not coming") };
        stock.closed(now);
        assert!(matches!(stock.take(now, |_| true), Taken::Nothing), "what is being dialed is stale now");
        stock.dialed(Some("claimed before"), now);
        assert_eq!(coming.try_recv(), Ok("claimed before"));

        assert_eq!(stock.plan(now), Plan::Dial);
        stock.closed(now);
        stock.dialed(Some("stale"), now);
        assert!(matches!(stock.take(now, |_| true), Taken::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_old_or_dead_is_given() {
        let now = Instant::now();
        let mut stock = stock(2, now);
        dial(&mut stock, "dead", now);
        dial(&mut stock, "alive", now);
        assert_eq!(ready(stock.take(now, |spare| *spare == "alive")), Some("alive"));
        dial(&mut stock, "old", now);
        assert!(matches!(stock.take(now + FRESH_FOR, |_| true), Taken::Nothing));
        dial(&mut stock, "old", now);
        assert_eq!(stock.plan(now + FRESH_FOR), Plan::Dial);
        assert!(stock.parked.is_empty(), "what is old is closed, too");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_not_repeated_at_once() {
        let now = Instant::now();
        let mut stock = stock(1, now);
        stock.dialed(None, now);
        assert_eq!(stock.plan(now), Plan::Wait { until: Some(now + RETRY_AFTER) });
    }

    #[tokio::test(start_paused = true)]
    async fn a_box_that_nobody_uses_has_no_spares_in_the_end() {
        let now = Instant::now();
        let mut stock = stock(1, now);
        assert_ne!(stock.plan(now + KEEP_FOR), Plan::End, "somebody is connected");
        stock.closed(now);
        stock.dialed(Some("stale"), now);
        dial(&mut stock, "spare", now);
        assert_eq!(stock.plan(now), Plan::Wait { until: Some(now + FRESH_FOR) });
        assert_eq!(stock.plan(now + KEEP_FOR), Plan::End);
    }
}
