//! `GET /`: tells what this service is.

use serde::Serialize;
use std::future::ready;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::json_reply;
use crate::http::routes::{Access, Class, RouteInfo};

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

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_welcome, Access::Public, Class::Static, |api, _| Box::pin(ready(Ok(welcome(api)))))
            .at_once(),
    ]
}

/// Show which service answers here
#[utoipa::path(get, path = "/", tag = "Service",
    responses((status = 200, description = "What answers here", body = Welcome)))]
fn welcome(api: &Api) -> Response {
    let docs = api.rules.docs.then(|| format!("{}/docs", api.rules.base_path()));
    json_reply(&Welcome { message: "Welcome to Doorward", version: env!("CARGO_PKG_VERSION"), docs })
}
