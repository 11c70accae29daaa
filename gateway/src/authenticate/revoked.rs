//! The list of keys that nobody may use: one public key or fingerprint a line. It is read anew when it changes;
//! while it cannot be read, every key counts as revoked (`sshd_config(5)`, `RevokedKeys`).

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use ssh_key::public::KeyData;
use ssh_key::{Fingerprint, HashAlg, PublicKey};

use crate::watched_file::{FileError, Watched};

/// How OpenSSH's binary list begins (OpenSSH `PROTOCOL.krl`).
const KRL_MAGIC: &[u8] = b"SSHKRL\n\0";

#[derive(Debug)]
pub(super) struct RevokedKeys {
    file: PathBuf,
    list: Mutex<Watched<HashSet<Fingerprint>>>,
}

impl RevokedKeys {
    /// Reads the list for the first time.
    pub(super) fn load(file: &Path) -> Result<Self, FileError> {
        let mut list = Watched::new(parse);
        if list.get(file)?.is_none() {
            return Err(FileError::Content {
                path: file.to_owned(),
                problem: "there is no such file".to_owned(),
            });
        }
        Ok(Self { file: file.to_owned(), list: Mutex::new(list) })
    }

    pub(super) fn contains(&self, key: &KeyData) -> bool {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner).get(&self.file);
        let Ok(Some(list)) = list else { return true };
        [HashAlg::Sha256, HashAlg::Sha512].into_iter().any(|hash| list.contains(&key.fingerprint(hash)))
    }
}

fn parse(_: &Path, bytes: &[u8]) -> Result<HashSet<Fingerprint>, String> {
    if bytes.starts_with(KRL_MAGIC) {
        return Err(
            "is a key revocation list (KRL), which cannot be read: write a text file with one public key \
                    or SHA256 fingerprint a line"
                .to_owned(),
        );
    }
    let text = str::from_utf8(bytes).map_err(|_| "is not a text file".to_owned())?;
    let mut list = HashSet::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let word = line.split_ascii_whitespace().next().unwrap_or_default();
        let revoked = match Fingerprint::from_str(word) {
            Ok(fingerprint) => Some(fingerprint),
            Err(_) => PublicKey::from_openssh(line).ok().map(|key| key.fingerprint(HashAlg::Sha256)),
        };
        let remedy = "is neither a public key nor a fingerprint as `ssh-keygen -l` prints it";
        list.insert(revoked.ok_or_else(|| format!("line {}: {remedy}", at + 1))?);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ssh_key::{Algorithm, PrivateKey};

    use super::*;

    fn key() -> PublicKey {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap().public_key().clone()
    }

    #[test]
    fn keys_and_fingerprints_are_revoked_until_the_list_says_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("revoked");
        let (by_key, by_print, free) = (key(), key(), key());
        let text = format!(
            "# gone\n\n{} lost laptop\n  {} of bob\n",
            by_key.to_openssh().unwrap(),
            by_print.fingerprint(HashAlg::Sha256)
        );
        fs::write(&file, text).unwrap();
        let revoked = RevokedKeys::load(&file).unwrap();
        let now = || [&by_key, &by_print, &free].map(|key| revoked.contains(key.key_data()));
        assert_eq!(now(), [true, true, false]);
        fs::write(&file, "# nobody\n").unwrap();
        assert_eq!(now(), [false, false, false]);
        fs::write(&file, "what is this\n").unwrap();
        assert_eq!(now(), [true, true, true]);
        fs::remove_file(&file).unwrap();
        assert_eq!(now(), [true, true, true]);
    }

    #[test]
    fn a_list_that_cannot_be_read_is_a_fault_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("revoked");
        assert!(RevokedKeys::load(&file).unwrap_err().to_string().contains("no such file"));
        fs::write(&file, [KRL_MAGIC, b"\0\0\0\x01"].concat()).unwrap();
        assert!(RevokedKeys::load(&file).unwrap_err().to_string().contains("KRL"));
        fs::write(&file, "\nSHA256:short\n").unwrap();
        assert!(RevokedKeys::load(&file).unwrap_err().to_string().contains("line 2"));
    }
}
