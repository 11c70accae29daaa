//! What is there → what is next, case by case.

use std::collections::HashSet;

use boxgate_config::DevBoxId;
use rstest::rstest;

use super::*;
use crate::backend::{ContainerLimits, Network, Resident};
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
    let runtimes = ["runc", "sysbox-runc"].map(str::to_owned).into();
    Host { image_id: Some("sha256:1".to_owned()), runtimes, memory: 8 * bytesize::GIB }
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
        image_id: "sha256:1".to_owned(),
        limits: wanted(RUNC).limits.into(),
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
    next_step(UP, &wanted(RUNC), &observed(container, around))
}

/// To have a box, whether there is one or not.
const UP: Goal = Goal::Answering { make: true };

/// Beside no other box.
fn observed(container: Option<Container>, around: Surroundings) -> Observed {
    let (host, around, others) = (Some(host()), Some(around), Some(Others::default()));
    Observed { container, host, around, others, ..Observed::default() }
}

fn network() -> Change {
    Change::CreateNetwork { subnet: "10.201.0.0/28".parse().unwrap() }
}

#[test]
fn nothing_is_decided_blindly() {
    for goal in [UP, Goal::Stopped, Goal::Unmade, Goal::Removed] {
        assert_eq!(next_step(goal, &wanted(RUNC), &Observed::default()), Ok(Step::LookAround));
    }
    for container in [None, Some(container(stopped()))] {
        let uncounted = Observed { others: None, ..observed(container, furnished()) };
        assert_eq!(next_step(UP, &wanted(RUNC), &uncounted), Ok(Step::Admit));
    }
}

#[rstest]
#[case::nothing(bare(), Change::CreateVolume(Volume::Home))]
#[case::no_volumes(Surroundings { home: None, docker: None, ..furnished() }, Change::CreateVolume(Volume::Home))]
#[case::no_docker(Surroundings { docker: None, ..furnished() }, Change::CreateVolume(Volume::Docker))]
#[case::all_but_the_container(furnished(), Change::CreateContainer)]
fn without_a_container(#[case] around: Surroundings, #[case] expected: Change) {
    assert_eq!(next(None, around), Ok(Step::Perform(expected)));
}

#[test]
fn network_and_container_are_made_at_once() {
    let around = Surroundings { network: None, ..furnished() };
    assert_eq!(next(None, around), Ok(Step::Both(network(), Change::CreateContainer)));
}

fn offered(around: Surroundings) -> Result<Step, Trouble> {
    let spare = Some(DevBoxId::spare(7));
    next_step(UP, &wanted(RUNC), &Observed { spare, ..observed(None, around) })
}

#[test]
fn whoever_has_nothing_gets_a_spare() {
    assert_eq!(offered(bare()), Ok(Step::Perform(Change::Claim { spare: DevBoxId::spare(7) })));
}

#[rstest]
#[case(Surroundings { home: Some(labels()), ..bare() })]
#[case(Surroundings { claim: Some(labels()), ..bare() })]
#[case(furnished())]
fn a_box_of_which_there_is_something_is_no_spare(#[case] around: Surroundings) {
    assert!(!matches!(offered(around), Ok(Step::Perform(Change::Claim { .. }))));
}

#[test]
fn a_claimed_container_gets_the_boxs_name_first() {
    for goal in [UP, Goal::Stopped, Goal::Unmade, Goal::Removed] {
        let around = Surroundings { unadopted: true, ..furnished() };
        assert_eq!(next_step(goal, &wanted(RUNC), &observed(None, around)), Ok(Step::Perform(Change::Adopt)));
    }
}

#[test]
fn a_claimed_container_gets_the_boxs_limits_while_it_runs() {
    let mut roomy = wanted(RUNC);
    roomy.limits.cpus = 3.0;
    let up = observed(Some(container(running(Some([10, 201, 0, 2])))), furnished());
    let claimed = Observed { claimed: true, ..up.clone() };
    assert_eq!(next_step(UP, &roomy, &claimed), Ok(Step::Perform(Change::Limit)));
    assert!(matches!(next_step(UP, &roomy, &up), Ok(Step::Probe { .. })));
}

