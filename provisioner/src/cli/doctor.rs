//! `doctor`: what is wrong with this host, and what to do about it.
//!
//! ```text
//! facts ──► checks (pure) ──► findings ──► a line each, or JSON
//! host: /proc, /sys, files     one file for each subject
//! engine: Docker, Sysbox
//! site: the provisioner, what is left over
//! ```
//!
//! Nothing is changed, but for `--fix`, which has the provisioner remove what no box needs.

mod checks;
mod engine;
mod facts;
mod finding;
mod host;

use super::arguments::Doctor;
use super::error::{CliError, Exit};
use super::site::Site;
use super::terminal::{Colours, print, tell};
use facts::Facts;
use finding::{Finding, Status};

pub(super) async fn doctor(site: &Site, asked: &Doctor, colours: Colours) -> Result<Exit, CliError> {
    let config = site.config()?;
    let facts = Facts::collect(site, config, asked.fix).await;
    let findings = checks::all(&facts);
    if asked.json {
        print(&(serde_json::to_string_pretty(&findings)? + "\n"))?;
    } else {
        let colours = colours.wanted();
        print(&findings.iter().map(|finding| finding.lines(colours)).collect::<String>())?;
        tell(&summed_up(&findings));
    }
    let failed = findings.iter().any(|finding| finding.status == Status::Fail);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

fn summed_up(findings: &[Finding]) -> String {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    format!("{} ok, {} to look at, {} failed", count(Status::Ok), count(Status::Warn), count(Status::Fail))
}
