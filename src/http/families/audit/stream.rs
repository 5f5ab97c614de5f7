//! `GET /audit/stream`: follows the log as server-sent events (WHATWG HTML §9.2).

use std::fmt::Write as _;
use std::sync::Arc;

use doorward_actors::{AuditEvent, AuditFilter, AuditOrder, AuditQuery, AuditStatus, ServiceScope};
use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::MissedTickBehavior;
use warp::reply::Response;

use super::{Fields, number};
use crate::http::edge::extract::RequestContext;
use crate::http::edge::pieces::{self, Over, Pieces};
use crate::http::error::{ApiError, FieldError};
use crate::http::reader::{Reader, place, streamed};
use crate::http::shown::event::Event;
use crate::http::{Api, closed_sets};

/// The most events that are sent at once.
const BATCH: usize = 256;
/// The most records that are examined for one batch.
const BATCH_SCAN: usize = 4096;
/// Tells nginx not to buffer the events.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Follow the log
///
/// Server-sent events: `id` is the sequence, `data` an event as in `/audit/`. It begins after `Last-Event-ID` or, without that, at
/// the current end. A comment is sent every 15 seconds. The stream ends when the reader's session ends.
#[utoipa::path(get, path = "/audit/stream", operation_id = "follow_audit", tag = "Administration",
    params(
    ("Last-Event-ID" = Option<u64>, Header, description = "Begin after this one"),
    ("event" = Option<closed_sets::AuditEvent>, Query, description = "As for `/audit/`, as all that follow"),
    ("actor" = Option<String>, Query, pattern = "^(account|admin|service|system|anonymous|(account|admin):[1-9][0-9]{0,17}|service:.{1,64})$"),
    ("subject" = Option<u64>, Query, minimum = 1),
    ("address" = Option<String>, Query),
    ("outcome" = Option<closed_sets::AuditOutcome>, Query),
    ("from" = Option<String>, Query, format = DateTime),
    ("to" = Option<String>, Query, format = DateTime),
), responses(
    (status = 200, description = "What happens from now on, or after `Last-Event-ID`", content_type = "text/event-stream",
        body = String, headers(("X-Accel-Buffering" = String, description = "Asks nginx to pass each event on at once"))),
    (status = 422, description = "A filter or `Last-Event-ID` is not possible"),
))]
pub(in crate::http) async fn stream(api: &Arc<Api>, context: &RequestContext) -> Result<Response, ApiError> {
    let reader = Reader::of(api, context, ServiceScope::Audit).await?;
    let mut fields = Fields::of(context)?;
    let filter = fields.filter();
    fields.finish()?;
    let before = api.handles.audit.status().await?;
    let start = begin(context.last_event_id(), &before)?;
    let place = place(&api.readers.streams)?;
    api.handles.audit.is_taken(&reader.named(), AuditEvent::AuditFollowed, context.origin()).await?;
    let (pieces, body) = pieces::events(api.readers.ending.subscribe());
    let work = Follow { api: Arc::clone(api), reader, filter, after: start, pieces, _place: place };
    tokio::spawn(work.run(before.checkpoint.first));
    let mut response = streamed(body, "text/event-stream");
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// Returns the number of the record after which to begin.
fn begin(last_event_id: Option<&[u8]>, status: &AuditStatus) -> Result<u64, ApiError> {
    let head = status.head.sequence;
    let Some(id) = last_event_id else { return Ok(head) };
    let id = std::str::from_utf8(id).ok().and_then(number).filter(|id| *id <= head);
    id.ok_or_else(|| ApiError::Invalid(vec![FieldError::new("Last-Event-ID", "This is no record of this log")]))
}

/// The task that sends the events. When it ends, the client may reconnect and then gets the reason as an error.
struct Follow {
    api: Arc<Api>,
    reader: Reader,
    filter: AuditFilter,
    /// The number of the last record that was examined.
    after: u64,
    pieces: Pieces,
    _place: OwnedSemaphorePermit,
}

impl Follow {
    async fn run(mut self, first: u64) {
        let _ = self.follow(first).await;
    }

    async fn follow(&mut self, first: u64) -> Result<(), Over> {
        // Subscribed before the first read, so that no event is missed in between.
        let mut head = self.api.handles.audit.head();
        let mut ending = self.api.readers.ending.subscribe();
        let mut heartbeat = tokio::time::interval(self.api.readers.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.after + 1 < first {
            // The records in between were pruned. The client learns that it has a gap, and where the gap ends.
            self.send(format!("event: gap\ndata: {{\"first\":{first}}}\n\n")).await?;
        }
        loop {
            let durable = *head.borrow_and_update();
            self.catch_up(durable).await?;
            tokio::select! {
                biased;
                () = async { drop(ending.wait_for(|ending| *ending).await) } => return Ok(()),
                () = self.pieces.closed() => return Err(Over),
                changed = head.changed() => changed.map_err(|_| Over)?,
                _ = heartbeat.tick() => {
                    self.must_be_reader().await?;
                    self.send(": alive\n\n".to_owned()).await?;
                }
            }
        }
    }

    /// Sends the records after the last one, up to the newest durable one. A later record may be lost in a crash, and its number
    /// given to another, so it is not sent yet.
    async fn catch_up(&mut self, durable: u64) -> Result<(), Over> {
        while self.after < durable {
            self.must_be_reader().await?;
            let query = AuditQuery {
                filter: self.filter.clone(),
                order: AuditOrder::OldestFirst,
                after: Some(self.after),
                limit: BATCH,
                scan: BATCH_SCAN,
            };
            let page = self.api.handles.audit.page(query).await.map_err(|_| Over)?;
            let mut batch = String::new();
            for (sequence, record) in page.entries.iter().filter(|(sequence, _)| *sequence <= durable) {
                // Our events always serialise, and JSON text has no line breaks of its own.
                let data = serde_json::to_string(&Event::of(*sequence, record)).map_err(|_| Over)?;
                let _ = write!(batch, "id: {sequence}\ndata: {data}\n\n");
            }
            self.after = if page.more { page.last.map_or(durable, |last| last.min(durable)) } else { durable };
            if !batch.is_empty() {
                self.send(batch).await?;
            }
        }
        Ok(())
    }

    async fn must_be_reader(&self) -> Result<(), Over> {
        if self.reader.may_still_read(&self.api).await { Ok(()) } else { Err(Over) }
    }

    /// Waits until there is room. At most one batch waits, and one is with the connection.
    async fn send(&mut self, text: String) -> Result<(), Over> {
        self.pieces.send(Ok(text.into()), self.reader.barred(&self.api)).await
    }
}

#[cfg(test)]
mod tests {
    use doorward_actors::{AuditCheckpoint, AuditHash, AuditHead};

    use super::*;

    #[test]
    fn it_begins_now_or_after_a_record_of_this_log() {
        let head = AuditHead { sequence: 9, hash: AuditHash::GENESIS };
        let status = AuditStatus { head, checkpoint: AuditCheckpoint::GENESIS, bytes: 0, newest_at: None };
        assert_eq!(begin(None, &status), Ok(9));
        assert_eq!(begin(Some(b"9"), &status), Ok(9));
        assert_eq!(begin(Some(b"0"), &status), Ok(0));
        for bad in [&b"10"[..], b"", b"x", b"-1", b"+1", b"\xff"] {
            assert!(matches!(begin(Some(bad), &status), Err(ApiError::Invalid(_))), "{bad:?}");
        }
    }
}
