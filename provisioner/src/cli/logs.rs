//! `logs`: what a box's console got.

use tokio_util::sync::CancellationToken;

use super::arguments::Logs;
use super::error::{CliError, Exit};
use super::site::Site;
use super::terminal::print_bytes;

/// The provisioner sends whole lines in which nothing controls a terminal, whatever the box wrote.
pub(super) async fn logs(site: &Site, asked: &Logs) -> Result<Exit, CliError> {
    let client = site.client()?;
    let (mut written, stop) = (Ok(()), CancellationToken::new());
    let reading = client.logs(&asked.devbox, asked.lines, asked.follow, |bytes| {
        if written.is_ok() {
            written = print_bytes(bytes);
        }
        if written.is_err() {
            stop.cancel();
        }
    });
    let read = tokio::select! {
        read = reading => read,
        () = stop.cancelled() => Ok(()),
    };
    written?;
    read?;
    Ok(Exit::Done)
}
