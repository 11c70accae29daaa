//! The first connection of all, which makes the box: in time, and with nothing on standard output but what the IDE
//! asked for.

use std::time::Duration;

use boxgate_tests::local::free_port;
use boxgate_tests::{Finished, Login, Run, Setup};

use super::{FIRST_ANSWER, SYSTEM_PROBE, script, started};

/// What an IDE starts with, its patience, and how its standard output is judged.
type Opening = (&'static str, Duration, fn(&Login) -> Run, fn(&Finished));

const ID: &str = "5ec4cfce9118";

fn is_script_result(finished: &Finished) {
    started(ID, &(finished.text() + "\n"));
}

fn is_system(finished: &Finished) {
    assert_eq!(finished.text(), format!("Linux {}", std::env::consts::ARCH), "{finished}");
}

const OPENINGS: [Opening; 5] = [
    (
        "vscode",
        FIRST_ANSWER,
        |login| {
            let proxy = free_port().to_string();
            let options = ["-T", "-D", &proxy, "-o", "ConnectTimeout=15", "-o", "LogLevel=INFO"];
            login.ssh_with(options, "bash").input(script(ID, "vscode", "0"))
        },
        is_script_result,
    ),
    (
        "exec",
        FIRST_ANSWER,
        |login| {
            let options = ["-T", "-o", "ClearAllForwardings=true", "-o", "LogLevel=INFO"];
            login.ssh_with(options, "bash").input(script(ID, "exec", "TMP/first.sock"))
        },
        is_script_result,
    ),
    (
        // open-remote-ssh gives bash its script as one word.
        "codium",
        FIRST_ANSWER,
        |login| {
            let script = script(ID, "codium", "0").replace('\'', r"'\''");
            login.ssh_with(["-o", "LogLevel=INFO"], &format!("bash -c '{script}'"))
        },
        is_script_result,
    ),
    ("jetbrains", SYSTEM_PROBE, |login| login.ssh_with(["-o", "LogLevel=INFO"], "uname -sm"), is_system),
    (
        "zed",
        FIRST_ANSWER,
        |login| {
            let socket = login.known_hosts.with_file_name("zed-first.sock");
            let socket = format!("ControlPath={}", socket.display());
            let options = ["-N", "-o", "ControlPersist=no", "-o", "ControlMaster=yes", "-o", &socket];
            let (master, client) = (login.line(&options), login.line(&["-T", "-o", &socket]));
            let wait = "cat <&3";
            Run::shell(&format!("exec 3< <(exec {master}); {wait}; {client} uname -sm; kill $!"))
        },
        is_system,
    ),
];

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn the_first_connection_makes_the_box_in_time() {
    let users = OPENINGS.map(|(user, ..)| user);
    let devhost = Setup::of(&users).start();
    for (user, patience, opening, judge) in OPENINGS {
        let first = opening(&devhost.login(user)).ok().took_at_most(patience);
        judge(&first);
        eprintln!("{user}: first answer complete after {:.1} s", first.took.as_secs_f64());
        let container = devhost.container(user);
        assert!(devhost.objects().containers.contains(&container), "{user} got a box by that");
    }
}
