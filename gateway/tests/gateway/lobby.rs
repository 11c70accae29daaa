//! Logins to `box`: whose key it is decides, and who may not enter is told why once she has proven that it is hers.

use std::fs;
use std::sync::atomic::Ordering::SeqCst;

use crate::support::{Answer, Gateway, output, text};

/// What is said to whoever asks for the lobby with a key of the test's.
async fn told(gateway: &Gateway, key: &str) -> String {
    let ran = output(gateway.ssh("box", key).arg("ls")).await;
    assert_eq!(ran.status.code(), Some(255));
    text(&ran.stderr)
}

#[tokio::test]
async fn a_stranger_is_refused_as_anywhere() {
    let gateway = Gateway::start(Answer::the_box()).await;
    let said = told(&gateway, "stranger").await;
    assert!(said.ends_with("box@127.0.0.1: Permission denied (publickey).\r\n"), "{said:?}");
}

#[tokio::test]
async fn a_key_of_two_people_does_not_say_who_comes() {
    let gateway = Gateway::start(Answer::the_box()).await;
    fs::copy(gateway.path("alice.pub"), gateway.path("keys.d/bob")).unwrap();
    let said = told(&gateway, "alice").await;
    assert!(said.contains("in use by several people"), "{said}");
    assert!(!said.contains("bob") && !said.contains("alice"), "it is nobody's business whose: {said}");
    assert!(gateway.run("true").await.status.success(), "where she says who she is the key is good");
}

#[tokio::test]
async fn a_key_for_one_command_is_not_for_others() {
    let gateway = Gateway::start(Answer::the_box()).await;
    gateway.key_of_alices("nightly", "command=\"date\"", &[]).await;
    assert!(told(&gateway, "nightly").await.contains("for one command only"));
    assert_eq!(gateway.asked.load(SeqCst), 0);
}

#[tokio::test]
async fn a_provisioner_without_a_lobby_is_no_reason_to_wait() {
    let gateway = Gateway::start(Answer::the_box()).await;
    let said = told(&gateway, "alice").await;
    assert!(
        said.contains("the lobby: the gateway and the provisioner do not understand each other"),
        "{said}"
    );
}
