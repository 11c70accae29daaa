//! Where a person's keys come from: her table in the configuration, her file, her URLs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use boxgate_config::{AuthorizedKey, KeyError, LoginName, User};
use tracing::warn;

use super::key_urls::KeyUrls;
use crate::watched_file::Watched;

/// Every person's keys.
#[derive(Debug)]
pub(super) struct Keys {
    users: BTreeMap<LoginName, User>,
    files: KeyFiles,
    urls: Arc<KeyUrls>,
}

/// One person's keys at this moment.
#[derive(Debug, Default)]
pub(super) struct PersonKeys<'a> {
    /// Whether there is such a person.
    pub(super) known: bool,
    configured: &'a [AuthorizedKey],
    others: Vec<Arc<Vec<AuthorizedKey>>>,
}

impl PersonKeys<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &AuthorizedKey> {
        self.configured.iter().chain(self.others.iter().flat_map(|keys| keys.iter()))
    }
}

impl Keys {
    pub(super) fn new(users: BTreeMap<LoginName, User>, directory: PathBuf, urls: Arc<KeyUrls>) -> Self {
        Self { users, files: KeyFiles { directory, files: Mutex::default() }, urls }
    }

    /// Everybody who is known.
    pub(super) fn everyone(&self) -> BTreeSet<LoginName> {
        self.users.keys().cloned().chain(self.files.owners()).collect()
    }

    pub(super) fn of(&self, login: &LoginName) -> PersonKeys<'_> {
        let user = self.users.get(login);
        let file = self.files.of(login);
        PersonKeys {
            known: user.is_some() || file.is_some(),
            configured: user.map_or(&[], |user| &user.keys),
            others: file.into_iter().chain(self.urls.of(login)).collect(),
        }
    }
}

/// A directory with a file for each person, of her login name, in `authorized_keys` format.
#[derive(Debug)]
struct KeyFiles {
    directory: PathBuf,
    /// One for each file that was there when it was looked for, so the directory bounds it.
    files: Mutex<HashMap<LoginName, Watched<Vec<AuthorizedKey>>>>,
}

impl KeyFiles {
    /// Whoever has a file. Whether it may be believed shows when it is read.
    fn owners(&self) -> Vec<LoginName> {
        let files = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        files.filter_map(|file| LoginName::parse(file.file_name().to_str()?).ok()).collect()
    }

    /// `None` when there is no such file, or none that may be believed; the log says why then.
    fn of(&self, login: &LoginName) -> Option<Arc<Vec<AuthorizedKey>>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut watched = files.remove(login).unwrap_or_else(|| Watched::new(parse));
        let got = watched.get(&self.directory.join(login.as_str()));
        if !matches!(got, Ok(None)) {
            files.insert(login.clone(), watched);
        }
        got.ok().flatten()
    }
}

/// What is wrong with the files of a directory, each fault with its file, line and remedy.
pub(super) fn check_directory(directory: &Path) -> Vec<String> {
    let mut files: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().collect();
    files.sort_by_key(fs::DirEntry::file_name);
    files.iter().flat_map(|file| check_file(&file.path())).collect()
}

fn check_file(file: &Path) -> Vec<String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if let Err(fault) = LoginName::parse(&name) {
        let remedy = "name the file as its owner logs in, or move it elsewhere";
        return vec![format!("{}: the name {fault}\n    {remedy}", file.display())];
    }
    let mut read = Watched::new(|_, bytes| Ok(AuthorizedKey::parse_file(&String::from_utf8_lossy(bytes)).1));
    match read.get(file) {
        Ok(faults) => {
            let line = |(line, fault): &(usize, KeyError)| {
                format!("{}:{line}: the key {fault}\n    {}", file.display(), fault.remedy())
            };
            faults.iter().flat_map(|faults| faults.iter()).map(line).collect()
        }
        Err(fault) => vec![fault.to_string()],
    }
}

/// A line that is no key, or a key with an option that cannot be honoured, lets nobody in; the others count.
#[expect(clippy::unnecessary_wraps, reason = "other files can be wrong as a whole, see watched_file::Parse")]
fn parse(file: &Path, bytes: &[u8]) -> Result<Vec<AuthorizedKey>, String> {
    let (keys, faults) = AuthorizedKey::parse_file(&String::from_utf8_lossy(bytes));
    for (line, fault) in faults {
        warn!("{}:{line}: the key {fault}: {}", file.display(), fault.remedy());
    }
    Ok(keys)
}
