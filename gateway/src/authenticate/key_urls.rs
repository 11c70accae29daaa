//! Keys that are published at HTTPS URLs, such as a GitHub user's. They are fetched in the background and kept on
//! disk: a login looks at what was fetched last and never waits for a server.
//!
//! Bounds: a server has [`TIMEOUT`] and [`MAX_BYTES`], [`MAX_REDIRECTS`] redirections, all of them to HTTPS;
//! [`AT_ONCE`] are asked at once. What a server fails to say leaves what it said before; only a list without keys,
//! or the word that there is no such list (404, 410), takes keys away.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boxgate_config::{AuthorizedKey, GatewayConfig, KeyUrl, LoginName, User};
use futures_util::StreamExt;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval};
use tracing::{info, warn};

/// From the look-up of the server's name to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);
/// More keys than anybody has.
const MAX_BYTES: usize = 256 * 1024;
const MAX_REDIRECTS: usize = 3;
const AT_ONCE: usize = 8;
/// A person whose key is not known yet may have published it just now: that often it is looked for on her account.
const EARLY: Duration = Duration::from_secs(60);
/// People whose early look waits. More find theirs at the next turn.
const EARLY_QUEUE: usize = 32;

/// The keys behind everybody's URLs.
#[derive(Debug)]
pub struct KeyUrls {
    sources: BTreeMap<LoginName, Vec<Arc<Source>>>,
    client: Option<Client>,
    refresh: Duration,
    early: mpsc::Sender<LoginName>,
    early_queue: Mutex<Option<mpsc::Receiver<LoginName>>>,
}

#[derive(Debug)]
struct Source {
    url: KeyUrl,
    /// Where the answer is kept from one start to the next.
    cache: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: Arc<Vec<AuthorizedKey>>,
    asked: Option<Instant>,
}

/// Why keys cannot be fetched at all.
#[derive(Debug, thiserror::Error)]
pub enum KeyUrlsError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: holds no certificates in PEM: {source}", path.display())]
    CaFile { path: PathBuf, source: reqwest::Error },
    #[error("cannot set up HTTPS: {0}")]
    Tls(#[source] reqwest::Error),
}

/// Why one answer does not count.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the server answers {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {} KiB", MAX_BYTES / 1024)]
    TooLong,
    #[error("the answer holds no key in authorized_keys format")]
    NoKeys,
    #[error("cannot keep the answer: {0}")]
    Keep(#[from] io::Error),
}

impl KeyUrls {
    /// Reads what was fetched before. Nothing is fetched yet.
    ///
    /// # Errors
    /// When the authorities or the directory of the cache cannot be used.
    pub fn load(users: &BTreeMap<LoginName, User>, config: &GatewayConfig) -> Result<Self, KeyUrlsError> {
        let directory = config.state_dir.join("key_urls");
        let with_urls = || users.iter().filter(|(_, user)| !user.key_urls.is_empty());
        let client = if with_urls().next().is_some() {
            fs::create_dir_all(&directory)
                .map_err(|source| KeyUrlsError::Io { path: directory.clone(), source })?;
            Some(client(config.key_url_ca_file.as_deref())?)
        } else {
            None
        };
        let sources = with_urls().map(|(login, user)| {
            let source = |(at, url): (usize, &KeyUrl)| {
                Arc::new(Source::load(url.clone(), directory.join(format!("{login}-{at}.keys"))))
            };
            (login.clone(), user.key_urls.iter().enumerate().map(source).collect())
        });
        let (early, queue) = mpsc::channel(EARLY_QUEUE);
        Ok(Self {
            sources: sources.collect(),
            client,
            refresh: config.key_url_refresh,
            early,
            early_queue: Mutex::new(Some(queue)),
        })
    }

    /// What was fetched last for `login`.
    pub fn of(&self, login: &LoginName) -> impl Iterator<Item = Arc<Vec<AuthorizedKey>>> {
        self.sources.get(login).into_iter().flatten().map(|source| Arc::clone(&source.state().keys))
    }

