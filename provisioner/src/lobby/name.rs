//! What a visitor calls her boxes. Whatever it is, it is one of hers or none: that is decided here, before anything
//! is asked about it, so that nobody learns whether another's box exists.

use boxgate_config::{DevBoxId, DevBoxName, LoginName, NameError};

/// What stands for the default box where a name must be.
const DEFAULT: &str = "-";

/// Why a name is none of hers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unnamed {
    #[error("box {0} belongs to {owner}", owner = .0.owner)]
    NotYours(DevBoxId),
    #[error("a box is called as `ls` shows it, and the name {0:?} {1}")]
    Malformed(String, NameError),
}

/// `web` and `alice+web` are alice's box `web`; nothing, `-` and `alice` are her default box.
pub(super) fn devbox(owner: &LoginName, name: Option<&str>) -> Result<DevBoxId, Unnamed> {
    let Some(name) = name.filter(|&name| name != DEFAULT && name != owner.as_str()) else {
        return Ok(DevBoxId::default_of(owner.clone()));
    };
    let malformed = |fault| Unnamed::Malformed(name.to_owned(), fault);
    let id = if name.contains('+') {
        DevBoxId::parse(name).map_err(malformed)?
    } else {
        DevBoxId { owner: owner.clone(), name: Some(DevBoxName::parse(name).map_err(malformed)?) }
    };
    if id.owner == *owner { Ok(id) } else { Err(Unnamed::NotYours(id)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn alice() -> LoginName {
        LoginName::parse("alice").unwrap()
    }

    #[rstest]
    #[case(None, Ok("alice"))]
    #[case(Some("-"), Ok("alice"))]
    #[case(Some("alice"), Ok("alice"))]
    #[case(Some("web"), Ok("alice+web"))]
    #[case(Some("alice+web"), Ok("alice+web"))]
    #[case(Some("alice+alice"), Ok("alice+alice"))]
    #[case(Some("bob"), Ok("alice+bob"))]
    #[case(Some("bob+web"), Err("box bob+web belongs to bob"))]
    #[case(Some(""), Err("a box is called as `ls` shows it, and the name \"\" is empty"))]
    #[case(Some("alice+"), Err("a box is called as `ls` shows it, and the name \"alice+\" is empty"))]
    #[case(Some("box+web"), Err("a box is called as `ls` shows it, and the name \"box+web\" is reserved"))]
    fn names(#[case] name: Option<&str>, #[case] expected: Result<&str, &str>) {
        let seen = devbox(&alice(), name).map(|id| id.to_string()).map_err(|fault| fault.to_string());
        assert_eq!(seen, expected.map(str::to_owned).map_err(str::to_owned));
    }

    proptest! {
        #[test]
        fn no_name_is_anybody_elses_box(name in "(\\PC|[\\x00-\\x20]){0,20}|[a-z]{1,5}\\+[a-z]{1,5}") {
            match devbox(&alice(), Some(&name)) {
                Ok(id) => prop_assert_eq!(id.owner, alice()),
                Err(fault) => prop_assert!(!fault.to_string().contains(char::is_control)),
            }
        }
    }
}
