//! What is there → what is next, case by case.

use std::collections::HashSet;

use boxgate_config::DevBoxId;
use rstest::rstest;

use super::*;
use crate::backend::Network;
use crate::objects::{self, Labels};
use crate::testing;

const RUNC: Runtime = Runtime::Runc { boxes_are_root_on_this_host: false };
const RUNC_ACCEPTED: Runtime = Runtime::Runc { boxes_are_root_on_this_host: true };

fn wanted(runtime: Runtime) -> Blueprint {
    let mut config = testing::config();
    config.devbox.runtime = runtime;
    Blueprint::new(&config, DevBoxId::parse("alice").unwrap())
}

fn labels() -> Labels {
    wanted(RUNC).labels
}

/// A host with all that a box needs.
fn host() -> Host {
    Host { image: true, runtimes: ["runc", "sysbox-runc"].map(str::to_owned).into() }
}

/// None of the box's objects.
fn bare() -> Surroundings {
    Surroundings::default()
}

/// The box's network and volumes.
fn furnished() -> Surroundings {
    let network = Some(Network { id: "n1".to_owned(), labels: labels() });
    Surroundings { network, home: Some(labels()), docker: Some(labels()), ..bare() }
}

fn container(state: State) -> Container {
    Container {
        name: "boxgate.alice".to_owned(),
        id: "c1".to_owned(),
        labels: labels(),
        image: "boxgate/box:latest".to_owned(),
        runtime: "runc".to_owned(),
        state,
        network: Some("n1".to_owned()),
    }
}

fn running(address: Option<[u8; 4]>) -> State {
    State::Running { since: "then".to_owned(), address: address.map(Ipv4Addr::from) }
}

fn stopped() -> State {
    State::Stopped { since: "then".to_owned(), exit_code: 130 }
}

fn next(container: Option<Container>, around: Surroundings) -> Result<Step, Trouble> {
    let observed = Observed { container, host: Some(host()), around: Some(around), started: false };
    next_step(&wanted(RUNC), &observed)
}

fn network() -> Change {
    Change::CreateNetwork { subnet: "10.201.0.0/28".parse().unwrap() }
}

#[test]
fn nothing_is_decided_blindly() {
    assert_eq!(next_step(&wanted(RUNC), &Observed::default()), Ok(Step::LookAround));
}

#[rstest]
#[case::nothing(bare(), network())]
#[case::no_network(Surroundings { network: None, ..furnished() }, network())]
#[case::no_home(Surroundings { home: None, ..furnished() }, Change::CreateVolume(Volume::Home))]
#[case::no_docker(Surroundings { docker: None, ..furnished() }, Change::CreateVolume(Volume::Docker))]
#[case::all_but_the_container(furnished(), Change::CreateContainer)]
fn without_a_container(#[case] around: Surroundings, #[case] expected: Change) {
    assert_eq!(next(None, around), Ok(Step::Perform(expected)));
}

#[rstest]
#[case::answers_soon(running(Some([10, 201, 0, 2])), Step::Probe { address: ([10, 201, 0, 2], 22).into() })]
#[case::lost_its_network(running(None), Step::Perform(Change::Attach))]
#[case::never_started(State::Created, Step::Perform(Change::Start))]
#[case::asleep(stopped(), Step::Perform(Change::Start))]
#[case::on_its_way(State::Changing, Step::Wait)]
fn with_a_container(#[case] state: State, #[case] expected: Step) {
    assert_eq!(next(Some(container(state)), furnished()), Ok(expected));
}

#[rstest]
#[case::pruned(Some("n1"), None, network())]
#[case::made_again(Some("n0"), Some("n1"), Change::Attach)]
#[case::detached(None, Some("n1"), Change::Attach)]
#[case::by_name(Some(""), Some("n1"), Change::Start)]
fn a_container_at_rest_gets_its_network_back(
    #[case] attached: Option<&str>,
    #[case] there: Option<&str>,
    #[case] expected: Change,
) {
    let network = there.map(|id| Network { id: id.to_owned(), labels: labels() });
    let container = Container { network: attached.map(str::to_owned), ..container(stopped()) };
    let around = Surroundings { network, ..furnished() };
    assert_eq!(next(Some(container), around), Ok(Step::Perform(expected)));
}

#[rstest]
#[case(State::Paused, Trouble::Paused)]
#[case(State::Dead, Trouble::Dead)]
fn what_only_an_operator_can_mend(#[case] state: State, #[case] expected: Trouble) {
    assert_eq!(next(Some(container(state)), furnished()), Err(expected));
}

