//! `exec`: runs `docker exec` into a box's container, whose name the provisioner tells.
//!
//! While it runs the provisioner hears of it as of a connection, so that the box is not stopped for being idle. Whatever
//! becomes of the provisioner meanwhile, the command goes on.

use std::ffi::OsString;
use std::io::{self, IsTerminal, stdin, stdout};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use boxgate_provisioner_api::{BoxState, BoxSummary, BoxUse, Client, UseReport};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;

use super::arguments::Exec;
use super::error::CliError;
use super::site::{Site, find};
use super::terminal::tell;
use crate::failure::one_line;
use crate::listing;

/// The client that came with the engine, when another one stands before it on the PATH.
const DOCKER: [&str; 2] = ["/usr/bin/docker", "docker"];

/// A login shell is the one that the box says its user has.
const LOGIN_SHELL: [&str; 3] = ["sh", "-c", "exec \"$(getent passwd \"$(id -un)\" | cut -d: -f7)\" -l"];

/// How often the provisioner hears of it: within the shortest time that a box may idle.
const REPORT_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn exec(site: &Site, asked: &Exec) -> Result<ExitCode, CliError> {
    let config = site.config()?;
    let client = site.client_of(&config);
    let devbox = find(client.boxes().await?, &asked.devbox)?;
    if !matches!(devbox.state, BoxState::Ready | BoxState::Booting) {
        return Err(CliError::NotRunning { id: devbox.id, state: listing::state(devbox.state) });
    }
    let terminal = stdin().is_terminal() && stdout().is_terminal();
    let term = terminal.then(|| std::env::var_os("TERM")).flatten();
    let arguments = arguments(&config.provisioner.docker_socket, &devbox, asked, terminal, term);
    let program = if Path::new(DOCKER[0]).exists() { DOCKER[0] } else { DOCKER[1] };
    // From before the command begins: the box may be about to be stopped.
    client.report_use(&in_use(&devbox, 1)).await?;
    let cannot = |source| CliError::Program { program: "docker", source };
    let child = Command::new(program).args(arguments).spawn().map_err(cannot)?;
    let ended = tokio::select! {
        ended = end_of(child) => ended,
        never = keep_in_use(&client, &devbox) => match never {},
    };
    // Otherwise the provisioner forgets the connection within a minute.
    drop(client.report_use(&in_use(&devbox, 0)).await);
    Ok(exit_code(ended.map_err(cannot)?))
}

/// Signals that a terminal sends reach the command by themselves, and are its to obey; others are passed on.
async fn end_of(mut child: Child) -> io::Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        let passed_on = tokio::select! {
            ended = child.wait() => return ended,
            _ = interrupt.recv() => continue,
            _ = quit.recv() => continue,
            _ = terminate.recv() => Signal::SIGTERM,
            _ = hang_up.recv() => Signal::SIGHUP,
        };
        if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
            kill(Pid::from_raw(id), passed_on)?;
        }
    }
}

async fn keep_in_use(client: &Client, devbox: &BoxSummary) -> std::convert::Infallible {
    let mut ticks = interval(REPORT_EVERY);
    let mut heard = true;
    loop {
        ticks.tick().await;
        let reported = client.report_use(&in_use(devbox, 1)).await;
        // Once, and not into a terminal again and again that somebody works at.
        if let Err(error) = &reported
            && heard
        {
            tell(&format!(
                "box {} may be stopped for being idle: {}",
                devbox.id,
                one_line(&error.to_string())
            ));
        }
        heard = reported.is_ok();
    }
}

fn in_use(devbox: &BoxSummary, connections: u32) -> UseReport {
    let one = BoxUse { devbox: devbox.id.clone(), connections, idle_seconds: 0 };
    UseReport { gateway: format!("boxgate exec {}", std::process::id()), boxes: vec![one] }
}

/// The command's own, and as shells have it the number of the signal that ended it, and 128.
fn exit_code(ended: ExitStatus) -> ExitCode {
    let code = ended.code().or_else(|| Some(128 + ended.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
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
