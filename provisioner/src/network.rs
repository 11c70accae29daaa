//! Which network a box gets: the first free /28 of the pool. Pure; [`host`] reads what the host uses, [`bridge`]
//! names the network's interface, and [`firewall`] keeps networks apart.

pub mod bridge;
pub mod firewall;
pub mod host;

use ipnet::Ipv4Net;

/// Prefix length of one box's network: a gateway address, the box, and room for its own bridges.
const PREFIX: u8 = 28;

/// No network is left for a box.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    #[error("all {count} networks of {pool} are in use")]
    Full { pool: Ipv4Net, count: usize },
    #[error("this host uses {by}, which covers all of {pool}")]
    Covered { pool: Ipv4Net, by: Ipv4Net },
}

/// The lowest /28 of `pool` that overlaps none of `used`.
pub fn next_free(pool: Ipv4Net, used: &[Ipv4Net]) -> Result<Ipv4Net, Exhausted> {
    if let Some(by) = used.iter().find(|net| net.contains(&pool) && net.prefix_len() < PREFIX) {
        return Err(Exhausted::Covered { pool, by: *by });
    }
    let prefix = PREFIX.max(pool.prefix_len());
    // The pool is an IPv4 range, so the prefix is between the pool's and 32.
    let mut candidates = pool.subnets(prefix).into_iter().flatten();
    let count = 1 << (prefix - pool.prefix_len());
    candidates
        .find(|net| !used.iter().any(|used| overlap(*used, *net)))
        .ok_or(Exhausted::Full { pool, count })
}

fn overlap(one: Ipv4Net, two: Ipv4Net) -> bool {
    one.contains(&two.network()) || two.contains(&one.network())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[rstest]
    #[case::first(&[], "10.201.0.0/28")]
    #[case::next(&["10.201.0.0/28"], "10.201.0.16/28")]
    #[case::a_gap(&["10.201.0.0/28", "10.201.0.32/28"], "10.201.0.16/28")]
    #[case::a_bigger_net(&["10.201.0.0/24"], "10.201.1.0/28")]
    #[case::one_address(&["10.201.0.7/32"], "10.201.0.16/28")]
    #[case::elsewhere(&["192.168.0.0/16", "172.17.0.0/16"], "10.201.0.0/28")]
    fn the_lowest_free_net(#[case] used: &[&str], #[case] expected: &str) {
        let used: Vec<_> = used.iter().map(|text| net(text)).collect();
        assert_eq!(next_free(net("10.201.0.0/16"), &used), Ok(net(expected)));
    }

    #[test]
    fn a_full_pool() {
        let pool = net("10.0.0.0/27");
        let used = [net("10.0.0.0/28"), net("10.0.0.16/28")];
        assert_eq!(next_free(pool, &used), Err(Exhausted::Full { pool, count: 2 }));
        let one = net("10.0.0.0/28");
        assert_eq!(next_free(one, &[one]), Err(Exhausted::Full { pool: one, count: 1 }));
    }

    #[test]
    fn a_pool_inside_another_network() {
        let (pool, by) = (net("10.201.0.0/16"), net("10.0.0.0/8"));
        assert_eq!(next_free(pool, &[by]), Err(Exhausted::Covered { pool, by }));
    }

    proptest! {
        #[test]
        fn boxes_fill_the_pool_without_overlap(prefix in 22_u8..=28) {
            let pool = Ipv4Net::new([10, 201, 0, 0].into(), prefix).unwrap();
            let mut used = Vec::new();
            while let Ok(next) = next_free(pool, &used) {
                prop_assert!(pool.contains(&next));
                prop_assert!(!used.iter().any(|used| overlap(*used, next)));
                used.push(next);
            }
            prop_assert_eq!(used.len(), 1 << (28 - prefix));
        }
    }
}
