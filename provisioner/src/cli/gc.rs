//! `gc`: what no box needs any more.

use boxgate_provisioner_api::{GcReport, GcRequest, Orphan, OrphanKind};

use super::arguments::Gc;
use super::error::{CliError, Exit};
use super::site::Site;
use super::terminal::{print, tell};
use crate::failure::one_line;

pub(super) async fn gc(site: &Site, asked: &Gc) -> Result<Exit, CliError> {
    let report = site.client()?.gc(&GcRequest { remove: !asked.dry_run }).await?;
    if asked.json {
        print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    } else if report.orphans.is_empty() {
        tell("nothing is left over");
    } else {
        print(&lines(&report, asked.dry_run))?;
    }
    Ok(if report.orphans.iter().any(|orphan| orphan.fault.is_some()) { Exit::Failed } else { Exit::Done })
}

/// Tab-separated: what became of it, its kind, its name, and why.
fn lines(report: &GcReport, dry_run: bool) -> String {
    report.orphans.iter().map(|orphan| line(orphan, dry_run)).collect()
}

fn line(orphan: &Orphan, dry_run: bool) -> String {
    let (fate, why) = match (&orphan.fault, orphan.removed) {
        (Some(fault), _) => ("kept", fault),
        (None, true) => ("removed", &orphan.reason),
        (None, false) if dry_run => ("found", &orphan.reason),
        // Only who looked at it can say that nobody misses it.
        (None, false) => ("kept", &orphan.reason),
    };
    format!("{fate}\t{}\t{}\t{}\n", kind(orphan.kind), one_line(&orphan.name), one_line(why))
}

pub(super) fn kind(kind: OrphanKind) -> &'static str {
    match kind {
        OrphanKind::Container => "container",
        OrphanKind::Network => "network",
        OrphanKind::Volume => "volume",
        OrphanKind::Claim => "claim",
        OrphanKind::Image => "image",
        OrphanKind::Directory => "directory",
    }
}
