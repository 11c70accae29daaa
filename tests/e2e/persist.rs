//! `persist = true`: a login finds the shell again that a lost connection left; nothing else is any different.

use std::time::Duration;

use boxgate_tests::terminal::Terminal;
use boxgate_tests::{Devhost, Login, Setup, until, until_succeeds};

const LIMIT: Duration = Duration::from_secs(20);

fn start() -> Devhost {
    Setup::of(&["alice"]).set("box.persist", "true").start()
}

/// Types a line that says something, and waits for what it says.
#[track_caller]
fn ask(alice: &Login, window: &mut Terminal, what: &str) -> String {
    alice.ssh("rm -f said").ok();
    window.type_keys(&format!("echo \"{what}\" >said.new; mv said.new said\n"));
    until(what, LIMIT, || {
        let read = alice.ssh("cat said").finish();
        if read.succeeded() { Ok(read.text()) } else { Err(format!("{:?}", window.shows("no such text"))) }
    })
}

/// Waits until only those that nobody is at are left, and so many.
#[track_caller]
fn expect_left(alice: &Login, count: usize) {
    until("shells that nobody is at", LIMIT, || {
        let found = alice.ssh("pgrep -xc dtach").finish().text();
        if found == count.to_string() { Ok(()) } else { Err(found) }
    });
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_cut_connection_leaves_the_shell_as_it_is() {
    let devhost = start();
    let alice = devhost.login("alice");
    let mut window = Terminal::open(&alice, 24, 80);
    window.expect("$");
    let pid = ask(&alice, &mut window, "$$");
    window.type_keys("kept=this; cd /tmp; sleep 2000 & cd -\n");
    ask(&alice, &mut window, "settled");
    drop(window);
    expect_left(&alice, 1);

    let mut window = Terminal::open(&alice, 33, 101);
    let found = ask(&alice, &mut window, "$$ $kept $(stty size) $(jobs -p | wc -l)");
    assert_eq!(found, format!("{pid} this 33 101 1"));
    // The terminal's keys reach what runs there, and the window's size follows.
    window.type_keys("sleep 3000\n");
    until_succeeds("the sleep", LIMIT, || alice.ssh("pgrep -fx 'sleep 3000'"));
    window.type_keys("\x03");
    assert_eq!(ask(&alice, &mut window, "$?"), "130");
    window.resize(40, 120);
    until("the new size", LIMIT, || {
        let size = ask(&alice, &mut window, "$(stty size)");
        if size == "40 120" { Ok(()) } else { Err(size) }
    });
    // The agent's path is one that stays.
    assert_eq!(ask(&alice, &mut window, "$SSH_AUTH_SOCK"), "/run/user/1000/boxgate-agent.sock");

    // A clean end is one: with its exit code, and nothing to find again.
    window.type_keys("exit 7\n");
    assert_eq!(window.exit_code(), Some(7));
    expect_left(&alice, 0);
    let mut window = Terminal::open(&alice, 24, 80);
    assert_ne!(ask(&alice, &mut window, "$$"), pid);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn who_comes_while_somebody_is_there_gets_a_shell_of_her_own() {
    let devhost = start();
    let alice = devhost.login("alice");
    let mut first = Terminal::open(&alice, 24, 80);
    let first_pid = ask(&alice, &mut first, "$$");
    let mut second = Terminal::open(&alice, 24, 80);
    let second_pid = ask(&alice, &mut second, "$$");
    assert_ne!(first_pid, second_pid);
    assert_eq!(ask(&alice, &mut first, "$$"), first_pid);
    // Both are lost, the second one last: it is found first.
    drop(first);
    expect_left(&alice, 3);
    drop(second);
    expect_left(&alice, 2);
    let mut again = Terminal::open(&alice, 24, 80);
    assert_eq!(ask(&alice, &mut again, "$$"), second_pid);
    let mut other = Terminal::open(&alice, 24, 80);
    assert_eq!(ask(&alice, &mut other, "$$"), first_pid);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_shell_is_taken_from_a_connection_that_nobody_knows_to_be_lost() {
    let devhost = start();
    let alice = devhost.login("alice");
    let mut lost = Terminal::open(&alice, 24, 80);
    let pid = ask(&alice, &mut lost, "$$");
    let mut window = Terminal::open_command(&alice, "/usr/lib/boxgate/persist take", 24, 80);
    assert_eq!(ask(&alice, &mut window, "$$"), pid);
    lost.exit_code();
    window.type_keys("exit 3\n");
    assert_eq!(window.exit_code(), Some(3));
    expect_left(&alice, 0);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn commands_copies_and_scripts_are_as_without_it() {
    let devhost = start();
    let alice = devhost.login("alice");
    alice.ssh("echo ${BOXGATE_PERSIST-none}").ok().stdout_is("none\n").stderr_is("");
    alice.ssh_with(["-tt"], "echo ${BOXGATE_PERSIST-none}; bash -lic 'tty' ").ok().stdout_has("none\r\n");
    alice.ssh_only(["-T"]).input("echo ${BOXGATE_PERSIST-none}\n").ok().stdout_is("none\n");
    // Not even a box in which nothing can persist keeps anybody out.
    alice.ssh("mkdir $XDG_RUNTIME_DIR/boxgate-shells; sudo mount -t tmpfs -o ro none $XDG_RUNTIME_DIR/boxgate-shells").ok();
    let mut window = Terminal::open(&alice, 24, 80);
    assert_eq!(ask(&alice, &mut window, "$BOXGATE_PERSIST"), "none");
    alice.sftp("ls /etc/boxgate/persist\n").ok().stdout_has("/etc/boxgate/persist");
    expect_left(&alice, 0);
}
