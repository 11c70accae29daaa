//! Whose box, and may they: (who they are, what they asked for) → [`Granted`]. Pure.

use std::fmt;
use std::net::SocketAddr;

use boxgate_config::{DevBoxId, LOBBY, LoginName};
use ssh_key::Fingerprint;

use crate::authenticate::Restrictions;

/// Characters of a certificate's key id that are logged.
const KEY_ID_SHOWN: usize = 64;

/// Someone whose key was looked up; after its signature was verified, someone who proved to be that.
#[derive(Debug, Clone)]
pub struct Principal {
    login: LoginName,
    key: Fingerprint,
    /// Key id and serial number of the certificate that she came with, if it was one.
    certificate: Option<(String, u64)>,
    peer: SocketAddr,
    restrictions: Restrictions,
    shares_key: bool,
}

impl Principal {
    /// One whose key has no options.
    pub(crate) fn new(login: LoginName, key: Fingerprint, peer: SocketAddr) -> Self {
        let restrictions = Restrictions::default();
        Self { login, key, certificate: None, peer, restrictions, shares_key: false }
    }

    pub(crate) fn with_restrictions(self, restrictions: Restrictions) -> Self {
        Self { restrictions, ..self }
    }

    pub(crate) fn with_certificate(self, key_id: &str, serial: u64) -> Self {
        Self { certificate: Some((key_id.chars().take(KEY_ID_SHOWN).collect(), serial)), ..self }
    }

    pub(crate) fn with_shared_key(self) -> Self {
        Self { shares_key: true, ..self }
    }

    /// Whether her key is somebody else's too, where it alone says who she is: she may be any of them.
    #[must_use]
    pub fn shares_key(&self) -> bool {
        self.shares_key
    }

    /// What her connection may not do.
    #[must_use]
    pub fn restrictions(&self) -> &Restrictions {
        &self.restrictions
    }

    /// Whether she may do all that a box's sshd allows. Who may not needs a certificate of her own for the
    /// connection to her box, so one that was made before she came is not for her.
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        self.restrictions == Restrictions::default()
    }

    #[must_use]
    pub fn login(&self) -> &LoginName {
        &self.login
    }

    #[must_use]
    pub fn key(&self) -> &Fingerprint {
        &self.key
    }
}

/// For logs and for the key id of certificates: `alice SHA256:… from 203.0.113.7:51234`, and in between
/// `(certificate "alice@ca" serial 7)` when it was one.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.login, self.key)?;
        if let Some((key_id, serial)) = &self.certificate {
            write!(f, " (certificate {key_id:?} serial {serial})")?;
        }
        write!(f, " from {}", self.peer)
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

/// The right to order about all boxes of the principal's. Only [`resolve`] makes one.
#[derive(Debug, Clone)]
pub struct LobbyGrant {
    principal: Principal,
}

impl LobbyGrant {
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

/// What somebody may have of what she asked for.
#[derive(Debug, Clone)]
pub enum Granted {
    DevBox(Grant),
    Lobby(LobbyGrant),
}

/// Why a known person may not have what she asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{login:?} names no box")]
    NoSuchName { login: String },
    #[error("box {devbox} belongs to {}", devbox.owner)]
    NotYours { devbox: DevBoxId },
    #[error(
        "this key is in use by several people here, so it does not say whose boxes you mean: log in to {LOBBY} with a \
         key that is yours alone"
    )]
    SharedKey,
    #[error("this key is for one command only, so it may not be used to log in to {LOBBY}")]
    ForcedCommand,
}

/// Grants `principal` the box that `login` names, if it is hers, or the lobby.
///
/// # Errors
/// A [`Refusal`] that may be shown to the person.
pub fn resolve(principal: Principal, login: &str) -> Result<Granted, Refusal> {
    if login == LOBBY {
        return lobby(principal).map(Granted::Lobby);
    }
    let devbox = DevBoxId::parse(login).map_err(|_| Refusal::NoSuchName { login: login.to_owned() })?;
    if devbox.owner != principal.login {
        return Err(Refusal::NotYours { devbox });
    }
    Ok(Granted::DevBox(Grant { devbox, principal }))
}

/// Whoever is known may enter: what she may do there is only to her own boxes.
fn lobby(principal: Principal) -> Result<LobbyGrant, Refusal> {
    if principal.shares_key {
        return Err(Refusal::SharedKey);
    }
    // Nothing there runs commands of a person's choice, so the one that is forced cannot be run instead.
    if principal.restrictions.force_command.is_some() {
        return Err(Refusal::ForcedCommand);
    }
    Ok(LobbyGrant { principal })
}

#[cfg(test)]
mod tests {
    use boxgate_config::Permissions;
    use ssh_key::{Algorithm, HashAlg, PrivateKey};

    use super::*;

    fn alice() -> Principal {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let login = LoginName::parse("alice").unwrap();
        Principal::new(login, key.fingerprint(HashAlg::Sha256), SocketAddr::from(([192, 0, 2, 1], 1)))
    }

    #[test]
    fn whoever_may_not_do_everything_is_restricted() {
        assert!(alice().is_unrestricted());
        for permissions in [Permissions::all(), Permissions::none()] {
            for force_command in [None, Some("date".to_owned())] {
                let unrestricted = permissions.is_all() && force_command.is_none();
                let restrictions = Restrictions { permissions: permissions.clone(), force_command };
                assert_eq!(alice().with_restrictions(restrictions).is_unrestricted(), unrestricted);
            }
        }
    }

    #[test]
    fn a_certificate_is_named_without_its_control_characters() {
        let text = alice().with_certificate("\u{1b}[2Jalice", 7).to_string();
        assert!(text.contains(r#" (certificate "\u{1b}[2Jalice" serial 7) from 192.0.2.1:1"#), "{text}");
    }

    #[test]
    fn her_own_box_and_no_other() {
        let Ok(Granted::DevBox(grant)) = resolve(alice(), "alice") else { panic!("it is hers") };
        assert_eq!(grant.devbox().to_string(), "alice");
        assert!(matches!(resolve(alice(), "bob"), Err(Refusal::NotYours { .. })));
        let Ok(Granted::DevBox(grant)) = resolve(alice(), "alice+web") else { panic!("it is hers") };
        assert_eq!(grant.devbox().to_string(), "alice+web");
        assert!(matches!(resolve(alice(), "bob+web"), Err(Refusal::NotYours { .. })));
        assert!(matches!(resolve(alice(), "al\nice"), Err(Refusal::NoSuchName { .. })));
        assert!(matches!(resolve(alice(), "box+web"), Err(Refusal::NoSuchName { .. })));
    }

    #[test]
    fn the_lobby_is_for_whoever_is_one_person_and_free_to_choose() {
        assert!(matches!(resolve(alice(), "box"), Ok(Granted::Lobby(_))));
        assert_eq!(resolve(alice().with_shared_key(), "box").unwrap_err(), Refusal::SharedKey);
        let restrict = |force_command: Option<&str>| Restrictions {
            permissions: Permissions::none(),
            force_command: force_command.map(str::to_owned),
        };
        let forced = alice().with_restrictions(restrict(Some("date")));
        assert_eq!(resolve(forced, "box").unwrap_err(), Refusal::ForcedCommand);
        assert!(matches!(resolve(alice().with_restrictions(restrict(None)), "box"), Ok(Granted::Lobby(_))));
        // She says who she is when she asks for a box, so whose key it also is does not matter.
        assert!(matches!(resolve(alice().with_shared_key(), "alice"), Ok(Granted::DevBox(_))));
    }
}
