//! Whose box, and may they: (who they are, what they asked for) → [`Grant`]. Pure.

use std::fmt;
use std::net::SocketAddr;

use boxgate_config::{DevBoxId, LoginName};
use ssh_key::Fingerprint;

/// Someone whose key was looked up; after its signature was verified, someone who proved to be that.
#[derive(Debug, Clone)]
pub struct Principal {
    login: LoginName,
    key: Fingerprint,
    peer: SocketAddr,
}

impl Principal {
    pub(crate) fn new(login: LoginName, key: Fingerprint, peer: SocketAddr) -> Self {
        Self { login, key, peer }
    }

    #[must_use]
    pub fn login(&self) -> &LoginName {
        &self.login
    }

    /// Whether the key may do all that the box's user may.
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        true
    }

    #[must_use]
    pub fn key(&self) -> &Fingerprint {
        &self.key
    }
}

/// For logs and for the key id of certificates: `alice SHA256:… from 203.0.113.7:51234`.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} from {}", self.login, self.key, self.peer)
    }
}

/// The right to a box. Only [`resolve`] makes one.
#[derive(Debug, Clone)]
pub struct Grant {
    devbox: DevBoxId,
    principal: Principal,
}

impl Grant {
    #[must_use]
    pub fn devbox(&self) -> &DevBoxId {
        &self.devbox
    }

    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

/// Why a known person may not have what she asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{login:?} names no box")]
    NoSuchName { login: String },
    #[error("box {devbox} belongs to {}", devbox.owner)]
    NotYours { devbox: DevBoxId },
    #[error("box {devbox}: further boxes are not offered here, log in as {}", devbox.owner)]
    NamedBox { devbox: DevBoxId },
}

/// Grants `principal` the box that `login` names, if it is hers.
///
/// # Errors
/// A [`Refusal`] that may be shown to the person.
pub fn resolve(principal: Principal, login: &str) -> Result<Grant, Refusal> {
    let devbox = DevBoxId::parse(login).map_err(|_| Refusal::NoSuchName { login: login.to_owned() })?;
    if devbox.owner != principal.login {
        return Err(Refusal::NotYours { devbox });
    }
    if devbox.name.is_some() {
        return Err(Refusal::NamedBox { devbox });
    }
    Ok(Grant { devbox, principal })
}

#[cfg(test)]
mod tests {
    use ssh_key::{Algorithm, HashAlg, PrivateKey};

    use super::*;

    fn alice() -> Principal {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let login = LoginName::parse("alice").unwrap();
        Principal::new(login, key.fingerprint(HashAlg::Sha256), SocketAddr::from(([192, 0, 2, 1], 1)))
    }

    #[test]
    fn her_own_box_and_no_other() {
        assert_eq!(resolve(alice(), "alice").unwrap().devbox().to_string(), "alice");
        assert!(matches!(resolve(alice(), "bob"), Err(Refusal::NotYours { .. })));
        assert!(matches!(resolve(alice(), "alice+web"), Err(Refusal::NamedBox { .. })));
        assert!(matches!(resolve(alice(), "al\nice"), Err(Refusal::NoSuchName { .. })));
    }
}
