//! What boxes are made from, what they were promised, and who makes them.

use boxgate_provisioner_api::{BoxState, BoxSummary, Engine, Orphan};
use jiff::Timestamp;

use crate::cli::doctor::facts::Facts;
use crate::cli::doctor::finding::Finding;
use crate::listing::size;

/// An image that is older lacks months of security updates.
const IMAGE_OLD_DAYS: i64 = 90;
const SECONDS_PER_DAY: i64 = 24 * 3600;

pub(super) fn image(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "image";
    let Ok(engine) = &facts.engine else { return Vec::new() };
    let name = &facts.config.devbox.settings.image;
    let Some(image) = &engine.image else {
        let remedy =
            "run ./devhost up or ami/box/build.sh, or set box.image to one that docker image ls shows";
        return vec![Finding::fail(CHECK, format!("{name} is not on this host"), remedy)];
    };
    let days = image.created.as_deref().and_then(|created| created.parse::<Timestamp>().ok());
    let days = days.map(|created| facts.now.duration_since(created).as_secs() / SECONDS_PER_DAY);
    let finding = match days {
        Some(days) if days > IMAGE_OLD_DAYS => Finding::warn(
            CHECK,
            format!("{name} is {days} days old and lacks the updates since"),
            "make it anew with ami/box/build.sh; boxes move to it at their next cold start",
        ),
        Some(days) => Finding::ok(CHECK, format!("{name} is {days} days old")),
        None => Finding::ok(CHECK, name),
    };
    vec![finding]
}

/// What running boxes may use, against what the host has.
pub(super) fn memory(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "memory";
    let (Ok(engine), Ok(boxes)) = (&facts.engine, &facts.boxes) else { return Vec::new() };
    let promised = boxes.iter().filter(|devbox| runs(devbox)).map(|devbox| devbox.limits.memory_bytes).sum();
    let message = format!("running boxes were promised {} of {}", size(promised), size(engine.memory_bytes));
    vec![if promised > engine.memory_bytes {
        let remedy = "stop boxes that nobody uses, or lower box.memory or provisioner.memory_share: a host that runs out of memory ends whatever it likes";
        Finding::warn(CHECK, message, remedy)
    } else {
        Finding::ok(CHECK, message)
    }]
}

fn runs(devbox: &BoxSummary) -> bool {
    !matches!(devbox.state, BoxState::Stopped | BoxState::Failed | BoxState::Removing)
}

pub(super) fn provisioner(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "provisioner";
    let health = match &facts.health {
        Ok(health) => health,
        Err(fault) => {
            let remedy = "systemctl status boxgate-provisioner; journalctl -u boxgate-provisioner says why";
            return vec![Finding::fail(CHECK, fault, remedy)];
        }
    };
    let ours = env!("CARGO_PKG_VERSION");
    let answers = match &health.engine {
        Engine::Unavailable { reason } => Finding::fail(
            CHECK,
            format!("it answers, but cannot work: {reason}"),
            "is provisioner.docker_socket the one that Docker listens on?",
        ),
        Engine::Ok if health.version != ours => Finding::warn(
            CHECK,
            format!("version {} runs, {ours} is installed", health.version),
            "restart it: boxes and connections go on meanwhile",
        ),
        Engine::Ok => Finding::ok(CHECK, format!("version {} answers", health.version)),
    };
    [answers].into_iter().chain(listed(facts)).chain([leftovers(facts)]).collect()
}

/// Boxes that do not work, and those that were made in another way than the next ones.
fn listed(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "boxes";
    let boxes = match &facts.boxes {
        Ok(boxes) => boxes,
        Err(fault) => return vec![Finding::fail(CHECK, fault, "journalctl -u boxgate-provisioner says why")],
    };
    let named = |those: fn(&BoxSummary) -> bool| -> Vec<String> {
        boxes.iter().filter(|devbox| those(devbox)).map(|devbox| devbox.id.to_string()).collect()
    };
    let failed = named(|devbox| devbox.state == BoxState::Failed);
    let open = named(|devbox| !devbox.isolated);
    let mut findings = vec![if failed.is_empty() {
        Finding::ok(CHECK, format!("there are {}, and none failed", boxes.len()))
    } else {
        let remedy =
            "boxgate show BOX says why, boxgate logs BOX what it said, boxgate start BOX tries again";
        Finding::warn(CHECK, format!("failed: {}", failed.join(", ")), remedy)
    }];
    if facts.config.devbox.runtime.isolates() && !open.is_empty() {
        let message = format!("made without isolation: {}", open.join(", "));
        findings.push(Finding::fail(CHECK, message, "boxgate reset BOX makes each anew; homes stay"));
    }
    findings
}

