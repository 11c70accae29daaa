//! Archives made and taken over an engine in memory, broken off at each change.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::backend::Error;
use boxgate_provisioner_api::FailureCode;

const HOME: &str = "boxgate.alice.home";
const CONTENT: &[u8] = &[7; 2500];

/// With a box of alice's that has something in it.
async fn furnished() -> Setup {
    let setup = Setup::new();
    result(setup.join("alice")).await;
    setup.fake.world().contents.insert(HOME.to_owned(), CONTENT.to_vec());
    setup
}

impl Setup {
    async fn back_up(&self, id: &str) -> (Vec<u8>, Option<Outcome>) {
        let (status, mut archive) = self.fleet.back_up(&testing::id(id), "a test");
        let mut received = Vec::new();
        while let Some(piece) = archive.recv().await {
            received.extend_from_slice(&piece);
        }
        (received, result(status).await)
    }

    async fn restore(&self, id: &str, archive: &[u8]) -> Option<Outcome> {
        let (status, into) = self.fleet.restore(&testing::id(id), "a test");
        for piece in archive.chunks(700) {
            // What is refused takes no more.
            if into.send(Bytes::copy_from_slice(piece)).await.is_err() {
                break;
            }
        }
        drop(into);
        result(status).await
    }

    fn content(&self, home: &str) -> Option<Vec<u8>> {
        self.fake.world().contents.get(home).cloned()
    }

