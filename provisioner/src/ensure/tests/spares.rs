//! Boxes that live in spare ones.

use rstest::rstest;

use super::*;
use crate::backend::Ran;

const SPARE: &str = "box+s1";

impl Setup {
    /// A provisioner that has one spare box ready.
    async fn with_spare(&self) -> Ensurer<Fake> {
        let ensurer = self.ensurer();
        self.prepare(&ensurer).await;
        ensurer
    }

    async fn prepare(&self, ensurer: &Ensurer<Fake>) {
        ensurer.prepare(&testing::id(SPARE), |_: Note<'_>| ()).await.unwrap();
        self.fake.world().changes.clear();
    }

    async fn order_with(&self, ensurer: &Ensurer<Fake>, order: Order) {
        ensurer.order(&testing::id("alice"), order, |_: Note<'_>| ()).await.unwrap();
    }

    /// Whether the box's user was made in the one container that there is.
    fn user_is_made(&self) -> bool {
        let world = self.fake.world();
        let ids: Vec<_> = world.containers.values().map(|container| container.id.clone()).collect();
        ids.len() == 1 && world.ran_in.contains(&ids[0])
    }
}

fn claim() -> Change {
    Change::Claim { spare: testing::id(SPARE) }
}

#[tokio::test(start_paused = true)]
async fn whoever_has_no_box_gets_the_spare_one() {
    let setup = Setup::new();
    let ensurer = setup.with_spare().await;
    let endpoint = setup.ensure_with(&ensurer, "alice").await.unwrap();
    assert_eq!(
        (endpoint.address.to_string().as_str(), endpoint.unix_user.as_str()),
        ("10.201.0.2:22", "alice")
    );
    assert_eq!(setup.changes(), [claim(), Change::Adopt]);
    assert!(setup.user_is_made() && setup.fake.world().containers.contains_key("boxgate.alice"));
    assert_eq!(setup.told()[0], "your box is ready, moving you in");
    // The next one's is made.
    setup.ensure_with(&ensurer, "bob").await.unwrap();
    assert!(setup.fake.world().volumes.contains_key("boxgate.bob.home"));
}

#[tokio::test(start_paused = true)]
async fn nobody_works_on_what_somebody_gets() {
    let setup = Setup::new();
    let ensurer = setup.with_spare().await;
    let (spare, nobody) = (testing::id(SPARE), |_: Note<'_>| ());
    let work = async {
        // At any moment of her login.
        for _ in 0..40 {
            assert!(ensurer.prepare(&spare, nobody).await.is_err());
            assert!(ensurer.order(&spare, Order::Remove, nobody).await.is_err());
        }
    };
    let taken = async {
        while !ensurer.spares().is_taken(&spare) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        work.await;
    };
    let (login, ()) = tokio::join!(setup.ensure_with(&ensurer, "alice"), taken);
    login.unwrap();
    assert_eq!(setup.changes(), [claim(), Change::Adopt]);
}

#[tokio::test(start_paused = true)]
async fn a_claimed_box_says_whose_it_is() {
    let setup = Setup::new();
    let ensurer = setup.with_spare().await;
    let description = |setup: &Setup| {
        let file = setup.config.provisioner.state_dir.join("boxes/box.s1/box.json");
        std::fs::read_to_string(file).unwrap()
    };
    assert_eq!(description(&setup), r#"{"spare":true}"#);
    setup.ensure_with(&ensurer, "alice").await.unwrap();
    assert!(description(&setup).contains(r#""user":"alice""#));
    assert!(!setup.config.provisioner.state_dir.join("boxes/alice").exists());
}

#[tokio::test(start_paused = true)]
async fn a_claimed_box_gets_its_own_limits() {
    let mut setup = Setup::new();
    let limits = "[users.alice.box]\nmemory = \"1GiB\"";
    let users = Config::parse(std::path::Path::new("t"), limits).unwrap().users;
    setup.config.users = users;
    let ensurer = setup.with_spare().await;
    setup.ensure_with(&ensurer, "alice").await.unwrap();
    assert_eq!(setup.changes(), [claim(), Change::Adopt, Change::Limit]);
    assert_eq!(setup.fake.world().containers["boxgate.alice"].limits.memory, 1 << 30);
}

#[tokio::test(start_paused = true)]
async fn a_box_of_another_image_or_disk_is_made() {
    for setting in ["image = \"other\"", "disk = \"5GiB\""] {
        let mut setup = Setup::new();
        let text = format!("[users.alice.box]\n{setting}");
        setup.config.users = Config::parse(std::path::Path::new("t"), &text).unwrap().users;
        setup.fake.world().images.insert("other".to_owned(), 1);
        let ensurer = setup.with_spare().await;
        setup.ensure_with(&ensurer, "alice").await.unwrap();
        assert!(!setup.changes().contains(&claim()), "{setting}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claimed_box_is_reset_and_removed_like_any() {
    let setup = Setup::new();
    let ensurer = setup.with_spare().await;
    setup.ensure_with(&ensurer, "alice").await.unwrap();
    let volumes = setup.fake.world().volumes.clone();
    setup.order_with(&ensurer, Order::Reset).await;
    assert_eq!(setup.fake.world().volumes, volumes);
    assert_eq!(setup.fake.world().containers["boxgate.alice"].labels, setup.blueprint("alice").labels);
    setup.order_with(&ensurer, Order::Remove).await;
    assert_eq!(objects(&setup.fake.world()), (0, 0, 0));
    // Nothing remembers it: hers is made now.
    setup.ensure_with(&ensurer, "alice").await.unwrap();
    assert!(setup.fake.world().volumes.contains_key("boxgate.alice.home"));
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_user_who_cannot_be_made_is_told_and_tried_again(#[values(false, true)] deaf: bool) {
    let setup = Setup::new();
    setup.fake.world().deaf = deaf;
    let ensurer = setup.with_spare().await;
    setup.fake.world().run = Ran { exit_code: 1, output: b"useradd: disk full".to_vec() };
    let error = setup.ensure_with(&ensurer, "alice").await.unwrap_err();
    assert_eq!(error.to_string(), "its user could not be made (exit code 1): useradd: disk full");
    setup.fake.world().run = Ran::default();
    setup.ensure_with(&ensurer, "alice").await.unwrap();
    assert!(setup.user_is_made());
}

#[tokio::test(start_paused = true)]
async fn the_engine_makes_the_user_of_a_box_that_does_not_listen() {
    let setup = Setup::new();
    setup.fake.world().deaf = true;
    let ensurer = setup.with_spare().await;
    setup.ensure_with(&ensurer, "alice").await.unwrap();
    assert!(setup.user_is_made());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_claim_that_was_interrupted_is_gone_on_with(crash_at in 1_usize..=2, last_change_counts: bool) {
        paused(async {
            let setup = Setup::new();
            let ensurer = setup.with_spare().await;
            setup.fake.world().changes_left = Some(crash_at);
            setup.fake.world().last_change_counts = last_change_counts;
            prop_assert!(setup.ensure_with(&ensurer, "alice").await.is_err());
            setup.fake.world().changes_left = None;
            // The same provisioner, or one that was started anew.
            let ensurer = if last_change_counts { setup.ensurer() } else { ensurer };
            setup.ensure_with(&ensurer, "alice").await.unwrap();
            let (_, _, containers) = objects(&setup.fake.world());
            prop_assert!(setup.fake.world().containers.contains_key("boxgate.alice"));
            if last_change_counts || crash_at > 1 {
                prop_assert_eq!(setup.changes(), [claim(), Change::Adopt]);
                prop_assert!(containers == 1 && setup.user_is_made());
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_removal_that_was_interrupted_is_finished(crash_at in 1_usize..=6, last_change_counts: bool) {
        paused(async {
            let setup = Setup::new();
            let ensurer = setup.with_spare().await;
            setup.ensure_with(&ensurer, "alice").await.unwrap();
            setup.fake.world().changes_left = Some(crash_at);
            setup.fake.world().last_change_counts = last_change_counts;
            let removed = ensurer.order(&testing::id("alice"), Order::Remove, |_: Note<'_>| ()).await;
            prop_assert!(removed.is_err());
            setup.fake.world().changes_left = None;
            setup.order_with(&setup.ensurer(), Order::Remove).await;
            prop_assert_eq!(objects(&setup.fake.world()), (0, 0, 0));
            Ok(())
        })?;
    }
}
