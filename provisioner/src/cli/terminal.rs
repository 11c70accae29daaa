//! What is said, to whom: results to stdout, all else to stderr.

use std::io::{self, ErrorKind, IsTerminal, Write, stderr, stdin, stdout};

use clap::ValueEnum;

use super::error::CliError;

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Colours {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    Always,
    Never,
}

impl Colours {
    /// Whether stdout gets colours.
    pub(super) fn wanted(self) -> bool {
        match self {
            // https://no-color.org: whatever its value, but for none.
            Self::Auto => {
                stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// A result.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    print_bytes(text.as_bytes())
}

pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(unprinted)
}

fn unprinted(source: io::Error) -> CliError {
    match source.kind() {
        ErrorKind::BrokenPipe => CliError::Unread,
        _ => CliError::Write { place: "standard output".to_owned(), source },
    }
}

/// What goes on meanwhile.
pub(super) fn tell(text: &str) {
    // Nobody is left to be told when stderr is closed; the exit code still says how it went.
    drop(writeln!(stderr(), "boxgate: {text}"));
}

pub(super) fn complain(error: &CliError) {
    if matches!(error, CliError::Unread) {
        return;
    }
    let (what, remedy) = error.told();
    tell(&what);
    if let Some(remedy) = remedy {
        drop(writeln!(stderr(), "    {remedy}"));
    }
}

/// Whether somebody can be asked, and can see what.
pub(super) fn can_ask() -> bool {
    stdin().is_terminal() && stderr().is_terminal()
}

/// One line of whoever sits there; empty at the input's end.
pub(super) fn ask(question: &str) -> Result<String, CliError> {
    let mut answer = String::new();
    let asked = write!(stderr(), "{question}").and_then(|()| stderr().flush());
    asked.and_then(|()| stdin().read_line(&mut answer)).map_err(CliError::Terminal)?;
    Ok(answer.trim().to_owned())
}
