//! What a supervisor and its worker say to each other: a word a line, over the socket that the worker has as its
//! standard input.
//!
//! ```text
//!  supervisor ── drain, end ──────────────► worker
//!             ◄── ready, connections N,
//!                 draining ────────────────
//! ```
//!
//! The supervisor may be of an earlier release than the worker, so a word that is not known means nothing. A worker
//! whose supervisor goes away ends, unless it was told to drain: then it has its connections to see to.

use std::io::{self, BufRead, BufReader, Write, stdin};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, process, thread};

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

/// For a worker without a supervisor to end in good order. One that hangs is ended then.
const END_WITHIN: Duration = Duration::from_secs(15);

/// What a worker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Accept nobody any more, and end with the last connection.
    Drain,
    /// Tell all who are connected, and end.
    End,
}

/// What a worker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It accepts connections from now on.
    Ready,
    /// So many connections it has.
    Connections(usize),
    /// It accepts nobody any more, and has closed its listening sockets.
    Draining,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drain => "drain",
            Self::End => "end",
        })
    }
}

impl FromStr for Order {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        [Self::Drain, Self::End].into_iter().find(|order| order.to_string() == line).ok_or(())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Connections(count) => write!(f, "connections {count}"),
            Self::Draining => f.write_str("draining"),
        }
    }
}

impl FromStr for Word {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        match line.split_once(' ') {
            None if line == "ready" => Ok(Self::Ready),
            None if line == "draining" => Ok(Self::Draining),
            Some(("connections", count)) => count.parse().map(Self::Connections).map_err(drop),
            _ => Err(()),
        }
    }
}

/// The orders that have been given. Each holds for good.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    pub drain: CancellationToken,
    pub end: CancellationToken,
    /// The answer to either: nobody is accepted any more.
    pub closed: CancellationToken,
}

/// The worker's end.
#[derive(Debug, Clone)]
pub struct Leash(Arc<UnixStream>);

impl Leash {
    /// Obeys who holds the other end of standard input from now on. A thread does: it hears also when the worker's own
    /// tasks hang.
    ///
    /// # Errors
    /// No descriptor or thread is to be had.
    pub fn take(orders: Orders) -> io::Result<Self> {
        let stream = UnixStream::from(stdin().as_fd().try_clone_to_owned()?);
        let hearing = stream.try_clone()?;
        thread::Builder::new().name("leash".to_owned()).spawn(move || obey(hearing, &orders))?;
        Ok(Self(Arc::new(stream)))
    }

    pub fn say(&self, word: Word) {
        if let Err(fault) = self.0.as_ref().write_all(format!("{word}\n").as_bytes()) {
            // One that drains may be without a supervisor.
            debug!(%fault, "the supervisor does not hear: {word}");
        }
    }
}

fn obey(stream: UnixStream, orders: &Orders) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        match line.parse() {
            Ok(Order::Drain) => orders.drain.cancel(),
            Ok(Order::End) => orders.end.cancel(),
            Err(()) => warn!("the supervisor says what is not understood here: {line:?}"),
        }
    }
    if orders.drain.is_cancelled() {
        return;
    }
    if !orders.end.is_cancelled() {
        warn!("the supervisor is gone: ending");
        orders.end.cancel();
    }
    thread::sleep(END_WITHIN);
    error!("did not end within {END_WITHIN:?}");
    process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_went() {
        for word in [Word::Ready, Word::Connections(0), Word::Connections(17), Word::Draining] {
            assert_eq!(word.to_string().parse(), Ok(word));
        }
        for order in [Order::Drain, Order::End] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
    }

    #[test]
    fn what_a_later_release_may_say_means_nothing() {
        for line in ["", "ready now", "connections", "connections many", "load 1"] {
            assert_eq!(line.parse::<Word>(), Err(()), "{line:?}");
        }
        assert_eq!("pause".parse::<Order>(), Err(()));
    }
}
