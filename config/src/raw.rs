//! The shapes of the TOML file as written. Reading them never stops at the first trouble: a value of the
//! wrong type is kept as a fault in its [`Field`], and unknown keys are gathered beside.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::Fault;

/// A value with its place, or why the value there is none.
#[derive(Debug)]
pub(crate) struct Field<T> {
    pub(crate) span: Range<usize>,
    pub(crate) value: Result<T, String>,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Field<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<toml::Value>::deserialize(deserializer)?;
        let span = spanned.span();
        let value = T::deserialize(spanned.into_inner()).map_err(|fault| fault.message().to_owned());
        Ok(Self { span, value })
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct File {
    #[serde(default)]
    pub(crate) gateway: Gateway,
    #[serde(default)]
    pub(crate) provisioner: Provisioner,
    #[serde(default, rename = "box")]
    pub(crate) devbox: DevBox,
    #[serde(default)]
    pub(crate) groups: BTreeMap<String, Group>,
    #[serde(default)]
    pub(crate) users: BTreeMap<String, User>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Gateway {
    pub(crate) listen: Option<Field<Vec<String>>>,
    pub(crate) public_name: Option<Field<String>>,
    pub(crate) state_dir: Option<Field<String>>,
    pub(crate) login_grace_time: Option<Field<String>>,
    pub(crate) max_auth_tries: Option<Field<i64>>,
    pub(crate) max_startups: Option<Field<Startups>>,
    pub(crate) max_connections: Option<Field<i64>>,
    pub(crate) spare_connections: Option<Field<i64>>,
    pub(crate) host_certificates: Option<Vec<Field<String>>>,
    pub(crate) authorized_keys_dir: Option<Field<String>>,
    pub(crate) user_ca_keys: Option<Vec<Field<String>>>,
    pub(crate) revoked_keys: Option<Field<String>>,
    pub(crate) key_url_refresh: Option<Field<String>>,
    pub(crate) key_url_ca_file: Option<Field<String>>,
    pub(crate) drain: Option<Field<String>>,
    #[serde(default)]
    pub(crate) penalties: Penalties,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Penalties {
    pub(crate) failed: Option<Field<String>>,
    pub(crate) not_tried: Option<Field<String>>,
    pub(crate) grace_exceeded: Option<Field<String>>,
    pub(crate) crashed: Option<Field<String>>,
    pub(crate) min: Option<Field<String>>,
    pub(crate) max: Option<Field<String>>,
    pub(crate) max_sources: Option<Field<i64>>,
    pub(crate) exempt: Option<Field<Vec<String>>>,
}

/// A number alone, or `"start:rate:full"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a number or \"start:rate:full\"")]
pub(crate) enum Startups {
    Number(i64),
    Text(String),
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Provisioner {
    pub(crate) instance: Option<Field<String>>,
    pub(crate) socket: Option<Field<String>>,
    pub(crate) lobby_socket: Option<Field<String>>,
    pub(crate) gateway_user: Option<Field<String>>,
    pub(crate) state_dir: Option<Field<String>>,
    pub(crate) docker_socket: Option<Field<String>>,
    pub(crate) docker_timeout: Option<Field<String>>,
    pub(crate) network_pool: Option<Field<String>>,
    pub(crate) memory_share: Option<Field<Number>>,
    pub(crate) spare_boxes: Option<Field<i64>>,
    pub(crate) firewall: Option<Field<String>>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct DevBox {
    pub(crate) image: Option<Field<String>>,
    pub(crate) runtime: Option<Field<String>>,
    pub(crate) i_understand_boxes_are_root_on_this_host: Option<Field<bool>>,
    pub(crate) boot_timeout: Option<Field<String>>,
    pub(crate) shell: Option<Field<String>>,
    pub(crate) new_on_login: Option<Field<bool>>,
    pub(crate) cpus: Option<Field<Number>>,
    pub(crate) memory: Option<Field<String>>,
    pub(crate) pids: Option<Field<i64>>,
    pub(crate) disk: Option<Field<String>>,
    pub(crate) idle_stop: Option<Field<String>>,
    pub(crate) max_boxes: Option<Field<i64>>,
    pub(crate) cluster: Option<Field<String>>,
    pub(crate) timezone: Option<Field<String>>,
    pub(crate) locale: Option<Field<String>>,
    pub(crate) dotfiles: Option<Field<String>>,
    pub(crate) persist: Option<Field<bool>>,
    pub(crate) registry_mirrors: Option<Field<Vec<String>>>,
    pub(crate) egress: Option<Field<Vec<String>>>,
}

/// Settings of `[box]` that a group, a user or one of her boxes may have otherwise.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Override {
    pub(crate) image: Option<Field<String>>,
    pub(crate) cpus: Option<Field<Number>>,
    pub(crate) memory: Option<Field<String>>,
    pub(crate) pids: Option<Field<i64>>,
    pub(crate) disk: Option<Field<String>>,
    pub(crate) idle_stop: Option<Field<String>>,
    pub(crate) max_boxes: Option<Field<i64>>,
    pub(crate) cluster: Option<Field<String>>,
    pub(crate) timezone: Option<Field<String>>,
    pub(crate) locale: Option<Field<String>>,
    pub(crate) dotfiles: Option<Field<String>>,
    pub(crate) persist: Option<Field<bool>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Group {
    #[serde(default)]
    pub(crate) members: Vec<Field<String>>,
    #[serde(default, rename = "box")]
    pub(crate) devbox: Override,
}

/// `2` and `1.5` are both numbers to whoever writes them.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected a number")]
pub(crate) enum Number {
    Integer(i32),
    Float(f64),
}

#[derive(Debug, Deserialize)]
pub(crate) struct User {
    pub(crate) keys: Option<Vec<Field<String>>>,
    pub(crate) github: Option<Field<String>>,
    pub(crate) key_urls: Option<Vec<Field<String>>>,
    #[serde(rename = "box")]
    pub(crate) devbox: Option<Override>,
    #[serde(default)]
    pub(crate) boxes: BTreeMap<String, Override>,
}

impl Number {
    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Self::Integer(number) => f64::from(number),
            Self::Float(number) => number,
        }
    }
}

/// 1-based line of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The file's shapes, unless its syntax or its tables are broken, and the faults found on the way.
pub(crate) fn parse(text: &str) -> (Option<File>, Vec<Fault>) {
    let mut unknown = Vec::new();
    let parsed = toml::Deserializer::parse(text).and_then(|deserializer| {
        serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()))
    });
    let mut faults: Vec<Fault> = unknown.iter().map(|path| unknown_key(text, path)).collect();
    match parsed {
        Ok(file) => (Some(file), faults),
        Err(broken) => {
            faults.push(Fault {
                line: line_of(text, broken.span().map_or(0, |span| span.start)),
                setting: String::new(),
                problem: broken.message().trim().replace('\n', ", "),
                remedy: "mend the TOML syntax here; what follows it was not checked".to_owned(),
            });
            (None, faults)
        }
    }
}

fn unknown_key(text: &str, path: &str) -> Fault {
    Fault {
        line: line_of_path(text, path.split('.')).unwrap_or(1),
        setting: path.to_owned(),
        problem: "is not a setting of Boxgate".to_owned(),
        remedy: "remove it, or see config/example.toml for the settings there are".to_owned(),
    }
}

/// The line on which the key at the end of `path` is set: its own place in the parsed document. (A map's keys
/// cannot carry their places themselves: `serde_ignored` wants to read them as plain strings.)
pub(crate) fn line_of_path<'a>(text: &str, path: impl IntoIterator<Item = &'a str>) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut keys = path.into_iter().peekable();
    while let Some(key) = keys.next() {
        let (at, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
        if keys.peek().is_none() {
            return Some(line_of(text, at.span().start));
        }
        table = value.get_ref().as_table()?;
    }
    None
}
