//! What the pages in `docs/` say is done, word by word: their commands run, their configuration logs in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxgate_tests::{Devhost, Login, Run, Setup};

mod developers;

pub(crate) const IDES: &str = include_str!("../../docs/ides.md");
/// The section that `web_ide.rs` does.
pub(crate) const BROWSER: &str = "In the browser";
/// How the text calls the host; the lobby's answer must be the text's.
const HOST: &str = "devhost.example.org";

/// A fenced block: what it is of, and its lines.
#[derive(Debug)]
pub(crate) struct Block {
    pub kind: &'static str,
    pub text: &'static str,
}

/// The blocks of a section of a page; the text before the first heading is the section of the page's title.
#[track_caller]
pub(crate) fn blocks(page: &'static str, section: &str) -> Vec<Block> {
    let part = page.split("\n## ").find(|part| part.trim_start_matches("# ").starts_with(section));
    let part = part.unwrap_or_else(|| panic!("there is no section {section}"));
    let fenced = part.split("\n```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).map(|(kind, text)| Block { kind, text }).collect()
}

/// Somebody's own machine: a home with `~/.ssh/config`, and a host that answers to the names of the text.
pub(crate) struct Laptop {
    home: PathBuf,
}

impl Laptop {
    #[track_caller]
    pub(crate) fn new(devhost: &Devhost, login: &Login) -> Self {
        let home = devhost.directory().join("laptop");
        fs::create_dir_all(home.join(".ssh")).unwrap();
        fs::create_dir_all(home.join("bin")).unwrap();
        // ssh heeds the first of two settings. Only what the text cannot know is said here.
        let (test, config) = (home.join(".ssh/test"), home.join(".ssh/config"));
        let block = login.config_block("*");
        let block: Vec<_> = block.lines().filter(|line| !line.contains(" User ")).collect();
        fs::write(&test, format!("{}\n  Include {}\n", block.join("\n"), config.display())).unwrap();
        fs::write(&config, "").unwrap();
        for program in ["ssh", "scp"] {
            // They would look for the file in the home that the system knows.
            let script = format!("#!/bin/sh\nexec /usr/bin/{program} -F {} \"$@\"\n", test.display());
            let wrapper = home.join("bin").join(program);
            fs::write(&wrapper, script).unwrap();
            fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { home }
    }

    /// A line of the text, typed.
    pub(crate) fn types(&self, line: &str) -> Run {
        let path = format!("{}:{}", self.home.join("bin").display(), std::env::var("PATH").unwrap());
        Run::shell(line).env("HOME", &self.home).env("PATH", path)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home.join(".ssh/config")
    }
}

/// What ssh makes of a block for one of its hosts, by `ssh -G`.
#[track_caller]
fn setting(config: &Path, host: &str, name: &str) -> String {
    let all = Run::new("ssh").arg("-F").arg(config).args(["-G", host]).ok().text();
    let line = all.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{host} has no {name}:\n{all}")).to_owned()
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn what_the_page_on_ides_says() {
    let devhost = Setup::of(&["alice"]).set("gateway.public_name", &format!("{HOST:?}")).start();
    let alice = devhost.login("alice");
    devhost.login_with_key_of("box", "alice").ssh("new web").within(Duration::from_secs(60)).ok();
    let laptop = Laptop::new(&devhost, &alice);

    let top = blocks(IDES, "IDEs");
    let [commands, entry, agent] = &top[..] else { panic!("other blocks than expected: {top:?}") };
    assert_eq!([commands.kind, entry.kind, agent.kind], ["sh", "sshconfig", "sshconfig"]);
    laptop.types(commands.text).ok().stdout_is("");
    let given = fs::read_to_string(laptop.config()).unwrap();
    assert_eq!(given, format!("{}\n", entry.text), "left what ssh-config gives, right what the page says");

    for (host, user, hostname) in [("devhost", "alice", "alice"), ("devhost-web", "alice+web", "web")] {
        let said = |name| setting(&laptop.config(), host, name);
        assert_eq!([said("hostname"), said("user")], [HOST, user], "of {host}");
        assert_eq!(said("serveraliveinterval"), "30", "of {host}");
        laptop.types(&format!("ssh {host} hostname")).ok().stdout_is(format!("{hostname}\n"));
    }

    fs::write(laptop.config(), format!("{}\n{given}", agent.text)).unwrap();
    let socket = devhost.directory().join("agent.sock");
    let add = format!(
        "ssh-agent -a {} bash -c 'ssh-add -q {} && ssh devhost ssh-add -l'",
        socket.display(),
        alice.key.display()
    );
    laptop.types(&add).ok().stdout_has("(ED25519)");
    laptop.types("ssh devhost-web ssh-add -l").finish().code(2);
}

#[test]
fn no_block_of_the_page_is_without_a_test() {
    let done = blocks(IDES, "IDEs").len() + blocks(IDES, BROWSER).len();
    assert_eq!(done, IDES.matches("\n```").count() / 2, "blocks that a story does, and blocks of the page");
}
