//! `logs`: what a box's console got.

use super::arguments::Logs;
use super::error::{CliError, Exit};
use super::site::Site;
use super::terminal::print_bytes;

/// The provisioner sends whole lines in which nothing controls a terminal, whatever the box wrote.
pub(super) async fn logs(site: &Site, asked: &Logs) -> Result<Exit, CliError> {
    let mut log = site.client()?.open_log(&asked.devbox, asked.lines, asked.follow).await?;
    while let Some(piece) = log.next().await? {
        print_bytes(&piece)?;
    }
    Ok(Exit::Done)
}
