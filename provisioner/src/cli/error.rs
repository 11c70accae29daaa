//! Why a verb failed, what to do about it, and how the program ends.

use std::io;

use boxgate_config::{DevBoxId, LoadError};
use boxgate_provisioner_api::{ClientError, Failure, FailureCode};

use crate::exit;
pub(super) use crate::exit::Exit;
use crate::failure::one_line;

/// What `--help` and the manual page say of how the program ends.
pub(super) fn exit_codes() -> String {
    format!("{}\n\nexec ends as its command does.", exit::CODES)
}

/// Why a verb ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error("{0}")]
    Config(#[from] LoadError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("there is no box {0}")]
    NoSuchBox(DevBoxId),
    #[error("box {id} is {state}: nothing can be run in it")]
    NotRunning { id: DevBoxId, state: &'static str },
    #[error("box {0}: not confirmed, so nothing was changed")]
    NotConfirmed(DevBoxId),
    /// Nobody is there to type the name.
    #[error("box {id}: {verb} wants the box's name again, and there is no terminal to type it on")]
    Unasked { id: DevBoxId, verb: &'static str },
    #[error("{0} needs a terminal")]
    NoTerminal(&'static str),
    #[error("{program} cannot be run: {source}")]
    Program { program: &'static str, source: io::Error },
    #[error("{place}: cannot be written: {source}")]
    Write { place: String, source: io::Error },
    #[error("{place}: cannot be read as an archive of a box: {source}")]
    Read { place: String, source: io::Error },
    #[error("an archive is nothing to be typed or shown: standard input and output are a terminal")]
    OnATerminal,
    #[error("the archive and --json cannot both go to standard output")]
    BothToStdout,
    #[error("interrupted: nothing of it was kept")]
    Interrupted,
    /// Whoever read what is printed has seen enough.
    #[error("nobody reads the output")]
    Unread,
    #[error("the terminal cannot be used: {0}")]
    Terminal(io::Error),
    #[error("the answer cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
}

impl CliError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::NoTerminal(_) | Self::OnATerminal | Self::BothToStdout => Exit::Usage,
            Self::Interrupted => Exit::Interrupted,
            Self::Client(error) => Exit::of(error),
            Self::NoSuchBox(_) => Exit::NoSuchBox,
            Self::NotConfirmed(_) | Self::Unasked { .. } => Exit::NotConfirmed,
            Self::Unread => Exit::Done,
            Self::NotRunning { .. }
            | Self::Program { .. }
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::Terminal(_)
            | Self::Json(_)
            | Self::Runtime(_) => Exit::Failed,
        }
    }

    /// What to say: what happened, then what to do about it.
    pub(super) fn told(&self) -> (String, Option<String>) {
        match self {
            Self::Client(ClientError::Failed(failure)) => {
                (one_line(&failure.message), Some(one_line(for_operators(failure))))
            }
            // A fault for each line, each with its remedy below it.
            Self::Config(faults) => (faults.to_string(), None),
            error => (one_line(&error.to_string()), error.remedy()),
        }
    }

    fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::Client(error) => remedy_of(error)?,
            Self::NoSuchBox(_) => "boxgate ls lists the boxes there are",
            Self::NotRunning { id, .. } => return Some(format!("start it first: boxgate start {id}")),
            Self::Unasked { id, verb } => {
                return Some(format!("say it on the command line: boxgate {verb} {id} --yes {id}"));
            }
            Self::OnATerminal => {
                "name a file, or put a pipe there: boxgate backup alice - | ssh HOST boxgate restore -"
            }
            Self::Read { .. } => {
                "give what boxgate backup wrote; one that is damaged or was cut short is of no use"
            }
            Self::NoTerminal(_) => "for scripts there is boxgate ls --json",
            Self::Program { .. } => "install it, or put it on the PATH",
            _ => return None,
        };
        Some(remedy.to_owned())
    }
}

/// Failures are told in words for a box's owner, who has `ssh` and an operator to ask.
fn for_operators(failure: &Failure) -> &str {
    if let Some(remedy) = failure.remedy.strip_prefix("ask your operator to ") {
        return remedy;
    }
    match failure.code {
        FailureCode::NoSuchBox => "boxgate ls lists the boxes there are, boxgate new makes one",
        FailureCode::TooManyBoxes => "remove one with boxgate rm, or set a larger max_boxes for its owner",
        FailureCode::HostFull => {
            "stop a box that nobody uses, or set a larger provisioner.memory_share or a smaller box.memory"
        }
        FailureCode::EngineUnavailable => "does Docker run? boxgate doctor looks at it",
        FailureCode::EngineRefused
        | FailureCode::BootFailed
        | FailureCode::BootTimeout
        | FailureCode::Internal => {
            "boxgate logs and the provisioner's log say why; boxgate doctor looks at the host"
        }
        FailureCode::Busy | FailureCode::ShuttingDown => "try again in a moment",
        _ => &failure.remedy,
    }
}

fn remedy_of(error: &ClientError) -> Option<&'static str> {
    match error {
        error if Exit::of(error) == Exit::NotPermitted => Some("run it as root: sudo boxgate …"),
        ClientError::Unreachable { .. } => Some(
            "does boxgate-provisioner run? its log says why not; --config and --socket name another one's socket",
        ),
        ClientError::Protocol(_) => {
            Some("is the provisioner of this version? boxgate --version, boxgate doctor")
        }
        ClientError::Refused(_) | ClientError::Failed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(FailureCode::ImageMissing, "ask your operator to set box.image", "set box.image")]
    #[case(FailureCode::EngineRefused, "ask your operator to continue it", "continue it")]
    #[case(
        FailureCode::NoSuchBox,
        "ssh box@HOST new web",
        "boxgate ls lists the boxes there are, boxgate new makes one"
    )]
    #[case(FailureCode::Busy, "log in again in a moment", "try again in a moment")]
    #[case(FailureCode::FirewallDown, "mend it", "mend it")]
    fn operators_have_nobody_else_to_ask(
        #[case] code: FailureCode,
        #[case] remedy: &str,
        #[case] expected: &str,
    ) {
        let failure = Failure { code, message: String::new(), remedy: remedy.to_owned(), retryable: false };
        assert_eq!(for_operators(&failure), expected);
    }
}
