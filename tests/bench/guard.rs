//! Ctrl-C, and an end for what hangs.
//!
//! The first signal lets the measurement under way fail or end, and then everything is dropped and so removed;
//! a second one ends the process at once, and the place's keeper removes all by itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use std::{panic, process, thread};

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;

/// Longer than any single step takes: the longest is one crowd's logins on a slow machine.
const STEP_LIMIT: u64 = 300;

static SIGNALLED: AtomicBool = AtomicBool::new(false);
/// Seconds since the last sign of progress.
static STILL: AtomicU64 = AtomicU64::new(0);

/// Begins to look after signals and hanging steps.
pub(crate) fn watch() {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    thread::spawn(move || runtime.block_on(look()));
}

async fn look() {
    let [mut interrupt, mut terminate] =
        [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).unwrap());
    let mut second = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = interrupt.recv() => ask_to_end(),
            _ = terminate.recv() => ask_to_end(),
            _ = second.tick() => if STILL.fetch_add(1, Relaxed) > STEP_LIMIT {
                eprintln!("bench: no progress for {STEP_LIMIT} s, giving up");
                process::exit(1);
            },
        }
    }
}

fn ask_to_end() {
    if SIGNALLED.swap(true, Relaxed) {
        process::exit(130);
    }
    eprintln!("bench: ending");
}

pub(crate) fn told_to_end() -> bool {
    SIGNALLED.load(Relaxed)
}

/// A step begins: the time for it starts anew. Unwinds, without a word, when the bench was told to end.
pub(crate) fn step() {
    STILL.store(0, Relaxed);
    if told_to_end() {
        panic::resume_unwind(Box::new("told to end"));
    }
}

/// To be called when a client has failed, before that is told: the terminal's Ctrl-C reaches clients too, and
/// maybe first.
pub(crate) fn after_failure() {
    thread::sleep(Duration::from_millis(50));
    step();
}
