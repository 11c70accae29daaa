//! The one place that turns errors into text for the person at the terminal: what happened to which box,
//! whether asking again helps, and what to do.

use boxgate_config::{DevBoxId, Runtime};
use boxgate_provisioner_api::{Failure, FailureCode};

use crate::archive::Unfit;
use crate::backend::{Error, Volume};
use crate::ensure::EnsureError;
use crate::fleet::ClustersError;
use crate::network::Exhausted;
use crate::reconcile::Trouble;

/// Longest message and longest remedy in bytes: a few lines of a terminal.
const TEXT_MAX: usize = 600;

const AGAIN: &str = "log in again in a moment";
const OPERATOR_LOG: &str =
    "log in again; if it stays like this, ask your operator to look at the provisioner's log";

/// What to say about a box that could not be had.
#[must_use]
pub fn explain(id: &DevBoxId, error: &EnsureError) -> Failure {
    let (code, retryable, remedy) = advice(id, error);
    let said = match error {
        EnsureError::BootFailed { last_word: Some(word), .. } => format!("{error}: {word}"),
        error => error.to_string(),
    };
    Failure { code, message: one_line(&format!("box {id}: {said}")), remedy: one_line(&remedy), retryable }
}

/// The same for a question that is about no box in particular.
#[must_use]
pub fn explain_backend(error: &Error) -> Failure {
    let (code, retryable, remedy) = engine(error);
    Failure { code, message: one_line(&error.to_string()), remedy: remedy.to_owned(), retryable }
}

/// The same for clusters that nobody knows.
#[must_use]
pub fn of_clusters(id: &DevBoxId, error: &ClustersError) -> Failure {
    let (code, retryable, remedy) = match error {
        ClustersError::Engine(error) => engine(error),
        ClustersError::NoKind(_) | ClustersError::Garbled(_) => (
            FailureCode::NoClusters,
            false,
            "try kind get clusters in the box; reset makes it anew from the current image",
        ),
    };
    Failure { code, message: one_line(&format!("box {id}: {error}")), remedy: remedy.to_owned(), retryable }
}

fn advice(id: &DevBoxId, error: &EnsureError) -> (FailureCode, bool, String) {
    let (code, retryable, remedy) = match error {
        EnsureError::Trouble(trouble) => {
            // Others' boxes stop, too.
            let retryable = matches!(trouble, Trouble::HostFull { .. });
            return (code_of(trouble), retryable, remedy_of(trouble, id));
        }
        EnsureError::Backend(error) => engine(error),
        EnsureError::Firewall(fault) => {
            let remedy = format!(
                "ask your operator to mend it: {}; without it boxes could reach each other and this host",
                fault.remedy()
            );
            return (FailureCode::FirewallDown, true, remedy);
        }
        EnsureError::BootFailed { .. } | EnsureError::NoUser { .. } => {
            (FailureCode::BootFailed, true, OPERATOR_LOG)
        }
        EnsureError::BootTimeout { .. } => (
            FailureCode::BootTimeout,
            true,
            "log in again, it may only be slow; if it stays like this, ask your operator to look at the \
             provisioner's log",
        ),
        EnsureError::ShuttingDown => (FailureCode::ShuttingDown, true, AGAIN),
        EnsureError::Busy => (FailureCode::Busy, true, AGAIN),
        EnsureError::Unsettled => (FailureCode::Internal, true, AGAIN),
        EnsureError::Archive(unfit) => return (FailureCode::Archive, false, remedy_of_archive(unfit, id)),
        EnsureError::Exists => {
            let remedy = format!(
                "restore it under another name with --as {owner}+NAME, or remove what there is with boxgate rm {id}",
                owner = id.owner
            );
            return (FailureCode::BoxExists, false, remedy);
        }
        EnsureError::Gone | EnsureError::Stalled => {
            (FailureCode::Archive, true, "try it again, with a way to or from the archive that holds")
        }
        EnsureError::Files(_) | EnsureError::Panicked => (FailureCode::Internal, false, OPERATOR_LOG),
    };
    (code, retryable, remedy.to_owned())
}

