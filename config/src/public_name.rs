//! What people write behind the `@` to reach the gateway: a host name or an address, and a port if it is not 22.

use std::fmt;
use std::net::Ipv6Addr;

/// Longest host name (RFC 1035 §2.3.4).
const HOST_MAX: usize = 253;
/// Where `ssh` goes when it is not told otherwise.
const SSH_PORT: u16 = 22;

/// A name and a port that may be written into an `ssh_config(5)` as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicName {
    host: String,
    port: Option<u16>,
}

/// Why a text is no such name. Completes the sentence "the name …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicNameError {
    #[error("is not the name or the address of a host")]
    Host,
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
}

impl PublicName {
    /// Parses `devhost`, `devhost.example.org:2222`, `192.0.2.7`, `2001:db8::7` or `[2001:db8::7]:2222`.
    ///
    /// # Errors
    /// A [`PublicNameError`].
    pub fn parse(text: &str) -> Result<Self, PublicNameError> {
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Self { host: text.to_owned(), port: None });
        }
        if let Some((address, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            address.parse::<Ipv6Addr>().map_err(|_| PublicNameError::Host)?;
            let port = if rest.is_empty() { None } else { rest.strip_prefix(':').map(port).transpose()? };
            let known = rest.is_empty() || port.is_some();
            return if known {
                Ok(Self { host: address.to_owned(), port })
            } else {
                Err(PublicNameError::Host)
            };
        }
        let (host, port) = match text.split_once(':') {
            Some((host, number)) => (host, Some(port(number)?)),
            None => (text, None),
        };
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let sound = (1..=HOST_MAX).contains(&host.len())
            && host.starts_with(|c: char| c.is_ascii_alphanumeric())
            && host.chars().all(inner);
        if sound { Ok(Self { host: host.to_owned(), port }) } else { Err(PublicNameError::Host) }
    }

    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if it has to be said.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port.filter(|&port| port != SSH_PORT)
    }
}

fn port(text: &str) -> Result<u16, PublicNameError> {
    match text.parse() {
        Ok(port @ 1..) => Ok(port),
        _ => Err(PublicNameError::Port),
    }
}

/// As it is parsed.
impl fmt::Display for PublicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.host.contains(':')) {
            (None, _) => f.write_str(&self.host),
            (Some(port), true) => write!(f, "[{}]:{port}", self.host),
            (Some(port), false) => write!(f, "{}:{port}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("devhost", Some(("devhost", None)))]
    #[case("dev-host.example.org:2222", Some(("dev-host.example.org", Some(2222))))]
    #[case("devhost:22", Some(("devhost", None)))]
    #[case("192.0.2.7", Some(("192.0.2.7", None)))]
    #[case("2001:db8::7", Some(("2001:db8::7", None)))]
    #[case("[2001:db8::7]:2222", Some(("2001:db8::7", Some(2222))))]
    #[case("[2001:db8::7]", Some(("2001:db8::7", None)))]
    #[case("", None)]
    #[case(":22", None)]
    #[case("devhost:", None)]
    #[case("devhost:0", None)]
    #[case("devhost:65536", None)]
    #[case("devhost:22:22", None)]
    #[case("[2001:db8::7]22", None)]
    #[case("[devhost]:22", None)]
    #[case("-oProxyCommand=id", None)]
    #[case("dev host", None)]
    #[case("devhost\nHost *", None)]
    #[case("*", None)]
    fn names(#[case] text: &str, #[case] expected: Option<(&str, Option<u16>)>) {
        let parsed = PublicName::parse(text).ok();
        assert_eq!(parsed.as_ref().map(|name| (name.host(), name.port())), expected);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_the_same_name(text in "[a-z0-9:.\\[\\]\n -]{0,20}") {
            if let Ok(name) = PublicName::parse(&text) {
                prop_assert_eq!(PublicName::parse(&name.to_string()), Ok(name.clone()));
                prop_assert!(!name.to_string().contains(char::is_whitespace));
            }
        }
    }
}
