//! Reads in passing what crosses a relay: which channels were opened, what was asked for, how it ended, how much
//! data went each way. For the account of a connection, and for whoever wants to know whether it is idle.
//!
//! It tells nothing of payloads, and it follows no channel: a fixed set of counters is all that it keeps, so a
//! client cannot make it grow. What it does not know it counts as such, and what is cut short or contradicts
//! itself too: whether a message is valid is between the client and the box.
//!
//! Invariant: [`Tap::see`] neither waits nor allocates, and looks at no more than a message's first words.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Message numbers (RFC 4250 §4.1.2).
mod message {
    pub(super) const GLOBAL_REQUEST: u8 = 80;
    pub(super) const CHANNEL_OPEN: u8 = 90;
    pub(super) const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
    pub(super) const CHANNEL_OPEN_FAILURE: u8 = 92;
    pub(super) const CHANNEL_DATA: u8 = 94;
    pub(super) const CHANNEL_EXTENDED_DATA: u8 = 95;
    pub(super) const CHANNEL_EOF: u8 = 96;
    pub(super) const CHANNEL_CLOSE: u8 = 97;
    pub(super) const CHANNEL_REQUEST: u8 = 98;
}

/// Channel types (RFC 4254 §6.1, §6.3.2, §7.2; OpenSSH `PROTOCOL` §2.2–2.4).
const CHANNELS: [&str; 8] = [
    "session",
    "direct-tcpip",
    "forwarded-tcpip",
    "direct-streamlocal@openssh.com",
    "forwarded-streamlocal@openssh.com",
    "auth-agent@openssh.com",
    "x11",
    "tun@openssh.com",
];

/// Requests of a channel (RFC 4254 §6, RFC 4335, OpenSSH `PROTOCOL` §2.1). Exits are counted apart.
const REQUESTS: [&str; 14] = [
    "shell",
    "exec",
    "subsystem",
    "pty-req",
    "window-change",
    "env",
    "signal",
    "break",
    "auth-agent-req@openssh.com",
    "x11-req",
    "xon-xoff",
    "eow@openssh.com",
    "keepalive@openssh.com",
    "exit-signal",
];

/// Global requests (RFC 4254 §7.1, OpenSSH `PROTOCOL` §2.2–2.5).
const GLOBAL_REQUESTS: [&str; 8] = [
    "tcpip-forward",
    "cancel-tcpip-forward",
    "streamlocal-forward@openssh.com",
    "cancel-streamlocal-forward@openssh.com",
    "keepalive@openssh.com",
    "no-more-sessions@openssh.com",
    "hostkeys-00@openssh.com",
    "hostkeys-prove-00@openssh.com",
];

const EXIT_STATUS: &[u8] = b"exit-status";

/// Who sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Client,
    Devbox,
}

/// Counts by name: those of a fixed list, and all others together.
#[derive(Debug)]
struct Names<const N: usize> {
    known: &'static [&'static str; N],
    counts: [AtomicU64; N],
    others: AtomicU64,
}

impl<const N: usize> Names<N> {
    fn of(known: &'static [&'static str; N]) -> Self {
        Self { known, counts: [const { AtomicU64::new(0) }; N], others: AtomicU64::new(0) }
    }

    fn count(&self, name: &[u8]) {
        let known = self.known.iter().position(|known| known.as_bytes() == name);
        known.map_or(&self.others, |index| &self.counts[index]).fetch_add(1, Relaxed);
    }

    fn get(&self, name: &str) -> u64 {
        let known = self.known.iter().position(|&known| known == name);
        known.map_or(&self.others, |index| &self.counts[index]).load(Relaxed)
    }

    /// Each that was seen, the unknown ones last and under that name.
    fn seen(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let known = self.known.iter().zip(&self.counts).map(|(&name, count)| (name, count));
        let all = known.chain([("unknown", &self.others)]);
        all.map(|(name, count)| (name, count.load(Relaxed))).filter(|&(_, count)| count > 0)
    }
}

/// What one side sent.
#[derive(Debug, Default)]
struct Side {
    messages: AtomicU64,
    data: AtomicU64,
    extended_data: AtomicU64,
    ends_of_file: AtomicU64,
    closes: AtomicU64,
}

