//! What IDEs do over ssh, with OpenSSH's client as they call it. Their servers are played by `../ides/server.py`, which
//! like them outlives connections, and tells its pid and how much was ever said to it.
//!
//! ```text
//! ides/vscode.rs     VS Code and Cursor
//! ides/jetbrains.rs  `JetBrains`
//! ides/zed.rs        Zed
//! ides/first.rs      what each begins with, when there is no box yet
//! ```
//!
//! `VSCodium` comes with npm's ssh2, so its story is a row of `../clients/ssh2.rs`.

mod first;
mod jetbrains;
mod vscode;
mod zed;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use boxgate_tests::until;

const SERVER: &str = include_str!("../ides/server.py");
const START: &str = include_str!("../ides/start.sh");
/// What IDEs wait for their first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// So long `JetBrains` waits to be told which system it is.
const SYSTEM_PROBE: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(10);

/// The script for bash: `name` tells servers of one box apart, `listen` is a port or a path that may begin with TMP.
fn script(id: &str, name: &str, listen: &str) -> String {
    format!("id={id} name={name} listen={listen}\n{}", START.replace("@SERVER@", SERVER))
}

/// What the script tells an IDE.
struct Started {
    /// The server's port, or the path of its socket.
    listening: String,
    /// The pid of the bash that runs the script.
    shell: String,
}

/// Reads what the script printed, which must be that alone.
#[track_caller]
fn started(id: &str, said: &str) -> Started {
    let field = |name: &str| {
        let rest = said.split(&format!("\n{name}==")).nth(1).and_then(|rest| rest.split("==").next());
        rest.unwrap_or_else(|| panic!("no {name} in what the script printed:\n{said}")).to_owned()
    };
    let (listening, shell, tmp) = (field("listeningOn"), field("shell"), field("tmpDir"));
    assert!(tmp.starts_with("/run/user/"), "a directory for sockets: {tmp}");
    let arch = std::env::consts::ARCH;
    let expected = format!(
        "{id}: running\n{id}: start\nlisteningOn=={listening}==\nshell=={shell}==\narch=={arch}==\n\
         tmpDir=={tmp}==\nplatform==linux==\n{id}: end\n"
    );
    // The keep-alive prints blanks.
    assert_eq!(said.trim_end_matches(' '), expected, "left the script's output, right what it prints");
    Started { listening, shell }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection of an IDE's window to the server.
struct Window(Box<dyn Stream>);

/// From whom an answer came, and how many frames the server had got by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    pid: u32,
    frames: u32,
}

impl Window {
    fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(Box::new(stream))
    }

    fn of_unix(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(Box::new(stream))
    }

    /// Through a SOCKS5 proxy here to a port that is open in the box.
    #[track_caller]
    fn through_proxy(proxy: u16, port: u16) -> Self {
        let mut stream = connect(proxy);
        stream.write_all(&[5, 1, 0]).unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
        stream.write_all(&[&[5, 1, 0, 1, 127, 0, 0, 1][..], &port.to_be_bytes()].concat()).unwrap();
        let mut reply = [0; 10];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..2], [5, 0], "the proxy's reply");
        Self::of(stream)
    }

    /// Sends a frame, whose answer must hold the same bytes.
    #[track_caller]
    fn say(&mut self, body: &[u8]) -> Answer {
        let length = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes();
        self.0.write_all(&[&length(body.len())[..], body].concat()).unwrap();
        let mut reply = vec![0; 12 + body.len()];
        self.0.read_exact(&mut reply).unwrap();
        assert!(reply[..4] == length(8 + body.len()) && reply[12..] == *body, "the answer is another");
        let number = |at: usize| u32::from_le_bytes(reply[at..at + 4].try_into().unwrap());
        Answer { pid: number(4), frames: number(8) }
    }
}

#[track_caller]
fn connect(port: u16) -> TcpStream {
    until("the forward", SOON, || TcpStream::connect(("127.0.0.1", port)).map_err(|fault| fault.to_string()))
}

/// A window on a server that a forward leads to, once it does.
#[track_caller]
fn window(open: impl Fn() -> Window, body: &[u8], expected: Answer) -> Window {
    let mut window = open();
    assert_eq!(window.say(body), expected, "left the server seen, right the one expected");
    window
}

fn next(answer: Answer) -> Answer {
    Answer { frames: answer.frames + 1, ..answer }
}
