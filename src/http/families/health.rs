//! `/health`: whether the process answers, whether it can work and, for its operators, the state of its parts.

use doorward_actors::{AuditRefusal, Role, ServiceScope, Timestamp};
use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::closed_sets;
use crate::http::edge::extract::{RequestContext, json_reply, json_reply_with};
use crate::http::error::ApiError;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::telemetry::{self, LogCounts};
use doorward_actors::{HasherHealth, HealthReport, LaneHealth, StoreHealth};

/// The state in one word.
#[derive(Serialize, ToSchema)]
struct Status {
    #[schema(value_type = closed_sets::ProbeStatus)]
    status: &'static str,
}

/// The state of all parts.
#[derive(Serialize, ToSchema)]
struct SystemHealth<'a> {
    #[schema(value_type = closed_sets::SystemStatus)]
    status: &'a str,
    uptime_seconds: u64,
    actors: Vec<Actor<'a>>,
    store: Store,
    hasher: Hasher,
    sessions: Sessions,
    log: Log,
}

/// One actor.
#[derive(Serialize, ToSchema)]
#[schema(as = ActorHealth)]
struct Actor<'a> {
    name: &'a str,
    #[schema(value_type = closed_sets::ActorState)]
    state: &'a str,
    uptime_seconds: u64,
    /// How many messages wait.
    mailbox: u64,
    handled: u64,
    failed: u64,
    restarts: u64,
    #[schema(format = DateTime)]
    last_restart: Option<String>,
    last_failure: Option<&'a str>,
    /// When it last finished a message.
    #[schema(format = DateTime)]
    last_progress: Option<String>,
}

/// The store.
#[derive(Serialize, ToSchema)]
#[schema(as = StoreHealth)]
struct Store {
    ok: bool,
    /// How long a durable write and a read have just taken, in milliseconds.
    probe_ms: u64,
}

/// The hashing threads.
#[derive(Serialize, ToSchema)]
#[schema(as = HasherHealth)]
struct Hasher {
    #[schema(value_type = closed_sets::HasherBackend)]
    backend: &'static str,
    threads: usize,
    busy: usize,
    queued: usize,
    /// How many jobs may wait in all lanes together.
    capacity: usize,
    /// How many hashes were computed.
    done: u64,
    failed: u64,
    refused: u64,
    /// Each kind of work waits in a lane of its own.
    lanes: Vec<Lane>,
    /// Whether the list of breached passwords was readable when it was last used; null if there is none. While it is not readable,
    /// no new password is accepted.
    breached_list_readable: Option<bool>,
}

/// One kind of work of the hashing threads.
#[derive(Serialize, ToSchema)]
#[schema(as = HasherLane)]
struct Lane {
    #[schema(value_type = closed_sets::HasherLaneName)]
    name: &'static str,
    queued: usize,
    /// How many jobs may wait. Any further job is refused.
    capacity: usize,
    /// How many jobs were done, including those that needed no hash.
    handled: u64,
    refused: u64,
}

impl From<LaneHealth> for Lane {
    fn from(lane: LaneHealth) -> Self {
        let LaneHealth { name, queued, capacity, handled, refused } = lane;
        Self { name, queued, capacity, handled, refused }
    }
}

impl From<HasherHealth> for Hasher {
    fn from(hasher: HasherHealth) -> Self {
        let HasherHealth {
            backend,
            threads,
            busy,
            queued,
            capacity,
            done,
            failed,
            refused,
            lanes,
            breached_list_readable,
        } = hasher;
        let lanes = lanes.into_iter().map(Lane::from).collect();
        Self { backend, threads, busy, queued, capacity, done, failed, refused, lanes, breached_list_readable }
    }
}

/// The sessions.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionsHealth)]
struct Sessions {
    live: usize,
}

/// The log lines since the process started.
#[derive(Serialize, ToSchema)]
struct Log {
    /// How many lines were written.
    written: u64,
    /// How many lines were lost because standard error could not be written or was too slow.
    dropped: u64,
}

