//! What becomes of boxes after their first login: orders, limits, idling, new images, crashes in the middle.

use std::time::Duration;

use boxgate_provisioner_api::{BoxState, BoxUse, FailureCode, Order, UseReport};
use tokio::time::{Instant, sleep, timeout};

use crate::installation::{Installation, docker, docker_fails};
use crate::proxy::QUICK;

const ID: &str = "{{.Id}}";
/// Longer than a box takes to stop.
const PATIENCE: Duration = Duration::from_secs(30);

async fn state(installation: &Installation, id: &str) -> Option<BoxState> {
    let boxes = installation.client().boxes().await.unwrap();
    boxes.iter().find(|of| of.id.to_string() == id).map(|of| of.state)
}

async fn becomes(installation: &Installation, id: &str, expected: BoxState) {
    let begun = Instant::now();
    loop {
        match state(installation, id).await {
            Some(found) if found == expected => return,
            found => assert!(begun.elapsed() < PATIENCE, "{id} is {found:?}, not {expected:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn in_box(installation: &Installation, of: &str, command: &str) -> String {
    docker(&["exec", &installation.name(of), "sh", "-c", command])
}

/// Marks in what has to outlive a container, and one in what has not.
fn leave_marks(installation: &Installation, of: &str) {
    in_box(installation, of, "for d in /home/alice /var/lib/docker /opt; do echo mine > $d/mark; done");
}

fn marks(installation: &Installation, of: &str) -> String {
    in_box(installation, of, "cat /home/alice/mark /var/lib/docker/mark /opt/mark 2>/dev/null | wc -l")
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn stop_start_restart_and_reset_keep_what_they_should() {
    let installation = Installation::new().await;
    installation.order("alice+web", Order::New).await.unwrap();
    leave_marks(&installation, "alice.web");
    let container = installation.inspect("alice.web", ID);

    installation.order("alice+web", Order::Stop).await.unwrap();
    assert_eq!(state(&installation, "alice+web").await, Some(BoxState::Stopped));
    assert_eq!(installation.inspect("alice.web", "{{.State.Running}}"), "false");
    installation.order("alice+web", Order::Start).await.unwrap();
    installation.order("alice+web", Order::Restart).await.unwrap();
    assert_eq!(installation.inspect("alice.web", ID), container);
    assert_eq!(marks(&installation, "alice.web"), "3");

    installation.order("alice+web", Order::Reset).await.unwrap();
    assert_ne!(installation.inspect("alice.web", ID), container);
    assert_eq!(marks(&installation, "alice.web"), "2");
    assert_eq!(state(&installation, "alice+web").await, Some(BoxState::Ready));
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn rm_leaves_nothing_and_touches_nobody_else() {
    let installation = Installation::new().await;
    installation.ensure("alice").await.unwrap();
    installation.ensure("bob").await.unwrap();
    installation.order("alice", Order::Remove).await.unwrap();
    let left = ["container", "network", "volume"].map(|kind| installation.list(kind).len());
    assert_eq!(left, [1, 1, 2]);
    assert_eq!(state(&installation, "alice").await, None);
    assert!(!installation.state("boxes/alice").exists() && installation.state("boxes/bob").exists());
    let failure = installation.order("alice", Order::Remove).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::NoSuchBox, "{failure}");
    assert_eq!(state(&installation, "bob").await, Some(BoxState::Ready));
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn what_a_killed_removal_left_is_found_and_collected() {
    let mut installation = Installation::new().await;
    installation.set("box.image", "\"boxgate/no-such-image:latest\"");
    // The network and the directory go last.
    let (name, label) = (installation.name("alice"), installation.label());
    let of = ["io.boxgate.box=alice", "io.boxgate.owner=alice"];
    docker(&["network", "create", "--label", &label, "--label", of[0], "--label", of[1], &name]);
    std::fs::create_dir_all(installation.state("boxes/alice")).unwrap();
    assert_eq!(state(&installation, "alice").await, None, "a network is no box");

    let found = installation.gc(false).await;
    assert_eq!((found.orphans.len(), installation.list("network").len()), (2, 1), "{found:?}");
    let removed = installation.gc(true).await;
    assert!(removed.orphans.iter().all(|orphan| orphan.removed), "{removed:?}");
    assert_eq!(installation.list("network").len(), 0);
    assert!(!installation.state("boxes/alice").exists());
    assert_eq!(installation.gc(true).await.orphans, []);
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_home_that_somebody_removed_is_told_and_its_docker_data_is_kept() {
    let installation = Installation::new().await;
    installation.ensure("alice").await.unwrap();
    docker(&["rm", "--force", &installation.name("alice")]);
    docker(&["volume", "rm", &installation.name("alice.home")]);
    let failure = installation.ensure("alice").await.unwrap_err();
    assert_eq!(failure.code, FailureCode::VolumeMissing, "{failure}");
    assert!(failure.remedy.contains("boxgate rm alice"), "{failure}");
    assert_eq!(installation.list("volume").len(), 1);
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_box_that_nobody_uses_stops_and_one_in_use_does_not() {
    let installation = Installation::with(&[("box.idle_stop", "\"5s\"")]).await;
    installation.ensure("alice").await.unwrap();
    installation.ensure("bob").await.unwrap();
    let begun = Instant::now();
    while state(&installation, "alice").await != Some(BoxState::Stopped) {
        let boxes = vec![BoxUse { devbox: "bob".parse().unwrap(), connections: 1, idle_seconds: 0 }];
        installation.client().report_use(&UseReport { gateway: "a test".to_owned(), boxes }).await.unwrap();
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(state(&installation, "bob").await, Some(BoxState::Ready));
    // The box shut itself down: nothing had to be killed.
    assert_ne!(installation.inspect("alice", "{{.State.ExitCode}}"), "137");
    installation.ensure("alice").await.unwrap();
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_box_in_which_an_operators_command_runs_is_in_use() {
    let mut installation = Installation::with(&[("box.idle_stop", "\"5s\"")]).await;
    installation.boot_with(QUICK).await;
    installation.ensure("alice").await.unwrap();
    let mut exec =
        installation.boxgate(&["exec", "--root", "alice", "sh", "-c", "sleep 12; exit 7"]).spawn().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(11) {
        let boxes = installation.client().boxes().await.unwrap();
        assert_eq!(boxes[0].state, BoxState::Ready, "after {:?}", begun.elapsed());
        assert!(boxes[0].connections == 1 || begun.elapsed() < Duration::from_secs(2), "{boxes:?}");
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(exec.wait().await.unwrap().code(), Some(7));
    assert_eq!(installation.client().boxes().await.unwrap()[0].connections, 0);
    becomes(&installation, "alice", BoxState::Stopped).await;
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn an_operators_command_is_ended_with_boxgate() {
    let mut installation = Installation::new().await;
    installation.boot_with(QUICK).await;
    installation.ensure("alice").await.unwrap();
    let mut exec = installation.boxgate(&["exec", "--root", "alice", "sleep", "1000"]).spawn().unwrap();
    let begun = Instant::now();
    while installation.client().boxes().await.unwrap()[0].connections == 0 {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(50)).await;
    }
    // It is passed on to the client of Docker, which ends by it.
    sleep(Duration::from_millis(500)).await;
    let id = i32::try_from(exec.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = timeout(PATIENCE, exec.wait()).await.unwrap().unwrap();
    assert!(ended.code().is_some_and(|code| code != 0), "{ended}");
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn logins_that_race_with_a_stop_win() {
    let installation = Installation::new().await;
    for _ in 0..3 {
        installation.ensure("alice").await.unwrap();
        let (stopped, first) = tokio::join!(installation.order("alice", Order::Stop), async {
            sleep(Duration::from_millis(100)).await;
            installation.ensure("alice").await
        });
        stopped.unwrap();
        first.unwrap();
        becomes(&installation, "alice", BoxState::Ready).await;
    }
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_new_image_is_taken_at_the_next_cold_start_and_new_limits_too() {
    let mut installation = Installation::new().await;
    installation.ensure("alice").await.unwrap();
    leave_marks(&installation, "alice");
    installation.boot_with("touch /made-from-the-new-image; exec /usr/lib/boxgate/init-runc.real").await;
    installation.set("users.alice.box.pids", "5000");
    installation.kill();
    installation.start().await;
    let boxes = installation.client().boxes().await.unwrap();
    assert!(boxes[0].outdated, "{boxes:?}");
    installation.ensure("alice").await.unwrap();
    assert_eq!(marks(&installation, "alice"), "3", "a running box is left alone");

    installation.order("alice", Order::Stop).await.unwrap();
    installation.ensure("alice").await.unwrap();
    assert_eq!(in_box(&installation, "alice", "ls /made-from-the-new-image"), "/made-from-the-new-image");
    assert_eq!(marks(&installation, "alice"), "2");
    assert_eq!(installation.inspect("alice", "{{.HostConfig.PidsLimit}}"), "5000");
    assert!(!installation.client().boxes().await.unwrap()[0].outdated);

    installation.set("users.alice.box.pids", "6000");
    installation.kill();
    installation.start().await;
    let container = installation.inspect("alice", ID);
    installation.order("alice", Order::Restart).await.unwrap();
    assert_eq!(installation.inspect("alice", "{{.HostConfig.PidsLimit}}"), "6000");
    assert_eq!(installation.inspect("alice", ID), container, "new limits need no new container");
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_box_that_uses_its_memory_up_dies_alone() {
    let installation = Installation::with(&[("box.memory", "\"256MiB\"")]).await;
    installation.ensure("alice").await.unwrap();
    installation.ensure("bob").await.unwrap();
    // 400 MiB, in pages that are really touched; the kernel ends whatever needs it most.
    let eat = "exec python3 -c 'b = bytearray(400 << 20); b[::4096] = b\"x\" * len(b[::4096]); print(\"ate\", len(b))'";
    let said = docker_fails(&["exec", &installation.name("alice"), "sh", "-c", eat]);
    assert!(!said.contains("ate 419430400"), "{said}");
    assert_eq!(in_box(&installation, "bob", "echo well"), "well");
    installation.ensure("alice").await.unwrap();
    assert_eq!(state(&installation, "bob").await, Some(BoxState::Ready));
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_full_host_and_a_person_with_enough_boxes_are_told() {
    let memory: u64 = docker(&["info", "--format", "{{.MemTotal}}"]).parse().unwrap();
    // Room for two boxes and a half.
    let half = memory * 2 / 5;
    let settings = [("box.memory", format!("\"{half}B\"")), ("provisioner.memory_share", "1".to_owned())];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut installation = Installation::with(&settings).await;
    installation.ensure("alice").await.unwrap();
    installation.ensure("bob").await.unwrap();
    let failure = installation.ensure("carol").await.unwrap_err();
    assert_eq!((failure.code, failure.retryable), (FailureCode::HostFull, true), "{failure}");
    installation.order("bob", Order::Stop).await.unwrap();
    installation.ensure("carol").await.unwrap();

    installation.set("box.memory", "\"256MiB\"");
    installation.set("box.max_boxes", "2");
    installation.kill();
    installation.start().await;
    installation.ensure("alice+web").await.unwrap();
    let failure = installation.ensure("alice+db").await.unwrap_err();
    assert_eq!(failure.code, FailureCode::TooManyBoxes, "{failure}");
    // A limit that is below what there is takes nothing away.
    installation.set("box.max_boxes", "1");
    installation.kill();
    installation.start().await;
    installation.order("alice+web", Order::Restart).await.unwrap();
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn thirty_boxes_come_and_go_and_leave_nothing() {
    let installation = Installation::new().await;
    installation.ensure("bob").await.unwrap();
    let before = installation.descriptors();
    for _ in 0..10 {
        let ids = ["alice", "alice+web", "alice+db"];
        for made in futures_util::future::join_all(ids.map(|id| installation.ensure(id))).await {
            made.unwrap();
        }
        let removed = ids.map(|id| installation.order(id, Order::Remove));
        for removed in futures_util::future::join_all(removed).await {
            removed.unwrap();
        }
    }
    let objects = ["container", "network", "volume"].map(|kind| installation.list(kind).len());
    assert_eq!(objects, [1, 1, 2]);
    // Connections that idle in a pool may come and go; a leak would be thirty of something.
    let after = installation.descriptors();
    assert!(after <= before + 10, "{before} descriptors before, {after} after");
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_boxs_console_can_be_read() {
    let installation = Installation::new().await;
    installation.ensure("alice").await.unwrap();
    let mut log = Vec::new();
    let id = "alice".parse().unwrap();
    installation.client().logs(&id, 500, false, |bytes| log.extend_from_slice(bytes)).await.unwrap();
    let log = String::from_utf8(log).unwrap();
    assert!(log.contains("Started ssh.service") && !log.contains('\u{1b}'), "{log}");
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn what_a_box_uses_can_be_seen() {
    let installation = Installation::new().await;
    installation.ensure("alice").await.unwrap();
    docker(&[
        "exec",
        "--detach",
        &installation.name("alice"),
        "timeout",
        "20",
        "sh",
        "-c",
        "while :; do :; done",
    ]);
    let boxes = installation.client().boxes_with_usage().await.unwrap();
    let usage = boxes[0].usage.unwrap();
    assert!(usage.cpus > 0.05 && usage.cpus < 64.0, "{usage:?}");
    assert!(usage.memory_bytes > 1 << 20 && usage.memory_bytes <= 1 << 30, "{usage:?}");
    assert!(usage.pids > 5, "{usage:?}");
}
