//! How a verb ends: its exit code, and the words that go with it.

use std::io;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::ClientError;

use super::kubeconfig::Unusable;
use super::name::Unnamed;
pub(super) use crate::exit::Exit;

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
    /// With what would have been changed, and how to confirm it.
    #[error("{0}")]
    NotConfirmed(String),
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
            Self::Unnamed(Unnamed::NotYours(_)) => Exit::NotPermitted,
            Self::Unnamed(Unnamed::Malformed(..)) | Self::Usage(_) => Exit::Usage,
            Self::NoSuchBox(_) => Exit::NoSuchBox,
            Self::NotConfirmed(_) => Exit::NotConfirmed,
            // Refused is the lobby itself, and no visitor can mend that.
            Self::Api(ClientError::Refused(_))
            | Self::Json(_)
            | Self::Gone(_)
            | Self::NotRunning(_)
            | Self::NoCluster(_)
            | Self::Unusable(..) => Exit::Failed,
            Self::Api(error) => Exit::of(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use boxgate_config::LoginName;

    use super::*;

    #[test]
    fn faults() {
        let id = DevBoxId::default_of(LoginName::parse("bob").unwrap());
        assert_eq!(Fault::NoSuchBox(id.clone()).exit(), Exit::NoSuchBox);
        assert_eq!(Fault::from(Unnamed::NotYours(id)).exit(), Exit::NotPermitted);
        assert_eq!(Fault::Usage(String::new()).exit(), Exit::Usage);
        assert_eq!(Fault::NotConfirmed(String::new()).exit(), Exit::NotConfirmed);
        let gone =
            ClientError::Unreachable { socket: "/run/p".into(), source: io::ErrorKind::NotFound.into() };
        assert_eq!(Fault::from(gone).exit(), Exit::Again);
        assert_eq!(Fault::from(ClientError::Refused(String::new())).exit(), Exit::Failed);
    }
}
