//! `logs`: what a box's console got.

use std::io::{IsTerminal, stdout};

use tokio_util::sync::CancellationToken;

use super::arguments::Logs;
use super::error::{CliError, Exit};
use super::site::Site;
use super::terminal::{print, print_bytes};

/// Most bytes that are held back for a line's end.
const LINE_MAX: usize = 64 * 1024;

pub(super) async fn logs(site: &Site, asked: &Logs) -> Result<Exit, CliError> {
    let client = site.client()?;
    let mut sink = Sink::new(stdout().is_terminal());
    let stopped = sink.stopped.clone();
    let reading = client.logs(&asked.devbox, asked.lines, asked.follow, |bytes| sink.take(bytes));
    let read = tokio::select! {
        read = reading => read.map_err(CliError::from),
        () = stopped.cancelled() => Ok(()),
    };
    sink.end()?;
    read.map(|()| Exit::Done)
}

/// Where the lines go.
struct Sink {
    /// Whether somebody's terminal must be kept from what is in them.
    plain: bool,
    pending: Vec<u8>,
    /// Why no more can be written.
    fault: Option<CliError>,
    stopped: CancellationToken,
}

impl Sink {
    fn new(plain: bool) -> Self {
        Self { plain, pending: Vec::new(), fault: None, stopped: CancellationToken::new() }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        let written = if self.plain { self.take_lines(bytes) } else { print_bytes(bytes) };
        if let Err(fault) = written {
            self.fault = Some(fault);
            self.stopped.cancel();
        }
    }

    fn take_lines(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        let ready = whole.unwrap_or(if self.pending.len() > LINE_MAX { self.pending.len() } else { 0 });
        let ready: Vec<u8> = self.pending.drain(..ready).collect();
        print(&plain(&String::from_utf8_lossy(&ready)))
    }

    fn end(self) -> Result<(), CliError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => print(&plain(&String::from_utf8_lossy(&self.pending))),
        }
    }
}

/// Lines without anything that a terminal obeys. Whoever has a box writes what he likes to its console.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, sequence)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        // A control sequence (ECMA-48 §5.4) goes on to the first byte from `@` to `~`.
        let end = sequence.find(|c| matches!(c, '@'..='~')).map_or(sequence.len(), |end| end + 1);
        rest = &sequence[end..];
    }
    plain.push_str(rest);
    plain.retain(|c| c == '\n' || c == '\t' || !c.is_control());
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("[\u{1b}[0;32m  OK  \u{1b}[0m] Started ssh\r\n", "[  OK  ] Started ssh\n")]
    #[case("tab\tand\u{7} bell", "tab\tand bell")]
    #[case("\u{1b}]0;title\u{7}rest", "]0;titlerest")]
    #[case("half\u{1b}[", "half")]
    fn a_terminal_is_not_told_what_to_do(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(plain(text), expected);
    }

    proptest! {
        #[test]
        fn nothing_that_controls_is_left(text in "(\\PC|[\\x00-\\x20\\x7f\u{80}-\u{9f}]){0,200}") {
            prop_assert!(!plain(&text).contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
        }
    }
}
