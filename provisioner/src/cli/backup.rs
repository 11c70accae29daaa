//! `backup`: boxes' archives, compressed, to files or to whoever reads standard output.
//!
//! ```text
//! provisioner ─► pieces ─► a thread that compresses them ─► BOX.tar.zst.part ─► BOX.tar.zst, when all is there
//! ```
//!
//! Nothing but a whole archive ever has the name of one; what was begun is removed, after Ctrl-C too.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{BackupRequest, Client, Piece};
use bytes::Bytes;
use serde::Serialize;
use tokio::signal::ctrl_c;
use tokio::sync::{mpsc, oneshot};
use zstd::Encoder;

use super::arguments::Backup;
use super::error::{CliError, Exit};
use super::site::{Site, asker};
use super::terminal::{complain, print, tell};
use crate::failure::one_line;
use crate::listing::size;

/// zstd's own default: a home shrinks to a third at some hundred megabytes a second.
const LEVEL: i32 = 3;
/// Threads that compress. A backup is to leave most of a host to the boxes on it.
const THREADS: u32 = 2;
/// Pieces between the socket and the thread.
const QUEUE: usize = 16;
/// What `-` is called.
const STDOUT: &str = "standard output";

/// What was written of a box.
#[derive(Debug, Serialize)]
struct Written {
    #[serde(rename = "box")]
    devbox: String,
    file: String,
    /// Of the file, and of the archive in it.
    bytes: u64,
    archive_bytes: u64,
}

/// Where an archive goes.
enum Target {
    Stdout,
    File(PathBuf),
}

pub(super) async fn backup(site: &Site, asked: &Backup) -> Result<Exit, CliError> {
    let client = site.client()?;
    let (written, exit) = match (&asked.devbox, &asked.all) {
        (Some(id), _) => {
            let target = target(id, asked.file.as_deref())?;
            if asked.json && matches!(target, Target::Stdout) {
                return Err(CliError::BothToStdout);
            }
            (vec![one(&client, id, &target).await?], Exit::Done)
        }
        (None, directory) => all(&client, directory.as_deref().unwrap_or(Path::new("."))).await?,
    };
    if asked.json {
        print(&(serde_json::to_string_pretty(&written)? + "\n"))?;
    }
    Ok(exit)
}

fn target(id: &DevBoxId, file: Option<&Path>) -> Result<Target, CliError> {
    match file {
        Some(file) if file == Path::new("-") && stdout().is_terminal() => Err(CliError::OnATerminal),
        Some(file) if file == Path::new("-") => Ok(Target::Stdout),
        Some(file) => Ok(Target::File(file.to_owned())),
        None => Ok(Target::File(file_of(id))),
    }
}

fn file_of(id: &DevBoxId) -> PathBuf {
    format!("{id}.tar.zst").into()
}

/// One after the other: each box is down meanwhile. All are tried; the first failure gives the exit code.
async fn all(client: &Client, directory: &Path) -> Result<(Vec<Written>, Exit), CliError> {
    let place = || directory.display().to_string();
    fs::create_dir_all(directory).map_err(|source| CliError::Write { place: place(), source })?;
    let boxes = client.boxes().await?.into_iter().map(|devbox| devbox.id).filter(|id| !id.is_spare());
    let (mut written, mut exit) = (Vec::new(), Exit::Done);
    for id in boxes {
        match one(client, &id, &Target::File(directory.join(file_of(&id)))).await {
            Ok(one) => written.push(one),
            Err(CliError::Interrupted) => return Err(CliError::Interrupted),
            Err(error) => {
                complain(&error);
                exit = if exit == Exit::Done { error.exit() } else { exit };
            }
        }
    }
    if written.is_empty() && exit == Exit::Done {
        tell("there is no box to back up");
    }
    Ok((written, exit))
}

async fn one(client: &Client, id: &DevBoxId, target: &Target) -> Result<Written, CliError> {
    let written = match target {
        Target::Stdout => {
            let counted = receive(client, id, STDOUT, stdout()).await?;
            Written::of(id, STDOUT.to_owned(), counted)
        }
        Target::File(file) => {
            let part = Part::create(file)?;
            let counted = receive(client, id, &part.place(), part.file()?).await?;
            part.keep()?;
            Written::of(id, file.display().to_string(), counted)
        }
    };
    tell(&format!(
        "{id}: {} of home and Docker data in {} of {}",
        size(written.archive_bytes),
        size(written.bytes),
        one_line(&written.file)
    ));
    Ok(written)
}

impl Written {
    fn of(id: &DevBoxId, file: String, Counted { bytes, archive_bytes }: Counted) -> Self {
        Self { devbox: id.to_string(), file, bytes, archive_bytes }
    }
}

