//! `GET /revocations`: the revocations, for services that check tokens themselves. By page or as a stream.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use doorward_actors::{
    AccountId, CursorError, Revocation, RevocationPage, Revoked, SecretDigest, ServiceScope, SessionId,
};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Serialize;
use tokio::time::MissedTickBehavior;
use utoipa::ToSchema;
use warp::reply::{Reply as _, Response};

use crate::http::Api;
use crate::http::access::Asking;
use crate::http::closed_sets;
use crate::http::edge::extract::{RequestContext, json_reply};
use crate::http::edge::pieces::{self, Over, Pieces};
use crate::http::error::{ApiError, FieldError};
use crate::http::feeds::FeedPlace;
use crate::http::form;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::wire::WireRole;

/// The most revocations of one page: some 120 KB.
const PAGE: usize = 1000;
/// The most revocations that a stream sends at once.
const BATCH: usize = 256;
/// The longest wait that a client may ask for, in seconds.
const MAX_WAIT: u64 = 30;
/// Tells nginx not to buffer the events.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The revocations after a cursor, the oldest first.
#[derive(Serialize, ToSchema)]
struct Revocations {
    /// The value of `after` for the next request.
    #[schema(example = "42-9c0f1b7e")]
    cursor: String,
    events: Vec<RevocationEvent>,
}

/// An event that makes tokens invalid, or makes their claims outdated.
#[derive(Serialize, ToSchema)]
struct RevocationEvent {
    #[schema(value_type = closed_sets::RevocationKind)]
    kind: &'static str,
    /// With `session_ended`: the session whose tokens are revoked, as in their claim `sid`.
    session_id: Option<String>,
    /// `null` with `keys_replaced`, which concerns all accounts.
    #[schema(minimum = 1)]
    account_id: Option<u64>,
    /// With `role_changed`: the new role.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    role: Option<WireRole>,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    at: String,
}

impl RevocationEvent {
    fn of(revocation: &Revocation) -> Self {
        let (session, role) = match revocation.what {
            Revoked::Session(session) => (Some(session), None),
            Revoked::Role(role) => (None, Some(role.into())),
            Revoked::AccountLocked | Revoked::AccountDeleted | Revoked::KeysReplaced => (None, None),
        };
        Self {
            kind: revocation.what.as_str(),
            session_id: session.as_ref().map(SessionId::to_string),
            account_id: revocation.account.map(AccountId::get),
            role,
            at: revocation.at.to_rfc3339(),
        }
    }
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![RouteInfo::new(
        __path_revocations,
        Access::Service(ServiceScope::Revocations),
        Class::Service,
        |api, context| Box::pin(revocations(api, context)),
    )]
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// At the end of the log: the client asks for the current cursor.
    Nothing,
    /// At the oldest entry that is kept.
    Start,
    /// After this cursor.
    Cursor(Cursor),
}

/// A place in the log: after the revocation with this number.
///
/// It is written as `42-9c0f1b7e`: the number and the mark of that revocation. After a backup was restored, another revocation may
/// have the same number, but its mark differs. The place before the oldest entry has no mark. It needs none, because the
/// entries that are gone concern only expired tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    number: u64,
    mark: Option<u32>,
}

