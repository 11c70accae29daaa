//! What is said of a box's archive: its home and its inner Docker's data as one tar stream, on its way out of a host or into one.
//!
//! ```text
//! boxgate.json            a Manifest
//! home/… docker/…         what GNU tar makes of the two volumes, its end-of-archive blocks among it
//! boxgate-complete.json   a Completion; an archive without it was cut short
//! ```

use boxgate_config::DevBoxId;
use serde::{Deserialize, Serialize};

use crate::{Failure, Progress, id};

/// Of an archive as this version writes and reads it.
pub const ARCHIVE_FORMAT: u32 = 1;

/// Asks for the archive of a box. Answered by lines of [`BackupEvent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRequest {
    /// On the wire `"alice"` or `"alice+web"`.
    #[serde(with = "id")]
    pub devbox: DevBoxId,
    /// Who asks, for the log.
    pub client: String,
}

/// One line of the answer to a [`BackupRequest`]. The last one is `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum BackupEvent {
    Progress(Progress),
    /// The next so many bytes of the archive follow this line.
    Data {
        bytes: usize,
    },
    /// That was all of it.
    Done,
    Failed(Failure),
}

/// Asks for a box to be made of an archive. It is one line of JSON, which the archive follows. Answered by lines of
/// [`OrderEvent`](crate::OrderEvent).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// On the wire `"alice"` or `"alice+web"`.
    #[serde(with = "id")]
    pub devbox: DevBoxId,
    /// Who asks, for the log.
    pub client: String,
}

/// What an archive is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`ARCHIVE_FORMAT`], or another version's.
    pub format: u32,
    /// The box that it was made of.
    #[serde(rename = "box", with = "id")]
    pub devbox: DevBoxId,
    /// The Unix user to whom its home belongs, in the archive too, and that user's number.
    pub user: String,
    pub uid: u32,
    /// What the box was made from. It is not in the archive: a restored box is made from its new host's current image.
    pub image: String,
    /// The installation that it was made on,
    pub instance: String,
    /// when (RFC 3339), and by which version of Boxgate.
    pub made_at: String,
    pub version: String,
}

/// Says at an archive's end that it is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// How many bytes are between the manifest and this.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_its_box_by_its_string_form() {
        let manifest = Manifest {
            format: ARCHIVE_FORMAT,
            devbox: DevBoxId::parse("alice+web").unwrap(),
            user: "alice".to_owned(),
            uid: 1000,
            image: "boxgate/box:latest".to_owned(),
            instance: "boxgate".to_owned(),
            made_at: "2026-01-01T00:00:00Z".to_owned(),
            version: "0.1.0".to_owned(),
        };
        let json = serde_json::to_value(&manifest).unwrap();
        assert_eq!((&json["box"], &json["format"]), (&"alice+web".into(), &1.into()));
        assert_eq!(serde_json::from_value::<Manifest>(json).unwrap(), manifest);
    }

    #[test]
    fn data_is_told_by_its_size() {
        let line = serde_json::to_string(&BackupEvent::Data { bytes: 7 }).unwrap();
        assert_eq!(line, r#"{"event":"data","bytes":7}"#);
    }
}
