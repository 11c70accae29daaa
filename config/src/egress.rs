//! What boxes may connect to.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;

/// Where connections out of a box may go. Other boxes, the host and its metadata service are never among it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Egress {
    /// Anywhere.
    Open,
    /// To these alone, and to the host's DNS servers.
    Only(Vec<Destination>),
}

/// One item of the list: `203.0.113.0/24`, `203.0.113.7` or either with `:443` behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    pub net: Ipv4Net,
    /// Of TCP and UDP. None: every port, and every protocol.
    pub port: Option<u16>,
}

/// Why an item of the list cannot be used. Completes the sentence "the item …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    #[error("{0:?} is no IPv4 address or network: names are not looked up, and boxes have no IPv6")]
    NotANetwork(String),
    #[error("{0:?} has address bits behind its prefix")]
    BitsBehindPrefix(String),
    #[error("{0:?} does not end in a port number from 1 to 65535")]
    NotAPort(String),
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(item: &str) -> Result<Self, DestinationError> {
        let (range, port) = match item.split_once(':') {
            Some((range, port)) => match port.parse::<u16>() {
                Ok(port) if port > 0 => (range, Some(port)),
                // More than one colon is an IPv6 address.
                _ if port.contains(':') => return Err(DestinationError::NotANetwork(item.to_owned())),
                _ => return Err(DestinationError::NotAPort(item.to_owned())),
            },
            None => (item, None),
        };
        let net = match range.parse::<Ipv4Addr>() {
            Ok(address) => Ipv4Net::from(address),
            Err(_) => range.parse().map_err(|_| DestinationError::NotANetwork(item.to_owned()))?,
        };
        if net.addr() != net.network() {
            return Err(DestinationError::BitsBehindPrefix(item.to_owned()));
        }
        Ok(Self { net, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.net),
            None => write!(f, "{}", self.net),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("203.0.113.0/24", "203.0.113.0/24")]
    #[case("203.0.113.7", "203.0.113.7/32")]
    #[case("203.0.113.7:443", "203.0.113.7/32:443")]
    #[case("0.0.0.0/0:443", "0.0.0.0/0:443")]
    fn networks_with_and_without_a_port(#[case] item: &str, #[case] shown: &str) {
        assert_eq!(item.parse::<Destination>().unwrap().to_string(), shown);
    }

    #[rstest]
    #[case("example.org", "no IPv4 address")]
    #[case("example.org:443", "no IPv4 address")]
    #[case("2001:db8::/32", "no IPv6")]
    #[case("", "no IPv4 address")]
    #[case("203.0.113.0/33", "no IPv4 address")]
    #[case("203.0.113.7/24", "behind its prefix")]
    #[case("203.0.113.7:", "port number")]
    #[case("203.0.113.7:0", "port number")]
    #[case("203.0.113.7:https", "port number")]
    #[case("203.0.113.7:65536", "port number")]
    #[case("203.0.113.7; drop", "no IPv4 address")]
    fn what_is_no_destination_is_refused(#[case] item: &str, #[case] why: &str) {
        let fault = item.parse::<Destination>().unwrap_err().to_string();
        assert!(fault.contains(why), "{fault}");
    }
}
