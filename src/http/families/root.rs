//! `GET /`: tells what this service is.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;
use warp::Filter as _;
use warp::reply::Response;

use crate::http::Api;
use crate::http::Family;
use crate::http::edge::extract::json_reply;

/// The service that answers here.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Welcome {
    /// A greeting.
    message: &'static str,
    /// The version of the service.
    version: &'static str,
    /// The URL path of the documentation; null if it is switched off.
    docs: Option<String>,
}

pub(in crate::http) fn routes(api: &Arc<Api>) -> Family {
    let docs = api.rules.docs.then(|| format!("{}/docs", api.rules.base_path()));
    warp::path::end().and(warp::get()).map(move || welcome(docs.clone())).boxed()
}

/// Show which service answers here
#[utoipa::path(get, path = "/", tag = "Service",
    responses((status = 200, description = "What answers here", body = Welcome)))]
fn welcome(docs: Option<String>) -> Response {
    json_reply(&Welcome { message: "Welcome to Doorward", version: env!("CARGO_PKG_VERSION"), docs })
}
