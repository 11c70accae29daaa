//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use boxgate_config::DevBoxId;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::error::exit_codes;
use super::terminal::Colours;

/// Above the options that every verb has.
const GLOBAL: &str = "Options of every verb";

/// The longest time that a box is kept: more is better said in the configuration.
const KEEP_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Looks after the boxes of this host
///
/// Lists them, starts and stops them, shows what they say, and finds what is wrong with the host. Asks
/// boxgate-provisioner on its socket, which answers root alone.
///
/// A box is named as at login: alice is alice's default box, alice+web her box web.
#[derive(Debug, Parser)]
#[command(name = "boxgate", version, after_long_help = exit_codes(), propagate_version = true)]
pub(super) struct Arguments {
    /// Configuration file, which names the provisioner's socket
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE", default_value = "/etc/boxgate/boxgate.toml")]
    pub(super) config: PathBuf,
    /// The provisioner's socket, instead of the configuration's
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "SOCKET")]
    pub(super) socket: Option<PathBuf>,
    /// When to use colours
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "WHEN", value_enum, default_value_t)]
    pub(super) color: Colours,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Ls(Ls),
    Show(Show),
    /// Make a box that there is not yet, and start it
    #[command(after_help = "Example:\n  boxgate new alice+web")]
    New(One),
    /// Start boxes that are stopped, and wait until they answer
    #[command(after_help = "Examples:\n  boxgate start alice alice+web\n  boxgate start --all")]
    Start(Chosen),
    /// Stop boxes; their connections end, and the next login wakes them
    #[command(after_help = "Examples:\n  boxgate stop alice+web\n  boxgate stop --all")]
    Stop(Chosen),
    /// Stop boxes and start them again
    #[command(after_help = "Examples:\n  boxgate restart alice\n  boxgate restart --all")]
    Restart(Chosen),
    /// Make a box anew from the current image
    ///
    /// Its home and its Docker data stay; what was installed or changed elsewhere in it is lost, and its
    /// connections end. Asks for the box's name again.
    #[command(after_help = "Examples:\n  boxgate reset alice\n  boxgate reset alice --yes alice")]
    Reset(Confirmed),
    /// Remove a box with its home and all its data
    ///
    /// Nothing brings it back. Asks for the box's name again.
    #[command(after_help = "Examples:\n  boxgate rm alice+web\n  boxgate rm alice+web --yes alice+web")]
    Rm(Confirmed),
    Keep(Keep),
    Logs(Logs),
    Exec(Exec),
    Top(Top),
    Doctor(Doctor),
    Gc(Gc),
    Backup(Backup),
    Restore(Restore),
    /// Print a shell's completions for boxgate
    #[command(
        after_help = "Examples:\n  boxgate completions bash > /usr/share/bash-completion/completions/boxgate\n  \
                            boxgate completions zsh > /usr/local/share/zsh/site-functions/_boxgate"
    )]
    Completions {
        shell: Shell,
    },
    /// Write the manual pages to a directory
    #[command(after_help = "Example:\n  boxgate man /usr/local/share/man/man1")]
    Man {
        directory: PathBuf,
    },
}

/// List boxes
///
/// On a terminal this is a table: CPU, MEMORY and DISK are what a box uses of what it may. Measuring that takes
/// a second or two; --quick leaves it out. DISK is home, Docker data and what was changed of the image, measured a minute
/// ago or more where that takes long, and - until it was. Elsewhere it is a line for each box, its fields separated by tabs and - for
/// what is not known, without a heading: box, user, state, since, connections, idle seconds, kept until, CPUs used, CPUs
/// allowed, memory used, memory allowed, processes, processes allowed, disk used, disk allowed, image, outdated, isolated,
/// address, reason. New fields will come after these.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  boxgate ls\n  boxgate ls alice\n  \
                        boxgate ls --quick | awk '$3 == \"failed\" { print $1 }'\n  \
                        boxgate ls --json | jq -r '.[] | select(.connections == 0) | .id'")]
pub(super) struct Ls {
    /// Whose boxes, or which: alice for all of hers, alice+web for this one; default: all
    #[arg(value_name = "USER|BOX", value_parser = whose)]
    pub(super) whose: Vec<Whose>,
    /// Do not measure what boxes use
    #[arg(long, short)]
    pub(super) quick: bool,
    #[command(flatten)]
    pub(super) form: Forms,
}

