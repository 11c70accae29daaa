//! The networks that this host reaches by a route of its own, and so must not be a box's.

use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;

/// The main table's IPv4 routes (proc(5)): every network of an interface is among them.
const ROUTES: &str = "/proc/net/route";

/// Every network with a route, without the default route.
///
/// # Errors
/// What the kernel said when the routes could not be read.
pub fn routed() -> std::io::Result<Vec<Ipv4Net>> {
    Ok(parse(&std::fs::read_to_string(Path::new(ROUTES))?))
}

fn parse(table: &str) -> Vec<Ipv4Net> {
    table.lines().skip(1).filter_map(route).filter(|net| net.prefix_len() > 0).collect()
}

/// One line: interface, destination, gateway, flags, three counters, mask, and more. Addresses are the
/// 32 bits as they lie in memory, written as one number.
fn route(line: &str) -> Option<Ipv4Net> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = |field: usize| {
        let bits = u32::from_str_radix(fields.get(field)?, 16).ok()?;
        Some(Ipv4Addr::from(bits.to_ne_bytes()))
    };
    Ipv4Net::with_netmask(address(1)?, address(7)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_without_the_default_one() {
        let table = "\
            Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            br-1\t1000C90A\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0\n\
            broken line\n";
        let nets: Vec<_> = parse(table).iter().map(ToString::to_string).collect();
        assert_eq!(nets, ["172.17.0.0/16", "10.201.0.16/28"]);
    }

    #[test]
    fn this_hosts_routes_can_be_read() {
        routed().unwrap();
    }
}