/// A file that is removed unless it is kept.
struct Part {
    path: PathBuf,
    becomes: PathBuf,
    file: File,
}

impl Part {
    /// For its owner alone: it holds private keys.
    fn create(becomes: &Path) -> Result<Self, CliError> {
        let mut path = becomes.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let opened = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = opened.map_err(|source| unwritten(&path, source))?;
        Ok(Self { path, becomes: becomes.to_owned(), file })
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn file(&self) -> Result<File, CliError> {
        self.file.try_clone().map_err(|source| unwritten(&self.path, source))
    }

    /// Gives it its name, once all of it is on the disk.
    fn keep(self) -> Result<(), CliError> {
        let named = self.file.sync_all().and_then(|()| fs::rename(&self.path, &self.becomes));
        named.map_err(|source| unwritten(&self.path, source))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // One that was kept has another name by now.
        if let Err(fault) = fs::remove_file(&self.path)
            && fault.kind() != io::ErrorKind::NotFound
        {
            tell(&format!("{}: cannot be removed: {fault}", self.path.display()));
        }
    }
}

fn unwritten(path: &Path, source: io::Error) -> CliError {
    CliError::Write { place: path.display().to_string(), source }
}

/// Bytes of an archive and of what it was compressed to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counted {
    bytes: u64,
    archive_bytes: u64,
}

/// Receives the archive of a box and writes it, compressed, to `into`.
async fn receive(
    client: &Client,
    id: &DevBoxId,
    place: &str,
    into: impl Write + Send + 'static,
) -> Result<Counted, CliError> {
    let (sender, pieces) = mpsc::channel(QUEUE);
    let (told, compressed) = oneshot::channel();
    // No task of the runtime's: that would be waited for at the end, even where nobody reads standard output any more.
    std::thread::spawn(move || told.send(compress(pieces, into)));
    let request = BackupRequest { devbox: id.clone(), client: asker() };
    let receive = async {
        let mut backup = client.back_up(&request).await?;
        while let Some(piece) = backup.next().await? {
            match piece {
                Piece::Progress(progress) => tell(&format!("{id}: {}", one_line(&progress.text))),
                // The thread says why it takes no more.
                Piece::Data(data) => {
                    if sender.send(Some(data)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        // Without this word the thread leaves the archive unfinished.
        drop(sender.send(None).await);
        Ok::<_, CliError>(())
    };
    let received = tokio::select! {
        received = receive => received,
        _ = ctrl_c() => Err(CliError::Interrupted),
    };
    received?;
    let written =
        compressed.await.unwrap_or_else(|_| Err(io::Error::other("the thread that writes it ended")));
    written.map_err(|source| CliError::Write { place: place.to_owned(), source })
}

/// `None` is the archive's end. When the pieces end without it, so does what is written: in the middle.
fn compress(mut pieces: mpsc::Receiver<Option<Bytes>>, into: impl Write) -> io::Result<Counted> {
    let mut counted = Counted::default();
    let mut encoder = Encoder::new(Counting { into, bytes: 0 }, LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.multithread(THREADS)?;
    while let Some(piece) = pieces.blocking_recv().ok_or(io::ErrorKind::UnexpectedEof)? {
        counted.archive_bytes += piece.len() as u64;
        encoder.write_all(&piece)?;
    }
    let mut written = encoder.finish()?;
    written.flush()?;
    counted.bytes = written.bytes;
    Ok(counted)
}

struct Counting<W> {
    into: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.into.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn compressed(pieces: &[Option<&'static [u8]>]) -> io::Result<(Vec<u8>, Counted)> {
        let (sender, receiver) = mpsc::channel(1);
        let pieces: Vec<_> = pieces.iter().map(|piece| piece.map(Bytes::from_static)).collect();
        let sending =
            thread::spawn(move || pieces.into_iter().try_for_each(|piece| sender.blocking_send(piece)));
        let mut into = Vec::new();
        let counted = compress(receiver, &mut into);
        sending.join().unwrap().unwrap();
        counted.map(|counted| (into, counted))
    }

    #[test]
    fn what_is_compressed_comes_back_and_is_counted() {
        let (file, counted) = compressed(&[Some(b"home "), Some(b"and docker"), None]).unwrap();
        assert_eq!(zstd::decode_all(&file[..]).unwrap(), b"home and docker");
        assert_eq!(counted, Counted { bytes: file.len() as u64, archive_bytes: 15 });
        let mut damaged = file;
        let at = damaged.len() - 6;
        damaged[at] ^= 1;
        assert!(zstd::decode_all(&damaged[..]).is_err());
    }

    #[test]
    fn an_archive_that_breaks_off_is_no_file() {
        let broken = compressed(&[Some(b"home")]).unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::UnexpectedEof);
    }
}
