//! The asking side of the socket. Each call is a connection of its own and ends with it: dropping a call
//! closes the connection and leaves nothing behind, while the provisioner goes on making the box.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use boxgate_config::DevBoxId;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lines::Lines;
use crate::{
    BACKUP_PATH, BOXES_PATH, BackupEvent, BackupRequest, BoxCluster, BoxClusters, BoxSummary, CLUSTERS_PATH,
    ENSURE_PATH, Endpoint, EnsureEvent, EnsureRequest, Failure, GC_PATH, GcReport, GcRequest, HEALTH_PATH,
    Health, KEEP_PATH, KeepRequest, Kept, LOBBY_PATH, LOGS_PATH, LobbyEndpoint, LobbyRequest, MAX_LINE,
    MAX_REPLY, ORDER_PATH, OrderEvent, OrderRequest, Progress, RESTORE_PATH, Refusal, RestoreRequest,
    USE_PATH, UseReport,
};

/// How long the provisioner may take to begin its answer. It gives the engine less than that to answer a
/// listing, and begins the answer to an ensure before it does anything.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Asks the provisioner that answers on a socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens on the socket, or it went away before its answer was whole.
    #[error("provisioner {}: cannot be reached: {source}", socket.display())]
    Unreachable { socket: PathBuf, source: std::io::Error },
    /// The provisioner does not serve the user that this process runs as.
    #[error("provisioner: refused to answer: {0}")]
    Refused(String),
    /// The provisioner could not give the box.
    #[error("{0}")]
    Failed(Failure),
    /// The answer is not what this version understands.
    #[error("provisioner: {0}")]
    Protocol(String),
}

/// An answer whose body is still arriving, with the task that reads its connection.
struct Answer {
    response: Response<Incoming>,
    /// Aborted when dropped, so that the connection never outlives the call.
    _connection: JoinSet<hyper::Result<()>>,
}

/// An answer that comes line by line.
struct Events {
    answer: Answer,
    lines: Lines,
}

impl Events {
    async fn next<T: DeserializeOwned>(&mut self, client: &Client) -> Result<T, ClientError> {
        loop {
            if let Some(line) = self.lines.next().map_err(|_| too_long())? {
                return decode(&line);
            }
            self.more(client).await?;
        }
    }

    /// Some of the next `most` bytes, which are no lines.
    async fn bytes(&mut self, most: usize, client: &Client) -> Result<Bytes, ClientError> {
        loop {
            let taken = self.lines.take(most);
            if !taken.is_empty() {
                return Ok(taken);
            }
            self.more(client).await?;
        }
    }

    async fn more(&mut self, client: &Client) -> Result<(), ClientError> {
        match self.answer.response.body_mut().frame().await {
            Some(frame) => {
                let frame = frame.map_err(|fault| client.unreachable(fault))?;
                self.lines.push(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
                Ok(())
            }
            None => Err(client.unreachable("the answer ended before its last line")),
        }
    }
}

/// The archive of a box on its way. Dropping it before its end ends the reading: the box is started again, if it ran.
pub struct Backup {
    client: Client,
    events: Events,
    /// Of the data that is under way, what has not come yet.
    left: usize,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Progress(Progress),
    Data(Bytes),
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backup")
    }
}

impl Backup {
    /// The next piece; `None` when that was the whole archive.
    ///
    /// # Errors
    /// [`ClientError::Failed`] when the provisioner says why there is no more, else why it said nothing. What has come
    /// until then is no archive.
    pub async fn next(&mut self) -> Result<Option<Piece>, ClientError> {
        while self.left == 0 {
            match self.events.next(&self.client).await? {
                BackupEvent::Progress(progress) => return Ok(Some(Piece::Progress(progress))),
                BackupEvent::Data { bytes } => self.left = bytes,
                BackupEvent::Done => return Ok(None),
                BackupEvent::Failed(failure) => return Err(ClientError::Failed(failure)),
            }
        }
        let data = self.events.bytes(self.left, &self.client).await?;
        self.left -= data.len();
        Ok(Some(Piece::Data(data)))
    }
}

/// A request of one line, and what follows it.
struct LineAndMore {
    line: Option<Bytes>,
    more: mpsc::Receiver<Bytes>,
}

impl Body for LineAndMore {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(line) = self.line.take() {
            return Poll::Ready(Some(Ok(Frame::data(line))));
        }
        self.more.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A box's log on its way. Dropping it ends the reading.
pub struct Log {
    client: Client,
    answer: Answer,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    /// The next piece; `None` when that was all.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when the provisioner went away.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        match self.answer.response.body_mut().frame().await {
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(fault)) => Err(self.client.unreachable(fault)),
            None => Ok(None),
        }
    }
}