#[test]
fn a_claim_goes_last() {
    let around = Surroundings { claim: Some(labels()), ..bare() };
    let removed = |around| next_step(Goal::Removed, &wanted(RUNC), &observed(None, around));
    assert_eq!(removed(around.clone()), Ok(Step::Perform(Change::RemoveClaim)));
    assert_eq!(
        removed(Surroundings { claim: around.claim, ..furnished() }),
        Ok(Step::Perform(Change::RemoveVolume(Volume::Home)))
    );
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
    let observed = Observed { started: true, ..observed(Some(container(stopped())), furnished()) };
    assert_eq!(next_step(UP, &wanted(RUNC), &observed), Err(Trouble::BootFailed { exit_code: 130 }));
}

#[rstest]
#[case::image(Host { image_id: None, ..host() }, Trouble::ImageMissing("boxgate/box:latest".to_owned()))]
#[case::runtime(Host { runtimes: HashSet::new(), ..host() }, Trouble::RuntimeMissing("runc".to_owned()))]
fn what_the_host_lacks(#[case] host: Host, #[case] expected: Trouble) {
    let observed = Observed { host: Some(host), ..observed(None, bare()) };
    assert_eq!(next_step(UP, &wanted(RUNC), &observed), Err(expected));
}

#[test]
fn a_full_pool_leaves_no_step() {
    let pool = "10.201.0.0/16".parse().unwrap();
    let around = Surroundings { subnets: vec![pool], ..bare() };
    assert_eq!(next(None, around), Err(Trouble::PoolExhausted(Exhausted::Covered { pool, by: pool })));
}

#[test]
fn a_box_wakes_without_the_image_it_was_made_from() {
    let host = Some(Host { image_id: None, ..host() });
    let observed = Observed { host, ..observed(Some(container(stopped())), furnished()) };
    assert_eq!(next_step(UP, &wanted(RUNC), &observed), Ok(Step::Perform(Change::Start)));
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
    let resident =
        |owner: &&str| Resident { id: DevBoxId::parse(owner).unwrap(), has_container: true, running: false };
    let around = Surroundings { boxes: owners.iter().map(resident).collect(), ..furnished() };
    let observed = observed(Some(container), around);
    assert_eq!(next_step(UP, &wanted(configured), &observed).map(|_| ()), expected);
}

#[test]
fn a_home_without_a_container_isolates_nobody_and_harms_nobody() {
    let boxes = vec![Resident { id: DevBoxId::parse("bob").unwrap(), has_container: false, running: false }];
    let around = Surroundings { boxes, ..furnished() };
    assert_eq!(next(None, around), Ok(Step::Perform(Change::CreateContainer)));
}

#[rstest]
#[case::home(Volume::Home, "boxgate.alice.home")]
#[case::docker(Volume::Docker, "boxgate.alice.docker")]
fn a_box_does_not_start_without_its_volumes(#[case] volume: Volume, #[case] name: &str) {
    let around = match volume {
        Volume::Home => Surroundings { home: None, ..furnished() },
        Volume::Docker => Surroundings { docker: None, ..furnished() },
    };
    let missing = Err(Trouble::VolumeMissing { volume, name: name.to_owned() });
    assert_eq!(next(Some(container(stopped())), around.clone()), missing);
    // A home may be waiting for the rest of its box; the rest does not get a new home.
    let without_container =
        if volume == Volume::Home { missing } else { Ok(Step::Perform(Change::CreateVolume(volume))) };
    assert_eq!(next(None, around), without_container);
}

#[rstest]
#[case::none_of_hers(0, 0, None)]
#[case::one_too_many(3, 0, Some(Trouble::TooManyBoxes { count: 3, max: 3 }))]
#[case::just_enough_memory(2, 12, None)]
#[case::too_little_memory(
    2,
    13,
    Some(Trouble::HostFull { wanted: ByteSize::gib(4), promised: ByteSize::gib(13), limit: ByteSize::gib(16) })
)]
fn what_others_leave(#[case] hers: usize, #[case] promised_gib: u64, #[case] expected: Option<Trouble>) {
    let others = Some(Others { promised: promised_gib * bytesize::GIB, hers });
    let observed = Observed { others, ..observed(None, bare()) };
    assert_eq!(next_step(UP, &wanted(RUNC), &observed).err(), expected);
}

#[test]
fn a_box_that_there_is_is_never_one_too_many() {
    let others = Some(Others { promised: 0, hers: 99 });
    for container in [None, Some(container(stopped()))] {
        let observed = Observed { others, ..observed(container, furnished()) };
        assert!(matches!(next_step(UP, &wanted(RUNC), &observed), Ok(Step::Perform(_))));
    }
}

