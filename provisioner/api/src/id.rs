//! A box's id on the wire is its string form: `alice` or `alice+web`.

use boxgate_config::DevBoxId;
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::Serializer;

pub(crate) fn serialize<S: Serializer>(id: &DevBoxId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DevBoxId, D::Error> {
    let id = String::deserialize(deserializer)?;
    DevBoxId::parse(&id).map_err(|fault| D::Error::custom(format_args!("the box id {id:?} {fault}")))
}
