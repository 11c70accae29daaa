//! OpenSSH's clients timed from their start to their end, and connections that several of them share.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use boxgate_tests::{Stopwatch, until};

use crate::guard;
use crate::site::{self, Cipher, Peer, Site};

const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// Runs a client to its end, which must be a success, and tells how long it took. Its output goes nowhere, its
/// input is `input`.
pub(crate) fn time(site: &Site, command: Command, input: impl Into<Stdio>) -> Duration {
    let errors = site.directory().join("errors");
    try_time(command, input, &errors).unwrap_or_else(|fault| panic!("{fault}"))
}

/// The same with an error for a client that fails, who has said why to the file `errors`.
pub(crate) fn try_time(
    mut command: Command,
    input: impl Into<Stdio>,
    errors: &Path,
) -> Result<Duration, String> {
    guard::step();
    command.stdin(input).stdout(Stdio::null()).stderr(append(errors));
    let watch = Stopwatch::start();
    let status = command.status().expect("a client that starts");
    let took = watch.elapsed();
    if status.success() {
        return Ok(took);
    }
    guard::after_failure();
    let said = fs::read_to_string(errors).unwrap_or_default();
    let last = said.lines().last().unwrap_or("nothing");
    Err(format!("{command:?} ended with {status} after {took:?}; last on standard error: {last}"))
}

/// A file, not a pipe: who would read a pipe to its end would wait for everything that a client leaves behind.
fn append(file: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(file).unwrap()
}

/// A connection that stays, and carries what other clients want of it. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) peer: Peer,
    client: Child,
    socket: PathBuf,
    cipher: Cipher,
    directory: PathBuf,
}

impl Master {
    pub(crate) fn open(site: &Site, peer: Peer, cipher: Cipher) -> Self {
        Self::open_with(site.directory(), peer, cipher, peer.name())
    }

    /// One for each of these peers.
    pub(crate) fn open_all(site: &Site, peers: &[Peer], cipher: Cipher) -> Vec<Self> {
        peers.iter().map(|&peer| Self::open(site, peer, cipher)).collect()
    }

    /// `name` is its own among those that are open at once.
    pub(crate) fn open_with(directory: &Path, peer: Peer, cipher: Cipher, name: &str) -> Self {
        guard::step();
        let socket = directory.join(format!("{name}.sock"));
        let errors = directory.join("errors");
        let mut command = site::ssh(directory, cipher);
        command.args(["-M", "-N", "-S"]).arg(&socket).arg(peer.name());
        let client =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(append(&errors)).spawn().unwrap();
        let mut master = Self { peer, client, socket, cipher, directory: directory.to_owned() };
        until(&format!("a connection to {}", peer.name()), OPEN_WITHIN, || {
            if let Some(status) = master.client.try_wait().unwrap() {
                panic!("{}: {status}: {}", peer.name(), fs::read_to_string(&errors).unwrap());
            }
            // It is there once the login has succeeded.
            master.socket.exists().then_some(()).ok_or_else(|| "none yet".to_owned())
        });
        master
    }

    /// `ssh` over this connection, to be given options and a command.
    pub(crate) fn ssh(&self, options: &[&str]) -> Command {
        let mut command = site::ssh(&self.directory, self.cipher);
        command.arg("-S").arg(&self.socket).args(options).arg(self.peer.name());
        command
    }

    /// `sftp` over this connection, which reads its orders from standard input.
    pub(crate) fn sftp(&self) -> Command {
        let mut command = Command::new("sftp");
        let socket = format!("ControlPath={}", self.socket.display());
        command
            .args(["-q", "-b", "-", "-o", &socket, "-F"])
            .arg(site::config_file(&self.directory, self.cipher));
        command.arg(self.peer.name());
        command
    }

    /// The process that has the connection, and so does all of its encryption.
    pub(crate) fn pid(&self) -> u32 {
        self.client.id()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        self.client.kill().ok();
        self.client.wait().ok();
        // A client that is killed leaves its socket behind, and the next one would think it in use.
        fs::remove_file(&self.socket).ok();
    }
}

/// A client that goes on until it is dropped.
#[derive(Debug)]
pub(crate) struct Background(Child);

impl Background {
    pub(crate) fn start(site: &Site, mut command: Command, input: impl Into<Stdio>) -> Self {
        guard::step();
        command.stdin(input).stdout(Stdio::null()).stderr(append(&site.directory().join("errors")));
        Self(command.spawn().unwrap())
    }

    /// Panics when it has ended by itself.
    pub(crate) fn assert_running(&mut self, what: &str) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            guard::after_failure();
            panic!("{what} has ended by itself");
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
