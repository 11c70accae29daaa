//! What stands between a provisioner and dockerd: it passes requests on, and fails at the one that it is told.

use std::fmt;
use std::future::{pending, poll_fn};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, client, server};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const DOCKERD: &str = "/var/run/docker.sock";
/// What a box runs where it only matters that it boots, answers and shuts itself down: its sshd and nothing else.
pub(crate) const QUICK: &str = "mkdir -p /run/sshd; trap 'exit 0' 37; /usr/sbin/sshd -D & wait";
/// The beginning of another protocol.
const GARBAGE: &[u8] = b"\x16\x03\x01\x02 this is no HTTP\r\n\r\n";

/// A request to dockerd, by its method and its path, where `*` is any name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call(&'static str, &'static str);

pub(crate) const INSPECT: Call = Call("GET", "containers/*/json");
pub(crate) const CREATE_NETWORK: Call = Call("POST", "networks/create");
pub(crate) const CREATE_VOLUME: Call = Call("POST", "volumes/create");
pub(crate) const CREATE_CONTAINER: Call = Call("POST", "containers/create");
pub(crate) const START: Call = Call("POST", "containers/*/start");
pub(crate) const STOP: Call = Call("POST", "containers/*/stop");
pub(crate) const REMOVE_CONTAINER: Call = Call("DELETE", "containers/*");
pub(crate) const REMOVE_VOLUME: Call = Call("DELETE", "volumes/*");
pub(crate) const REMOVE_NETWORK: Call = Call("DELETE", "networks/*");

/// Whether dockerd gets to do what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The request is not passed on.
    Before,
    /// It is done, and its answer is not passed on.
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status, with an error message as dockerd writes them.
    Refuse(u16),
    /// The connection ends without an answer.
    Drop,
    /// An answer that is no HTTP.
    Garbage,
    /// No answer, for as long as somebody waits for one.
    Hang,
}

/// A fault that is due at the next such request.
struct Trap {
    call: Call,
    /// Somewhere in the request: the name of an object.
    about: String,
    when: When,
    fault: Fault,
    struck: oneshot::Sender<()>,
}

type Traps = Arc<Mutex<Vec<Trap>>>;

pub(crate) struct Proxy {
    directory: TempDir,
    traps: Traps,
    serving: JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let listener = UnixListener::bind(directory.path().join("docker.sock")).unwrap();
        let traps = Traps::default();
        let serving = tokio::spawn(serve(listener, Arc::clone(&traps)));
        Self { directory, traps, serving }
    }

    /// Its socket, for `provisioner.docker_socket`.
    pub(crate) fn setting(&self) -> String {
        format!("\"{}\"", self.directory.path().join("docker.sock").display())
    }

    /// Fails once, at the next such request that has `about` in it. What is returned tells when it has come.
    pub(crate) fn fail(&self, call: Call, about: &str, when: When, fault: Fault) -> oneshot::Receiver<()> {
        let (struck, told) = oneshot::channel();
        self.traps.lock().unwrap().push(Trap { call, about: about.to_owned(), when, fault, struck });
        told
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Call {
    /// The path may begin with a version of the API.
    fn is(self, head: &Parts) -> bool {
        let asked = head.uri.path().split('/').skip(1).skip_while(|part| part.starts_with("v1."));
        let same = |(part, of): (&str, &str)| of == "*" || part == of;
        head.method == self.0
            && asked.clone().count() == self.1.split('/').count()
            && asked.zip(self.1.split('/')).all(same)
    }
}

impl Trap {
    fn is_for(&self, head: &Parts, body: &Bytes) -> bool {
        let body = String::from_utf8_lossy(body);
        self.call.is(head) && (head.uri.to_string().contains(&self.about) || body.contains(&self.about))
    }

    async fn strike(self) -> Result<Response<Full<Bytes>>, Broken> {
        // A test that ended does not listen any more.
        self.struck.send(()).ok();
        match self.fault {
            Fault::Refuse(status) => {
                let said = format!("{{\"message\":\"a fault for {}\"}}", self.about);
                Ok(Response::builder().status(status).body(said.into()).unwrap())
            }
            Fault::Drop => Err(Broken { last_words: b"" }),
            Fault::Garbage => Err(Broken { last_words: GARBAGE }),
            Fault::Hang => pending().await,
        }
    }
}

/// A connection that ends with these bytes in place of an answer.
#[derive(Debug)]
struct Broken {
    last_words: &'static [u8],
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken off")
    }
}

impl std::error::Error for Broken {}

impl From<hyper::Error> for Broken {
    fn from(_: hyper::Error) -> Self {
        Self { last_words: b"" }
    }
}

async fn serve(listener: UnixListener, traps: Traps) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(connection(stream, Arc::clone(&traps)));
    }
}

async fn connection(stream: UnixStream, traps: Traps) {
    let service = service_fn(move |request| Box::pin(answer(request, Arc::clone(&traps))));
    let mut serving = server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let Err(end) = poll_fn(|cx| serving.poll_without_shutdown(cx)).await else { return };
    let broken = std::error::Error::source(&end).and_then(|source| source.downcast_ref::<Broken>());
    if let Some(Broken { last_words }) = broken {
        let mut stream = serving.into_parts().io.into_inner();
        // The provisioner may have been killed.
        drop(stream.write_all(last_words).await);
    }
}

async fn answer(request: Request<Incoming>, traps: Traps) -> Result<Response<Full<Bytes>>, Broken> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let trap = {
        let mut traps = traps.lock().unwrap();
        let due = traps.iter().position(|trap| trap.is_for(&head, &body));
        due.map(|due| traps.swap_remove(due))
    };
    match trap {
        None => pass_on(head, body).await,
        Some(trap) if trap.when == When::Before => trap.strike().await,
        Some(trap) => {
            pass_on(head, body).await?;
            trap.strike().await
        }
    }
}

async fn pass_on(head: Parts, body: Bytes) -> Result<Response<Full<Bytes>>, Broken> {
    let stream = UnixStream::connect(DOCKERD).await.unwrap();
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(Request::from_parts(head, Full::new(body))).await?.into_parts();
    Ok(Response::from_parts(head, Full::new(body.collect().await?.to_bytes())))
}

#[test]
fn a_call_is_known_by_its_path() {
    let asked = |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        request.into_parts().0
    };
    assert!(INSPECT.is(&asked(Method::GET, "/v1.41/containers/a.b/json?size=false")));
    assert!(!INSPECT.is(&asked(Method::GET, "/v1.41/containers/json")));
    assert!(!REMOVE_CONTAINER.is(&asked(Method::DELETE, "/volumes/a.b")));
}
