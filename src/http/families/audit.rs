//! `/audit` and `/my_account/events`: the audit log, for administrators and for the owners of accounts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use doorward_actors::{
    AccountId, AuditActorFilter, AuditEvent, AuditFilter, AuditOrder, AuditOutcome, AuditPage, AuditQuery,
    ServiceScope, Timestamp,
};
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::closed_sets;
use crate::http::edge::extract::{RequestContext, json_reply};
use crate::http::error::{ApiError, FieldError};
use crate::http::feeds::Feeds;
use crate::http::form;
use crate::http::reader::Reader;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::shown::event::Event;

pub(in crate::http) mod export;
pub(in crate::http) mod stream;

/// How many events a page has if the request does not say.
const DEFAULT_LIMIT: usize = 100;
/// The most events of a page: at 300 bytes each, and 600 at worst, the body stays under a megabyte.
const MAX_LIMIT: usize = 1000;
/// The most records that one page may examine: some 40 ms of work. A filter that few of them match gives short pages.
const SCAN: usize = 10_000;
/// The most exports at once. Each holds about 200 KB.
const EXPORTS: usize = 4;
/// The most clients that follow the log at once. Each holds about 200 KB while it reads, and a connection.
const STREAMS: usize = 32;

/// How often an idle stream sends a comment. This is shorter than the usual timeout of proxies.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The places for long answers. Such an answer holds no place of its class: it gives that up once its head is sent.
pub(in crate::http) struct Readers {
    exports: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// The places for services that wait for revocations.
    pub(in crate::http) feeds: Feeds,
    /// True once the listener stops.
    pub(in crate::http) ending: watch::Sender<bool>,
    /// How often a stream sends a sign of life and checks whether its reader may still read.
    pub(in crate::http) heartbeat: Duration,
}

impl Default for Readers {
    fn default() -> Self {
        Self {
            exports: Arc::new(Semaphore::new(EXPORTS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            feeds: Feeds::default(),
            ending: watch::Sender::new(false),
            heartbeat: HEARTBEAT,
        }
    }
}

impl Readers {
    /// Creates them with another heartbeat.
    #[cfg(test)]
    pub(in crate::http) fn beating(heartbeat: Duration) -> Self {
        Self { heartbeat, ..Self::default() }
    }

    /// Ends the streams. Exports may go on until the deadline of the shutdown.
    pub(in crate::http) fn end(&self) {
        self.ending.send_replace(true);
    }
}

/// A page of events, the newest first.
#[derive(Serialize, ToSchema)]
struct Events {
    events: Vec<Event>,
    /// The value of `cursor` for the next page; null on the last one. A page may be short or empty and still have a next one,
    /// because the work for one page is bounded.
    next: Option<String>,
}

impl Events {
    fn of(page: &AuditPage, event: impl Fn(u64, &doorward_actors::AuditRecord) -> Event) -> Self {
        let events = page.entries.iter().map(|(sequence, record)| event(*sequence, record)).collect();
        Self { events, next: page.last.filter(|_| page.more).map(|last| last.to_string()) }
    }
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_list, Access::AdminOrService(ServiceScope::Audit), Class::Admin, |api, context| {
            Box::pin(list(api, context))
        }),
        RouteInfo::new(
            export::__path_export,
            Access::AdminOrService(ServiceScope::Audit),
            Class::Admin,
            |api, context| Box::pin(export::export(api, context)),
        ),
        RouteInfo::new(
            stream::__path_stream,
            Access::AdminOrService(ServiceScope::Audit),
            Class::Admin,
            |api, context| Box::pin(stream::stream(api, context)),
        ),
        RouteInfo::new(__path_own, Access::Bearer, Class::Events, |api, context| Box::pin(own(api, context))),
    ]
}

