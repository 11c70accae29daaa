//! Files that say who may log in: read again when they have changed, and believed only if nobody but root and
//! the gateway's own user may write them, as by sshd's `StrictModes`.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Uid, geteuid};
use tracing::error;

/// Largest file that is read: ten thousand keys, and no more than a moment's work.
const MAX_BYTES: u64 = 8 << 20;
/// Write permission for the group and for others.
const OTHERS_WRITE: u32 = 0o022;
/// In such a directory each file is its owner's alone.
const STICKY: u32 = 0o1000;

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: may be written by others (mode {mode:o}): chmod go-w it", path.display())]
    Writable { path: PathBuf, mode: u32 },
    #[error("{}: belongs to uid {uid}, and only root's and the gateway's own files count: chown it", path.display())]
    Owner { path: PathBuf, uid: u32 },
    #[error("{}: is not a file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{}: is larger than {} MiB", path.display(), MAX_BYTES >> 20)]
    TooLarge { path: PathBuf },
    #[error("{}: {problem}", path.display())]
    Content { path: PathBuf, problem: String },
}

/// What tells one content of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// How a file's bytes become what they say, or what is wrong with them.
pub type Parse<T> = fn(&Path, &[u8]) -> Result<T, String>;

/// A file's content as it was read last.
#[derive(Debug)]
pub struct Watched<T> {
    parse: Parse<T>,
    seen: Option<(Stamp, Arc<T>)>,
    /// What was logged last, so that a fault is logged once and not with each login.
    fault: String,
}

impl<T> Watched<T> {
    #[must_use]
    pub fn new(parse: Parse<T>) -> Self {
        Self { parse, seen: None, fault: String::new() }
    }

    /// What the file says now; `None` when there is none. Costs a few system calls while it stays the same.
    ///
    /// # Errors
    /// Why it is not believed; logged once.
    pub fn get(&mut self, path: &Path) -> Result<Option<Arc<T>>, FileError> {
        let got = self.look(path);
        match &got {
            Ok(_) => self.fault.clear(),
            Err(fault) => {
                self.seen = None;
                let text = fault.to_string();
                if self.fault != text {
                    error!("{text}");
                    self.fault = text;
                }
            }
        }
        got
    }

    fn look(&mut self, path: &Path) -> Result<Option<Arc<T>>, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let real = match fs::canonicalize(path) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                self.seen = None;
                return Ok(None);
            }
            real => real.map_err(io)?,
        };
        trust_directories(&real)?;
        let file = File::open(&real).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        trust(&real, &metadata)?;
        if !metadata.is_file() {
            return Err(FileError::NotAFile { path: path.to_owned() });
        }
        let stamp = Stamp::of(&metadata);
        if let Some((seen, value)) = &self.seen
            && *seen == stamp
        {
            return Ok(Some(Arc::clone(value)));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(FileError::TooLarge { path: path.to_owned() });
        }
        let value = (self.parse)(path, &bytes)
            .map_err(|problem| FileError::Content { path: path.to_owned(), problem })?;
        let value = Arc::new(value);
        self.seen = Some((stamp, Arc::clone(&value)));
        Ok(Some(value))
    }
}

/// Whether nobody else may put another file in this one's place.
///
/// # Errors
/// The first directory, from the file's own up to the root, that somebody else may write.
pub fn trust_directories(file: &Path) -> Result<(), FileError> {
    for directory in file.ancestors().skip(1) {
        let metadata =
            fs::metadata(directory).map_err(|source| FileError::Io { path: directory.to_owned(), source })?;
        if metadata.mode() & STICKY == 0 {
            trust(directory, &metadata)?;
        }
    }
    Ok(())
}

fn trust(path: &Path, metadata: &Metadata) -> Result<(), FileError> {
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(FileError::Writable { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    let owner = Uid::from_raw(metadata.uid());
    if owner.is_root() || owner == geteuid() {
        Ok(())
    } else {
        Err(FileError::Owner { path: path.to_owned(), uid: metadata.uid() })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn watched() -> Watched<String> {
        Watched::new(|_, bytes| match bytes {
            b"bad" => Err("line 1: is bad".to_owned()),
            good => Ok(String::from_utf8_lossy(good).into_owned()),
        })
    }

    fn text(watched: &mut Watched<String>, file: &Path) -> Option<String> {
        watched.get(file).unwrap().map(|text| (*text).clone())
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_change_is_seen_and_so_is_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        let mut watched = watched();
        assert_eq!(text(&mut watched, &file), None);
        fs::write(&file, "one").unwrap();
        assert_eq!(text(&mut watched, &file).as_deref(), Some("one"));
        fs::write(&file, "two").unwrap();
        assert_eq!(text(&mut watched, &file).as_deref(), Some("two"));
        fs::write(&file, "bad").unwrap();
        assert_eq!(
            watched.get(&file).unwrap_err().to_string(),
            format!("{}: line 1: is bad", file.display())
        );
        fs::remove_file(&file).unwrap();
        assert_eq!(text(&mut watched, &file), None);
    }

    #[test]
    fn what_others_may_write_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("keys.d");
        fs::create_dir(&inner).unwrap();
        let file = inner.join("alice");
        fs::write(&file, "one").unwrap();
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        for mode in [0o664, 0o646] {
            chmod(&file, mode);
            assert!(matches!(watched().get(&file), Err(FileError::Writable { .. })));
            assert!(matches!(watched().get(&link), Err(FileError::Writable { .. })));
        }
        chmod(&file, 0o644);
        chmod(&inner, 0o775);
        assert!(matches!(watched().get(&file), Err(FileError::Writable { .. })));
        chmod(&inner, 0o755);
        assert_eq!(text(&mut watched(), &link).as_deref(), Some("one"));
        assert!(matches!(watched().get(&inner), Err(FileError::NotAFile { .. })));
    }
}
