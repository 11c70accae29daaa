//! `ssh gateway COMMAND` is that command: its exit code, its three streams, byte for byte.

use std::time::Duration;

use boxgate_tests::Devhost;
use boxgate_tests::local::random_bytes;

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn the_exit_code_is_the_commands() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    for code in [0, 1, 42, 255] {
        alice.ssh(&format!("exit {code}")).finish().code(code).stdout_is("").stderr_is("");
    }
    // OpenSSH's own answer to a command that a signal ended.
    alice.ssh("kill -KILL $$").finish().code(255);
    alice.ssh("no-such-command").finish().code(127).stderr_has("not found");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn streams_are_separate() {
    let devhost = Devhost::shared();
    let both = "for i in $(seq 2000); do echo out $i; echo err $i >&2; done";
    let lines = |word: &str| (1..=2000).map(|i| format!("{word} {i}\n")).collect::<Vec<_>>().concat();
    devhost.login("alice").ssh(both).ok().stdout_is(lines("out")).stderr_is(lines("err"));
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn streams_are_binary_clean_both_ways() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let sent = random_bytes(8 << 20);
    alice.ssh("cat").input(sent.clone()).ok().stdout_is(&sent).stderr_is("");
    alice.ssh("cat >&2").input(sent.clone()).ok().stdout_is("").stderr_is(&sent);
    alice
        .ssh("sha256sum; sha256sum /dev/null")
        .ok()
        .stdout_has("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  -");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn input_that_nobody_reads_holds_up_nobody() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let limit = Duration::from_secs(5);
    alice.ssh("exit 3").input(random_bytes(8 << 20)).finish().code(3).took_at_most(limit);
    alice.ssh("head -c 3").input("yes".repeat(3 << 20)).ok().stdout_is("yes").took_at_most(limit);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn a_command_hears_that_its_input_ended_while_it_goes_on() {
    let devhost = Devhost::shared();
    let mut running =
        devhost.login("alice").ssh("echo ready; cat; echo end of input; sleep 0.2; echo done").start();
    running.expect_stdout("ready\n");
    running.write("a line\n");
    running.expect_stdout("a line\n");
    running.finish_within(Duration::from_secs(10)).code(0).stdout_is("ready\na line\nend of input\ndone\n");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn subsystems_and_environment_arrive() {
    let devhost = Devhost::shared();
    let alice = devhost.login("alice");
    let with_colour = ["-o", "SetEnv=COLORTERM=truecolor LC_TIME=C.UTF-8"];
    alice.ssh_with(with_colour, "echo $COLORTERM $LC_TIME").ok().stdout_is("truecolor C.UTF-8\n");
    // SFTP's first packet and its answer: five bytes, version 3.
    let mut sftp = alice.ssh_with(["-s"], "sftp").start();
    sftp.write("\0\0\0\x05\x01\0\0\0\x03");
    sftp.expect_stdout("\x02\0\0\0\x03");
}
