//! One line of `authorized_keys` (sshd(8), "`AUTHORIZED_KEYS` FILE FORMAT") as a key that may log in, or as
//! an authority whose certificates may, and what it may do then.

use std::fmt;

use ssh_key::{Algorithm, Fingerprint, HashAlg, PublicKey};

mod options;
mod permissions;
mod time;

pub use options::{KeyOptions, KeyRole};
pub use permissions::{Permission, Permissions};

/// Fewest bits of an RSA key that may log in (NIST SP 800-131A rev. 2).
const RSA_MIN_BITS: u32 = 2048;
/// Most bits of an RSA key whose signatures are verified: larger ones only cost time.
const RSA_MAX_BITS: u32 = 8192;
/// Characters of a refused option that are repeated to the operator.
const SHOWN: usize = 40;

/// A public key that may log in as its user, and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizedKey {
    key: PublicKey,
    options: KeyOptions,
}

/// Why a line names no key that may log in. Completes the sentence "the key …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("is a private key")]
    Private,
    #[error("is a certificate")]
    Certificate,
    #[error("has options that cannot be read: {0}")]
    OptionSyntax(String),
    #[error("has the option {:?}, which sshd does not know either", shown(.0))]
    UnknownOption(String),
    #[error("has the option {0}=, which cannot be enforced in a box")]
    CannotHonour(String),
    #[error("has an option {option} that {problem}")]
    OptionValue { option: String, problem: String },
    #[error("has the option verify-required, which only security keys (sk-…) can fulfil")]
    NotASecurityKey,
    #[error("has options, and none may stand here")]
    OptionsNotAllowed,
    #[error("is not a public key in OpenSSH's format: {0}")]
    Malformed(String),
    #[error("is an RSA key of {bits} bits, fewer than {RSA_MIN_BITS}")]
    RsaTooShort { bits: u32 },
    #[error("is an RSA key of {bits} bits, more than {RSA_MAX_BITS}")]
    RsaTooLong { bits: u32 },
    #[error("is of type {0}, which cannot be checked")]
    Unsupported(String),
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

impl KeyError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::CannotHonour(_) => {
                "remove the key, or say it with what can be enforced: restrict, no-port-forwarding, command=, \
                 from=, expiry-time="
            }
            Self::OptionSyntax(_) | Self::UnknownOption(_) | Self::OptionValue { .. } => {
                "write the options as in sshd(8), AUTHORIZED_KEYS FILE FORMAT, for example \
                 restrict,pty,from=\"192.0.2.0/24\""
            }
            Self::OptionsNotAllowed => "write the text of a .pub file alone",
            Self::Certificate => {
                "write its authority's public key, into gateway.user_ca_keys or with the option cert-authority"
            }
            _ => {
                "write the text of a .pub file (ed25519, ECDSA, a security key, or RSA of 2048 to 8192 bits), for \
                 example from ~/.ssh/id_ed25519.pub"
            }
        }
    }
}

impl AuthorizedKey {
    /// Parses `restrict,pty ssh-ed25519 AAAA… comment`. A key with an option that cannot be honoured is refused,
    /// never taken without it: its owner could do more than its author meant.
    ///
    /// # Errors
    /// A [`KeyError`] that completes the sentence "the key …".
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        let line = line.trim();
        if line.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        let (options, key) = if is_key_type(first) {
            (KeyOptions::default(), line)
        } else {
            let (options, key) = line.split_at(options::end(line));
            let parsed = KeyOptions::parse(options);
            if !is_key_type(key.split_ascii_whitespace().next().unwrap_or_default()) {
                let problem = "neither a key's type nor options before one".to_owned();
                let cut_short = parsed.err().filter(|_| options.contains('='));
                return Err(cut_short.unwrap_or(KeyError::Malformed(problem)));
            }
            (parsed?, key.trim_start())
        };
        let key = parse_key(key)?;
        if options.verify_required && options.role == KeyRole::Login && !is_security_key(&key) {
            return Err(KeyError::NotASecurityKey);
        }
        Ok(Self { key, options })
    }

    /// Parses a key that has no options, for example a certificate authority's.
    ///
    /// # Errors
    /// See [`AuthorizedKey::parse`].
    pub fn parse_plain(line: &str) -> Result<Self, KeyError> {
        let parsed = Self::parse(line)?;
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        if is_key_type(first) { Ok(parsed) } else { Err(KeyError::OptionsNotAllowed) }
    }

    /// Every key of a file in `authorized_keys` format, and what is wrong with its other lines, by their
    /// 1-based numbers.
    #[must_use]
    pub fn parse_file(text: &str) -> (Vec<Self>, Vec<(usize, KeyError)>) {
        let (mut keys, mut faults) = (Vec::new(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match Self::parse(line) {
                Ok(key) => keys.push(key),
                Err(fault) => faults.push((at + 1, fault)),
            }
        }
        (keys, faults)
    }

    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    #[must_use]
    pub fn options(&self) -> &KeyOptions {
        &self.options
    }

    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.key.fingerprint(HashAlg::Sha256)
    }
}

/// Whether a word of the line is the name of a key's type: what stands before it are options.
fn is_key_type(word: &str) -> bool {
    !matches!(Algorithm::new(word), Err(_) | Ok(Algorithm::Other(_))) || is_certificate_type(word)
}

fn is_certificate_type(word: &str) -> bool {
    word.ends_with("-cert-v01@openssh.com")
}

fn parse_key(text: &str) -> Result<PublicKey, KeyError> {
    // However many spaces stand between them.
    let mut words = text.split_ascii_whitespace();
    let (kind, data) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if is_certificate_type(kind) {
        return Err(KeyError::Certificate);
    }
    let comment = words.collect::<Vec<_>>().join(" ");
    let mut key = PublicKey::from_openssh(&format!("{kind} {data}"))
        .map_err(|fault| KeyError::Malformed(fault.to_string()))?;
    key.set_comment(comment);
    check_strength(&key)?;
    Ok(key)
}

/// Whether a key lives in a FIDO authenticator, whose signatures say whether it was touched.
#[must_use]
pub fn is_security_key(key: &PublicKey) -> bool {
    matches!(key.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256)
}

/// Whether a key is of a kind and size whose signatures count.
///
/// # Errors
/// A [`KeyError`] that says why not.
pub fn check_strength(key: &PublicKey) -> Result<(), KeyError> {
    match key.algorithm() {
        Algorithm::Ed25519
        | Algorithm::Ecdsa { .. }
        | Algorithm::SkEd25519
        | Algorithm::SkEcdsaSha2NistP256 => Ok(()),
        Algorithm::Rsa { .. } => {
            match key.key_data().rsa().map_or(0, ssh_key::public::RsaPublicKey::key_size) {
                bits if bits < RSA_MIN_BITS => Err(KeyError::RsaTooShort { bits }),
                bits if bits > RSA_MAX_BITS => Err(KeyError::RsaTooLong { bits }),
                _ => Ok(()),
            }
        }
        other => Err(KeyError::Unsupported(other.to_string())),
    }
}

impl fmt::Display for AuthorizedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key.algorithm(), self.fingerprint())
    }
}
