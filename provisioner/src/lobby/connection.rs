//! One visitor's connection: SSH as the gateway's pipe brings it, of which session channels with one command each are
//! served and all else is refused in words.
//!
//! russh calls [`Connection`]; nothing in it waits, so that no channel holds up another. Each verb runs on a task of
//! its own, which ends with its channel.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedCertificate, run_stream,
};
use russh::{
    Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Disconnect, Pty as PtyMode, Sig, server,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Instrument, Span, debug, field, info, warn};

use super::desk::Desk;
use super::exit::Exit;
use super::terminal::{CTRL_C, KEYBOARD_QUEUE, Pty, Terminal};
use super::visitor::Visitor;
use super::{Site, Visit};

/// Channels of one connection at once (`sshd_config(5)`, `MaxSessions`).
const CHANNELS_MAX: usize = 10;
/// A connection without a channel is ended after this time. Nobody has one for longer but who holds it open for the
/// next command (`ssh_config(5)`, `ControlPersist`), and she gets another one when she needs it.
const IDLE: Duration = Duration::from_secs(60);
/// How long a client may take to read why it is disconnected.
const FAREWELL: Duration = Duration::from_secs(2);
/// Characters of a command line that are logged.
const LOGGED: usize = 200;
/// Standard error's number among the kinds of extended data (RFC 4254 §5.2).
const STDERR: u32 = 1;
/// `SSH_OPEN_ADMINISTRATIVELY_PROHIBITED` and `SSH_OPEN_RESOURCE_SHORTAGE` (RFC 4254 §5.1).
const PROHIBITED: u32 = 1;
const SHORTAGE: u32 = 4;

const NO_FORWARDING: &str = "nothing is forwarded here: log in to a box of yours for that, not to box@";
const NO_SUBSYSTEM: &str = "boxgate: no files are kept here, so none can be copied: name a box of yours, not box@ (scp FILE alice@HOST:)\n";
const NO_LONGER_WAITING: &str =
    "boxgate: no longer waiting; what was begun goes on, `ls` shows how far it is\n";

pub(super) struct Connection {
    site: Arc<Site>,
    visitor: Option<Arc<Visitor>>,
    /// None when she has too many.
    visit: Option<Visit>,
    /// Those that have ended too, until the next one is opened: russh does not tell of the end of a channel that was
    /// closed from here first.
    channels: HashMap<ChannelId, SessionChannel>,
    /// How many have not ended.
    open: Arc<watch::Sender<usize>>,
    span: Span,
}

/// A session channel (RFC 4254 §6.1). Dropping it ends its verb.
struct SessionChannel {
    /// Taken by the verb: there is one for each channel.
    place: Option<Place>,
    pty: Option<Pty>,
    keyboard: Option<mpsc::Sender<Bytes>>,
    interrupted: CancellationToken,
    /// Cancelled when the channel has ended, or is to.
    gone: CancellationToken,
    _gone: DropGuard,
}

/// Where a verb writes to, and counts as a channel that has not ended.
struct Place {
    out: ChannelWriteHalf<Msg>,
    open: Arc<watch::Sender<usize>>,
}

impl Place {
    fn new(out: ChannelWriteHalf<Msg>, open: &Arc<watch::Sender<usize>>) -> Self {
        open.send_modify(|count| *count += 1);
        Self { out, open: Arc::clone(open) }
    }

