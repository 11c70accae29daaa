//! One of Boxgate's two programs as a process: started, killed, started again, its log kept all the while.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::until;

/// The first start makes an RSA key, which on a busy machine takes its time.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// It has clients to say goodbye to.
const ENDED_WITHIN: Duration = Duration::from_secs(15);
const LOGGED_WITHIN: Duration = Duration::from_secs(10);
/// Lines of a log that a failure shows.
const TAIL: usize = 40;

/// The words of its command with which a program begins once it runs: itself, `--config`, and the file.
const PROGRAM_WORDS: usize = 3;

/// A program that may or may not be running.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    /// What starts it, word by word.
    command: Vec<String>,
    log: PathBuf,
    pid_file: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Program {
    pub fn new(name: &'static str, command: Vec<String>, directory: &Path) -> Self {
        Self {
            name,
            command,
            log: directory.join(format!("{name}.log")),
            pid_file: directory.join(format!("{name}.pid")),
            child: Mutex::new(None),
        }
    }

    /// Starts it and waits until `ready`, which is given the log of this run, finds it so.
    #[track_caller]
    pub fn start<T>(&self, mut ready: impl FnMut(&str) -> Result<T, String>) -> T {
        let Mark(mark) = self.mark();
        let log = || -> File { OpenOptions::new().create(true).append(true).open(&self.log).unwrap() };
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).env_remove("RUST_LOG").process_group(0);
        let child = command.stdin(Stdio::null()).stdout(log()).stderr(log()).spawn().unwrap();
        fs::write(&self.pid_file, format!("{}\n", child.id())).unwrap();
        *self.child.lock().unwrap() = Some(child);
        until(&format!("{} ready", self.name), READY_WITHIN, || {
            let log = self.log();
            assert!(self.is_running(), "the {} ended by itself:\n{}", self.name, &log[mark..]);
            ready(&log[mark..])
        })
    }

    /// Kills it with all of its workers, so that it can tell nobody.
    pub fn kill(&self) {
        for pid in self.processes() {
            // One that has ended just now need not be killed.
            kill(pid, Signal::SIGKILL).ok();
        }
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().ok();
            child.wait().unwrap();
        }
        until(&format!("end of all of the {}", self.name), ENDED_WITHIN, || match &self.processes()[..] {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        });
    }

    /// Asks it to end, which it must do well and soon.
    #[track_caller]
    pub fn terminate(&self) {
        self.end(Signal::SIGTERM);
    }

    /// The same as a Ctrl-C does, after which the gateway keeps no connections.
    #[track_caller]
    pub fn interrupt(&self) {
        self.end(Signal::SIGINT);
    }

    #[track_caller]
    fn end(&self, signal: Signal) {
        let Some(mut child) = self.child.lock().unwrap().take() else { return };
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let status = until(&format!("end of the {}", self.name), ENDED_WITHIN, || {
            child.try_wait().unwrap().ok_or_else(|| self.last_words(Mark::default()))
        });
        assert!(
            status.success(),
            "the {} ended with {status}:\n{}",
            self.name,
            self.last_words(Mark::default())
        );
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.lock().unwrap().as_ref().map(Child::id)
    }

    /// The process that serves, if the one that was started is a supervisor of such.
    #[track_caller]
    pub fn worker(&self) -> u32 {
        let pid = self.pid().expect("it runs");
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        // The youngest is the last.
        children.split_whitespace().last().expect("it has a worker").parse().unwrap()
    }

    /// Asks it to do what it does on that signal, and to go on.
    pub fn signal(&self, signal: Signal) {
        let pid = self.pid().expect("it runs");
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    }

    /// Every process of it, those among them that were left to themselves.
    pub fn processes(&self) -> Vec<Pid> {
        let words = &self.command[self.command.len() - PROGRAM_WORDS..];
        let ours = |pid: i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split('\0').take(PROGRAM_WORDS).eq(words.iter().map(String::as_str))
        };
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|&pid| ours(pid)).map(Pid::from_raw).collect()
    }

    pub fn is_running(&self) -> bool {
        matches!(self.child.lock().unwrap().as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// All that it has said, in every run.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How much it has said so far.
    pub fn mark(&self) -> Mark {
        Mark(self.log().len())
    }

    /// The end of what it has said since, for whoever looks for the reason of a failure.
    pub fn last_words(&self, since: Mark) -> String {
        let log = self.log();
        let lines: Vec<_> = log[since.0..].lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL)..];
        format!("--- {} ---\n{}", self.name, tail.join("\n"))
    }

    /// Waits for a line of the log that has every one of `words`, and returns it.
    #[track_caller]
    pub fn expect_line(&self, words: &[&str]) -> String {
        until(&format!("a line of the {}'s log with {words:?}", self.name), LOGGED_WITHIN, || {
            let log = self.log();
            let found = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            found.map(str::to_owned).ok_or_else(|| self.last_words(Mark::default()))
        })
    }
}

/// A place in a program's log; the default is its begin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark(usize);

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
