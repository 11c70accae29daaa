//! Which addresses a rule is about: `from=` of an authorized key, `source-address` of a certificate, and the
//! lists of networks in the configuration. Only addresses are compared: a name would have to be looked up, and
//! whoever answers the look-up would decide who may log in.

use std::net::IpAddr;

use ipnet::IpNet;

/// A list of patterns, of which one must match and none that begins with `!` may (`sshd(8)`, `from=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPatterns(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    negated: bool,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Net(IpNet),
    /// An address's text with `*` and `?`.
    Glob(String),
}

/// Why a list of addresses cannot be used. Completes the sentence "the list …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("is empty")]
    Empty,
    #[error("has {0:?}, which is no address: names are not looked up")]
    NotAnAddress(String),
    #[error("has {0:?}, which has address bits behind its prefix")]
    BitsBehindPrefix(String),
    #[error("has {0:?}: only addresses and networks may stand here")]
    NotANetwork(String),
}

impl AddressPatterns {
    /// Parses `192.0.2.0/24,!192.0.2.7,2001:db8:*`.
    ///
    /// # Errors
    /// The first item that is no address, network or wildcard of either.
    pub fn parse(list: &str) -> Result<Self, AddressError> {
        Self::from_items(list, |item| {
            if item.contains(['*', '?']) { glob(item).map(What::Glob) } else { network(item).map(What::Net) }
        })
    }

    /// Parses a list of addresses and networks alone, as certificates have it (OpenSSH `PROTOCOL.certkeys`,
    /// `source-address`).
    ///
    /// # Errors
    /// The first item that is no address or network.
    pub fn parse_networks(list: &str) -> Result<Self, AddressError> {
        match list.split(',').find(|item| item.contains(['*', '?', '!'])) {
            Some(item) => Err(AddressError::NotANetwork(item.to_owned())),
            None => Self::from_items(list, |item| network(item).map(What::Net)),
        }
    }

    fn from_items(
        list: &str,
        parse: impl Fn(&str) -> Result<What, AddressError>,
    ) -> Result<Self, AddressError> {
        if list.is_empty() {
            return Err(AddressError::Empty);
        }
        let pattern = |item: &str| match item.strip_prefix('!') {
            Some(rest) if !rest.is_empty() => Ok(Pattern { negated: true, what: parse(rest)? }),
            _ => Ok(Pattern { negated: false, what: parse(item)? }),
        };
        list.split(',').map(pattern).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the list is about `address`. An IPv4 address in IPv6's clothes is what it is underneath.
    #[must_use]
    pub fn matches(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let text = address.to_string();
        let hit = |pattern: &&Pattern| match &pattern.what {
            What::Net(net) => net.contains(&address),
            What::Glob(glob) => glob_matches(glob.as_bytes(), text.as_bytes()),
        };
        let mut hits = self.0.iter().filter(hit).peekable();
        hits.peek().is_some() && hits.all(|pattern| !pattern.negated)
    }
}

/// Parses an address or a network whose address has no bits behind the prefix.
fn network(item: &str) -> Result<IpNet, AddressError> {
    if let Ok(address) = item.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let net: IpNet = item.parse().map_err(|_| AddressError::NotAnAddress(item.to_owned()))?;
    if net.addr() == net.network() { Ok(net) } else { Err(AddressError::BitsBehindPrefix(item.to_owned())) }
}

/// A wildcard that some address may match: one with other letters was meant for a host's name.
fn glob(item: &str) -> Result<String, AddressError> {
    let of_addresses = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '*' | '?');
    if item.chars().all(of_addresses) {
        Ok(item.to_ascii_lowercase())
    } else {
        Err(AddressError::NotAnAddress(item.to_owned()))
    }
}

/// `*` stands for any run of characters, `?` for one. Takes time in proportion to both lengths multiplied.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut text_at) = (0, 0);
    // Where to go on when what followed the last `*` did not match.
    let mut retry: Option<(usize, usize)> = None;
    while text_at < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, text_at));
                at += 1;
            }
            Some(&c) if c == b'?' || c == text[text_at] => {
                at += 1;
                text_at += 1;
            }
            _ => match retry {
                Some((after_star, from)) => {
                    retry = Some((after_star, from + 1));
                    at = after_star;
                    text_at = from + 1;
                }
                None => return false,
            },
        }
    }
    glob[at..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("192.0.2.7", "192.0.2.7", true)]
    #[case("192.0.2.7", "192.0.2.70", false)]
    #[case("192.0.2.0/24", "192.0.2.255", true)]
    #[case("192.0.2.0/24", "192.0.3.1", false)]
    #[case("192.0.2.0/24,!192.0.2.7", "192.0.2.7", false)]
    #[case("!192.0.2.7,192.0.2.0/24", "192.0.2.8", true)]
    #[case("!192.0.2.7", "192.0.2.8", false)]
    #[case("192.0.2.*", "192.0.2.44", true)]
    #[case("192.0.2.?", "192.0.2.44", false)]
    #[case("*", "2001:db8::1", true)]
    #[case("2001:DB8:*", "2001:db8:1::1", true)]
    #[case("2001:db8::/32", "2001:db8:ffff::1", true)]
    #[case("192.0.2.0/24", "::ffff:192.0.2.1", true)]
    #[case("0.0.0.0/0", "2001:db8::1", false)]
    fn one_must_match_and_no_negated_one_may(
        #[case] list: &str,
        #[case] address: IpAddr,
        #[case] expected: bool,
    ) {
        assert_eq!(AddressPatterns::parse(list).unwrap().matches(address), expected);
    }

    #[rstest]
    #[case("")]
    #[case("192.0.2.1,")]
    #[case("laptop.example.org")]
    #[case("*.example.org")]
    #[case("192.0.2.1/24")]
    #[case("192.0.2.0/33")]
    #[case("!")]
    #[case("!!192.0.2.1")]
    #[case("192.0.2.1 ,192.0.2.2")]
    fn what_is_no_address_is_refused(#[case] list: &str) {
        AddressPatterns::parse(list).unwrap_err();
    }

    #[rstest]
    #[case("192.0.2.*")]
    #[case("!192.0.2.0/24")]
    #[case("")]
    fn certificates_have_networks_alone(#[case] list: &str) {
        AddressPatterns::parse_networks(list).unwrap_err();
    }
}
