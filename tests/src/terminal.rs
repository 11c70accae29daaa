//! `ssh` on a pseudo-terminal, with the test at the keyboard.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::unistd::ttyname;

use crate::run::Run;
use crate::ssh::Login;
use crate::wait::until;

const LIMIT: Duration = Duration::from_secs(15);

/// A terminal window in which `ssh` runs. Dropping it closes the window.
#[derive(Debug)]
pub struct Terminal {
    ssh: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    device: PathBuf,
    /// Kept open, so that the size can be set after ssh has ended.
    _device: OwnedFd,
}

impl Terminal {
    /// Opens a window of this size and logs in, with a terminal there too.
    #[track_caller]
    pub fn open(login: &Login, rows: u16, columns: u16) -> Self {
        Self::open_with(login, &[], rows, columns)
    }

    /// The same with a command in the place of a shell.
    #[track_caller]
    pub fn open_command(login: &Login, command: &str, rows: u16, columns: u16) -> Self {
        let mut words = login.words(["-tt"]);
        words.push(command.into());
        Self::open_words(words, rows, columns)
    }

    /// The same with further options of ssh.
    #[track_caller]
    pub fn open_with(login: &Login, options: &[&str], rows: u16, columns: u16) -> Self {
        Self::open_words(login.words([&["-tt"], options].concat()), rows, columns)
    }

    #[track_caller]
    fn open_words(words: Vec<OsString>, rows: u16, columns: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let end = || pty.slave.try_clone().unwrap();
        // The terminal becomes ssh's own, so that the kernel tells ssh of a new size.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "ssh"]).args(words).env_remove("SSH_AUTH_SOCK");
        let ssh = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keyboard = File::from(pty.master);
        let screen = Arc::<Mutex<Vec<u8>>>::default();
        let (mut output, sink) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut chunk) {
                sink.lock().unwrap().extend_from_slice(&chunk[..read]);
            }
        });
        let device = ttyname(&pty.slave).unwrap();
        Self { ssh, keyboard, screen, device, _device: pty.slave }
    }

    /// Types these keys; `\n` is Enter, `\x03` is Ctrl-C.
    #[track_caller]
    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.replace('\n', "\r").as_bytes()).unwrap();
    }

    /// Waits until the screen has shown `text`.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        until(&format!("{text:?} on the screen"), LIMIT, || self.shows(text));
    }

    /// Whether the screen has ever shown `text`; else what it did show.
    pub fn shows(&self, text: &str) -> Result<(), String> {
        let screen = self.screen();
        if screen.contains(text) { Ok(()) } else { Err(format!("{screen:?}")) }
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// Drags the window to another size.
    #[track_caller]
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = [rows, columns].map(|count| count.to_string());
        Run::new("stty").arg("-F").arg(&self.device).args(["rows", &size[0], "cols", &size[1]]).ok();
    }

    /// Waits for the end of ssh and returns its exit code.
    #[track_caller]
    pub fn exit_code(mut self) -> Option<i32> {
        until("end of ssh", LIMIT, || match self.ssh.try_wait().unwrap() {
            Some(status) => Ok(status.code()),
            None => Err(self.screen()),
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.ssh.try_wait(), Ok(None)) {
            // Both fail only when it ended just now.
            self.ssh.kill().ok();
            self.ssh.wait().ok();
        }
    }
}
