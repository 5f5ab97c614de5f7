//! What handlers read from a request: the credentials, the client's address and the body.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Buf, Bytes};
use doorward_actors::{AccountId, Locale, MailId, Origin, Secret, ServiceTokenId, Standing};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue,
    IF_NONE_MATCH, USER_AGENT,
};
use hyper::{HeaderMap, StatusCode, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use warp::reply::Response;
use zeroize::Zeroizing;

use crate::http::admission::Place;
use crate::http::edge::bodies::BodyRoom;
use crate::http::edge::bodies::MAX_BODY_BYTES;
use crate::http::error::{ApiError, FieldError};
use crate::http::form;
use crate::http::json;
use crate::http::negotiation::{joined, weight};
use crate::http::routes::{Class, Resolved};

/// The header in which services send their token.
pub(in crate::http) const X_SERVICE_TOKEN: HeaderName = HeaderName::from_static("x-service-token");

/// The header in which a browser says which site a request comes from (Fetch Metadata §2.4).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The head of a request, as the edge passes it to handlers. It lives as long as its request.
#[derive(Debug)]
pub(in crate::http) struct RequestContext {
    address: IpAddr,
    request_id: HeaderValue,
    headers: HeaderMap,
    /// The target of the request, without a trailing slash.
    uri: Uri,
    resolved: Resolved,
    /// Whether the head announces a body.
    has_body: bool,
    /// The body, until a handler reads it.
    body: Mutex<Option<Payload>>,
    /// The place in its class that the request holds while its handler runs.
    place: Mutex<Option<Place>>,
    /// The state of the quota that counted the request, for the headers of the answer.
    standing: Mutex<Option<Standing>>,
    /// The number of the account that the request authenticates as. 0 until that is known; no account has the number 0.
    account: AtomicU64,
}

impl RequestContext {
    pub(in crate::http) fn new(
        address: IpAddr,
        request_id: HeaderValue,
        headers: HeaderMap,
        uri: Uri,
        resolved: Resolved,
        has_body: bool,
    ) -> Self {
        let (body, place, standing) = (Mutex::default(), Mutex::default(), Mutex::default());
        let account = AtomicU64::new(0);
        Self { address, request_id, headers, uri, resolved, has_body, body, place, standing, account }
    }

    /// Returns the route of the request.
    pub(in crate::http) fn resolved(&self) -> Resolved {
        self.resolved
    }

    /// Returns the class of the request's route.
    pub(in crate::http) fn class(&self) -> Class {
        self.resolved.class()
    }

    /// Returns the query, not decoded.
    pub(in crate::http) fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// Returns the segment of the path at `{name}` of the route's template, as the client wrote it. Empty if the template has no
    /// such parameter.
    pub(in crate::http) fn param(&self, name: &str) -> &str {
        let is_named = |part: &str| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) == Some(name);
        let mut parts = self.resolved.template().split('/').zip(self.uri.path().split('/'));
        parts.find(|(part, _)| is_named(part)).map_or("", |(_, segment)| segment)
    }

    /// Keeps the body for the handler. A body that the head does not announce is empty.
    pub(in crate::http) fn keep_body<B: Buf>(&self, body: impl Stream<Item = Result<B, warp::Error>> + Send + 'static) {
        if self.has_body {
            let pieces = body.map(|piece| piece.map(|mut piece| piece.copy_to_bytes(piece.remaining())));
            *self.body.lock().unwrap_or_else(PoisonError::into_inner) = Some(Payload(pieces.boxed()));
        }
    }

    /// Takes the body, to read or to drop it.
    pub(in crate::http) fn take_body(&self) -> Option<Payload> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the token in the query, as the link in a mail carries it. Empty if there is none or it cannot be decoded.
    pub(in crate::http) fn link_token(&self) -> Secret {
        form::only(self.query().unwrap_or_default(), "token").unwrap_or_else(|| Secret::new(String::new()))
    }

    /// Returns the language that the client prefers among the supported ones.
    pub(in crate::http) fn language(&self) -> Option<Locale> {
        Locale::from_accept_language(&joined(&self.headers.get_all(ACCEPT_LANGUAGE)))
    }

    /// Returns the language of a page that answers. This is the language of the page before it, which the query names, or
    /// else the one that the client prefers.
    pub(in crate::http) fn page_language(&self) -> Locale {
        let named = form::only(self.query().unwrap_or_default(), "locale");
        named.and_then(|tag| Locale::from_tag(tag.expose())).or_else(|| self.language()).unwrap_or_default()
    }

    /// Whether the body is a form and no page of another origin sent it. A browser says where a form comes from, except over
    /// plain HTTP (Fetch Metadata). This is a second line of defence: what a form can do here depends on its token alone.
    pub(in crate::http) fn is_form(&self) -> bool {
        let foreign = self.headers.get(SEC_FETCH_SITE).is_some_and(|site| site.as_bytes() != b"same-origin");
        !foreign && is_of_type(&self.headers, "application/x-www-form-urlencoded")
    }

    /// Returns the client's address. IPv4-mapped addresses are folded to IPv4.
    pub(in crate::http) fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns where the request comes from, for the audit log.
    pub(in crate::http) fn origin(&self) -> Origin {
        // Usually ASCII (RFC 9110 §10.1.5). Other bytes are kept in lossy form, because they still help an investigation.
        let agent = self.headers.get(USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()));
        let id = self.request_id.to_str().ok().map(str::to_owned);
        Origin::new(Some(self.address), agent.as_deref(), id)
    }

    /// Returns the bearer token (RFC 6750 §2.1). Only a single `Authorization` header counts: two are an error.
    /// Any other scheme counts as no token.
    pub(in crate::http) fn bearer(&self) -> Result<&str, ApiError> {
        let mut given = self.headers.get_all(AUTHORIZATION).iter();
        let (first, second) = (given.next(), given.next());
        if second.is_some() {
            return Err(ApiError::TWO_AUTHORIZATIONS);
        }
        let value = first.ok_or(ApiError::Unauthenticated { token_sent: false })?.as_bytes();
        let space = value.iter().position(|b| *b == b' ').unwrap_or(value.len());
        let (scheme, token) = value.split_at(space);
        let token = token.trim_ascii();
        if !scheme.eq_ignore_ascii_case(b"bearer") || token.is_empty() {
            return Err(ApiError::Unauthenticated { token_sent: false });
        }
        // Tokens are ASCII, so any other text is an invalid token.
        let token = std::str::from_utf8(token).ok().filter(|token| token.is_ascii());
        token.ok_or(ApiError::Unauthenticated { token_sent: true })
    }

    /// Returns the value of `X-Service-Token`. If the header is there twice, this returns `None`.
    pub(in crate::http) fn service_token(&self) -> Option<&[u8]> {
        let mut given = self.headers.get_all(X_SERVICE_TOKEN).iter();
        match (given.next(), given.next()) {
            (Some(presented), None) => Some(presented.as_bytes()),
            _ => None,
        }
    }

    /// Returns the credential of a service, for routes that take no user's token beside it: in `X-Service-Token`, as bearer,
    /// or by HTTP Basic as the password that belongs to its name (RFC 6749 §2.3.1). More than one is an error (§2.3).
    pub(in crate::http) fn service_credential(&self) -> Result<ServiceCredential, ApiError> {
        let header = self.headers.contains_key(X_SERVICE_TOKEN);
        let Some(authorization) = self.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes) else {
            return Ok(match self.service_token() {
                Some(token) => ServiceCredential::Token(Zeroizing::new(token.to_vec())),
                None if header => ServiceCredential::Unreadable { basic: false },
                None => ServiceCredential::None,
            });
        };
        if header {
            return Err(ApiError::InvalidRequest("There is more than one credential of a service"));
        }
        let scheme = authorization.split(|b| *b == b' ').next().unwrap_or_default();
        if scheme.eq_ignore_ascii_case(b"basic") {
            let rest = authorization[scheme.len()..].trim_ascii();
            return Ok(basic(rest).unwrap_or(ServiceCredential::Unreadable { basic: true }));
        }
        Ok(match self.bearer() {
            Ok(token) => ServiceCredential::Token(Zeroizing::new(token.as_bytes().to_vec())),
            Err(ApiError::Unauthenticated { token_sent: false }) => ServiceCredential::None,
            Err(_) => ServiceCredential::Unreadable { basic: false },
        })
    }

    /// Whether the request has an `Authorization` header, valid or not.
    pub(in crate::http) fn has_bearer(&self) -> bool {
        self.headers.contains_key(AUTHORIZATION)
    }

    /// Whether the client asks for server-sent events.
    pub(in crate::http) fn wants_events(&self) -> bool {
        let accepts = |value: &HeaderValue| {
            let ranges = value.to_str().unwrap_or_default().split(',');
            ranges.filter_map(|range| range.split(';').next()).any(|range| range.trim() == "text/event-stream")
        };
        self.headers.get_all(ACCEPT).iter().any(accepts)
    }

    /// Whether the client says that it can read gzip (RFC 9110 §12.5.3).
    pub(in crate::http) fn accepts_gzip(&self) -> bool {
        weight(&joined(&self.headers.get_all(ACCEPT_ENCODING)), "gzip") > 0.0
    }

    /// Returns the media types that the client accepts, as one list. Empty if it does not say.
    pub(in crate::http) fn accept(&self) -> String {
        joined(&self.headers.get_all(ACCEPT))
    }

    /// Reads the body as a form.
    pub(in crate::http) async fn form(&self) -> Result<BTreeMap<String, Secret>, ApiError> {
        if !is_of_type(&self.headers, "application/x-www-form-urlencoded") {
            return Err(ApiError::NotForm);
        }
        form::filled(&self.read().await?)
    }

    /// Whether the request has an `X-Service-Token` header, valid or not.
    pub(in crate::http) fn claims_to_be_a_service(&self) -> bool {
        self.headers.contains_key(X_SERVICE_TOKEN)
    }

    /// Returns the entity tags of the answers that the client has cached (RFC 9110 §13.1.2).
    pub(in crate::http) fn if_none_match(&self) -> Option<&[u8]> {
        self.headers.get(IF_NONE_MATCH).map(HeaderValue::as_bytes)
    }

    /// Returns the id of the last event that the client received from a stream (WHATWG HTML §9.2.4).
    pub(in crate::http) fn last_event_id(&self) -> Option<&[u8]> {
        self.headers.get("last-event-id").map(HeaderValue::as_bytes)
    }

    /// Reads the body as JSON that has exactly the fields of `T`.
    pub(in crate::http) async fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let missing = || ApiError::Invalid(vec![FieldError::new("", "A JSON body is required")]);
        self.optional_json().await?.ok_or_else(missing)
    }

    /// Reads the body as JSON or, if one of our own pages sent it, as a form. Both have exactly the fields of `T`, and the
    /// fields of a form are texts.
    pub(in crate::http) async fn json_or_form<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        if !self.is_form() {
            return self.json().await;
        }
        let body = self.read().await?;
        let fields = form::filled(&body)?;
        let fields: BTreeMap<_, _> = fields.iter().map(|(name, value)| (name, value.expose())).collect();
        // Large enough even if every byte is escaped, so the buffer never grows and leaves no copy of a secret behind.
        let mut text = Zeroizing::new(Vec::with_capacity(8 * body.len() + 2));
        // Texts always serialise.
        let _ = serde_json::to_writer(&mut *text, &fields);
        json::parse(&text)
    }

    /// Reads the body as JSON if there is one. An empty body and `null` count as no body.
    pub(in crate::http) async fn optional_json<T: DeserializeOwned>(&self) -> Result<Option<T>, ApiError> {
        if !self.has_body {
            return Ok(None);
        }
        if !is_of_type(&self.headers, "application/json") {
            return Err(ApiError::NotJson);
        }
        let bytes = self.read().await?;
        if bytes.is_empty() || bytes.trim_ascii() == b"null" { Ok(None) } else { json::parse(&bytes).map(Some) }
    }

    /// Puts the request into a place, or takes it out with `None`.
    pub(in crate::http) fn take_place(&self, place: Option<Place>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Records the state of the quota that counted the request. A later call replaces an earlier one.
    pub(in crate::http) fn note(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = Some(standing);
    }

    /// Records the account that the request authenticates as, for the request log.
    pub(in crate::http) fn speaks_for(&self, account: AccountId) {
        self.account.store(account.get(), Ordering::Relaxed);
    }

    /// Returns the account that the request authenticates as, if it is known.
    pub(in crate::http) fn account(&self) -> Option<AccountId> {
        AccountId::new(self.account.load(Ordering::Relaxed))
    }

    /// Returns the state of the quota, if the request was counted.
    pub(in crate::http) fn standing(&self) -> Option<Standing> {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the body to its end. Meanwhile the request gives up its place and uses the space that its class has for bodies.
    async fn read(&self) -> Result<Zeroizing<Vec<u8>>, ApiError> {
        if !is_plain(&self.headers) {
            return Err(ApiError::Encoded);
        }
        let Some(payload) = self.take_body() else { return Ok(Zeroizing::default()) };
        let place = || self.place.lock().unwrap_or_else(PoisonError::into_inner);
        // A request without a place is bounded by its own size alone. No route that reads a body is without one.
        let Some(mut room) = place().as_mut().map(Place::step_aside) else { return read(payload, None).await };
        let gives_way = room.gives_way();
        let bytes = tokio::select! {
            read = read(payload, Some(&mut room)) => read?,
            error = gives_way => return Err(error),
        };
        room.arrived()?;
        place().as_mut().map_or(Ok(()), |place| place.step_back(Some(room)))?;
        Ok(bytes)
    }
}

/// How a service authenticates.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::http) enum ServiceCredential {
    /// It does not.
    None,
    /// With something that cannot be a token.
    Unreadable { basic: bool },
    /// With its token.
    Token(Zeroizing<Vec<u8>>),
    /// With its name and its token.
    Named { name: String, token: Zeroizing<Vec<u8>> },
}

