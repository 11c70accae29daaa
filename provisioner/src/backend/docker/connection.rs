//! One call to the engine: connected, bounded in time, its failure sorted by what can be done about it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error as Fault;
use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::time::timeout;

use crate::backend::Error;

const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;
/// What bollard waits longer than a change may take. Our time-outs cover the whole answer, and are what counts.
const BACKSTOP: Duration = Duration::from_secs(60);

/// The way to the engine.
#[derive(Debug)]
pub(super) struct Connection {
    socket: PathBuf,
    /// In whole seconds, as bollard counts.
    backstop: u64,
    /// Knows the API version that the engine speaks; none until the engine was reached.
    docker: Mutex<Option<Docker>>,
}

impl Connection {
    /// No call takes longer than `longest`.
    pub(super) fn new(socket: PathBuf, longest: Duration) -> Self {
        Self { socket, backstop: longest.saturating_add(BACKSTOP).as_secs(), docker: Mutex::default() }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Does `ask` within `after`; `call` names it in errors.
    pub(super) async fn call<T, F, A>(&self, call: &'static str, after: Duration, ask: F) -> Result<T, Error>
    where
        F: FnOnce(Docker) -> A,
        A: Future<Output = Result<T, Fault>>,
    {
        let asked = timeout(after, async { ask(self.connected().await?).await }).await;
        let error = match asked {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(fault)) => sort(call, after, &fault),
            Err(_) => Error::TimedOut { call, after },
        };
        if !matches!(error, Error::Conflict { .. }) {
            // The engine may come back as another version.
            self.keep(None);
        }
        Err(error)
    }

    async fn connected(&self) -> Result<Docker, Fault> {
        let known = self.docker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(docker) = known {
            return Ok(docker);
        }
        let socket = self.socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&socket, self.backstop, API_DEFAULT_VERSION)?;
        let docker = docker.negotiate_version().await?;
        self.keep(Some(docker.clone()));
        Ok(docker)
    }

    fn keep(&self, docker: Option<Docker>) {
        *self.docker.lock().unwrap_or_else(PoisonError::into_inner) = docker;
    }
}

/// What is not there is an answer, not a failure.
pub(super) fn found<T>(answer: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Fault::DockerResponseServerError { status_code: NOT_FOUND, .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn sort(call: &'static str, after: Duration, fault: &Fault) -> Error {
    match fault {
        Fault::RequestTimeoutError => Error::TimedOut { call, after },
        Fault::DockerResponseServerError { status_code, message } => {
            // The engine has no status of its own for a subnet that someone else took.
            let conflict = *status_code == CONFLICT || message.contains("Pool overlaps");
            let message = message.clone();
            if conflict { Error::Conflict { call, message } } else { Error::Refused { call, message } }
        }
        Fault::SocketNotFoundError(socket) => Error::Unreachable(format!("there is no {socket}")),
        // Connected, and then nothing or nonsense: whether it was done nobody knows.
        Fault::HyperLegacyError { err } if !err.is_connect() => {
            Error::NoAnswer { call, cause: root_cause(fault) }
        }
        Fault::HyperResponseError { .. } => Error::NoAnswer { call, cause: root_cause(fault) },
        Fault::IOError { .. } | Fault::HyperLegacyError { .. } => Error::Unreachable(root_cause(fault)),
        fault => Error::Refused { call, message: fault.to_string() },
    }
}

/// The innermost reason: the outer ones only say that there was a reason.
fn root_cause(fault: &Fault) -> String {
    let mut cause: &dyn std::error::Error = fault;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tempfile::TempDir;
    use tokio::net::UnixListener;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    fn said(status_code: u16, message: &str) -> Fault {
        Fault::DockerResponseServerError { status_code, message: message.to_owned() }
    }

    #[rstest]
    #[case(409, "the name is in use", true)]
    #[case(403, "Pool overlaps with other one on this address space", true)]
    #[case(400, "invalid reference format", false)]
    #[case(500, "driver failed", false)]
    fn conflicts(#[case] status: u16, #[case] message: &str, #[case] conflict: bool) {
        let error = sort("create network", Duration::ZERO, &said(status, message));
        assert_eq!(matches!(error, Error::Conflict { .. }), conflict, "{error}");
    }

    #[test]
    fn what_is_not_there_is_an_answer() {
        assert!(matches!(found::<()>(Err(said(404, "no such volume"))), Ok(None)));
        assert!(found::<()>(Err(said(500, "on fire"))).is_err());
    }

    #[tokio::test]
    async fn no_socket() {
        let directory = TempDir::new().unwrap();
        let connection = Connection::new(directory.path().join("docker.sock"), LONGEST);
        let error = connection
            .call("ping", Duration::from_secs(5), |docker| async move { docker.ping().await })
            .await;
        let error = error.unwrap_err();
        assert!(matches!(&error, Error::Unreachable(why) if why.contains("there is no")), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves() {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("docker.sock");
        drop(UnixListener::bind(&socket).unwrap());
        let connection = Connection::new(socket, LONGEST);
        let error = connection
            .call("ping", Duration::from_secs(5), |docker| async move { docker.ping().await })
            .await;
        let error = error.unwrap_err();
        assert!(matches!(&error, Error::Unreachable(why) if why.contains("refused")), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_says_nothing() {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("docker.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let connection = Connection::new(socket, LONGEST);
        let error = connection
            .call("ping", Duration::from_secs(5), |docker| async move { docker.ping().await })
            .await;
        assert_eq!(error, Err(Error::TimedOut { call: "ping", after: Duration::from_secs(5) }));
    }
}