fn engine(error: &Error) -> (FailureCode, bool, &'static str) {
    match error {
        Error::Unreachable(_) | Error::NoAnswer { .. } | Error::TimedOut { .. } => (
            FailureCode::EngineUnavailable,
            true,
            "log in again in a minute; if it stays like this, ask your operator whether Docker runs",
        ),
        Error::Tar { said, .. } if is_full(said) => (
            FailureCode::Archive,
            false,
            "make room where Docker keeps its volumes, or set a larger box.disk for it",
        ),
        Error::Tar { .. } => {
            (FailureCode::Archive, false, "read what tar says; the disk, or the archive, may be damaged")
        }
        Error::Conflict { .. } | Error::Refused { .. } => (FailureCode::EngineRefused, true, OPERATOR_LOG),
    }
}

/// In tar's words for a write that found room for a part of it, and strerror(3)'s for `ENOSPC` and `EDQUOT`.
fn is_full(said: &str) -> bool {
    ["Wrote only ", "No space left on device", "Disk quota exceeded"].iter().any(|words| said.contains(words))
}

fn remedy_of_archive(unfit: &Unfit, id: &DevBoxId) -> String {
    let text = match unfit {
        Unfit::NoHead | Unfit::Garbled(_) => "give what boxgate backup wrote",
        Unfit::Format(_) => "restore it with the version of Boxgate that made it, or a later one",
        Unfit::CutShort | Unfit::WrongSize { .. } => {
            "nothing of it was kept; make the archive again, or find a whole copy of it"
        }
        Unfit::OfAnother { user, .. } => {
            return format!("restore it as {user}, or as {user}+NAME: {id} is not of the same owner");
        }
    };
    text.to_owned()
}

fn code_of(trouble: &Trouble) -> FailureCode {
    match trouble {
        Trouble::NameTaken { .. } => FailureCode::NameTaken,
        Trouble::NoSuchBox => FailureCode::NoSuchBox,
        Trouble::TooManyBoxes { .. } => FailureCode::TooManyBoxes,
        Trouble::HostFull { .. } => FailureCode::HostFull,
        Trouble::VolumeMissing { .. } => FailureCode::VolumeMissing,
        Trouble::HalfRestored => FailureCode::HalfRestored,
        Trouble::ImageMissing(_) => FailureCode::ImageMissing,
        Trouble::RuntimeMissing(_) => FailureCode::RuntimeMissing,
        Trouble::NotIsolated { .. } | Trouble::MadeWithoutIsolation { .. } => FailureCode::NotIsolated,
        Trouble::PoolExhausted(_) => FailureCode::PoolExhausted,
        Trouble::Paused | Trouble::Dead => FailureCode::EngineRefused,
        Trouble::BootFailed { .. } => FailureCode::BootFailed,
    }
}

