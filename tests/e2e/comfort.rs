//! What makes a box feel like one's own machine: the agent in tmux, locales, time zone, packages, and no chatter.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use boxgate_tests::terminal::Terminal;
use boxgate_tests::{Devhost, Login, Run, Running, Setup, until, until_succeeds};

const LIMIT: Duration = Duration::from_secs(20);
const AGENT_IN_TMUX: &str = "tmux send-keys -t work 'ssh-add -l >$NAME.new 2>&1; mv $NAME.new $NAME' Enter";

/// An agent on the laptop with one key of its own.
struct Agent {
    socket: PathBuf,
    fingerprint: String,
    _process: Running,
}

impl Agent {
    fn start(devhost: &Devhost, name: &str) -> Self {
        let (socket, key) =
            (devhost.directory().join(format!("{name}.sock")), devhost.directory().join(name));
        let process = Run::new("ssh-agent").arg("-D").arg("-a").arg(&socket).start();
        until("the agent", LIMIT, || socket.exists().then_some(()).ok_or("no socket".to_owned()));
        boxgate_tests::devhost::make_key(&key);
        Run::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket).ok();
        let listed = Run::new("ssh-keygen").arg("-lf").arg(&key).ok().text();
        Self { socket, fingerprint: listed.split(' ').nth(1).unwrap().to_owned(), _process: process }
    }

    fn forwarded(&self) -> String {
        format!("IdentityAgent={}", self.socket.display())
    }
}

/// What a file in the box says, once it is there.
#[track_caller]
fn content(alice: &Login, file: &str) -> String {
    until_succeeds(file, LIMIT, || alice.ssh(&format!("cat {file}"))).text()
}

