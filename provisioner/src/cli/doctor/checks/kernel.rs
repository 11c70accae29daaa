//! The kernel: its version, what its limits let boxes do, its clock.

use super::version::version;
use crate::cli::doctor::facts::Facts;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::host::Clock;

/// ID-mapped mounts, without which a box's volumes belong to nobody in it.
const ID_MAPPED: (u32, u32, u32) = (5, 12, 0);
/// ID-mapped mounts on overlayfs, without which Sysbox changes the owner of every file of an image.
const ID_MAPPED_OVERLAY: (u32, u32, u32) = (5, 19, 0);

/// A limit that all boxes share, since their users are the same few to the kernel.
struct Limit {
    check: &'static str,
    sysctl: &'static str,
    /// What one box in good use needs of it.
    per_box: u64,
    /// Boxes do not work at all with less.
    least: u64,
    recommended: u64,
    what: &'static str,
}

const LIMITS: [Limit; 4] = [
    Limit {
        check: "inotify",
        sysctl: "fs.inotify.max_user_instances",
        per_box: 128,
        least: 64,
        recommended: 1_048_576,
        what: "systemd, IDEs and kubelets fail with \"too many open files\"",
    },
    Limit {
        check: "inotify",
        sysctl: "fs.inotify.max_user_watches",
        per_box: 65_536,
        least: 8192,
        recommended: 1_048_576,
        what: "IDEs and file watchers stop seeing changes",
    },
    Limit {
        check: "keys",
        sysctl: "kernel.keys.maxkeys",
        per_box: 200,
        least: 100,
        recommended: 20_000,
        what: "containers in boxes fail to start with \"disk quota exceeded\"",
    },
    Limit {
        check: "keys",
        sysctl: "kernel.keys.maxbytes",
        per_box: 20_000,
        least: 10_000,
        recommended: 2_000_000,
        what: "containers in boxes fail to start with \"disk quota exceeded\"",
    },
];

const PID_MAX: &str = "kernel.pid_max";
/// Most that a 64-bit kernel takes.
const PID_MAX_RECOMMENDED: u64 = 4_194_304;

pub(super) fn release(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "kernel";
    let release = match &facts.kernel {
        Ok(release) => release,
        Err(fault) => {
            return vec![Finding::warn(CHECK, format!("its version cannot be read: {fault}"), "mount /proc")];
        }
    };
    let newer = "install a kernel of at least 5.19, for example that of Ubuntu 24.04";
    let finding = match (facts.config.devbox.runtime.isolates(), version(release)) {
        (true, None) => Finding::warn(CHECK, format!("{release} is no version known here"), newer),
        (true, Some(version)) if version < ID_MAPPED => {
            Finding::fail(CHECK, format!("{release} has no ID-mapped mounts, which Sysbox needs"), newer)
        }
        (true, Some(version)) if version < ID_MAPPED_OVERLAY => Finding::warn(
            CHECK,
            format!("{release} cannot ID-map overlayfs, so that Sysbox makes boxes slowly"),
            newer,
        ),
        _ => Finding::ok(CHECK, release),
    };
    let namespaces = facts.sysctls.get("user.max_user_namespaces");
    if facts.config.devbox.runtime.isolates() && namespaces == Some(&0) {
        let remedy = persist("user.max_user_namespaces", 65_536);
        return vec![finding, Finding::fail(CHECK, "user namespaces are switched off", remedy)];
    }
    vec![finding]
}

pub(super) fn limits(facts: &Facts) -> Vec<Finding> {
    let limits = LIMITS.iter().map(|limit| shared(limit, facts));
    limits.chain([processes(facts), forwarding(facts)]).collect()
}

fn shared(limit: &Limit, facts: &Facts) -> Finding {
    let Some(value) = facts.sysctls.get(limit.sysctl) else {
        return Finding::warn(limit.check, format!("{} cannot be read", limit.sysctl), "mount /proc");
    };
    let boxes = facts.box_count();
    let message = format!("{} is {value}", limit.sysctl);
    // A machine for a few boxes needs no more than these.
    let enough = limit.per_box.saturating_mul(boxes);
    if *value < limit.least {
        let message = format!("{message}, too little for any box: {}", limit.what);
        Finding::fail(limit.check, message, persist(limit.sysctl, limit.recommended))
    } else if *value < enough.min(limit.recommended) {
        let message = format!("{message}, little for {}: {}", counted(boxes), limit.what);
        Finding::warn(limit.check, message, persist(limit.sysctl, limit.recommended))
    } else {
        Finding::ok(limit.check, message)
    }
}

fn counted(boxes: u64) -> String {
    if boxes == 1 { "a box".to_owned() } else { format!("{boxes} boxes") }
}

/// All boxes share the numbers of processes, whatever each may have.
fn processes(facts: &Facts) -> Finding {
    const CHECK: &str = "pids";
    let Some(value) = facts.sysctls.get(PID_MAX) else {
        return Finding::warn(CHECK, format!("{PID_MAX} cannot be read"), "mount /proc");
    };
    let each = u64::try_from(facts.config.devbox.settings.limits.pids).unwrap_or_default();
    let wanted = each.saturating_mul(facts.box_count() + 1).min(PID_MAX_RECOMMENDED);
    let message = format!("{PID_MAX} is {value}");
    if *value <= each {
        let message =
            format!("{message}: one box, which may have {each} processes, could use up all of them");
        Finding::fail(CHECK, message, persist(PID_MAX, PID_MAX_RECOMMENDED))
    } else if *value < wanted {
        let message =
            format!("{message}: a few boxes, which may have {each} processes each, could use up all");
        Finding::warn(CHECK, message, persist(PID_MAX, PID_MAX_RECOMMENDED))
    } else {
        Finding::ok(CHECK, message)
    }
}

