//! The API on its Unix socket: HTTP/1 and JSON, for the gateway's user and root only.
//!
//! `socket` owns the socket and says who is at the other end; this file turns away whoever may not ask, reads
//! requests and writes answers. What is read is bounded in size, and so is the number of connections.

mod socket;
mod stream;

use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use boxgate_provisioner_api::{
    BOXES_PATH, BoxSummary, ENSURE_PATH, EnsureRequest, Failure, HEALTH_PATH, Health, MAX_REQUEST, Refusal,
};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::backend::Backend;
use crate::devbox_files::UserCa;
use crate::failure;
use crate::fleet::Fleet;
use socket::{Peer, Permitted};
pub use socket::{Server, ServerError};

impl Server {
    /// Serves until `shutdown` is cancelled and every answer is given. Removes the socket at the end.
    pub async fn serve<B: Backend>(self, fleet: Fleet<B>, shutdown: CancellationToken) {
        let (listener, permitted, cleanup) = self.into_parts();
        let service = router(fleet, permitted).into_make_service_with_connect_info::<Peer>();
        let served = axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        if let Err(fault) = served {
            error!("the socket cannot be served any more: {fault}");
        }
        drop(cleanup);
    }
}

fn router<B: Backend>(fleet: Fleet<B>, permitted: Permitted) -> Router {
    Router::new()
        .route(ENSURE_PATH, post(ensure::<B>))
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

async fn ensure<B: Backend>(State(fleet): State<Fleet<B>>, body: Result<Bytes, BytesRejection>) -> Response {
    let request: EnsureRequest = match body.map(|body| serde_json::from_slice(&body)) {
        Ok(Ok(request)) => request,
        Ok(Err(fault)) => {
            return refuse(StatusCode::BAD_REQUEST, &format!("the request is malformed: {fault}"));
        }
        Err(rejection) => return refuse(rejection.status(), &rejection.body_text()),
    };
    let user_ca = match UserCa::parse(&request.user_ca) {
        Ok(user_ca) => user_ca,
        Err(fault) => {
            return refuse(StatusCode::BAD_REQUEST, &format!("user_ca is not one public key: {fault}"));
        }
    };
    let status = fleet.ensure(&request.devbox, &user_ca, &request.client).await;
    let lines = Body::from_stream(stream::lines(request.devbox, status));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response()
}

async fn health<B: Backend>(State(fleet): State<Fleet<B>>) -> Json<Health> {
    Json(fleet.health().await)
}

async fn boxes<B: Backend>(
    State(fleet): State<Fleet<B>>,
) -> Result<Json<Vec<BoxSummary>>, (StatusCode, Json<Failure>)> {
    let unavailable = |error| (StatusCode::SERVICE_UNAVAILABLE, Json(failure::explain_backend(&error)));
    fleet.boxes().await.map(Json).map_err(unavailable)
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(Refusal { error: failure::one_line(error) })).into_response()
}

#[cfg(test)]
mod tests;
