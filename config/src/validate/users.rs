//! `[users.NAME]`: names, keys, where more keys are, and what her boxes have otherwise than others'.

use std::collections::BTreeMap;

use super::{Check, devbox};
use crate::raw::{self, Field, line_of_path};
use crate::{AuthorizedKey, DevBoxName, KeyError, KeyUrl, KeyUrlError, LoginName, Overrides, User};

/// With `certified` a user may do without a key of her own: an authority of the gateway's vouches for her.
pub(super) fn users(
    raw: &BTreeMap<String, raw::User>,
    certified: bool,
    check: &mut Check<'_>,
) -> BTreeMap<LoginName, User> {
    let mut users = BTreeMap::new();
    for (name, raw) in raw {
        let setting = format!("users.{name}");
        let line = line_of_path(check.text, ["users", name]).unwrap_or(1);
        let user = user(&setting, line, raw, certified, check);
        match LoginName::parse(name) {
            Ok(login) => {
                users.insert(login, user);
            }
            Err(fault) => check.fault(
                line,
                &setting,
                format!("the name {fault}"),
                "choose a login name of at most 32 characters a-z, 0-9, '-' and '_' that starts with a letter",
            ),
        }
    }
    users
}

fn user(setting: &str, line: usize, raw: &raw::User, certified: bool, check: &mut Check<'_>) -> User {
    let keys = raw.keys.as_deref().unwrap_or_default();
    let urls = raw.key_urls.as_deref().unwrap_or_default();
    // A table about her boxes alone is for someone whose keys are in a file.
    let about_boxes = raw.devbox.is_some() || !raw.boxes.is_empty();
    if keys.is_empty() && urls.is_empty() && raw.github.is_none() && !certified && !about_boxes {
        check.fault(
            line,
            setting,
            "has no key, so nobody could log in",
            "add keys = [\"ssh-ed25519 AAAA… laptop\"] with the text of a .pub file, or github or key_urls, or \
             remove the user: a file in gateway.authorized_keys_dir needs no table here",
        );
    }
    let keys_setting = format!("{setting}.keys");
    let keys =
        keys.iter().filter_map(|field| key(&keys_setting, field, AuthorizedKey::parse, check)).collect();
    let github = raw.github.iter().filter_map(|field| {
        url(&format!("{setting}.github"), field, KeyUrl::of_github, "write a GitHub user's name", check)
    });
    let mut key_urls: Vec<_> = github.collect();
    let example = "write a URL that begins with https://, for example \"https://gitlab.com/alice.keys\"";
    key_urls.extend(
        urls.iter()
            .filter_map(|field| url(&format!("{setting}.key_urls"), field, KeyUrl::parse, example, check)),
    );
    let devbox = raw.devbox.as_ref().map(|raw| devbox::overrides(&format!("{setting}.box"), raw, check));
    User { keys, key_urls, devbox: devbox.unwrap_or_default(), boxes: boxes(setting, line, raw, check) }
}

fn boxes(
    setting: &str,
    line: usize,
    raw: &raw::User,
    check: &mut Check<'_>,
) -> BTreeMap<DevBoxName, Overrides> {
    let mut boxes = BTreeMap::new();
    for (name, raw) in &raw.boxes {
        let setting = format!("{setting}.boxes.{name}");
        let overrides = devbox::overrides(&setting, raw, check);
        if let Some(field) = &raw.max_boxes {
            let remedy = "write it in the user's own table [users.NAME.box]";
            check.fault(check.line(field), &format!("{setting}.max_boxes"), "is about one box alone", remedy);
        }
        match DevBoxName::parse(name) {
            Ok(name) => drop(boxes.insert(name, overrides)),
            Err(fault) => check.fault(
                line,
                &setting,
                format!("the name {fault}"),
                "choose a name of at most 24 characters a-z, 0-9, '-' and '_' that starts with a letter",
            ),
        }
    }
    boxes
}

/// A key that may have no options.
pub(super) fn plain_key(
    setting: &str,
    field: &Field<String>,
    check: &mut Check<'_>,
) -> Option<AuthorizedKey> {
    key(setting, field, AuthorizedKey::parse_plain, check)
}

fn key(
    setting: &str,
    field: &Field<String>,
    parse: fn(&str) -> Result<AuthorizedKey, KeyError>,
    check: &mut Check<'_>,
) -> Option<AuthorizedKey> {
    let parsed = field.value.clone().map(|line| parse(&line));
    let (problem, remedy) = match parsed {
        Ok(Ok(key)) => return Some(key),
        Ok(Err(fault)) => (format!("the key {fault}"), fault.remedy()),
        Err(problem) => (problem, "write each key as a text in double quotes"),
    };
    check.fault(check.line(field), setting, problem, remedy);
    None
}

fn url(
    setting: &str,
    field: &Field<String>,
    parse: fn(&str) -> Result<KeyUrl, KeyUrlError>,
    remedy: &str,
    check: &mut Check<'_>,
) -> Option<KeyUrl> {
    check.read(setting, Some(field), None, remedy, |text| {
        parse(&text).map(Some).map_err(|fault| format!("{text:?} {fault}"))
    })
}
