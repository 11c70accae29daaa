//! `keep`: a box is not stopped for being idle for a while.

use boxgate_provisioner_api::KeepRequest;

use super::arguments::Keep;
use super::error::{CliError, Exit};
use super::site::{Site, asker};
use super::terminal::print;

pub(super) async fn keep(site: &Site, asked: &Keep) -> Result<Exit, CliError> {
    let id = &asked.devbox;
    let request = KeepRequest { devbox: id.clone(), seconds: asked.time.0.as_secs(), client: asker() };
    let kept = site.client()?.keep(&request).await?;
    if asked.json {
        print(&(serde_json::to_string_pretty(&kept)? + "\n"))?;
    } else {
        match kept.until {
            Some(until) => print(&format!("box {id} is kept until {until}\n"))?,
            None => print(&format!("box {id} is stopped when it is idle\n"))?,
        }
    }
    Ok(Exit::Done)
}
