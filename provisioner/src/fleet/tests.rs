//! Many askers, few flights.

mod moving;
mod spares;

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::time::sleep;

use boxgate_provisioner_api::{BoxState, BoxUse, OrphanKind, Progress};
use tokio::time::Instant;

use super::flight::Outcome;
use super::*;
use crate::backend::Change;
use crate::backend::fake::{Boot, Fake};
use crate::testing;

struct Setup {
    directory: Arc<TempDir>,
    fake: Fake,
    shutdown: CancellationToken,
    fleet: Fleet<Fake>,
}

impl Setup {
    fn new() -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let config = Arc::new(testing::config_in(&directory));
        let (fake, shutdown) = (Fake::new(), CancellationToken::new());
        let fleet = Fleet::new(Ensurer::new(fake.clone(), config), shutdown.clone());
        Self { directory, fake, shutdown, fleet }
    }

    /// The same engine and state with a provisioner that was started anew.
    fn restarted(&self, change: impl FnOnce(&mut boxgate_config::Config)) -> Self {
        let mut config = self.fleet.shared.ensurer.config().clone();
        change(&mut config);
        let (fake, shutdown) = (self.fake.clone(), CancellationToken::new());
        let fleet = Fleet::new(Ensurer::new(fake.clone(), Arc::new(config)), shutdown.clone());
        Self { directory: Arc::clone(&self.directory), fake, shutdown, fleet }
    }

    fn join(&self, id: &str) -> Status {
        self.fleet.ensure(&testing::id(id), &testing::user_ca(), "a test")
    }

    fn starts(&self) -> usize {
        self.fake.world().changes.iter().filter(|change| **change == Change::Start).count()
    }
}

/// What the flight came to.
async fn result(mut status: Status) -> Option<Outcome> {
    let ended =
        |event: &Option<Outcome>| event.as_ref().is_some_and(|event| !matches!(event, Outcome::Progress(_)));
    status.wait_for(ended).await.ok().and_then(|event| event.clone())
}

