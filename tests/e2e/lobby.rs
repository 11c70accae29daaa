//! `ssh box@devhost VERB`: who somebody is her key says, and what she says happens to her boxes and to no others.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use boxgate_tests::devhost::make_key;
use boxgate_tests::docker::Objects;
use boxgate_tests::terminal::Terminal;
use boxgate_tests::{Devhost, Finished, Login, Setup, until_succeeds};

fn lobby(devhost: &Devhost, user: &str) -> Login {
    devhost.login_with_key_of("box", user)
}

/// A new key with these options in a user's file.
fn key_with_options(devhost: &Devhost, user: &str, name: &str, options: &str) -> PathBuf {
    let key = devhost.directory().join("keys").join(name);
    make_key(&key);
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    devhost.authorize(user, &format!("{options} {public}"));
    key
}

/// The field of a box's line in a listing for scripts.
#[track_caller]
fn field(listed: &Finished, devbox: &str, at: usize) -> Option<String> {
    let text = listed.text();
    let line = text.lines().find(|line| line.split('\t').next() == Some(devbox))?;
    Some(line.split('\t').nth(at).unwrap_or_else(|| panic!("{line:?} has no field {at}")).to_owned())
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_key_says_who_comes_and_whose_boxes_she_sees() {
    let devhost = Devhost::shared();
    let (alice, bob) = (lobby(&devhost, "alice"), lobby(&devhost, "bob"));
    alice.ssh("whoami").ok().stdout_has("login\talice\n").stdout_has("address\t127.0.0.1:").stderr_is("");
    bob.ssh("whoami").ok().stdout_has("login\tbob\n");
    let listed = alice.ssh("ls").ok();
    assert_eq!(field(&listed, "alice", 2).as_deref(), Some("ready"), "{listed}");
    assert_eq!(field(&bob.ssh("ls").ok(), "alice", 0), None);
    let json = alice.ssh("ls --json").ok().text();
    let boxes: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&boxes[0]["id"], &boxes[0]["state"]), (&"alice".into(), &"ready".into()), "{json}");
    devhost.provisioner.expect_line(&["login=alice", "asked", "SHA256:", "from 127.0.0.1:", "whoami"]);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_terminal_shows_a_table_in_colours() {
    let devhost = Devhost::shared();
    let alice = lobby(&devhost, "alice");
    alice.ssh_with(["-tt"], "ls").ok().stdout_has("BOX ").stdout_has("\u{1b}[").stdout_has("\r\n");
    let mut window = Terminal::open(&alice, 24, 100);
    window.expect("login       alice");
    window.expect("help: what can be done with boxes");
    window.type_keys("\n");
    assert_eq!(window.exit_code(), Some(0));
    alice.ssh_only(["-T"]).finish().code(2).stderr_has("a command is missing");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn help_and_what_is_not_understood() {
    let devhost = Devhost::shared();
    let alice = lobby(&devhost, "alice");
    alice.ssh("help").ok().stdout_has("Exit codes").stdout_has("ssh-config").stderr_is("");
    alice.ssh("help rm").ok().stdout_has("--yes");
    for command in ["id", "ls; id", "stop '", "rm ../etc", "stop \u{1b}[2J", "new Ünïcode", "logs -n -1"] {
        alice.ssh(command).finish().code(2).stdout_is("");
    }
    alice
        .ssh("stop bob+web")
        .finish()
        .code(4)
        .stdout_is("")
        .stderr_is("boxgate: box bob+web belongs to bob\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_giant_command_harms_nobody() {
    let devhost = Devhost::shared();
    let alice = lobby(&devhost, "alice");
    // The kernel takes no longer word of a command line, but as many as make a megabyte.
    let word = "x".repeat(100_000);
    alice.ssh(&word).finish().code(2).stderr_has("more than 4096 bytes");
    let giant = alice.ssh("ls").args(vec![word; 10]).finish().failed();
    assert!(giant.stdout.is_empty(), "{giant}");
    alice.ssh("ls").ok();
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn files_and_forwards_are_refused_with_a_word() {
    let devhost = Devhost::shared();
    let alice = lobby(&devhost, "alice");
    let file = devhost.directory().join("boxgate.toml").display().to_string();
    let word = "name a box of yours";
    alice.scp(&[], &file, ":").finish().failed().stderr_has(word);
    alice.sftp("ls\n").finish().failed().stderr_has(word);
    alice.scp(&["-O"], &file, ":").finish().failed().stderr_has("log in to a box of yours");
    alice.rsync(&[], &file, ":").finish().failed().stderr_has("log in to a box of yours");
    let forward = ["-o", "LogLevel=INFO", "-W", "127.0.0.1:22"];
    alice.ssh_only(forward).finish().failed().stderr_has("nothing is forwarded here");
    let remote = ["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9"];
    alice.ssh_with(remote, "ls").finish().code(255).stdout_is("");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn what_a_key_may_not_do_it_may_not_do_here_either() {
    let devhost = Devhost::shared();
    let alice = lobby(&devhost, "alice");
    let plain = Login { key: key_with_options(&devhost, "alice", "lobby-no-pty", "no-pty"), ..alice.clone() };
    plain.ssh("ls").ok();
    plain.ssh_with(["-tt"], "ls").finish().stderr_has("PTY allocation");
    let options = "restrict,command=\"date\"";
    let forced = Login { key: key_with_options(&devhost, "alice", "lobby-forced", options), ..alice };
    forced.ssh("ls").finish().code(255).stdout_is("").stderr_has("for one command only");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_key_of_two_people_is_refused_with_a_word() {
    let devhost = Devhost::start(&["alice", "bob"]);
    let both = key_with_options(&devhost, "alice", "both", "");
    let as_herself = Login { key: both.clone(), ..lobby(&devhost, "alice") };
    as_herself.ssh("whoami").ok().stdout_has("login\talice\n");
    devhost.authorize("bob", &fs::read_to_string(both.with_extension("pub")).unwrap());
    as_herself.ssh("whoami").finish().code(255).stderr_has("in use by several people");
    assert_eq!(devhost.objects(), Objects::default(), "the lobby makes nothing that nobody asked for");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn ssh_config_is_ready_to_use() {
    let devhost = Setup::of(&["alice"]).set("gateway.public_name", "\"localhost.example.org\"").start();
    let alice = lobby(&devhost, "alice");
    alice
        .ssh("ssh-config")
        .ok()
        .stdout_has("Host localhost\n    HostName localhost.example.org\n    User alice");
    let block = alice.ssh(&format!("ssh-config --host {}", devhost.address())).ok();
    let file = devhost.directory().join("her_config");
    fs::write(&file, &block.stdout).unwrap();
    // ssh heeds the first of two settings: with this file, but for that, she types `ssh devbox`.
    let ssh = |command: &str, host: &str| {
        let known = format!("UserKnownHostsFile={}", alice.known_hosts.display());
        let run = boxgate_tests::Run::new("ssh").arg("-F").arg(&file).arg("-i").arg(&alice.key);
        run.args(["-o", &known, "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", host, command])
    };
    ssh("whoami", "devbox").ok().stdout_is("alice\n");
    ssh("whoami", "box@devbox").ok().stdout_has("login\talice\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn several_verbs_at_once() {
    let devhost = Devhost::shared();
    let alice = lobby(&devhost, "alice");
    let running: Vec<_> = (0..10).map(|_| alice.ssh("ls").start()).collect();
    for mut one in running {
        let listed = one.finish_within(Duration::from_secs(30)).code(0);
        assert!(field(&listed, "alice", 0).is_some(), "{listed}");
    }
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn the_lobby_is_there_again_after_the_provisioner_was_killed() {
    let devhost = Devhost::start(&["alice"]);
    let alice = lobby(&devhost, "alice");
    alice.ssh("ls").ok();
    devhost.provisioner.kill();
    alice.ssh("ls").finish().code(255).stderr_has("the lobby: the service that makes boxes is not running");
    devhost.start_provisioner();
    until_succeeds("the lobby", Duration::from_secs(10), || alice.ssh("ls"));
    devhost.provisioner.terminate();
    let left: Vec<_> = fs::read_dir(devhost.directory().join("run")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
