//! `show`: all that is known of one box.

use std::fmt::Display;

use boxgate_provisioner_api::BoxSummary;
use jiff::Timestamp;

use super::arguments::Show;
use super::error::{CliError, Exit};
use super::site::{Site, find};
use super::terminal::print;
use crate::failure::one_line;
use crate::listing::{self, age, size};

pub(super) async fn show(site: &Site, asked: &Show) -> Result<Exit, CliError> {
    let devbox = find(site.client()?.boxes_with_usage().await?, &asked.devbox)?;
    if asked.json {
        print(&(serde_json::to_string_pretty(&devbox)? + "\n"))?;
    } else {
        print(&described(&devbox, Timestamp::now()))?;
    }
    Ok(Exit::Done)
}

/// A line for each thing that is known.
fn described(devbox: &BoxSummary, now: Timestamp) -> String {
    let limits = &devbox.limits;
    let usage = devbox.usage.as_ref();
    let lines = [
        ("box", Some(devbox.id.to_string())),
        ("user", Some(devbox.id.owner.to_string())),
        ("state", Some(listing::state(devbox.state).to_owned())),
        ("reason", devbox.reason.clone()),
        ("since", devbox.since.as_ref().map(|since| moment(since, now))),
        ("connections", Some(devbox.connections.to_string())),
        ("idle", devbox.idle_seconds.map(|seconds| format!("{seconds} s"))),
        ("kept until", devbox.keep_until.as_ref().map(|until| moment(until, now))),
        ("CPU", Some(of(usage.map(|usage| format!("{:.2}", usage.cpus)), limits.cpus))),
        ("memory", Some(of(usage.map(|usage| size(usage.memory_bytes)), size(limits.memory_bytes)))),
        ("processes", Some(of(usage.map(|usage| usage.pids), limits.pids))),
        ("disk", disk(devbox)),
        ("image", devbox.image.clone()),
        ("outdated", devbox.outdated.then(|| "moves to another image at its next cold start".to_owned())),
        ("isolation", Some(isolation(devbox).to_owned())),
        ("address", devbox.address.map(|address| address.to_string())),
        ("container", Some(devbox.container.clone())),
    ];
    let known = lines.into_iter().filter_map(|(name, value)| Some((name, value?)));
    known.map(|(name, value)| format!("{name:<12} {}\n", one_line(&value))).collect::<Vec<_>>().concat()
}

/// `2026-03-01T12:00:00Z (3 h)`.
fn moment(moment: &str, now: Timestamp) -> String {
    age(moment, now).map_or_else(|| moment.to_owned(), |age| format!("{moment} ({age})"))
}

/// `0.25 of 2`, `at most 2` when what is used is not known.
fn of(used: Option<impl Display>, limit: impl Display) -> String {
    used.map_or_else(|| format!("at most {limit}"), |used| format!("{used} of {limit}"))
}

fn disk(devbox: &BoxSummary) -> Option<String> {
    let used = devbox.disk_bytes.map(size);
    match devbox.limits.disk_bytes {
        Some(limit) => Some(of(used, format!("{} in each volume", size(limit)))),
        None => used,
    }
}

fn isolation(devbox: &BoxSummary) -> &'static str {
    if devbox.isolated { "isolated" } else { "none: root in it is root on this host" }
}

#[cfg(test)]
mod tests {
    use boxgate_provisioner_api::{BoxState, Limits, Usage};

    use super::*;
    use crate::testing;

    fn failed() -> BoxSummary {
        BoxSummary {
            reason: Some("its sshd did not answer\n\u{1b}[2Jwithin 60s".to_owned()),
            isolated: false,
            ..testing::summary("alice+web", BoxState::Failed)
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        insta::assert_snapshot!(described(&failed(), now));
    }

    #[test]
    fn all_that_is_known() {
        let devbox = BoxSummary {
            state: BoxState::Ready,
            reason: None,
            since: Some("2026-03-01T09:00:00Z".to_owned()),
            image: Some("boxgate/box:latest".to_owned()),
            outdated: true,
            isolated: true,
            address: Some([10, 201, 0, 2].into()),
            connections: 2,
            idle_seconds: Some(7),
            keep_until: Some("2026-03-01T20:00:00Z".to_owned()),
            limits: Limits { disk_bytes: Some(20 << 30), ..failed().limits },
            usage: Some(Usage { cpus: 0.254, memory_bytes: 60 << 20, pids: 40 }),
            disk_bytes: Some(3 << 30),
            ..failed()
        };
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        insta::assert_snapshot!(described(&devbox, now));
    }
}