/// What the person, or the operator, has to do.
fn remedy_of(trouble: &Trouble, id: &DevBoxId) -> String {
    let text = match trouble {
        Trouble::NameTaken { kind, name } => {
            return format!(
                "ask your operator to rename or remove the {kind} {name}; Boxgate takes over nothing that it \
                 did not make"
            );
        }
        Trouble::MadeWithoutIsolation { .. } | Trouble::Dead => {
            return format!(
                "ask your operator to remove the container of {id} with docker rm: home and Docker data stay \
                 and the next login makes it anew"
            );
        }
        Trouble::NoSuchBox => {
            return format!("make it with ssh box@HOST new {}, or log in as {}", id.short_name(), id.owner);
        }
        Trouble::TooManyBoxes { .. } => {
            "remove one with ssh box@HOST rm NAME, or ask your operator for a larger max_boxes"
        }
        Trouble::HostFull { .. } => {
            "stop another box of yours, log in again when others have stopped theirs, or ask your operator for a \
             larger provisioner.memory_share or a smaller box.memory"
        }
        Trouble::VolumeMissing { volume, name } => {
            let otherwise = match volume {
                Volume::Home => format!("boxgate rm {id}, after which the next login makes a new box"),
                Volume::Docker => format!("boxgate reset {id}, which keeps the home"),
            };
            return format!(
                "ask your operator to restore the volume {name} from a backup, or to give up what was in it with \
                 {otherwise}"
            );
        }
        Trouble::HalfRestored => {
            return format!(
                "ask your operator to restore it again, or to give it up with boxgate rm {id}, after which the next login makes \
                 a new box"
            );
        }
        Trouble::ImageMissing(_) => {
            "ask your operator to run ./devhost up, or ami/box/build.sh, or to set box.image"
        }
        Trouble::RuntimeMissing(runtime) if runtime == Runtime::Sysbox.docker_name() => {
            "ask your operator to install Sysbox and restart Docker, or to set box.runtime = \"runc\" for a \
             trial without isolation"
        }
        Trouble::RuntimeMissing(_) => "ask your operator to set box.runtime to one that Docker has",
        Trouble::NotIsolated { .. } => {
            "ask your operator to set box.runtime = \"sysbox\", or, where every user may be root on the \
             host, box.i_understand_boxes_are_root_on_this_host = true"
        }
        Trouble::PoolExhausted(Exhausted::Full { .. }) => {
            "ask your operator to remove boxes that nobody needs, or to set a larger provisioner.network_pool"
        }
        Trouble::PoolExhausted(Exhausted::Covered { .. }) => {
            "ask your operator to set provisioner.network_pool to a range that this host does not use"
        }
        Trouble::Paused => "ask your operator to continue it with docker unpause",
        Trouble::BootFailed { .. } => OPERATOR_LOG,
    };
    text.to_owned()
}

/// Text that others wrote, made fit for one line of somebody's terminal.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if line.len() + word.len() >= TEXT_MAX {
            line.push('…');
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn explained(error: impl Into<EnsureError>) -> Failure {
        explain(&DevBoxId::parse("alice").unwrap(), &error.into())
    }

    #[test]
    fn what_a_person_reads() {
        let failure = explained(Trouble::ImageMissing("boxgate/box:latest".to_owned()));
        assert_eq!(
            failure.to_string(),
            "box alice: the image boxgate/box:latest is not on this host \
             (ask your operator to run ./devhost up, or ami/box/build.sh, or to set box.image)"
        );
        assert_eq!((failure.code, failure.retryable), (FailureCode::ImageMissing, false));

        let failure = explained(Error::Unreachable("no such file or directory".to_owned()));
        assert_eq!(failure.message, "box alice: docker: cannot be reached: no such file or directory");
        assert_eq!((failure.code, failure.retryable), (FailureCode::EngineUnavailable, true));

        let failure = explained(Trouble::NotIsolated { owner: "bob".to_owned() });
        assert_eq!(failure.code, FailureCode::NotIsolated);
        assert!(failure.remedy.contains("i_understand_boxes_are_root_on_this_host = true"));

        let last_word = Some("exec /sbin/init: no such file".to_owned());
        let failure = explained(EnsureError::BootFailed { exit_code: 127, last_word });
        assert!(failure.message.ends_with("with exit code 127: exec /sbin/init: no such file"), "{failure}");

        let failure = explained(EnsureError::BootTimeout { after: Duration::from_secs(60) });
        assert_eq!(failure.message, "box alice: its sshd did not answer within 60s");
    }

    #[test]
    fn an_engines_words_cannot_play_tricks_with_the_terminal() {
        let message = "no\u{1b}[2J\r\n  such\u{7}file\u{9b}31m".to_owned();
        let failure = explained(Error::Refused { call: "start container", message });
        assert_eq!(failure.message, "box alice: docker: \"start container\" refused: no [2J such file 31m");
    }

    proptest! {
        #[test]
        fn text_stays_one_short_line(text in "(\\PC|[\\x00-\\x20\\x7f]){0,2000}") {
            let line = one_line(&text);
            prop_assert!(!line.contains(char::is_control));
            prop_assert!(line.len() <= TEXT_MAX + '…'.len_utf8());
        }
    }
}
