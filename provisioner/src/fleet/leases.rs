//! Boxes that their owners keep running for a while, used or not. One small file each, so that a lease outlives the
//! provisioner; it decides when a box is stopped, never whether it exists.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxgate_config::DevBoxId;
use jiff::{Timestamp, Unit};
use tracing::warn;

use crate::devbox_files::Error;
use crate::objects;

#[derive(Debug)]
pub(super) struct Leases {
    directory: PathBuf,
}

impl Leases {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("leases") }
    }

    fn file(&self, id: &DevBoxId) -> PathBuf {
        self.directory.join(objects::path_name(id))
    }

    /// Keeps the box for `time` from now on, and returns until when. No time at all ends what was before.
    pub(super) fn keep(&self, id: &DevBoxId, time: Duration) -> Result<Option<Timestamp>, Error> {
        if time.is_zero() {
            return self.end(id).map(|()| None);
        }
        let until = Timestamp::now()
            .saturating_add(jiff::SignedDuration::try_from(time).unwrap_or(jiff::SignedDuration::MAX));
        let until = until.unwrap_or(Timestamp::MAX).round(Unit::Second).unwrap_or(Timestamp::MAX);
        let path = self.file(id);
        fs::create_dir_all(&self.directory)
            .and_then(|()| fs::write(&path, until.to_string()))
            .map_err(|source| Error::Io { path, source })?;
        Ok(Some(until))
    }

    pub(super) fn end(&self, id: &DevBoxId) -> Result<(), Error> {
        let path = self.file(id);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io { path, source }),
            _ => Ok(()),
        }
    }

    /// Until when the box is kept, if it still is.
    pub(super) fn until(&self, id: &DevBoxId) -> Option<Timestamp> {
        let path = self.file(id);
        let text = fs::read_to_string(&path).ok()?;
        match text.trim().parse::<Timestamp>() {
            Ok(until) => Some(until).filter(|until| *until > Timestamp::now()),
            Err(fault) => {
                warn!("{}: is no time, so it keeps nothing: {fault}", path.display());
                None
            }
        }
    }

    pub(super) fn holds(&self, id: &DevBoxId) -> bool {
        self.until(id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::testing::id;

    #[test]
    fn a_lease_outlives_the_provisioner_and_ends() {
        let directory = TempDir::new().unwrap();
        let leases = Leases::new(directory.path());
        assert!(!leases.holds(&id("alice")));
        let until = leases.keep(&id("alice"), Duration::from_secs(3600)).unwrap();
        let again = Leases::new(directory.path());
        assert_eq!(again.until(&id("alice")), until);
        assert!(!again.holds(&id("alice+web")));
        assert_eq!(again.keep(&id("alice"), Duration::ZERO).unwrap(), None);
        assert!(!leases.holds(&id("alice")));
        leases.end(&id("alice")).unwrap();
    }

    #[test]
    fn a_lease_may_be_longer_than_time() {
        let directory = TempDir::new().unwrap();
        let leases = Leases::new(directory.path());
        leases.keep(&id("alice"), Duration::from_secs(u64::MAX)).unwrap();
        assert!(leases.holds(&id("alice")));
    }

    #[test]
    fn what_is_no_time_keeps_nothing() {
        let directory = TempDir::new().unwrap();
        let leases = Leases::new(directory.path());
        leases.keep(&id("alice"), Duration::from_secs(60)).unwrap();
        for text in ["", "for ever", "2020-01-01T00:00:00Z"] {
            fs::write(leases.file(&id("alice")), text).unwrap();
            assert!(!leases.holds(&id("alice")), "{text}");
        }
    }
}
