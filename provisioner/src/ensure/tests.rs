//! Attempts at boxes of a fake engine on a paused clock: the laws, then the stories.

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
        let tell = |text: &str| self.told.lock().unwrap().push(text.to_owned());
        ensurer.ensure(&testing::id(id), &testing::user_ca(), tell).await
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
        for (there, name) in [(self.home || held, &names.home), (self.docker || held, &names.docker)] {
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
        Change::CreateNetwork { subnet },
        volume(Volume::Home),
        volume(Volume::Docker),
        Change::CreateContainer,
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
