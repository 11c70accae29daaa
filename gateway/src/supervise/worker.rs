//! A worker process as its supervisor has it: started, heard, told, killed.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use command_fds::{CommandFdExt, FdMapping};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::leash::{Order, Word};

/// The first descriptor that `sd_listen_fds(3)` gives.
const FIRST_SOCKET: i32 = 3;

/// What workers are started from. Each start takes the file that has the name then, so that a worker of a supervisor
/// that went on through an upgrade is of the new release.
#[derive(Debug, Clone)]
pub struct Program {
    pub executable: PathBuf,
    pub arguments: Vec<OsString>,
}

/// What a worker, known by its process, said or came to.
#[derive(Debug)]
pub(super) enum News {
    Said(u32, Word),
    Ended(u32, ExitStatus),
}

/// Dropping it closes the leash: a worker that was not told to drain ends.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) pid: u32,
    /// As it said last.
    pub(super) connections: usize,
    leash: OwnedWriteHalf,
    kill: CancellationToken,
}

impl Worker {
    /// Starts one that serves `listeners` and reports to `tell`.
    pub(super) fn start(
        program: &Program,
        listeners: &[TcpListener],
        tell: mpsc::Sender<News>,
    ) -> io::Result<Self> {
        let (ours, theirs) = Socket::pair()?;
        let mut command = Command::new(&program.executable);
        command.args(&program.arguments).stdin(OwnedFd::from(theirs));
        // Without the process that it is for, each of these is for whoever has it.
        command.env("LISTEN_FDS", listeners.len().to_string()).env_remove("LISTEN_PID");
        command.env_remove("LISTEN_FDNAMES").env_remove("WATCHDOG_PID");
        command.fd_mappings(mappings(listeners)?).map_err(io::Error::other)?;
        let child = tokio::process::Command::from(command).spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("ended at once"))?;
        ours.set_nonblocking(true)?;
        let (hear, leash) = UnixStream::from_std(ours)?.into_split();
        let kill = CancellationToken::new();
        let words = BufReader::new(hear).lines();
        tokio::spawn(follow(pid, child, words, kill.clone(), tell));
        Ok(Self { pid, connections: 0, leash, kill })
    }

    pub(super) fn order(&self, order: Order) {
        // Never more than a few bytes: they fit, unless the worker has ended, and then there is nothing to order.
        if let Err(fault) = self.leash.try_write(format!("{order}\n").as_bytes()) {
            warn!(worker = self.pid, %fault, "a worker cannot be told: {order}");
        }
    }

    pub(super) fn kill(&self) {
        self.kill.cancel();
    }
}

fn mappings(listeners: &[TcpListener]) -> io::Result<Vec<FdMapping>> {
    let map = |(child_fd, listener): (i32, &TcpListener)| {
        listener.try_clone().map(|copy| FdMapping { parent_fd: copy.into(), child_fd })
    };
    (FIRST_SOCKET..).zip(listeners).map(map).collect()
}

/// Hears a worker to its end.
async fn follow(
    pid: u32,
    mut child: Child,
    mut words: Lines<BufReader<OwnedReadHalf>>,
    kill: CancellationToken,
    tell: mpsc::Sender<News>,
) {
    // Nobody hears the news of a supervisor that is ending: there is nothing to do about that.
    let hearing = async {
        while let Ok(Some(line)) = words.next_line().await {
            if let Ok(word) = line.parse() {
                drop(tell.send(News::Said(pid, word)).await);
            }
        }
    };
    let ended = async {
        hearing.await;
        child.wait().await
    };
    let status = match kill.run_until_cancelled(ended).await {
        Some(status) => status,
        None => child.kill().await.and(child.wait().await),
    };
    match status {
        Ok(status) => drop(tell.send(News::Ended(pid, status)).await),
        Err(fault) => warn!(worker = pid, %fault, "how a worker ended cannot be known"),
    }
}
