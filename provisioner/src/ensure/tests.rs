//! Attempts at boxes of a fake engine on a paused clock: the laws, then the stories.

mod spares;

use std::sync::Mutex as StdMutex;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use super::*;
use crate::backend::fake::{Boot as FakeBoot, Fake, World};
use crate::backend::{Change, Network, Volume};
use crate::testing;

/// A provisioner's memory, the engine it works with, and what it told.
struct Setup {
    _directory: TempDir,
    config: Config,
    fake: Fake,
    told: StdMutex<Vec<String>>,
}

impl Setup {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let config = testing::config_in(&directory);
        Self { _directory: directory, config, fake: Fake::new(), told: StdMutex::default() }
    }

    /// A provisioner that was just started.
    fn ensurer(&self) -> Ensurer<Fake> {
        Ensurer::new(self.fake.clone(), Arc::new(self.config.clone()))
    }

    async fn ensure_with(&self, ensurer: &Ensurer<Fake>, id: &str) -> Result<Endpoint, EnsureError> {
        ensurer.ensure(&testing::id(id), &testing::user_ca(), |note: Note<'_>| self.hear(&note)).await
    }

    async fn order(&self, id: &str, order: Order) -> Result<(), EnsureError> {
        self.ensurer().order(&testing::id(id), order, |note: Note<'_>| self.hear(&note)).await
    }

    fn hear(&self, note: &Note<'_>) {
        if let Note::Progress(text) = note {
            self.told.lock().unwrap().push((*text).to_owned());
        }
    }

    async fn ensure(&self, id: &str) -> Result<Endpoint, EnsureError> {
        self.ensure_with(&self.ensurer(), id).await
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    fn blueprint(&self, id: &str) -> Blueprint {
        Blueprint::new(&self.config, testing::id(id))
    }

    fn changes(&self) -> Vec<Change> {
        self.fake.world().changes.clone()
    }
}

/// What of a box is there before it is asked for.
#[derive(Debug, Clone)]
struct Remains {
    network: bool,
    home: bool,
    docker: bool,
    container: Option<(State, Option<String>)>,
}

fn remains() -> impl Strategy<Value = Remains> {
    let state = prop_oneof![
        Just(State::Created),
        Just(State::Stopped { since: "t".to_owned(), exit_code: 0 }),
        Just(State::Running { since: "t".to_owned(), address: None }),
    ];
    let attached = prop_oneof![Just(None), Just(Some(String::new())), Just(Some("gone".to_owned()))];
    let container = proptest::option::of((state, attached));
    (any::<bool>(), any::<bool>(), any::<bool>(), container)
        .prop_map(|(network, home, docker, container)| Remains { network, home, docker, container })
}

impl Remains {
    /// A container holds its volumes: an engine removes neither while it is there.
    fn put_into(&self, world: &mut World, devbox: &Blueprint) {
        let labels = || devbox.labels.clone();
        let names = &devbox.names;
        if self.network {
            let network = Network { id: "n".to_owned(), labels: labels() };
            world.networks.insert(names.network.clone(), (network, "10.201.0.0/28".parse().unwrap()));
        }
        let held = self.container.is_some();
        // Without a home the other volume is what an operator's accident left: that has a test of its own.
        let home = self.home || held;
        for (there, name) in [(home, &names.home), (home && self.docker || held, &names.docker)] {
            if there {
                world.volumes.insert(name.clone(), labels());
            }
        }
        if let Some((state, network)) = &self.container {
            let container = Container {
                name: names.container.clone(),
                id: "c".to_owned(),
                labels: labels(),
                image: devbox.image.clone(),
                image_id: format!("sha256:{} 1", devbox.image),
                limits: devbox.limits.into(),
                runtime: devbox.runtime.docker_name().to_owned(),
                state: state.clone(),
                network: network.clone(),
            };
            world.containers.insert(names.container.clone(), container);
        }
    }
}

/// Runs a story on a clock that jumps over waiting.
fn paused<T>(story: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(story)
}

fn objects(world: &World) -> (usize, usize, usize) {
    (world.networks.len(), world.volumes.len(), world.containers.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn from_whatever_is_there_ensure_leads_to_a_box_and_twice_equals_once(remains in remains()) {
        paused(async {
            let setup = Setup::new();
            remains.put_into(&mut setup.fake.world(), &setup.blueprint("alice"));
            let before = setup.fake.world().volumes.clone();

            let first = setup.ensure("alice").await.unwrap();
            let once = setup.fake.world().clone();
            prop_assert_eq!(objects(&once), (1, 2, 1));
            prop_assert!(before.keys().all(|volume| once.volumes.contains_key(volume)));

            let second = setup.ensure("alice").await.unwrap();
            let twice = setup.fake.world().clone();
            prop_assert_eq!(first, second);
            prop_assert_eq!(once.containers, twice.containers);
            prop_assert_eq!((once.networks, once.volumes), (twice.networks, twice.volumes));
            prop_assert_eq!(once.changes, twice.changes);
            Ok(())
        })?;
    }

    #[test]
    fn a_crash_at_any_change_is_made_good(crash_at in 1_usize..=5, last_change_counts: bool) {
        paused(async {
            let whole = Setup::new();
            whole.ensure("alice").await.unwrap();

            let broken = Setup::new();
            broken.fake.world().changes_left = Some(crash_at);
            broken.fake.world().last_change_counts = last_change_counts;
            prop_assert!(matches!(broken.ensure("alice").await, Err(EnsureError::Backend(_))));
            prop_assert_eq!(broken.changes().len(), if last_change_counts { crash_at } else { crash_at - 1 });

            broken.fake.world().changes_left = None;
            broken.ensure("alice").await.unwrap();
            // Each change was made, and none was made twice.
            prop_assert_eq!(broken.changes(), whole.changes());
            Ok(())
        })?;
    }

    #[test]
    fn an_attempt_may_be_dropped_anywhere(after_ms in 0_u64..1200) {
        paused(async {
            let setup = Setup::new();
            let cut = timeout(Duration::from_millis(after_ms), setup.ensure("alice")).await;
            setup.ensure("alice").await.unwrap();
            prop_assert_eq!(setup.changes().len(), 5, "{:?}", cut);
            prop_assert_eq!(objects(&setup.fake.world()), (1, 2, 1));
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_login_and_the_next() {
    let setup = Setup::new();
    let ensurer = setup.ensurer();
    let endpoint = setup.ensure_with(&ensurer, "alice").await.unwrap();
    assert_eq!(endpoint.address.to_string(), "10.201.0.2:22");
    assert_eq!((endpoint.unix_user.as_str(), endpoint.isolated), ("alice", false));
    assert_eq!(setup.told(), ["making your box (first login, a few seconds)", "waiting for it to boot"]);
    let subnet = "10.201.0.0/28".parse().unwrap();
    let volume = Change::CreateVolume;
    let made = [
        volume(Volume::Home),
        volume(Volume::Docker),
        Change::CreateContainer,
        Change::CreateNetwork { subnet },
        Change::Start,
    ];
    assert_eq!(setup.changes(), made);

    let calls = setup.fake.world().calls;
    assert_eq!(setup.ensure_with(&ensurer, "alice").await.unwrap(), endpoint);
    assert_eq!(setup.told(), [""; 0]);
    assert_eq!(setup.fake.world().calls - calls, 1, "a box that is up costs one question");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_box_wakes() {
    let setup = Setup::new();
    let ensurer = setup.ensurer();
    setup.ensure_with(&ensurer, "alice").await.unwrap();
    stop(&setup, "boxgate.alice");
    setup.told();
    setup.ensure_with(&ensurer, "alice").await.unwrap();
    assert_eq!(setup.told(), ["waking your box", "waiting for it to boot"]);
    assert_eq!(setup.changes().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_box_that_was_restarted_behind_our_back_is_asked_again() {
    let setup = Setup::new();
    let ensurer = setup.ensurer();
    setup.ensure_with(&ensurer, "alice").await.unwrap();
    stop(&setup, "boxgate.alice");
    // What an operator's `docker start` does.
    setup.fake.perform(&setup.blueprint("alice"), &Change::Start).await.unwrap();
    let begun = Instant::now();
    setup.ensure_with(&ensurer, "alice").await.unwrap();
    assert!(begun.elapsed() > Fake::BOOT / 2, "it was not ready yet");
}

#[tokio::test(start_paused = true)]
async fn a_pruned_network_is_made_again() {
    let setup = Setup::new();
    setup.ensure("alice").await.unwrap();
    stop(&setup, "boxgate.alice");
    setup.fake.world().networks.clear();
    setup.ensure("alice").await.unwrap();
    let last: Vec<_> = setup.changes().into_iter().skip(6).collect();
    assert_eq!(last, [Change::Attach, Change::Start]);
}

#[tokio::test(start_paused = true)]
async fn a_box_that_never_answers_is_given_up_and_left_as_it_is() {
    let setup = Setup::new();
    setup.fake.world().boot = FakeBoot::Hangs;
    let begun = Instant::now();
    let fault = setup.ensure("alice").await.unwrap_err();
    assert!(matches!(fault, EnsureError::BootTimeout { .. }), "{fault}");
    assert!((60..61).contains(&begun.elapsed().as_secs()));
    // The next attempt asks it again and does not start it again.
    setup.fake.world().boot = FakeBoot::Answers;
    setup.ensure("alice").await.unwrap();
    assert_eq!(setup.changes().iter().filter(|change| **change == Change::Start).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_box_that_ends_at_once_is_started_once_per_attempt() {
    let setup = Setup::new();
    setup.fake.world().boot = FakeBoot::Ends;
    for starts in 1..=2 {
        match setup.ensure("alice").await {
            Err(EnsureError::BootFailed { exit_code: 1, last_word: Some(word) }) => {
                assert_eq!(word, "init: nothing to run");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(setup.changes().iter().filter(|change| **change == Change::Start).count(), starts);
    }
}

#[tokio::test(start_paused = true)]
async fn boxes_of_many_are_made_side_by_side_within_the_bound() {
    let setup = Setup::new();
    let ensurer = setup.ensurer();
    let names: Vec<_> = (0..20).map(|n| format!("user{n}")).collect();
    let all = names.iter().map(|name| setup.ensure_with(&ensurer, name));
    let endpoints: Vec<_> =
        futures_util::future::join_all(all).await.into_iter().map(Result::unwrap).collect();
    let addresses: std::collections::HashSet<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    assert_eq!(addresses.len(), 20);
    assert_eq!(setup.fake.world().most_booting, STARTING_MAX);
    assert!(setup.told().contains(&"waiting for other boxes to start".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn without_isolation_only_one_of_two_at_once_gets_a_box() {
    let mut setup = Setup::new();
    setup.config.devbox.runtime = Runtime::Runc { boxes_are_root_on_this_host: false };
    let ensurer = setup.ensurer();
    let (alice, bob) = tokio::join!(setup.ensure_with(&ensurer, "alice"), setup.ensure_with(&ensurer, "bob"));
    let (lucky, fault) = match (alice, bob) {
        (Ok(_), Err(fault)) => ("alice", fault),
        (Err(fault), Ok(_)) => ("bob", fault),
        other => panic!("{other:?}"),
    };
    assert!(
        matches!(&fault, EnsureError::Trouble(Trouble::NotIsolated { owner }) if owner == lucky),
        "{fault}"
    );
    assert_eq!(objects(&setup.fake.world()), (1, 2, 1));
    // Another box of the same person harms nobody.
    setup.ensure_with(&ensurer, &format!("{lucky}+web")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_comes_back_is_used_again() {
    let setup = Setup::new();
    let ensurer = setup.ensurer();
    setup.fake.world().changes_left = Some(0);
    let fault = setup.ensure_with(&ensurer, "alice").await.unwrap_err();
    assert!(matches!(fault, EnsureError::Backend(backend::Error::Unreachable(_))), "{fault}");
    setup.fake.world().changes_left = None;
    setup.ensure_with(&ensurer, "alice").await.unwrap();
}

fn stop(setup: &Setup, container: &str) {
    let mut world = setup.fake.world();
    world.containers.get_mut(container).unwrap().state =
        State::Stopped { since: "t".to_owned(), exit_code: 130 };
}

fn an_order() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(Order::Start),
        Just(Order::Stop),
        Just(Order::Restart),
        Just(Order::Reset),
        Just(Order::Remove)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_order_twice_equals_once_and_only_rm_takes_data(remains in remains(), order in an_order()) {
        paused(async {
            let setup = Setup::new();
            setup.ensure("bob").await.unwrap();
            remains.put_into(&mut setup.fake.world(), &setup.blueprint("alice+web"));
            let before = setup.fake.world().volumes.clone();
            let first = setup.order("alice+web", order).await;
            let once = setup.fake.world().clone();
            let gone = before.keys().filter(|name| !once.volumes.contains_key(*name)).count();
            prop_assert!(order == Order::Remove || gone == 0);
            prop_assert!(once.containers.contains_key("boxgate.bob") && once.volumes.contains_key("boxgate.bob.home"));

            let second = setup.order("alice+web", order).await;
            let twice = setup.fake.world().clone();
            prop_assert_eq!((once.networks.len(), once.volumes), (twice.networks.len(), twice.volumes.clone()));
            prop_assert_eq!(once.containers.len(), twice.containers.len());
            // What was removed is no box any more.
            let gone = |result: &Result<(), EnsureError>| {
                matches!(result, Err(EnsureError::Trouble(Trouble::NoSuchBox)))
            };
            prop_assert!(second.is_ok() || gone(&second), "{:?}", second);
            prop_assert!(first.is_ok() || gone(&first), "{:?}", first);
            if order == Order::Remove {
                prop_assert!(twice.volumes.keys().chain(twice.networks.keys()).all(|name| name.contains("bob")));
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_removal_that_was_cut_is_finished_by_whoever_comes_next(
        crash_at in 1_usize..=5,
        last_change_counts: bool,
        a_login: bool,
    ) {
        paused(async {
            let setup = Setup::new();
            setup.ensure("alice").await.unwrap();
            setup.fake.world().changes_left = Some(crash_at);
            setup.fake.world().last_change_counts = last_change_counts;
            let cut = setup.order("alice", Order::Remove).await;
            prop_assert!(matches!(cut, Err(EnsureError::Backend(_))), "{:?}", cut);
            setup.fake.world().changes_left = None;
            let begun = setup.fake.world().changes.len();
            if a_login {
                setup.ensure("alice").await.unwrap();
                let changes = setup.changes()[begun..].to_vec();
                prop_assert!(changes.contains(&Change::CreateVolume(Volume::Home)), "{:?}", changes);
                prop_assert_eq!(objects(&setup.fake.world()), (1, 2, 1));
            } else {
                let due = setup.ensurer().removals_due();
                prop_assert_eq!(due, vec![testing::id("alice")]);
                setup.order("alice", Order::Remove).await.unwrap();
                prop_assert_eq!(objects(&setup.fake.world()), (0, 0, 0));
            }
            prop_assert!(setup.ensurer().removals_due().is_empty());
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_keeps_the_data_and_takes_the_new_image() {
    let setup = Setup::new();
    let before = setup.ensure("alice").await.unwrap();
    setup.fake.world().images.insert("boxgate/box:latest".to_owned(), 2);
    setup.told();
    setup.order("alice", Order::Reset).await.unwrap();
    let after = setup.ensure("alice").await.unwrap();
    assert_eq!(before.host_key, after.host_key, "it is the same machine to whoever pinned its key");
    let world = setup.fake.world().clone();
    assert_eq!(world.containers["boxgate.alice"].image_id, "sha256:boxgate/box:latest 2");
    assert_eq!(objects(&world), (1, 2, 1));
    assert_eq!(
        setup.told(),
        [
            "stopping the box",
            "removing its container, home and Docker data stay",
            "making your box anew, with your home as it was",
            "waiting for it to boot"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_box_moves_to_a_new_image_when_it_wakes_and_not_before() {
    let setup = Setup::new();
    setup.ensure("alice").await.unwrap();
    let made = setup.fake.world().containers["boxgate.alice"].id.clone();
    setup.fake.world().images.insert("boxgate/box:latest".to_owned(), 2);
    setup.ensure("alice").await.unwrap();
    assert_eq!(setup.fake.world().containers["boxgate.alice"].id, made);
    setup.order("alice", Order::Stop).await.unwrap();
    setup.told();
    setup.ensure("alice").await.unwrap();
    assert_eq!(setup.fake.world().containers["boxgate.alice"].image_id, "sha256:boxgate/box:latest 2");
    assert_eq!(setup.told()[0], "moving your box to its new image, home and Docker data stay");
}

#[tokio::test(start_paused = true)]
async fn a_box_gets_its_new_limits_when_it_wakes() {
    let mut setup = Setup::new();
    setup.ensure("alice").await.unwrap();
    setup.order("alice", Order::Stop).await.unwrap();
    setup.config.devbox.settings.limits.pids = 5000;
    setup.ensure("alice").await.unwrap();
    assert_eq!(setup.fake.world().containers["boxgate.alice"].limits.pids, 5000);
    assert!(setup.changes().contains(&Change::Limit));
}

#[tokio::test(start_paused = true)]
async fn further_boxes_are_made_at_login_or_on_demand() {
    let mut setup = Setup::new();
    setup.ensure("alice+web").await.unwrap();
    setup.config.devbox.new_on_login = false;
    let refused = setup.ensure("alice+db").await.unwrap_err();
    assert!(matches!(refused, EnsureError::Trouble(Trouble::NoSuchBox)), "{refused}");
    // No trace of a name that was a slip of the finger.
    assert!(!setup.blueprint("alice+db").files.exists());
    assert!(matches!(
        setup.order("alice+db", Order::Start).await,
        Err(EnsureError::Trouble(Trouble::NoSuchBox))
    ));
    setup.order("alice+db", Order::New).await.unwrap();
    setup.ensure("alice+db").await.unwrap();
    setup.ensure("alice").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_many_boxes_asked_for_at_once_only_so_many_are_made() {
    let setup = Setup::new();
    let ensurer = setup.ensurer();
    let names: Vec<_> = (0..10).map(|n| format!("alice+b{n}")).collect();
    let results =
        futures_util::future::join_all(names.iter().map(|name| setup.ensure_with(&ensurer, name))).await;
    let made = results.iter().filter(|result| result.is_ok()).count();
    let refused = |result: &Result<_, EnsureError>| {
        matches!(result, Err(EnsureError::Trouble(Trouble::TooManyBoxes { max: 3, .. })))
    };
    assert_eq!((made, results.iter().filter(|result| refused(result)).count()), (3, 7));
    assert_eq!(objects(&setup.fake.world()), (3, 6, 3));
}

#[tokio::test(start_paused = true)]
async fn of_many_people_at_once_only_as_many_get_boxes_as_fit() {
    let setup = Setup::new();
    // Twice this host's memory may be promised, and a box is promised 4 GiB.
    setup.fake.world().memory = 10 * bytesize::GIB;
    let ensurer = setup.ensurer();
    let names: Vec<_> = (0..10).map(|n| format!("user{n}")).collect();
    let results =
        futures_util::future::join_all(names.iter().map(|name| setup.ensure_with(&ensurer, name))).await;
    let made = results.iter().filter(|result| result.is_ok()).count();
    let refused = |result: &Result<_, EnsureError>| {
        matches!(result, Err(EnsureError::Trouble(Trouble::HostFull { .. })))
    };
    assert_eq!((made, results.iter().filter(|result| refused(result)).count()), (5, 5));
    // A box that stops makes room for another.
    let (lucky, unlucky): (Vec<_>, Vec<_>) =
        names.iter().zip(&results).partition(|(_, result)| result.is_ok());
    setup.order(lucky[0].0, Order::Stop).await.unwrap();
    setup.ensure_with(&ensurer, unlucky[0].0).await.unwrap();
    assert!(refused(&setup.ensure_with(&ensurer, lucky[0].0).await));
}

#[tokio::test(start_paused = true)]
async fn of_many_people_at_once_only_as_many_boxes_are_begun_as_there_are_networks() {
    let mut setup = Setup::new();
    setup.config.provisioner.network_pool = "10.201.0.0/26".parse().unwrap();
    let ensurer = setup.ensurer();
    let names: Vec<_> = (0..20).map(|n| format!("user{n}")).collect();
    let results =
        futures_util::future::join_all(names.iter().map(|name| setup.ensure_with(&ensurer, name))).await;
    let refused = |result: &&Result<_, EnsureError>| {
        matches!(result, Err(EnsureError::Trouble(Trouble::PoolExhausted(_))))
    };
    assert_eq!(results.iter().filter(refused).count(), 16);
    // Nothing is left of those that were refused.
    assert_eq!(objects(&setup.fake.world()), (4, 8, 4));
}

#[tokio::test(start_paused = true)]
async fn a_home_that_somebody_removed_is_not_replaced_by_an_empty_one() {
    let setup = Setup::new();
    setup.ensure("alice").await.unwrap();
    setup.order("alice", Order::Stop).await.unwrap();
    setup.fake.world().volumes.remove("boxgate.alice.home");
    let fault = setup.ensure("alice").await.unwrap_err();
    assert!(matches!(&fault, EnsureError::Trouble(Trouble::VolumeMissing { .. })), "{fault}");
    setup.fake.world().containers.clear();
    let fault = setup.ensure("alice").await.unwrap_err();
    assert!(matches!(&fault, EnsureError::Trouble(Trouble::VolumeMissing { .. })), "{fault}");
    assert!(setup.fake.world().volumes.contains_key("boxgate.alice.docker"));
    setup.order("alice", Order::Remove).await.unwrap();
    setup.ensure("alice").await.unwrap();
}
