//! Spare boxes come and go.

use super::*;
use crate::devbox_files::UserCa;

fn keeping(spares: usize) -> Setup {
    Setup::with(|config| config.provisioner.spare_boxes = spares)
}

impl Setup {
    async fn tend(&self) {
        self.fleet.tend_spares().await.unwrap();
    }

    /// The spares that there are, as they are listed.
    async fn spares(&self) -> Vec<(String, BoxState)> {
        let boxes = self.fleet.boxes().await.unwrap().into_iter();
        boxes
            .filter(|devbox| devbox.id.is_spare())
            .map(|devbox| (devbox.id.to_string(), devbox.state))
            .collect()
    }

    async fn is_ready(&self, spares: &[&str]) -> bool {
        let ready = spares.iter().map(|id| ((*id).to_owned(), BoxState::Ready));
        self.spares().await == ready.collect::<Vec<_>>()
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_are_kept_as_are_wanted() {
    let setup = keeping(2);
    setup.tend().await;
    assert!(setup.is_ready(&["box+s1", "box+s2"]).await);
    setup.tend().await;
    assert_eq!(setup.starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_somebody_got_is_replaced() {
    let setup = keeping(1);
    setup.tend().await;
    setup.ready("alice").await;
    assert!(setup.is_ready(&[]).await);
    setup.tend().await;
    assert!(setup.is_ready(&["box+s2"]).await);
    let alice = &setup.fleet.boxes().await.unwrap()[0];
    assert_eq!((alice.id.to_string().as_str(), alice.container.as_str()), ("alice", "boxgate.alice"));
    assert_eq!(setup.fleet.gc(true).await.unwrap().orphans, []);
}

/// The number of a spare whose claimant removed her box is free again, at once.
#[tokio::test(start_paused = true)]
async fn one_that_somebody_got_and_removed_is_replaced() {
    let setup = keeping(1);
    for _ in 0..3 {
        setup.tend().await;
        assert!(setup.is_ready(&["box+s1"]).await);
        setup.ready("alice").await;
        assert_eq!(setup.order("alice", Order::Remove).await, Some(Outcome::Done));
    }
}

#[tokio::test(start_paused = true)]
async fn ten_first_logins_share_two_spares() {
    let setup = keeping(2);
    setup.tend().await;
    let logins: Vec<_> = (0..10).map(|n| setup.join(&format!("user{n}"))).collect();
    let outcomes = join_all(logins.into_iter().map(result)).await;
    let mut addresses = HashSet::new();
    for outcome in outcomes {
        let Some(Outcome::Ready(endpoint)) = outcome else { panic!("{outcome:?}") };
        addresses.insert(endpoint.address);
    }
    assert_eq!(addresses.len(), 10);
    let claims =
        setup.fake.world().changes.iter().filter(|change| matches!(change, Change::Claim { .. })).count();
    assert_eq!(claims, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_any_more_goes() {
    let setup = keeping(2);
    setup.tend().await;
    let fewer = setup.restarted(|config| config.provisioner.spare_boxes = 0);
    fewer.tend().await;
    let world = setup.fake.world().clone();
    assert!(world.containers.is_empty() && world.networks.is_empty() && world.volumes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_spare_of_an_old_image_is_replaced() {
    let setup = keeping(1);
    setup.tend().await;
    *setup.fake.world().images.get_mut("boxgate/box:latest").unwrap() += 1;
    setup.tend().await;
    assert!(setup.is_ready(&["box+s2"]).await);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_stopped_or_that_a_restart_forgot_is_made_ready_again() {
    let setup = keeping(1);
    setup.tend().await;
    assert_eq!(setup.order("box+s1", Order::Stop).await, Some(Outcome::Done));
    let restarted = setup.restarted(|_| ());
    restarted.tend().await;
    assert!(restarted.is_ready(&["box+s1"]).await);
    restarted.ready("alice").await;
    assert!(setup.fake.world().changes.contains(&Change::Adopt));
}

#[tokio::test(start_paused = true)]
async fn nobody_logs_in_to_a_spare_and_it_does_not_idle() {
    let setup = Setup::with(|config| {
        config.provisioner.spare_boxes = 1;
        config.devbox.settings.idle_stop = boxgate_config::IdleStop::After(Duration::from_secs(5));
    });
    setup.tend().await;
    let user_ca: UserCa = testing::user_ca();
    let refused = result(setup.fleet.ensure(&testing::id("box+s1"), &user_ca, "a test")).await;
    assert_eq!(code(refused), Some(boxgate_provisioner_api::FailureCode::NoSuchBox));
    sleep(Duration::from_secs(60)).await;
    setup.fleet.stop_idle().await.unwrap();
    assert!(setup.is_ready(&["box+s1"]).await);
}

#[tokio::test(start_paused = true)]
async fn a_spare_takes_no_memory_from_people() {
    let setup = Setup::with(|config| {
        config.provisioner.spare_boxes = 1;
        config.provisioner.memory_share = 1.0;
    });
    setup.fake.world().memory = 4 << 30;
    setup.tend().await;
    setup.ready("alice").await;
}

#[tokio::test(start_paused = true)]
async fn a_spare_that_cannot_be_made_is_tried_once_a_round() {
    let setup = keeping(3);
    setup.fake.world().boot = Boot::Ends;
    setup.tend().await;
    assert_eq!(setup.starts(), 1);
    setup.fake.world().boot = Boot::Answers;
    setup.tend().await;
    assert!(setup.is_ready(&["box+s1", "box+s2", "box+s3"]).await);
}
