//! The one place that turns errors into text for the person at the terminal: what happened, whether trying
//! again helps, what to do. OpenSSH prints it as `Received disconnect from …: <text>`.

use std::{fmt, io};

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::ClientError;

use crate::dial::DialError;
use crate::ensure::EnsureError;
use crate::resolve::Refusal;
use crate::server::Why;

/// Why a client who proved who she is gets no box.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Refusal(#[from] Refusal),
    #[error("{what}: {source}")]
    Ensure { what: Wanted, source: EnsureError },
    #[error("{what} {source}")]
    Dial { what: Wanted, source: DialError },
}

/// What somebody may have and does not get.
#[derive(Debug, Clone)]
pub enum Wanted {
    DevBox(DevBoxId),
    Lobby,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DevBox(devbox) => write!(f, "box {devbox}"),
            Self::Lobby => f.write_str("the lobby"),
        }
    }
}

/// The text of the disconnect message.
#[must_use]
pub fn text(error: &OpenError) -> String {
    match error {
        OpenError::Refusal(refusal) => format!("{refusal}."),
        OpenError::Ensure { source: EnsureError::Provisioner(ClientError::Failed(failure)), .. } => {
            format!("{}. {}", failure.message, failure.remedy)
        }
        OpenError::Ensure { what, source: EnsureError::Provisioner(fault) } if not_allowed(fault) => {
            format!(
                "{what}: the gateway may not ask for boxes. Tell your operator: provisioner.gateway_user \
             in boxgate.toml must be the user that runs boxgate-gateway."
            )
        }
        OpenError::Ensure { what, source: EnsureError::Provisioner(ClientError::Unreachable { .. }) } => {
            format!(
                "{what}: the service that makes boxes is not running. Your files are safe. Try again in a \
             minute, then tell your operator to start boxgate-provisioner."
            )
        }
        OpenError::Ensure { what, .. } => {
            format!(
                "{what}: the gateway and the provisioner do not understand each other. Tell your operator."
            )
        }
        OpenError::Dial { what, source: DialError::HostKey } => format!(
            "{what} answers with another host key than it was made with, so nothing was sent to it. \
             Tell your operator."
        ),
        OpenError::Dial { what, source } => {
            format!("{what} {source}. Try again in a moment; if it stays so, tell your operator.")
        }
    }
}

/// The text for somebody whose connection the gateway ends.
#[must_use]
pub fn end(why: Why) -> String {
    match why {
        Why::Restart => "the gateway is being restarted. Log in again in a moment.".to_owned(),
        Why::Drained { after } => format!(
            "the gateway was renewed {} ago, and no connection of before may last longer. Your box goes on: log in again.",
            humantime::format_duration(after)
        ),
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
    use std::time::Duration;

    use boxgate_config::LoginName;
    use boxgate_provisioner_api::{Failure, FailureCode};

    use super::*;

    #[test]
    fn what_people_read() {
        let devbox = DevBoxId::default_of(LoginName::parse("alice").unwrap());
        let what = Wanted::DevBox(devbox);
        let ensure = |source: ClientError| OpenError::Ensure { what: what.clone(), source: source.into() };
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
            OpenError::Dial { what: what.clone(), source: DialError::HostKey },
            OpenError::Dial {
                what: what.clone(),
                source: DialError::Timeout { after: Duration::from_secs(60) },
            },
            OpenError::Dial { what, source: DialError::Connect(io::ErrorKind::ConnectionRefused.into()) },
            OpenError::Refusal(Refusal::SharedKey),
            OpenError::Refusal(Refusal::ForcedCommand),
            OpenError::Dial {
                what: Wanted::Lobby,
                source: DialError::Connect(io::ErrorKind::NotFound.into()),
            },
        ];
        let ends = [Why::Restart, Why::Drained { after: Duration::from_secs(86_400) }];
        let all: Vec<_> = errors.iter().map(text).chain(ends.map(end)).collect();
        insta::assert_snapshot!(all.join("\n"));
    }
}
