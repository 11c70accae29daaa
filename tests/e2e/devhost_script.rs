//! The script that a newcomer runs. These are the slow stories: each `up` builds what is not built yet.

use std::path::{Path, PathBuf};
use std::time::Duration;

use boxgate_tests::devhost::make_key;
use boxgate_tests::docker::{Objects, docker, inspect};
use boxgate_tests::local::free_port;
use boxgate_tests::place::{Place, programs_below};
use boxgate_tests::{Login, Run, until};
use nix::sys::signal::Signal;

/// A first build of everything on a slow machine.
const BUILT_WITHIN: Duration = Duration::from_secs(1800);
const AT_ONCE: Duration = Duration::from_secs(30);
/// The provisioner, the gateway and its worker.
const PROGRAMS: usize = 3;

/// A place where the script sets up a devhost.
struct Script {
    place: Place,
    port: u16,
}

impl Script {
    fn new() -> Self {
        let place = Place::take();
        make_key(&place.directory().join("alice"));
        Self { place, port: free_port() }
    }

    /// Its directory, which it makes and, when it is told to, removes.
    fn directory(&self) -> PathBuf {
        self.place.directory().join("devhost")
    }

    fn run(&self, args: &[&str]) -> Run {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../devhost");
        let run =
            Run::new(script).args(args).env("BOXGATE_DEVHOST_DIR", self.directory()).within(BUILT_WITHIN);
        run.env("BOXGATE_INSTANCE", self.place.instance())
    }

    fn up(&self, more: &[&str]) -> Run {
        let (port, key) = (self.port.to_string(), self.login().key.with_extension("pub"));
        let flags =
            ["up", "--runtime", "runc", "--user", "alice", "--key", key.to_str().unwrap(), "--port", &port];
        self.run(&[&flags[..], more].concat())
    }

    fn login(&self) -> Login {
        Login {
            name: "alice".into(),
            host: "127.0.0.1".into(),
            key: self.place.directory().join("alice"),
            known_hosts: self.place.directory().join("known_hosts"),
            port: self.port,
        }
    }

    #[track_caller]
    fn ssh(&self, command: &str) -> String {
        self.login().ssh_with(["-o", "StrictHostKeyChecking=accept-new"], command).ok().text()
    }

    fn container_id(&self) -> String {
        inspect(&format!("{}.alice", self.place.instance()))["Id"].as_str().unwrap().to_owned()
    }

    /// The programs that run from its directory.
    fn programs(&self) -> Vec<String> {
        programs_below(&self.directory()).lines().map(str::to_owned).collect()
    }
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn up_detached_then_down_then_up_again_then_purge() {
    let script = Script::new();
    let up = script.up(&["--detach"]).ok();
    let up = up.stdout_has(&format!("ssh -p {} alice@127.0.0.1", script.port)).stderr_has("WARNING");
    assert_eq!(script.programs().len(), PROGRAMS, "programs after\n{up}");
    assert_eq!(script.ssh("echo mark >marked; whoami"), "alice");
    let made = script.container_id();

    script.up(&["--detach"]).finish().failed().stderr_has("already runs").stderr_has("./devhost down");
    assert_eq!(script.ssh("cat marked"), "mark", "the second up harmed nothing");

    script.run(&["down"]).ok().took_at_most(AT_ONCE);
    assert_eq!(script.programs(), [""; 0]);
    assert_eq!(script.container_id(), made, "the box stays");

    // Without flags: what the first up was told is remembered.
    script.run(&["up", "--detach"]).ok().took_at_most(AT_ONCE);
    assert_eq!(script.ssh("cat marked"), "mark");
    assert_eq!(script.container_id(), made);

    script.run(&["down", "--purge"]).ok().took_at_most(AT_ONCE);
    assert_eq!(script.programs(), [""; 0]);
    assert_eq!(Objects::of(&script.place.instance()), Objects::default());
    assert!(!script.directory().exists(), "purge removes {}", script.directory().display());
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn ctrl_c_ends_what_up_started() {
    let script = Script::new();
    let mut up = script.up(&[]).start();
    up.expect_stderr("building");
    script.up(&[]).finish().code(1).stderr_has("another ./devhost up is setting it up").took_at_most(AT_ONCE);
    until("programs of up", BUILT_WITHIN, || {
        assert!(up.is_running(), "up ended: {}", up.finish_within(AT_ONCE));
        let programs = script.programs();
        if programs.len() == PROGRAMS { Ok(()) } else { Err(format!("{programs:?}")) }
    });
    up.expect_stdout("ssh -p");
    assert_eq!(script.ssh("whoami"), "alice");
    up.signal(Signal::SIGINT);
    up.finish_within(AT_ONCE).code(0).stderr_has("ending");
    assert_eq!(script.programs(), [""; 0]);
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn up_isolates_boxes_or_says_what_is_missing_and_stops() {
    let script = Script::new();
    let (port, key) = (script.port.to_string(), script.login().key.with_extension("pub"));
    let flags = ["up", "--user", "alice", "--key", key.to_str().unwrap(), "--port", &port, "--detach"];
    // Nothing is installed in the middle of the tests: that would restart Docker.
    let up = script.run(&flags).env("SYSBOX_DEB", "/nonexistent/sysbox.deb").finish();
    if docker(["info", "--format", "{{json .Runtimes}}"]).contains("sysbox-runc") {
        assert!(up.succeeded(), "Docker has Sysbox, and yet:\n{up}");
        assert_eq!(script.ssh("whoami"), "alice");
        let container = inspect(&format!("{}.alice", script.place.instance()));
        assert_eq!(container["HostConfig"]["Runtime"], "sysbox-runc");
    } else {
        let up = up.failed().stderr_has("boxes need Sysbox").stderr_has("github.com/nestybox/sysbox");
        up.stderr_has("./devhost up --runtime runc");
        assert_eq!(script.programs(), [""; 0]);
    }
}

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn flags_that_make_no_sense_are_refused_before_anything_is_done() {
    let script = Script::new();
    let key = script.login().key.with_extension("pub");
    let key = key.to_str().unwrap();
    for (flags, said) in [
        (&["up", "--no-such-flag"][..], "unknown option --no-such-flag"),
        (&["up", "--runtime", "kata"], "--runtime is sysbox or runc"),
        (&["up", "--user", "alice"], "--user alice has no --key"),
        (&["up", "--key", key], "--key comes after the --user"),
        (&["up", "--user", "alice", "--key", "/nonexistent"], "/nonexistent: no such key file"),
        (&["up", "--port"], "--port needs a value"),
        (
            &["up", "--runtime", "runc", "--user", "a", "--key", key, "--user", "b", "--key", key],
            "root in everybody's",
        ),
        (&["down", "--everything"], "unknown option --everything"),
        (&["dance"], "unknown command dance"),
    ] {
        script.run(flags).finish().code(1).stderr_has(said).took_at_most(Duration::from_secs(5));
    }
    assert_eq!(script.programs(), [""; 0]);
}