#[test]
fn a_box_that_ends_after_its_start_is_not_started_again() {
    let observed = Observed {
        container: Some(container(stopped())),
        host: Some(host()),
        around: Some(furnished()),
        started: true,
    };
    assert_eq!(next_step(&wanted(RUNC), &observed), Err(Trouble::BootFailed { exit_code: 130 }));
}

#[rstest]
#[case::image(Host { image: false, ..host() }, Trouble::ImageMissing("boxgate/box:latest".to_owned()))]
#[case::runtime(Host { runtimes: HashSet::new(), ..host() }, Trouble::RuntimeMissing("runc".to_owned()))]
fn what_the_host_lacks(#[case] host: Host, #[case] expected: Trouble) {
    let observed = Observed { host: Some(host), around: Some(bare()), ..Observed::default() };
    assert_eq!(next_step(&wanted(RUNC), &observed), Err(expected));
}

#[test]
fn a_full_pool_leaves_no_step() {
    let pool = "10.201.0.0/16".parse().unwrap();
    let around = Surroundings { subnets: vec![pool], ..bare() };
    assert_eq!(next(None, around), Err(Trouble::PoolExhausted(Exhausted::Covered { pool, by: pool })));
}

#[test]
fn a_box_wakes_without_the_image_it_was_made_from() {
    let host = Some(Host { image: false, ..host() });
    let observed =
        Observed { container: Some(container(stopped())), host, around: Some(furnished()), started: false };
    assert_eq!(next_step(&wanted(RUNC), &observed), Ok(Step::Perform(Change::Start)));
}

#[rstest]
#[case::container("container", "boxgate.alice")]
#[case::network("network", "boxgate.alice")]
#[case::home("volume", "boxgate.alice.home")]
#[case::docker("volume", "boxgate.alice.docker")]
fn nothing_foreign_is_used(
    #[case] kind: &'static str,
    #[case] name: &str,
    #[values(Labels::new(), bobs())] foreign: Labels,
) {
    let mut container = container(stopped());
    let mut around = furnished();
    match name {
        "boxgate.alice" if kind == "container" => container.labels = foreign,
        "boxgate.alice" => around.network = Some(Network { id: "n1".to_owned(), labels: foreign }),
        "boxgate.alice.home" => around.home = Some(foreign),
        _ => around.docker = Some(foreign),
    }
    let expected = Trouble::NameTaken { kind, name: name.to_owned() };
    assert_eq!(next(Some(container), around), Err(expected));
}

fn bobs() -> Labels {
    objects::labels(&testing::config().provisioner.instance, &DevBoxId::parse("bob").unwrap())
}

fn beside_bob() -> Trouble {
    Trouble::NotIsolated { owner: "bob".to_owned() }
}

fn made_with_runc() -> Trouble {
    Trouble::MadeWithoutIsolation { runtime: "runc".to_owned() }
}

#[rstest]
#[case::alone(RUNC, "runc", &["alice"], Ok(()))]
#[case::beside_bob(RUNC, "runc", &["alice", "bob"], Err(beside_bob()))]
#[case::bob_is_told_first(RUNC, "runc", &["carol", "bob"], Err(beside_bob()))]
#[case::accepted(RUNC_ACCEPTED, "runc", &["bob"], Ok(()))]
#[case::isolated(Runtime::Sysbox, "sysbox-runc", &["bob"], Ok(()))]
#[case::kept_from_a_trial(Runtime::Sysbox, "runc", &[], Err(made_with_runc()))]
#[case::isolated_beside_a_trial(RUNC, "sysbox-runc", &["bob"], Ok(()))]
fn who_may_run_beside_whom(
    #[case] configured: Runtime,
    #[case] made_with: &str,
    #[case] owners: &[&str],
    #[case] expected: Result<(), Trouble>,
    #[values(stopped(), running(Some([10, 201, 0, 2])))] state: State,
) {
    let container = Container { runtime: made_with.to_owned(), ..container(state) };
    let owners = owners.iter().map(|owner| (*owner).to_owned()).collect();
    let around = Surroundings { owners, ..furnished() };
    let observed =
        Observed { container: Some(container), host: Some(host()), around: Some(around), started: false };
    assert_eq!(next_step(&wanted(configured), &observed).map(|_| ()), expected);
}
