//! One line of `authorized_keys` (sshd(8), "`AUTHORIZED_KEYS` FILE FORMAT") as a key that may log in.

use std::fmt;

use ssh_key::{Algorithm, Fingerprint, HashAlg, PublicKey};

/// Fewest bits of an RSA key that may log in (NIST SP 800-131A rev. 2).
const RSA_MIN_BITS: u32 = 2048;

/// A public key that may log in as its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizedKey(PublicKey);

/// Why a line names no key that may log in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("is a private key")]
    Private,
    #[error("has options ({0}…), which this version cannot honour")]
    Options(String),
    #[error("is not a public key in OpenSSH's format: {0}")]
    Malformed(String),
    #[error("is an RSA key of {bits} bits, fewer than {RSA_MIN_BITS}")]
    RsaTooShort { bits: u32 },
    #[error("is of type {0}, which this version cannot check")]
    Unsupported(String),
}

impl AuthorizedKey {
    /// Parses `ssh-ed25519 AAAA… comment`. A key with options is refused, never taken without them: an
    /// option that is not honoured would give its owner more than its author meant.
    ///
    /// # Errors
    /// A [`KeyError`] that completes the sentence "the key …".
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        let line = line.trim();
        if line.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if is_key_type(words.next().unwrap_or_default()) && !is_key_type(first) {
            return Err(KeyError::Options(first.chars().take(20).collect()));
        }
        let key = PublicKey::from_openssh(line).map_err(|fault| KeyError::Malformed(fault.to_string()))?;
        check(&key)?;
        Ok(Self(key))
    }

    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.0
    }

    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint(HashAlg::Sha256)
    }
}

/// Whether a word of the line is the name of a key's type: what stands before it are options.
fn is_key_type(word: &str) -> bool {
    !matches!(Algorithm::new(word), Err(_) | Ok(Algorithm::Other(_)))
}

fn check(key: &PublicKey) -> Result<(), KeyError> {
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(()),
        Algorithm::Rsa { .. } => {
            let bits = key.key_data().rsa().map_or(0, ssh_key::public::RsaPublicKey::key_size);
            if bits < RSA_MIN_BITS { Err(KeyError::RsaTooShort { bits }) } else { Ok(()) }
        }
        other => Err(KeyError::Unsupported(other.to_string())),
    }
}

impl fmt::Display for AuthorizedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.algorithm(), self.fingerprint())
    }
}
