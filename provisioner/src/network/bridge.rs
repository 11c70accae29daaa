//! What the bridge of a box's network is called: firewall rules know boxes by it, those to come included.

use boxgate_config::InstanceName;
use ipnet::Ipv4Net;

/// With what every bridge of every installation begins.
pub const ANY: &str = "bg";

/// With what every bridge of an installation begins, and no other's: `bg` and 24 bits of the instance's hash.
#[must_use]
pub fn prefix(instance: &InstanceName) -> String {
    let hash = fnv1a(instance.as_str());
    format!("{ANY}{:06x}", (hash >> 24) ^ (hash & 0xff_ffff))
}

/// The name of the bridge that serves a subnet of the pool, a /28: 15 bytes, which is all that the kernel takes
/// (`IFNAMSIZ`).
#[must_use]
pub fn name(instance: &InstanceName, subnet: Ipv4Net) -> String {
    format!("{}{:07x}", prefix(instance), subnet.network().to_bits() >> 4)
}

/// A hash that is the same in every version of this program, which bridges and rules outlive.
pub(super) fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(name: &str) -> InstanceName {
        InstanceName::parse(name).unwrap()
    }

    #[test]
    fn a_bridge_says_whose_it_is_and_which_subnet_it_serves() {
        let one = name(&instance("boxgate"), "10.201.0.16/28".parse().unwrap());
        let next = name(&instance("boxgate"), "10.201.0.32/28".parse().unwrap());
        let of_another = name(&instance("devhost"), "10.201.0.16/28".parse().unwrap());
        // These are on hosts by now: another hash would lose them.
        assert_eq!([&*one, &*next, &*of_another], ["bg6815500ac9001", "bg6815500ac9002", "bgf410860ac9001"]);
        assert_eq!(one.len(), 15);
        assert!(one.starts_with(&prefix(&instance("boxgate"))));
    }
}