    async fn remove(&self, id: &str) {
        result(self.fleet.order(&testing::id(id), Order::Remove, "a test")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_box_that_ran_runs_again_and_one_that_did_not_does_not() {
    let setup = furnished().await;
    let (archive, outcome) = setup.back_up("alice").await;
    assert_eq!(outcome, Some(Outcome::Done));
    assert!(archive.len() > CONTENT.len());
    assert_eq!(setup.state("alice").await, Some(BoxState::Ready));
    result(setup.fleet.order(&testing::id("alice"), Order::Stop, "a test")).await;
    assert_eq!(setup.back_up("alice").await.1, Some(Outcome::Done));
    assert_eq!(setup.state("alice").await, Some(BoxState::Stopped));
    assert_eq!(setup.fake.world().movers.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_packed_is_unpacked_and_is_a_box() {
    let setup = furnished().await;
    let (archive, _) = setup.back_up("alice").await;
    assert_eq!(code(setup.restore("alice", &archive).await), Some(FailureCode::BoxExists));
    assert_eq!(code(setup.restore("bob", &archive).await), Some(FailureCode::Archive));
    setup.remove("alice").await;
    assert_eq!(setup.restore("alice", &archive).await, Some(Outcome::Done));
    assert_eq!(setup.content(HOME).as_deref(), Some(CONTENT));
    assert_eq!(setup.state("alice").await, Some(BoxState::Stopped));
    assert!(matches!(result(setup.join("alice")).await, Some(Outcome::Ready(_))));
    assert_eq!(setup.fake.world().volumes.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_login_waits_for_a_backup_and_hears_so() {
    let setup = furnished().await;
    let (status, mut archive) = setup.fleet.back_up(&testing::id("alice"), "a test");
    let login = setup.join("alice");
    let progress = Progress { text: "waiting until the box is backed up".to_owned() };
    assert_eq!(*login.borrow(), Some(Outcome::Progress(progress)));
    while archive.recv().await.is_some() {}
    assert_eq!(result(status).await, Some(Outcome::Done));
    assert!(matches!(result(login).await, Some(Outcome::Ready(_))));
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_away_or_stands_still_holds_no_box() {
    let setup = furnished().await;
    setup.fake.world().contents.insert(HOME.to_owned(), vec![7; 100_000]);
    let (status, archive) = setup.fleet.back_up(&testing::id("alice"), "a test");
    sleep(Fake::CALL * 20).await;
    drop(archive);
    assert_eq!(code(result(status).await), Some(FailureCode::Archive));
    assert_eq!(setup.state("alice").await, Some(BoxState::Ready));
    let (status, archive) = setup.fleet.back_up(&testing::id("alice"), "a test");
    assert_eq!(code(result(status).await), Some(FailureCode::Archive));
    assert_eq!(setup.state("alice").await, Some(BoxState::Ready));
    drop(archive);
    assert_eq!(setup.fake.world().movers.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_is_told_and_nothing_is_kept() {
    let setup = furnished().await;
    let (archive, _) = setup.back_up("alice").await;
    setup.remove("alice").await;
    let said = "tar: home/x: Cannot write: No space left on device".to_owned();
    setup.fake.world().tar_fails = Some(Error::Tar { exit_code: 2, said });
    match setup.restore("alice", &archive).await {
        Some(Outcome::Failed(failure)) => {
            assert!(failure.message.contains("No space left"), "{failure}");
            assert!(failure.remedy.contains("make room"), "{failure}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(setup.fake.world().volumes.len(), 0);
    assert_eq!(setup.state("alice").await, None);
}

#[tokio::test(start_paused = true)]
async fn more_boxes_than_she_may_have_are_not_restored() {
    let setup = furnished().await;
    let (archive, _) = setup.back_up("alice").await;
    let setup = setup.restarted(|config| config.devbox.settings.max_boxes = 1);
    assert_eq!(code(setup.restore("alice+old", &archive).await), Some(FailureCode::TooManyBoxes));
    assert_eq!(setup.fake.world().volumes.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_provisioner_packed_with_goes_at_the_next_start() {
    let setup = furnished().await;
    setup.fake.world().movers.insert("boxgate.alice.MOVER".to_owned(), testing::id("alice"));
    let setup = setup.restarted(|_| {});
    setup.fleet.end_moves().await.unwrap();
    assert!(matches!(result(setup.join("alice")).await, Some(Outcome::Ready(_))));
    assert_eq!(setup.fake.world().movers.len(), 0);
    assert_eq!(setup.content(HOME).as_deref(), Some(CONTENT));
}

/// The engine goes away after each number of changes in turn.
#[tokio::test(start_paused = true)]
async fn a_restore_that_is_broken_off_anywhere_is_no_box_or_the_whole() {
    for (changes, counts) in (1..=4).flat_map(|changes| [(changes, false), (changes, true)]) {
        let setup = furnished().await;
        let (archive, _) = setup.back_up("alice").await;
        setup.remove("alice").await;
        {
            let mut world = setup.fake.world();
            (world.changes_left, world.last_change_counts) = (Some(changes), counts);
        }
        assert!(code(setup.restore("alice", &archive).await).is_some(), "{changes} {counts}");
        setup.fake.world().changes_left = None;
        let setup = setup.restarted(|_| {});
        let (is_half, volumes) = {
            let world = setup.fake.world();
            (world.volumes.contains_key("boxgate.alice.restoring"), world.volumes.len())
        };
        if is_half {
            assert_eq!(setup.state("alice").await, Some(BoxState::Failed), "{changes} {counts}");
            assert_eq!(code(result(setup.join("alice")).await), Some(FailureCode::HalfRestored));
            assert_eq!(code(setup.back_up("alice").await.1), Some(FailureCode::HalfRestored));
            assert!(setup.fleet.gc(true).await.unwrap().orphans.is_empty(), "{changes} {counts}");
            assert_eq!(setup.restore("alice", &archive).await, Some(Outcome::Done), "{changes} {counts}");
        } else if volumes == 0 {
            assert_eq!(setup.restore("alice", &archive).await, Some(Outcome::Done), "{changes} {counts}");
        }
        assert_eq!(setup.content(HOME).as_deref(), Some(CONTENT), "{changes} {counts}");
        assert!(matches!(result(setup.join("alice")).await, Some(Outcome::Ready(_))), "{changes} {counts}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn an_archive_that_is_cut_short_anywhere_leaves_nothing(cut in 1_usize..5000) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let left = runtime.block_on(async {
            let setup = furnished().await;
            let (archive, _) = setup.back_up("alice").await;
            setup.remove("alice").await;
            let cut = archive.len().saturating_sub(cut);
            let failed = code(setup.restore("alice", &archive[..cut]).await);
            let world = setup.fake.world();
            (failed, world.volumes.len(), world.movers.len())
        });
        prop_assert_eq!(left, (Some(FailureCode::Archive), 0, 0));
    }
}