impl Cursor {
    fn at(number: u64, revocation: &Revocation) -> Self {
        Self { number, mark: Some(revocation.mark()) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (digits, mark) = text.split_once('-').map_or((text, None), |(digits, mark)| (digits, Some(mark)));
        let is_mark =
            |mark: &str| mark.len() == 8 && mark.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let mark = match mark {
            Some(mark) => Some(u32::from_str_radix(mark, 16).ok().filter(|_| is_mark(mark))?),
            None => None,
        };
        Some(Self { number: number(digits)?, mark })
    }

    /// Checks that the log still has the entry that this cursor was issued for.
    async fn check(self, api: &Api) -> Result<Self, ApiError> {
        // If the entry is not kept, reading the page tells whether the cursor is too old or was never issued.
        let is_same = api.handles.revocations.mark(self.number).await?.is_none_or(|mark| self.mark == Some(mark));
        if is_same { Ok(self) } else { Err(ApiError::CursorTooOld) }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mark {
            Some(mark) => write!(f, "{}-{mark:08x}", self.number),
            None => write!(f, "{}", self.number),
        }
    }
}

/// Parses a number that consists of digits only.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

/// List the revocations
///
/// Ordered, and kept for the lifetime of the longest access token. Without `after`, the answer has the current cursor and no events.
/// With `Accept: text/event-stream`, a stream of server-sent events without end; `id` is the cursor. Needs the scope `revocations`.
#[utoipa::path(get, path = "/revocations", operation_id = "revocations", tag = "Services",
    params(
    ("after" = Option<String>, Query, pattern = "^(start|[0-9]{1,18}(-[0-9a-f]{8})?)$", description = "The cursor of the answer before, or `start` for all that is kept"),
    ("wait" = Option<u64>, Query, maximum = 30, description = "How many seconds to wait for the next one if there is none, 0 to 30"),
    ("Last-Event-ID" = Option<String>, Header, description = "With server-sent events: as `after`, and in its place. Ignored otherwise"),
), responses(
    (status = 200, description = "What was revoked", content(
        (Revocations = "application/json"),
        (String = "text/event-stream"),
    ), headers(("X-Accel-Buffering" = String, description = "Asks nginx to pass each event on at once; with server-sent events"))),
    (status = 410, description = "Some of what comes after this cursor is gone, or the cursor is of a log that a backup took the place of: begin again with `after=start`"),
    (status = 422, description = "The cursor is none that was given out, or `wait` is not possible"),
))]
async fn revocations(api: &Arc<Api>, context: &RequestContext) -> Result<Response, ApiError> {
    let asking = api.service(context, ServiceScope::Revocations).await?;
    let events = context.wants_events();
    let (after, wait) = asked(context.query(), context.last_event_id().filter(|_| events))?;
    let log = &api.handles.revocations;
    let asks_where = after == After::Nothing;
    let after = match after {
        After::Nothing => {
            let number = log.last().await?;
            Cursor { number, mark: log.mark(number).await? }
        }
        After::Start => Cursor { number: log.start().await?, mark: None },
        After::Cursor(cursor) => cursor.check(api).await?,
    };
    if asks_where && !events {
        return Ok(json_reply(&Revocations { cursor: after.to_string(), events: Vec::new() }));
    }
    // A stream reads its entries itself. Here it only matters whether the cursor is valid.
    let first = page(api, after, if events { 1 } else { PAGE }).await?;
    if events {
        return follow(api, &asking, after);
    }
    if first.revocations.is_empty() && !wait.is_zero() {
        let _place = api.readers.feeds.take(asking.service.id())?;
        // Waiting costs nothing, so it must not keep out clients that ask for something now.
        context.take_place(None);
        let barred = tokio::select! {
            () = wait_for_more(api, after, wait.min(api.rules.longest_wait)) => false,
            () = barred(api, &asking.digest) => true,
        };
        if barred || !api.still_may(&asking.digest, ServiceScope::Revocations).await {
            return Err(ApiError::ServiceUnauthenticated { basic: false, sent: true });
        }
        return Ok(answer(after, &page(api, after, PAGE).await?));
    }
    Ok(answer(after, &first))
}

fn answer(after: Cursor, page: &RevocationPage) -> Response {
    let events = page.revocations.iter().map(|(_, revocation)| RevocationEvent::of(revocation)).collect();
    let cursor = page.revocations.last().map_or(after, |(number, last)| Cursor::at(*number, last));
    json_reply(&Revocations { cursor: cursor.to_string(), events })
}

async fn page(api: &Api, after: Cursor, limit: usize) -> Result<RevocationPage, ApiError> {
    let _turn = api.readers.feeds.turn().await;
    api.handles.revocations.after(after.number, limit).await?.map_err(|error| match error {
        CursorError::TooOld => ApiError::CursorTooOld,
        CursorError::Future => ApiError::Invalid(vec![FieldError::new("?after", "This is no cursor of this log")]),
    })
}

