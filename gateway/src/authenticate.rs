//! A key or a certificate becomes a [`Principal`], or nothing does. Look-ups alone: what is only offered costs no
//! more than this, and a stranger's name costs as much as a wrong key.
//!
//! ```text
//!  keys: table, file, URLs ──┐
//!  authorities ──────────────┼─► Users::authenticate(login, credential, address) ─► Admission
//!  revoked keys ─────────────┘                                                          │
//!                     signature verified; a security key's statement ─► Admission::admit ─► Principal
//! ```
//!
//! Invariant: a [`Principal`] comes of [`Admission::admit`] alone, which is for after the signature was verified.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use boxgate_config::{
    AddressError, AuthorizedKey, Config, DevBoxId, KeyError, KeyRole, LOBBY, LoginName, is_security_key,
};
use russh::server::SecurityKeyStatement;
use ssh_key::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey};
use tracing::info;

use crate::resolve::Principal;
use crate::watched_file::FileError;

mod certificate;
mod key_urls;
mod keys;
mod options;
mod revoked;
#[cfg(test)]
mod tests;
mod whose;

pub use key_urls::{KeyUrls, KeyUrlsError};
pub use options::Restrictions;

use self::keys::{Keys, PersonKeys};
use self::options::Terms;
use self::revoked::RevokedKeys;

/// Whose keys are looked at when a name is nobody's, so that the same is done for it.
const NOBODY: &str = "nobody-of-that-name";

/// Who may log in, and with what.
#[derive(Debug)]
pub struct Users {
    keys: Keys,
    authorities: Vec<AuthorizedKey>,
    revoked: Option<RevokedKeys>,
    urls: Arc<KeyUrls>,
    nobody: LoginName,
}