/// The counters of one connection.
#[derive(Debug)]
pub struct Tap {
    client: Side,
    devbox: Side,
    opens: Names<{ CHANNELS.len() }>,
    opens_confirmed: AtomicU64,
    opens_refused: AtomicU64,
    requests: Names<{ REQUESTS.len() }>,
    global_requests: Names<{ GLOBAL_REQUESTS.len() }>,
    exits_ok: AtomicU64,
    exits_failed: AtomicU64,
    acts: AtomicU64,
    malformed: AtomicU64,
}

impl Default for Tap {
    fn default() -> Self {
        Self {
            client: Side::default(),
            devbox: Side::default(),
            opens: Names::of(&CHANNELS),
            opens_confirmed: AtomicU64::default(),
            opens_refused: AtomicU64::default(),
            requests: Names::of(&REQUESTS),
            global_requests: Names::of(&GLOBAL_REQUESTS),
            exits_ok: AtomicU64::default(),
            exits_failed: AtomicU64::default(),
            acts: AtomicU64::default(),
            malformed: AtomicU64::default(),
        }
    }
}

/// A message that ends before what it announces.
struct Short;

impl Tap {
    /// Takes note of a message of the connection protocol, number included.
    pub fn see(&self, from: From, message: &[u8]) {
        let side = self.side(from);
        side.messages.fetch_add(1, Relaxed);
        if from == From::Client && is_act(message) {
            add_one(&self.acts);
        }
        if self.read(side, message).is_err() {
            self.malformed.fetch_add(1, Relaxed);
        }
    }

    fn read(&self, side: &Side, message: &[u8]) -> Result<(), Short> {
        let (&number, mut rest) = message.split_first().ok_or(Short)?;
        match number {
            // The bulk of a connection comes first.
            message::CHANNEL_DATA => {
                take_number(&mut rest)?;
                let data = take_string(&mut rest)?;
                side.data.fetch_add(data.len() as u64, Relaxed);
            }
            message::CHANNEL_EXTENDED_DATA => {
                take_number(&mut rest)?;
                take_number(&mut rest)?;
                let data = take_string(&mut rest)?;
                side.extended_data.fetch_add(data.len() as u64, Relaxed);
            }
            message::CHANNEL_OPEN => self.opens.count(take_string(&mut rest)?),
            message::CHANNEL_REQUEST => {
                take_number(&mut rest)?;
                self.read_request(take_string(&mut rest)?, rest)?;
            }
            message::GLOBAL_REQUEST => self.global_requests.count(take_string(&mut rest)?),
            message::CHANNEL_OPEN_CONFIRMATION => add_one(&self.opens_confirmed),
            message::CHANNEL_OPEN_FAILURE => add_one(&self.opens_refused),
            message::CHANNEL_EOF => add_one(&side.ends_of_file),
            message::CHANNEL_CLOSE => add_one(&side.closes),
            _ => {}
        }
        Ok(())
    }

    /// `rest` begins with `want_reply`.
    fn read_request(&self, name: &[u8], rest: &[u8]) -> Result<(), Short> {
        if name != EXIT_STATUS {
            self.requests.count(name);
            return Ok(());
        }
        let (_, mut rest) = rest.split_first().ok_or(Short)?;
        let exits = if take_number(&mut rest)? == 0 { &self.exits_ok } else { &self.exits_failed };
        add_one(exits);
        Ok(())
    }

    fn side(&self, from: From) -> &Side {
        match from {
            From::Client => &self.client,
            From::Devbox => &self.devbox,
        }
    }

    /// Bytes of channel data, standard error included, without what carries them.
    #[must_use]
    pub fn data(&self, from: From) -> u64 {
        let side = self.side(from);
        side.data.load(Relaxed) + side.extended_data.load(Relaxed)
    }

    /// Messages of any kind. Data alone is no sign of idleness: a keystroke counts one.
    #[must_use]
    pub fn messages(&self, from: From) -> u64 {
        self.side(from).messages.load(Relaxed)
    }

