//! `[groups.NAME]`: people whose boxes may have more or less than others'.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, devbox};
use crate::raw;
use crate::{Group, LoginName};

pub(super) fn groups(raw: &BTreeMap<String, raw::Group>, check: &mut Check<'_>) -> BTreeMap<String, Group> {
    let mut elsewhere: BTreeMap<LoginName, &str> = BTreeMap::new();
    let mut groups = BTreeMap::new();
    for (name, raw) in raw {
        let members = members(name, raw, &mut elsewhere, check);
        let overrides = devbox::overrides(&format!("groups.{name}.box"), &raw.devbox, check);
        groups.insert(name.clone(), Group { members, devbox: overrides });
    }
    groups
}

fn members<'a>(
    name: &'a str,
    raw: &raw::Group,
    elsewhere: &mut BTreeMap<LoginName, &'a str>,
    check: &mut Check<'_>,
) -> BTreeSet<LoginName> {
    let setting = format!("groups.{name}.members");
    let mut members = BTreeSet::new();
    for field in &raw.members {
        let remedy = "write each member as her login name in double quotes, for example \"alice\"";
        let member = check.read(&setting, Some(field), None, remedy, |login| {
            LoginName::parse(&login).map(Some).map_err(|fault| format!("the name {login:?} {fault}"))
        });
        let Some(member) = member else { continue };
        // Two groups might say two things of one box, and nobody could tell which counts.
        if let Some(other) = elsewhere.insert(member.clone(), name)
            && other != name
        {
            let problem = format!("{member} is in the group {other} too");
            check.fault(check.line(field), &setting, problem, "let her be in one of them only");
        }
        members.insert(member);
    }
    members
}
