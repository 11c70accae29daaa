//! The images that boxes were made from. Once such an image has lost its name to a newer one, and the last box has moved,
//! nothing but disk is left of it.
//!
//! They are written down, one empty file each, when a container of one is seen: the engine forgets it with the container.
//! What is not written down is not ours to remove.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use boxgate_config::Config;
use boxgate_provisioner_api::{Orphan, OrphanKind};
use bytesize::ByteSize;
use tracing::{info, warn};

use super::Fleet;
use crate::backend::{self, Backend, Image};

/// How the engine names an image by what is in it.
const DIGEST: &str = "sha256:";

#[derive(Debug)]
pub(super) struct Images {
    directory: PathBuf,
    /// Those that are written down, as far as was looked.
    known: Mutex<HashSet<String>>,
}

impl Images {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("images"), known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name for the file; none for what is no digest.
    fn file(&self, id: &str) -> Option<PathBuf> {
        let hex = id.strip_prefix(DIGEST)?;
        let is_hex = !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| self.directory.join(hex))
    }

    /// A box was made from it.
    pub(super) fn see(&self, id: &str) {
        if self.known().contains(id) {
            return;
        }
        let Some(path) = self.file(id) else { return };
        let written = fs::create_dir_all(&self.directory).and_then(|()| fs::File::create(&path).map(drop));
        match written {
            Ok(()) => drop(self.known().insert(id.to_owned())),
            // Seen again soon; without it an old image stays, which harms nobody.
            Err(fault) => warn!("{}: cannot be written: {fault}", path.display()),
        }
    }

    fn has_seen(&self, id: &str) -> bool {
        self.file(id).is_some_and(|path| path.exists())
    }

    fn forget(&self, id: &str) {
        self.known().remove(id);
        let Some(path) = self.file(id) else { return };
        match fs::remove_file(&path) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => {
                warn!("{}: cannot be removed: {fault}", path.display());
            }
            _ => {}
        }
    }
}

impl<B: Backend> Fleet<B> {
    /// The images that boxes were made from and none needs any more; removed if `remove`.
    pub(super) async fn old_images(&self, remove: bool) -> Result<Vec<Orphan>, backend::Error> {
        let backend = self.shared.ensurer.backend();
        let config = self.shared.ensurer.config();
        let mut orphans = Vec::new();
        for image in backend.nameless_images().await? {
            if !self.shared.images.has_seen(&image.id) || is_configured(config, &image.id) {
                continue;
            }
            let removed = if remove { Some(backend.remove_image(&image.id).await) } else { None };
            if let Some(Ok(())) = removed {
                info!(image = image.id, "removed it: no box needs it any more");
                self.shared.images.forget(&image.id);
            }
            orphans.push(orphan(image, removed));
        }
        Ok(orphans)
    }
}

fn orphan(image: Image, removed: Option<Result<(), backend::Error>>) -> Orphan {
    let size = ByteSize::b(image.bytes).display().iec().to_string();
    Orphan {
        kind: OrphanKind::Image,
        name: image.id,
        reason: format!("boxes were made from it and none is any more; its name is another image's ({size})"),
        removed: matches!(removed, Some(Ok(()))),
        fault: removed.and_then(Result::err).map(|error| error.to_string()),
    }
}

/// Whether the configuration names the image by its digest, whole or cut short.
fn is_configured(config: &Config, id: &str) -> bool {
    let hex = id.trim_start_matches(DIGEST);
    config.images().any(|image| hex.starts_with(image.trim_start_matches(DIGEST)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tempfile::TempDir;

    use super::*;
    use crate::testing;

    #[test]
    fn what_was_seen_is_known_to_the_next_provisioner() {
        let directory = TempDir::new().unwrap();
        let images = Images::new(directory.path());
        images.see("sha256:abc1");
        images.see("../../etc/passwd");
        images.see("sha256:../x");
        let again = Images::new(directory.path());
        assert!(again.has_seen("sha256:abc1") && !again.has_seen("sha256:abc2"));
        assert_eq!(fs::read_dir(directory.path().join("images")).unwrap().count(), 1);
        again.forget("sha256:abc1");
        assert!(!images.has_seen("sha256:abc1"));
    }

    #[rstest]
    #[case("sha256:abc123", true)]
    #[case("abc1", true)]
    #[case("abd", false)]
    #[case("boxgate/box:latest", false)]
    fn an_image_that_is_named_by_its_digest(#[case] configured: &str, #[case] expected: bool) {
        let mut config = testing::config();
        config.devbox.settings.image = configured.to_owned();
        assert_eq!(is_configured(&config, "sha256:abc123"), expected);
    }
}
