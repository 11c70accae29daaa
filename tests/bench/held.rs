//! A thousand idle connections, each with a shell, out of one process: as many of OpenSSH's clients would take
//! more memory than the machine has.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle, Msg};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg};
use ssh_key::{PrivateKey, PublicKey};
use tokio::runtime::{self, Runtime};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::guard;

/// Logins under way at once.
const AT_ONCE: usize = 16;
const LOGIN_WITHIN: Duration = Duration::from_secs(60);

/// Where they go and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) user: String,
    key: Arc<PrivateKey>,
    host_key: PublicKey,
}

impl Target {
    pub(crate) fn new(address: SocketAddr, user: &str, key: &Path, host_key: &Path) -> Self {
        let key = Arc::new(PrivateKey::read_openssh_file(key).unwrap());
        let host_key = PublicKey::from_openssh(&fs::read_to_string(host_key).unwrap()).unwrap();
        Self { address, user: user.to_owned(), key, host_key }
    }
}

/// Connections that are open until this is dropped.
pub(crate) struct Held {
    connections: Vec<(Handle<Pin>, Channel<Msg>)>,
    // Dropped after them.
    _runtime: Runtime,
}

impl Held {
    /// Opens so many connections, each with a terminal and a shell that has shown its prompt.
    pub(crate) fn open(target: &Target, count: usize) -> Self {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let connections = runtime.block_on(open_all(target, count));
        Self { connections, _runtime: runtime }
    }

    /// How many the other side has not closed.
    pub(crate) fn open_still(&self) -> usize {
        self.connections.iter().filter(|(handle, _)| !handle.is_closed()).count()
    }
}

async fn open_all(target: &Target, count: usize) -> Vec<(Handle<Pin>, Channel<Msg>)> {
    let mut opening = JoinSet::new();
    let mut open = Vec::new();
    for number in 0..count {
        guard::step();
        if opening.len() >= AT_ONCE {
            open.push(opening.join_next().await.unwrap().unwrap());
        }
        if number % 100 == 0 && number > 0 {
            eprintln!("    {number} connections");
        }
        opening.spawn(shell(target.clone()));
    }
    open.extend(opening.join_all().await);
    open
}

async fn shell(target: Target) -> (Handle<Pin>, Channel<Msg>) {
    let open =
        timeout(LOGIN_WITHIN, try_shell(&target)).await.expect("a connection to hold has a shell in time");
    open.unwrap_or_else(|fault| panic!("a connection to hold: {fault}"))
}

async fn try_shell(target: &Target) -> Result<(Handle<Pin>, Channel<Msg>), russh::Error> {
    let pin = Pin(target.host_key.clone());
    let config = Arc::new(client::Config { inactivity_timeout: None, ..client::Config::default() });
    let mut handle = client::connect(config, target.address, pin).await?;
    let key = PrivateKeyWithHashAlg::new(Arc::clone(&target.key), None);
    assert!(handle.authenticate_publickey(&target.user, key).await?.success(), "the key is accepted");
    let mut channel = handle.channel_open_session().await?;
    channel.request_pty(false, "xterm", 80, 24, 0, 0, &[]).await?;
    channel.request_shell(true).await?;
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Data { .. }) => return Ok((handle, channel)),
            Some(_) => {}
            None => return Err(russh::Error::Disconnect),
        }
    }
}

/// Believes the gateway by its own key.
pub(crate) struct Pin(PublicKey);

impl client::Handler for Pin {
    type Error = russh::Error;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(match presented {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.key_data() == self.0.key_data(),
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }
}