fn code(event: Option<Outcome>) -> Option<boxgate_provisioner_api::FailureCode> {
    match event {
        Some(Outcome::Failed(failure)) => Some(failure.code),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_first_logins_make_one_box_and_all_get_in() {
    let setup = Setup::new();
    let asked = (0..50).map(|_| setup.join("alice")).collect::<Vec<_>>();
    let results: Vec<_> = join_all(asked.into_iter().map(result)).await;
    assert!(results.iter().all(|event| matches!(event, Some(Outcome::Ready(_)))));
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(setup.starts(), 1);
    assert_eq!(setup.fake.world().containers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_joins_late_sees_the_latest_progress() {
    let setup = Setup::new();
    let first = setup.join("alice");
    sleep(Fake::BOOT / 2).await;
    let late = setup.join("alice");
    let progress = Progress { text: "waiting for it to boot".to_owned() };
    assert_eq!(*late.borrow(), Some(Outcome::Progress(progress)));
    assert_eq!(result(first).await, result(late).await);
    assert_eq!(setup.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn boxes_do_not_wait_for_each_other() {
    let setup = Setup::new();
    let begun = Instant::now();
    let asked = ["alice", "bob", "carol+web"].map(|id| setup.join(id));
    let results: HashSet<_> = join_all(asked.into_iter().map(result))
        .await
        .into_iter()
        .filter_map(|event| match event {
            Some(Outcome::Ready(endpoint)) => Some(endpoint.address),
            _ => None,
        })
        .collect();
    assert_eq!(results.len(), 3);
    assert!(begun.elapsed() < Fake::BOOT * 2);
}

#[tokio::test(start_paused = true)]
async fn a_box_is_made_though_nobody_waits_any_more() {
    let setup = Setup::new();
    drop(setup.join("alice"));
    sleep(Fake::BOOT * 2).await;
    assert_eq!(setup.starts(), 1);
    assert!(setup.fleet.shared.flights().is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_ca_gets_a_flight_of_its_own_afterwards() {
    let setup = Setup::new();
    let first = setup.join("alice");
    let other = UserCa::parse(testing::OTHER_CA).unwrap();
    let second = setup.fleet.ensure(&testing::id("alice"), &other, "a test");
    assert!(matches!(result(first).await, Some(Outcome::Ready(_))));
    assert!(matches!(result(second).await, Some(Outcome::Ready(_))));
    let state_dir = &setup.fleet.shared.ensurer.config().provisioner.state_dir;
    let trusted = std::fs::read_to_string(state_dir.join("boxes/alice/user_ca.pub")).unwrap();
    assert!(trusted.starts_with(testing::OTHER_CA), "{trusted}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_everyones_and_the_next_login_tries_again() {
    let setup = Setup::new();
    setup.fake.world().boot = Boot::Ends;
    let asked = (0..3).map(|_| setup.join("alice")).collect::<Vec<_>>();
    for event in join_all(asked.into_iter().map(result)).await {
        assert_eq!(code(event), Some(boxgate_provisioner_api::FailureCode::BootFailed));
    }
    setup.fake.world().boot = Boot::Answers;
    assert!(matches!(result(setup.join("alice")).await, Some(Outcome::Ready(_))));
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_one_flight() {
    let setup = Setup::new();
    setup.fake.world().boot = Boot::Panics;
    assert_eq!(result(setup.join("alice")).await, None);
    assert!(setup.fleet.shared.flights().is_empty());
    setup.fake.world().boot = Boot::Answers;
    assert!(matches!(result(setup.join("alice")).await, Some(Outcome::Ready(_))));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_every_flight() {
    let setup = Setup::new();
    setup.fake.world().boot = Boot::Hangs;
    let asked = setup.join("alice");
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
        setup.join(&format!("user{n}"));
    }
    let asked = setup.join("late");
    assert_eq!(code(result(asked).await), Some(boxgate_provisioner_api::FailureCode::Busy));
}

#[tokio::test(start_paused = true)]
async fn boxes_are_listed_in_order_and_others_containers_are_not() {
    let setup = Setup::new();
    for id in ["bob", "alice+web", "alice"] {
        result(setup.join(id)).await;
    }
    setup.order("bob", Order::Stop).await;
    setup.fake.world().containers.get_mut("boxgate.bob").unwrap().labels.clear();
    setup.fake.world().volumes.retain(|name, _| !name.contains("bob"));
    let boxes = setup.fleet.boxes().await.unwrap();
    let listed: Vec<_> = boxes.iter().map(|devbox| devbox.id.to_string()).collect();
    assert_eq!(listed, ["alice", "alice+web"]);
    assert_eq!((boxes[0].state, boxes[0].isolated), (BoxState::Ready, false));
}

impl Setup {
    fn with(change: impl FnOnce(&mut boxgate_config::Config)) -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let mut config = testing::config_in(&directory);
        change(&mut config);
        let (fake, shutdown) = (Fake::new(), CancellationToken::new());
        let fleet = Fleet::new(Ensurer::new(fake.clone(), Arc::new(config)), shutdown.clone());
        Self { directory, fake, shutdown, fleet }
    }

    async fn ready(&self, id: &str) {
        let outcome = result(self.join(id)).await;
        assert!(matches!(outcome, Some(Outcome::Ready(_))), "{outcome:?}");
    }

    async fn order(&self, id: &str, order: Order) -> Option<Outcome> {
        result(self.fleet.order(&testing::id(id), order, "a test")).await
    }

    async fn state(&self, id: &str) -> Option<BoxState> {
        let boxes = self.fleet.boxes().await.unwrap();
        boxes.iter().find(|of| of.id == testing::id(id)).map(|of| of.state)
    }

    fn report(&self, id: &str, idle_seconds: u64) {
        let boxes = vec![BoxUse { devbox: testing::id(id), connections: 1, idle_seconds }];
        self.fleet.report_use(&UseReport { gateway: "test".to_owned(), boxes });
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn idling(config: &mut boxgate_config::Config) {
    config.devbox.settings.idle_stop = boxgate_config::IdleStop::After(HOUR);
}

#[tokio::test(start_paused = true)]
async fn a_box_that_idles_is_stopped_and_the_next_login_wakes_it() {
    let setup = Setup::with(idling);
    setup.ready("alice").await;
    sleep(HOUR / 2).await;
    setup.report("alice", 0);
    sleep(Duration::from_secs(3599)).await;
    setup.fleet.stop_idle().await.unwrap();
    assert_eq!(setup.state("alice").await, Some(BoxState::Ready));
    // A connection is no use by itself.
    setup.report("alice", 3599);
    sleep(Duration::from_secs(1)).await;
    setup.fleet.stop_idle().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.state("alice").await, Some(BoxState::Stopped));
    setup.ready("alice").await;
    setup.fleet.stop_idle().await.unwrap();
    assert_eq!(setup.state("alice").await, Some(BoxState::Ready));
}

#[tokio::test(start_paused = true)]
async fn a_box_that_is_kept_is_not_stopped() {
    let setup = Setup::with(idling);
    setup.ready("alice").await;
    setup.fleet.keep(&testing::id("alice"), 8 * HOUR).unwrap();
    sleep(2 * HOUR).await;
    setup.fleet.stop_idle().await.unwrap();
    assert_eq!(setup.state("alice").await, Some(BoxState::Ready));
    setup.fleet.keep(&testing::id("alice"), Duration::ZERO).unwrap();
    setup.fleet.stop_idle().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.state("alice").await, Some(BoxState::Stopped));
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_while_a_box_is_being_stopped_gets_in() {
    let setup = Setup::with(idling);
    setup.ready("alice").await;
    sleep(2 * HOUR).await;
    setup.fleet.stop_idle().await.unwrap();
    assert!(setup.fleet.shared.flights().contains_key(&testing::id("alice")));
    let all = (0..10).map(|_| setup.join("alice")).collect::<Vec<_>>();
    for outcome in join_all(all.into_iter().map(result)).await {
        assert!(matches!(outcome, Some(Outcome::Ready(_))), "{outcome:?}");
    }
    assert_eq!(setup.state("alice").await, Some(BoxState::Ready));
    assert_eq!(setup.starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn somebody_looks_after_the_boxes() {
    let setup = Setup::with(idling);
    setup.ready("alice").await;
    let fleet = setup.fleet.clone();
    let looking = tokio::spawn(async move { fleet.look_after().await });
    sleep(HOUR + Duration::from_secs(60)).await;
    assert_eq!(setup.state("alice").await, Some(BoxState::Stopped));
    setup.shutdown.cancel();
    looking.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn orders_take_turns_and_the_same_ones_join() {
    let setup = Setup::new();
    setup.ready("alice").await;
    let id = testing::id("alice");
    let asked = [Order::Stop, Order::Restart, Order::Restart, Order::Stop];
    let statuses = asked.map(|order| setup.fleet.order(&id, order, "a test"));
    // Nobody waits for a first word.
    assert!(statuses.iter().skip(1).take(2).all(|status| status.borrow().is_some()));
    for status in statuses {
        assert_eq!(result(status).await, Some(Outcome::Done));
    }
    assert_eq!(setup.starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_box_is_doing_is_listed() {
    let setup = Setup::new();
    let status = setup.join("alice");
    sleep(Fake::BOOT / 2).await;
    assert_eq!(setup.state("alice").await, Some(BoxState::Booting));
    result(status).await;
    assert_eq!(setup.state("alice").await, Some(BoxState::Ready));
    assert_eq!(setup.order("alice", Order::Stop).await, Some(Outcome::Done));
    assert_eq!(setup.state("alice").await, Some(BoxState::Stopped));
    let status = setup.join("alice");
    sleep(Fake::BOOT / 2).await;
    assert_eq!(setup.state("alice").await, Some(BoxState::Waking));
    result(status).await;
    setup.order("alice", Order::Remove).await;
    assert_eq!(setup.state("alice").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_failed_box_says_why_until_it_is_had() {
    let setup = Setup::new();
    setup.ready("alice").await;
    setup.order("alice", Order::Stop).await;
    setup.fake.world().boot = Boot::Ends;
    result(setup.join("alice")).await;
    let boxes = setup.fleet.boxes().await.unwrap();
    assert_eq!(boxes[0].state, BoxState::Failed);
    assert!(boxes[0].reason.as_ref().unwrap().contains("exit code 1"), "{:?}", boxes[0].reason);
    setup.fake.world().boot = Boot::Answers;
    setup.ready("alice").await;
    assert_eq!(setup.fleet.boxes().await.unwrap()[0].reason, None);
}

#[tokio::test(start_paused = true)]
async fn names_that_somebody_made_up_are_not_remembered() {
    let setup = Setup::with(|config| config.devbox.new_on_login = false);
    for n in 0..100 {
        result(setup.join(&format!("alice+b{n}"))).await;
        setup.order(&format!("alice+c{n}"), Order::Start).await;
    }
    assert!(setup.fleet.shared.failed().is_empty() && setup.fleet.boxes().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_an_interrupted_removal_left_is_collected() {
    let setup = Setup::new();
    setup.ready("alice").await;
    // Stop, container, home and other volume.
    setup.fake.world().changes_left = Some(4);
    setup.fake.world().last_change_counts = true;
    setup.order("alice", Order::Remove).await;
    setup.fake.world().changes_left = None;
    let found = setup.fleet.gc(false).await.unwrap();
    let kinds: Vec<_> = found.orphans.iter().map(|orphan| (orphan.kind, orphan.removed)).collect();
    assert_eq!(kinds, [(OrphanKind::Network, false), (OrphanKind::Directory, false)]);
    let removed = setup.fleet.gc(true).await.unwrap();
    assert!(removed.orphans.iter().all(|orphan| orphan.removed), "{removed:?}");
    assert_eq!(setup.fleet.gc(true).await.unwrap().orphans, []);
}

#[tokio::test(start_paused = true)]
async fn no_list_waits_long_for_the_disk() {
    let setup = Setup::new();
    setup.ready("alice").await;
    let names = Names::of(&testing::config().provisioner.instance, &testing::id("alice"));
    setup.fake.world().disk.volumes = [(names.home, 5), (names.docker, 7), ("other".to_owned(), 1)].into();
    setup.fake.world().disk_takes = Duration::from_secs(30);
    let disk = async || setup.fleet.boxes_with_usage().await.unwrap()[0].disk_bytes;
    for _ in 0..5 {
        let begun = Instant::now();
        assert_eq!(disk().await, None);
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
    sleep(Duration::from_secs(30)).await;
    assert_eq!((disk().await, setup.fake.world().measured), (Some(12), 1));
    // What was measured last is shown while it is measured anew, which a measurement of this length is not soon.
    sleep(Duration::from_secs(200)).await;
    assert_eq!((disk().await, setup.fake.world().measured), (Some(12), 1));
    sleep(Duration::from_secs(150)).await;
    setup.fake.world().disk.containers = [(names.container, 8)].into();
    assert_eq!(disk().await, Some(12));
    sleep(Duration::from_secs(30)).await;
    assert_eq!((disk().await, setup.fake.world().measured), (Some(20), 2));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_measured_is_not_known() {
    let setup = Setup::new();
    setup.ready("alice").await;
    setup.fake.world().disk_takes = Duration::from_secs(5);
    assert_eq!(setup.fleet.boxes_with_usage().await.unwrap()[0].disk_bytes, None);
    setup.fake.world().changes_left = Some(0);
    sleep(Duration::from_secs(5)).await;
    setup.fake.world().changes_left = None;
    setup.fake.world().disk_takes = Duration::ZERO;
    let names = Names::of(&testing::config().provisioner.instance, &testing::id("alice"));
    setup.fake.world().disk.volumes = [(names.home, 5)].into();
    assert_eq!(setup.fleet.boxes_with_usage().await.unwrap()[0].disk_bytes, Some(5), "it is tried again");
}

#[tokio::test(start_paused = true)]
async fn only_images_that_boxes_were_made_from_are_collected() {
    let setup = Setup::new();
    setup.fleet.shared.images.see("sha256:aa");
    setup.fake.world().nameless_images = vec!["sha256:aa".to_owned(), "sha256:bb".to_owned()];
    let found = setup.fleet.gc(false).await.unwrap().orphans;
    assert_eq!((found.len(), found[0].kind, found[0].removed), (1, OrphanKind::Image, false));
    assert!(setup.fleet.gc(true).await.unwrap().orphans[0].removed);
    assert_eq!(setup.fake.world().nameless_images, ["sha256:bb"]);
    assert_eq!(setup.fleet.gc(true).await.unwrap().orphans, []);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_boxes_come_and_go_and_leave_nothing() {
    let setup = Setup::new();
    for n in 0..1000 {
        let id = format!("user{}", n % 7);
        setup.ready(&id).await;
        assert_eq!(setup.order(&id, Order::Remove).await, Some(Outcome::Done));
    }
    let shared = &setup.fleet.shared;
    assert!(shared.flights().is_empty() && shared.failed().is_empty() && shared.tasks.is_empty());
    let world = setup.fake.world().clone();
    assert!(world.containers.is_empty() && world.networks.is_empty() && world.volumes.is_empty());
    for kept in ["boxes", "removing"] {
        let directory = shared.ensurer.config().provisioner.state_dir.join(kept);
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0, "{kept}");
    }
}