/// Decodes the name and the token of HTTP Basic (RFC 7617 §2). Both are form-encoded inside it (RFC 6749 §2.3.1).
fn basic(encoded: &[u8]) -> Option<ServiceCredential> {
    let pair = Zeroizing::new(BASE64.decode(encoded).ok()?);
    let colon = pair.iter().position(|b| *b == b':')?;
    let name = form::decode(&pair[..colon]).ok()?.expose().to_owned();
    let token = form::decode(&pair[colon + 1..]).ok()?.expose().as_bytes().to_vec();
    Some(ServiceCredential::Named { name, token: Zeroizing::new(token) })
}

/// A request body that has not been read yet.
pub(in crate::http) struct Payload(BoxStream<'static, Result<Bytes, warp::Error>>);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payload")
    }
}

/// Returns a 200 with a JSON body.
pub(in crate::http) fn json_reply(body: &impl Serialize) -> Response {
    json_reply_with(StatusCode::OK, body)
}

/// Returns a 204.
pub(in crate::http) fn no_content() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Returns a JSON body with another status.
pub(in crate::http) fn json_reply_with(status: StatusCode, body: &impl Serialize) -> Response {
    // The bodies are structs of texts, numbers and lists, which always serialise.
    let mut response = Response::new(serde_json::to_vec(body).unwrap_or_default().into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Whether there is exactly one `Content-Type`, it is `wanted`, and it has no parameter except `charset=utf-8`.
fn is_of_type(headers: &HeaderMap, wanted: &str) -> bool {
    let mut given = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return false };
    let Ok(value) = value.to_str() else { return false };
    let mut parts = value.split(';').map(str::trim);
    parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case(wanted))
        && parts.filter(|parameter| !parameter.is_empty()).all(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("charset")
                    && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
        })
}

