//! Spare boxes, and the boxes that live in them: they must be like any other, whenever the provisioner was killed.

use std::time::Duration;

use boxgate_provisioner_api::{BoxState, Order};
use tokio::time::{Instant, sleep, timeout};

use crate::installation::{Installation, docker};
use crate::storage::measured;

/// Longer than a spare takes to boot.
const PATIENCE: Duration = Duration::from_secs(60);
const KEEP_ONE: (&str, &str) = ("provisioner.spare_boxes", "1");

/// Waits until as many spares are ready, and returns their names.
async fn spares(installation: &Installation, count: usize) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let boxes = installation.client().boxes().await.unwrap();
        let ready = boxes.iter().filter(|devbox| devbox.id.is_spare() && devbox.state == BoxState::Ready);
        let ready: Vec<_> = ready.map(|devbox| devbox.id.to_string()).collect();
        if ready.len() == count {
            return ready;
        }
        assert!(begun.elapsed() < PATIENCE, "{boxes:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn in_box(installation: &Installation, command: &str) -> String {
    docker(&["exec", &installation.name("alice"), "sh", "-c", command])
}

/// What a person would notice of whether her box was made for her.
fn looks_like_alices(installation: &Installation) {
    let shown = in_box(
        installation,
        "hostname; cat /etc/hostname; getent hosts alice | wc -l; id -nG alice; stat -c %U:%a /home/alice; \
         jq -r .user /etc/boxgate/box.json; sudo -u alice sudo -n id -u",
    );
    assert_eq!(shown, "alice\nalice\n1\nalice sudo docker\nalice:750\nalice\n0");
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_claimed_box_is_like_one_that_was_made() {
    let mut installation = Installation::with(&[KEEP_ONE]).await;
    assert_eq!(spares(&installation, 1).await, ["box+s1"]);
    let container = installation.inspect("box.s1", "{{.Id}}");

    let begun = Instant::now();
    let endpoint = installation.ensure("alice").await.unwrap();
    println!("a first ensure with a spare: {:?}", begun.elapsed());
    assert_eq!(installation.inspect("alice", "{{.Id}}"), container);
    assert!(endpoint.host_key.starts_with(&crate::installation::shown_host_key(&endpoint)));
    looks_like_alices(&installation);
    // It was told whose it is, and does not listen any more.
    let told = "journalctl -qu 'boxgate-claim@*' | grep -c Started; \
                timeout 10 sh -c 'while systemctl -q is-active boxgate-claim.socket; do sleep 0.1; done'; echo $?";
    assert_eq!(in_box(&installation, told), "1\n0");
    in_box(&installation, "echo mine | tee /home/alice/mark /var/lib/docker/mark /opt/mark");
    assert_eq!(spares(&installation, 1).await, ["box+s2"]);

    let first = measured(&installation).await;
    assert_eq!(first.id.to_string(), "alice");
    assert!(first.disk_bytes.is_some_and(|bytes| bytes > 0), "{first:?}");

    // It wakes with all that was in it,
    installation.order("alice", Order::Stop).await.unwrap();
    installation.ensure("alice").await.unwrap();
    looks_like_alices(&installation);
    assert_eq!(
        in_box(&installation, "cat /home/alice/mark /var/lib/docker/mark /opt/mark"),
        "mine\nmine\nmine"
    );
    // is found by a provisioner that knows nothing of it,
    installation.kill();
    installation.start().await;
    assert_eq!(installation.ensure("alice").await.unwrap(), endpoint);
    // keeps its data when it is reset,
    installation.order("alice", Order::Reset).await.unwrap();
    looks_like_alices(&installation);
    assert_eq!(in_box(&installation, "cat /home/alice/mark /var/lib/docker/mark"), "mine\nmine");
    // and leaves nothing when it is removed.
    assert_eq!(installation.gc(false).await.orphans, []);
    installation.order("alice", Order::Remove).await.unwrap();
    let left = ["container", "network", "volume"].map(|kind| installation.list(kind).len());
    assert_eq!(left, [1, 1, 2], "the spare's");
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_claim_that_is_killed_anywhere_comes_to_a_box() {
    let mut installation = Installation::with(&[KEEP_ONE]).await;
    for after in [5, 20, 40, 80, 150].map(Duration::from_millis) {
        spares(&installation, 1).await;
        let cut = timeout(after, installation.ensure("alice")).await;
        installation.kill();
        installation.start().await;
        installation.ensure("alice").await.unwrap();
        looks_like_alices(&installation);
        spares(&installation, 1).await;
        assert_eq!(installation.gc(false).await.orphans, [], "after {after:?} ({cut:?})");
        installation.order("alice", Order::Remove).await.unwrap();
        let left = ["container", "network", "volume"].map(|kind| installation.list(kind).len());
        assert_eq!(left, [1, 1, 2], "after {after:?} ({cut:?})");
    }
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn spares_that_are_not_wanted_any_more_go() {
    let mut installation = Installation::with(&[("provisioner.spare_boxes", "2")]).await;
    spares(&installation, 2).await;
    installation.set("provisioner.spare_boxes", "0");
    installation.kill();
    installation.start().await;
    spares(&installation, 0).await;
    let begun = Instant::now();
    while ["container", "network", "volume"].iter().any(|kind| !installation.list(kind).is_empty()) {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(100)).await;
    }
}