/// An owner, or one box.
#[derive(Debug, Clone)]
pub(super) struct Whose(pub(super) DevBoxId);

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Forms {
    /// As JSON, times in RFC 3339, sizes in bytes
    #[arg(long)]
    json: bool,
    /// Separated by tabs, even on a terminal
    #[arg(long)]
    tsv: bool,
    /// As a table, even where no terminal is
    #[arg(long)]
    table: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Table,
    Tsv,
    Json,
}

impl Forms {
    pub(super) fn chosen(&self) -> Option<Form> {
        match self {
            Self { json: true, .. } => Some(Form::Json),
            Self { tsv: true, .. } => Some(Form::Tsv),
            Self { table: true, .. } => Some(Form::Table),
            _ => None,
        }
    }
}

/// Show all that is known of a box
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  boxgate show alice\n  boxgate show alice --json | jq .address")]
pub(super) struct Show {
    #[arg(value_name = "BOX", value_parser = devbox)]
    pub(super) devbox: DevBoxId,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct One {
    #[arg(value_name = "BOX", value_parser = devbox)]
    pub(super) devbox: DevBoxId,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Chosen {
    #[arg(value_name = "BOX", value_parser = devbox)]
    pub(super) boxes: Vec<DevBoxId>,
    /// All that are not so already
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(Debug, Args)]
pub(super) struct Confirmed {
    #[arg(value_name = "BOX", value_parser = devbox)]
    pub(super) devbox: DevBoxId,
    /// The box's name again, instead of typing it when asked
    #[arg(long, value_name = "BOX", value_parser = devbox)]
    pub(super) yes: Option<DevBoxId>,
}

/// Keep a box running while it is idle
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  boxgate keep alice 8h\n  boxgate keep alice \"2days 12h\"\n  boxgate keep alice off"
)]
pub(super) struct Keep {
    #[arg(value_name = "BOX", value_parser = devbox)]
    pub(super) devbox: DevBoxId,
    /// For how long from now on, with its unit; off ends what was asked for before
    #[arg(value_name = "TIME", value_parser = time)]
    pub(super) time: Time,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Time(pub(super) Duration);

/// Print what a box's console got: its boot, and what its services say
///
/// On a terminal without the colours and other control characters that are in it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  boxgate logs alice\n  boxgate logs --follow --lines 0 alice")]
pub(super) struct Logs {
    #[arg(value_name = "BOX", value_parser = devbox)]
    pub(super) devbox: DevBoxId,
    /// Go on until the box ends, or Ctrl-C
    #[arg(long, short)]
    pub(super) follow: bool,
    /// How many of the last lines
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 100)]
    pub(super) lines: u32,
}

/// Run a command in a box, as its user
///
/// Without a command it is the user's login shell. Has a terminal when this one has; ends as the command does. The box
/// is in use meanwhile: it is not stopped for being idle.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  boxgate exec alice\n  boxgate exec alice git -C project status\n  \
                        boxgate exec --root alice journalctl -u docker")]
pub(super) struct Exec {
    /// As root instead of as the box's user
    #[arg(long)]
    pub(super) root: bool,
    #[arg(value_name = "BOX", value_parser = devbox)]
    pub(super) devbox: DevBoxId,
    /// Command and arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<String>,
}

/// Watch what boxes use
///
/// Keys: c, m, d, n and b sort by CPU, memory, disk, connections and box; q ends it.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// Time between two looks
    #[arg(long, short, value_name = "TIME", default_value = "2s", value_parser = interval)]
    pub(super) interval: Duration,
}

/// Say what is wrong with this host, and what to do about it
///
/// Looks at the kernel, Docker, Sysbox, networks, disks, the clock, permissions and the provisioner. Each check is ok, a
/// warning or a failure with its remedy; the exit code is 1 when one failed. Needs root to see everything.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  boxgate doctor\n  boxgate doctor --fix\n  \
                        boxgate doctor --json | jq '.[] | select(.status == \"fail\")'")]