/// Whether the body has no content coding such as `gzip` (RFC 9110 §8.4.1).
fn is_plain(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().all(|line| {
        let mut codings = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"))
    })
}

/// Reads a body to its end and checks its size while it arrives, because a chunked body declares no length. The body may
/// hold secrets, so the buffers here are wiped.
async fn read(Payload(mut pieces): Payload, mut room: Option<&mut BodyRoom>) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let mut bytes = Zeroizing::new(Vec::new());
    while let Some(piece) = pieces.next().await {
        // The peer closed the connection or sent invalid chunks. It may not even see the answer.
        let piece = piece.map_err(|_| ApiError::Malformed("The request body is incomplete"))?;
        if bytes.len() + piece.len() > MAX_BODY_BYTES {
            return Err(ApiError::BodyTooLarge);
        }
        let needed = bytes.len() + piece.len();
        if needed > bytes.capacity() {
            // The capacity doubles, so that many small pieces do not cause a copy each. The room is taken before the memory.
            let wanted = needed.max(2 * bytes.capacity()).min(MAX_BODY_BYTES);
            if let Some(room) = &mut room {
                room.grow(wanted - bytes.capacity())?;
            }
            // By hand: a vector that grows by itself frees its old buffer without wiping it.
            let mut larger = Zeroizing::new(Vec::with_capacity(wanted));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Parses an account number in a path. A text that is not an integer is an invalid request (422). An integer that no
/// account can have is an unknown account (404), and the error repeats it as the client wrote it.
pub(in crate::http) fn account_id(segment: &str) -> Result<AccountId, ApiError> {
    number(segment, "An account id is an integer")?
        .and_then(AccountId::new)
        .ok_or_else(|| ApiError::UnknownAccount(echoed(segment)))
}

/// Parses the number of a mail in a path. The errors are as in [`account_id`].
pub(in crate::http) fn mail_id(segment: &str) -> Result<MailId, ApiError> {
    number(segment, "A mail id is an integer")?
        .and_then(MailId::new)
        .ok_or_else(|| ApiError::UnknownMail(echoed(segment)))
}

/// Parses the number of a service token in a path. The errors are as in [`account_id`]. 0 is the token from the settings.
pub(in crate::http) fn service_token_id(segment: &str) -> Result<ServiceTokenId, ApiError> {
    number(segment, "A service token id is an integer")?
        .map(ServiceTokenId::new)
        .ok_or_else(|| ApiError::UnknownServiceToken(echoed(segment)))
}

/// Parses an integer. Returns `None` if it is negative or does not fit.
fn number(segment: &str, otherwise: &'static str) -> Result<Option<u64>, ApiError> {
    let digits = segment.strip_prefix('-').unwrap_or(segment);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ApiError::Invalid(vec![FieldError::new("/id", otherwise)]));
    }
    Ok(segment.parse().ok())
}

