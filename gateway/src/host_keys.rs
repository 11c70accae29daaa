//! The gateway's host keys: ed25519, ECDSA and RSA, made at first start; and the certificates that an operator's
//! authority has given them.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ssh_key::certificate::CertType;
use ssh_key::private::{KeypairData, RsaKeypair};
use ssh_key::{Algorithm, Certificate, EcdsaCurve, PrivateKey};
use tracing::warn;

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

/// Why a file is of no use as a host certificate.
#[derive(Debug, thiserror::Error)]
#[error("gateway.host_certificates: {}: {problem}", file.display())]
pub struct HostCertificateError {
    pub file: PathBuf,
    pub problem: String,
}

/// Reads the certificates of `keys`. One that has expired is only warned of: a client that does not believe it
/// says so, and one that knows the plain key does not care.
///
/// # Errors
/// The first file that is no certificate of one of the keys.
pub fn load_certificates(
    files: &[PathBuf],
    keys: &[PrivateKey],
) -> Result<Vec<Certificate>, HostCertificateError> {
    let load = |file: &PathBuf| {
        load_certificate(file, keys).map_err(|problem| HostCertificateError { file: file.clone(), problem })
    };
    files.iter().map(load).collect()
}

fn load_certificate(file: &Path, keys: &[PrivateKey]) -> Result<Certificate, String> {
    let text = std::fs::read_to_string(file).map_err(|fault| fault.to_string())?;
    let certificate = Certificate::from_openssh(text.trim())
        .map_err(|fault| format!("is not a certificate in OpenSSH's format: {fault}"))?;
    if certificate.cert_type() != CertType::Host {
        return Err("is a user's certificate: sign it anew with ssh-keygen -h".to_owned());
    }
    if !keys.iter().any(|key| key.public_key().key_data() == certificate.public_key()) {
        return Err("is for a key that is none of the gateway's: sign a ssh_host_*_key.pub of its state_dir"
            .to_owned());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if !(certificate.valid_after()..certificate.valid_before()).contains(&now) {
        warn!(file = %file.display(), "this host certificate is not valid now");
    }
    Ok(certificate)
}
