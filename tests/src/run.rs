//! A command with a time limit, and what came of it.
//!
//! Each runs in a process group of its own, so that a pipeline of a shell ends as a whole. Its output is read
//! by threads all the while, so that neither side waits for the other.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::wait::{Stopwatch, until};

/// For commands that should take a second or two, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(30);
/// After the command's end, for what it left in its pipes. Longer only when something it started holds them.
const DRAIN: Duration = Duration::from_secs(2);
/// Bytes of each stream that a failure shows.
const SHOWN: usize = 4000;
/// How setpriv(1) is told to end what it starts when the thread that runs a story is no more, and env(1) to let it
/// hear a Ctrl-C: tests that run in the background have been told to ignore it, and a shell cannot trap what it ignores.
const UNTIL_DEATH: [&str; 4] = ["--pdeathsig", "KILL", "env", "--default-signal=INT"];
/// Characters of each word of a command that a failure shows.
const WORD_SHOWN: usize = 300;

/// Runs a command anew until it succeeds, and panics with what came of it last when `limit` is over.
#[track_caller]
pub fn until_succeeds(what: &str, limit: Duration, mut run: impl FnMut() -> Run) -> Finished {
    until(what, limit, || {
        let finished = run().finish();
        if finished.succeeded() { Ok(finished) } else { Err(finished.to_string()) }
    })
}

/// A command to be.
#[derive(Debug)]
#[must_use = "nothing runs before finish, ok or start"]
pub struct Run {
    command: Command,
    input: Vec<u8>,
    limit: Duration,
}

impl Run {
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        // Tests that are killed take what they run with them.
        let mut command = Command::new("setpriv");
        command.args(UNTIL_DEATH).arg(program);
        // An agent of whoever runs the tests is no part of them.
        command.env_remove("SSH_AUTH_SOCK").process_group(0);
        Self { command, input: Vec::new(), limit: LIMIT }
    }

    /// A line for the shell: pipelines, redirections.
    pub fn shell(line: &str) -> Self {
        Self::new("bash").args(["-c", line])
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What the command finds on its standard input; without this, nothing.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Within which time it has to end; of one that is left running, to say what is expected of it.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end, whatever that is.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let input = std::mem::take(&mut self.input);
        let limit = self.limit;
        let mut running = self.start();
        let mut stdin = running.stdin.take().unwrap();
        // A command that does not read its input breaks the pipe: what then matters is how it ends.
        let feeder = thread::spawn(move || drop(stdin.write_all(&input)));
        let finished = running.finish_within(limit);
        feeder.join().unwrap();
        finished
    }

    /// Runs it to its end, which must be a success.
    #[track_caller]
    pub fn ok(self) -> Finished {
        self.finish().code(0)
    }

    /// Leaves it running, with its standard input open.
    #[track_caller]
    pub fn start(self) -> Running {
        self.spawn(Stdio::piped(), Stdio::piped())
    }

    /// Leaves it running, and returns what it has as standard input and output, for a conversation in bytes.
    #[track_caller]
    pub fn converse(self) -> (Running, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let input = OwnedFd::from(theirs.try_clone().unwrap());
        (self.spawn(input.into(), OwnedFd::from(theirs).into()), ours)
    }

    #[track_caller]
    fn spawn(mut self, input: Stdio, output: Stdio) -> Running {
        let shown = show(&self.command);
        self.command.stdin(input).stdout(output).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|fault| panic!("{shown}: cannot start: {fault}"));
        let output = child.stdout.take();
        Running {
            stdin: child.stdin.take(),
            stdout: output.map_or_else(|| Capture::of(io::empty()), Capture::of),
            stderr: Capture::of(child.stderr.take().unwrap()),
            child,
            shown,
            limit: self.limit,
            since: Stopwatch::start(),
        }
    }
}

fn show(command: &Command) -> String {
    let words = command.get_args().skip(UNTIL_DEATH.len());
    let short = |word: &OsStr| word.to_string_lossy().chars().take(WORD_SHOWN).collect::<String>();
    words.map(short).collect::<Vec<_>>().join(" ")
}

/// A stream's bytes so far.
#[derive(Debug)]
struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Capture {
    fn of(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let sink = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut chunk) {
                sink.lock().unwrap().extend_from_slice(&chunk[..read]);
            }
        });
        Self { bytes, reader }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