/// Returns a number as the client wrote it, cut to 24 characters.
fn echoed(segment: &str) -> String {
    segment.chars().take(24).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn with(headers: &[(HeaderName, &str)]) -> RequestContext {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        RequestContext::new(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            HeaderValue::from_static("id"),
            map,
            Uri::default(),
            Resolved::Unknown,
            false,
        )
    }

    #[test]
    fn a_bearer_token_comes_from_one_authorization_header() {
        let bearer = |value: &str| with(&[(AUTHORIZATION, value)]).bearer().map(str::to_owned);
        for scheme in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(bearer(&format!("{scheme} abc.def")), Ok("abc.def".to_owned()));
        }
        assert_eq!(bearer("Bearer   abc"), Ok("abc".to_owned()));
        for none in ["Basic abc", "Bearer", "Bearer ", "", "abc", "Bearerabc", "Bearer\tabc"] {
            assert_eq!(bearer(none), Err(ApiError::Unauthenticated { token_sent: false }), "{none}");
        }
        assert_eq!(with(&[]).bearer(), Err(ApiError::Unauthenticated { token_sent: false }));
    }

    #[test]
    fn s63_two_authorization_headers_are_400() {
        let twice = with(&[(AUTHORIZATION, "Bearer a"), (AUTHORIZATION, "Bearer a")]);
        assert!(matches!(twice.bearer(), Err(ApiError::Malformed(_))));
    }

    #[test]
    fn s50_the_service_token_must_be_there_once_and_right() {
        assert_eq!(with(&[(X_SERVICE_TOKEN, "right")]).service_token(), Some(&b"right"[..]));
        assert_eq!(with(&[]).service_token(), None);
        assert_eq!(with(&[(X_SERVICE_TOKEN, "right"), (X_SERVICE_TOKEN, "right")]).service_token(), None);
    }

    #[test]
    fn s50_a_service_says_who_it_is_in_one_way() {
        let shown = |headers: &[(HeaderName, &str)]| with(headers).service_credential();
        let token = |text: &str| Ok(ServiceCredential::Token(text.as_bytes().to_vec().into()));
        assert!(shown(&[]) == Ok(ServiceCredential::None));
        assert!(shown(&[(X_SERVICE_TOKEN, "a")]) == token("a"));
        assert!(shown(&[(AUTHORIZATION, "Bearer a")]) == token("a"));
        // This is `my app:dws_1`; the space is form-encoded as `+`.
        let named = ServiceCredential::Named { name: "my app".to_owned(), token: b"dws_1".to_vec().into() };
        assert!(shown(&[(AUTHORIZATION, "Basic bXkrYXBwOmR3c18x")]) == Ok(named));
        for bad in ["Basic", "Basic !", "basic bm8tY29sb24=", "Basic /////w=="] {
            assert!(shown(&[(AUTHORIZATION, bad)]) == Ok(ServiceCredential::Unreadable { basic: true }), "{bad}");
        }
        assert!(shown(&[(AUTHORIZATION, "Digest a")]) == Ok(ServiceCredential::None));
        for two in ["Bearer a", "Basic bXkrYXBwOmR3c18x"] {
            let both = shown(&[(X_SERVICE_TOKEN, "a"), (AUTHORIZATION, two)]);
            assert!(matches!(both, Err(ApiError::InvalidRequest(_))));
        }
        let twice = shown(&[(X_SERVICE_TOKEN, "a"), (X_SERVICE_TOKEN, "a")]);
        assert!(twice == Ok(ServiceCredential::Unreadable { basic: false }));
    }

    #[test]
    fn events_are_sent_to_whom_asks_for_them() {
        let wants = |accept: &str| with(&[(ACCEPT, accept)]).wants_events();
        assert!(wants("text/event-stream") && wants("application/json, text/event-stream;q=0.9"));
        assert!(!wants("*/*") && !wants("application/json") && !with(&[]).wants_events());
    }

    #[test]
    fn gzip_is_sent_to_whom_can_read_it() {
        let reads = |accept: &str| with(&[(ACCEPT_ENCODING, accept)]).accepts_gzip();
        assert!(reads("gzip, deflate, br") && reads("br;q=1.0, GZIP;q=0.8") && reads("gzip;q=0.001"));
        assert!(
            !reads("") && !reads("identity") && !reads("br, gzip;q=0") && !reads("gzip; q=0.0") && !reads("gzipped")
        );
        assert!(!with(&[]).accepts_gzip());
    }

    #[test]
    fn s61_only_json_in_utf_8_is_json() {
        let json = |value: &str| is_of_type(&with(&[(CONTENT_TYPE, value)]).headers, "application/json");
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\";",
        ] {
            assert!(json(good), "{good}");
        }
        for bad in [
            "text/plain",
            "application/jsonp",
            "application/json; charset=latin1",
            "application/json; v=1",
            "",
            "application/problem+json",
        ] {
            assert!(!json(bad), "{bad}");
        }
    }

    #[test]
    fn an_id_is_an_integer_and_a_possible_one() {
        assert_eq!(account_id("7").unwrap().get(), 7);
        for unknown in ["0", "-1", "99999999999999999999999999"] {
            assert!(matches!(account_id(unknown), Err(ApiError::UnknownAccount(_))), "{unknown}");
        }
        for wrong in ["x", "1.0", "+1", "1e3", "%31", "-", "0x1", "１"] {
            assert!(matches!(account_id(wrong), Err(ApiError::Invalid(_))), "{wrong}");
        }
    }
}