/// What `ssh-add -l` says in the old window of tmux.
#[track_caller]
fn agent_in_tmux(alice: &Login, name: &str) -> String {
    alice.ssh(&AGENT_IN_TMUX.replace("$NAME", name)).ok();
    content(alice, name)
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn tmux_finds_the_agent_of_whichever_connection_is_there() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    let (desk, train) = (Agent::start(&devhost, "desk"), Agent::start(&devhost, "train"));
    let mut window = Terminal::open_with(&alice, &["-A", "-o", &desk.forwarded()], 24, 80);
    window.type_keys("ssh-add -l >shell.new; mv shell.new shell; tmux new -s work\n");
    assert!(content(&alice, "shell").contains(&desk.fingerprint));
    until_succeeds("tmux", LIMIT, || alice.ssh("tmux has-session -t work"));
    assert!(agent_in_tmux(&alice, "first").contains(&desk.fingerprint));

    // A cut connection takes its agent with it.
    drop(window);
    until("end of the connection", LIMIT, || {
        let there = alice.ssh("ls /tmp/ssh-*/agent.*").finish();
        if there.succeeded() { Err(there.text()) } else { Ok(()) }
    });
    let alone = agent_in_tmux(&alice, "alone");
    assert!(alone.contains("rror") && !alone.contains("SHA256"), "{alone}");

    let mut window = Terminal::open_with(&alice, &["-A", "-o", &train.forwarded()], 24, 80);
    window.type_keys("tmux attach\n");
    let found = until("an agent in tmux", LIMIT, || {
        let found = agent_in_tmux(&alice, "again");
        if found.contains("SHA256") { Ok(found) } else { Err(found) }
    });
    assert!(found.contains(&train.fingerprint), "{found}");
    // So does whatever else asks at the path that stays.
    let elsewhere = "SSH_AUTH_SOCK=$XDG_RUNTIME_DIR/boxgate-agent.sock ssh-add -l";
    alice.ssh(elsewhere).ok().stdout_has(&train.fingerprint);
    // Others keep theirs, and the newest that is there answers in tmux.
    let mut beside = alice.ssh_with(["-A", "-o", &desk.forwarded()], "ssh-add -l; cat; ssh-add -l").start();
    beside.expect_stdout(&desk.fingerprint);
    assert!(agent_in_tmux(&alice, "newest").contains(&desk.fingerprint));
    beside.finish_within(LIMIT).code(0).stdout_has(&desk.fingerprint);
    assert!(agent_in_tmux(&alice, "left").contains(&train.fingerprint));
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn every_session_has_its_runtime_directory() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let look = "echo $XDG_RUNTIME_DIR $(stat -c '%U %a' $XDG_RUNTIME_DIR)";
    let expected = "/run/user/1000 alice 700";
    alice.ssh(look).ok().stdout_is(format!("{expected}\n"));
    alice.ssh_only(["-T"]).input(format!("{look}\n")).ok().stdout_is(format!("{expected}\n"));
    alice.ssh_only(["-tt"]).input(format!("{look}\nexit\n")).ok().stdout_has(expected);
    // sftp has no way to show its environment: somebody else looks.
    let mut sftp = alice.ssh_with(["-s"], "sftp").start();
    sftp.write("\0\0\0\x05\x01\0\0\0\x03");
    sftp.expect_stdout("\x02\0\0\0\x03");
    let look = "sudo cat /proc/$(pgrep -n sftp-server)/environ | tr '\\0' '\\n' | grep XDG_RUNTIME_DIR";
    alice.ssh(look).ok().stdout_is("XDG_RUNTIME_DIR=/run/user/1000\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn locales_pass_and_unknown_ones_warn_nobody() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    // bash, perl and what asks the C library, with a character of two bytes.
    let look = "echo \"$LANG,$LC_ALL\"; perl -e 'print \"perl\\n\"'; locale charmap; printf ü | wc -m";
    for (sent, seen) in [
        ("LANG=de_DE.UTF-8", "de_DE.UTF-8,"),
        ("LANG=en_US.UTF-8", "en_US.UTF-8,"),
        ("LC_ALL=xx_YY.UTF-8", "C.UTF-8,xx_YY.UTF-8"),
        ("LC_CTYPE=UTF-8", "C.UTF-8,"),
    ] {
        let option = format!("SetEnv={sent}");
        let expected = format!("{seen}\nperl\nUTF-8\n1\n");
        alice.ssh_with(["-o", &option], look).ok().stdout_is(&expected).stderr_is("");
        let login = alice.ssh_only(["-T", "-o", &option]).input(format!("{look}\n"));
        login.ok().stdout_is(expected).stderr_is("");
    }
    // Without any, the box's own.
    alice.ssh(look).ok().stdout_is("C.UTF-8,\nperl\nUTF-8\n1\n").stderr_is("");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn what_a_box_lacks_its_owner_gives_it() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let look = "LC_ALL=fr_FR.UTF-8 date --date=2026-03-01 +%B";
    alice.ssh(look).ok().stdout_is("March\n").stderr_is("");
    alice.ssh("sudo localedef -i fr_FR -f UTF-8 fr_FR.UTF-8").ok();
    alice.ssh(look).ok().stdout_is("mars\n");
    let hour = "export TZ=Europe/Berlin; date --date=2026-07-01T12:00Z +%H";
    alice.ssh(hour).ok().stdout_is("14\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn time_zone_and_locale_are_the_operators_and_follow_the_configuration() {
    let settings = Setup::of(&["alice", "bob"])
        .set("box.timezone", "\"Europe/Berlin\"")
        .set("box.locale", "\"de_DE.UTF-8\"")
        .set("groups.away.members", "[\"bob\"]")
        .set("groups.away.box.timezone", "\"America/New_York\"");
    let devhost = settings.start();
    let (alice, bob) = (devhost.login("alice"), devhost.login("bob"));
    let look = "date --date=2026-07-01T12:00Z +%H:%M; cat /etc/timezone; echo $LANG";
    alice.ssh(look).ok().stdout_is("14:00\nEurope/Berlin\nde_DE.UTF-8\n").stderr_is("");
    bob.ssh(look).ok().stdout_is("08:00\nAmerica/New_York\nde_DE.UTF-8\n");
    // It is compiled in the background, and nothing warns until then.
    until("the locale", LIMIT, || {
        let month = alice.ssh("date --date=2026-03-01 +%B").ok().stderr_is("").text();
        if month == "März" { Ok(()) } else { Err(month) }
    });

    let text = fs::read_to_string(devhost.config_file()).unwrap();
    let kept: Vec<_> =
        text.lines().filter(|line| !line.starts_with("timezone") && !line.starts_with("locale")).collect();
    fs::write(devhost.config_file(), kept.join("\n")).unwrap();
    devhost.provisioner.terminate();
    devhost.start_provisioner();
    devhost.boxgate(&["stop", "alice"]).within(LIMIT * 3).ok();
    alice.ssh(look).ok().stdout_is("12:00\nEtc/UTC\nC.UTF-8\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn what_an_image_does_not_know_is_told_and_in_nobodys_way() {
    let devhost = Setup::of(&["alice"]).set("box.locale", "\"xx_YY.UTF-8\"").start();
    let alice = devhost.login("alice");
    alice.ssh("echo $LANG").ok().stdout_is("C.UTF-8\n").stderr_is("");
    devhost.boxgate(&["logs", "alice"]).ok().stdout_has("does not know xx_YY.UTF-8");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_spare_box_becomes_hers_with_her_settings() {
    let devhost = Setup::of(&["alice"])
        .set("provisioner.spare_boxes", "1")
        .set("box.timezone", "\"Europe/Berlin\"")
        .set("box.registry_mirrors", "[\"https://mirror.example.org\"]")
        .start();
    until("a spare", LIMIT * 3, || {
        let listed = devhost.boxgate(&["ls", "--quick"]).ok().text();
        if listed.contains("ready") { Ok(()) } else { Err(listed) }
    });
    let alice = devhost.login("alice");
    alice.ssh("true").ok();
    // She comes in before the box has heard of it.
    until("the time zone", LIMIT, || {
        let zone = alice.ssh("cat /etc/timezone").ok().text();
        if zone == "Europe/Berlin" { Ok(()) } else { Err(zone) }
    });
    until("the mirror", LIMIT, || {
        let mirrors = alice.ssh("docker info --format '{{.RegistryConfig.Mirrors}}'").ok().text();
        if mirrors == "[https://mirror.example.org/]" { Ok(()) } else { Err(mirrors) }
    });
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_login_is_greeted_by_its_prompt_alone() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    alice.ssh("true").ok().stdout_is("").stderr_is("");
    let shown = alice.ssh_only(["-tt"]).input("exit\n").ok().text();
    let lines: Vec<_> = shown.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(lines.len() <= 3 && shown.contains("alice@alice"), "{shown:?}");
    assert!(!shown.contains("Last login"), "{shown:?}");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn packages_can_be_installed_and_survive_sleep() {
    let devhost = Devhost::start(&["alice"]);
    let alice = devhost.login("alice");
    // Tests have no mirror of the distribution: a package made on the spot.
    let build = "mkdir -p hello/DEBIAN hello/usr/bin && cd hello && \
        printf 'Package: hello-box\\nVersion: 1\\nArchitecture: all\\nMaintainer: alice <alice@example.org>\\n\
        Description: says hello\\n' >DEBIAN/control && printf '#!/bin/sh\\necho hello, box\\n' >usr/bin/hello-box && \
        chmod 755 usr/bin/hello-box && dpkg-deb --root-owner-group --build . /tmp/hello.deb";
    alice.ssh(build).ok();
    alice.ssh("sudo apt-get install --yes /tmp/hello.deb").within(LIMIT * 3).ok();
    alice.ssh("hello-box").ok().stdout_is("hello, box\n");
    devhost.boxgate(&["stop", "alice"]).within(LIMIT * 3).ok();
    alice.ssh("hello-box; dpkg-query -W hello-box").ok().stdout_is("hello, box\nhello-box\t1\n");
}
