//! How often and how much: from the command line, with what is usual where it says nothing.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::PossibleValuesParser;

use crate::figures::GROUPS;
use crate::machine;

/// Compares logins, keystrokes and transfers through the gateway with direct ones and with `ssh -J`.
#[derive(Debug, Parser)]
#[command(name = "boxgate-bench", version)]
pub(crate) struct Args {
    /// Few repetitions and little data: whether the bench works, not how fast Boxgate is.
    #[arg(long)]
    quick: bool,
    /// Measure these alone.
    #[arg(long, num_args = 1.., value_name = "FIGURE", value_parser = PossibleValuesParser::new(GROUPS.iter().map(|group| group.name)))]
    only: Vec<String>,
    /// Repetitions of each figure, in place of each one's own number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    reps: Option<u16>,
    /// Idle connections held for the memory figure [default: 1000, quick: 20].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=3000))]
    held: Option<u16>,
    /// Where to keep the figures [default: bench/TIME.json in Boxgate's cache directory].
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Args {
    pub(crate) fn wants(&self, group: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == group)
    }

    pub(crate) fn json_file(&self) -> PathBuf {
        self.json.clone().unwrap_or_else(|| {
            let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache");
            let cache = env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
            cache.join("boxgate/bench").join(machine::date().replace(':', "") + ".json")
        })
    }
}

/// Numbers of repetitions and sizes.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) quick: bool,
    pub(crate) logins: usize,
    pub(crate) commands: usize,
    /// Keys typed in one round at each peer.
    pub(crate) keys: usize,
    pub(crate) idle_rounds: usize,
    pub(crate) loaded_rounds: usize,
    pub(crate) transfers: usize,
    pub(crate) bulk_bytes: u64,
    pub(crate) sftp_bytes: u64,
    pub(crate) requests: usize,
    pub(crate) held: usize,
    pub(crate) crowd: usize,
    pub(crate) crowds: usize,
    /// Boxes made, and boxes woken.
    pub(crate) boxes: usize,
    pub(crate) clusters: usize,
    /// Between two logins: what the last one left to do, such as its end in the box or the next spare connection,
    /// is not the next one's to pay.
    pub(crate) gap: Duration,
}

impl Plan {
    pub(crate) fn of(args: &Args) -> Self {
        let usual = if args.quick { Self::quick() } else { Self::full() };
        let reps = |usual: usize| args.reps.map_or(usual, usize::from);
        Self {
            logins: reps(usual.logins),
            commands: reps(usual.commands),
            idle_rounds: reps(usual.idle_rounds),
            loaded_rounds: reps(usual.loaded_rounds),
            transfers: reps(usual.transfers),
            requests: reps(usual.requests),
            crowds: reps(usual.crowds),
            boxes: reps(usual.boxes),
            clusters: reps(usual.clusters),
            held: args.held.map_or(usual.held, usize::from),
            ..usual
        }
    }

    fn full() -> Self {
        Self {
            quick: false,
            logins: 40,
            commands: 60,
            keys: 60,
            idle_rounds: 5,
            loaded_rounds: 5,
            transfers: 7,
            bulk_bytes: 512 << 20,
            sftp_bytes: 256 << 20,
            requests: 300,
            held: 1000,
            crowd: 200,
            crowds: 3,
            boxes: 7,
            clusters: 3,
            gap: Duration::from_millis(200),
        }
    }

    fn quick() -> Self {
        Self {
            quick: true,
            logins: 3,
            commands: 3,
            keys: 10,
            idle_rounds: 1,
            loaded_rounds: 1,
            transfers: 1,
            bulk_bytes: 32 << 20,
            sftp_bytes: 16 << 20,
            requests: 10,
            held: 20,
            crowd: 10,
            crowds: 1,
            boxes: 1,
            clusters: 0,
            gap: Duration::from_millis(100),
        }
    }
}
