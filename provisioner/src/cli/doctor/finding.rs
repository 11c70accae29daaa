//! What a check found.

use serde::Serialize;

use crate::failure::one_line;

/// One line of the doctor's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at, the same word in every version.
    pub(super) check: &'static str,
    pub(super) status: Status,
    /// What was found.
    pub(super) message: String,
    /// What to do about it.
    pub(super) remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ok,
    /// It works, or seems to; an operator should know it.
    Warn,
    /// Boxes do not work, or are not safe.
    Fail,
}

impl Finding {
    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, message: message.into(), remedy: None }
    }

    pub(super) fn warn(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, status: Status::Warn, message: message.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn fail(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Fail, ..Self::warn(check, message, remedy) }
    }

    /// For a terminal or a file.
    pub(super) fn lines(&self, colours: bool) -> String {
        let (word, colour) = match self.status {
            Status::Ok => ("ok", 32),
            Status::Warn => ("warn", 33),
            Status::Fail => ("FAIL", 31),
        };
        let word = if colours { format!("\u{1b}[{colour}m{word:<5}\u{1b}[0m") } else { format!("{word:<5}") };
        let remedy = self.remedy.as_deref().map(|remedy| format!("{:19}→ {}\n", "", one_line(remedy)));
        format!("{word} {:<13}{}\n{}", self.check, one_line(&self.message), remedy.unwrap_or_default())
    }
}
