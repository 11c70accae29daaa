//! The one place that turns errors into text for the person at the terminal: what happened, whether trying
//! again helps, what to do. OpenSSH prints it as `Received disconnect from …: <text>`.

use std::io;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::ClientError;

use crate::dial::DialError;
use crate::ensure::EnsureError;
use crate::resolve::Refusal;

/// Why a client who proved who she is gets no box.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Refusal(#[from] Refusal),
    #[error("box {devbox}: {source}")]
    Ensure { devbox: DevBoxId, source: EnsureError },
    #[error("box {devbox} {source}")]
    Dial { devbox: DevBoxId, source: DialError },
}

/// The text of the disconnect message.
#[must_use]
pub fn text(error: &OpenError) -> String {
    match error {
        OpenError::Refusal(refusal) => format!("{refusal}."),
        OpenError::Ensure { source: EnsureError::Provisioner(ClientError::Failed(failure)), .. } => {
            format!("{}. {}", failure.message, failure.remedy)
        }
        OpenError::Ensure { devbox, source: EnsureError::Provisioner(fault) } if not_allowed(fault) => {
            format!(
                "box {devbox}: the gateway may not ask for boxes. Tell your operator: provisioner.gateway_user \
             in boxgate.toml must be the user that runs boxgate-gateway."
            )
        }
        OpenError::Ensure { devbox, source: EnsureError::Provisioner(ClientError::Unreachable { .. }) } => {
            format!(
                "box {devbox}: the service that makes boxes is not running. Your files are safe. Try again in a \
             minute, then tell your operator to start boxgate-provisioner."
            )
        }
        OpenError::Ensure { devbox, .. } => {
            format!(
                "box {devbox}: the gateway and the provisioner do not understand each other. Tell your operator."
            )
        }
        OpenError::Dial { devbox, source: DialError::HostKey } => format!(
            "box {devbox} answers with another host key than it was made with, so nothing was sent to it. \
             Tell your operator."
        ),
        OpenError::Dial { devbox, source } => {
            format!("box {devbox} {source}. Try again in a moment; if it stays so, tell your operator.")
        }
    }
}

/// The provisioner, or the mode of its socket, keeps the gateway out.
fn not_allowed(fault: &ClientError) -> bool {
    match fault {
        ClientError::Refused(_) => true,
        ClientError::Unreachable { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use boxgate_config::LoginName;
    use boxgate_provisioner_api::{Failure, FailureCode};

    use super::*;

    #[test]
    fn what_people_read() {
        let devbox = DevBoxId::default_of(LoginName::parse("alice").unwrap());
        let ensure =
            |source: ClientError| OpenError::Ensure { devbox: devbox.clone(), source: source.into() };
        let errors = [
            OpenError::Refusal(Refusal::NotYours { devbox: DevBoxId::parse("bob+web").unwrap() }),
            ensure(ClientError::Failed(Failure {
                code: FailureCode::BootTimeout,
                message: "box alice did not boot within 60 s".to_owned(),
                remedy: "Try again; if it stays so, tell your operator".to_owned(),
                retryable: true,
            })),
            ensure(ClientError::Unreachable {
                socket: "/run/boxgate/provisioner.sock".into(),
                source: io::ErrorKind::ConnectionRefused.into(),
            }),
            ensure(ClientError::Unreachable {
                socket: "/run/boxgate/provisioner.sock".into(),
                source: io::ErrorKind::PermissionDenied.into(),
            }),
            ensure(ClientError::Refused("uid 1000 is not the gateway".to_owned())),
            ensure(ClientError::Protocol("no event of that name".to_owned())),
            OpenError::Dial { devbox: devbox.clone(), source: DialError::HostKey },
            OpenError::Dial { devbox: devbox.clone(), source: DialError::Timeout },
            OpenError::Dial { devbox, source: DialError::Connect(io::ErrorKind::ConnectionRefused.into()) },
        ];
        insta::assert_snapshot!(errors.iter().map(text).collect::<Vec<_>>().join("\n"));
    }
}
