//! A virtual machine that `ami/install.sh` made a devhost: Debian with systemd, cgroup v2 and a kernel of its own.
//!
//! `tests/boot/image` makes its disks, `tests/boot/machine` starts it. What it writes is gone with it, so that each
//! boots as for the first time. It reaches nothing but the two ports of this host that lead to its sshds.

use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, thread};

use tempfile::TempDir;

use crate::local::free_port;
use crate::run::{Finished, Run, Running, until_succeeds};
use crate::ssh::Login;
use crate::wait::until;

/// An emulated processor takes twenty times as long, and the machine that emulates it may do much else.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// Lines of its console that a failure shows.
const TAIL: usize = 60;

/// A machine that is switched on. Dropping it switches it off, and shows its console if the story failed.
#[derive(Debug)]
pub struct Machine {
    qemu: Running,
    image: PathBuf,
    gateway_port: u16,
    operator_port: u16,
    directory: TempDir,
}

impl Machine {
    /// Switches it on and waits until its own sshd lets the operator in.
    #[track_caller]
    pub fn boot() -> Self {
        let image = env::var_os("BOXGATE_BOOT").map(PathBuf::from).filter(|image| image.exists());
        let image = image
            .expect("BOXGATE_BOOT names no machine's directory; ./devhost test --boot makes and sets it");
        let directory = tempfile::tempdir().unwrap();
        let (gateway_port, operator_port) = (free_port(), free_port());
        let disk = |name: &str| format!("{},snapshot=on", image.join(name).display());
        let port = |ours: u16, its: u16| format!("hostfwd=tcp:127.0.0.1:{ours}-:{its}");
        let qemu = Run::new(concat!(env!("CARGO_MANIFEST_DIR"), "/boot/machine"))
            .arg(&image)
            .args([disk("root.img"), disk("docker.img"), String::new(), "-serial".to_owned()])
            .arg(format!("file:{}", directory.path().join("console").display()))
            .args(["-device", "virtio-net-pci,netdev=ports", "-netdev"])
            .arg(format!(
                "user,id=ports,restrict=on,{},{}",
                port(gateway_port, 22),
                port(operator_port, 2222)
            ))
            .start();
        let mut machine = Self { qemu, image, gateway_port, operator_port, directory };
        machine.wait_for_operator();
        machine
    }

    #[track_caller]
    fn wait_for_operator(&mut self) {
        let operator = self.operator();
        until("the machine's own sshd", PATIENCE, || {
            assert!(self.qemu.is_running(), "QEMU ended: {}", self.qemu.finish_within(PATIENCE));
            let tried = operator.ssh_with([ACCEPT_NEW, ANSWERED].concat(), "true").within(PATIENCE).finish();
            if tried.succeeded() { Ok(()) } else { Err(tried.to_string()) }
        });
    }

    /// Root on the machine itself, by its own sshd.
    fn operator(&self) -> Login {
        self.login("operator", "root", self.operator_port)
    }

    /// The person whom the installer was told of. The first host key that her ssh sees is the one that it wants from then on.
    pub fn alice(&self) -> Login {
        self.login("alice", "alice", self.gateway_port)
    }

    fn login(&self, key: &str, name: &str, port: u16) -> Login {
        Login {
            name: name.into(),
            host: "127.0.0.1".into(),
            key: self.image.join(key),
            known_hosts: self.directory.path().join("known_hosts"),
            port,
        }
    }

    /// Runs a command on the machine as root.
    pub fn root(&self, command: &str) -> Run {
        self.operator().ssh(command).within(PATIENCE)
    }

    /// Runs a command as root, and shows what it says in the report of the test too.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "the report is what it is for")]
    pub fn show(&self, command: &str) -> Finished {
        let shown = self.root(command).finish();
        println!("devhost# {command}\n{}{}\n", String::from_utf8_lossy(&shown.stdout), shown.errors());
        shown
    }

    /// Reboots it, which it must survive as the machine that it was.
    #[track_caller]
    pub fn reboot(&mut self) {
        const BOOT: &str = "cat /proc/sys/kernel/random/boot_id";
        let before = self.root(BOOT).ok().text();
        // The connection may be cut before the command has ended, or never be.
        self.operator().ssh_with(ANSWERED, "systemctl reboot").within(PATIENCE).finish();
        until("a new boot", PATIENCE, || {
            let boot = self.operator().ssh_with(ANSWERED, BOOT).within(PATIENCE).finish();
            if boot.succeeded() && boot.text() != before { Ok(()) } else { Err(boot.to_string()) }
        });
    }

    /// Alice logs in for the first time: her ssh learns the gateway's host key.
    #[track_caller]
    pub fn first_login(&self, command: &str) -> Finished {
        until_succeeds("the first login", PATIENCE, || {
            self.alice().ssh_with(ACCEPT_NEW, command).within(PATIENCE)
        })
    }
}

const ACCEPT_NEW: &[&str] = &["-o", "StrictHostKeyChecking=accept-new"];
/// QEMU takes connections whether anything in the machine does or not: ssh gives up where nothing answers.
const ANSWERED: &[&str] = &["-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10"];

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let console = fs::read(self.directory.path().join("console")).unwrap_or_default();
            let console = String::from_utf8_lossy(&console).into_owned();
            let lines: Vec<_> = console.lines().collect();
            eprintln!("--- console ---\n{}", lines[lines.len().saturating_sub(TAIL)..].join("\n"));
            // Where sshd answers, it can be asked for more.
            let journal = "journalctl --boot --no-pager --priority notice --lines 60";
            let journal = self.operator().ssh_with(ANSWERED, journal).within(PATIENCE).finish();
            eprintln!("--- journal ---\n{}", journal.text());
        }
    }
}
