//! The provisioner on a real Docker engine: real boxes under runc, each test an installation of its own.
//!
//! `BOXGATE_TEST_IMAGE` names the box image; without it, `boxgate/box:latest` is taken. What a test cleans up
//! is found by its labels, so that tests run side by side.
#![expect(clippy::unwrap_used, reason = "a test's set-up may panic")]

mod backup;
mod faults;
mod firewall;
mod installation;
mod kills;
mod lifecycle;
mod probe;
mod proxy;
mod spares;
mod storage;

use std::time::Duration;

use boxgate_provisioner_api::{BoxState, FailureCode};
use installation::{Installation, docker, image};
use rstest::rstest;
use tokio::time::Instant;

const ID: &str = "{{.Id}}";

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_first_login_makes_a_box_and_the_next_finds_it() {
    let mut installation = Installation::new().await;
    let begun = Instant::now();
    let endpoint = installation.ensure("alice").await.unwrap();
    let first = begun.elapsed();
    let container = installation.inspect("alice", ID);

    let begun = Instant::now();
    assert_eq!(installation.ensure("alice").await.unwrap(), endpoint);
    let again = begun.elapsed();
    println!("first ensure {first:?}, the next {again:?}");
    assert!(again < Duration::from_millis(500), "a box that is up is found in {again:?}");

    // A provisioner that was just started knows nothing and finds the same.
    installation.kill();
    installation.start().await;
    assert_eq!(installation.ensure("alice").await.unwrap(), endpoint);
    assert_eq!(installation.inspect("alice", ID), container);
    assert_eq!((installation.list("network").len(), installation.list("volume").len()), (1, 2));
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_box_is_what_its_blueprint_says() {
    let installation = Installation::new().await;
    let endpoint = installation.ensure("alice+web").await.unwrap();
    assert_eq!((endpoint.unix_user.as_str(), endpoint.isolated), ("alice", false));

    let shown = installation::shown_host_key(&endpoint);
    assert!(endpoint.host_key.starts_with(&shown) && !shown.is_empty(), "{shown} {}", endpoint.host_key);
    let limits = installation.inspect("alice.web", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}");
    assert_eq!(limits, "1073741824 1073741824");
    let labels = ["instance", "box", "owner"].map(|label| {
        installation.inspect("alice.web", &format!("{{{{index .Config.Labels \"io.boxgate.{label}\"}}}}"))
    });
    assert_eq!(labels, [installation.instance.as_str(), "alice+web", "alice"]);

    let name = installation.name("alice.web");
    let inside = |command: &str| docker(&["exec", &name, "sh", "-c", command]);
    assert_eq!(inside("hostname"), "web");
    assert_eq!(inside("id --user alice"), "1000");
    assert_eq!(inside("touch /etc/boxgate/x 2>/dev/null; echo $?"), "1");
    assert_eq!(inside("stat --format '%a %U' /etc/boxgate/ssh_host_ed25519_key"), "600 root");

    let boxes = installation.client().boxes().await.unwrap();
    assert_eq!((boxes.len(), boxes[0].state, boxes[0].isolated), (1, BoxState::Ready, false));
    assert_eq!((boxes[0].id.to_string(), boxes[0].image.clone()), ("alice+web".to_owned(), Some(image())));
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_stopped_box_wakes_with_its_home() {
    let installation = Installation::new().await;
    let endpoint = installation.ensure("alice").await.unwrap();
    let (name, container) = (installation.name("alice"), installation.inspect("alice", ID));
    docker(&["exec", &name, "sh", "-c", "echo mine > /home/alice/file"]);
    docker(&["stop", &name]);

    let begun = Instant::now();
    assert_eq!(installation.ensure("alice").await.unwrap().host_key, endpoint.host_key);
    println!("wake {:?}", begun.elapsed());
    assert_eq!(installation.inspect("alice", ID), container);
    assert_eq!(docker(&["exec", &name, "cat", "/home/alice/file"]), "mine");
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_box_without_its_container_is_made_anew_around_its_volumes() {
    let installation = Installation::new().await;
    let endpoint = installation.ensure("alice").await.unwrap();
    let (name, container) = (installation.name("alice"), installation.inspect("alice", ID));
    docker(&["exec", &name, "sh", "-c", "echo mine > /home/alice/file"]);
    docker(&["rm", "--force", &name]);

    assert_eq!(installation.ensure("alice").await.unwrap().host_key, endpoint.host_key);
    assert_ne!(installation.inspect("alice", ID), container);
    assert_eq!(docker(&["exec", &name, "cat", "/home/alice/file"]), "mine");
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_pruned_network_comes_back() {
    let installation = Installation::new().await;
    installation.ensure("alice").await.unwrap();
    let (name, container) = (installation.name("alice"), installation.inspect("alice", ID));
    docker(&["stop", &name]);
    docker(&["network", "rm", &name]);
    installation.ensure("alice").await.unwrap();
    assert_eq!(installation.inspect("alice", ID), container);
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn logins_at_once_make_one_box_each() {
    let installation = Installation::new().await;
    let both = ["alice", "bob"].iter().cycle().take(8).map(|id| installation.ensure(id));
    let endpoints: Vec<_> =
        futures_util::future::join_all(both).await.into_iter().map(Result::unwrap).collect();
    assert!(endpoints.iter().zip(endpoints.iter().skip(2)).all(|(one, next)| one == next));
    assert_ne!(endpoints[0].address, endpoints[1].address);
    assert_eq!((installation.list("container").len(), installation.list("volume").len()), (2, 4));
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn an_engine_that_goes_away_is_told_and_used_again_when_it_is_back() {
    let installation = Installation::new().await;
    installation.let_docker_be(false);
    let failure = installation.ensure("alice").await.unwrap_err();
    assert_eq!((failure.code, failure.retryable), (FailureCode::EngineUnavailable, true), "{failure}");
    installation.let_docker_be(true);
    installation.ensure("alice").await.unwrap();
}

#[rstest]
#[case::container(&["create", "--name"], "alice", "container")]
#[case::network(&["network", "create"], "alice", "network")]
#[case::volume(&["volume", "create"], "alice.home", "volume")]
#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn what_has_our_name_and_not_our_labels_is_left_alone(
    #[case] create: &[&str],
    #[case] of: &str,
    #[case] kind: &str,
) {
    let installation = Installation::new().await;
    let (name, image) = (installation.name(of), image());
    let arguments: &[&str] = if kind == "container" { &[&name, &image] } else { &[&name] };
    docker(&[create, arguments].concat());

    let failure = installation.ensure("alice").await.unwrap_err();
    assert_eq!(failure.code, FailureCode::NameTaken, "{failure}");
    assert!(failure.message.contains(&format!("the {kind} {name}")), "{failure}");
    assert_eq!(installation.list("container"), [""; 0]);
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn without_the_image_nothing_is_made() {
    let installation = Installation::with(&[("box.image", "\"boxgate/no-such-image:latest\"")]).await;
    let failure = installation.ensure("alice").await.unwrap_err();
    assert_eq!(failure.code, FailureCode::ImageMissing, "{failure}");
    assert_eq!((installation.list("network").len(), installation.list("volume").len()), (0, 0));
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn sysbox_isolates_or_is_said_to_be_missing() {
    let installation = Installation::with(&[("box.runtime", "\"sysbox\"")]).await;
    let known = docker(&["info", "--format", "{{json .Runtimes}}"]).contains("sysbox-runc");
    match installation.ensure("alice").await {
        Ok(endpoint) => assert!(known && endpoint.isolated),
        Err(failure) => assert!(!known && failure.code == FailureCode::RuntimeMissing, "{failure}"),
    }
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn without_isolation_a_second_owner_is_refused() {
    let alone = [("box.i_understand_boxes_are_root_on_this_host", "false")];
    let installation = Installation::with(&alone).await;
    installation.ensure("alice").await.unwrap();
    let failure = installation.ensure("bob").await.unwrap_err();
    assert_eq!(failure.code, FailureCode::NotIsolated, "{failure}");
    assert_eq!((installation.list("container").len(), installation.list("network").len()), (1, 1));
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_box_that_ends_while_booting_is_told_with_its_last_words() {
    let mut installation = Installation::new().await;
    installation.boot_with("echo no disk today; exit 3").await;
    let failure = installation.ensure("alice").await.unwrap_err();
    assert_eq!(failure.code, FailureCode::BootFailed, "{failure}");
    assert!(failure.message.ends_with("with exit code 3: no disk today"), "{failure}");
    assert!(failure.retryable);
}

#[tokio::test]
#[ignore = "needs Docker; ./devhost test runs it"]
async fn a_box_that_never_answers_is_left_for_the_operator() {
    let mut installation = Installation::with(&[("box.boot_timeout", "\"2s\"")]).await;
    installation.boot_with("exec sleep 1000").await;
    let begun = Instant::now();
    let failure = installation.ensure("alice").await.unwrap_err();
    assert_eq!(failure.code, FailureCode::BootTimeout, "{failure}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(installation.inspect("alice", "{{.State.Status}}"), "running");
}
