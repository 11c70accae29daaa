//! How a verb ends: its exit code, and the words that go with it.

use std::io;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{ClientError, FailureCode};

use super::kubeconfig::Unusable;
use super::name::Unnamed;

/// What the client's `ssh` exits with. `help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    /// It will not work until somebody changes something.
    Failed = 1,
    /// It was not understood, or not confirmed.
    Usage = 2,
    NotYours = 3,
    NoSuchBox = 4,
    /// It may work when it is tried again (`EX_TEMPFAIL` of `sysexits.h`).
    Again = 75,
    /// Ctrl-C (128 and the signal's number, as shells have it).
    Interrupted = 130,
}

impl Exit {
    pub(super) fn code(self) -> u32 {
        self as u32
    }
}

/// Why a verb was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Unnamed(#[from] Unnamed),
    #[error("you have no box {0}; `ls` lists those that you have")]
    NoSuchBox(DevBoxId),
    /// With what to do instead.
    #[error("{0}")]
    Usage(String),
    /// In the provisioner's words.
    #[error(transparent)]
    Api(#[from] ClientError),
    #[error("box {0} does not run (start it: ssh box@HOST start {short})", short = .0.short_name())]
    NotRunning(DevBoxId),
    #[error("box {0} has no cluster (make one in it: kind create cluster)")]
    NoCluster(DevBoxId),
    /// What her box says of its cluster is of no use.
    #[error("box {0}: {1}")]
    Unusable(DevBoxId, Unusable),
    #[error("cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    /// The visitor does not hear it any more.
    #[error("gone: {0}")]
    Gone(#[from] io::Error),
}

impl Fault {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Unnamed(Unnamed::NotYours(_)) => Exit::NotYours,
            Self::Unnamed(Unnamed::Malformed(..)) | Self::Usage(_) => Exit::Usage,
            Self::NoSuchBox(_) => Exit::NoSuchBox,
            Self::Api(ClientError::Failed(failure)) => match failure.code {
                FailureCode::NoSuchBox => Exit::NoSuchBox,
                _ if failure.retryable => Exit::Again,
                _ => Exit::Failed,
            },
            Self::Api(ClientError::Unreachable { .. }) => Exit::Again,
            Self::NotRunning(_)
            | Self::NoCluster(_)
            | Self::Unusable(..)
            | Self::Api(_)
            | Self::Json(_)
            | Self::Gone(_) => Exit::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use boxgate_config::LoginName;
    use boxgate_provisioner_api::Failure;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(FailureCode::NoSuchBox, false, 4)]
    #[case(FailureCode::TooManyBoxes, false, 1)]
    #[case(FailureCode::HostFull, true, 75)]
    fn failures(#[case] code: FailureCode, #[case] retryable: bool, #[case] expected: u32) {
        let failure = Failure { code, message: String::new(), remedy: String::new(), retryable };
        assert_eq!(Fault::from(ClientError::Failed(failure)).exit().code(), expected);
    }

    #[test]
    fn other_faults() {
        let id = DevBoxId::default_of(LoginName::parse("bob").unwrap());
        assert_eq!(Fault::NoSuchBox(id.clone()).exit().code(), 4);
        assert_eq!(Fault::from(Unnamed::NotYours(id)).exit().code(), 3);
        assert_eq!(Fault::Usage(String::new()).exit().code(), 2);
        let gone =
            ClientError::Unreachable { socket: "/run/p".into(), source: io::ErrorKind::NotFound.into() };
        assert_eq!(Fault::from(gone).exit().code(), 75);
        assert_eq!(Fault::from(ClientError::Refused(String::new())).exit().code(), 1);
    }
}