fn leftovers(facts: &Facts) -> Finding {
    const CHECK: &str = "leftovers";
    let report = match &facts.leftovers {
        Ok(report) => report,
        Err(fault) => {
            return Finding::warn(CHECK, fault, "ask again as root, with a provisioner of this version");
        }
    };
    if report.orphans.is_empty() {
        return Finding::ok(CHECK, "there are none");
    }
    let (removed, left): (Vec<_>, Vec<_>) = report.orphans.iter().partition(|orphan| orphan.removed);
    if left.is_empty() {
        return Finding::ok(CHECK, format!("removed {}", names(&removed)));
    }
    let message = format!("no box needs {}", names(&left));
    if facts.fix {
        let remedy = "boxgate gc says of each why it is still there; remove by hand what nobody misses";
        Finding::warn(CHECK, message, remedy)
    } else {
        Finding::warn(CHECK, message, "boxgate doctor --fix, or boxgate gc, removes what may go")
    }
}

fn names(orphans: &[&Orphan]) -> String {
    let kind = crate::cli::gc::kind;
    let names = orphans.iter().map(|orphan| format!("{} {}", kind(orphan.kind), orphan.name));
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use boxgate_config::Runtime;
    use boxgate_provisioner_api::{GcReport, OrphanKind};
    use rstest::rstest;

    use super::super::testing::{facts, statuses};
    use super::*;
    use crate::cli::doctor::finding::Status;
    use crate::testing::summary;

    #[rstest]
    #[case(Some("2026-02-20T12:00:00.123456789Z"), Status::Ok)]
    #[case(Some("2025-10-01T12:00:00Z"), Status::Warn)]
    #[case(None, Status::Ok)]
    fn images(#[case] created: Option<&str>, #[case] expected: Status) {
        let mut facts = facts();
        let image = facts.engine.as_mut().unwrap().image.as_mut().unwrap();
        image.created = created.map(str::to_owned);
        assert_eq!(statuses(&super::image(&facts)), [expected]);
    }

    #[test]
    fn no_image() {
        let mut facts = facts();
        facts.engine.as_mut().unwrap().image = None;
        assert_eq!(statuses(&image(&facts)), [Status::Fail]);
    }

    #[test]
    fn only_running_boxes_use_memory() {
        let mut facts = facts();
        facts.engine.as_mut().unwrap().memory_bytes = 10 << 30;
        facts.boxes = Ok((0..3).map(|_| summary("alice", BoxState::Ready)).collect());
        assert_eq!(statuses(&memory(&facts)), [Status::Warn]);
        facts.boxes.as_mut().unwrap()[0].state = BoxState::Stopped;
        assert_eq!(statuses(&memory(&facts)), [Status::Ok]);
    }

    #[test]
    fn a_provisioner_that_does_not_answer_is_said_once() {
        let mut facts = facts();
        facts.health = Err("cannot be reached".to_owned());
        assert_eq!(statuses(&provisioner(&facts)), [Status::Fail]);
    }

    #[test]
    fn a_provisioner_without_an_engine_or_of_another_version() {
        let mut facts = facts();
        facts.health.as_mut().unwrap().version = "0.0.1".to_owned();
        assert_eq!(statuses(&provisioner(&facts))[0], Status::Warn);
        let reason = "connection refused".to_owned();
        facts.health.as_mut().unwrap().engine = Engine::Unavailable { reason };
        assert_eq!(statuses(&provisioner(&facts))[0], Status::Fail);
    }

    #[test]
    fn boxes_that_failed_or_are_not_isolated() {
        let mut facts = facts();
        let boxes = facts.boxes.as_mut().unwrap();
        boxes.push(BoxSummary { isolated: false, ..summary("bob", BoxState::Failed) });
        let findings = listed(&facts);
        assert_eq!(statuses(&findings), [Status::Warn, Status::Fail]);
        assert_eq!(findings[0].message, "failed: bob");
        facts.config.devbox.runtime = Runtime::Runc { boxes_are_root_on_this_host: true };
        assert_eq!(statuses(&listed(&facts)), [Status::Warn]);
    }

    #[rstest]
    #[case(false, false, Status::Warn, "no box needs network boxgate.bob")]
    #[case(true, true, Status::Ok, "removed network boxgate.bob")]
    #[case(true, false, Status::Warn, "no box needs network boxgate.bob")]
    fn what_is_left_over(
        #[case] fix: bool,
        #[case] removed: bool,
        #[case] expected: Status,
        #[case] says: &str,
    ) {
        let mut facts = facts();
        facts.fix = fix;
        let (kind, name, reason) = (OrphanKind::Network, "boxgate.bob".to_owned(), String::new());
        let orphan = Orphan { kind, name, reason, removed, fault: None };
        facts.leftovers = Ok(GcReport { orphans: vec![orphan] });
        let finding = leftovers(&facts);
        assert_eq!((finding.status, finding.message.as_str()), (expected, says));
    }
}