/// Why nobody can be authenticated.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    #[error("gateway.revoked_keys: {0}")]
    Revoked(#[from] FileError),
    #[error(transparent)]
    KeyUrls(#[from] KeyUrlsError),
    #[error(transparent)]
    Name(#[from] boxgate_config::NameError),
}

/// What a client offers, or has signed with.
#[derive(Debug, Clone, Copy)]
pub enum Credential<'a> {
    Key(&'a PublicKey),
    Certificate(&'a Certificate),
}

/// Why a key that is known, or a certificate of a known authority, lets nobody in. For the log: the client is told
/// what any stranger is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("nobody's key")]
    Unknown,
    #[error("the key is revoked")]
    Revoked,
    #[error("the key has expired")]
    KeyExpired,
    #[error("not from this address")]
    FromElsewhere,
    #[error("a host's certificate, not a user's")]
    HostCertificate,
    #[error("a certificate with a key that {0}")]
    WeakKey(KeyError),
    #[error("the certificate is signed with SHA-1")]
    Sha1,
    #[error("the certificate's signature is wrong")]
    BadSignature,
    #[error("the certificate is not valid yet")]
    NotYetValid,
    #[error("the certificate has expired")]
    CertificateExpired,
    #[error("the certificate is for other principals")]
    NotAPrincipal,
    #[error("the certificate's source-address {0}")]
    SourceAddress(AddressError),
    #[error("the certificate has a critical option that cannot be honoured: {0:?}")]
    CriticalOption(String),
    #[error("the certificate forces another command than its authority's key")]
    TwoCommands,
    #[error("the security key was not touched")]
    NotTouched,
    #[error("the security key did not verify its user")]
    NotVerified,
}

/// Who would be let in, once it is shown that she holds the key.
#[derive(Debug)]
#[must_use]
pub struct Admission {
    principal: Principal,
    terms: Terms,
    security_key: bool,
}

impl Users {
    /// # Errors
    /// When a file that the configuration names cannot be used.
    pub fn load(config: &Config) -> Result<Self, UsersError> {
        let urls = Arc::new(KeyUrls::load(&config.users, &config.gateway)?);
        let directory = config.gateway.authorized_keys_dir.clone();
        Ok(Self {
            keys: Keys::new(config.users.clone(), directory, Arc::clone(&urls)),
            authorities: config.gateway.user_ca_keys.clone(),
            revoked: config.gateway.revoked_keys.as_deref().map(RevokedKeys::load).transpose()?,
            urls,
            nobody: LoginName::parse(NOBODY)?,
        })
    }

    /// What fetches the keys behind URLs.
    #[must_use]
    pub fn urls(&self) -> Arc<KeyUrls> {
        Arc::clone(&self.urls)
    }

    /// Who `credential` makes of a client at `peer` who asks for `login` (what stands before the `@`).
    #[must_use]
    pub fn authenticate(
        &self,
        login: &str,
        credential: Credential<'_>,
        peer: SocketAddr,
    ) -> Option<Admission> {
        if login == LOBBY {
            return self.whose(credential, peer);
        }
        let owner = DevBoxId::parse(login).ok().map(|id| id.owner);
        let name = owner.as_ref().unwrap_or(&self.nobody);
        let keys = self.keys.of(name);
        let found = self.terms(&keys, name, credential, peer);
        let owner = owner.filter(|_| keys.known)?;
        match found {
            Ok(terms) => Some(Admission::new(owner, credential, peer, terms)),
            Err(Refused::Unknown) => {
                self.urls.look_early(&owner);
                None
            }
            Err(reason) => {
                credential.log(&reason);
                None
            }
        }
    }

    /// On which terms a credential lets in the person with these keys.
    fn terms(
        &self,
        keys: &PersonKeys<'_>,
        login: &LoginName,
        credential: Credential<'_>,
        peer: SocketAddr,
    ) -> Result<Terms, Refused> {
        match credential {
            Credential::Key(key) => self.by_key(keys, key, peer),
            Credential::Certificate(certificate) => self.by_certificate(keys, login, certificate, peer),
        }
    }

    /// The first of a person's keys that is this one and lets her in.
    fn by_key(&self, keys: &PersonKeys<'_>, key: &PublicKey, peer: SocketAddr) -> Result<Terms, Refused> {
        let now = SystemTime::now();
        let same = |known: &&AuthorizedKey| {
            // The comment is no part of the key (RFC 4253 §6.6).
            known.public_key().key_data() == key.key_data() && known.options().role == KeyRole::Login
        };
        let found = keys.iter().filter(same).map(|known| Terms::of_options(known.options(), peer.ip(), now));
        let terms = first_admission(found)?;
        if self.is_revoked(key) { Err(Refused::Revoked) } else { Ok(terms) }
    }

    /// A person's own authorities come before everybody's.
    fn by_certificate(
        &self,
        keys: &PersonKeys<'_>,
        login: &LoginName,
        certificate: &Certificate,
        peer: SocketAddr,
    ) -> Result<Terms, Refused> {
        let now = SystemTime::now();
        let signer = certificate.signature_key();
        let is_theirs = |key: &&AuthorizedKey| key.public_key().key_data() == signer;
        let own = keys.iter().filter(is_theirs).filter_map(|key| match &key.options().role {
            KeyRole::Authority { principals } => Some((key.options(), principals)),
            KeyRole::Login => None,
        });
        let by_own = own.map(|(options, principals)| {
            let terms = certificate::terms(certificate, peer.ip(), now)?;
            match principals {
                Some(names) => certificate::check_principals(certificate, names)?,
                None => certificate::check_principals(certificate, &[login.as_str()])?,
            }
            terms.and(Terms::of_options(options, peer.ip(), now)?)
        });
        let by_everybodys = self.authorities.iter().filter(is_theirs).map(|_| {
            certificate::check_principals(certificate, &[login.as_str()])?;
            certificate::terms(certificate, peer.ip(), now)
        });
        let terms = first_admission(by_own.chain(by_everybodys))?;
        let revoked =
            [certificate.public_key(), signer].iter().any(|&key| self.is_revoked(&key.clone().into()));
        if revoked { Err(Refused::Revoked) } else { Ok(terms) }
    }

    fn is_revoked(&self, key: &PublicKey) -> bool {
        self.revoked.as_ref().is_some_and(|revoked| revoked.contains(key.key_data()))
    }
}

/// The first terms there are, else the last reason why not.
fn first_admission(found: impl Iterator<Item = Result<Terms, Refused>>) -> Result<Terms, Refused> {
    let mut reason = Refused::Unknown;
    for one in found {
        match one {
            Ok(terms) => return Ok(terms),
            Err(refused) => reason = refused,
        }
    }
    Err(reason)
}

impl Credential<'_> {
    /// The key that the client must hold.
    fn key(&self) -> PublicKey {
        match self {
            Self::Key(key) => (*key).clone(),
            Self::Certificate(certificate) => certificate.public_key().clone().into(),
        }
    }

    fn log(&self, reason: &Refused) {
        info!(fingerprint = %self.key().fingerprint(HashAlg::Sha256), "refused: {reason}");
    }
}

impl Admission {
    fn new(owner: LoginName, credential: Credential<'_>, peer: SocketAddr, terms: Terms) -> Self {
        let key = credential.key();
        let principal = Principal::new(owner, key.fingerprint(HashAlg::Sha256), peer)
            .with_restrictions(terms.restrictions.clone());
        let principal = match credential {
            Credential::Key(_) => principal,
            Credential::Certificate(certificate) => {
                principal.with_certificate(certificate.key_id(), certificate.serial())
            }
        };
        Self { principal, security_key: is_security_key(&key), terms }
    }

    /// See [`Principal::shares_key`].
    fn of_several(self) -> Self {
        Self { principal: self.principal.with_shared_key(), ..self }
    }

    /// See [`Principal::is_unrestricted`].
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        self.principal.is_unrestricted()
    }

    /// Lets her in. `statement` is what her security key said under the signature that was verified.
    ///
    /// # Errors
    /// A security key that was not used as it must be; no security key where one must be.
    pub fn admit(self, statement: Option<SecurityKeyStatement>) -> Result<Principal, Refused> {
        let present = statement.is_some_and(SecurityKeyStatement::user_present);
        let verified = statement.is_some_and(SecurityKeyStatement::user_verified);
        if self.security_key && self.terms.touch_required && !present {
            return Err(Refused::NotTouched);
        }
        if self.terms.verify_required && !(self.security_key && verified) {
            return Err(Refused::NotVerified);
        }
        Ok(self.principal)
    }
}

/// The algorithms of the signatures that are verified (`server-sig-algs`, RFC 8308 §3.1). SHA-1 is not among them.
#[must_use]
pub fn signature_algorithms() -> Vec<Algorithm> {
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    vec![
        Algorithm::Ed25519,
        Algorithm::SkEd25519,
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        Algorithm::SkEcdsaSha2NistP256,
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
}

/// What is wrong with the files that the configuration names, for `--check-config`. What they say is looked at by
/// [`Users::load`] too; this reads each person's file as well.
#[must_use]
pub fn check_files(config: &Config) -> Vec<String> {
    let gateway = &config.gateway;
    let mut faults = Vec::new();
    if let Some(file) = &gateway.revoked_keys
        && let Err(fault) = RevokedKeys::load(file)
    {
        faults.push(format!("gateway.revoked_keys: {fault}"));
    }
    faults.extend(keys::check_directory(&gateway.authorized_keys_dir));
    faults
}
