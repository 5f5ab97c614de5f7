//! The steps that every request takes, whatever its route: its id, its deadline, its log line, the headers of its answer.

pub(in crate::http) mod bodies;
pub(in crate::http) mod body;
pub(in crate::http) mod connections;
pub(in crate::http) mod cors;
pub(in crate::http) mod extract;
pub(in crate::http) mod forwarded;
pub(in crate::http) mod framing;
pub(in crate::http) mod host;
pub(in crate::http) mod linger;
pub(in crate::http) mod pieces;
pub(in crate::http) mod rate_limit;
pub(in crate::http) mod refusals;
pub(in crate::http) mod request_id;
pub(in crate::http) mod requests;
pub(in crate::http) mod server;
pub(in crate::http) mod streams;
pub(in crate::http) mod tls;
pub(in crate::http) mod unreadable;

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use doorward_actors::{AccountId, Standing};
use futures_util::FutureExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, Entry, HeaderValue, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::service::Service;
use hyper::{Method, Request, StatusCode, Uri, Version};
use tracing::Instrument as _;
use warp::reply::{Reply as _, Response};

use crate::http::edge::bodies::MAX_BODY_BYTES;
use crate::http::edge::body::{BodyProgress, TrackedBody};
use crate::http::edge::cors::{CorsAnswer, SharedCors};
use crate::http::edge::extract::RequestContext;
use crate::http::edge::forwarded::UnlistedProxies;
use crate::http::edge::refusals::Refusals;
use crate::http::edge::requests::RequestPlaces;
use crate::http::edge::unreadable::HSTS;
use crate::http::error::ApiError;
use crate::http::figures::RequestFigures;
use crate::http::routes::{Class, Resolved, Table};
use crate::settings::Networks;

/// The operator's settings for the edge.
#[derive(Debug, Clone, Default)]
pub(crate) struct EdgeSettings {
    /// The routes behind the edge.
    pub(in crate::http) routes: Table,
    /// The proxies that are trusted to name the client's address.
    pub(crate) trusted_proxies: Networks,
    /// The peers that send the same headers but are not trusted.
    pub(crate) unlisted_proxies: UnlistedProxies,
    /// The origins whose pages may read answers.
    pub(crate) cors: SharedCors,
    /// Which successes of the busiest routes are logged.
    pub(crate) sampling: Sampling,
    /// Which refusals are logged.
    pub(in crate::http) refusals: Refusals,
    /// Counts every answer.
    pub(in crate::http) figures: Arc<RequestFigures>,
}

/// Picks every n-th request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sampling {
    /// Picks one of this many; 0 picks none.
    one_in: u64,
    seen: Arc<AtomicU64>,
}

impl Sampling {
    pub(crate) fn new(one_in: u64) -> Self {
        Self { one_in, seen: Arc::default() }
    }

    /// Whether this request is picked.
    fn picks(&self) -> bool {
        self.one_in != 0 && self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.one_in)
    }
}

/// What was learned about a request while it was handled.
#[derive(Clone, Copy)]
struct Noted {
    address: IpAddr,
    account: Option<AccountId>,
    standing: Option<Standing>,
}

/// What the accept loop knows of a request before it is read.
#[derive(Clone)]
pub(in crate::http) struct Arrival {
    /// The settings for all requests.
    pub(in crate::http) settings: Arc<EdgeSettings>,
    /// The peer of the socket.
    pub(in crate::http) peer: IpAddr,
    /// Whether the request came encrypted.
    pub(in crate::http) tls: bool,
    /// The places of HTTP/2 requests. `None` for HTTP/1, where the connection counts as the request's place.
    pub(in crate::http) places: Option<RequestPlaces>,
    /// How long the answer may take.
    pub(in crate::http) timeout: Duration,
    /// How much of the body has arrived.
    pub(in crate::http) progress: Arc<BodyProgress>,
}