    /// Ends the channel as a program's end does (RFC 4254 §6.10). It fails when the client has ended it already.
    async fn end(self, exit: Exit) {
        let ended = async {
            self.out.exit_status(exit.code().into()).await?;
            self.out.eof().await?;
            self.out.close().await
        };
        if ended.await.is_err() {
            debug!("the client left before it was told exit code {}", exit.code());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.send_modify(|count| *count -= 1);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("visitor", &self.visitor).finish_non_exhaustive()
    }
}

impl Connection {
    /// Serves one connection until it ends, nobody uses it, or the provisioner is told to end.
    pub(super) async fn serve(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        ssh: Arc<server::Config>,
        site: Arc<Site>,
        shutdown: CancellationToken,
    ) {
        let (open, in_use) = watch::channel(0);
        let (open, channels) = (Arc::new(open), HashMap::new());
        let connection = Self { site, visitor: None, visit: None, channels, open, span: Span::current() };
        let mut session = match timeout(IDLE, run_stream(ssh, stream, connection)).await {
            Ok(Ok(session)) => session,
            Ok(Err(fault)) => return debug!(%fault, "ended before it began"),
            Err(_) => return debug!("said nothing"),
        };
        let farewell = tokio::select! {
            ended = &mut session => {
                return ended.unwrap_or_else(|fault| debug!(%fault, "ended"));
            }
            () = idle(in_use) => "nobody uses this connection",
            () = shutdown.cancelled() => "the lobby is being restarted. Try again in a moment.",
        };
        let handle = session.handle();
        let goodbye = async {
            let said = handle.disconnect(Disconnect::ByApplication, farewell.to_owned(), "en".to_owned());
            said.await.is_ok() && (&mut session).await.is_ok()
        };
        if timeout(FAREWELL, goodbye).await != Ok(true) {
            debug!("may not have been told: {farewell}");
        }
    }

    fn check(&self, user: &str, certificate: &ssh_key::Certificate) -> Option<Visitor> {
        match Visitor::of(user, certificate, &self.site.door) {
            Ok(visitor) => Some(visitor),
            Err(refused) => {
                warn!("refused in the lobby: {refused}");
                None
            }
        }
    }

    /// Runs what is wanted on a channel: a command, or none. False when something runs there already.
    fn begin(&mut self, id: ChannelId, command: Option<Vec<u8>>, session: &mut Session) -> bool {
        let (Some(visitor), Some(channel)) = (self.visitor.clone(), self.channels.get_mut(&id)) else {
            return false;
        };
        let Some(place) = channel.place.take() else { return false };
        let (keys, keyboard) = mpsc::channel(KEYBOARD_QUEUE);
        channel.keyboard = Some(keys);
        let (out, err) = (place.out.make_writer(), place.out.make_writer_ext(Some(STDERR)));
        let terminal = Terminal::new(out, err, keyboard, channel.pty);
        let (site, interrupted) = (Arc::clone(&self.site), channel.interrupted.clone());
        let serving = async move {
            let exit = serve(&site, &visitor, terminal, command, interrupted).await;
            place.end(exit).await;
        };
        channel.run(serving.instrument(self.span.clone()));
        // It fails when the connection has ended already.
        session.channel_success(id).is_ok()
    }

