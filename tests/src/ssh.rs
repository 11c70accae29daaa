//! OpenSSH's own clients, and rsync over them, as somebody who logs in.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::run::Run;

/// Who asks for a box, with which key.
#[derive(Debug, Clone)]
pub struct Login {
    /// What stands before the `@`, whatever it is.
    pub name: OsString,
    /// The server's address: the gateway's, or a box's own when what differs is the question.
    pub host: String,
    pub key: PathBuf,
    pub known_hosts: PathBuf,
    pub port: u16,
}

impl Login {
    /// Runs a command in the box.
    pub fn ssh(&self, command: &str) -> Run {
        self.ssh_with([""; 0], command)
    }

    /// The same with further options. ssh heeds the first of two that contradict each other: these.
    pub fn ssh_with(&self, options: impl IntoIterator<Item = impl Into<OsString>>, command: &str) -> Run {
        self.client("ssh", options).arg(command)
    }

    /// `ssh` without a command: with `-N`, a shell, or an order for a control socket.
    pub fn ssh_only(&self, options: impl IntoIterator<Item = impl Into<OsString>>) -> Run {
        self.client("ssh", options)
    }

    /// Copies between paths of which those in the box begin with a colon.
    pub fn scp(&self, options: &[&str], from: &str, to: &str) -> Run {
        let place =
            |path: &str| if path.starts_with(':') { self.destination() + path } else { path.to_owned() };
        let run = Run::new("scp").args(options).args(self.options()).arg("-P").arg(self.port.to_string());
        run.args([place(from), place(to)])
    }

    /// Runs a batch of sftp's commands, one a line; the first that fails ends it.
    pub fn sftp(&self, batch: &str) -> Run {
        let run =
            Run::new("sftp").args(["-b", "-"]).args(self.options()).arg("-P").arg(self.port.to_string());
        run.arg(self.destination()).input(batch)
    }

    /// Like [`Login::scp`], by rsync.
    pub fn rsync(&self, options: &[&str], from: &str, to: &str) -> Run {
        let words: Vec<_> = self.options().into_iter().map(|word| word.into_string().unwrap()).collect();
        let place =
            |path: &str| if path.starts_with(':') { self.destination() + path } else { path.to_owned() };
        let shell = format!("ssh -p {} {}", self.port, words.join(" "));
        Run::new("rsync").args(options).arg("-e").arg(shell).args([place(from), place(to)])
    }

    /// ssh's words up to the command.
    pub fn words(&self, options: impl IntoIterator<Item = impl Into<OsString>>) -> Vec<OsString> {
        let mut words: Vec<OsString> = options.into_iter().map(Into::into).collect();
        words.extend(self.options());
        words.extend(["-p".into(), self.port.to_string().into()]);
        words.extend(["-l".into(), self.name.clone(), self.host.clone().into()]);
        words
    }

    /// The same as part of a line for the shell.
    pub fn line(&self, options: &[&str]) -> String {
        let words = self.words(options).into_iter().map(|word| word.into_string().unwrap());
        std::iter::once("ssh".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
    }

    /// A block of ssh's configuration file.
    pub fn config_block(&self, host: &str) -> String {
        format!(
            "Host {host}\n  HostName {}\n  Port {}\n  User {}\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {}\n  StrictHostKeyChecking yes\n  BatchMode yes\n  LogLevel ERROR\n",
            self.host,
            self.port,
            self.name.display(),
            self.key.display(),
            self.known_hosts.display(),
        )
    }

    fn client(&self, program: &str, options: impl IntoIterator<Item = impl Into<OsString>>) -> Run {
        Run::new(program).args(self.words(options))
    }

    /// `alice@127.0.0.1`.
    pub fn destination(&self) -> String {
        format!("{}@{}", self.name.display(), self.host)
    }

    /// Nothing of whoever runs the tests: no configuration, no agent, no key but this one. Lines that the
    /// gateway sends before a login succeeds are shown from log level INFO on.
    fn options(&self) -> Vec<OsString> {
        let known_hosts = file_option("UserKnownHostsFile", &self.known_hosts);
        let settings = [
            "IdentitiesOnly=yes",
            "GlobalKnownHostsFile=none",
            "StrictHostKeyChecking=yes",
            "BatchMode=yes",
            "LogLevel=ERROR",
        ];
        let mut words: Vec<OsString> = vec!["-F".into(), "none".into(), "-i".into(), self.key.clone().into()];
        for setting in settings.map(OsString::from).into_iter().chain([known_hosts]) {
            words.extend(["-o".into(), setting]);
        }
        words
    }
}

/// `NAME=FILE`.
pub fn file_option(name: &str, file: &Path) -> OsString {
    let mut option = OsString::from(format!("{name}="));
    option.push(file);
    option
}
