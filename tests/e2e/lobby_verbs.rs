//! What can be said in the lobby is done: to a box of one's own, and to nobody else's.

use std::time::Duration;

use boxgate_tests::docker::image_that_runs;
use boxgate_tests::{Devhost, Finished, Login, Running, Setup, Stopwatch, until};

/// Making and booting a box, on a machine that does much else.
const BOX: Duration = Duration::from_secs(90);

fn lobby(devhost: &Devhost) -> Login {
    devhost.login_with_key_of("box", "alice")
}

fn say(lobby: &Login, command: &str) -> Finished {
    lobby.ssh(command).within(BOX).finish()
}

/// The same with a terminal, at whose keyboard the test sits.
fn on_a_terminal(lobby: &Login, command: &str) -> Running {
    lobby.ssh_with(["-tt"], command).start()
}

/// A field of a box's line, if there is such a box.
fn field(lobby: &Login, devbox: &str, at: usize) -> Option<String> {
    let listed = say(lobby, "ls").code(0).text();
    let line = listed.lines().find(|line| line.split('\t').next() == Some(devbox))?;
    line.split('\t').nth(at).map(str::to_owned)
}

fn state(lobby: &Login, devbox: &str) -> Option<String> {
    field(lobby, devbox, 2)
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn the_life_of_a_box() {
    let devhost = Devhost::start(&["alice"]);
    let lobby = lobby(&devhost);
    let web = Login { name: "alice+web".into(), ..devhost.login("alice") };
    say(&lobby, "new web").code(0).stdout_has("box alice+web is ready").stderr_has("boxgate: ");
    assert_eq!(state(&lobby, "alice+web").as_deref(), Some("ready"));
    assert_eq!(state(&lobby, "alice"), None, "nobody asked for it");
    web.ssh("echo kept >kept; sudo touch /opt/lost").ok();

    say(&lobby, "stop web").code(0).stdout_has("is stopped");
    assert_eq!(state(&lobby, "alice+web").as_deref(), Some("stopped"));
    say(&lobby, "start web").code(0);
    web.ssh("cat kept; ls /opt/lost").ok().stdout_is("kept\n/opt/lost\n");
    let boot = web.ssh("cat /proc/1/stat | cut -d' ' -f22").ok().text();
    say(&lobby, "restart web").code(0);
    assert_ne!(web.ssh("cat /proc/1/stat | cut -d' ' -f22").ok().text(), boot);

    say(&lobby, "reset web").code(5).stderr_has("--yes");
    web.ssh("ls /opt/lost").ok();
    say(&lobby, "reset web --yes").code(0);
    web.ssh("cat kept; ls /opt").ok().stdout_is("kept\n");

    say(&lobby, "rm web").code(5).stderr_has("home directory").stderr_has("--yes web");
    say(&lobby, "rm web --yes alice").code(5);
    web.ssh("cat kept").ok().stdout_is("kept\n");
    say(&lobby, "rm web --yes web").code(0).stdout_has("is gone");
    assert_eq!(state(&lobby, "alice+web"), None);
    assert_eq!(devhost.objects(), boxgate_tests::docker::Objects::default());
    say(&lobby, "rm web --yes web").code(3).stderr_has("you have no box alice+web");
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn nothing_is_said_about_boxes_of_others() {
    let devhost = Devhost::start(&["alice", "bob"]);
    let lobby = lobby(&devhost);
    let bobs = devhost.login_with_key_of("box", "bob");
    say(&bobs, "new web").code(0);
    for verb in ["start", "stop", "restart", "reset --yes", "rm --yes bob+web", "logs", "keep 8h"] {
        let there = say(&lobby, &format!("{verb} bob+web")).code(4);
        let not_there = say(&lobby, &format!("{verb} bob+none")).code(4);
        assert_eq!(there.errors(), not_there.errors().replace("bob+none", "bob+web"), "{verb}");
        assert_eq!(there.stdout, not_there.stdout);
    }
    assert_eq!(state(&bobs, "bob+web").as_deref(), Some("ready"));
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn at_a_terminal_the_name_is_typed_again() {
    let devhost = Devhost::start(&["alice"]);
    let lobby = lobby(&devhost);
    say(&lobby, "new web").code(0);
    let mut window = on_a_terminal(&lobby, "rm web");
    window.expect_stderr("Type its name, alice+web");
    window.write("web2\r");
    window.finish_within(BOX).code(5).stderr_has("that is not its name");
    let mut window = on_a_terminal(&lobby, "rm web");
    window.expect_stderr("Type its name");
    window.write("\x03");
    window.finish_within(BOX).code(130);
    assert_eq!(state(&lobby, "alice+web").as_deref(), Some("ready"));
    let mut window = on_a_terminal(&lobby, "rm web");
    window.expect_stderr("Type its name");
    window.write("web\r");
    window.expect_stdout("is gone");
    window.finish_within(BOX).code(0);
    assert_eq!(state(&lobby, "alice+web"), None);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn ctrl_c_ends_the_waiting_and_not_the_work() {
    let setup = Setup::of(&["alice"]).set("box.boot_timeout", "\"20s\"");
    let image = image_that_runs("#!/bin/sh\nexec /bin/busybox sleep 1000\n", &setup.instance(), "never");
    let devhost = setup.set("box.image", &format!("{image:?}")).start();
    let lobby = lobby(&devhost);
    let mut window = on_a_terminal(&lobby, "new web");
    window.expect_stderr("boot");
    let pressed = Stopwatch::start();
    window.write("\x03");
    window.finish_within(Duration::from_secs(10)).code(130).stderr_has("no longer waiting");
    assert!(pressed.elapsed() < Duration::from_secs(10));
    // Nor does it matter that a client is killed.
    let mut killed = lobby.ssh("new web").start();
    killed.expect_stderr("boot");
    drop(killed);
    assert_eq!(state(&lobby, "alice+web").as_deref(), Some("booting"));
    until("the end of the boot that nobody waits for", Duration::from_secs(40), || {
        match state(&lobby, "alice+web").as_deref() {
            Some("booting") => Err("booting".to_owned()),
            _ => Ok(()),
        }
    });
    devhost.provisioner.expect_line(&["alice+web", "its sshd did not answer within 20s"]);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn leases_and_logs() {
    let devhost = Devhost::shared();
    let lobby = lobby(&devhost);
    say(&lobby, "keep 8h").code(0).stdout_has("not stopped for being idle before 2");
    assert_ne!(field(&lobby, "alice", 6).as_deref(), Some("-"));
    say(&lobby, "keep --off").code(0);
    assert_eq!(field(&lobby, "alice", 6).as_deref(), Some("-"));
    say(&lobby, "keep 8h none").code(3);
    say(&lobby, "logs -n 5").code(0);
    say(&lobby, "logs none").code(3);
    let mut following = lobby.ssh("logs -f").start();
    assert!(following.is_running());
    drop(following);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn as_many_boxes_as_she_may_have() {
    let devhost = Setup::of(&["alice"]).set("box.max_boxes", "2").start();
    let lobby = lobby(&devhost);
    say(&lobby, "new one").code(0);
    say(&lobby, "new two").code(0);
    say(&lobby, "new three").code(1).stderr_has("three");
    say(&lobby, "rm one --yes one").code(0);
    say(&lobby, "new three").code(0);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn the_same_said_many_times_at_once_is_done_once() {
    let devhost = Devhost::start(&["alice"]);
    let lobby = lobby(&devhost);
    let at_once = |command: &str| {
        let running: Vec<_> = (0..6).map(|_| lobby.ssh(command).start()).collect();
        for mut one in running {
            one.finish_within(BOX).code(0);
        }
    };
    at_once("new web");
    assert_eq!(devhost.objects().containers.len(), 1);
    at_once("stop web");
    at_once("start web");
    assert_eq!(state(&lobby, "alice+web").as_deref(), Some("ready"));
}
