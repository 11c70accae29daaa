//! `restore`: a box out of its archive.
//!
//! ```text
//! FILE, or standard input ─► a thread that decompresses it ─► pieces ─► provisioner
//!                                └─► whose it is, first
//! ```

use std::fs::File;
use std::io::{self, IsTerminal, Read, stdin};
use std::path::Path;
use std::time::Duration;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{Manifest, RestoreRequest};
use bytes::Bytes;
use tokio::signal::ctrl_c;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use zstd::Decoder;

use super::arguments::Restore;
use super::error::{CliError, Exit};
use super::site::{Site, asker};
use super::terminal::{print, tell};
use crate::archive::read_head;
use crate::failure::one_line;

/// Bytes of one piece,
const PIECE: usize = 128 * 1024;
/// and how many may wait between the thread and the socket.
const QUEUE: usize = 8;
/// When the provisioner wants no more: how long the thread may take to say that it is at fault.
const LAST_WORD: Duration = Duration::from_secs(1);

pub(super) async fn restore(site: &Site, asked: &Restore) -> Result<Exit, CliError> {
    let client = site.client()?;
    let (place, source) = open(&asked.file)?;
    let (sender, pieces) = mpsc::channel(QUEUE);
    let (told, manifest) = oneshot::channel();
    let (ended, reading) = oneshot::channel();
    // No task of the runtime's: that would be waited for at the end, even where standard input has none.
    std::thread::spawn(move || ended.send(decompress(source, told, &sender)));
    let unread = |source| CliError::Read { place: place.clone(), source };
    let Ok(manifest) = manifest.await else {
        return Err(unread(reading.await.ok().and_then(Result::err).unwrap_or_else(thread_ended)));
    };
    let id = asked.name.clone().unwrap_or_else(|| manifest.devbox.clone());
    tell(&format!("{id}: an archive of {}, made at {}", of(&manifest), one_line(&manifest.made_at)));
    let request = RestoreRequest { devbox: id.clone(), client: asker() };
    let restored = tokio::select! {
        restored = client.restore(&request, pieces, |progress| tell(&format!("{id}: {}", one_line(&progress.text)))) => restored,
        _ = ctrl_c() => return Err(CliError::Interrupted),
    };
    // An archive that cannot be read to its end was cut short for the provisioner: why, only the thread knows.
    if let Ok(Ok(Err(source))) = timeout(LAST_WORD, reading).await {
        return Err(unread(source));
    }
    restored?;
    tell(&format!("{id}: restored; its owner's next login, or boxgate start {id}, starts it"));
    warn_of_strangers(site, &id);
    if asked.json {
        let made = serde_json::json!({ "box": id.to_string(), "archive": manifest });
        print(&(serde_json::to_string_pretty(&made)? + "\n"))?;
    }
    Ok(Exit::Done)
}

/// Which box, and where it was.
fn of(manifest: &Manifest) -> String {
    format!("box {} of {}", manifest.devbox, one_line(&manifest.instance))
}

fn thread_ended() -> io::Error {
    io::Error::other("the thread that reads it ended")
}

type Source = Box<dyn Read + Send>;

fn open(file: &Path) -> Result<(String, Source), CliError> {
    if file != Path::new("-") {
        let place = file.display().to_string();
        return match File::open(file) {
            Ok(open) => Ok((place, Box::new(open))),
            Err(source) => Err(CliError::Read { place, source }),
        };
    }
    if stdin().is_terminal() {
        Err(CliError::OnATerminal)
    } else {
        Ok(("standard input".to_owned(), Box::new(stdin())))
    }
}

fn decompress(source: Source, told: oneshot::Sender<Manifest>, into: &mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut archive = Decoder::new(source)?;
    let (manifest, mut piece) = read_head(&mut archive)?;
    // Whoever waits for it may have been interrupted.
    drop(told.send(manifest));
    while !piece.is_empty() {
        // The provisioner says why it wants no more.
        if into.blocking_send(piece).is_err() {
            return Ok(());
        }
        let mut next = Vec::with_capacity(PIECE);
        archive.by_ref().take(PIECE as u64).read_to_end(&mut next)?;
        piece = next.into();
    }
    Ok(())
}

/// Says so where nobody can log in to the box yet.
fn warn_of_strangers(site: &Site, id: &DevBoxId) {
    // With --socket alone there may be no configuration here to look at.
    let Ok(config) = site.config() else { return };
    let gateway = &config.gateway;
    let known = config.users.contains_key(&id.owner)
        || gateway.authorized_keys_dir.join(id.owner.as_str()).exists()
        || !gateway.user_ca_keys.is_empty();
    if !known {
        tell(&format!(
            "nobody can log in as {owner} yet: add [users.{owner}] with her keys to {config}, or a file {keys}",
            owner = id.owner,
            config = site.config_file().display(),
            keys = gateway.authorized_keys_dir.join(id.owner.as_str()).display(),
        ));
    }
}
