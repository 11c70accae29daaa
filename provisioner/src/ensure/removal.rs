//! Removals that were asked for and are not done. Before the first volume of a box goes, its name is written
//! down, so that a provisioner that was killed in between finishes what somebody confirmed, and removes nothing
//! that nobody did.
//!
//! It is an intent, no record of what exists: without it a half-removed box would be one with an empty home.

use std::fs;
use std::io;
use std::path::PathBuf;

use boxgate_config::{Config, DevBoxId};

use crate::blueprint::Blueprint;
use crate::devbox_files::Error;
use crate::objects;

/// Where removals are written down, one empty file each.
#[derive(Debug)]
pub(super) struct Removals {
    directory: PathBuf,
}

impl Removals {
    pub(super) fn new(config: &Config) -> Self {
        Self { directory: config.provisioner.state_dir.join("removing") }
    }

    fn file(&self, id: &DevBoxId) -> PathBuf {
        self.directory.join(objects::path_name(id))
    }

    pub(super) fn is_due(&self, id: &DevBoxId) -> bool {
        self.file(id).exists()
    }

    pub(super) fn write_down(&self, id: &DevBoxId) -> Result<(), Error> {
        let path = self.file(id);
        fs::create_dir_all(&self.directory)
            .and_then(|()| fs::File::create(&path)?.sync_all())
            .and_then(|()| fs::File::open(&self.directory)?.sync_all())
            .map_err(|source| Error::Io { path, source })
    }

    /// Removes what the host holds of a box of which the engine holds nothing any more, its intent last.
    pub(super) fn finish(&self, devbox: &Blueprint) -> Result<(), Error> {
        let gone = |path: PathBuf, result: io::Result<()>| match result {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io { path, source }),
            _ => Ok(()),
        };
        gone(devbox.files.clone(), fs::remove_dir_all(&devbox.files))?;
        let file = self.file(&devbox.id);
        gone(file.clone(), fs::remove_file(&file))
    }

    /// What an earlier provisioner left undone.
    pub(super) fn all_due(&self) -> Vec<DevBoxId> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| objects::id_of_path_name(&name)).collect()
    }
}
