//! What is said to make a box answer, and what answers whatever goes wrong. As JSON; fields may be added: a
//! reader ignores those that it does not know.

use std::fmt;
use std::net::SocketAddr;

use boxgate_config::DevBoxId;
use serde::{Deserialize, Serialize};

use crate::id;

/// Asks for a box that answers: made when there is none, woken when it is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnsureRequest {
    /// On the wire `"alice"` or `"alice+web"`.
    #[serde(with = "id")]
    pub devbox: DevBoxId,
    /// Public key of the gateway's user CA as one OpenSSH line; the box trusts certificates of this CA only.
    pub user_ca: String,
    /// Who asks, for the log: `SHA256:… from 203.0.113.7:51234`.
    pub client: String,
}

/// One line of the answer to an [`EnsureRequest`]. The last one is `Ready` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EnsureEvent {
    Progress(Progress),
    Ready(Endpoint),
    Failed(Failure),
}

/// What is going on, for the person who waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// One line: `making your box`.
    pub text: String,
}

/// Where a box's sshd answers, and how to know that it is this box's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// The box's host key as one OpenSSH public key line, to be pinned: any other key is another machine's.
    pub host_key: String,
    /// The login name of the box's user.
    pub unix_user: String,
    /// Whether root in the box is someone else than root on the host. When not, the person is told at login.
    pub isolated: bool,
}

/// Why there is no box, in words for the person who waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: FailureCode,
    /// What happened, to which box.
    pub message: String,
    /// What the person can do about it.
    pub remedy: String,
    /// Whether asking again, with nothing changed, may help.
    pub retryable: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.remedy)
    }
}

/// The kind of a [`Failure`], for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The container engine does not answer.
    EngineUnavailable,
    /// The container engine refused what it was asked.
    EngineRefused,
    /// The box image is not on this host.
    ImageMissing,
    /// The configured runtime is not installed.
    RuntimeMissing,
    /// The runtime does not isolate and another user's box is on this host.
    NotIsolated,
    /// No free network is left for the box.
    PoolExhausted,
    /// Its owner has as many boxes as she may have.
    TooManyBoxes,
    /// The running boxes were promised as much of the host's memory as may be.
    HostFull,
    /// There is no such box, and this request makes none.
    NoSuchBox,
    /// A volume of the box's is gone, and what was in it.
    VolumeMissing,
    /// The rules that keep boxes apart cannot be made.
    FirewallDown,
    /// There is such a box already.
    BoxExists,
    /// The box was being restored from an archive, and that did not come to its end.
    HalfRestored,
    /// The archive of a box cannot be made, or no box of it.
    Archive,
    /// Something that is not this box has its name.
    NameTaken,
    /// The box ended while it was booting.
    BootFailed,
    /// The box's sshd did not answer in time.
    BootTimeout,
    /// More boxes are asked for at once than the provisioner serves.
    Busy,
    /// The provisioner is shutting down.
    ShuttingDown,
    /// The box does not say which clusters it has.
    NoClusters,
    /// A fault of the provisioner's own, such as a full disk.
    Internal,
}

/// Whether the provisioner can work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The provisioner's version.
    pub version: String,
    pub engine: Engine,
    pub firewall: Firewall,
    /// Whether the configured runtime isolates boxes from the host.
    pub isolated: bool,
}

/// The container engine's state as the provisioner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Engine {
    Ok,
    Unavailable { reason: String },
}

/// Whether boxes are kept from each other and from the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Firewall {
    /// They are.
    Ok,
    /// The operator chose that they are not: `provisioner.firewall = "off"`.
    Off,
    /// They cannot be, so no box is had.
    Failing { reason: String },
}

/// The body of every answer that is not a 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// One line: what is wrong with the request.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_request_names_the_box_by_its_string_form() {
        let request = EnsureRequest {
            devbox: DevBoxId::parse("alice+web").unwrap(),
            user_ca: "ssh-ed25519 AAAA".to_owned(),
            client: "SHA256:x from 203.0.113.7:51234".to_owned(),
        };
        let json = serde_json::to_value(&request).unwrap();
        assert_eq!(json["devbox"], "alice+web");
        assert_eq!(serde_json::from_value::<EnsureRequest>(json).unwrap(), request);
    }

    #[rstest]
    #[case(r#"{"devbox":"../etc","user_ca":"","client":""}"#, "the box id \"../etc\" may hold only")]
    #[case(r#"{"devbox":7,"user_ca":"","client":""}"#, "expected a string")]
    #[case(r#"{"devbox":"alice","client":""}"#, "missing field `user_ca`")]
    fn a_bad_request_is_refused(#[case] json: &str, #[case] expected: &str) {
        let fault = serde_json::from_str::<EnsureRequest>(json).unwrap_err().to_string();
        assert!(fault.contains(expected), "{fault}");
    }

    #[test]
    fn events_are_told_apart_by_their_tag() {
        let ready = EnsureEvent::Ready(Endpoint {
            address: "10.201.0.2:22".parse().unwrap(),
            host_key: "ssh-ed25519 AAAA boxgate alice".to_owned(),
            unix_user: "alice".to_owned(),
            isolated: true,
        });
        assert_eq!(
            serde_json::to_string(&ready).unwrap(),
            concat!(
                r#"{"event":"ready","address":"10.201.0.2:22","host_key":"ssh-ed25519 AAAA boxgate alice","#,
                r#""unix_user":"alice","isolated":true}"#
            )
        );
        let failed =
            r#"{"event":"failed","code":"image_missing","message":"m","remedy":"r","retryable":false}"#;
        let failure = Failure {
            code: FailureCode::ImageMissing,
            message: "m".to_owned(),
            remedy: "r".to_owned(),
            retryable: false,
        };
        assert_eq!(serde_json::from_str::<EnsureEvent>(failed).unwrap(), EnsureEvent::Failed(failure));
        assert!(serde_json::from_str::<EnsureEvent>(r#"{"event":"gone"}"#).is_err());
    }

    #[test]
    fn a_newer_provisioner_may_say_more() {
        let json = r#"{"event":"progress","text":"making your box","percent":12}"#;
        let progress = Progress { text: "making your box".to_owned() };
        assert_eq!(serde_json::from_str::<EnsureEvent>(json).unwrap(), EnsureEvent::Progress(progress));
    }

    #[test]
    fn health_comes_back_as_it_went() {
        let health = Health {
            version: "0.1.0".to_owned(),
            engine: Engine::Unavailable { reason: "connection refused".to_owned() },
            firewall: Firewall::Failing { reason: "nft is not installed".to_owned() },
            isolated: false,
        };
        let json = serde_json::to_string(&health).unwrap();
        assert_eq!(serde_json::from_str::<Health>(&json).unwrap(), health);
    }

    proptest! {
        #[test]
        fn an_event_is_one_line_whatever_its_text(text in any::<String>()) {
            let event = EnsureEvent::Progress(Progress { text });
            let line = serde_json::to_string(&event).unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(serde_json::from_str::<EnsureEvent>(&line).unwrap(), event);
        }
    }
}
