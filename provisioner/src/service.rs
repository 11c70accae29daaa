//! What the service manager is told (`sd_notify(3)`): that requests are answered, that this process works, and in a line
//! whether boxes can be had. Where there is none, nothing is.

use std::time::Duration;

use boxgate_provisioner_api::{Engine, Firewall, Health};
use sd_notify::NotifyState;
use tokio::time::sleep;
use tracing::warn;

use crate::backend::Backend;
use crate::fleet::Fleet;

/// Between two looks at whether boxes can be had.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Tells it.
pub(crate) fn tell(states: &[NotifyState<'_>]) {
    if let Err(fault) = sd_notify::notify(states) {
        warn!(%fault, "cannot tell the service manager");
    }
}

/// Says that requests are answered, and then how that goes, until it is dropped.
pub(crate) async fn report<B: Backend>(fleet: &Fleet<B>) {
    tell(&[NotifyState::Ready]);
    // The engine may take its time to answer, and is no reason to end this program.
    tokio::join!(be_watched(), show(fleet));
}

async fn be_watched() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    loop {
        tell(&[NotifyState::Watchdog]);
        sleep(limit / 2).await;
    }
}

async fn show<B: Backend>(fleet: &Fleet<B>) {
    let mut shown = String::new();
    loop {
        let status = status(&fleet.health().await);
        if status != shown {
            tell(&[NotifyState::Status(&status)]);
            shown = status;
        }
        sleep(LOOK_EVERY).await;
    }
}

fn status(health: &Health) -> String {
    match (&health.engine, &health.firewall) {
        (Engine::Unavailable { reason }, _) | (_, Firewall::Failing { reason }) => {
            format!("Serving, but no box is had: {reason}")
        }
        (Engine::Ok, Firewall::Off) => {
            "Serving; Docker answers, and nothing here keeps boxes apart".to_owned()
        }
        (Engine::Ok, Firewall::Ok) => "Serving; Docker answers".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Engine::Ok, Firewall::Ok, "Serving; Docker answers")]
    #[case(Engine::Ok, Firewall::Off, "Serving; Docker answers, and nothing here keeps boxes apart")]
    #[case(
        Engine::Unavailable { reason: "connection refused".to_owned() }, Firewall::Ok,
        "Serving, but no box is had: connection refused"
    )]
    #[case(
        Engine::Ok, Firewall::Failing { reason: "nft is not installed".to_owned() },
        "Serving, but no box is had: nft is not installed"
    )]
    fn what_an_operator_reads(#[case] engine: Engine, #[case] firewall: Firewall, #[case] expected: &str) {
        let health = Health { version: "1".to_owned(), engine, firewall, isolated: true };
        assert_eq!(status(&health), expected);
    }
}