/// Answers one request. Whatever happens inside, the result is an answer with the fixed headers. A head that hyper itself
/// cannot read (400, 431) does not reach this function; see `unreadable`.
pub(in crate::http) async fn answer<S>(
    routes: S,
    request: Request<Incoming>,
    arrival: Arrival,
) -> Result<Response, Infallible>
where
    S: Service<Request<TrackedBody>, Response = Response, Error = Infallible>,
{
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    let method_name = known_method(&parts.method);
    let is_head = parts.method == Method::HEAD;
    if is_head {
        parts.method = Method::GET;
    }
    let resolved = if parts.uri.path().starts_with('/') {
        arrival.settings.routes.resolve(&parts.method, parts.uri.path())
    } else {
        Resolved::Unknown
    };
    let id = request_id::of(&parts.headers);
    let id_text = id.to_str().unwrap_or_default();
    let chunked = parts.headers.contains_key(TRANSFER_ENCODING);
    let cors = arrival.settings.cors.load().judge(&parts.headers, resolved);
    let (tls, version, peer, table) = (arrival.tls, parts.version, arrival.peer, arrival.settings.routes);
    let settings = Arc::clone(&arrival.settings);
    let EdgeSettings { sampling, refusals, figures, .. } = &*settings;
    let quiet = resolved.is_quiet();
    let span = if quiet {
        tracing::debug_span!("request", request_id = id_text)
    } else {
        tracing::info_span!("request", request_id = id_text)
    };

    let work = async {
        // An answer from memory that waits for no body needs no place, and monitors must always get through.
        let placeless = matches!(resolved.class(), Class::Docs | Class::Static | Class::Operator);
        let place = match arrival.places.as_ref().filter(|_| !placeless) {
            None => Ok(None),
            Some(places) => places.enter(peer).map(Arc::new).map(Some).ok_or(Duration::from_secs(1)),
        };
        let mut response = match &place {
            Ok(_) => dispatch(routes, parts, body, &id, resolved, &cors, arrival).await,
            Err(later) => ApiError::Unavailable(*later).into_response(),
        };
        if let Ok(Some(place)) = place {
            response.extensions_mut().insert(place);
        }
        // The fallback is for requests that were refused before the client behind a proxy was determined.
        let early = Noted { address: peer, account: None, standing: None };
        let noted = response.extensions_mut().remove::<Noted>().unwrap_or(early);
        finish(&mut response, &id, || resolved.allow(table), cors, tls, noted.standing);
        if version == Version::HTTP_2 {
            // HTTP/2 ends a request without the connection, and forbids this header (RFC 9113 §8.2.2).
            response.headers_mut().remove(CONNECTION);
            if is_head {
                leave_out_body(&mut response);
            }
        } else if chunked {
            // The framing guard does not follow chunked bodies, so no request may come after one; see `framing`.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let (class, status) = (resolved.class(), response.status());
        let took = started.elapsed();
        figures.count(resolved, status, took);
        let duration_ms = took.as_secs_f64() * 1000.0;
        let route = resolved.template();
        let (account, address) = (noted.account.map(AccountId::get), noted.address);
        macro_rules! answered {
            ($level:ident $(, $more:ident = $value:expr)?) => {
                tracing::$level!(
                    method = method_name,
                    route,
                    status = status.as_u16(),
                    duration_ms,
                    request_id = id_text,
                    account,
                    %address,
                    $($more = $value,)?
                    "answered"
                )
            };
        }
        // A failing check is worth a line. Of the successful ones a sample is enough.
        if !quiet || status.is_server_error() {
            if refusals.takes(class, status, address, noted.account) { answered!(info) } else { answered!(debug) }
        } else if class == Class::Verify && status == StatusCode::OK && sampling.picks() {
            answered!(info, one_in = sampling.one_in);
        } else {
            answered!(debug);
        }
        response
    };
    // Pinned in place: each wrapper around a future of this size would otherwise copy it once per request.
    Ok(std::pin::pin!(work).instrument(span).await)
}

/// Runs the routes with the deadline. A panic in them ends only this request.
async fn dispatch<S>(
    routes: S,
    mut parts: Parts,
    body: Incoming,
    id: &HeaderValue,
    resolved: Resolved,
    cors: &CorsAnswer,
    arrival: Arrival,
) -> Response
where
    S: Service<Request<TrackedBody>, Response = Response, Error = Infallible>,
{
    let has_body = !body.is_end_stream();
    let body = TrackedBody::new(body, Arc::clone(&arrival.progress));
    if let Err(refused) = host::check(&parts) {
        return refused.into_response();
    }
    if !parts.uri.path().starts_with('/') {
        return ApiError::NotFound.into_response();
    }
    // hyper has checked that there is at most one length and that it is a number. One that does not fit is too large.
    let declared = parts.headers.get(CONTENT_LENGTH).map(|length| length.to_str().ok().and_then(|n| n.parse().ok()));
    if declared.is_some_and(|length| length.is_none_or(|n: usize| n > MAX_BODY_BYTES)) {
        return ApiError::BodyTooLarge.into_response();
    }
    // On every route, even if it ignores the header: a proxy in front may have used the other credential (S63).
    if parts.headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
        return ApiError::TWO_AUTHORIZATIONS.into_response();
    }
    if !arrival.settings.trusted_proxies.contains(arrival.peer.to_canonical()) && forwarded::claims(&parts.headers) {
        arrival.settings.unlisted_proxies.note(arrival.peer);
    }
    let address = match forwarded::client(arrival.peer, &arrival.settings.trusted_proxies, &parts.headers) {
        Ok(address) => address,
        Err(refused) => return refused.into_response(),
    };
    if let Some(response) = cors.preflight(&parts, || resolved.allow(arrival.settings.routes)) {
        return response;
    }
    if let Some(uri) = without_trailing_slash(&parts.uri) {
        parts.uri = uri;
    }
    let headers = std::mem::take(&mut parts.headers);
    let context = RequestContext::new(address, id.clone(), headers, parts.uri.clone(), resolved, has_body);
    let context = Arc::new(context);
    parts.extensions.insert(Arc::clone(&context));
    let request = Request::from_parts(parts, body);
    let call = std::pin::pin!(async move { routes.call(request).await });
    let mut response = match tokio::time::timeout(arrival.timeout, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Err(panic)) => {
            let request_id = id.to_str().unwrap_or_default();
            tracing::error!(request_id, panic = panic_text(panic.as_ref()), "a handler panicked");
            ApiError::Internal.into_response()
        }
        Err(_) if arrival.progress.is_arriving() => ApiError::BodyTooSlow.into_response(),
        Err(_) => ApiError::Unavailable(Duration::from_secs(1)).into_response(),
    };
    response.extensions_mut().insert(Noted { address, account: context.account(), standing: context.standing() });
    response
}