    /// Someone came for `login` with a key that is not known: her keys are looked at soon, if they were not just now.
    pub fn look_early(&self, login: &LoginName) {
        if self.sources.get(login).is_some_and(|sources| sources.iter().any(|source| source.is_due_early())) {
            // A full queue is served soon enough.
            drop(self.early.try_send(login.clone()));
        }
    }

    /// Keeps fetching. Ends at once when there is nothing to fetch; else it is for the caller to end.
    pub async fn run(&self) {
        let queue = self.early_queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(client), Some(mut queue)) = (&self.client, queue) else { return };
        let mut turn = interval(self.refresh);
        loop {
            tokio::select! {
                _ = turn.tick() => {
                    fetch_all(client, self.sources.values().flatten().cloned().collect()).await;
                }
                Some(login) = queue.recv() => {
                    let mut due = self.sources.get(&login).cloned().unwrap_or_default();
                    due.retain(|source| source.is_due_early());
                    fetch_all(client, due).await;
                }
            }
        }
    }
}

fn client(ca_file: Option<&Path>) -> Result<Client, KeyUrlsError> {
    let mut builder = Client::builder()
        .https_only(true)
        .redirect(Policy::limited(MAX_REDIRECTS))
        .timeout(TIMEOUT)
        .user_agent(concat!("boxgate/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = ca_file {
        let pem = fs::read(path).map_err(|source| KeyUrlsError::Io { path: path.to_owned(), source })?;
        let authorities = Certificate::from_pem_bundle(&pem)
            .map_err(|source| KeyUrlsError::CaFile { path: path.to_owned(), source })?;
        builder = builder.tls_certs_merge(authorities);
    }
    builder.build().map_err(KeyUrlsError::Tls)
}

async fn fetch_all(client: &Client, sources: Vec<Arc<Source>>) {
    let answers = sources.into_iter().map(|source| {
        let client = client.clone();
        source.state().asked = Some(Instant::now());
        async move {
            let answer = get(&client, &source.url).await;
            (source, answer)
        }
    });
    let mut answers = futures_util::stream::iter(answers).buffer_unordered(AT_ONCE);
    while let Some((source, answer)) = answers.next().await {
        if let Err(fault) = answer.and_then(|text| source.take(&text)) {
            let fault: &dyn std::error::Error = &fault;
            let cause = fault.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            warn!(url = %source.url, "keys not fetched, the last ones stay: {fault}{cause}");
        }
    }
}

/// The text at `url`; an empty one when the server says that there is none.
async fn get(client: &Client, url: &KeyUrl) -> Result<String, FetchError> {
    let mut response = client.get(url.as_url().clone()).send().await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(String::new()),
        other => return Err(FetchError::Status(other)),
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

impl Source {
    fn load(url: KeyUrl, cache: PathBuf) -> Self {
        // The first line says whose answer it is: the configuration may have changed since.
        let kept = fs::read_to_string(&cache).unwrap_or_default();
        let ours = kept.split_once('\n').filter(|(first, _)| *first == format!("# {url}"));
        let keys = ours.map(|(_, text)| AuthorizedKey::parse_file(text).0).unwrap_or_default();
        let state = State { keys: Arc::new(keys), asked: None };
        Self { url, cache, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_due_early(&self) -> bool {
        self.state().asked.is_none_or(|asked| asked.elapsed() >= EARLY)
    }

    /// Takes an answer over, unless it is none.
    fn take(&self, text: &str) -> Result<(), FetchError> {
        let (keys, faults) = AuthorizedKey::parse_file(text);
        if keys.is_empty() && !faults.is_empty() {
            return Err(FetchError::NoKeys);
        }
        if *self.state().keys == keys {
            return Ok(());
        }
        info!(url = %self.url, keys = keys.len(), unusable = faults.len(), "fetched keys");
        self.state().keys = Arc::new(keys);
        self.keep(text).map_err(FetchError::Keep)
    }

    /// The rename makes the file whole, whenever power fails.
    fn keep(&self, text: &str) -> io::Result<()> {
        let fresh = self.cache.with_extension("new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        write!(file, "# {}\n{text}", self.url)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.cache)
    }
}