impl Client {
    /// Connects to nothing yet: a provisioner may come and go while the gateway stays.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Makes or wakes a box and waits until its sshd answers. `on_progress` hears what is going on meanwhile.
    ///
    /// This may take as long as a box takes to be made and to boot; the caller sets its own limit. Dropping
    /// the call stops the waiting, not the work.
    ///
    /// # Errors
    /// [`ClientError::Failed`] when the provisioner says why there is no box, else why it said nothing.
    pub async fn ensure(
        &self,
        request: &EnsureRequest,
        mut on_progress: impl FnMut(Progress) + Send,
    ) -> Result<Endpoint, ClientError> {
        let mut events = self.events(ENSURE_PATH, request).await?;
        loop {
            match events.next(self).await? {
                EnsureEvent::Progress(progress) => on_progress(progress),
                EnsureEvent::Ready(endpoint) => return Ok(endpoint),
                EnsureEvent::Failed(failure) => return Err(ClientError::Failed(failure)),
            }
        }
    }

    /// Changes a box and waits until it is done. `on_progress` hears what is going on meanwhile. Dropping the
    /// call stops the waiting, not the work.
    ///
    /// # Errors
    /// [`ClientError::Failed`] when the provisioner says why it was not done, else why it said nothing.
    pub async fn order(
        &self,
        request: &OrderRequest,
        mut on_progress: impl FnMut(Progress) + Send,
    ) -> Result<(), ClientError> {
        let mut events = self.events(ORDER_PATH, request).await?;
        loop {
            match events.next(self).await? {
                OrderEvent::Progress(progress) => on_progress(progress),
                OrderEvent::Done => return Ok(()),
                OrderEvent::Failed(failure) => return Err(ClientError::Failed(failure)),
            }
        }
    }