#[test]
fn a_running_box_needs_no_room() {
    let others = Some(Others { promised: u64::MAX, hers: 0 });
    let observed =
        Observed { others, ..observed(Some(container(running(Some([10, 201, 0, 2])))), furnished()) };
    assert!(matches!(next_step(UP, &wanted(RUNC), &observed), Ok(Step::Probe { .. })));
}

#[test]
fn a_cold_start_moves_a_box_to_the_new_image_and_the_new_limits() {
    let old_image = Container { image_id: "sha256:0".to_owned(), ..container(stopped()) };
    assert_eq!(next(Some(old_image.clone()), furnished()), Ok(Step::Perform(Change::RemoveContainer)));
    let warm = Container { state: running(Some([10, 201, 0, 2])), ..old_image };
    assert!(matches!(next(Some(warm), furnished()), Ok(Step::Probe { .. })));
    let old_limits = Container { limits: ContainerLimits::default(), ..container(stopped()) };
    assert_eq!(next(Some(old_limits), furnished()), Ok(Step::Perform(Change::Limit)));
}

#[rstest]
#[case::nothing(bare(), Err(Trouble::NoSuchBox))]
#[case::a_network(Surroundings { home: None, docker: None, ..furnished() }, Err(Trouble::NoSuchBox))]
#[case::a_home(furnished(), Ok(Step::Perform(Change::CreateContainer)))]
fn what_may_not_be_made_must_be_there(#[case] around: Surroundings, #[case] expected: Result<Step, Trouble>) {
    let observed = observed(None, around);
    assert_eq!(next_step(Goal::Answering { make: false }, &wanted(RUNC), &observed), expected);
}

fn perform(change: Change) -> Step {
    Step::Perform(change)
}

#[rstest]
#[case::runs(Some(running(None)), Ok(perform(Change::Stop)), Ok(perform(Change::Stop)))]
#[case::rests(Some(stopped()), Ok(Step::Done), Ok(perform(Change::RemoveContainer)))]
#[case::never_ran(Some(State::Created), Ok(Step::Done), Ok(perform(Change::RemoveContainer)))]
#[case::frozen(Some(State::Paused), Err(Trouble::Paused), Ok(perform(Change::RemoveContainer)))]
#[case::dead(Some(State::Dead), Ok(Step::Done), Ok(perform(Change::RemoveContainer)))]
#[case::on_its_way(Some(State::Changing), Ok(Step::Wait), Ok(Step::Wait))]
#[case::none(None, Ok(Step::Done), Ok(Step::Done))]
fn down(
    #[case] state: Option<State>,
    #[case] stopped: Result<Step, Trouble>,
    #[case] unmade: Result<Step, Trouble>,
) {
    let observed = observed(state.map(container), furnished());
    assert_eq!(next_step(Goal::Stopped, &wanted(RUNC), &observed), stopped);
    assert_eq!(next_step(Goal::Unmade, &wanted(RUNC), &observed), unmade);
    let removed = next_step(Goal::Removed, &wanted(RUNC), &observed);
    let expected =
        if unmade == Ok(Step::Done) { Ok(perform(Change::RemoveVolume(Volume::Home))) } else { unmade };
    assert_eq!(removed, expected);
}

#[rstest]
#[case(furnished(), Ok(perform(Change::RemoveVolume(Volume::Home))))]
#[case(Surroundings { home: None, ..furnished() }, Ok(perform(Change::RemoveVolume(Volume::Docker))))]
#[case(Surroundings { home: None, docker: None, ..furnished() }, Ok(perform(Change::RemoveNetwork)))]
#[case(bare(), Ok(Step::Done))]
fn a_removal_goes_on_where_it_was(#[case] around: Surroundings, #[case] expected: Result<Step, Trouble>) {
    assert_eq!(next_step(Goal::Removed, &wanted(RUNC), &observed(None, around)), expected);
}

#[test]
fn of_two_networks_of_its_name_one_goes_before_anything_needs_the_name() {
    let around = || Surroundings { surplus: vec!["n2".to_owned()], ..furnished() };
    let expected = Step::Perform(Change::RemoveSurplus { network: "n2".to_owned() });
    for goal in [UP, Goal::Stopped, Goal::Unmade, Goal::Removed] {
        for container in [None, Some(container(stopped()))] {
            assert_eq!(next_step(goal, &wanted(RUNC), &observed(container, around())), Ok(expected.clone()));
        }
    }
    // The one that a running box is attached to may be either.
    let running = Some(container(running(Some([10, 201, 0, 2]))));
    assert!(matches!(next_step(UP, &wanted(RUNC), &observed(running, around())), Ok(Step::Probe { .. })));
}