    /// How often the client sent what a person or a program of hers asked for: data, channels, requests. Keepalives,
    /// window adjustments and answers are none of these, nor is what the box sends.
    #[must_use]
    pub fn acts(&self) -> u64 {
        self.acts.load(Relaxed)
    }

    /// Channels that either side asked for, by their type; of an unknown type, all of these.
    #[must_use]
    pub fn opens(&self, channel_type: &str) -> u64 {
        self.opens.get(channel_type)
    }

    /// Messages that were cut short. They crossed like all others.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Relaxed)
    }
}

fn is_act(message: &[u8]) -> bool {
    let Some((&number, mut rest)) = message.split_first() else { return false };
    let name = match number {
        message::CHANNEL_DATA | message::CHANNEL_EXTENDED_DATA | message::CHANNEL_OPEN => return true,
        message::GLOBAL_REQUEST => take_string(&mut rest),
        message::CHANNEL_REQUEST => take_number(&mut rest).and_then(|_| take_string(&mut rest)),
        _ => return false,
    };
    // OpenSSH's, and those that other clients named after it.
    name.is_ok_and(|name| !name.starts_with(b"keepalive@"))
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// `uint32` (RFC 4251 §5).
fn take_number(rest: &mut &[u8]) -> Result<u32, Short> {
    let (number, after) = rest.split_first_chunk().ok_or(Short)?;
    *rest = after;
    Ok(u32::from_be_bytes(*number))
}

/// `string` (RFC 4251 §5).
fn take_string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Short> {
    let length = usize::try_from(take_number(rest)?).map_err(|_| Short)?;
    let (string, after) = rest.split_at_checked(length).ok_or(Short)?;
    *rest = after;
    Ok(string)
}

/// `channels: session 2, direct-tcpip 1, refused 1; requests: exec 2, pty-req 1; exits: ok 1, failed 1;
/// from the client: data 12, eof 1, close 2; from the box: data 4194304, stderr 17, eof 2, close 2`; without
/// what was not seen.
impl fmt::Display for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |name, counter: &AtomicU64| (name, counter.load(Relaxed));
        let channels = self.opens.seen().chain([get("refused", &self.opens_refused)]);
        let requests = self.requests.seen().chain(self.global_requests.seen());
        let exits = [get("ok", &self.exits_ok), get("failed", &self.exits_failed)];
        let side = |side: &Side| {
            let counts = [("data", &side.data), ("stderr", &side.extended_data)];
            let ends = [("eof", &side.ends_of_file), ("close", &side.closes)];
            counts.into_iter().chain(ends).map(|(name, counter)| get(name, counter)).collect::<Vec<_>>()
        };
        let mut groups = Groups { f, first: true };
        groups.write("channels", channels)?;
        groups.write("requests", requests)?;
        groups.write("exits", exits)?;
        groups.write("from the client", side(&self.client))?;
        groups.write("from the box", side(&self.devbox))?;
        groups.write("malformed", [get("messages", &self.malformed)])?;
        if groups.first { f.write_str("nothing") } else { Ok(()) }
    }
}

struct Groups<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    first: bool,
}