/// Returns when the log has an entry after this cursor, when the wait has ended, or when the listener stops.
async fn wait_for_more(api: &Api, after: Cursor, wait: Duration) {
    let mut head = api.handles.revocations.head();
    let mut ending = api.readers.ending.subscribe();
    tokio::select! {
        _ = head.wait_for(|last| *last > after.number) => {}
        _ = ending.wait_for(|ending| *ending) => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// Resolves when the service may no longer read. It checks this once per heartbeat.
async fn barred(api: &Api, digest: &SecretDigest) {
    while api.still_may(digest, ServiceScope::Revocations).await {
        tokio::time::sleep(api.readers.heartbeat).await;
    }
}

/// Reads the query and the header. Ignores other parameters.
fn asked(query: Option<&str>, last_event_id: Option<&[u8]>) -> Result<(After, Duration), ApiError> {
    let fields = form::parse(query.unwrap_or_default().as_bytes())?;
    let mut errors = Vec::new();
    let mut cursor = |pointer: &str, text: Option<&str>| match text {
        None => After::Nothing,
        Some("start") => After::Start,
        Some(text) => Cursor::parse(text).map_or_else(
            || {
                errors.push(FieldError::new(pointer, "This is no cursor of this log"));
                After::Nothing
            },
            After::Cursor,
        ),
    };
    // A client that reconnects sends its last event in the header, and its first cursor still in the query.
    let after = match last_event_id {
        Some(id) => cursor("Last-Event-ID", Some(std::str::from_utf8(id).unwrap_or("?"))),
        None => cursor("?after", fields.get("after").map(String::as_str)),
    };
    let wait = fields.get("wait").map_or(Some(0), |wait| number(wait)).filter(|wait| *wait <= MAX_WAIT);
    if wait.is_none() {
        errors.push(FieldError::new("?wait", "This must be an integer from 0 to 30"));
    }
    if errors.is_empty() { Ok((after, Duration::from_secs(wait.unwrap_or(0)))) } else { Err(ApiError::Invalid(errors)) }
}

/// Starts a stream of server-sent events (WHATWG HTML §9.2).
fn follow(api: &Arc<Api>, asking: &Asking, after: Cursor) -> Result<Response, ApiError> {
    let place = api.readers.feeds.take(asking.service.id())?;
    let (pieces, body) = pieces::events(api.readers.ending.subscribe());
    let work = Follow { api: Arc::clone(api), digest: asking.digest, after, pieces, _place: place };
    tokio::spawn(work.run());
    let mut response = warp::reply::stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// The task that sends the events. When it ends, the client may reconnect and then gets the reason as an error.
struct Follow {
    api: Arc<Api>,
    digest: SecretDigest,
    /// The last cursor that was sent.
    after: Cursor,
    pieces: Pieces,
    _place: FeedPlace,
}

impl Follow {
    async fn run(mut self) {
        let _ = self.follow().await;
    }

    async fn follow(&mut self) -> Result<(), Over> {
        // Subscribed before the first read, so that no revocation is missed in between.
        let mut head = self.api.handles.revocations.head();
        let mut ending = self.api.readers.ending.subscribe();
        let mut heartbeat = tokio::time::interval(self.api.readers.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        // Sent at once. A client that began at the current end and loses its connection continues from here, not from a later end.
        self.send(format!("id: {}\n\n", self.after)).await?;
        loop {
            let durable = *head.borrow_and_update();
            while self.after.number < durable {
                self.must_be_a_service().await?;
                self.catch_up().await?;
            }
            tokio::select! {
                biased;
                () = async { drop(ending.wait_for(|ending| *ending).await) } => return Ok(()),
                () = self.pieces.closed() => return Err(Over),
                changed = head.changed() => changed.map_err(|_| Over)?,
                _ = heartbeat.tick() => {
                    self.must_be_a_service().await?;
                    self.send(format!(": alive\nid: {}\n\n", self.after)).await?;
                }
            }
        }
    }

    /// Sends the next entries. If a slow reader's next entry is gone, the stream ends; the reader reconnects and gets a 410.
    async fn catch_up(&mut self) -> Result<(), Over> {
        let page = page(&self.api, self.after, BATCH).await.map_err(|_| Over)?;
        let mut batch = String::new();
        for (number, revocation) in &page.revocations {
            // Our events always serialise, and JSON text has no line breaks of its own.
            let data = serde_json::to_string(&RevocationEvent::of(revocation)).map_err(|_| Over)?;
            let cursor = Cursor::at(*number, revocation);
            let _ = write!(batch, "id: {cursor}\ndata: {data}\n\n");
            self.after = cursor;
        }
        if page.revocations.is_empty() {
            return Err(Over);
        }
        self.send(batch).await
    }

    async fn must_be_a_service(&self) -> Result<(), Over> {
        if self.api.still_may(&self.digest, ServiceScope::Revocations).await { Ok(()) } else { Err(Over) }
    }

    /// Waits until there is room. At most one batch waits, and one is with the connection.
    async fn send(&mut self, text: String) -> Result<(), Over> {
        self.pieces.send(Ok(text.into()), barred(&self.api, &self.digest)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s61_a_query_has_its_bounds() {
        let read = |query: &str| asked(Some(query), None).ok();
        let seconds = Duration::from_secs;
        assert_eq!(read(""), Some((After::Nothing, seconds(0))));
        assert_eq!(read("after=start&wait=30&x=y"), Some((After::Start, seconds(30))));
        assert_eq!(read("after=7"), Some((After::Cursor(Cursor { number: 7, mark: None }), seconds(0))));
        for bad in [
            "after=",
            "after",
            "wait=",
            "after=x",
            "after=-1",
            "after=%2B1",
            "after=99999999999999999999",
            "after=7-",
            "after=7-abc",
            "after=7-0000000g",
            "after=7-+0000001",
            "after=7-0000000A",
            "wait=31",
            "wait=x",
            "after=1&after=2",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let resumed = asked(Some("after=start"), Some(b"9-000000ab")).ok();
        assert_eq!(
            resumed,
            Some((After::Cursor(Cursor { number: 9, mark: Some(0xab) }), seconds(0))),
            "how far it came counts, not where it began"
        );
        assert!(asked(None, Some(b"\xff")).is_err());
    }
}
