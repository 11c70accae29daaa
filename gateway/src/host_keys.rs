//! The gateway's host keys: ed25519, ECDSA and RSA, made at first start.

use std::path::Path;

use ssh_key::private::{KeypairData, RsaKeypair};
use ssh_key::{Algorithm, EcdsaCurve, PrivateKey};

use crate::key_file::{KeyFileError, load_or_make};

/// Bits of a new RSA host key (what ssh-keygen(1) makes).
const RSA_BITS: usize = 3072;

/// The host keys in `dir`, in the order in which they are offered.
///
/// # Errors
/// The first key that could neither be read nor made.
pub fn load_or_make_all(dir: &Path) -> Result<Vec<PrivateKey>, KeyFileError> {
    [
        ("ssh_host_ed25519_key", Algorithm::Ed25519),
        ("ssh_host_ecdsa_key", Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
        ("ssh_host_rsa_key", Algorithm::Rsa { hash: None }),
    ]
    .into_iter()
    .map(|(name, algorithm)| load_or_make(&dir.join(name), &algorithm, || make(&algorithm)))
    .collect()
}

fn make(algorithm: &Algorithm) -> Result<PrivateKey, ssh_key::Error> {
    match algorithm {
        Algorithm::Rsa { .. } => {
            let pair = RsaKeypair::random(&mut rand::rng(), RSA_BITS)?;
            PrivateKey::new(KeypairData::from(pair), "")
        }
        other => PrivateKey::random(&mut rand::rng(), other.clone()),
    }
}
