//! A flight's status as lines of JSON, the last one ready or failed.

use std::convert::Infallible;

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::EnsureEvent;
use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::fleet::{self, Status};

/// Ends after the result. Progress that is superseded before it was sent is left out.
pub(super) fn lines(
    id: DevBoxId,
    mut status: Status,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    // Whoever joins is told what was said last, too.
    status.mark_changed();
    stream::unfold(Some((id, status)), |state| async move {
        let (id, mut status) = state?;
        let event = next(&id, &mut status).await;
        let more = matches!(event, EnsureEvent::Progress(_)).then_some((id, status));
        Some((Ok(line(&event)), more))
    })
}

async fn next(id: &DevBoxId, status: &mut Status) -> EnsureEvent {
    while status.changed().await.is_ok() {
        if let Some(event) = status.borrow_and_update().clone() {
            return event;
        }
    }
    EnsureEvent::Failed(fleet::lost(id))
}

fn line(event: &EnsureEvent) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
