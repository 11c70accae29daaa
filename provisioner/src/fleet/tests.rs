//! Many askers, few flights.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::time::sleep;

use super::*;
use crate::backend::Change;
use crate::backend::fake::{Boot, Fake};
use crate::testing;

struct Setup {
    _directory: TempDir,
    fake: Fake,
    shutdown: CancellationToken,
    fleet: Fleet<Fake>,
}

impl Setup {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let config = Arc::new(testing::config_in(&directory));
        let (fake, shutdown) = (Fake::new(), CancellationToken::new());
        let fleet = Fleet::new(Ensurer::new(fake.clone(), config), shutdown.clone());
        Self { _directory: directory, fake, shutdown, fleet }
    }

    async fn join(&self, id: &str) -> Status {
        self.fleet.ensure(&testing::id(id), &testing::user_ca(), "a test").await
    }

    fn starts(&self) -> usize {
        self.fake.world().changes.iter().filter(|change| **change == Change::Start).count()
    }
}

/// What the flight came to.
async fn result(mut status: Status) -> Option<EnsureEvent> {
    let ended = |event: &Option<EnsureEvent>| {
        event.as_ref().is_some_and(|event| !matches!(event, EnsureEvent::Progress(_)))
    };
    status.wait_for(ended).await.ok().and_then(|event| event.clone())
}

fn code(event: Option<EnsureEvent>) -> Option<boxgate_provisioner_api::FailureCode> {
    match event {
        Some(EnsureEvent::Failed(failure)) => Some(failure.code),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_first_logins_make_one_box_and_all_get_in() {
    let setup = Setup::new();
    let asked = join_all((0..50).map(|_| setup.join("alice"))).await;
    let results: Vec<_> = join_all(asked.into_iter().map(result)).await;
    assert!(results.iter().all(|event| matches!(event, Some(EnsureEvent::Ready(_)))));
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(setup.starts(), 1);
    assert_eq!(setup.fake.world().containers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_joins_late_sees_the_latest_progress() {
    let setup = Setup::new();
    let first = setup.join("alice").await;
    sleep(Fake::BOOT / 2).await;
    let late = setup.join("alice").await;
    let progress = Progress { text: "waiting for it to boot".to_owned() };
    assert_eq!(*late.borrow(), Some(EnsureEvent::Progress(progress)));
    assert_eq!(result(first).await, result(late).await);
    assert_eq!(setup.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn boxes_do_not_wait_for_each_other() {
    let setup = Setup::new();
    let begun = Instant::now();
    let asked = join_all(["alice", "bob", "carol+web"].map(|id| setup.join(id))).await;
    let results: HashSet<_> = join_all(asked.into_iter().map(result))
        .await
        .into_iter()
        .filter_map(|event| match event {
            Some(EnsureEvent::Ready(endpoint)) => Some(endpoint.address),
            _ => None,
        })
        .collect();
    assert_eq!(results.len(), 3);
    assert!(begun.elapsed() < Fake::BOOT * 2);
}

#[tokio::test(start_paused = true)]
async fn a_box_is_made_though_nobody_waits_any_more() {
    let setup = Setup::new();
    drop(setup.join("alice").await);
    sleep(Fake::BOOT * 2).await;
    assert_eq!(setup.starts(), 1);
    assert!(setup.fleet.shared.flights().is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_ca_gets_a_flight_of_its_own_afterwards() {
    let setup = Setup::new();
    let first = setup.join("alice").await;
    let other = UserCa::parse(testing::OTHER_CA).unwrap();
    let second = setup.fleet.ensure(&testing::id("alice"), &other, "a test").await;
    assert!(matches!(result(first).await, Some(EnsureEvent::Ready(_))));
    assert!(matches!(result(second).await, Some(EnsureEvent::Ready(_))));
    let state_dir = &setup.fleet.shared.ensurer.config().provisioner.state_dir;
    let trusted = std::fs::read_to_string(state_dir.join("boxes/alice/user_ca.pub")).unwrap();
    assert!(trusted.starts_with(testing::OTHER_CA), "{trusted}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_everyones_and_the_next_login_tries_again() {
    let setup = Setup::new();
    setup.fake.world().boot = Boot::Ends;
    let asked = join_all((0..3).map(|_| setup.join("alice"))).await;
    for event in join_all(asked.into_iter().map(result)).await {
        assert_eq!(code(event), Some(boxgate_provisioner_api::FailureCode::BootFailed));
    }
    setup.fake.world().boot = Boot::Answers;
    assert!(matches!(result(setup.join("alice").await).await, Some(EnsureEvent::Ready(_))));
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_one_flight() {
    let setup = Setup::new();
    setup.fake.world().boot = Boot::Panics;
    assert_eq!(result(setup.join("alice").await).await, None);
    assert!(setup.fleet.shared.flights().is_empty());
    setup.fake.world().boot = Boot::Answers;
    assert!(matches!(result(setup.join("alice").await).await, Some(EnsureEvent::Ready(_))));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_every_flight() {
    let setup = Setup::new();
    setup.fake.world().boot = Boot::Hangs;
    let asked = setup.join("alice").await;
    sleep(Duration::from_secs(3)).await;
    let begun = Instant::now();
    setup.shutdown.cancel();
    setup.fleet.landed().await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(code(result(asked).await), Some(boxgate_provisioner_api::FailureCode::ShuttingDown));
}

#[tokio::test]
async fn flights_are_bounded() {
    let setup = Setup::new();
    // Nothing runs before the first wait, so none of these has ended.
    for n in 0..FLIGHTS_MAX {
        setup.join(&format!("user{n}")).await;
    }
    let asked = setup.join("late").await;
    assert_eq!(code(result(asked).await), Some(boxgate_provisioner_api::FailureCode::Busy));
}

#[tokio::test(start_paused = true)]
async fn boxes_are_listed_in_order_and_others_containers_are_not() {
    let setup = Setup::new();
    for id in ["bob", "alice+web", "alice"] {
        result(setup.join(id).await).await;
    }
    setup.fake.world().containers.get_mut("boxgate.bob").unwrap().labels.clear();
    let boxes = setup.fleet.boxes().await.unwrap();
    let listed: Vec<_> = boxes.iter().map(|devbox| devbox.id.to_string()).collect();
    assert_eq!(listed, ["alice", "alice+web"]);
    assert_eq!((boxes[0].state, boxes[0].isolated), (BoxState::Running, false));
}
