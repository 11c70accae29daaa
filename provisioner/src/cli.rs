//! `boxgate`, what an operator types: each verb asks the provisioner on its socket and prints the answer.
//!
//! ```text
//! arguments ─► site ───────► list, show, order, keep, logs, top, gc      ask the provisioner, print, exit code
//!              the socket,   exec                                        runs `docker exec`
//!              the config    backup, restore                             and compress or decompress
//!                            doctor                                      reads the host as well
//!                            manual                                      asks nobody
//! ```
//!
//! Invariants: results go to stdout, all else to stderr; a verb ends when what it asked for is done; nothing
//! here changes a box but through the API; no text that others wrote reaches a terminal with its control characters.

mod arguments;
mod backup;
mod doctor;

mod error;
mod exec;
mod gc;
mod keep;
mod list;
mod logs;
mod manual;
mod order;
mod restore;
mod show;
mod site;
mod terminal;
mod top;

use std::process::ExitCode;

use boxgate_provisioner_api::Order;
use clap::Parser;

use arguments::{Arguments, Verb};
use error::CliError;
use site::Site;

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(exit) => exit,
        Err(error) => {
            terminal::complain(&error);
            error.exit().code().into()
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CliError::Runtime)?.block_on(perform(arguments))
}

async fn perform(arguments: Arguments) -> Result<ExitCode, CliError> {
    let site = Site::new(arguments.config, arguments.socket);
    let colours = arguments.color;
    let exit = match arguments.verb {
        Verb::Ls(asked) => list::list(&site, &asked, colours).await,
        Verb::Show(asked) => show::show(&site, &asked).await,
        Verb::New(one) => order::one(&site, Order::New, &one.devbox).await,
        Verb::Start(some) => order::some(&site, Order::Start, some).await,
        Verb::Stop(some) => order::some(&site, Order::Stop, some).await,
        Verb::Restart(some) => order::some(&site, Order::Restart, some).await,
        Verb::Reset(asked) => order::confirmed(&site, Order::Reset, &asked).await,
        Verb::Rm(asked) => order::confirmed(&site, Order::Remove, &asked).await,
        Verb::Keep(asked) => keep::keep(&site, &asked).await,
        Verb::Logs(asked) => logs::logs(&site, &asked).await,
        Verb::Exec(asked) => return exec::exec(&site, &asked).await,
        Verb::Top(asked) => top::top(&site, &asked).await,

        Verb::Doctor(asked) => doctor::doctor(&site, &asked, colours).await,
        Verb::Gc(asked) => gc::gc(&site, &asked).await,
        Verb::Backup(asked) => backup::backup(&site, &asked).await,
        Verb::Restore(asked) => restore::restore(&site, &asked).await,
        Verb::Completions { shell } => manual::completions(shell),
        Verb::Man { directory } => manual::pages(&directory),
    }?;
    Ok(exit.code().into())
}
