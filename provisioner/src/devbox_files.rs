//! The directory of a box that is bound read-only to its `/etc/boxgate`: host key, the gateway's CA, `box.json`, and
//! a file for each setting that the box's own units look for. Its files appear whole or not at all, and what is right
//! already is left alone.
//!
//! The host key is made once and stays for as long as the directory does, so that a box made anew is still
//! the same machine to whoever pinned its key. Functions here block; they touch a handful of small files.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use boxgate_config::Dotfiles;
use serde::Serialize;
use ssh_key::{Algorithm, LineEnding, PrivateKey, PublicKey};

use crate::blueprint::Blueprint;

const HOST_KEY: &str = "ssh_host_ed25519_key";
const USER_CA: &str = "user_ca.pub";
const DESCRIPTION: &str = "box.json";

/// Root's alone: the directories above the boxes' own, where host keys lie side by side.
const PRIVATE: u32 = 0o700;
/// What is bound into a box is for all its users to see, but for the host key.
const PUBLIC: u32 = 0o755;

/// The gateway's user CA: one public key, known to be one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCa(String);

/// Why a box's files could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: is no host key: {source}", path.display())]
    HostKey { path: PathBuf, source: ssh_key::Error },
    #[error("cannot make a host key: {0}")]
    Generate(ssh_key::Error),
    #[error("cannot describe the box: {0}")]
    Describe(#[from] serde_json::Error),
}

/// `box.json`, which the box's first-boot unit reads.
#[derive(Serialize)]
struct Description<'a> {
    user: &'a str,
    uid: u32,
    shell: &'a Path,
    hostname: &'a str,
    cluster: &'a str,
}

/// The same of a box that nobody has yet: no user is made.
#[derive(Serialize)]
struct SpareDescription {
    spare: bool,
}

impl UserCa {
    /// # Errors
    /// When `line` is not one OpenSSH public key: sshd would trust each line of its file.
    pub fn parse(line: &str) -> Result<Self, ssh_key::Error> {
        let line = line.trim_end();
        if line.contains(char::is_control) {
            return Err(ssh_key::Error::FormatEncoding);
        }
        let key = PublicKey::from_openssh(line)?;
        Ok(Self(PublicKey::new(key.key_data().clone(), "boxgate user CA").to_openssh()?))
    }
}

/// Makes the directory what `devbox` says it should be, and returns the box's public host key as one line.
/// Without a `user_ca` the one that is there stays: the next login brings one.
///
/// # Errors
/// An [`Error`] with the file it is about; what was written before it stays and is completed next time.
pub fn write(devbox: &Blueprint, user_ca: Option<&UserCa>) -> Result<String, Error> {
    let directory = &devbox.files;
    if !directory.is_dir() {
        make_directories(directory)?;
    }
    let host_key = host_key(directory, &format!("boxgate {}", devbox.id))?;
    if let Some(UserCa(line)) = user_ca {
        put(directory, USER_CA, format!("{line}\n").as_bytes(), 0o644)?;
    }
    for (name, setting) in settings(devbox) {
        put_setting(directory, name, setting)?;
    }
    // Last: a box whose description is new finds everything else in place.
    put(directory, DESCRIPTION, &describe(devbox)?, 0o644)?;
    Ok(host_key)
}

fn describe(devbox: &Blueprint) -> serde_json::Result<Vec<u8>> {
    if devbox.id.is_spare() {
        return serde_json::to_vec(&SpareDescription { spare: true });
    }
    serde_json::to_vec(&Description {
        user: &devbox.user.name,
        uid: devbox.user.uid,
        shell: &devbox.user.shell,
        hostname: &devbox.hostname,
        cluster: devbox.cluster.name(),
    })
}

/// What the box's units do is what these files say, one value a line. There is none for what is not set, so that a box
/// starts nothing for it; nor in a spare, which is nobody's yet.
fn settings(devbox: &Blueprint) -> [(&'static str, Option<String>); 5] {
    let comfort = &devbox.comfort;
    let dotfiles = match &comfort.dotfiles {
        Some(Dotfiles::From(url)) => Some(url.to_string()),
        Some(Dotfiles::None) | None => None,
    };
    let mirrors: Vec<_> = devbox.registry_mirrors.iter().map(ToString::to_string).collect();
    let all = [
        ("timezone", comfort.timezone.as_ref().map(ToString::to_string)),
        ("locale", comfort.locale.as_ref().map(ToString::to_string)),
        ("dotfiles", dotfiles),
        ("persist", (comfort.persist == Some(true)).then(|| "true".to_owned())),
        ("registry_mirrors", (!mirrors.is_empty()).then(|| mirrors.join("\n"))),
    ];
    all.map(|(name, value)| (name, value.filter(|_| !devbox.id.is_spare())))
}

fn put_setting(directory: &Path, name: &str, value: Option<String>) -> Result<(), Error> {
    if let Some(value) = value {
        return put(directory, name, format!("{value}\n").as_bytes(), 0o644);
    }
    let path = directory.join(name);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io { path, source }),
        _ => Ok(()),
    }
}

fn make_directories(directory: &Path) -> Result<(), Error> {
    let make = |path: &Path, mode: u32| {
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(|source| Error::Io { path: path.to_owned(), source })
    };
    if let Some(parent) = directory.parent() {
        make(parent, PRIVATE)?;
    }
    make(directory, PUBLIC)
}

fn host_key(directory: &Path, comment: &str) -> Result<String, Error> {
    let path = directory.join(HOST_KEY);
    let key = match read(&path)? {
        Some(text) => PrivateKey::from_openssh(&text).map_err(|source| Error::HostKey { path, source })?,
        None => make_host_key(directory, comment)?,
    };
    let public = key.public_key().to_openssh().map_err(Error::Generate)?;
    put(directory, &format!("{HOST_KEY}.pub"), format!("{public}\n").as_bytes(), 0o644)?;
    Ok(public)
}

fn make_host_key(directory: &Path, comment: &str) -> Result<PrivateKey, Error> {
    let mut key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(Error::Generate)?;
    key.set_comment(comment);
    let text = key.to_openssh(LineEnding::LF).map_err(Error::Generate)?;
    put(directory, HOST_KEY, text.as_bytes(), 0o600)?;
    Ok(key)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

/// Makes the file have this content, in one step for whoever reads it.
fn put(directory: &Path, name: &str, content: &[u8], mode: u32) -> Result<(), Error> {
    let path = directory.join(name);
    if read(&path)?.as_deref() == Some(content) {
        return Ok(());
    }
    replace(directory, name, content, mode).map_err(|source| Error::Io { path, source })
}

fn replace(directory: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    // A leftover of a crash is written over: no other task writes this box's files.
    let temporary = directory.join(format!(".{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(name))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
