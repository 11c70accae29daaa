//! What the rules are: one nftables table for all boxes of an installation. Pure.
//!
//! Boxes are known by the bridges that they are behind, whose names begin with the installation's prefix. So the
//! rules name no box: they hold for a box from its first packet, and there is nothing to remove with it.
//!
//! ```text
//! box ──► bridge ──► prerouting ──► from_box: to whom? ──► what Docker's rules say ──► other host
//! box ◄── bridge ◄── forward ◄───── to_box: an answer? ◄── what Docker's rules say ◄── other host
//! ```
//!
//! - `from_box` comes before anybody's address translation, so it sees where a box wanted to go. It goes by the
//!   bridge and by the route back to the source: root in a box may choose its addresses, not its bridge.
//! - `to_box` lets answers in and nothing else. What this host itself sends, the gateway's and the provisioner's
//!   connections, is not forwarded and passes by.
//! - An accept here ends these rules only: Docker's come after them. A drop is final.
//! - Going by `ct direction` and not only by `ct state` ends also what a box began while there were no rules.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use boxgate_config::{Config, Destination, Egress, InstanceName};
use ipnet::Ipv4Net;

use crate::network::bridge::{self, fnv1a};

/// The hooks of the base chains.
pub(super) const HOOKS: [&str; 2] = ["prerouting", "forward"];
/// Where clouds answer machines' questions about themselves, and other addresses that are nobody's on the internet.
const LINK_LOCAL: &str = "169.254.0.0/16";

/// The name of an installation's table, of family `inet`.
pub(super) fn table(instance: &InstanceName) -> String {
    format!("boxgate_{instance}")
}

/// One table's worth of rules, as `nft -f` reads it: made anew in one transaction, whatever was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) table: String,
    pub(super) text: String,
    /// An empty chain of this name marks the table as made from exactly this text.
    pub(super) mark: String,
}

impl Rules {
    /// `resolvers` are the DNS servers that boxes ask. One of them may be this host, or link-local.
    pub(super) fn new(config: &Config, resolvers: &BTreeSet<Ipv4Addr>) -> Self {
        let provisioner = &config.provisioner;
        let table = table(&provisioner.instance);
        let chains = [
            base_chains(&bridge::prefix(&provisioner.instance), provisioner.network_pool),
            from_box(provisioner.network_pool, resolvers, &config.devbox.egress),
            to_box(),
        ]
        .join("\n");
        let mark = format!("rules_{:08x}", fnv1a(&chains));
        let text = format!(
            "table inet {table}\n\
             delete table inet {table}\n\
             table inet {table} {{\n\
             \tchain {mark} {{\n\
             \t}}\n\n\
             {chains}\
             }}\n"
        );
        Self { table, text, mark }
    }

    /// The comments of all rules, in their order. Each rule has one.
    pub(super) fn comments(&self) -> Vec<&str> {
        self.text.lines().filter_map(|line| line.split_once(" comment \"")?.1.strip_suffix('"')).collect()
    }
}

fn base_chains(prefix: &str, pool: Ipv4Net) -> String {
    let any = bridge::ANY;
    chain(
        "prerouting",
        Some("type filter hook prerouting priority mangle; policy accept;"),
        &[
            rule(&format!("iifname \"{prefix}*\" jump from_box"), "from a box's bridge"),
            rule(&format!("iifname \"{any}*\" ip saddr {pool} jump from_box"), "from one with a name of old"),
        ],
    ) + "\n"
        + &chain(
            "forward",
            Some("type filter hook forward priority filter - 10; policy accept;"),
            &[
                rule(&format!("oifname \"{prefix}*\" jump to_box"), "to a box's bridge"),
                rule(&format!("oifname \"{any}*\" ip daddr {pool} jump to_box"), "to one with a name of old"),
            ],
        )
}

fn from_box(pool: Ipv4Net, resolvers: &BTreeSet<Ipv4Addr>, egress: &Egress) -> String {
    let mut rules = vec![
        rule("meta nfproto != ipv4 drop", "boxes have no IPv6"),
        rule("fib saddr . iif oif missing drop", "an address that is not the box's"),
        rule("ct state established,related ct direction reply accept", "answers"),
    ];
    rules.extend(resolvers.iter().map(|resolver| {
        rule(&format!("ip daddr {resolver} meta l4proto {{ tcp, udp }} th dport 53 accept"), "DNS")
    }));
    rules.extend([
        rule("fib daddr type != unicast drop", "this host, by whatever address"),
        rule(&format!("ip daddr {pool} drop"), "other boxes"),
        rule(&format!("ip daddr {LINK_LOCAL} drop"), "the cloud's metadata"),
    ]);
    if let Egress::Only(destinations) = egress {
        rules.extend(destinations.iter().map(listed));
        rules.push(rule("drop", "not in box.egress"));
    }
    chain("from_box", None, &rules)
}

fn listed(destination: &Destination) -> String {
    let Destination { net, port } = destination;
    let port = port.map(|port| format!(" meta l4proto {{ tcp, udp }} th dport {port}")).unwrap_or_default();
    rule(&format!("ip daddr {net}{port} accept"), "box.egress")
}

fn to_box() -> String {
    chain(
        "to_box",
        None,
        &[
            rule("ct state established,related ct direction reply accept", "answers"),
            rule("drop", "only this host connects to boxes"),
        ],
    )
}

fn chain(name: &str, hook: Option<&str>, rules: &[String]) -> String {
    let hook = hook.map(|hook| format!("\t\t{hook}\n")).unwrap_or_default();
    format!("\tchain {name} {{\n{hook}{}\t}}\n", rules.concat())
}

fn rule(what: &str, why: &str) -> String {
    format!("\t\t{what} comment \"{why}\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn rules(resolvers: &[&str], egress: Egress) -> Rules {
        let mut config = testing::config();
        config.devbox.egress = egress;
        Rules::new(&config, &resolvers.iter().map(|address| address.parse().unwrap()).collect())
    }

    #[test]
    fn boxes_may_connect_to_anywhere_else() {
        insta::assert_snapshot!(rules(&["192.0.2.53", "169.254.169.253"], Egress::Open).text);
    }

    #[test]
    fn boxes_may_connect_to_what_is_listed() {
        let listed = ["203.0.113.0/24", "198.51.100.7:443"].map(|item| item.parse().unwrap());
        insta::assert_snapshot!(rules(&["192.0.2.53"], Egress::Only(listed.to_vec())).text);
    }

    #[test]
    fn nothing_but_dns_is_listed() {
        let rules = rules(&["192.0.2.53"], Egress::Only(Vec::new()));
        let tail =
            ["this host, by whatever address", "other boxes", "the cloud's metadata", "not in box.egress"];
        let from_box = &rules.comments()[4..];
        assert_eq!(&from_box[3..8], [&["DNS"], &tail[..]].concat());
    }

    #[test]
    fn other_rules_have_another_mark() {
        let open = rules(&[], Egress::Open);
        assert_eq!(open, rules(&[], Egress::Open));
        assert_ne!(open.mark, rules(&["192.0.2.53"], Egress::Open).mark);
        assert_ne!(open.mark, rules(&[], Egress::Only(Vec::new())).mark);
    }
}
