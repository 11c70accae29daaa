//! A numbered place on this machine, for one Boxgate installation of the tests: its name, its directory, its
//! networks. No two runs ever share one, and nothing stays behind.
//!
//! A keeper, which is a process of its own, holds the place's lock and the far end of a pipe. When the pipe
//! closes, because the story ended or the tests were killed, it ends the programs, removes every Docker object
//! and the directory, and only then gives the lock back. What a keeper could not remove (the machine
//! went down) is removed by the next one of that place, and by `sweep` at the start of the next run.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::{fs, thread};

use nix::unistd::Uid;

use crate::docker;
use crate::run::Run;
use crate::wait::{Stopwatch, until};

/// Where places are, the same for every run on this machine: locks only work when all look at one file.
const PLACES: &str = "/tmp/boxgate-tests";
/// Each has the /24 of its number in [`NETWORKS`].
const COUNT: u8 = 200;
const NETWORKS: &str = "10.213";
const PREFIX: &str = "bgtest-";
const KEEPER: &str = include_str!("keeper.sh");
/// Removing two boxes takes a second or two, and much longer when the machine is busy.
const CLEARED_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// A place that is ours until it is dropped, or this process ends.
#[derive(Debug)]
pub struct Place {
    number: u8,
    keeper: Child,
}

impl Place {
    /// Takes the first place that is free.
    #[track_caller]
    pub fn take() -> Self {
        assert!(Uid::effective().is_root(), "end-to-end stories need root: sudo ./devhost test");
        make_places();
        sweep();
        (0..COUNT).find_map(Self::take_number).expect("all places for tests are taken")
    }

    fn take_number(number: u8) -> Option<Self> {
        let mut command = keeper(number);
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said != "kept\n" {
            keeper.wait().unwrap();
            return None;
        }
        let place = Self { number, keeper };
        // The gateway's user passes through, and sees nothing else.
        fs::DirBuilder::new().mode(0o711).create(place.directory()).unwrap();
        Some(place)
    }

    /// The name that an installation here has to have, for its objects to be removed at the end.
    pub fn instance(&self) -> String {
        instance(self.number)
    }

    pub fn directory(&self) -> PathBuf {
        directory(self.number)
    }

    /// How every address of its boxes begins.
    pub fn network_prefix(&self) -> String {
        format!("{NETWORKS}.{}.", self.number)
    }

    /// The range of its networks: room for sixteen boxes.
    pub fn network_pool(&self) -> String {
        self.network_prefix() + "0/24"
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let watch = Stopwatch::start();
        while matches!(self.keeper.try_wait(), Ok(None)) && watch.elapsed() < CLEARED_WITHIN {
            thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

fn instance(number: u8) -> String {
    format!("{PREFIX}{number}")
}

fn directory(number: u8) -> PathBuf {
    Path::new(PLACES).join(number.to_string())
}

/// The keeper of a place, which ends at once with another word than `kept` when the place is taken.
fn keeper(number: u8) -> Command {
    let mut command = Command::new("flock");
    command.arg("--nonblock").arg(Path::new(PLACES).join(format!("{number}.lock")));
    command.args(["sh", "-c", KEEPER, "keeper", &instance(number)]);
    command.arg(directory(number)).arg(docker::program()).process_group(0);
    command
}

fn make_places() {
    if let Err(fault) = fs::DirBuilder::new().recursive(true).mode(0o711).create(PLACES) {
        panic!("{PLACES}: {fault}");
    }
    let owner = fs::symlink_metadata(PLACES).unwrap().uid();
    assert_eq!(owner, 0, "{PLACES} must belong to root; remove it");
}

/// Clears the places of runs that are gone without their keepers. Those of living runs are locked.
fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let label = "{{.Label \"io.boxgate.instance\"}}";
        let known = "label=io.boxgate.instance";
        for kind in [&["ps", "--all"][..], &["volume", "ls"], &["network", "ls"]] {
            let args = kind.iter().copied().chain(["--filter", known, "--format", label]);
            let left = docker::docker(args);
            for number in left.lines().filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok()) {
                keeper(number).stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
            }
        }
    });
}

/// Waits until nothing is left of what was an installation's place. For stories about clearing itself.
#[track_caller]
pub fn assert_cleared(instance: &str) {
    let directory = directory(instance.strip_prefix(PREFIX).unwrap().parse().unwrap());
    // The last that a keeper removes.
    until(&format!("removal of {}", directory.display()), CLEARED_WITHIN, || {
        match fs::metadata(&directory) {
            Ok(_) => Err("there".to_owned()),
            Err(_) => Ok(()),
        }
    });
    assert_eq!(docker::Objects::of(instance), docker::Objects::default());
    assert_eq!(programs_below(&directory), "");
    Run::new("nft").args(["list", "table", "inet", &format!("boxgate_{instance}")]).finish().failed();
}

/// The processes whose programs are below a directory, a line each.
pub fn programs_below(directory: &Path) -> String {
    Run::new("pgrep").args(["-fa", &format!("^{}/", directory.display())]).finish().text()
}
