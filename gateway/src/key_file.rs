//! Private keys that are made at first start and kept in files which their owner alone may read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ssh_key::{Algorithm, LineEnding, PrivateKey};
use tracing::info;

/// Why there is no key to be had from a file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("{}: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("{}: may be read by others (mode {mode:o}): chmod 600 it, or remove it for a new one", file.display())]
    Exposed { file: PathBuf, mode: u32 },
    #[error("{}: is not a private key that can be used: {source}", file.display())]
    Malformed { file: PathBuf, source: ssh_key::Error },
    #[error("cannot make a key of type {algorithm}: {source}")]
    Make { algorithm: Algorithm, source: ssh_key::Error },
}

/// Reads the key in `file`, or makes one with `make` and keeps it there (0600) when there is no such file.
///
/// # Errors
/// A [`KeyFileError`]; a file that is there is never replaced.
pub fn load_or_make(
    file: &Path,
    algorithm: &Algorithm,
    make: impl FnOnce() -> Result<PrivateKey, ssh_key::Error>,
) -> Result<PrivateKey, KeyFileError> {
    match fs::metadata(file) {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => {
            Err(KeyFileError::Exposed { file: file.to_owned(), mode: metadata.mode() & 0o777 })
        }
        Ok(_) => load(file),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let key = make().map_err(|source| KeyFileError::Make { algorithm: algorithm.clone(), source })?;
            keep(file, &key)?;
            info!(file = %file.display(), fingerprint = %key.fingerprint(ssh_key::HashAlg::Sha256), "made a key");
            Ok(key)
        }
        Err(source) => Err(KeyFileError::Io { file: file.to_owned(), source }),
    }
}

fn load(file: &Path) -> Result<PrivateKey, KeyFileError> {
    let text =
        fs::read_to_string(file).map_err(|source| KeyFileError::Io { file: file.to_owned(), source })?;
    PrivateKey::from_openssh(&text)
        .map_err(|source| KeyFileError::Malformed { file: file.to_owned(), source })
}

/// Writes the key and, beside it, its `.pub`. The rename makes the key whole or absent, whenever power fails.
fn keep(file: &Path, key: &PrivateKey) -> Result<(), KeyFileError> {
    let malformed = |source| KeyFileError::Malformed { file: file.to_owned(), source };
    let private = key.to_openssh(LineEnding::LF).map_err(malformed)?;
    let public = key.public_key().to_openssh().map_err(malformed)?;
    write(&file.with_extension("pub"), format!("{public}\n").as_bytes(), 0o644)?;
    write(file, private.as_bytes(), 0o600)
}

fn write(file: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyFileError> {
    let fresh = file.with_extension("new");
    let written = (|| {
        match fs::remove_file(&fresh) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
            _ => {}
        }
        let mut new = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        new.write_all(bytes)?;
        new.sync_all()?;
        fs::rename(&fresh, file)
    })();
    written.map_err(|source| KeyFileError::Io { file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn ed25519() -> Result<PrivateKey, ssh_key::Error> {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)
    }

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let made = load_or_make(&file, &Algorithm::Ed25519, ed25519).unwrap();
        let found = load_or_make(&file, &Algorithm::Ed25519, || panic!("made again")).unwrap();
        assert_eq!(made.public_key().key_data(), found.public_key().key_data());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(file.with_extension("pub").exists());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        load_or_make(&file, &Algorithm::Ed25519, ed25519).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = load_or_make(&file, &Algorithm::Ed25519, ed25519).unwrap_err();
        assert!(matches!(refused, KeyFileError::Exposed { mode: 0o640, .. }), "{refused}");
    }

    #[test]
    fn a_broken_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        write(&file, b"not a key", 0o600).unwrap();
        let refused = load_or_make(&file, &Algorithm::Ed25519, ed25519).unwrap_err();
        assert!(matches!(refused, KeyFileError::Malformed { .. }), "{refused}");
        assert_eq!(fs::read(&file).unwrap(), b"not a key");
    }
}
