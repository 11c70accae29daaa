//! `ls`: the boxes there are.

use std::io::{IsTerminal, stdout};

use boxgate_provisioner_api::BoxSummary;
use jiff::Timestamp;

use super::arguments::{Form, Ls, Whose};
use super::error::{CliError, Exit};
use super::site::Site;
use super::terminal::{Colours, print, tell};
use crate::listing::{self, Look, Of};

pub(super) async fn list(site: &Site, asked: &Ls, colours: Colours) -> Result<Exit, CliError> {
    let client = site.client()?;
    let mut boxes = if asked.quick { client.boxes().await? } else { client.boxes_with_usage().await? };
    boxes.retain(|devbox| chosen(&asked.whose, devbox));
    let form = asked.form.chosen().unwrap_or(if stdout().is_terminal() { Form::Table } else { Form::Tsv });
    match form {
        Form::Table if boxes.is_empty() => tell("there are no boxes yet: a user's first login makes one"),
        Form::Table => {
            let look = Look { colours: colours.wanted(), of: Of::Everybody };
            print(&listing::table(&boxes, look, Timestamp::now()))?;
        }
        Form::Tsv => print(&listing::tab_separated(&boxes))?,
        Form::Json => print(&listing::json(&boxes)?)?,
    }
    Ok(Exit::Done)
}

/// `alice` is all that are hers, `alice+web` this one.
fn chosen(whose: &[Whose], devbox: &BoxSummary) -> bool {
    whose.is_empty()
        || whose.iter().any(|whose| match &whose.0.name {
            None => whose.0.owner == devbox.id.owner,
            Some(_) => whose.0 == devbox.id,
        })
}