/// A command under way. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Capture,
    stderr: Capture,
    shown: String,
    limit: Duration,
    since: Stopwatch,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the command and to what it started, as a terminal's Ctrl-C does.
    pub fn signal(&self, signal: Signal) {
        killpg(self.group(), signal).unwrap();
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    #[track_caller]
    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).unwrap();
    }

    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Waits for `needle` on standard output and returns all that was said there.
    #[track_caller]
    pub fn expect_stdout(&mut self, needle: &str) -> String {
        self.expect(needle, "standard output", |running| lossy(&running.stdout.bytes()))
    }

    /// Waits for `needle` on standard error and returns all that was said there.
    #[track_caller]
    pub fn expect_stderr(&mut self, needle: &str) -> String {
        self.expect(needle, "standard error", |running| lossy(&running.stderr.bytes()))
    }

    #[track_caller]
    fn expect(&mut self, needle: &str, stream: &str, text: impl Fn(&Self) -> String) -> String {
        until(&format!("{needle:?} on {stream}"), self.limit, || {
            let said = text(self);
            match self.child.try_wait().unwrap() {
                _ if said.contains(needle) => Ok(said),
                Some(status) => panic!("ended without {needle:?} on {stream}:\n{}", self.so_far(status)),
                None => Err(format!("\n$ {}\n{said}", self.shown)),
            }
        })
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Closes its input and waits for its end.
    #[track_caller]
    pub fn finish_within(&mut self, limit: Duration) -> Finished {
        self.close_input();
        let status = until(&format!("end of {}", self.shown), limit, || {
            let status = self.child.try_wait().unwrap();
            status.ok_or_else(|| format!("running\n{}", self.so_far(ExitStatus::default())))
        });
        let drained = Stopwatch::start();
        while drained.elapsed() < DRAIN
            && !(self.stdout.reader.is_finished() && self.stderr.reader.is_finished())
        {
            thread::sleep(Duration::from_millis(2));
        }
        self.so_far(status)
    }

    fn so_far(&self, status: ExitStatus) -> Finished {
        Finished {
            shown: self.shown.clone(),
            status,
            took: self.since.elapsed(),
            stdout: self.stdout.bytes(),
            stderr: self.stderr.bytes(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Both fail only when it ended just now.
            killpg(self.group(), Signal::SIGKILL).ok();
            self.child.wait().ok();
        }
    }
}

/// What came of a command. Its checks return it, so that they can be chained.
#[derive(Debug, Clone)]
pub struct Finished {
    shown: String,
    status: ExitStatus,
    pub took: Duration,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Its exit code must be this one.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.status.code(), Some(expected), "exit code, left seen and right expected, of\n{self}");
        self
    }

    /// It must have failed, with whatever exit code.
    #[track_caller]
    pub fn failed(self) -> Self {
        assert!(!self.succeeded(), "expected a failure, seen:\n{self}");
        self
    }

    /// Its standard output must be this, byte for byte.
    #[track_caller]
    pub fn stdout_is(self, expected: impl AsRef<[u8]>) -> Self {
        let expected = expected.as_ref();
        assert!(self.stdout == expected, "expected on standard output: {}\nseen:\n{self}", excerpt(expected));
        self
    }

    /// Its standard error must be this, byte for byte.
    #[track_caller]
    pub fn stderr_is(self, expected: impl AsRef<[u8]>) -> Self {
        let expected = expected.as_ref();
        assert!(self.stderr == expected, "expected on standard error: {}\nseen:\n{self}", excerpt(expected));
        self
    }

    /// Its standard output must contain this.
    #[track_caller]
    pub fn stdout_has(self, needle: &str) -> Self {
        assert!(self.text().contains(needle), "expected {needle:?} on standard output, seen:\n{self}");
        self
    }

    /// Its standard error must contain this.
    #[track_caller]
    pub fn stderr_has(self, needle: &str) -> Self {
        assert!(self.errors().contains(needle), "expected {needle:?} on standard error, seen:\n{self}");
        self
    }

    /// Its standard error must not contain this.
    #[track_caller]
    pub fn stderr_lacks(self, needle: &str) -> Self {
        assert!(!self.errors().contains(needle), "expected no {needle:?} on standard error, seen:\n{self}");
        self
    }

    /// It must have taken at most this long.
    #[track_caller]
    pub fn took_at_most(self, limit: Duration) -> Self {
        assert!(self.took <= limit, "expected an end within {limit:?}, seen:\n{self}");
        self
    }

    /// Standard output as text, without the last line's end.
    pub fn text(&self) -> String {
        lossy(&self.stdout).trim_end_matches('\n').to_owned()
    }

    /// Standard error as text.
    pub fn errors(&self) -> String {
        lossy(&self.stderr)
    }

    /// Its exit code, or the signal that ended it.
    pub fn status_text(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => code.to_string(),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        }
    }

    pub fn succeeded(&self) -> bool {
        self.status.success()
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.shown)?;
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, signal) => write!(f, "ended by signal {}", signal.unwrap_or_default())?,
        }
        writeln!(f, " after {:.1} s", self.took.as_secs_f64())?;
        writeln!(f, "standard output: {}", excerpt(&self.stdout))?;
        write!(f, "standard error: {}", excerpt(&self.stderr))
    }
}

/// Bytes as a failure shows them.
fn excerpt(bytes: &[u8]) -> String {
    let shown = lossy(&bytes[..bytes.len().min(SHOWN)]);
    let rest = bytes.len().saturating_sub(SHOWN);
    match (bytes.is_empty(), rest) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => format!("{} bytes\n{shown}", bytes.len()),
        (false, rest) => format!("{} bytes\n{shown}… and {rest} more", bytes.len()),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_exit_code_are_kept_apart() {
        let run = Run::shell("cat; echo err >&2; exit 3").input("in\n");
        run.finish().code(3).stdout_is("in\n").stderr_is("err\n");
    }

    #[test]
    #[should_panic(expected = "expected \"never\" on standard output")]
    fn a_failure_tells_what_was_seen() {
        drop(Run::shell("echo seen").ok().stdout_has("never"));
    }

    #[test]
    #[should_panic(expected = "end of bash -c sleep 1000 | cat: not within 100ms; last seen: running")]
    fn a_command_that_does_not_end_is_ended() {
        drop(Run::shell("sleep 1000 | cat").within(Duration::from_millis(100)).finish());
    }

    #[test]
    fn a_dropped_pipeline_is_gone() {
        let mut running = Run::shell("sleep 1000 & echo $!; wait").start();
        running.expect_stdout("\n");
        let sleep: i32 = lossy(&running.stdout.bytes()).trim().parse().unwrap();
        drop(running);
        until("end of the sleep", LIMIT, || match std::fs::read_to_string(format!("/proc/{sleep}/stat")) {
            Ok(stat) if !stat.contains(" Z ") => Err(stat),
            _ => Ok(()),
        });
    }
}