/// Renders an error that a route returned, and sets the headers that every answer has (S66).
fn finish(
    response: &mut Response,
    id: &HeaderValue,
    allow: impl FnOnce() -> Option<String>,
    cors: CorsAnswer,
    tls: bool,
    standing: Option<Standing>,
) {
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let allow = if error == ApiError::MethodNotAllowed { allow() } else { None };
        *response = error.render(id.to_str().unwrap_or_default(), allow.as_deref());
    }
    let headers = response.headers_mut();
    if let Some(standing) = standing {
        rate_limit::describe(standing, headers);
    }
    headers.insert(request_id::X_REQUEST_ID, id.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Entry::Vacant(vacant) = headers.entry(CACHE_CONTROL) {
        vacant.insert(HeaderValue::from_static("no-store"));
    }
    if tls {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
    cors.apply(headers);
}

/// Answers `HEAD` with the length of the body but without the body. Over HTTP/1 hyper does this itself.
fn leave_out_body(response: &mut Response) {
    let body = std::mem::replace(response.body_mut(), Response::default().into_body());
    if let Some(length) = body.size_hint().exact() {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
}

/// Returns the URI without its trailing slash, or `None` if it has none. Two slashes stay, because that is another path.
fn without_trailing_slash(uri: &Uri) -> Option<Uri> {
    let bare = uri.path().strip_suffix('/').filter(|bare| !bare.is_empty() && !bare.ends_with('/'))?;
    let path_and_query = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{bare}?{query}")),
        None => PathAndQuery::try_from(bare),
    };
    path_and_query.ok().map(Uri::from)
}

/// Returns the method for the log. A method can be any token, so only the usual ones are named.
fn known_method(method: &Method) -> &'static str {
    const KNOWN: [(&Method, &str); 8] = [
        (&Method::GET, "GET"),
        (&Method::POST, "POST"),
        (&Method::PUT, "PUT"),
        (&Method::DELETE, "DELETE"),
        (&Method::HEAD, "HEAD"),
        (&Method::PATCH, "PATCH"),
        (&Method::OPTIONS, "OPTIONS"),
        (&Method::TRACE, "TRACE"),
    ];
    KNOWN.iter().find(|(known, _)| *known == method).map_or("OTHER", |(_, name)| name)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_slash_is_taken_away_and_the_query_stays() {
        let bare = |uri: &str| without_trailing_slash(&uri.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(bare("/my_account/").as_deref(), Some("/my_account"));
        assert_eq!(bare("/accounts_management/?skip=1&x=/").as_deref(), Some("/accounts_management?skip=1&x=/"));
        for kept in ["/", "//", "/login", "/login//", "/a?b=/"] {
            assert_eq!(bare(kept), None, "{kept}");
        }
    }
}
