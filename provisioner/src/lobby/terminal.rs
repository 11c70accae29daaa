//! A visitor's end of a channel: what she reads, and what she types where she is asked.
//!
//! Writing waits for the channel's window (RFC 4254 §5.2), so a visitor who does not read holds up her own verb and
//! keeps no more than a window of it in memory. What is typed when nothing is asked is dropped.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Pieces of input that wait for a question: more than anyone types ahead.
pub(super) const KEYBOARD_QUEUE: usize = 16;
/// Longest answer. No name is longer.
const ANSWER_MAX: usize = 80;
/// Who does not answer a question has left it.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);

pub(super) const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 0x15;
const DELETE: u8 = 0x7f;

type Writer = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// What a terminal of hers understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pty {
    pub(super) colours: bool,
}

pub(super) struct Terminal {
    out: Writer,
    err: Writer,
    keyboard: mpsc::Receiver<Bytes>,
    /// None when she has none: a script's pipe, most likely.
    pty: Option<Pty>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("pty", &self.pty).finish_non_exhaustive()
    }
}

impl Terminal {
    pub(super) fn new(
        out: impl AsyncWrite + Send + Sync + Unpin + 'static,
        err: impl AsyncWrite + Send + Sync + Unpin + 'static,
        keyboard: mpsc::Receiver<Bytes>,
        pty: Option<Pty>,
    ) -> Self {
        Self { out: Box::new(out), err: Box::new(err), keyboard, pty }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.pty.is_some()
    }

    pub(super) fn has_colours(&self) -> bool {
        self.pty.is_some_and(|pty| pty.colours)
    }

    /// Writes to standard output.
    pub(super) async fn print(&mut self, text: &str) -> io::Result<()> {
        self.write(text.as_bytes()).await
    }

    /// The same for bytes that are somebody else's text.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let shown = shown(bytes, self.pty.is_some());
        self.out.write_all(&shown).await?;
        self.out.flush().await
    }

    /// Writes to standard error.
    pub(super) async fn say(&mut self, text: &str) -> io::Result<()> {
        let shown = shown(text.as_bytes(), self.pty.is_some());
        self.err.write_all(&shown).await?;
        self.err.flush().await
    }

    /// Asks, and reads a line as it is typed. None when the visitor would rather not answer: an end of input, or no
    /// answer for a long time.
    pub(super) async fn ask(&mut self, question: &str) -> io::Result<Option<String>> {
        self.say(question).await?;
        let answer = timeout(ANSWER_WITHIN, self.line()).await;
        self.say("\n").await?;
        answer.unwrap_or(Ok(None))
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        while let Some(piece) = self.keyboard.recv().await {
            for &byte in &piece {
                match byte {
                    b'\r' | b'\n' => return Ok(Some(String::from_utf8_lossy(&line).into_owned())),
                    CTRL_C | CTRL_D => return Ok(None),
                    BACKSPACE | DELETE if line.pop().is_some() => self.say("\u{8} \u{8}").await?,
                    CTRL_U => {
                        let back = "\u{8} \u{8}".repeat(line.len());
                        line.clear();
                        self.say(&back).await?;
                    }
                    // Her terminal is in raw mode: what she types she sees because it is said here. No name has
                    // other characters than these.
                    b' '..=b'~' if line.len() < ANSWER_MAX => {
                        line.push(byte);
                        self.say(char::from(byte).encode_utf8(&mut [0; 4])).await?;
                    }
                    _ => {}
                }
            }
        }
        Ok(None)
    }
}

/// A terminal in raw mode needs to be told to return its carriage.
fn shown(bytes: &[u8], raw: bool) -> Vec<u8> {
    if !raw {
        return bytes.to_vec();
    }
    let mut shown = Vec::with_capacity(bytes.len() + bytes.len() / 16);
    for &byte in bytes {
        if byte == b'\n' {
            shown.push(b'\r');
        }
        shown.push(byte);
    }
    shown
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    fn terminal(pty: Option<Pty>) -> (Terminal, mpsc::Sender<Bytes>, DuplexStream) {
        let (keys, keyboard) = mpsc::channel(KEYBOARD_QUEUE);
        let (err, screen) = duplex(4096);
        (Terminal::new(tokio::io::sink(), err, keyboard, pty), keys, screen)
    }

    async fn answer(typed: &[&'static [u8]]) -> (Option<String>, String) {
        let (mut terminal, keys, mut screen) = terminal(Some(Pty { colours: false }));
        for piece in typed {
            keys.send(Bytes::from_static(piece)).await.unwrap();
        }
        drop(keys);
        let answer = terminal.ask("name? ").await.unwrap();
        drop(terminal);
        let mut shown = String::new();
        screen.read_to_string(&mut shown).await.unwrap();
        (answer, shown)
    }

    #[tokio::test]
    async fn a_line_is_edited_as_it_is_typed() {
        assert_eq!(answer(&[b"we", b"b\r"]).await, (Some("web".to_owned()), "name? web\r\n".to_owned()));
        assert_eq!(answer(&[b"\x7fwx\x7feb\r"]).await.0.as_deref(), Some("web"));
        assert_eq!(answer(&[b"no\x15web\n"]).await.0.as_deref(), Some("web"));
        assert_eq!(answer(&[b"\x1b[Aw\xffeb\r"]).await.0.as_deref(), Some("[Aweb"));
    }

    #[tokio::test]
    async fn who_does_not_answer_has_not_said_yes() {
        for typed in [&b"web"[..], b"web\x03\r", b"web\x04\r", b""] {
            assert_eq!(answer(&[typed]).await.0, None, "{typed:?}");
        }
        let (long, _) = answer(&[&[b'a'; 10_000], b"\r"]).await;
        assert_eq!(long.map(|line| line.len()), Some(ANSWER_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_not_asked_for_ever() {
        let (mut terminal, _keys, _screen) = terminal(Some(Pty { colours: false }));
        assert_eq!(terminal.ask("name? ").await.unwrap(), None);
    }

    #[test]
    fn lines_end_as_the_other_side_needs_it() {
        assert_eq!(shown(b"a\nb\n", true), b"a\r\nb\r\n");
        assert_eq!(shown(b"a\nb\n", false), b"a\nb\n");
    }
}
