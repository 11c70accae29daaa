//! How a verb ends, told by its exit code: the same for `boxgate` and for the lobby, so that a script knows it once.

use std::io;

use boxgate_provisioner_api::{ClientError, FailureCode};

/// What the program, or the client's `ssh`, exits with. [`CODES`] lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    /// It will not work until somebody changes something.
    Failed = 1,
    /// It was not understood (the number that clap ends with).
    Usage = 2,
    NoSuchBox = 3,
    NotPermitted = 4,
    NotConfirmed = 5,
    /// It may work when it is tried again (`EX_TEMPFAIL` of `sysexits.h`).
    Again = 75,
    /// Ctrl-C (128 and the signal's number, as shells have it).
    Interrupted = 130,
}

/// What help and the manual page say of it.
pub(crate) const CODES: &str = "\
Exit codes:
  0    done
  1    failed, and will until somebody changes something
  2    not understood: wrong arguments, or a faulty configuration
  3    there is no such box
  4    not permitted: the box is somebody else's, or only root may ask
  5    not confirmed: nothing was changed
  75   failed, but may work when it is tried again
  130  interrupted, which ends the waiting and not the work";

impl Exit {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// For what came of asking the provisioner.
    pub(crate) fn of(error: &ClientError) -> Self {
        match error {
            ClientError::Failed(failure) => match failure.code {
                FailureCode::NoSuchBox => Self::NoSuchBox,
                _ if failure.retryable => Self::Again,
                _ => Self::Failed,
            },
            ClientError::Refused(_) => Self::NotPermitted,
            ClientError::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::NotPermitted
            }
            ClientError::Unreachable { .. } => Self::Again,
            ClientError::Protocol(_) => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use boxgate_provisioner_api::Failure;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(FailureCode::NoSuchBox, false, 3)]
    #[case(FailureCode::TooManyBoxes, false, 1)]
    #[case(FailureCode::HostFull, true, 75)]
    fn failures(#[case] code: FailureCode, #[case] retryable: bool, #[case] expected: u8) {
        let failure = Failure { code, message: String::new(), remedy: String::new(), retryable };
        assert_eq!(Exit::of(&ClientError::Failed(failure)).code(), expected);
    }

    #[rstest]
    #[case(io::ErrorKind::NotFound, 75)]
    #[case(io::ErrorKind::PermissionDenied, 4)]
    fn a_provisioner_that_cannot_be_reached(#[case] kind: io::ErrorKind, #[case] expected: u8) {
        let error = ClientError::Unreachable { socket: "/run/p".into(), source: kind.into() };
        assert_eq!(Exit::of(&error).code(), expected);
    }

    #[test]
    fn what_is_told_of_the_codes_is_so() {
        let told: Vec<_> = CODES.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        let exits = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::NoSuchBox,
            Exit::NotPermitted,
            Exit::NotConfirmed,
            Exit::Again,
            Exit::Interrupted,
        ];
        assert_eq!(told, exits.map(|exit| exit.code().to_string()));
        assert!(CODES.lines().all(|line| line.len() <= 80));
        for document in [include_str!("../../docs/operators.md"), include_str!("../../docs/developers.md")] {
            assert!(told.iter().all(|code| document.contains(&format!("\n| {code} | "))), "{document}");
        }
    }
}
