//! What packages install beside the program: completions for shells, and manual pages.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::arguments::Arguments;
use super::error::{CliError, Exit};
use super::terminal::{print_bytes, tell};

pub(super) fn completions(shell: Shell) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "boxgate", &mut script);
    print_bytes(&script)?;
    Ok(Exit::Done)
}

/// One page for the program and one for each verb.
pub(super) fn pages(directory: &Path) -> Result<Exit, CliError> {
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory));
    written.map_err(|source| CliError::Write { place: directory.display().to_string(), source })?;
    tell(&format!("wrote the manual pages to {}", directory.display()));
    Ok(Exit::Done)
}
