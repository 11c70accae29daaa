//! A terminal in which a program in the box answers each key with the same byte.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::time::Duration;

use boxgate_tests::Stopwatch;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use crate::client::Master;
use crate::guard;

/// Far beyond what anybody would call a slow echo.
const ECHO_WITHIN_MS: u16 = 20_000;
const BEGUN: &[u8] = b"begun";
/// In the box: no line editing, no echo but the program's own.
const ECHO: &str = "stty raw -echo; printf begun; exec cat";

/// A key's way to the box and back. Dropping it closes the terminal.
#[derive(Debug)]
pub(crate) struct Keyboard {
    client: Child,
    terminal: File,
}

impl Keyboard {
    pub(crate) fn open(master: &Master) -> Self {
        guard::step();
        let pty = openpty(None, None).unwrap();
        // As ssh does it, only from the first byte on.
        let mut settings = tcgetattr(&pty.slave).unwrap();
        cfmakeraw(&mut settings);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &settings).unwrap();
        let end = || pty.slave.try_clone().unwrap();
        let mut command: Command = master.ssh(&["-tt"]);
        let client = command.arg(ECHO).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let mut keyboard = Self { client, terminal: File::from(pty.master) };
        let mut said = Vec::new();
        while !said.ends_with(BEGUN) {
            said.push(keyboard.read_byte().unwrap_or_else(|| {
                panic!("{}: no terminal: {:?}", master.peer.name(), String::from_utf8_lossy(&said))
            }));
        }
        keyboard
    }

    /// Presses a key and waits for its echo.
    pub(crate) fn press(&mut self) -> Duration {
        guard::step();
        let watch = Stopwatch::start();
        self.terminal.write_all(b"x").unwrap();
        let echo = self.read_byte();
        let took = watch.elapsed();
        if echo != Some(b'x') {
            guard::after_failure();
            panic!("{echo:?} is not the key's echo");
        }
        took
    }

    fn read_byte(&mut self) -> Option<u8> {
        let mut ready = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(ECHO_WITHIN_MS)).unwrap() == 0 {
            return None;
        }
        let mut byte = [0];
        self.terminal.read_exact(&mut byte).ok().map(|()| byte[0])
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.client.kill().ok();
        self.client.wait().ok();
    }
}
