//! `GET /metrics`: all figures of the service, for Prometheus.

use doorward_actors::ServiceScope;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use warp::reply::{Reply as _, Response};

use crate::http::Api;
use crate::http::closed_sets;
use crate::http::edge::extract::RequestContext;
use crate::http::error::ApiError;
use crate::http::metrics::{Format, Metrics};
use crate::http::routes::{Access, Class, Resolved, RouteInfo};
use crate::telemetry;

/// The path of the route.
const PATH: &str = "/metrics";

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    let access = Access::HiddenAdminOrService(ServiceScope::Metrics);
    vec![RouteInfo::new(__path_metrics, access, Class::Operator, |api, context| Box::pin(metrics(api, context)))]
}

/// Answers on a listener that only this machine can reach. It has this route alone and asks for no token.
pub(in crate::http) async fn openly(api: &Api, context: &RequestContext) -> Response {
    match context.resolved() {
        // The listener bounds its connections, so this needs no place beside the probes of strangers.
        Resolved::Route(route) if route.path == PATH => {
            written(api, context).await.unwrap_or_else(ApiError::into_response)
        }
        Resolved::OtherMethod(route) if route.path == PATH => ApiError::MethodNotAllowed.into_response(),
        _ => ApiError::NotFound.into_response(),
    }
}

/// What are all its figures?
///
/// For administrators and services. All others get 404. The format is that of Prometheus, or OpenMetrics if `Accept` asks for it.
#[utoipa::path(get, path = "/metrics", tag = "Operation",
    responses(
    (status = 200, description = "All figures", content(
        (closed_sets::TextFile = "text/plain"),
        (closed_sets::TextFile = "application/openmetrics-text"),
    )),
    (status = 403, description = "The service token does not have the scope `metrics`"),
    (status = 404, description = "Neither an administrator nor a service"),
))]
async fn metrics(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.admin_or_hidden_service(context, ServiceScope::Metrics).await?;
    written(api, context).await
}

async fn written(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let format = Format::accepted(&context.accept());
    let metrics = Metrics {
        report: api.handles.health.figures().await,
        requests: api.figures.read(),
        readers: api.readers.feeds.waiting(),
        log: telemetry::counts(),
    };
    let text = metrics.write(format).map_err(|error| {
        tracing::error!(%error, "the metrics cannot be written");
        ApiError::Internal
    })?;
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    Ok(response)
}
