//! What can be wanted in the lobby: the words of a command line, as a verb with all that belongs to it.

use std::time::Duration;

use boxgate_config::PublicName;
use clap::{Parser, Subcommand};

use crate::exit;
use crate::listing;

/// Most bytes of a command line: far more than any verb has.
pub(super) const COMMAND_MAX: usize = 4096;
/// Longest lease. Who needs more asks her operator to set `idle_stop`.
const KEEP_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

const AFTER_HELP: &str = "\
NAME is a box as `ls` shows it, alice+web, or what stands behind the plus, web.
Without a NAME, or with -, it is your default box.

What there is to see goes to standard output: in columns on a terminal (ssh -t),
as lines of tab-separated fields elsewhere. Progress and errors go to standard
error.
";

/// What clients run at the other end to copy files.
const PROGRAMS: [&str; 6] =
    ["scp", "rsync", "sftp-server", "git-upload-pack", "git-receive-pack", "git-upload-archive"];
const NO_PROGRAMS: &str =
    "no programs run here and no files are kept here: for those log in to a box of yours, not to box@";

/// Says what is to happen to your boxes. Who you are your key says.
#[derive(Debug, Parser)]
#[command(
    name = "ssh box@HOST",
    bin_name = "ssh box@HOST",
    no_binary_name = true,
    after_help = format!("{AFTER_HELP}\n{}", exit::CODES),
    arg_required_else_help = true
)]
struct Words {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(super) enum Verb {
    /// List your boxes
    #[command(after_help = ls_help())]
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Measure what the running boxes use, which takes a second or two
        #[arg(long, short)]
        usage: bool,
    },
    /// Make a box and start it
    New { name: String },
    /// Start a box, and wait until it answers
    Start { name: Option<String> },
    /// Stop a box; connections to it end, and the next login wakes it
    Stop { name: Option<String> },
    /// Stop a box and start it again
    Restart { name: Option<String> },
    /// Make a box anew from the current image
    ///
    /// Its home directory and its Docker data stay. All else goes: packages that were
    /// installed, files outside of /home, whatever runs.
    Reset {
        name: Option<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Remove a box with all its data, for good
    Rm {
        name: Option<String>,
        /// The box's name again, where there is no terminal to be asked on
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
    },
    /// Show what a box's console got
    Logs {
        name: Option<String>,
        /// The last so many lines
        #[arg(long, short = 'n', value_name = "LINES", default_value_t = 100)]
        lines: u32,
        /// And all that comes, until Ctrl-C
        #[arg(long, short)]
        follow: bool,
    },
    /// Keep a box running though nobody uses it, for so long: 30min, 8h, 2days
    #[command(override_usage = "ssh box@HOST keep DURATION [NAME]\n       ssh box@HOST keep --off [NAME]")]
    Keep(Keep),
    /// Write what names your boxes in ~/.ssh/config
    SshConfig {
        /// What you write behind the @, with :PORT if that is not 22
        #[arg(long, value_name = "HOST[:PORT]", value_parser = public_name)]
        host: Option<PublicName>,
    },
    /// Write what kubectl on your own machine needs for the clusters in a box
    ///
    /// It works while the ssh is running that the first lines of it name. Contexts are
    /// called as the box is, alice or alice+web, and with the cluster's name behind a
    /// slash if that is not kind.
    #[command(override_usage = "ssh box@HOST kubeconfig [NAME] > ~/.kube/devhost")]
    Kubeconfig {
        name: Option<String>,
        /// The port on your machine, if not the cluster's own; further clusters follow it
        #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
        /// Through the SOCKS proxy of ssh -D
        #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), num_args = 0..=1,
            default_missing_value = "1080", conflicts_with = "port", require_equals = true)]
        socks: Option<u16>,
    },
    /// Say who you are here
    Whoami {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(super) struct Keep {
    /// For how long from now on
    #[arg(value_name = "DURATION", required_unless_present = "off")]
    first: Option<String>,
    /// Which box, if not your default one
    #[arg(value_name = "NAME")]
    second: Option<String>,
    /// No longer
    #[arg(long)]
    off: bool,
}

/// What is to be said to whoever wants nothing that can be had.
#[derive(Debug)]
pub(super) struct Usage {
    /// With colours, for a terminal.
    pub(super) coloured: String,
    pub(super) plain: String,
    /// She asked for it, and it is no error.
    pub(super) is_help: bool,
}

impl Verb {
    /// Splits a command line as a shell does, but for everything that a shell would replace.
    pub(super) fn parse(command: &[u8]) -> Result<Self, Usage> {
        if command.len() > COMMAND_MAX {
            return Err(Usage::text(&format!(
                "a command of more than {COMMAND_MAX} bytes is not for this place"
            )));
        }
        let text = str::from_utf8(command).map_err(|_| Usage::text("the command is not UTF-8 text"))?;
        let words = shlex::split(text).ok_or_else(|| Usage::text("the command ends within a quotation"))?;
        let program = words.first().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
        if PROGRAMS.contains(&program) {
            return Err(Usage::text(NO_PROGRAMS));
        }
        Words::try_parse_from(words).map(|words| words.verb).map_err(|error| Usage::of(&error))
    }

    /// What is said to a script that wants nothing.
    pub(super) fn usage() -> Usage {
        Usage::text("a command is missing")
    }
}

impl Keep {
    /// Which box, and for how long; no time at all for `--off`.
    pub(super) fn parts(&self) -> Result<(Option<&str>, Duration), String> {
        let (first, second) = (self.first.as_deref(), self.second.as_deref());
        if self.off {
            return match second {
                None => Ok((first, Duration::ZERO)),
                Some(_) => Err("keep --off takes the name of a box and no time".to_owned()),
            };
        }
        let text = first.unwrap_or_default();
        match humantime::parse_duration(text) {
            Ok(time) if (Duration::from_secs(1)..=KEEP_MAX).contains(&time) => Ok((second, time)),
            Ok(_) => Err(format!("keep {text:?}: write a time from 1s to 366days")),
            Err(_) => Err(format!(
                "keep {text:?}: write a time as 30min, 8h or 2days, and the box's name behind it"
            )),
        }
    }
}

impl Usage {
    fn text(text: &str) -> Self {
        let text = format!("boxgate: {text}; `help` lists what can be done here\n");
        Self { coloured: text.clone(), plain: text, is_help: false }
    }

    fn of(error: &clap::Error) -> Self {
        let rendered = error.render();
        Self {
            coloured: rendered.ansi().to_string(),
            plain: rendered.to_string(),
            is_help: !error.use_stderr(),
        }
    }
}

/// The fields of a line, as many on each line of a terminal as it has room for.
fn ls_help() -> String {
    let lines = listing::COLUMNS.chunks(5).map(|names| names.join(", ")).collect::<Vec<_>>();
    format!(
        "Elsewhere than on a terminal each box is a line of these tab-separated fields. New\n\
         ones will come after the last, and what is not known is -.\n  {}",
        lines.join(",\n  ")
    )
}

fn public_name(text: &str) -> Result<PublicName, String> {
    PublicName::parse(text).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "what a verb holds is wrapped")]
    fn some(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[rstest]
    #[case("ls", Verb::Ls { json: false, usage: false })]
    #[case("  ls   --json ", Verb::Ls { json: true, usage: false })]
    #[case("new web", Verb::New { name: "web".to_owned() })]
    #[case("start", Verb::Start { name: None })]
    #[case("stop -", Verb::Stop { name: some("-") })]
    #[case("restart 'alice+web'", Verb::Restart { name: some("alice+web") })]
    #[case("reset -y web", Verb::Reset { name: some("web"), yes: true })]
    #[case("rm \"web\" --yes web", Verb::Rm { name: some("web"), yes: some("web") })]
    #[case("logs", Verb::Logs { name: None, lines: 100, follow: false })]
    #[case("logs web -fn5", Verb::Logs { name: some("web"), lines: 5, follow: true })]
    #[case("kubeconfig", Verb::Kubeconfig { name: None, port: None, socks: None })]
    #[case("kubeconfig web --port 7443", Verb::Kubeconfig { name: some("web"), port: Some(7443), socks: None })]
    #[case("kubeconfig --socks web", Verb::Kubeconfig { name: some("web"), port: None, socks: Some(1080) })]
    #[case("kubeconfig --socks=1081", Verb::Kubeconfig { name: None, port: None, socks: Some(1081) })]
    #[case("whoami --json", Verb::Whoami { json: true })]
    #[case("stop $(id)", Verb::Stop { name: some("$(id)") })]
    fn command_lines(#[case] line: &str, #[case] expected: Verb) {
        assert_eq!(Verb::parse(line.as_bytes()).unwrap(), expected);
    }

    #[rstest]
    #[case("frobnicate")]
    #[case("new")]
    #[case("ls web")]
    #[case("rm web bob")]
    #[case("rm --yes")]
    #[case("logs -n many")]
    #[case("kubeconfig --port 0")]
    #[case("kubeconfig --port 1 --socks")]
    #[case("logs -n -1")]
    #[case("keep")]
    #[case("ssh-config --host 'a b'")]
    #[case("stop 'web")]
    #[case("scp -t /tmp")]
    #[case("ls; id")]
    fn what_is_not_understood(#[case] line: &str) {
        let usage = Verb::parse(line.as_bytes()).unwrap_err();
        assert!(!usage.is_help);
        assert!(!usage.plain.contains('\u{1b}'), "{}", usage.plain);
        assert!(usage.plain.contains("help"), "{}", usage.plain);
    }

    #[rstest]
    #[case("scp -t /tmp")]
    #[case("/usr/lib/openssh/sftp-server")]
    #[case("git-upload-pack 'repository'")]
    fn a_program_is_told_where_programs_run(#[case] line: &str) {
        let usage = Verb::parse(line.as_bytes()).unwrap_err();
        assert!(usage.plain.contains("log in to a box of yours"), "{}", usage.plain);
    }

    #[rstest]
    #[case("help")]
    #[case("--help")]
    #[case("help rm")]
    #[case("rm --help")]
    fn help_is_no_error(#[case] line: &str) {
        assert!(Verb::parse(line.as_bytes()).unwrap_err().is_help);
    }

    #[test]
    fn odd_bytes_and_giants() {
        for command in [&b"rm \xff\xfe"[..], &[b'a'; COMMAND_MAX + 1], &vec![b' '; 1 << 20]] {
            let usage = Verb::parse(command).unwrap_err();
            assert!(!usage.is_help && usage.plain.len() < 200, "{}", usage.plain);
        }
        assert!(Verb::parse(&[b' '; COMMAND_MAX]).is_err());
    }

    fn keep(line: &str) -> Result<(Option<String>, u64), String> {
        match Verb::parse(line.as_bytes()) {
            Ok(Verb::Keep(keep)) => {
                keep.parts().map(|(name, time)| (name.map(str::to_owned), time.as_secs()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn leases() {
        assert_eq!(keep("keep 8h"), Ok((None, 8 * 3600)));
        assert_eq!(keep("keep 90min web"), Ok((some("web"), 90 * 60)));
        assert_eq!(keep("keep --off"), Ok((None, 0)));
        assert_eq!(keep("keep --off web"), Ok((some("web"), 0)));
        for refused in ["keep web", "keep web 8h", "keep 0s", "keep 999years", "keep --off web 8h", "keep 8"]
        {
            assert!(keep(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn the_help_that_people_read() {
        for command in ["help", "help ls", "help keep", "help kubeconfig", "help rm", "strat web"] {
            insta::assert_snapshot!(Verb::parse(command.as_bytes()).unwrap_err().plain);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_understood_or_refused(command in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Err(usage) = Verb::parse(&command) {
                prop_assert!(!usage.plain.is_empty());
            }
        }
    }
}
