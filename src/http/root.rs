//! `GET /`: what this is.

use serde::Serialize;
use utoipa::ToSchema;
use warp::Filter as _;
use warp::reply::Response;

use super::Family;
use super::extract::json_reply;

/// What answers here.
#[derive(Serialize, ToSchema)]
pub(super) struct Welcome {
    /// A greeting.
    message: &'static str,
    /// The version of the service.
    version: &'static str,
    /// Where the documentation is.
    docs: &'static str,
}

pub(super) fn routes() -> Family {
    warp::path::end().and(warp::get()).then(async || welcome()).boxed()
}

/// What answers here
#[utoipa::path(get, path = "/", tag = "Service",
    responses((status = 200, description = "What answers here", body = Welcome)))]
fn welcome() -> Response {
    json_reply(&Welcome { message: "Welcome to Doorward", version: env!("CARGO_PKG_VERSION"), docs: "/docs" })
}