/// List the events, the newest first
///
/// A page examines at most 10,000 records, so it may be short or empty and still have a `next`.
#[utoipa::path(get, path = "/audit/", operation_id = "list_audit", tag = "Administration",
    params(
    ("event" = Option<closed_sets::AuditEvent>, Query, description = "What happened"),
    ("actor" = Option<String>, Query, pattern = "^(account|admin|service|system|anonymous|(account|admin):[1-9][0-9]{0,17}|service:.{1,64})$", description = "Who did it: `account:7`, `admin:3`, `service:name`, `system`, \
        `anonymous`, or a kind: `account`, `admin`, `service`"),
    ("subject" = Option<u64>, Query, minimum = 1, description = "The id of the account it was done to"),
    ("address" = Option<String>, Query, description = "The IP address it came from"),
    ("outcome" = Option<closed_sets::AuditOutcome>, Query, description = "Whether it was done"),
    ("from" = Option<String>, Query, format = DateTime, description = "Not before this time (RFC 3339)"),
    ("to" = Option<String>, Query, format = DateTime, description = "Before this time (RFC 3339)"),
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "How many to return (100), 1 to 1,000"),
    ("cursor" = Option<String>, Query, pattern = "^[1-9][0-9]{0,17}$", description = "`next` of the page before"),
), responses(
    (status = 200, description = "What happened", body = Events),
    (status = 422, description = "A filter, `limit` or `cursor` is not possible"),
))]
async fn list(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let reader = Reader::of(api, context, ServiceScope::Audit).await?;
    let mut fields = Fields::of(context)?;
    let query = AuditQuery {
        filter: fields.filter(),
        order: AuditOrder::NewestFirst,
        after: fields.cursor(),
        limit: fields.limit(),
        scan: SCAN,
    };
    fields.finish()?;
    api.handles.audit.was_read(&reader.named(), context.origin());
    let page = api.handles.audit.page(query).await?;
    Ok(json_reply(&Events::of(&page, Event::of)))
}

/// List the events of my account, the newest first
///
/// Events that an administrator or Doorward itself caused are shown without their addresses, sessions and numbers.
#[utoipa::path(get, path = "/my_account/events", operation_id = "list_my_events", tag = "Account",
    params(
    ("event" = Option<closed_sets::AuditEvent>, Query, description = "What happened"),
    ("outcome" = Option<closed_sets::AuditOutcome>, Query, description = "Whether it was done"),
    ("from" = Option<String>, Query, format = DateTime, description = "Not before this time (RFC 3339)"),
    ("to" = Option<String>, Query, format = DateTime, description = "Before this time (RFC 3339)"),
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "How many to return (100), 1 to 1,000"),
    ("cursor" = Option<String>, Query, pattern = "^[1-9][0-9]{0,17}$", description = "`next` of the page before"),
), responses(
    (status = 200, description = "What happened", body = Events),
    (status = 422, description = "A filter, `limit` or `cursor` is not possible"),
))]
async fn own(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let owner = api.user(context).await?.account.id;
    let mut fields = Fields::of(context)?;
    let (when, what) = (fields.span(), fields.event());
    let filter = AuditFilter {
        event: what,
        outcome: fields.outcome(),
        subject: Some(owner),
        from: when.0,
        to: when.1,
        ..AuditFilter::default()
    };
    let query = AuditQuery {
        filter,
        order: AuditOrder::NewestFirst,
        after: fields.cursor(),
        limit: fields.limit(),
        scan: SCAN,
    };
    fields.finish()?;
    let page = api.handles.audit.page(query).await?;
    Ok(json_reply(&Events::of(&page, |sequence, record| Event::for_owner(sequence, record, owner))))
}

/// The fields of a query, read one by one. Unknown ones are ignored.
struct Fields {
    given: BTreeMap<String, String>,
    errors: Vec<FieldError>,
}

impl Fields {
    fn of(context: &RequestContext) -> Result<Self, ApiError> {
        Ok(Self { given: form::parse(context.query().unwrap_or_default().as_bytes())?, errors: Vec::new() })
    }

    /// Fails if any field was invalid. The error has all of them.
    fn finish(self) -> Result<(), ApiError> {
        if self.errors.is_empty() { Ok(()) } else { Err(ApiError::Invalid(self.errors)) }
    }

