//! Archives over the socket: one comes as bytes among lines, one goes as bytes after a line.

use std::convert::Infallible;

use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{BackupEvent, BackupRequest, MAX_LINE, RestoreRequest};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

use super::stream::{line, next, order_event};
use super::{events, read, refuse, stream as status_lines};
use crate::backend::Backend;
use crate::fleet::{Fleet, Outcome, Status};

pub(super) async fn back_up<B: Backend>(
    State(fleet): State<Fleet<B>>,
    body: super::Body,
) -> Result<Response, Response> {
    let request: BackupRequest = read(body)?;
    let (mut status, archive) = fleet.back_up(&request.devbox, &request.client);
    status.mark_changed();
    let answer = Answer { id: request.devbox, status, archive, end: None };
    Ok(events(pieces(answer).map(Ok::<_, Infallible>)))
}

/// What is still to be said of an archive on its way.
struct Answer {
    id: DevBoxId,
    status: Status,
    archive: mpsc::Receiver<Bytes>,
    /// What it came to, once that is known.
    end: Option<BackupEvent>,
}

/// The archive's bytes, each piece after the line that announces it, and lines of progress between them; the last line says what it
/// came to.
fn pieces(answer: Answer) -> impl Stream<Item = Bytes> + Send {
    let pieces = stream::unfold(Some(answer), |answer| async move {
        let mut answer = answer?;
        if answer.end.is_none() {
            tokio::select! {
                biased;
                Some(data) = answer.archive.recv() => return Some((announced(data), Some(answer))),
                outcome = next(&answer.id, &mut answer.status) => match outcome {
                    Outcome::Progress(progress) => {
                        return Some((vec![line(&BackupEvent::Progress(progress))], Some(answer)));
                    }
                    Outcome::Failed(failure) => answer.end = Some(BackupEvent::Failed(failure)),
                    Outcome::Ready(_) | Outcome::Done => answer.end = Some(BackupEvent::Done),
                },
            }
        }
        // What was packed until then comes first.
        match (answer.archive.recv().await, &answer.end) {
            (Some(data), _) => Some((announced(data), Some(answer))),
            (None, Some(end)) => Some((vec![line(end)], None)),
            (None, None) => None,
        }
    });
    pieces.flat_map(stream::iter)
}

fn announced(data: Bytes) -> Vec<Bytes> {
    vec![line(&BackupEvent::Data { bytes: data.len() }), data]
}

pub(super) async fn restore<B: Backend>(
    State(fleet): State<Fleet<B>>,
    body: Body,
) -> Result<Response, Response> {
    let mut body = body.into_data_stream();
    let (request, rest) = first_line(&mut body).await?;
    let request: RestoreRequest = read(Ok(request))?;
    let (status, archive) = fleet.restore(&request.devbox, &request.client);
    tokio::spawn(pass_on(rest, body, archive));
    Ok(events(status_lines::lines(request.devbox, status, order_event)))
}

/// The line, and what came with it of what follows.
async fn first_line(body: &mut BodyDataStream) -> Result<(Bytes, Bytes), Response> {
    let mut read = BytesMut::new();
    loop {
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let line = read.split_to(end).freeze();
            return Ok((line, read.freeze().slice(1..)));
        }
        match body.next().await {
            Some(Ok(piece)) if read.len() <= MAX_LINE => read.extend_from_slice(&piece),
            _ => {
                return Err(refuse(
                    StatusCode::BAD_REQUEST,
                    "the request does not begin with a line of JSON",
                ));
            }
        }
    }
}

/// What nobody takes any more is read all the same: whoever sends it is to get to read why. An archive that ends because its
/// sender is gone lacks its end, and is known by that.
async fn pass_on(rest: Bytes, mut body: BodyDataStream, archive: mpsc::Sender<Bytes>) {
    let mut taken = archive.send(rest).await.is_ok();
    while let Some(Ok(piece)) = body.next().await {
        taken = taken && archive.send(piece).await.is_ok();
    }
}
