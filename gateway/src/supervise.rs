//! Holds the listening sockets and sees to it that one worker serves them. It reads nothing that comes from a network.
//!
//! ```text
//!            SIGHUP                ready                  SIGHUP, and the next one is ready
//!  (nothing) ──────► coming ───────────────────► live ─────────────────────────────► draining ──► gone
//!                      │  not within READY_WITHIN                                       its last connection
//!                      └──► gone, and the live one goes on                              has ended, or `gateway.drain`
//!                                                                                       is over
//! ```
//!
//! | it is told | or happens | what it does |
//! |---|---|---|
//! | SIGHUP | | renews the worker: another one from the program and the configuration that are there now |
//! | SIGTERM | | has the live worker drain, and ends as soon as that accepts nobody any more |
//! | SIGINT | | has all workers tell their clients and end, and waits for them |
//! | | the live worker ends by itself | ends with a failure, for the service manager to start anew |
//!
//! Invariants:
//! - At any moment one worker accepts, or, while it is replaced, two: no login is refused for a renewal.
//! - A worker serves its own connections to their end, whatever becomes of the supervisor, once it drains; one that
//!   does not ends with its supervisor ([`crate::leash`]).

mod status;
mod worker;

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitStatus;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

use crate::leash::{Order, Word};
use crate::service;
use status::Status;
use worker::{News, Worker};

pub use worker::Program;

/// For a worker to read its configuration and keys. The first one ever makes them, which on a busy host takes seconds.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// For workers to tell their clients and end; then they are killed.
const END_WITHIN: Duration = Duration::from_secs(10);
/// For the worker to stop accepting. It takes milliseconds, unless it hangs.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
/// What workers may have said that was not heard yet.
const NEWS_MAX: usize = 64;

/// Why a supervisor ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    #[error("cannot listen for signals: {0}")]
    Signal(io::Error),
    #[error("cannot start {}: {source}", program.display())]
    Start { program: std::path::PathBuf, source: io::Error },
    #[error("the worker did not start ({0}); what kept it from it is said above")]
    NotStarted(ExitStatus),
    #[error("the worker was not ready within {} s", READY_WITHIN.as_secs())]
    Overdue,
    #[error("the worker ended by itself ({0})")]
    Crashed(ExitStatus),
}

#[derive(Debug)]
struct Supervisor {
    program: Program,
    listeners: Vec<TcpListener>,
    live: Option<Worker>,
    coming: Option<Coming>,
    draining: HashMap<u32, Worker>,
    /// The one among them that was told so last, until it accepts nobody any more.
    closing: Option<u32>,
    /// Whether the last renewal came to nothing.
    failed: bool,
    said: String,
    news: mpsc::Receiver<News>,
    /// For further workers.
    tell: mpsc::Sender<News>,
}

#[derive(Debug)]
struct Coming {
    worker: Worker,
    until: Instant,
}

/// Has workers of `program` serve `listeners` until it is told to end.
///
/// # Errors
/// A [`SuperviseError`]: nobody accepts any more.
pub async fn supervise(program: Program, listeners: Vec<TcpListener>) -> Result<(), SuperviseError> {
    let (tell, news) = mpsc::channel(NEWS_MAX);
    let supervisor = Supervisor {
        program,
        listeners,
        live: None,
        coming: None,
        draining: HashMap::new(),
        closing: None,
        failed: false,
        said: String::new(),
        news,
        tell,
    };
    supervisor.run().await
}

