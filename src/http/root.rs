//! `GET /`: what this is.

use serde::Serialize;
use utoipa::ToSchema;
use warp::Filter as _;
use warp::reply::Response;

use super::extract::json_reply;
use super::{ApiRules, Family};

/// What answers here.
#[derive(Serialize, ToSchema)]
pub(super) struct Welcome {
    /// A greeting.
    message: &'static str,
    /// The version of the service.
    version: &'static str,
    /// Where the documentation is.
    docs: String,
}

pub(super) fn routes(rules: &ApiRules) -> Family {
    let docs = format!("{}/docs", rules.base_path());
    warp::path::end().and(warp::get()).then(move || std::future::ready(welcome(&docs))).boxed()
}

/// What answers here
#[utoipa::path(get, path = "/", tag = "Service",
    responses((status = 200, description = "What answers here", body = Welcome)))]
fn welcome(docs: &str) -> Response {
    json_reply(&Welcome { message: "Welcome to Doorward", version: env!("CARGO_PKG_VERSION"), docs: docs.to_owned() })
}
