//! `boxgate-gateway`: reads the configuration, starts the server, turns its end into an exit code.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use boxgate_config::Config;
use boxgate_gateway::authenticate;
use boxgate_gateway::server::Server;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The network-facing SSH server of Boxgate.
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
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => complain(&format_args!("boxgate-gateway: {fault:#}")),
    }
}

fn complain(fault: &dyn std::fmt::Display) -> ExitCode {
    // Nobody is left to be told when stderr is closed; the exit code says it too.
    drop(writeln!(stderr(), "{fault}"));
    ExitCode::FAILURE
}

fn serve(config: Config) -> anyhow::Result<()> {
    // It reads hostile bytes from anywhere: nothing here needs root, so nothing here gets it.
    if nix::unistd::geteuid().is_root() {
        bail!("refuses to run as root: start it as the user {:?}", config.provisioner.gateway_user);
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        cancel_on_signal(stop.clone())?;
        let server = Server::bind(config).await?;
        server.run(stop).await;
        Ok(())
    })
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,russh=warn"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_target(false);
    match format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().init(),
    }
}

fn cancel_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}