impl From<LogCounts> for Log {
    fn from(LogCounts { written, dropped }: LogCounts) -> Self {
        Self { written, dropped }
    }
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_live, Access::Public, Class::Operator, |_, _| Box::pin(std::future::ready(Ok(live()))))
            .at_once(),
        RouteInfo::new(__path_ready, Access::Public, Class::Operator, |api, _| Box::pin(ready(api))),
        RouteInfo::new(
            __path_actors,
            Access::HiddenAdminOrService(ServiceScope::Metrics),
            Class::Operator,
            |api, context| Box::pin(actors(api, context)),
        ),
    ]
}

/// Does the process answer?
#[utoipa::path(get, path = "/health/live", operation_id = "health_live", tag = "Operation",
    responses((status = 200, description = "It does", body = Status)))]
fn live() -> Response {
    json_reply(&Status { status: "ok" })
}

/// Can it work?
///
/// Checks the store and the actors.
#[utoipa::path(get, path = "/health/ready", operation_id = "health_ready", tag = "Operation",
    responses(
    (status = 200, description = "It can", body = Status),
    (status = 503, description = "It cannot: `not_ready`", body = Status),
))]
async fn ready(api: &Api) -> Result<Response, ApiError> {
    Ok(if api.handles.health.ready().await { json_reply(&Status { status: "ready" }) } else { not_ready() })
}

/// Returns a 503. Like every 503 it says when to retry.
fn not_ready() -> Response {
    let mut response = json_reply_with(StatusCode::SERVICE_UNAVAILABLE, &Status { status: "not_ready" });
    response.headers_mut().insert(hyper::header::RETRY_AFTER, hyper::header::HeaderValue::from_static("1"));
    response
}

/// What is the state of its parts?
///
/// For administrators and services. All others get 404.
#[utoipa::path(get, path = "/health/actors", operation_id = "health_actors", tag = "Operation",
    responses(
    (status = 200, description = "How all of it is", body = SystemHealth<'_>),
    (status = 403, description = "The service token does not have the scope `metrics`"),
    (status = 404, description = "Neither an administrator nor a service"),
))]
async fn actors(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    if let Some(service) = api.service_of(context).await? {
        api.must_have(&service, ServiceScope::Metrics, context)?;
    } else {
        // A wrong service token is counted whatever else comes along, so that no bearer makes guesses free (S22).
        let is_wrong = context.claims_to_be_a_service();
        let wrong = if is_wrong { Some(api.hidden(context).await) } else { None };
        let is_admin = match api.authenticate(context).await {
            Ok(principal) if principal.account.role == Role::Admin => true,
            Ok(principal) => {
                api.handles.audit.denied(Some(&principal), AuditRefusal::AdminOnly, context.origin());
                false
            }
            Err(unavailable @ ApiError::Unavailable(_)) => return Err(unavailable),
            Err(_) => false,
        };
        if !is_admin {
            return Err(match wrong {
                Some(counted) => counted,
                None => api.hidden(context).await,
            });
        }
    }
    Ok(json_reply(&SystemHealth::of(&api.handles.health.report().await)))
}

impl<'a> SystemHealth<'a> {
    fn of(report: &'a HealthReport) -> Self {
        let actors = report.actors.iter().map(|actor| Actor {
            name: &actor.name,
            state: actor.state,
            uptime_seconds: actor.uptime.as_secs(),
            mailbox: actor.mailbox,
            handled: actor.handled,
            failed: actor.failed,
            restarts: actor.restarts,
            last_restart: actor.last_restart.map(Timestamp::to_rfc3339),
            last_failure: actor.last_failure.as_deref(),
            last_progress: actor.last_progress.map(Timestamp::to_rfc3339),
        });
        let StoreHealth { ok, probe } = report.store;
        Self {
            status: report.status,
            uptime_seconds: report.uptime.as_secs(),
            actors: actors.collect(),
            store: Store { ok, probe_ms: u64::try_from(probe.as_millis()).unwrap_or(u64::MAX) },
            hasher: report.hasher.into(),
            sessions: Sessions { live: report.live_sessions },
            log: telemetry::counts().into(),
        }
    }
}
