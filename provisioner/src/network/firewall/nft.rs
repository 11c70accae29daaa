//! Runs nft(8), which alone talks to the kernel: one transaction a call.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::FirewallFault;
use super::rules::{HOOKS, Rules};

const PROGRAM: &str = "nft";
/// It takes milliseconds, unless the host is in distress.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a table holds: every object without its handle, which is new each time that it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing(Vec<Value>);

/// Makes the rules, in place of those that were there.
pub(super) async fn make(rules: &Rules) -> Result<(), FirewallFault> {
    run(&["-f", "-"], &rules.text).await.map(drop)
}

/// What is there of the installation's table.
pub(super) async fn list(table: &str) -> Result<Listing, FirewallFault> {
    match run(&["-j", "list", "table", "inet", table], "").await {
        Ok(output) => Listing::parse(&output.stdout),
        Err(FirewallFault::Refused(said)) if said.contains("No such file or directory") => {
            Err(FirewallFault::Absent { table: table.to_owned() })
        }
        Err(fault) => Err(fault),
    }
}

async fn run(arguments: &[&str], input: &str) -> Result<Output, FirewallFault> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends before it has read all says why on stderr.
            drop(stdin.write_all(input.as_bytes()).await);
        }
        child.wait_with_output().await
    };
    match timeout(PATIENCE, running).await {
        Ok(Ok(output)) if output.status.success() => Ok(output),
        Ok(Ok(output)) => Err(complaint(&String::from_utf8_lossy(&output.stderr))),
        Ok(Err(fault)) if fault.kind() == std::io::ErrorKind::NotFound => Err(FirewallFault::NotInstalled),
        Ok(Err(fault)) => Err(FirewallFault::Refused(format!("{PROGRAM} cannot be run: {fault}"))),
        Err(_) => Err(FirewallFault::TimedOut { after: PATIENCE }),
    }
}

/// What nft wrote: a line or two for each thing that the kernel refused.
fn complaint(stderr: &str) -> FirewallFault {
    let first = stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("nft does not say why");
    if first.contains("Operation not permitted") {
        FirewallFault::NotPermitted
    } else {
        FirewallFault::Refused(first.to_owned())
    }
}

impl Listing {
    fn parse(json: &[u8]) -> Result<Self, FirewallFault> {
        let strange = |what: &str| FirewallFault::Refused(format!("{PROGRAM} -j lists no rules: {what}"));
        let mut listing: Value = serde_json::from_slice(json).map_err(|fault| strange(&fault.to_string()))?;
        let Some(Value::Array(objects)) = listing.get_mut("nftables").map(Value::take) else {
            return Err(strange("there is no list in it"));
        };
        Ok(Self(objects.into_iter().filter_map(without_handle).collect()))
    }

    /// Whether these are the rules, as far as a look can tell that does not know how this version of nft shows
    /// each of them.
    pub(super) fn is_of(&self, rules: &Rules) -> bool {
        let texts = |kind: &str, key: &str| -> Vec<&str> {
            let of_kind = self.0.iter().filter_map(|object| object.get(kind));
            of_kind.filter_map(|object| object.get(key)?.as_str()).collect()
        };
        let awake =
            self.0.iter().filter_map(|object| object.get("table")).all(|table| table.get("flags").is_none());
        awake
            && texts("chain", "hook") == HOOKS
            && texts("chain", "name").contains(&rules.mark.as_str())
            && texts("rule", "comment") == rules.comments()
    }
}

/// `{"rule": {"handle": 7, …}}` without the handle, and nothing for what is about nft itself.
fn without_handle(mut object: Value) -> Option<Value> {
    let fields = object.as_object_mut()?;
    if fields.contains_key("metainfo") {
        return None;
    }
    for inner in fields.values_mut().filter_map(Value::as_object_mut) {
        inner.remove("handle");
    }
    Some(object)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::*;
    use crate::testing;

    #[rstest]
    #[case::other(
        "\n-:3:1-2: Error: syntax error\n-:4:1-2: Error: and so on\n",
        "-:3:1-2: Error: syntax error"
    )]
    #[case::silent("", "nft does not say why")]
    fn complaints(#[case] stderr: &str, #[case] expected: &str) {
        assert_eq!(complaint(stderr), FirewallFault::Refused(expected.to_owned()));
    }

    #[test]
    fn a_provisioner_without_the_privilege() {
        let stderr =
            "Operation not permitted (you must be root)\nnetlink: Error: cache initialization failed\n";
        assert_eq!(complaint(stderr), FirewallFault::NotPermitted);
    }

    #[rstest]
    #[case("")]
    #[case("{}")]
    #[case(r#"{"nftables": 7}"#)]
    fn what_is_no_listing(#[case] json: &str) {
        Listing::parse(json.as_bytes()).unwrap_err();
    }

    /// A listing with what a look goes by.
    fn listing(rules: &Rules, change: impl FnOnce(&mut Vec<Value>)) -> Listing {
        let mut objects = vec![
            serde_json::json!({"metainfo": {"version": "1.0.6"}}),
            serde_json::json!({"table": {"name": rules.table, "handle": 3}}),
            serde_json::json!({"chain": {"name": rules.mark, "handle": 1}}),
        ];
        objects.extend(HOOKS.map(|hook| serde_json::json!({"chain": {"name": hook, "hook": hook}})));
        objects.extend(rules.comments().iter().map(|why| serde_json::json!({"rule": {"comment": why}})));
        change(&mut objects);
        Listing::parse(&serde_json::to_vec(&serde_json::json!({"nftables": objects})).unwrap()).unwrap()
    }

    #[test]
    fn a_look_tells_rules_that_are_there_from_others() {
        let rules = Rules::new(&testing::config(), &BTreeSet::new());
        assert!(listing(&rules, |_| {}).is_of(&rules));
        assert!(!listing(&rules, |objects| drop(objects.pop())).is_of(&rules), "a rule is gone");
        assert!(!listing(&rules, |objects| drop(objects.remove(3))).is_of(&rules), "a hook is gone");
        let dormant =
            |objects: &mut Vec<Value>| objects[1]["table"]["flags"] = serde_json::json!(["dormant"]);
        assert!(!listing(&rules, dormant).is_of(&rules), "the table sleeps");
        let mut config = testing::config();
        config.provisioner.network_pool = "10.202.0.0/16".parse().unwrap();
        let others = Rules::new(&config, &BTreeSet::new());
        assert!(!listing(&rules, |_| {}).is_of(&others), "they are of another pool");
    }

    #[test]
    fn handles_are_no_difference() {
        let rules = Rules::new(&testing::config(), &BTreeSet::new());
        let later = |objects: &mut Vec<Value>| objects[1]["table"]["handle"] = serde_json::json!(7);
        assert_eq!(listing(&rules, later), listing(&rules, |_| {}));
    }
}