impl Supervisor {
    async fn run(mut self) -> Result<(), SuperviseError> {
        let listen = |kind| signal(kind).map_err(SuperviseError::Signal);
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hangup = listen(SignalKind::hangup())?;
        self.start()?;
        loop {
            self.show();
            tokio::select! {
                // A worker that ends for the same signal is no surprise.
                biased;
                _ = interrupt.recv() => break self.end().await,
                _ = terminate.recv() => break self.leave().await,
                () = hung_up(&mut hangup), if self.coming.is_none() => self.renew(),
                Some(news) = self.news.recv() => self.hear(&news)?,
                () = overdue(self.coming.as_ref()) => self.give_up()?,
            }
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), SuperviseError> {
        let started = Worker::start(&self.program, &self.listeners, self.tell.clone());
        let worker = started
            .map_err(|source| SuperviseError::Start { program: self.program.executable.clone(), source })?;
        self.coming = Some(Coming { worker, until: Instant::now() + READY_WITHIN });
        Ok(())
    }

    fn renew(&mut self) {
        info!("renewing the worker");
        let clock = NotifyState::monotonic_usec_now();
        service::tell(&[NotifyState::Reloading].into_iter().chain(clock).collect::<Vec<_>>());
        if let Err(fault) = self.start() {
            self.stay(&fault.to_string());
        }
    }

    /// The live worker goes on, and the operator is told why.
    fn stay(&mut self, why: &str) {
        error!("the worker was not renewed: {why}. The one before it goes on, with the configuration it had");
        self.failed = true;
        service::tell(&[NotifyState::Ready]);
    }

    fn hear(&mut self, news: &News) -> Result<(), SuperviseError> {
        match *news {
            News::Said(pid, Word::Ready) => self.hand_over(pid),
            News::Said(pid, Word::Connections(count)) => self.count(pid, count),
            News::Said(pid, Word::Draining) => self.closed(pid),
            News::Ended(pid, status) => {
                self.closed(pid);
                return self.bury(pid, status);
            }
        }
        Ok(())
    }

    /// From here on a new worker serves.
    fn hand_over(&mut self, pid: u32) {
        let Some(Coming { worker, .. }) = self.coming.take_if(|coming| coming.worker.pid == pid) else {
            return;
        };
        if let Some(before) = self.live.replace(worker) {
            info!(worker = pid, before = before.pid, "a new worker serves; the one before it drains");
            before.order(Order::Drain);
            self.closing = Some(before.pid);
            self.draining.insert(before.pid, before);
        } else {
            service::tell(&[NotifyState::Ready]);
        }
        self.failed = false;
    }

    /// A renewal is over when whoever comes next is the new worker's for certain.
    fn closed(&mut self, pid: u32) {
        if self.closing.take_if(|closing| *closing == pid).is_some() {
            service::tell(&[NotifyState::Ready]);
        }
    }

    fn count(&mut self, pid: u32, connections: usize) {
        let serving = self.live.as_mut().filter(|worker| worker.pid == pid);
        if let Some(worker) = serving.or_else(|| self.draining.get_mut(&pid)) {
            worker.connections = connections;
        }
    }

    fn bury(&mut self, pid: u32, status: ExitStatus) -> Result<(), SuperviseError> {
        if self.coming.take_if(|coming| coming.worker.pid == pid).is_some() {
            let fault = SuperviseError::NotStarted(status);
            if self.live.is_none() {
                return Err(fault);
            }
            self.stay(&fault.to_string());
        } else if self.live.take_if(|worker| worker.pid == pid).is_some() {
            return Err(SuperviseError::Crashed(status));
        } else if self.draining.remove(&pid).is_some() {
            if status.success() {
                info!(worker = pid, "a worker has drained");
            } else {
                warn!(worker = pid, %status, "a draining worker ended by itself");
            }
        }
        Ok(())
    }

    fn give_up(&mut self) -> Result<(), SuperviseError> {
        if let Some(coming) = self.coming.take() {
            coming.worker.kill();
        }
        if self.live.is_none() {
            return Err(SuperviseError::Overdue);
        }
        self.stay(&SuperviseError::Overdue.to_string());
        Ok(())
    }

    /// What `systemctl status` shows.
    fn show(&mut self) {
        let addresses: Vec<SocketAddr> = self.listeners.iter().flat_map(TcpListener::local_addr).collect();
        let status = Status {
            addresses: &addresses,
            live: self.live.as_ref().map(|worker| worker.connections),
            draining: self.draining.values().map(|worker| worker.connections).collect(),
            failed: self.failed,
        };
        let text = status.to_string();
        if text != self.said {
            service::tell(&[NotifyState::Status(&text)]);
            self.said = text;
        }
    }

    /// SIGTERM: whoever is connected stays. A worker that is not ready yet ends for want of a supervisor.
    async fn leave(mut self) {
        let connections = self.live.as_ref().map_or(0, |worker| worker.connections);
        info!(connections, "ending; connections go on without a supervisor");
        service::tell(&[NotifyState::Stopping]);
        let Some(live) = self.live.take() else { return };
        live.order(Order::Drain);
        // Whoever is started next finds the addresses free then.
        let closed = async {
            while let Some(news) = self.news.recv().await {
                match news {
                    News::Said(pid, Word::Draining) | News::Ended(pid, _) if pid == live.pid => return,
                    _ => {}
                }
            }
        };
        if timeout(CLOSED_WITHIN, closed).await.is_err() {
            self.kill([(live.pid, live)].into()).await;
        }
    }

    /// SIGINT: everything ends.
    async fn end(mut self) {
        service::tell(&[NotifyState::Stopping, NotifyState::Status("Ending all connections")]);
        let coming = self.coming.take().map(|coming| coming.worker);
        let all = [coming, self.live.take()].into_iter().flatten().map(|worker| (worker.pid, worker));
        let mut left: HashMap<u32, Worker> = self.draining.drain().chain(all).collect();
        for worker in left.values() {
            worker.order(Order::End);
        }
        if timeout(END_WITHIN, self.gone(&mut left)).await.is_err() {
            self.kill(left).await;
        }
    }

    /// Ends what does not answer.
    async fn kill(&mut self, mut left: HashMap<u32, Worker>) {
        warn!(workers = ?left.keys(), "killing workers that do not do what they are told");
        left.values().for_each(Worker::kill);
        if timeout(END_WITHIN, self.gone(&mut left)).await.is_err() {
            error!(workers = ?left.keys(), "not even killing ends these");
        }
    }

    /// Waits until none is left of these.
    async fn gone(&mut self, left: &mut HashMap<u32, Worker>) {
        while !left.is_empty() {
            if let Some(News::Ended(pid, _)) = self.news.recv().await {
                left.remove(&pid);
            }
        }
    }
}

async fn hung_up(signal: &mut Signal) {
    // None is the end of the runtime.
    if signal.recv().await.is_none() {
        pending::<()>().await;
    }
}

async fn overdue(coming: Option<&Coming>) {
    match coming {
        Some(coming) => sleep_until(coming.until).await,
        None => pending().await,
    }
}
