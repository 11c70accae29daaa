//! The names that travel through the pipeline. Each is a newtype whose only constructor parses, so that
//! whoever holds one may put it into a path, a label, a host name or a certificate without another check.

use std::fmt;
use std::str::FromStr;

/// Longest name that `useradd` accepts (see `useradd(8)`, CAVEATS).
const LOGIN_MAX: usize = 32;
/// Longest name that still fits a host name label (RFC 1035 §2.3.4) beside a login name.
const DEVBOX_MAX: usize = 24;
/// Whoever logs in as this asks for the lobby, where her key says whose boxes she may order about.
pub const LOBBY: &str = "box";
/// What the names of spare boxes begin with, before their numbers.
const SPARE: &str = "s";
/// Login names that a box needs for itself or that the gateway answers on its own.
const RESERVED: [&str; 22] = [
    "root",
    "daemon",
    "bin",
    "sys",
    "sync",
    "games",
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "backup",
    "list",
    "irc",
    "nobody",
    "sshd",
    "messagebus",
    "docker",
    LOBBY,
    "www-data",
    "polkitd",
];

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("is empty")]
    Empty,
    #[error("is longer than {max} characters")]
    TooLong { max: usize },
    #[error("may hold only a-z, 0-9, '-' and '_' and must start with a letter")]
    BadCharacter,
    #[error("is reserved")]
    Reserved,
}

/// The pattern that all names share: `[a-z][a-z0-9_-]*`, so that a `.` or `+` can separate them.
fn check(name: &str, max: usize) -> Result<(), NameError> {
    let mut chars = name.chars();
    match chars.next() {
        None => return Err(NameError::Empty),
        Some(first) if !first.is_ascii_lowercase() => return Err(NameError::BadCharacter),
        Some(_) => {}
    }
    if !chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_') {
        return Err(NameError::BadCharacter);
    }
    if name.len() > max { Err(NameError::TooLong { max }) } else { Ok(()) }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(String);

        impl $type {
            /// # Errors
            /// A [`NameError`] that completes the sentence "the name …".
            pub fn parse(name: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(name).map(|()| Self(name.to_owned()))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A person's name at the gateway and her Unix user in the box: `[a-z][a-z0-9_-]{0,31}`, none that
    /// the box's own system users have.
    LoginName, |name| {
        check(name, LOGIN_MAX)?;
        if RESERVED.contains(&name) || name.starts_with("systemd-") || name.starts_with('_') {
            return Err(NameError::Reserved);
        }
        Ok(())
    }
}

name! {
    /// The name of one of a person's further boxes: `web` in `alice+web`.
    DevBoxName, |name| check(name, DEVBOX_MAX)
}

name! {
    /// Tells the objects of two Boxgate installations on one Docker engine apart.
    InstanceName, |name| check(name, DEVBOX_MAX)
}

/// Which box: `alice` is alice's default box, `alice+web` her box `web`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevBoxId {
    pub owner: LoginName,
    pub name: Option<DevBoxName>,
}

impl DevBoxId {
    #[must_use]
    pub fn default_of(owner: LoginName) -> Self {
        Self { owner, name: None }
    }

    /// A box that is kept ready for whoever comes first: `box+s7`. Nobody can be its owner.
    #[must_use]
    pub fn spare(number: u32) -> Self {
        Self { owner: LoginName(LOBBY.to_owned()), name: Some(DevBoxName(format!("{SPARE}{number}"))) }
    }

    /// The number of a spare box; none for a person's.
    #[must_use]
    pub fn spare_number(&self) -> Option<u32> {
        let number = self.name.as_ref()?.as_str().strip_prefix(SPARE)?.parse().ok()?;
        (*self == Self::spare(number)).then_some(number)
    }

    /// Whether it is kept ready for somebody, and nobody's yet.
    #[must_use]
    pub fn is_spare(&self) -> bool {
        self.spare_number().is_some()
    }

