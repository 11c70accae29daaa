//! Who comes, as the gateway's certificate says it.

use boxgate_config::{LoginName, Permission};
use ssh_key::Certificate;
use ssh_key::certificate::CertType;

use super::Door;

/// Somebody whom the gateway has authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visitor {
    pub(super) login: LoginName,
    /// What the gateway says of how she came, for the log and for herself.
    pub(super) came: String,
    /// Whether her key allows her a terminal.
    pub(super) may_have_terminal: bool,
}

/// Why a certificate lets nobody in. For the log: the gateway makes certificates that do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("not a certificate of an authority that a gateway has named")]
    Authority,
    #[error("not a user's certificate")]
    Kind,
    #[error("the certificate is for another principal")]
    Principal,
    #[error("the certificate has a critical option, and none can be honoured here")]
    CriticalOption,
    #[error("nobody's login name")]
    Name,
}

impl Visitor {
    /// Checks what russh leaves to be checked: it has looked at the certificate's dates and signature.
    pub(super) fn of(login: &str, certificate: &Certificate, door: &Door) -> Result<Self, Refused> {
        if !door.believes(certificate.signature_key()) {
            return Err(Refused::Authority);
        }
        if certificate.cert_type() != CertType::User {
            return Err(Refused::Kind);
        }
        if !certificate.valid_principals().iter().any(|principal| principal == login) {
            return Err(Refused::Principal);
        }
        if !certificate.critical_options().is_empty() {
            return Err(Refused::CriticalOption);
        }
        Ok(Self {
            login: LoginName::parse(login).map_err(|_| Refused::Name)?,
            came: certificate.key_id().to_owned(),
            may_have_terminal: certificate.extensions().contains_key(Permission::Pty.extension()),
        })
    }

    /// The fingerprint of her key, the certificate that she showed, if it was one, and her address.
    pub(super) fn particulars(&self) -> Option<(&str, Option<&str>, &str)> {
        let rest = self.came.strip_prefix(self.login.as_str())?.strip_prefix(' ')?;
        // What a certificate says of itself is quoted, and stands in the middle.
        let (front, address) = rest.rsplit_once("from ")?;
        let (key, certificate) = front.trim_end().split_once(' ').unwrap_or((front.trim_end(), ""));
        let certificate = certificate.strip_prefix("(certificate ").and_then(|text| text.strip_suffix(')'));
        Some((key, certificate, address))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "alice SHA256:abc from 192.0.2.1:51234",
        Some(("SHA256:abc", None, "192.0.2.1:51234"))
    )]
    #[case(
        r#"alice SHA256:abc (certificate "laptop from home" serial 7) from [2001:db8::1]:1"#,
        Some(("SHA256:abc", Some(r#""laptop from home" serial 7"#), "[2001:db8::1]:1"))
    )]
    #[case("bob SHA256:abc from 192.0.2.1:51234", None)]
    #[case("alice", None)]
    fn what_the_gateway_says(#[case] came: &str, #[case] expected: Option<(&str, Option<&str>, &str)>) {
        let login = LoginName::parse("alice").unwrap();
        let visitor = Visitor { login, came: came.to_owned(), may_have_terminal: true };
        assert_eq!(visitor.particulars(), expected);
    }
}