    /// Says something on a channel's standard error and ends it.
    fn turn_away(
        &mut self,
        id: ChannelId,
        words: &'static str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(channel) = self.channels.get_mut(&id) else { return session.channel_failure(id) };
        let Some(place) = channel.place.take() else { return session.channel_failure(id) };
        session.channel_success(id)?;
        session.extended_data(id, STDERR, words)?;
        channel.run(place.end(Exit::Usage));
        Ok(())
    }
}

impl SessionChannel {
    /// Runs what ends the channel, until then or until the channel ends otherwise.
    fn run(&self, serving: impl Future<Output = ()> + Send + 'static) {
        let gone = self.gone.clone();
        tokio::spawn(async move {
            gone.run_until_cancelled(serving).await;
            gone.cancel();
        });
    }
}

/// Serves one verb to its end, or to a Ctrl-C.
async fn serve(
    site: &Site,
    visitor: &Visitor,
    mut terminal: Terminal,
    command: Option<Vec<u8>>,
    interrupted: CancellationToken,
) -> Exit {
    let logged = command
        .as_deref()
        .map(|command| String::from_utf8_lossy(command).chars().take(LOGGED).collect::<String>());
    info!(came = visitor.came, command = ?logged.as_deref().unwrap_or_default(), "asked");
    let begun = AtomicBool::new(false);
    let mut desk = Desk { site, visitor, terminal: &mut terminal, begun: &begun };
    let exit = tokio::select! {
        // A question hears a Ctrl-C too, and would take it for an answer.
        biased;
        () = interrupted.cancelled() => Exit::Interrupted,
        exit = desk.serve(command.as_deref()) => exit,
    };
    if exit == Exit::Interrupted {
        let words = if begun.load(Relaxed) { NO_LONGER_WAITING } else { "\n" };
        // Who interrupts and leaves need not hear it.
        drop(terminal.say(words).await);
    }
    info!(command = ?logged.as_deref().unwrap_or_default(), exit = exit.code(), "done");
    exit
}

/// Waits until there was no channel for [`IDLE`].
async fn idle(mut open: watch::Receiver<usize>) {
    loop {
        let in_use = *open.borrow_and_update() > 0;
        let changed = open.changed();
        let changed = if in_use {
            changed.await
        } else {
            match timeout(IDLE, changed).await {
                Ok(changed) => changed,
                Err(_) => return,
            }
        };
        if changed.is_err() {
            // The connection has ended, and its end is waited for elsewhere.
            std::future::pending::<()>().await;
        }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let visitor = offer.certificate.and_then(|certificate| self.check(user, certificate));
        Ok(if visitor.is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_certificate(
        &mut self,
        user: &str,
        verified: VerifiedCertificate<'_>,
    ) -> Result<Auth, Self::Error> {
        let Some(visitor) = self.check(user, verified.certificate) else { return Ok(Auth::reject()) };
        self.span.record("login", field::display(&visitor.login));
        self.visit = self.site.admit(&visitor.login);
        self.visitor = Some(Arc::new(visitor));
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.retain(|_, channel| !channel.gone.is_cancelled());
        if self.visit.is_none() || *self.open.borrow() >= CHANNELS_MAX {
            let reason = "you have too many commands in the lobby at once already".to_owned();
            reply.reject(ChannelOpenFailure::Other { code: SHORTAGE, reason }).await;
            return Ok(());
        }
        // What comes in is heard from this handler: of the channel only its other half is needed.
        let id = channel.id();
        let (_, out) = channel.split();
        let gone = CancellationToken::new();
        let channel = SessionChannel {
            place: Some(Place::new(out, &self.open)),
            pty: None,
            keyboard: None,
            interrupted: CancellationToken::new(),
            gone: gone.clone(),
            _gone: gone.drop_guard(),
        };
        self.channels.insert(id, channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.reject(no_forwarding()).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.reject(no_forwarding()).await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(&id);
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        // Scripts have no input: nothing ends for want of it but a question.
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.keyboard = None;
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        let Some(channel) = self.channels.get(&id) else { return Ok(()) };
        if channel.pty.is_some() && data.contains(&CTRL_C) {
            channel.interrupted.cancel();
        }
        if let Some(keyboard) = &channel.keyboard {
            // What does not fit was not typed by a person who was asked.
            drop(keyboard.try_send(Bytes::copy_from_slice(data)));
        }
        Ok(())
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Session) -> Result<(), Self::Error> {
        if let (Some(channel), Sig::INT | Sig::TERM | Sig::HUP) = (self.channels.get(&id), signal) {
            channel.interrupted.cancel();
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(PtyMode, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let allowed = self.visitor.as_ref().is_some_and(|visitor| visitor.may_have_terminal);
        match self.channels.get_mut(&id) {
            Some(channel) if allowed && channel.place.is_some() => {
                channel.pty = Some(Pty { colours: !matches!(term, "" | "dumb") });
                session.channel_success(id)
            }
            _ => session.channel_failure(id),
        }
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        if self.begin(id, None, session) { Ok(()) } else { session.channel_failure(id) }
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.begin(id, Some(command.to_vec()), session) { Ok(()) } else { session.channel_failure(id) }
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // A refusal has no words, and whoever wanted to copy a file should learn where she can.
        self.turn_away(id, NO_SUBSYSTEM, session)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }
}

fn no_forwarding() -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: PROHIBITED, reason: NO_FORWARDING.to_owned() }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_without_channels_is_idle() {
        let (open, in_use) = watch::channel(0);
        let (begun, idle) = (Instant::now(), tokio::spawn(idle(in_use)));
        tokio::time::sleep(IDLE / 2).await;
        open.send_replace(1);
        tokio::time::sleep(IDLE * 10).await;
        assert!(!idle.is_finished());
        open.send_replace(0);
        idle.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), (IDLE / 2 + IDLE * 11).as_secs());
    }
}
