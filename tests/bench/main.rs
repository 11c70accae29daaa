//! `./devhost bench`: how a login, a keystroke and a transfer through the gateway compare with the same without it.
//!
//! Real OpenSSH clients ask the same box in three ways, taking turns within each repetition, so that whatever else
//! the machine does hits all alike: `direct` at the box's own address, through the `gateway`, and by `ssh -J`
//! through an sshd on this host. A figure is a median with its spread; a goal is met or missed by the ratio of
//! medians of one run, never by a time.
//!
//! ```text
//! main.rs      arguments, one figure after another
//! plan.rs      how often and how much
//! site.rs      the box, the gateways and the bastion; one ssh configuration that names them all
//! client.rs    one client timed from start to end; connections that others share
//! keyboard.rs  a terminal, and the time from a key to its echo
//! process.rs   what /proc says of a process
//! profile.rs   what a process spends its time on, by kind
//! held.rs      a thousand idle connections out of one process
//! guard.rs     Ctrl-C, and an end for what hangs
//! figures/     what is measured, one file for each kind
//! figure.rs    samples, goals, verdicts
//! report.rs    the table and the JSON file
//! machine.rs   where the figures come from: processor, kernel, versions, load
//! ```
//!
//! A client that fails ends the bench with its last words. However it ends, the place's keeper removes all.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that cannot measure fails by panicking"
)]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "measured quantities are far below 2^52"
)]

use std::panic::{self, AssertUnwindSafe};

use clap::Parser;

use crate::figure::Figure;
use crate::figures::{Context, GROUPS};
use crate::plan::{Args, Plan};

mod client;
mod figure;
mod figures;
mod guard;
mod held;
mod keyboard;
mod machine;
mod plan;
mod process;
mod profile;
mod report;
mod site;

fn main() {
    let args = Args::parse();
    guard::watch();
    let plan = Plan::of(&args);
    let before = machine::Look::take();
    before.warn_when_busy();
    eprintln!("starting a box, the gateways and a bastion");
    let site = site::Site::start(&plan);
    let context = Context { site: &site, plan: &plan };
    let measured = panic::catch_unwind(AssertUnwindSafe(|| measure(&context, &args)));
    let figures = match measured {
        Ok(figures) => figures,
        // The site's end is no failure's then, which would show its logs.
        Err(_) if guard::told_to_end() => {
            drop(site);
            std::process::exit(130)
        }
        Err(fault) => panic::resume_unwind(fault),
    };
    let facts = machine::facts(&site, &plan, &before);
    print!("{}", report::table(&figures, &facts));
    let file = args.json_file();
    report::write(&file, &figures, &facts);
    println!("\nkept in {}", file.display());
}

fn measure(context: &Context<'_>, args: &Args) -> Vec<Figure> {
    let mut figures = Vec::new();
    for group in GROUPS.iter().filter(|group| args.wants(group.name)) {
        eprintln!("measuring {}: {}", group.name, group.what);
        figures.extend((group.measure)(context));
    }
    figures
}
