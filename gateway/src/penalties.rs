//! Sources that misbehaved are turned away for a while (`sshd_config(5)`, `PerSourcePenalties`): each connection
//! that fails adds to what its source has to serve, and above a minimum the source is refused until it is served.
//!
//! A source is an IPv4 address, or the /64 that a host with IPv6 has to itself. Their number is bounded: when there
//! are more, those whose penalties end first are forgotten.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boxgate_config::PenaltyConfig;
use tokio::time::Instant;

/// Bits of an IPv6 address that tell two networks apart.
const IPV6_NETWORK: u128 = !0 << 64;

/// What a connection did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// It tried to authenticate and did not.
    Failed,
    /// It ended without an attempt.
    NotTried,
    /// It used up the grace time.
    GraceExceeded,
    /// Handling it crashed.
    Crashed,
}

/// Who has to wait, and until when.
#[derive(Debug)]
pub struct Penalties {
    config: PenaltyConfig,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    sources: HashMap<IpAddr, Penalty>,
    /// The same by their ends, to forget the first.
    ends: BTreeSet<(Instant, IpAddr)>,
}

#[derive(Debug, Clone, Copy)]
struct Penalty {
    ends: Instant,
    /// Whether it has reached the minimum: then the source is refused to the end.
    active: bool,
}

impl Penalties {
    #[must_use]
    pub fn new(config: PenaltyConfig) -> Self {
        Self { config, table: Mutex::default() }
    }

    /// Whether a connection from `address` is to be refused.
    #[must_use]
    pub fn refuses(&self, address: IpAddr) -> bool {
        let penalty = self.table().sources.get(&source(address)).copied();
        penalty.is_some_and(|penalty| penalty.active && Instant::now() < penalty.ends)
    }

    /// Adds to what the source of `address` has to serve.
    pub fn add(&self, address: IpAddr, offence: Offence) {
        let more = match offence {
            Offence::Failed => self.config.failed,
            Offence::NotTried => self.config.not_tried,
            Offence::GraceExceeded => self.config.grace_exceeded,
            Offence::Crashed => self.config.crashed,
        };
        let exempt = self.config.exempt.as_ref().is_some_and(|exempt| exempt.matches(address));
        if !exempt && !more.is_zero() {
            self.table().add(source(address), more, &self.config);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(&mut self, source: IpAddr, more: Duration, config: &PenaltyConfig) {
        let now = Instant::now();
        let before = self.remove(source).filter(|penalty| now < penalty.ends);
        let served_until = before.map_or(now, |penalty| penalty.ends);
        let ends = (served_until + more).min(now + config.max);
        let active = before.is_some_and(|penalty| penalty.active) || ends - now >= config.min;
        while self.sources.len() >= config.max_sources {
            let Some(&(_, first)) = self.ends.first() else { break };
            self.remove(first);
        }
        self.sources.insert(source, Penalty { ends, active });
        self.ends.insert((ends, source));
    }

    fn remove(&mut self, source: IpAddr) -> Option<Penalty> {
        let penalty = self.sources.remove(&source)?;
        self.ends.remove(&(penalty.ends, source));
        Some(penalty)
    }
}

/// The address by which a whole source is known.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use boxgate_config::Config;
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn penalties(settings: &str) -> Penalties {
        let text = format!("[gateway.penalties]\n{settings}\n");
        Penalties::new(Config::parse(Path::new("test.toml"), &text).unwrap().gateway.penalties)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn three_failures_are_too_many_and_are_served() {
        let penalties = penalties("");
        let (bad, good) = (ip("192.0.2.1"), ip("192.0.2.2"));
        for _ in 0..2 {
            penalties.add(bad, Offence::Failed);
            assert!(!penalties.refuses(bad));
        }
        penalties.add(bad, Offence::Failed);
        assert!(penalties.refuses(bad));
        assert!(penalties.refuses(ip("::ffff:192.0.2.1")));
        assert!(!penalties.refuses(good));
        advance(14 * SECOND).await;
        assert!(penalties.refuses(bad));
        advance(SECOND).await;
        assert!(!penalties.refuses(bad));
        // Served, so the count begins anew.
        penalties.add(bad, Offence::Failed);
        assert!(!penalties.refuses(bad));
    }

    #[tokio::test(start_paused = true)]
    async fn penalties_grow_up_to_a_bound() {
        let penalties = penalties("max = \"60s\"");
        let bad = ip("192.0.2.1");
        for _ in 0..100 {
            penalties.add(bad, Offence::Failed);
        }
        advance(59 * SECOND).await;
        assert!(penalties.refuses(bad));
        advance(SECOND).await;
        assert!(!penalties.refuses(bad));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_failures_are_forgiven() {
        let penalties = penalties("");
        let clumsy = ip("192.0.2.1");
        for _ in 0..100 {
            penalties.add(clumsy, Offence::Failed);
            assert!(!penalties.refuses(clumsy));
            advance(6 * SECOND).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_offence_has_its_price() {
        let penalties = penalties("min = \"1s\"\nnot_tried = \"0s\"");
        let prices = [
            (Offence::Failed, 5),
            (Offence::NotTried, 0),
            (Offence::GraceExceeded, 10),
            (Offence::Crashed, 90),
        ];
        for (at, (offence, price)) in prices.into_iter().enumerate() {
            let address = IpAddr::from([192, 0, 2, u8::try_from(at).unwrap()]);
            let begin = Instant::now();
            penalties.add(address, offence);
            while penalties.refuses(address) {
                advance(SECOND).await;
            }
            assert_eq!(begin.elapsed(), price * SECOND, "{offence:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_ipv6_is_one_source() {
        let penalties = penalties("min = \"1s\"");
        penalties.add(ip("2001:db8:0:1::1"), Offence::Failed);
        assert!(penalties.refuses(ip("2001:db8:0:1:ffff::2")));
        assert!(!penalties.refuses(ip("2001:db8:0:2::1")));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_exempt_is_never_refused() {
        let default = penalties("min = \"1s\"");
        default.add(ip("127.0.0.1"), Offence::Crashed);
        default.add(ip("::1"), Offence::Crashed);
        assert!(!default.refuses(ip("127.0.0.1")) && !default.refuses(ip("::1")));
        let strict = penalties("min = \"1s\"\nexempt = []");
        strict.add(ip("127.0.0.1"), Offence::Failed);
        assert!(strict.refuses(ip("127.0.0.1")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_forgets_who_is_done_first() {
        let penalties = penalties("max_sources = 100\nmin = \"1s\"");
        let bad = ip("2001:db8::1");
        penalties.add(bad, Offence::Crashed);
        for at in 0..1000 {
            penalties.add(IpAddr::from((0x0a00_0000_u32 + at).to_be_bytes()), Offence::NotTried);
        }
        let table = penalties.table();
        assert_eq!((table.sources.len(), table.ends.len()), (100, 100));
        drop(table);
        assert!(penalties.refuses(bad));
    }
}
