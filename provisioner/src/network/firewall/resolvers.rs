//! The DNS servers that boxes ask. A box asks Docker's resolver inside its own network namespace, and that one asks
//! the host's servers from there: to the host's rules these questions come from the box.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

/// Where Docker looks (`resolv.conf(5)`).
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where it looks when the first names systemd-resolved's stub alone, which no other namespace reaches.
const BEHIND_THE_STUB: &str = "/run/systemd/resolve/resolv.conf";

/// The servers as of now. A file that is not there names none.
pub(super) fn read() -> BTreeSet<Ipv4Addr> {
    let named = |file: &str| parse(&std::fs::read_to_string(Path::new(file)).unwrap_or_default());
    reachable(named(RESOLV_CONF), || named(BEHIND_THE_STUB))
}

fn reachable(
    named: BTreeSet<Ipv4Addr>,
    behind_the_stub: impl FnOnce() -> BTreeSet<Ipv4Addr>,
) -> BTreeSet<Ipv4Addr> {
    let elsewhere = |servers: BTreeSet<Ipv4Addr>| servers.into_iter().filter(|server| !server.is_loopback());
    let servers: BTreeSet<_> = elsewhere(named).collect();
    if servers.is_empty() { elsewhere(behind_the_stub()).collect() } else { servers }
}

fn parse(text: &str) -> BTreeSet<Ipv4Addr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()
    };
    text.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TWO: &str = "nameserver 192.0.2.53\nsearch a\n nameserver\t192.0.2.54 # second\n";
    const STUB: &str = "# made by systemd-resolved\nnameserver 127.0.0.53\noptions edns0\n";

    #[rstest]
    #[case::several(TWO, &["192.0.2.53", "192.0.2.54"])]
    #[case::ipv6("nameserver 2001:db8::1\nnameserver 192.0.2.53\n", &["192.0.2.53"])]
    #[case::none_at_all("#nameserver 192.0.2.53\nnameserver\n", &["192.0.2.2"])]
    #[case::the_stub(STUB, &["192.0.2.2"])]
    #[case::the_stub_and_another("nameserver 127.0.0.53\nnameserver 192.0.2.53\n", &["192.0.2.53"])]
    fn servers_that_a_box_can_reach(#[case] resolv_conf: &str, #[case] expected: &[&str]) {
        let servers = reachable(parse(resolv_conf), || parse("nameserver 192.0.2.2\n"));
        let shown: Vec<_> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, expected);
    }
}