    /// What its owner calls it: `web` for `alice+web`; her default box has her own name.
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.name.as_ref().map_or(self.owner.as_str(), DevBoxName::as_str)
    }

    /// Parses what stands before the `@`, or a box's id in the API: `alice`, `alice+web`, or a spare box's.
    ///
    /// # Errors
    /// A [`NameError`] when either part is no name.
    pub fn parse(id: &str) -> Result<Self, NameError> {
        match id.split_once('+') {
            Some((LOBBY, name)) => {
                let spare = Self { owner: LoginName(LOBBY.to_owned()), name: Some(DevBoxName::parse(name)?) };
                if spare.is_spare() { Ok(spare) } else { Err(NameError::Reserved) }
            }
            None => Ok(Self::default_of(LoginName::parse(id)?)),
            Some((owner, name)) => {
                Ok(Self { owner: LoginName::parse(owner)?, name: Some(DevBoxName::parse(name)?) })
            }
        }
    }
}

impl fmt::Display for DevBoxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            None => write!(f, "{}", self.owner),
            Some(name) => write!(f, "{}+{name}", self.owner),
        }
    }
}

impl FromStr for DevBoxId {
    type Err = NameError;

    fn from_str(id: &str) -> Result<Self, NameError> {
        Self::parse(id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("alice", Ok(()))]
    #[case("a", Ok(()))]
    #[case("a-b_c9", Ok(()))]
    #[case("", Err(NameError::Empty))]
    #[case("Alice", Err(NameError::BadCharacter))]
    #[case("-alice", Err(NameError::BadCharacter))]
    #[case("../etc", Err(NameError::BadCharacter))]
    #[case("al ice", Err(NameError::BadCharacter))]
    #[case("al\0ice", Err(NameError::BadCharacter))]
    #[case("älice", Err(NameError::BadCharacter))]
    #[case("alice\n", Err(NameError::BadCharacter))]
    #[case("root", Err(NameError::Reserved))]
    #[case("box", Err(NameError::Reserved))]
    #[case("systemd-network", Err(NameError::Reserved))]
    fn login_names(#[case] name: &str, #[case] expected: Result<(), NameError>) {
        assert_eq!(LoginName::parse(name).map(|_| ()), expected);
    }

    #[test]
    fn a_login_name_fits_useradd() {
        assert!(LoginName::parse(&"a".repeat(32)).is_ok());
        assert_eq!(LoginName::parse(&"a".repeat(33)), Err(NameError::TooLong { max: 32 }));
    }

    #[test]
    fn ids_with_and_without_a_box_name() {
        assert_eq!(DevBoxId::parse("alice").map(|id| id.name), Ok(None));
        assert_eq!(DevBoxId::parse("alice+web").map(|id| id.to_string()), Ok("alice+web".to_owned()));
        assert!(DevBoxId::parse("alice+").is_err());
        assert!(DevBoxId::parse("alice+web+x").is_err());
        assert!(DevBoxId::parse("+web").is_err());
    }

    #[rstest]
    #[case("box+s7", Ok(Some(7)))]
    #[case("box+s0", Ok(Some(0)))]
    #[case("box+s07", Err(NameError::Reserved))]
    #[case("box+s", Err(NameError::Reserved))]
    #[case("box+s4294967296", Err(NameError::Reserved))]
    #[case("box+web", Err(NameError::Reserved))]
    #[case("alice+s7", Ok(None))]
    fn spare_boxes_are_nobodys(#[case] id: &str, #[case] number: Result<Option<u32>, NameError>) {
        assert_eq!(DevBoxId::parse(id).map(|id| id.spare_number()), number);
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_as_it_was(id in any::<String>()) {
            if let Ok(parsed) = DevBoxId::parse(&id) {
                prop_assert_eq!(parsed.to_string(), id);
            }
        }

        #[test]
        fn a_parsed_name_is_safe_in_a_path_and_a_label(name in "[a-zA-Z0-9_.+/\\-\\s]{0,40}") {
            if let Ok(parsed) = LoginName::parse(&name) {
                prop_assert!(!parsed.as_str().contains(['/', '.', '+', ' ', '\n']));
            }
        }
    }
}
