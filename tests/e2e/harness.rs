//! What every other story relies on: tests that are killed leave nothing behind.

use std::env;
use std::time::Duration;

use boxgate_tests::place::assert_cleared;
use boxgate_tests::{Devhost, Run};

/// Tells the story that it is the one to be killed.
const VICTIM: &str = "BOXGATE_TESTS_VICTIM";

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn killed_tests_leave_nothing_behind() {
    if env::var_os(VICTIM).is_some() {
        let devhost = Devhost::start(&["alice"]);
        devhost.login("alice").ssh("true").ok();
        println!("instance={}=", devhost.instance());
        std::thread::sleep(Duration::from_secs(60));
    }
    let story = ["--exact", "harness::killed_tests_leave_nothing_behind", "--include-ignored", "--nocapture"];
    let mut victim = Run::new(env::current_exe().unwrap()).args(story).env(VICTIM, "yes").start();
    let said = victim.expect_stdout("=\n");
    let instance = said.split('=').nth(1).unwrap();
    drop(victim);
    assert_cleared(instance);
}
