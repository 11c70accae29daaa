//! Whose Boxgate's files are, and who may look into them.

use crate::cli::doctor::facts::Facts;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::host::{FileFact, Rule};

const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
const GROUP_OR_OTHERS: u32 = 0o077;

/// Whether the rest can be believed.
pub(super) fn user(facts: &Facts) -> Vec<Finding> {
    if facts.root {
        return Vec::new();
    }
    vec![Finding::warn("user", "without root not everything can be seen", "sudo boxgate doctor")]
}

pub(super) fn permissions(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "permissions";
    let findings: Vec<_> = facts.files.iter().filter_map(file).collect();
    if !findings.is_empty() {
        return findings;
    }
    let there = facts.files.iter().filter(|file| file.found.is_some()).count();
    vec![Finding::ok(
        CHECK,
        format!("all {there} files and directories that were looked at are as they must be"),
    )]
}

/// What is wrong with one; what is not there is made with the right permissions.
fn file(file: &FileFact) -> Option<Finding> {
    const CHECK: &str = "permissions";
    let (mode, uid) = file.found?;
    let path = file.path.display();
    if uid != 0 && file.owner != Some(uid) {
        let message = format!("{path} belongs to user {uid}");
        return Some(Finding::fail(CHECK, message, format!("chown root {path}")));
    }
    let (bad, trouble, remedy) = match file.rule {
        Rule::Unwritable => (GROUP_OR_OTHERS_WRITE, "others than its owner may write it", "go-w"),
        Rule::Private => (GROUP_OR_OTHERS, "others than its owner may look into it", "go="),
    };
    (mode & bad != 0).then(|| {
        let message = format!("{path} has mode {mode:o}: {trouble}");
        Finding::fail(CHECK, message, format!("chmod {remedy} {path}"))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::testing::{facts, statuses};
    use super::*;
    use crate::cli::doctor::finding::Status;

    #[rstest]
    #[case(Rule::Unwritable, Some((0o644, 0)), None)]
    #[case(Rule::Unwritable, Some((0o640, 0)), None)]
    #[case(Rule::Unwritable, Some((0o664, 0)), Some("chmod go-w /etc/x"))]
    #[case(Rule::Private, Some((0o700, 7)), None)]
    #[case(Rule::Private, Some((0o750, 7)), Some("chmod go= /etc/x"))]
    #[case(Rule::Private, Some((0o700, 8)), Some("chown root /etc/x"))]
    #[case(Rule::Private, None, None)]
    fn each_rule(#[case] rule: Rule, #[case] found: Option<(u32, u32)>, #[case] remedy: Option<&str>) {
        let mut facts = facts();
        facts.files = vec![FileFact { path: "/etc/x".into(), rule, owner: Some(7), found }];
        let findings = permissions(&facts);
        let expected = if remedy.is_some() { Status::Fail } else { Status::Ok };
        assert_eq!(statuses(&findings), [expected]);
        assert_eq!(findings[0].remedy.as_deref(), remedy);
    }

    #[test]
    fn who_asks() {
        let mut facts = facts();
        assert!(user(&facts).is_empty());
        facts.root = false;
        assert_eq!(statuses(&user(&facts)), [Status::Warn]);
    }
}
