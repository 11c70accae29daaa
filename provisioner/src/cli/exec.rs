//! `exec`: becomes `docker exec` into a box's container, whose name the provisioner tells.

use std::ffi::OsString;
use std::io::{IsTerminal, stdin, stdout};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use boxgate_provisioner_api::{BoxState, BoxSummary};

use super::arguments::Exec;
use super::error::{CliError, Exit};
use super::site::{Site, find};
use crate::listing;

/// The client that came with the engine, when another one stands before it on the PATH.
const DOCKER: [&str; 2] = ["/usr/bin/docker", "docker"];

/// A login shell is the one that the box says its user has.
const LOGIN_SHELL: [&str; 3] = ["sh", "-c", "exec \"$(getent passwd \"$(id -un)\" | cut -d: -f7)\" -l"];

pub(super) async fn exec(site: &Site, asked: &Exec) -> Result<Exit, CliError> {
    let config = site.config()?;
    let devbox = find(site.client_of(&config).boxes().await?, &asked.devbox)?;
    if !matches!(devbox.state, BoxState::Ready | BoxState::Booting) {
        return Err(CliError::NotRunning { id: devbox.id, state: listing::state(devbox.state) });
    }
    let terminal = stdin().is_terminal() && stdout().is_terminal();
    let term = terminal.then(|| std::env::var_os("TERM")).flatten();
    let arguments = arguments(&config.provisioner.docker_socket, &devbox, asked, terminal, term);
    let program = if Path::new(DOCKER[0]).exists() { DOCKER[0] } else { DOCKER[1] };
    // Returns only when there is no such program.
    let source = Command::new(program).args(arguments).exec();
    Err(CliError::Program { program: "docker", source })
}

fn arguments(
    socket: &Path,
    devbox: &BoxSummary,
    asked: &Exec,
    terminal: bool,
    term: Option<OsString>,
) -> Vec<OsString> {
    let owner = devbox.id.owner.as_str();
    let (user, home) =
        if asked.root { ("root", "/root".to_owned()) } else { (owner, format!("/home/{owner}")) };
    let mut host = OsString::from("unix://");
    host.push(socket);
    let mut arguments = vec!["--host".into(), host, "exec".into(), "--interactive".into()];
    if terminal {
        arguments.push("--tty".into());
    }
    let mut set = |name: &str, value: OsString| {
        let mut variable = OsString::from(name);
        variable.push(value);
        arguments.extend(["--env".into(), variable]);
    };
    set("USER=", user.into());
    set("LOGNAME=", user.into());
    if let Some(term) = term {
        set("TERM=", term);
    }
    arguments.extend(["--user", user, "--workdir", &home, &devbox.container].map(OsString::from));
    if asked.command.is_empty() {
        arguments.extend(LOGIN_SHELL.map(OsString::from));
    } else {
        arguments.extend(asked.command.iter().map(OsString::from));
    }
    arguments
}
