//! The range that boxes' networks are cut from: who else uses it, how much of it is left.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::backend::docker::EngineReport;
use crate::cli::doctor::facts::Facts;
use crate::cli::doctor::finding::Finding;

/// Addresses of one box's network, a /28.
const EACH: u64 = 16;
/// With fewer left than this, a pool will be full before anybody looks again.
const FEW: u64 = 16;

const CHECK: &str = "networks";

pub(super) fn networks(facts: &Facts) -> Vec<Finding> {
    let Ok(engine) = &facts.engine else { return Vec::new() };
    let routes = match &facts.routes {
        Ok(routes) => routes,
        Err(fault) => {
            let message = format!("the host's routes cannot be read: {fault}");
            return vec![Finding::warn(CHECK, message, "mount /proc")];
        }
    };
    let pool = facts.config.provisioner.network_pool;
    let all = count(pool);
    let used: Vec<_> =
        engine.networks.iter().flat_map(|network| &network.subnets).chain(routes).copied().collect();
    let free = free(pool, &used);
    let message = format!("{free} of the {all} networks of {pool} are free");
    let left = if free == 0 {
        let remedy = "remove boxes that nobody needs, or set a larger provisioner.network_pool";
        Finding::fail(CHECK, message, remedy)
    } else if free < FEW.min(all / 10) {
        Finding::warn(CHECK, message, "set a larger provisioner.network_pool before they are used up")
    } else {
        Finding::ok(CHECK, message)
    };
    let others = strangers(pool, engine, routes);
    let shared = others.first().map(|(whose, net)| {
        let message = format!("{pool} is used by others: {whose} has {net}");
        let remedy = "set provisioner.network_pool to a range that nothing else uses; boxes move to it when they are made anew";
        Finding::warn(CHECK, message, remedy)
    });
    [left].into_iter().chain(shared).collect()
}

/// What overlaps the pool and is not ours.
fn strangers(pool: Ipv4Net, engine: &EngineReport, routes: &[Ipv4Net]) -> Vec<(String, Ipv4Net)> {
    let networks = engine.networks.iter().filter(|network| !network.ours);
    let networks = networks.flat_map(|network| {
        network.subnets.iter().map(|net| (format!("the Docker network {}", network.name), *net))
    });
    // The bridge of each Docker network has a route.
    let known: Vec<_> = engine.networks.iter().flat_map(|network| &network.subnets).collect();
    let routes = routes.iter().filter(|net| !known.contains(net));
    let routes = routes.map(|net| ("a route of this host".to_owned(), *net));
    networks.chain(routes).filter(|(_, net)| pool.contains(net) || net.contains(&pool)).collect()
}

fn count(pool: Ipv4Net) -> u64 {
    (addresses(pool).1 - addresses(pool).0) / EACH
}

/// First address, and the one after the last.
fn addresses(net: Ipv4Net) -> (u64, u64) {
    let number = |address: Ipv4Addr| u64::from(u32::from(address));
    (number(net.network()), number(net.broadcast()) + 1)
}

/// How many /28 of the pool touch none of `used`. A pool may have a million: they are not walked through one by one.
fn free(pool: Ipv4Net, used: &[Ipv4Net]) -> u64 {
    let (begin, end) = addresses(pool);
    // What is used, cut to the pool and widened to whole networks.
    let cut = used.iter().map(|net| addresses(*net)).map(|(from, to)| {
        let to = to.next_multiple_of(EACH);
        ((from - from % EACH).clamp(begin, end), to.clamp(begin, end))
    });
    let mut cut: Vec<_> = cut.collect();
    cut.sort_unstable();
    let mut free = 0;
    let mut seen = begin;
    for (from, to) in cut {
        free += from.saturating_sub(seen);
        seen = seen.max(to);
    }
    (free + (end - seen)) / EACH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::super::testing::{facts, statuses};
    use super::*;
    use crate::backend::docker::NetworkReport;
    use crate::cli::doctor::finding::Status;
    use crate::network::next_free;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn with(pool: &str, networks: &[(&str, bool)], routes: &[&str]) -> Facts {
        let mut facts = facts();
        facts.config.provisioner.network_pool = net(pool);
        facts.engine.as_mut().unwrap().networks = networks
            .iter()
            .map(|(subnet, ours)| NetworkReport {
                name: "n".to_owned(),
                ours: *ours,
                subnets: vec![net(subnet)],
            })
            .collect();
        facts.routes = Ok(routes.iter().map(|route| net(route)).collect());
        facts
    }

    #[rstest]
    #[case::empty("10.201.0.0/16", &[], &[], &[Status::Ok])]
    #[case::ours("10.201.0.0/16", &[("10.201.0.0/28", true)], &["10.201.0.0/28"], &[Status::Ok])]
    #[case::a_stranger("10.201.0.0/16", &[("10.201.4.0/24", false)], &[], &[Status::Ok, Status::Warn])]
    #[case::a_route("10.201.0.0/16", &[], &["10.201.4.0/24"], &[Status::Ok, Status::Warn])]
    #[case::covered("10.201.0.0/16", &[], &["10.0.0.0/8"], &[Status::Fail, Status::Warn])]
    #[case::full("10.201.0.0/28", &[("10.201.0.0/28", true)], &[], &[Status::Fail])]
    #[case::elsewhere("10.201.0.0/16", &[("172.17.0.0/16", false)], &["192.168.1.0/24"], &[Status::Ok])]
    fn pools(
        #[case] pool: &str,
        #[case] networks: &[(&str, bool)],
        #[case] routes: &[&str],
        #[case] expected: &[Status],
    ) {
        let findings = super::networks(&with(pool, networks, routes));
        assert_eq!(statuses(&findings), expected, "{findings:?}");
    }

    #[test]
    fn a_pool_that_is_nearly_full() {
        let facts = with(
            "10.201.0.0/20",
            &[
                ("10.201.0.0/21", true),
                ("10.201.8.0/22", true),
                ("10.201.12.0/23", true),
                ("10.201.14.0/24", true),
                ("10.201.15.0/25", true),
            ],
            &[],
        );
        let findings = networks(&facts);
        assert_eq!(statuses(&findings), [Status::Warn], "{findings:?}");
        assert_eq!(findings[0].message, "8 of the 256 networks of 10.201.0.0/20 are free");
    }

    proptest! {
        #[test]
        fn as_many_are_free_as_can_be_had(
            used in proptest::collection::vec((0_u32..1 << 10, 22_u8..=32), 0..12),
        ) {
            let pool = net("10.201.0.0/22");
            let used = used.into_iter().map(|(host, prefix)| {
                Ipv4Net::new(Ipv4Addr::from(u32::from(pool.network()) + host), prefix).unwrap().trunc()
            });
            let mut used: Vec<_> = used.collect();
            let expected = free(pool, &used);
            let mut had = 0;
            while let Ok(next) = next_free(pool, &used) {
                used.push(next);
                had += 1;
            }
            prop_assert_eq!(had, expected);
        }
    }
}
