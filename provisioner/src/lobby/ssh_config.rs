//! The block of `ssh_config(5)` that names somebody's boxes.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use boxgate_config::{DevBoxId, LoginName, PublicName};

/// What the default box is called where the gateway has an address and no name.
const NAMELESS: &str = "devbox";

/// Seconds between ssh's questions whether the other side is there; it gives up after three. An IDE tries again at once
/// when its ssh ends, and nothing else tells it of a connection that died while the laptop slept. These questions do
/// not keep a box awake.
const ALIVE_INTERVAL: u32 = 30;

/// A block for each box: her default one, which the first login makes, and `others`.
pub(super) fn block(
    owner: &LoginName,
    others: impl IntoIterator<Item = DevBoxId>,
    at: &PublicName,
) -> String {
    let mut boxes: BTreeSet<_> = others.into_iter().collect();
    boxes.insert(DevBoxId::default_of(owner.clone()));
    let alias = alias(at);
    let mut text = format!("# {owner}'s boxes: `ssh {alias}`, `ssh box@{alias} help`\n");
    for devbox in boxes {
        let host = devbox.name.as_ref().map_or_else(|| alias.to_owned(), |name| format!("{alias}-{name}"));
        // Writing to a String cannot fail.
        let _ok = write!(text, "Host {host}\n    HostName {}\n    User {devbox}\n", at.host());
        if let Some(port) = at.port() {
            let _ok = writeln!(text, "    Port {port}");
        }
        let _ok = writeln!(text, "    ServerAliveInterval {ALIVE_INTERVAL}");
    }
    text
}

/// The first part of the host's name.
fn alias(at: &PublicName) -> &str {
    if at.host().parse::<IpAddr>().is_ok() {
        return NAMELESS;
    }
    at.host().split('.').next().unwrap_or(NAMELESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, boxes: &[&str]) -> String {
        let boxes = boxes.iter().map(|id| DevBoxId::parse(id).unwrap());
        block(&LoginName::parse("alice").unwrap(), boxes, &PublicName::parse(name).unwrap())
    }

    #[test]
    fn blocks() {
        insta::assert_snapshot!(of("devhost.example.org:2222", &["alice", "alice+web", "alice+a_b-c"]));
        insta::assert_snapshot!(of("2001:db8::7", &[]));
    }
}
