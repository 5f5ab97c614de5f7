//! Decides which pages may read answers in a browser (the Fetch standard, "HTTP CORS protocol"; S67).
//!
//! There are no credentials in the sense of that standard: a page itself sets the token in `Authorization`, and there are
//! no cookies. So an allowed origin is one whose scripts are trusted with the tokens of their users.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use warp::reply::Response;

use crate::http::openapi;
use crate::http::routes::Resolved;
use crate::settings::Origins;

/// The headers that a page may send and those that it may read, beyond those that the standard always allows. They come
/// from the documentation of the routes, so that none is forgotten.
static HEADERS: LazyLock<(HeaderValue, HeaderValue)> = LazyLock::new(|| {
    let (taken, given) = openapi::headers_for_pages();
    // Header names and commas are valid in a header.
    let list = |names: BTreeSet<String>| {
        let names: Vec<String> = names.into_iter().collect();
        HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
    };
    (list(taken), list(given))
});
/// How long a browser may cache the answer to a preflight, in seconds. After an origin is removed, its pages may send
/// requests for at most this long, but cannot read the answers.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The allowed origins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cors {
    origins: Vec<HeaderValue>,
}

/// The allowed origins in force, which a reload replaces.
pub(crate) type SharedCors = Arc<ArcSwap<Cors>>;

/// What an answer says about the page that may read it.
#[derive(Debug, Clone)]
pub(in crate::http) struct CorsAnswer {
    /// Whether answers depend on the origin at all.
    varies: bool,
    /// The allowed origin, in our own spelling.
    origin: Option<HeaderValue>,
}

impl Cors {
    pub(crate) fn new(origins: &Origins) -> Self {
        // The settings have already rejected origins that are not valid in a header.
        Self { origins: origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect() }
    }

    /// Decides whether the page behind a request may read its answer. Never on a route for services only, because their
    /// secret does not belong in a browser.
    pub(in crate::http) fn judge(&self, headers: &HeaderMap, resolved: Resolved) -> CorsAnswer {
        let mut given = headers.get_all(ORIGIN).iter();
        let origin = match (given.next(), given.next()) {
            (Some(origin), None) if !is_for_services(resolved) => self.origins.iter().find(|known| *known == origin),
            _ => None,
        };
        CorsAnswer { varies: !self.origins.is_empty(), origin: origin.cloned() }
    }
}

impl CorsAnswer {
    /// Returns the answer to a browser that asks what an allowed page may do (a preflight). `None` for every other request.
    /// `allow` are the methods of the path.
    pub(in crate::http) fn preflight(&self, parts: &Parts, allow: impl FnOnce() -> Option<String>) -> Option<Response> {
        let asks = parts.method == Method::OPTIONS && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let methods = if asks && self.origin.is_some() { allow()? } else { return None };
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_str(&methods).ok()?);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS.0.clone());
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        Some(response)
    }

    /// Adds the headers to an answer, whatever its status: a page must be able to read errors too.
    pub(in crate::http) fn apply(self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = self.origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HEADERS.1.clone());
        }
    }
}

fn is_for_services(resolved: Resolved) -> bool {
    let (Resolved::Route(info) | Resolved::OtherMethod(info)) = resolved else { return false };
    info.is_for_services()
}
