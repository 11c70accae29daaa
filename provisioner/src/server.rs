//! The API on its Unix socket: HTTP/1 and JSON, for the gateway's user and root only.
//!
//! `socket` owns the socket and says who is at the other end; this file turns away whoever may not ask, reads
//! requests and writes answers. What is read is bounded in size, and so is the number of connections.

mod archive;
mod socket;
mod stream;

use std::convert::Infallible;
use std::time::Duration;

use axum::body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{
    BACKUP_PATH, BOXES_PATH, BoxClusters, BoxSummary, CLUSTERS_PATH, ENSURE_PATH, EnsureRequest, Failure,
    FailureCode, GC_PATH, GcReport, GcRequest, HEALTH_PATH, Health, KEEP_PATH, KeepRequest, Kept, LOBBY_PATH,
    LOGS_PATH, LobbyEndpoint, LobbyRequest, MAX_REQUEST, ORDER_PATH, OrderRequest, RESTORE_PATH, Refusal,
    USE_PATH,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ssh_key::PublicKey;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::backend::Backend;
use crate::devbox_files::UserCa;
use crate::failure;
use crate::fleet::Fleet;
use crate::lobby::Door;
use crate::reconcile::Trouble;
pub(crate) use socket::{Cleanup, Gate, Peer, Permitted};
pub use socket::{Server, ServerError};

impl Server {
    /// Serves until `shutdown` is cancelled and every answer is given. Removes the socket at the end.
    pub async fn serve<B: Backend>(self, fleet: Fleet<B>, shutdown: CancellationToken) {
        let door = self.door.clone();
        let (listener, permitted, cleanup) = self.into_parts();
        let service = router(fleet, door, permitted).into_make_service_with_connect_info::<Peer>();
        let served = axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        if let Err(fault) = served {
            error!("the socket cannot be served any more: {fault}");
        }
        drop(cleanup);
    }
}

fn router<B: Backend>(fleet: Fleet<B>, door: Option<Door>, permitted: Permitted) -> Router {
    let lobby = door.map_or_else(Router::new, |door| {
        Router::new().route(LOBBY_PATH, post(async move |body| lobby(&door, body)))
    });
    Router::new()
        .route(ORDER_PATH, post(order::<B>))
        .route(KEEP_PATH, post(keep::<B>))
        .route(LOGS_PATH, get(logs::<B>))
        .route(CLUSTERS_PATH, get(clusters::<B>))
        .route(GC_PATH, post(gc::<B>))
        .route(BACKUP_PATH, post(archive::back_up::<B>))
        .route(RESTORE_PATH, post(archive::restore::<B>))
        .route_layer(middleware::from_fn(for_root))
        .merge(lobby)
        .route(ENSURE_PATH, post(ensure::<B>))
        .route(USE_PATH, post(report_use::<B>))
        .route(HEALTH_PATH, get(health::<B>))
        .route(BOXES_PATH, get(boxes::<B>))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || refuse(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .layer(middleware::from_fn_with_state(permitted, turn_away))
        .with_state(fleet)
}

/// Lets only the gateway's user and root in, before anything of the request is looked at.
async fn turn_away(
    State(permitted): State<Permitted>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if permitted.includes(peer) {
        return next.run(request).await;
    }
    warn!("turned away {peer}, who is neither root nor provisioner.gateway_user");
    let mut response = refuse(StatusCode::FORBIDDEN, &format!("{peer} is not served here"));
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

/// Lets only root do what the gateway has no business with: it makes and wakes boxes, it takes nothing from anyone.
async fn for_root(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    if peer.is_root() {
        return next.run(request).await;
    }
    warn!("turned away {peer} from {}, which is for root alone", request.uri().path());
    refuse(StatusCode::FORBIDDEN, "only root may ask for this")
}

/// A request's body, or the answer to a malformed one.
#[expect(clippy::result_large_err, reason = "an answer is what axum says it is")]
fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Response> {
    match body.map(|body| serde_json::from_slice(&body)) {
        Ok(Ok(request)) => Ok(request),
        Ok(Err(fault)) => Err(refuse(StatusCode::BAD_REQUEST, &format!("the request is malformed: {fault}"))),
        Err(rejection) => Err(refuse(rejection.status(), &rejection.body_text())),
    }
}

type Body = Result<Bytes, BytesRejection>;

/// Whoever is answered here may say whose certificates the lobby believes: that is how it learns who comes.
#[expect(clippy::result_large_err, reason = "an answer is what axum says it is")]
fn lobby(door: &Door, body: Body) -> Result<Json<LobbyEndpoint>, Response> {
    let request: LobbyRequest = read(body)?;
    let user_ca = PublicKey::from_openssh(request.user_ca.trim()).map_err(|fault| {
        refuse(StatusCode::BAD_REQUEST, &format!("user_ca is not one public key: {fault}"))
    })?;
    Ok(Json(door.open_to(&user_ca)))
}

async fn ensure<B: Backend>(State(fleet): State<Fleet<B>>, body: Body) -> Result<Response, Response> {
    let request: EnsureRequest = read(body)?;
    let user_ca = UserCa::parse(&request.user_ca).map_err(|fault| {
        refuse(StatusCode::BAD_REQUEST, &format!("user_ca is not one public key: {fault}"))
    })?;
    let status = fleet.ensure(&request.devbox, &user_ca, &request.client);
    Ok(events(stream::lines(request.devbox, status, stream::ensure_event)))
}

async fn order<B: Backend>(State(fleet): State<Fleet<B>>, body: Body) -> Result<Response, Response> {
    let request: OrderRequest = read(body)?;
    let status = fleet.order(&request.devbox, request.order, &request.client);
    Ok(events(stream::lines(request.devbox, status, stream::order_event)))
}

fn events(lines: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body::Body::from_stream(lines)).into_response()
}

async fn report_use<B: Backend>(State(fleet): State<Fleet<B>>, body: Body) -> Result<StatusCode, Response> {
    fleet.report_use(&read(body)?);
    Ok(StatusCode::NO_CONTENT)
}

async fn keep<B: Backend>(State(fleet): State<Fleet<B>>, body: Body) -> Result<Json<Kept>, Response> {
    let request: KeepRequest = read(body)?;
    there_is(&fleet, &request.devbox).await?;
    info!(devbox = %request.devbox, client = failure::one_line(&request.client), seconds = request.seconds, "kept");
    let kept = fleet.keep(&request.devbox, Duration::from_secs(request.seconds));
    kept.map(Json).map_err(|error| failed(failure::explain(&request.devbox, &error)))
}

async fn gc<B: Backend>(State(fleet): State<Fleet<B>>, body: Body) -> Result<Json<GcReport>, Response> {
    let request: GcRequest = read(body)?;
    let report = fleet.gc(request.remove).await;
    report.map(Json).map_err(|error| failed(failure::explain_backend(&error)))
}

/// What is asked of `/v1/logs`.
#[derive(Deserialize)]
struct LogsQuery {
    #[serde(rename = "box")]
    devbox: String,
    #[serde(default = "default_lines")]
    lines: u32,
    #[serde(default)]
    follow: bool,
}

fn default_lines() -> u32 {
    100
}

/// Lines of a console that may wait for a slow reader; then the engine waits too.
const LOG_QUEUE: usize = 64;

async fn logs<B: Backend>(
    State(fleet): State<Fleet<B>>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Response> {
    let id = in_query(&query.devbox)?;
    there_is(&fleet, &id).await?;
    let (into, mut lines) = mpsc::channel(LOG_QUEUE);
    // Ends when the reader does: nobody takes its lines then.
    tokio::spawn(async move {
        if let Err(error) = fleet.console(&id, query.lines, query.follow, into.clone()).await {
            drop(into.send(error.to_string()).await);
        }
    });
    let text = futures_util::stream::poll_fn(move |cx| lines.poll_recv(cx));
    let text = text.map(|line| Ok::<_, Infallible>(Bytes::from(line + "\n")));
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body::Body::from_stream(text)).into_response())
}

/// What is asked of `/v1/clusters`.
#[derive(Deserialize)]
struct ClustersQuery {
    #[serde(rename = "box")]
    devbox: String,
}

async fn clusters<B: Backend>(
    State(fleet): State<Fleet<B>>,
    Query(query): Query<ClustersQuery>,
) -> Result<Json<BoxClusters>, Response> {
    let id = in_query(&query.devbox)?;
    there_is(&fleet, &id).await?;
    let clusters = fleet.clusters(&id).await.map_err(|error| failed(failure::of_clusters(&id, &error)))?;
    Ok(Json(BoxClusters { clusters }))
}

#[expect(clippy::result_large_err, reason = "an answer is what axum says it is")]
fn in_query(devbox: &str) -> Result<DevBoxId, Response> {
    DevBoxId::parse(devbox)
        .map_err(|fault| refuse(StatusCode::BAD_REQUEST, &format!("the box id {devbox:?} {fault}")))
}

async fn there_is<B: Backend>(fleet: &Fleet<B>, id: &DevBoxId) -> Result<(), Response> {
    match fleet.has(id).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(failed(failure::explain(id, &Trouble::NoSuchBox.into()))),
        Err(error) => Err(failed(failure::explain_backend(&error))),
    }
}

async fn health<B: Backend>(State(fleet): State<Fleet<B>>) -> Json<Health> {
    Json(fleet.health().await)
}

/// What is asked of `/v1/boxes`.
#[derive(Deserialize)]
struct BoxesQuery {
    #[serde(default)]
    usage: bool,
}

async fn boxes<B: Backend>(
    State(fleet): State<Fleet<B>>,
    Query(query): Query<BoxesQuery>,
) -> Result<Json<Vec<BoxSummary>>, Response> {
    let boxes = if query.usage { fleet.boxes_with_usage().await } else { fleet.boxes().await };
    boxes.map(Json).map_err(|error| failed(failure::explain_backend(&error)))
}

fn failed(failure: Failure) -> Response {
    let status = match failure.code {
        FailureCode::NoSuchBox => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(failure)).into_response()
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(Refusal { error: failure::one_line(error) })).into_response()
}

#[cfg(test)]
mod tests;
