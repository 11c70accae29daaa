//! A flight's status as lines of JSON, the last one with its result.

use std::convert::Infallible;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{EnsureEvent, OrderEvent};
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Serialize;

use crate::fleet::{self, Outcome, Status};

/// What is said of a flight to whoever logs in: it is for an endpoint.
pub(super) fn ensure_event(id: &DevBoxId, outcome: Outcome) -> EnsureEvent {
    match outcome {
        Outcome::Progress(progress) => EnsureEvent::Progress(progress),
        Outcome::Ready(endpoint) => EnsureEvent::Ready(endpoint),
        Outcome::Failed(failure) => EnsureEvent::Failed(failure),
        // No login's flight ends without an endpoint.
        Outcome::Done => EnsureEvent::Failed(fleet::lost(id)),
    }
}

/// And to whoever gave an order.
pub(super) fn order_event(_id: &DevBoxId, outcome: Outcome) -> OrderEvent {
    match outcome {
        Outcome::Progress(progress) => OrderEvent::Progress(progress),
        Outcome::Ready(_) | Outcome::Done => OrderEvent::Done,
        Outcome::Failed(failure) => OrderEvent::Failed(failure),
    }
}

/// Ends after the result. Progress that is superseded before it was sent is left out.
pub(super) fn lines<E: Serialize + Send + 'static>(
    id: DevBoxId,
    mut status: Status,
    event: fn(&DevBoxId, Outcome) -> E,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    // Whoever joins is told what was said last, too.
    status.mark_changed();
    stream::unfold(Some((id, status)), move |state| async move {
        let (id, mut status) = state?;
        let outcome = next(&id, &mut status).await;
        let more = matches!(outcome, Outcome::Progress(_));
        let line = line(&event(&id, outcome));
        Some((Ok(line), more.then_some((id, status))))
    })
}

pub(super) async fn next(id: &DevBoxId, status: &mut Status) -> Outcome {
    while status.changed().await.is_ok() {
        if let Some(outcome) = status.borrow_and_update().clone() {
            return outcome;
        }
    }
    Outcome::Failed(fleet::lost(id))
}

pub(super) fn line(event: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