pub(super) struct Doctor {
    /// Remove what no box needs any more
    #[arg(long)]
    pub(super) fix: bool,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Remove what no box needs any more
///
/// Networks and directories of boxes whose making or removal did not come to its end, and images that boxes were made from
/// when no container and no name is left of them. Containers and volumes that belong to no box are told and kept: their data may be missed. Prints a line for each: what became of it, its kind, its name
/// and why, separated by tabs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  boxgate gc --dry-run\n  boxgate gc --json | jq '.orphans | length'")]
pub(super) struct Gc {
    /// Only say what there is
    #[arg(long, short = 'n')]
    pub(super) dry_run: bool,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Write a box's home and Docker data to a file
///
/// The box is stopped meanwhile: its connections end, a login waits, and afterwards it is started again if it ran. What was
/// installed or changed elsewhere in it is not written: a restored box is made from the current image, as by reset. The file is a tar
/// archive, compressed with zstd, which only its owner can read; it gets its name when it is whole, in place of an older one.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  boxgate backup alice\n  boxgate backup alice+web /srv/backups/web.tar.zst\n  \
                        boxgate backup --all /srv/backups\n  boxgate backup alice - | ssh root@other boxgate restore -"
)]
pub(super) struct Backup {
    #[arg(value_name = "BOX", value_parser = devbox, required_unless_present = "all", conflicts_with = "all")]
    pub(super) devbox: Option<DevBoxId>,
    /// Where to; - is standard output [default: BOX.tar.zst]
    #[arg(value_name = "FILE", conflicts_with = "all")]
    pub(super) file: Option<PathBuf>,
    /// Every box, one after the other, each to BOX.tar.zst in a directory
    #[arg(long, value_name = "DIRECTORY", num_args = 0..=1, default_missing_value = ".")]
    pub(super) all: Option<PathBuf>,
    /// Say what was written as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Make a box of what backup wrote
///
/// There must be no such box: remove the one that there is first, or name another with --as. The box's owner stays
/// its owner, and logs in with the keys that
/// this host's configuration has for her. When anything fails nothing of the box stays.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  boxgate restore alice.tar.zst\n  boxgate restore alice.tar.zst --as alice+old\n  \
                        ssh root@other boxgate backup alice - | boxgate restore -"
)]
pub(super) struct Restore {
    /// What backup wrote; - is standard input
    pub(super) file: PathBuf,
    /// Another box of the same owner's than it was
    #[arg(long = "as", value_name = "BOX", value_parser = devbox)]
    pub(super) name: Option<DevBoxId>,
    /// Say what was made as JSON
    #[arg(long)]
    pub(super) json: bool,
}

fn devbox(name: &str) -> Result<DevBoxId, String> {
    DevBoxId::parse(name).map_err(|fault| format!("the name {fault}"))
}

fn whose(name: &str) -> Result<Whose, String> {
    devbox(name).map(Whose)
}

fn time(text: &str) -> Result<Time, String> {
    if text == "off" {
        return Ok(Time(Duration::ZERO));
    }
    let example = "write a time with its unit, for example 8h, or off";
    match humantime::parse_duration(text) {
        Ok(time) if time > KEEP_MAX => Err("at most a year can be asked for".to_owned()),
        Ok(time) if time >= Duration::from_secs(1) => Ok(Time(time)),
        Ok(_) => Err(format!("is too short: {example}")),
        Err(fault) => Err(format!("{fault}: {example}")),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|fault| fault.to_string())?;
    if (Duration::from_millis(500)..=Duration::from_secs(3600)).contains(&time) {
        Ok(time)
    } else {
        Err("is less than half a second or more than an hour".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[rstest]
    #[case("8h", Some(8 * 3600))]
    #[case("2days 12h", Some(60 * 3600))]
    #[case("off", Some(0))]
    #[case("0s", None)]
    #[case("8", None)]
    #[case("2years", None)]
    fn times(#[case] text: &str, #[case] seconds: Option<u64>) {
        assert_eq!(time(text).ok().map(|time| time.0.as_secs()), seconds);
    }

    #[rstest]
    #[case(&["stop"])]
    #[case(&["stop", "alice", "--all"])]
    #[case(&["ls", "--json", "--tsv"])]
    #[case(&["show", "../etc"])]
    #[case(&["rm", "alice", "--yes"])]
    #[case(&["top", "--interval", "1ms"])]
    #[case(&["backup"])]
    #[case(&["backup", "alice", "--all", "/srv"])]
    #[case(&["restore"])]
    fn not_understood(#[case] words: &[&str]) {
        let words = ["boxgate"].iter().chain(words);
        assert_eq!(Arguments::try_parse_from(words).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_command_keeps_its_options() {
        let words = ["boxgate", "exec", "--root", "alice", "ls", "-la", "--color"];
        match Arguments::try_parse_from(words).unwrap().verb {
            Verb::Exec(exec) => {
                assert_eq!((exec.root, exec.command.join(" ").as_str()), (true, "ls -la --color"));
            }
            other => panic!("{other:?}"),
        }
    }
}
