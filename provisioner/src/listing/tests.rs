//! What people, scripts and programs read.

use boxgate_provisioner_api::{Limits, Usage};
use jiff::Timestamp;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::testing;

const NOW: &str = "2026-03-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A stopped box as it is after an hour.
fn stopped(id: &str) -> BoxSummary {
    BoxSummary {
        since: Some("2026-03-01T10:59:59.123456789Z".to_owned()),
        image: Some("boxgate/box:latest".to_owned()),
        ..testing::summary(id, BoxState::Stopped)
    }
}

fn ready(id: &str) -> BoxSummary {
    BoxSummary {
        state: BoxState::Ready,
        since: Some("2026-02-27T12:00:00Z".to_owned()),
        address: Some([10, 201, 0, 2].into()),
        connections: 12,
        idle_seconds: Some(7),
        usage: Some(Usage { cpus: 0.254, memory_bytes: 60 << 20, pids: 40 }),
        disk_bytes: Some(3 << 30),
        limits: Limits { cpus: 1.5, memory_bytes: 1 << 30, pids: 4096, disk_bytes: Some(20 << 30) },
        ..stopped(id)
    }
}

fn failed(id: &str) -> BoxSummary {
    BoxSummary {
        state: BoxState::Failed,
        reason: Some("its sshd did not answer within 60s".to_owned()),
        isolated: false,
        since: None,
        image: None,
        keep_until: Some("2026-03-01T20:00:30Z".to_owned()),
        outdated: true,
        ..stopped(id)
    }
}

fn plain(of: Of) -> Look {
    Look { colours: false, of }
}

#[test]
fn an_operators_table() {
    let boxes = [ready("alice"), stopped("alice+web"), failed("bob")];
    insta::assert_snapshot!(table(&boxes, plain(Of::Everybody), now()));
}

#[test]
fn an_owners_table() {
    insta::assert_snapshot!(table(&[ready("alice"), stopped("alice+web")], plain(Of::OneUser), now()));
}

#[test]
fn lines_for_scripts() {
    insta::assert_snapshot!(tab_separated(&[ready("alice"), failed("bob")]));
}

#[test]
fn no_boxes() {
    assert_eq!(tab_separated(&[]), "");
    assert_eq!(json(&[]).unwrap(), "[]\n");
    assert!(table(&[], plain(Of::OneUser), now()).starts_with("BOX  STATE"));
}

#[test]
fn colours_only_when_asked_for() {
    let boxes = [ready("alice"), failed("bob")];
    assert!(!table(&boxes, plain(Of::Everybody), now()).contains('\u{1b}'));
    let coloured = table(&boxes, Look { colours: true, of: Of::Everybody }, now());
    assert!(coloured.contains('\u{1b}'), "{coloured}");
}

#[test]
fn programs_read_what_the_api_says() {
    let boxes = vec![ready("alice"), failed("bob")];
    assert_eq!(serde_json::from_str::<Vec<BoxSummary>>(&json(&boxes).unwrap()).unwrap(), boxes);
}

#[rstest]
#[case("2026-03-01T11:59:59Z", Some("1 s"))]
#[case("2026-03-01T11:59:00Z", Some("1 min"))]
#[case("2026-03-01T11:00:00.9Z", Some("59 min"))]
#[case("2026-03-01T09:00:00Z", Some("3 h"))]
#[case("2026-02-27T11:00:00Z", Some("2 d"))]
#[case("2026-03-01T20:30:00Z", Some("8 h"))]
#[case("2026-03-01T13:00:00+02:00", Some("1 h"))]
#[case("yesterday", None)]
fn ages(#[case] moment: &str, #[case] expected: Option<&str>) {
    assert_eq!(age(moment, now()).as_deref(), expected);
}

#[test]
fn states_have_the_apis_names() {
    for state in [BoxState::Ready, BoxState::Waking, BoxState::Removing] {
        assert_eq!(serde_json::to_value(state).unwrap(), super::state(state));
    }
}

proptest! {
    #[test]
    fn a_box_is_one_line_of_all_fields(reason in "(\\PC|[\\x00-\\x20]){0,60}", image in "(\\PC|[\\x00-\\x20]){0,60}") {
        let devbox = BoxSummary { reason: Some(reason), image: Some(image), ..failed("bob") };
        let line = tab_separated(std::slice::from_ref(&devbox));
        let fields: Vec<_> = line.strip_suffix('\n').unwrap().split('\t').collect();
        prop_assert_eq!(fields.len(), COLUMNS.len());
        prop_assert!(fields.iter().all(|field| !field.is_empty() && !field.contains(char::is_control)));
        prop_assert_eq!(table(&[devbox], plain(Of::Everybody), now()).lines().count(), 2);
    }
}
