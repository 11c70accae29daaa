//! `boxgate-gateway`: reads the configuration, supervises workers or is one, turns the end into an exit code.

use std::env;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use boxgate_config::Config;
use boxgate_gateway::supervise::{self, Program};
use boxgate_gateway::{authenticate, listeners, worker};
use clap::{Parser, ValueEnum};
use tokio::runtime;
use tracing_subscriber::EnvFilter;

/// The network-facing SSH server of Boxgate.
///
/// SIGHUP renews it, with the program and the configuration that are there then, and SIGTERM ends it; connections go on
/// in either case, until they end or `gateway.drain` is over. SIGINT (Ctrl-C) ends connections too.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/boxgate/boxgate.toml")]
    config: PathBuf,

    /// Check the configuration and the files of keys that it names, list every fault with its line and remedy, and
    /// exit.
    #[arg(long)]
    check_config: bool,

    /// How log lines are written. `RUST_LOG` chooses which (default: info).
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// Be a worker of the supervisor that is at the other end of standard input.
    #[arg(long, hide = true)]
    worker: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(faults) => return complain(&faults),
    };
    if args.check_config {
        let faults = authenticate::check_files(&config);
        if !faults.is_empty() {
            return complain(&faults.join("\n"));
        }
        return match writeln!(stdout(), "{}: ok", args.config.display()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    log(args.log_format);
    match serve(config, args.worker) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => complain(&format_args!("boxgate-gateway: {fault:#}")),
    }
}

fn complain(fault: &dyn std::fmt::Display) -> ExitCode {
    // Nobody is left to be told when stderr is closed; the exit code says it too.
    drop(writeln!(stderr(), "{fault}"));
    ExitCode::FAILURE
}

fn serve(config: Config, is_worker: bool) -> anyhow::Result<()> {
    // It reads hostile bytes from anywhere: nothing here needs root, so nothing here gets it.
    if nix::unistd::geteuid().is_root() {
        bail!("refuses to run as root: start it as the user {:?}", config.provisioner.gateway_user);
    }
    let given = listeners::given()?;
    if is_worker {
        let runtime = runtime::Runtime::new().context("cannot start the async runtime")?;
        return runtime.block_on(worker::work(config, given));
    }
    // One thread is enough for it, and the only one that may start processes.
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the async runtime")?.block_on(async {
        let listeners = match given {
            none if none.is_empty() => listeners::bind(&config.gateway.listen).await?,
            given => given,
        };
        Ok(supervise::supervise(workers()?, listeners).await?)
    })
}

/// This program with these arguments, as a worker.
fn workers() -> anyhow::Result<Program> {
    let executable = env::current_exe().context("cannot find this program's own file")?;
    let arguments = env::args_os().skip(1).chain(["--worker".into()]).collect();
    Ok(Program { executable, arguments })
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,russh=warn"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_target(false);
    match format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().init(),
    }
}
