//! The process that serves clients: the server, under a supervisor's orders.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::Context;
use boxgate_config::Config;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::leash::{Leash, Orders, Word};
use crate::server::Server;
use crate::service;

/// Between two looks at how many connections there are, for the service manager's status.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Serves on `listeners` until it is told to end, or to drain and its last connection has ended.
///
/// # Errors
/// What keeps it from serving.
pub async fn work(config: Config, listeners: Vec<TcpListener>) -> anyhow::Result<()> {
    let orders = Orders::default();
    end_on_signal(&orders.end)?;
    let server = Server::new(config, listeners)?;
    let leash = Leash::take(orders.clone()).context("cannot hear the supervisor")?;
    leash.say(Word::Ready);
    let count = tokio::spawn(count(leash.clone(), server.connections()));
    let closed = orders.closed.clone();
    tokio::spawn(async move {
        closed.cancelled().await;
        leash.say(Word::Draining);
    });
    tokio::spawn(orders.drain.clone().run_until_cancelled_owned(be_watched()));
    server.run(orders).await;
    count.abort();
    Ok(())
}

/// Both signals are for all of a service's processes: an operator's `systemctl kill`, a terminal's Ctrl-C. A hang-up is
/// the supervisor's business alone.
fn end_on_signal(end: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let end = end.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => end.cancel(),
                _ = interrupt.recv() => end.cancel(),
                _ = hangup.recv() => {}
            }
        }
    });
    Ok(())
}

/// Shows the service manager that this process works. The variables are the supervisor's, but for the one that says
/// whose they are: see `supervise`.
async fn be_watched() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    loop {
        service::tell(&[NotifyState::Watchdog]);
        sleep(limit / 2).await;
    }
}

async fn count(leash: Leash, connections: TaskTracker) {
    let mut told = 0;
    loop {
        let count = connections.len();
        if count != told {
            leash.say(Word::Connections(count));
            told = count;
        }
        sleep(COUNT_EVERY).await;
    }
}