    fn read<T>(&mut self, name: &str, otherwise: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let parsed = parse(self.given.get(name)?);
        if parsed.is_none() {
            self.errors.push(FieldError::new(format!("?{name}"), otherwise));
        }
        parsed
    }

    fn filter(&mut self) -> AuditFilter {
        let (from, to) = self.span();
        AuditFilter {
            from,
            to,
            event: self.event(),
            actor: self.read(
                "actor",
                "This must be account:, admin: or service: with an id or a name, or account, admin, service, system or anonymous",
                AuditActorFilter::parse,
            ),
            subject: self.read("subject", "This must be the id of an account", |text| {
                number(text).and_then(AccountId::new)
            }),
            address: self.read("address", "This must be an IP address", |text| {
                text.parse().ok().map(|address: IpAddr| address.to_canonical())
            }),
            outcome: self.outcome(),
        }
    }

    fn span(&mut self) -> (Option<Timestamp>, Option<Timestamp>) {
        let expected = "This must be a time such as 2026-01-31T09:00:00Z";
        (self.read("from", expected, Timestamp::parse_rfc3339), self.read("to", expected, Timestamp::parse_rfc3339))
    }

    fn event(&mut self) -> Option<AuditEvent> {
        self.read("event", "There is no such event", AuditEvent::from_text)
    }

    fn outcome(&mut self) -> Option<AuditOutcome> {
        self.read("outcome", "This must be success or refused", |text| {
            AuditOutcome::ALL.into_iter().find(|outcome| outcome.as_str() == text)
        })
    }

    fn limit(&mut self) -> usize {
        let limit = self.read("limit", "This must be an integer from 1 to 1000", |text| {
            number(text).and_then(|limit| usize::try_from(limit).ok()).filter(|limit| (1..=MAX_LIMIT).contains(limit))
        });
        limit.unwrap_or(DEFAULT_LIMIT)
    }

    /// Reads the cursor: the number of the last record that was examined. Clients must treat it as opaque.
    fn cursor(&mut self) -> Option<u64> {
        self.read("cursor", "This is no cursor of this list", |text| number(text).filter(|sequence| *sequence > 0))
    }
}

/// Parses a number that consists of digits only.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(query: &str) -> Fields {
        Fields { given: form::parse(query.as_bytes()).unwrap(), errors: Vec::new() }
    }

    #[test]
    fn s61_a_filter_that_cannot_be_is_named() {
        let pointers = |query: &str| {
            let mut fields = fields(query);
            let _ = (fields.filter(), fields.limit(), fields.cursor());
            fields.errors.into_iter().map(|error| error.pointer).collect::<Vec<_>>()
        };
        for (name, bad) in [
            ("event", ""),
            ("actor", ""),
            ("subject", ""),
            ("address", ""),
            ("outcome", ""),
            ("from", ""),
            ("to", ""),
            ("limit", ""),
            ("cursor", ""),
            ("event", "login"),
            ("actor", "account%3A0"),
            ("subject", "0"),
            ("subject", "%2B7"),
            ("address", "localhost"),
            ("outcome", "failed"),
            ("from", "yesterday"),
            ("to", "2026-01-31"),
            ("limit", "0"),
            ("limit", "1001"),
            ("limit", "%2B1"),
            ("cursor", "0"),
            ("cursor", "-1"),
            ("cursor", "99999999999999999999"),
        ] {
            assert_eq!(pointers(&format!("{name}={bad}")), [format!("?{name}")], "{bad}");
        }
        let good = "event=session.login&actor=admin&subject=7&address=%3A%3Affff%3A192.0.2.1&outcome=success\
            &from=2026-01-31T09:00:00Z&to=2026-01-31T10:00:00%2B01:00&limit=1000&cursor=1&else=x";
        assert_eq!(pointers(good), Vec::<String>::new());
        assert_eq!(fields(good).filter().address, Some([192, 0, 2, 1].into()));
        assert_eq!(pointers("from=x&limit=x&event=x").len(), 3, "all at once");
    }
}