fn forwarding(facts: &Facts) -> Finding {
    const CHECK: &str = "forwarding";
    match facts.sysctls.get("net.ipv4.ip_forward") {
        Some(0) => {
            let message = "net.ipv4.ip_forward is 0: boxes reach nothing";
            Finding::fail(CHECK, message, persist("net.ipv4.ip_forward", 1))
        }
        Some(_) => Finding::ok(CHECK, "net.ipv4.ip_forward is 1"),
        None => Finding::warn(CHECK, "net.ipv4.ip_forward cannot be read", "mount /proc"),
    }
}

pub(super) fn clock(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "clock";
    let finding = match facts.clock {
        Clock::Synchronised => Finding::ok(CHECK, "it is synchronised"),
        Clock::NotSynchronised => Finding::warn(
            CHECK,
            "it is not synchronised: keys and certificates expire too early or too late",
            "install chrony, or: timedatectl set-ntp true",
        ),
        Clock::Unknown => Finding::warn(
            CHECK,
            "nothing here says whether it is synchronised",
            "install chrony, or run under systemd-timesyncd",
        ),
    };
    vec![finding]
}

/// Now and after the next start.
fn persist(sysctl: &str, value: u64) -> String {
    format!("sysctl -w {sysctl}={value}, and the line {sysctl} = {value} in /etc/sysctl.d/60-boxgate.conf")
}

#[cfg(test)]
mod tests {
    use boxgate_config::Runtime;
    use rstest::rstest;

    use super::super::testing::{facts, statuses};
    use super::*;
    use crate::cli::doctor::finding::Status;

    const RUNC: Runtime = Runtime::Runc { boxes_are_root_on_this_host: true };

    #[rstest]
    #[case(Runtime::Sysbox, "6.8.0-48-generic", Status::Ok)]
    #[case(Runtime::Sysbox, "5.19.0", Status::Ok)]
    #[case(Runtime::Sysbox, "5.15.0-1051-aws", Status::Warn)]
    #[case(Runtime::Sysbox, "5.12.0", Status::Warn)]
    #[case(Runtime::Sysbox, "5.11.22", Status::Fail)]
    #[case(Runtime::Sysbox, "4.19.0", Status::Fail)]
    #[case(Runtime::Sysbox, "odd", Status::Warn)]
    #[case(RUNC, "4.19.0", Status::Ok)]
    fn releases(#[case] runtime: Runtime, #[case] release: &str, #[case] expected: Status) {
        let mut facts = facts();
        facts.config.devbox.runtime = runtime;
        facts.kernel = Ok(release.to_owned());
        assert_eq!(statuses(&super::release(&facts)), [expected]);
    }

    #[test]
    fn user_namespaces_that_are_switched_off() {
        let mut facts = facts();
        facts.sysctls.insert("user.max_user_namespaces", 0);
        assert_eq!(statuses(&release(&facts)), [Status::Ok, Status::Fail]);
    }

    #[rstest]
    #[case("fs.inotify.max_user_instances", 1_048_576, Status::Ok)]
    #[case("fs.inotify.max_user_instances", 128, Status::Warn)]
    #[case("fs.inotify.max_user_instances", 32, Status::Fail)]
    #[case("fs.inotify.max_user_watches", 524_288, Status::Ok)]
    #[case("fs.inotify.max_user_watches", 65_536, Status::Warn)]
    #[case("kernel.keys.maxkeys", 200, Status::Warn)]
    #[case("kernel.keys.maxbytes", 20_000, Status::Warn)]
    #[case("kernel.keys.maxkeys", 10, Status::Fail)]
    #[case(PID_MAX, 32_768, Status::Warn)]
    #[case(PID_MAX, 16_384, Status::Fail)]
    #[case(PID_MAX, 4_194_304, Status::Ok)]
    #[case("net.ipv4.ip_forward", 0, Status::Fail)]
    fn each_limit(#[case] sysctl: &'static str, #[case] value: u64, #[case] expected: Status) {
        let mut facts = facts();
        facts.sysctls.insert(sysctl, value);
        let findings = limits(&facts);
        let found = findings.iter().find(|finding| finding.message.starts_with(sysctl)).unwrap();
        assert_eq!(found.status, expected, "{found:?}");
        assert_eq!(found.remedy.is_some(), expected != Status::Ok);
        assert!(findings.iter().filter(|other| *other != found).all(|other| other.status == Status::Ok));
    }

    #[test]
    fn one_box_needs_less_than_many() {
        let mut facts = facts();
        facts.boxes = Ok(Vec::new());
        facts.sysctls.insert("fs.inotify.max_user_instances", 128);
        assert!(statuses(&limits(&facts)).iter().all(|status| *status == Status::Ok));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let mut facts = facts();
        facts.sysctls.clear();
        assert!(statuses(&limits(&facts)).iter().all(|status| *status == Status::Warn));
    }

    #[rstest]
    #[case(Clock::Synchronised, Status::Ok)]
    #[case(Clock::NotSynchronised, Status::Warn)]
    #[case(Clock::Unknown, Status::Warn)]
    fn clocks(#[case] clock: Clock, #[case] expected: Status) {
        let mut facts = facts();
        facts.clock = clock;
        assert_eq!(statuses(&super::clock(&facts)), [expected]);
    }
}
