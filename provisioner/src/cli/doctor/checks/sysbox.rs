//! The runtime that boxes are to have.

use boxgate_config::Runtime;

use super::version::version;
use crate::cli::doctor::facts::Facts;
use crate::cli::doctor::finding::Finding;

/// 0.7.0 comes to a stop under many containers in boxes.
const OLDEST: (u32, u32, u32) = (0, 7, 1);

const CHECK: &str = "runtime";
const INSTALL: &str = "install Sysbox 0.7.1 or newer (https://github.com/nestybox/sysbox), then restart Docker and stop and start all boxes";

pub(super) fn runtime(facts: &Facts) -> Vec<Finding> {
    let Ok(engine) = &facts.engine else { return Vec::new() };
    let wanted = facts.config.devbox.runtime;
    let name = wanted.docker_name();
    if !engine.runtimes.contains_key(name) {
        let remedy = if wanted.isolates() { INSTALL } else { "set box.runtime to one that Docker has" };
        return vec![Finding::fail(CHECK, format!("Docker knows no {name}"), remedy)];
    }
    match wanted {
        Runtime::Runc { .. } => vec![Finding::warn(
            CHECK,
            "runc does not isolate: root in a box is root on this host",
            "for more than a trial set box.runtime = \"sysbox\"",
        )],
        Runtime::Sysbox => sysbox(facts),
    }
}

fn sysbox(facts: &Facts) -> Vec<Finding> {
    let known = facts.sysbox.version.as_deref();
    let age = match known.and_then(version) {
        None => Finding::warn(CHECK, "sysbox-runc does not tell its version", INSTALL),
        Some(version) if version < OLDEST => Finding::fail(
            CHECK,
            format!("sysbox {} comes to a stop under many containers in boxes", known.unwrap_or_default()),
            INSTALL,
        ),
        Some(_) => Finding::ok(CHECK, format!("sysbox {}", known.unwrap_or_default())),
    };
    let silent = facts.sysbox.silent.iter().map(|service| {
        let remedy = format!("systemctl restart sysbox, then boxgate restart --all; journalctl -u {service}");
        Finding::fail(CHECK, format!("{service} does not answer, so no box can start"), remedy)
    });
    [age].into_iter().chain(silent).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::testing::{facts, statuses};
    use super::*;
    use crate::cli::doctor::finding::Status;

    #[rstest]
    #[case(Some("0.7.1"), &[], &[Status::Ok])]
    #[case(Some("0.7.0"), &[], &[Status::Fail])]
    #[case(None, &[], &[Status::Warn])]
    #[case(Some("1.0.0"), &["sysbox-fs"], &[Status::Ok, Status::Fail])]
    fn versions_and_services(
        #[case] version: Option<&str>,
        #[case] silent: &[&'static str],
        #[case] expected: &[Status],
    ) {
        let mut facts = facts();
        facts.sysbox.version = version.map(str::to_owned);
        facts.sysbox.silent = silent.to_vec();
        assert_eq!(statuses(&runtime(&facts)), expected);
    }

    #[test]
    fn a_runtime_that_docker_does_not_know() {
        let mut facts = facts();
        facts.engine.as_mut().unwrap().runtimes.clear();
        assert_eq!(statuses(&runtime(&facts)), [Status::Fail]);
    }

    #[test]
    fn runc_is_never_ok() {
        let mut facts = facts();
        facts.config.devbox.runtime = Runtime::Runc { boxes_are_root_on_this_host: true };
        facts.engine.as_mut().unwrap().runtimes.insert("runc".to_owned(), None);
        assert_eq!(statuses(&runtime(&facts)), [Status::Warn]);
    }
}