impl Groups<'_, '_> {
    fn write(&mut self, name: &str, counts: impl IntoIterator<Item = (&'static str, u64)>) -> fmt::Result {
        let mut separator = ": ";
        for (what, count) in counts.into_iter().filter(|&(_, count)| count > 0) {
            if separator == ": " {
                write!(self.f, "{}{name}", if self.first { "" } else { "; " })?;
            }
            write!(self.f, "{separator}{what} {count}")?;
            (self.first, separator) = (false, ", ");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn string(text: &[u8]) -> Vec<u8> {
        [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
    }

    fn message(number: u8, parts: &[&[u8]]) -> Vec<u8> {
        [&[number], &parts.concat()[..]].concat()
    }

    fn request(name: &str, rest: &[u8]) -> Vec<u8> {
        message(message::CHANNEL_REQUEST, &[&[0; 4], &string(name.as_bytes()), &[1], rest])
    }

    #[test]
    fn a_connection_is_told_in_one_line() {
        let tap = Tap::default();
        for name in ["session", "session", "direct-tcpip", "of-tomorrow@example.org"] {
            tap.see(From::Client, &message(message::CHANNEL_OPEN, &[&string(name.as_bytes()), &[0; 12]]));
        }
        for _ in 0..3 {
            tap.see(From::Devbox, &message(message::CHANNEL_OPEN_CONFIRMATION, &[&[0; 16]]));
        }
        tap.see(From::Devbox, &message(message::CHANNEL_OPEN_FAILURE, &[&[0; 16]]));
        tap.see(From::Client, &request("pty-req", &[]));
        tap.see(From::Client, &request("exec", &string(b"true")));
        tap.see(From::Client, &request("exec", &string(b"false")));
        tap.see(From::Client, &request("of-tomorrow@example.org", &[]));
        tap.see(From::Client, &message(message::GLOBAL_REQUEST, &[&string(b"keepalive@openssh.com"), &[1]]));
        tap.see(From::Client, &message(message::CHANNEL_DATA, &[&[0; 4], &string(b"in")]));
        tap.see(From::Devbox, &message(message::CHANNEL_DATA, &[&[0; 4], &string(&vec![0; 30_000])]));
        tap.see(From::Devbox, &message(message::CHANNEL_EXTENDED_DATA, &[&[0; 8], &string(b"errors")]));
        tap.see(From::Devbox, &request("exit-status", &[0, 0, 0, 0]));
        tap.see(From::Devbox, &request("exit-status", &[0, 0, 0, 42]));
        tap.see(From::Devbox, &request("exit-signal", &string(b"TERM")));
        tap.see(From::Client, &message(message::CHANNEL_EOF, &[&[0; 4]]));
        tap.see(From::Devbox, &message(message::CHANNEL_CLOSE, &[&[0; 4]]));
        assert_eq!(
            tap.to_string(),
            "channels: session 2, direct-tcpip 1, unknown 1, refused 1; \
             requests: exec 2, pty-req 1, exit-signal 1, unknown 1, keepalive@openssh.com 1; \
             exits: ok 1, failed 1; from the client: data 2, eof 1; \
             from the box: data 30000, stderr 6, close 1"
        );
        assert_eq!((tap.data(From::Client), tap.data(From::Devbox)), (2, 30_006));
        assert_eq!((tap.messages(From::Client), tap.messages(From::Devbox)), (11, 10));
        assert_eq!((tap.opens("session"), tap.malformed()), (2, 0));
        // Four channels, four requests, data: neither the keepalive nor the end of the input.
        assert_eq!(tap.acts(), 9);
    }

    #[test]
    fn what_is_cut_short_is_counted_as_that() {
        let whole = [
            message(message::CHANNEL_DATA, &[&[0; 4], &string(b"data")]),
            message(message::CHANNEL_EXTENDED_DATA, &[&[0; 8], &string(b"data")]),
            message(message::CHANNEL_OPEN, &[&string(b"session")]),
            message(message::GLOBAL_REQUEST, &[&string(b"tcpip-forward")]),
            request("exit-status", &[0; 4]),
        ];
        for whole in whole {
            for length in 0..whole.len() {
                let tap = Tap::default();
                tap.see(From::Devbox, &whole[..length]);
                assert_eq!((tap.malformed(), tap.data(From::Devbox)), (1, 0), "{:?}", &whole[..length]);
            }
            let tap = Tap::default();
            tap.see(From::Devbox, &whole);
            assert_eq!(tap.malformed(), 0, "{whole:?}");
        }
    }

    #[test]
    fn a_connection_without_messages_is_told_too() {
        assert_eq!(Tap::default().to_string(), "nothing");
    }

    proptest! {
        #[test]
        fn any_bytes_are_counted_once(messages in vec(vec(any::<u8>(), 0..100), 0..100)) {
            let tap = Tap::default();
            for message in &messages {
                tap.see(From::Client, message);
            }
            prop_assert_eq!(tap.messages(From::Client), messages.len() as u64);
            prop_assert!(tap.data(From::Client) <= messages.iter().map(|message| message.len() as u64).sum());
        }
    }
}
