//! What boxes take of the disk, and the images that they leave behind.

use std::process::Command;
use std::time::Duration;

use boxgate_provisioner_api::{BoxSummary, Order, OrphanKind};
use tokio::time::{Instant, sleep};

use crate::installation::{Installation, docker, docker_fails};
use crate::proxy::QUICK;

/// Longer than measuring all volumes of a machine that runs tests takes.
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// The first box, once it is known what it takes of the disk.
pub(crate) async fn measured(installation: &Installation) -> BoxSummary {
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        let boxes = installation.client().boxes_with_usage().await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(8), "a list waits for no disk");
        if boxes[0].disk_bytes.is_some() {
            return boxes[0].clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{boxes:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn what_a_box_takes_of_the_disk_can_be_seen() {
    let mut installation = Installation::new().await;
    installation.boot_with(QUICK).await;
    installation.ensure("alice").await.unwrap();
    let write = "for d in /home /var/lib/docker /opt; do head -c 20M /dev/urandom > $d/file; done";
    docker(&["exec", &installation.name("alice"), "sh", "-c", write]);
    // One that runs, and one at rest: measured anew by a provisioner that knows of nothing yet.
    for order in [Order::Start, Order::Stop] {
        installation.order("alice", order).await.unwrap();
        installation.kill();
        installation.start().await;
        let devbox = measured(&installation).await;
        let bytes = devbox.disk_bytes.unwrap();
        assert!((60 * MIB..200 * MIB).contains(&bytes), "{devbox:?}");
        assert_eq!(devbox.usage.is_some(), order == Order::Start);
    }
}

/// The box images without a name that this installation would remove.
async fn old_images(installation: &Installation, remove: bool) -> Vec<(String, bool)> {
    let found = installation.gc(remove).await.orphans.into_iter();
    let images = found.filter(|orphan| orphan.kind == OrphanKind::Image);
    images.map(|orphan| (orphan.name, orphan.removed)).collect()
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn an_image_goes_when_the_last_box_has_left_it_and_nobody_named_it() {
    let mut installation = Installation::new().await;
    installation.boot_with(QUICK).await;
    installation.ensure("alice").await.unwrap();
    installation.client().boxes().await.unwrap();
    let old = installation.inspect("alice", "{{.Image}}");

    installation.boot_with(&format!("touch /anew; {QUICK}")).await;
    assert_eq!(old_images(&installation, true).await, [], "a box is made from it");
    installation.order("alice", Order::Stop).await.unwrap();
    installation.ensure("alice").await.unwrap();
    assert_ne!(installation.inspect("alice", "{{.Image}}"), old);

    let name = format!("{}/kept:latest", installation.instance);
    docker(&["tag", &old, &name]);
    assert_eq!(old_images(&installation, true).await, [], "somebody gave it a name");
    // Taken away without the image: the name goes to another one.
    docker(&["tag", &installation.inspect("alice", "{{.Image}}"), &name]);

    assert_eq!(old_images(&installation, false).await, [(old.clone(), false)]);
    assert_eq!(old_images(&installation, true).await, [(old.clone(), true)]);
    assert!(docker_fails(&["image", "inspect", &old]).contains("No such image"));
    assert_eq!(old_images(&installation, true).await, []);
    installation.order("alice", Order::Restart).await.unwrap();
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_nameless_image_that_no_box_was_made_from_is_somebody_elses() {
    let installation = Installation::new().await;
    let import = format!(
        "tar --create --files-from /dev/null | docker import --change 'LABEL io.boxgate.recipe=x {}' -",
        installation.label()
    );
    let output = Command::new("sh").args(["-c", &import]).output().unwrap();
    let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert_eq!(old_images(&installation, true).await, []);
    assert_eq!(docker(&["image", "inspect", "--format", "{{.Id}}", &id]), id);
}