    /// Asks whether the provisioner can work.
    ///
    /// # Errors
    /// Any [`ClientError`] but `Failed`.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.get(HEALTH_PATH).await
    }

    /// Asks for every box there is, sorted by id.
    ///
    /// # Errors
    /// Any [`ClientError`]; `Failed` when the container engine does not answer.
    pub async fn boxes(&self) -> Result<Vec<BoxSummary>, ClientError> {
        self.get(BOXES_PATH).await
    }

    /// The same with what each box uses at the moment, which takes the engine a second or two.
    ///
    /// # Errors
    /// As for [`Self::boxes`].
    pub async fn boxes_with_usage(&self) -> Result<Vec<BoxSummary>, ClientError> {
        self.get(&format!("{BOXES_PATH}?usage=true")).await
    }

    /// Keeps a box from being stopped for being idle.
    ///
    /// # Errors
    /// Any [`ClientError`]; `Failed` when there is no such box.
    pub async fn keep(&self, request: &KeepRequest) -> Result<Kept, ClientError> {
        self.post(KEEP_PATH, request).await
    }

    /// Finds what no box needs any more, and removes it if asked to.
    ///
    /// # Errors
    /// Any [`ClientError`]; `Failed` when the container engine does not answer.
    pub async fn gc(&self, request: &GcRequest) -> Result<GcReport, ClientError> {
        self.post(GC_PATH, request).await
    }

    /// Says who uses what.
    ///
    /// # Errors
    /// Any [`ClientError`] but `Failed`.
    pub async fn report_use(&self, report: &UseReport) -> Result<(), ClientError> {
        let answer = self.ask(Method::POST, USE_PATH, Some(report)).await?;
        self.whole(answer).await.map(drop)
    }

    /// Asks where the lobby is, and has it believe the gateway's certificates.
    ///
    /// # Errors
    /// Any [`ClientError`] but `Failed`.
    pub async fn lobby(&self, request: &LobbyRequest) -> Result<LobbyEndpoint, ClientError> {
        self.post(LOBBY_PATH, request).await
    }

    /// Reads what a box's console got: the last `lines`, and with `follow` all that comes until it ends.
    /// `on_bytes` hears it in pieces.
    ///
    /// # Errors
    /// Any [`ClientError`]; `Failed` when there is no such box.
    pub async fn logs(
        &self,
        devbox: &DevBoxId,
        lines: u32,
        follow: bool,
        mut on_bytes: impl FnMut(&[u8]) + Send,
    ) -> Result<(), ClientError> {
        let mut log = self.open_log(devbox, lines, follow).await?;
        while let Some(piece) = log.next().await? {
            on_bytes(&piece);
        }
        Ok(())
    }

    /// The same for who cannot take all of it at once: what is not asked for waits with the provisioner.
    ///
    /// # Errors
    /// As for [`Self::logs`].
    pub async fn open_log(&self, devbox: &DevBoxId, lines: u32, follow: bool) -> Result<Log, ClientError> {
        let path = format!("{LOGS_PATH}?box={}&lines={lines}&follow={follow}", in_query(devbox));
        let answer = self.ask(Method::GET, &path, None::<&()>).await?;
        Ok(Log { client: self.clone(), answer })
    }

    /// The Kubernetes clusters of a box; none at all when it does not run.
    ///
    /// # Errors
    /// As for [`Self::boxes`], and when there is no such box.
    pub async fn clusters(&self, devbox: &DevBoxId) -> Result<Option<Vec<BoxCluster>>, ClientError> {
        let clusters: BoxClusters = self.get(&format!("{CLUSTERS_PATH}?box={}", in_query(devbox))).await?;
        Ok(clusters.clusters)
    }

    /// Reads a box's home and Docker data. The box is stopped meanwhile, and whoever logs in waits.
    ///
    /// # Errors
    /// Any [`ClientError`] but `Failed`: that comes instead of the last piece.
    pub async fn back_up(&self, request: &BackupRequest) -> Result<Backup, ClientError> {
        let events = self.events(BACKUP_PATH, request).await?;
        Ok(Backup { client: self.clone(), events, left: 0 })
    }

    /// Makes a box of an archive. Dropping the call ends it: nothing stays of the box then. So does an archive that ends
    /// too early.
    ///
    /// # Errors
    /// [`ClientError::Failed`] when the provisioner says why there is no box, else why it said nothing.
    pub async fn restore(
        &self,
        request: &RestoreRequest,
        archive: mpsc::Receiver<Bytes>,
        mut on_progress: impl FnMut(Progress) + Send,
    ) -> Result<(), ClientError> {
        let mut line = written(request)?;
        line.push(b'\n');
        let body = LineAndMore { line: Some(line.into()), more: archive };
        let answer = self.answer(Method::POST, RESTORE_PATH, body).await?;
        let mut events = Events { answer, lines: Lines::default() };
        loop {
            match events.next(self).await? {
                OrderEvent::Progress(progress) => on_progress(progress),
                OrderEvent::Done => return Ok(()),
                OrderEvent::Failed(failure) => return Err(ClientError::Failed(failure)),
            }
        }
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let answer = self.ask(Method::POST, path, Some(body)).await?;
        decode(&self.whole(answer).await?)
    }

    async fn events(&self, path: &str, request: &impl Serialize) -> Result<Events, ClientError> {
        let answer = self.ask(Method::POST, path, Some(request)).await?;
        Ok(Events { answer, lines: Lines::default() })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.ask(Method::GET, path, None::<&()>).await?;
        decode(&self.whole(answer).await?)
    }

    /// Sends a request and returns the answer's head, if it is a success.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Answer, ClientError> {
        let body = body.map(written).transpose()?.unwrap_or_default();
        self.answer(method, path, Full::new(Bytes::from(body))).await
    }

    async fn answer<B>(&self, method: Method, path: &str, body: B) -> Result<Answer, ClientError>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "provisioner")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|fault| ClientError::Protocol(format!("cannot write the request: {fault}")))?;
        let answer = match timeout(HEAD_TIMEOUT, self.send(request)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.unreachable("no answer in time")),
        };
        if answer.response.status().is_success() { Ok(answer) } else { Err(self.refused(answer).await) }
    }

    async fn send<B>(&self, request: Request<B>) -> Result<Answer, ClientError>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|fault| self.unreachable(fault))?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(request).await.map_err(|fault| self.unreachable(fault))?;
        Ok(Answer { response, _connection: driver })
    }

    async fn refused(&self, answer: Answer) -> ClientError {
        let status = answer.response.status();
        let body = match timeout(HEAD_TIMEOUT, self.whole(answer)).await {
            Ok(Ok(body)) => body,
            Ok(Err(fault)) => return fault,
            Err(_) => return self.unreachable("no answer in time"),
        };
        if let Ok(failure) = serde_json::from_slice(&body) {
            return ClientError::Failed(failure);
        }
        let error =
            serde_json::from_slice(&body).map_or_else(|_| status.to_string(), |said: Refusal| said.error);
        if status == StatusCode::FORBIDDEN {
            ClientError::Refused(error)
        } else {
            ClientError::Protocol(error)
        }
    }

    async fn whole(&self, answer: Answer) -> Result<Bytes, ClientError> {
        match Limited::new(answer.response.into_body(), MAX_REPLY).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(fault) => Err(self.unreachable(fault)),
        }
    }

    fn unreachable(&self, fault: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Unreachable { socket: self.socket.clone(), source: std::io::Error::other(fault) }
    }
}

fn written(request: &impl Serialize) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(request)
        .map_err(|fault| ClientError::Protocol(format!("cannot write the request: {fault}")))
}

fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(json)
        .map_err(|fault| ClientError::Protocol(format!("answered what this version cannot read: {fault}")))
}

/// A `+` in a query is a space.
fn in_query(devbox: &DevBoxId) -> String {
    devbox.to_string().replace('+', "%2B")
}

fn too_long() -> ClientError {
    ClientError::Protocol(format!("answered a line of more than {MAX_LINE} bytes"))
}
