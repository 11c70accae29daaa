//! At a keyboard: a terminal there as here, its size, Ctrl-C.

use boxgate_tests::terminal::Terminal;
use boxgate_tests::{Devhost, until, until_succeeds};
use std::time::Duration;

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_terminal_has_its_size_and_follows_the_window() {
    let devhost = Devhost::shared();
    let mut window = Terminal::open(&devhost.login("alice"), 33, 101);
    window.type_keys("echo \"on:$(tty) size:$(stty size) type:$TERM\"\n");
    window.expect("on:/dev/pts/");
    window.expect("size:33 101 type:");
    window.resize(40, 120);
    until("the new size in the box", Duration::from_secs(10), || {
        window.type_keys("echo \"now:$(stty size)\"\n");
        std::thread::sleep(Duration::from_millis(100));
        window.shows("now:40 120")
    });
    window.type_keys("exit 7\n");
    assert_eq!(window.exit_code(), Some(7));
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn ctrl_c_interrupts_the_command_and_the_shell_lives_on() {
    let devhost = Devhost::shared();
    let mut window = Terminal::open(&devhost.login("alice"), 24, 80);
    window.type_keys("bash -c 'echo begun; exec sleep 1000'\n");
    window.expect("begun\r\n");
    window.type_keys("\x03");
    window.type_keys("echo \"came to $?\"\n");
    window.expect("came to 130");
    window.type_keys("exit\n");
    assert_eq!(window.exit_code(), Some(0));
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn closing_the_window_hangs_up_what_ran_in_it() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let mut window = Terminal::open(&alice, 24, 80);
    window.type_keys("exec sleep 7211\n");
    let running = || alice.ssh("pgrep -fx 'sleep 7211'");
    until_succeeds("the sleep", Duration::from_secs(10), running);
    drop(window);
    until("hang-up", Duration::from_secs(10), || match running().finish() {
        found if found.succeeded() => Err(found.to_string()),
        _ => Ok(()),
    });
}
