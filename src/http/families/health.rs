//! `/health`: whether the process answers, whether it can work and, for its operators, the state of its parts.

pub(in crate::http) mod report;

use doorward_actors::ServiceScope;
use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::closed_sets;
use crate::http::edge::extract::{RequestContext, json_reply, json_reply_with};
use crate::http::error::ApiError;
use crate::http::routes::{Access, Class, RouteInfo};
use report::SystemHealth;

/// The state in one word.
#[derive(Serialize, ToSchema)]
struct Status {
    #[schema(value_type = closed_sets::ProbeStatus)]
    status: &'static str,
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
/// The answer is 503 while the service stops, an actor does not answer or is restarted again and again, the store fails, or its disk is
/// full. `GET /health/actors` names the reason.
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
    api.admin_or_hidden_service(context, ServiceScope::Metrics).await?;
    let readers = api.readers.feeds.waiting();
    Ok(json_reply(&SystemHealth::of(&api.handles.health.report().await, readers)))
}
