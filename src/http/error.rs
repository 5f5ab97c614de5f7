//! The errors that clients see: RFC 9457 problems with one sentence for people and no internal detail.

use std::borrow::Cow;
use std::convert::Infallible;
use std::time::Duration;

use doorward_actors::{Limited, RotateRefusal, WeakPassword};
use hyper::StatusCode;
use hyper::header::{ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use utoipa::ToSchema;
use warp::Rejection;
use warp::reply::{Reply, Response};

use crate::http::closed_sets;

/// The reason why an address with a non-ASCII local part is refused, or the warning about it.
pub(in crate::http) const UNREACHABLE: &str =
    "No mail can be sent to this address: the mail server takes only ASCII before the @";

/// One error in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Where it is: a JSON Pointer (RFC 6901) into the body, `?name` for a query parameter, or the name of a header.
    #[schema(example = "/email")]
    pub(crate) pointer: String,
    /// What is wrong, in one sentence.
    pub(crate) detail: Cow<'static, str>,
}

impl FieldError {
    pub(in crate::http) fn new(pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Every error that a request can end with. The edge renders it, because the edge knows the request id and the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApiError {
    /// 400: the request is malformed below the level of fields (not JSON, two `Authorization` headers).
    Malformed(&'static str),
    /// 400: well-formed, but a rule refuses it. The client sees the text.
    Refused(Cow<'static, str>),
    /// 401: no valid credential. `token_sent` distinguishes an invalid token from a missing one (RFC 6750 §3.1).
    Unauthenticated { token_sent: bool },
    /// 401: no valid service token on a route that requires one (RFC 6749 §5.2). `basic`: it was sent by HTTP Basic.
    ServiceUnauthenticated { basic: bool, sent: bool },
    /// 400: a form that does not meet RFC 7662 or RFC 7009.
    InvalidRequest(&'static str),
    /// 403: the service token lacks the scope of the route. `bearer`: it was sent as bearer (RFC 6750 §3.1).
    ScopeMissing { bearer: bool },
    /// 404: no service token has this number, which is repeated as the client wrote it.
    UnknownServiceToken(String),
    /// 410: some revocations after the cursor are no longer kept.
    CursorTooOld,
    /// 415: the body is not declared as a form.
    NotForm,
    /// 415: the body is compressed or has another content coding.
    Encoded,
    /// 401 at login: the same answer for an unknown account, a wrong password and a locked account (S10).
    IncorrectCredentials,
    /// 403: the route is for administrators only.
    AdminOnly,
    /// 403: a sensitive change needs `current_password` or a login at most this long ago (S05, S77; RFC 9470).
    ReauthenticationNeeded(Duration),
    /// 404: no such path, or one that the client may not know about.
    NotFound,
    /// 404: no account has this number, which is repeated as the client wrote it.
    UnknownAccount(String),
    /// 404: no mail has this number, which is repeated as the client wrote it.
    UnknownMail(String),
    /// 404: the account has no live session with this id.
    UnknownSession,
    /// 404: the key has no counter.
    UnknownLimit,
    /// 405: the edge adds `Allow`.
    MethodNotAllowed,
    /// 408: the body did not arrive in time.
    BodyTooSlow,
    /// 409: no administrator would be left (S58).
    LastAdmin,
    /// 409: the keys are not generated here, or there are too many.
    NotRotated(RotateRefusal),
    /// 413: the body exceeds 64 KiB.
    BodyTooLarge,
    /// 415: the body is not declared as JSON.
    NotJson,
    /// 422: fields are missing or invalid.
    Invalid(Vec<FieldError>),
    /// 429: too many requests or failed attempts. Holds how long to wait.
    Limited(Limited),
    /// 503: overloaded or failing. Holds how long to wait before a retry.
    Unavailable(Duration),
    /// 500: a defect. The log has the cause under the same request id.
    Internal,
}

/// An error body (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem<'a> {
    /// Always `about:blank`: the status says everything (RFC 9457 §4.2.1).
    #[schema(example = "about:blank")]
    pub(crate) r#type: &'static str,
    /// The name of the status.
    pub(crate) title: &'a str,
    /// The status code.
    #[schema(minimum = 400, maximum = 599)]
    pub(crate) status: u16,
    /// One sentence about this occurrence.
    pub(crate) detail: Cow<'a, str>,
    /// The request id, as in `X-Request-Id`. The log has it too.
    pub(crate) instance: &'a str,
    /// At `/oauth2/…`: the code of RFC 6749 §5.2 and RFC 6750 §3.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = closed_sets::OauthError)]
    pub(crate) error: Option<&'static str>,
    /// With 422: every error in the request.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    pub(crate) errors: &'a [FieldError],
}

impl ApiError {
    /// 400: guessing which of two credentials counts would be unsafe (S63).
    pub(in crate::http) const TWO_AUTHORIZATIONS: Self = Self::Malformed("There is more than one Authorization header");
    /// 400: the two proxy headers contradict each other (S18).
    pub(in crate::http) const TWO_CLIENTS: Self =
        Self::Malformed("Forwarded and X-Forwarded-For name different clients");
    /// 400: the request does not name exactly one valid host (RFC 9112 §3.2, RFC 9113 §8.3.1).
    pub(in crate::http) const NO_HOST: Self = Self::Malformed("A request names exactly one host");
    /// 400: guessing which of two sessions to end would be unsafe.
    pub(in crate::http) const TWO_SESSIONS: Self =
        Self::Refused(Cow::Borrowed("The access token and the refresh token belong to different sessions"));
    /// 400: the one-time token is not valid. The answer is the same whatever the cause (S26, S27).
    pub(in crate::http) const BAD_TOKEN: Self =
        Self::Refused(Cow::Borrowed("This link is not good: it was used, replaced by a newer one, or is over"));
    /// 400: a wrong passphrase, or an account that cannot be recovered.
    pub(in crate::http) const NO_MATCH: Self = Self::Refused(Cow::Borrowed("Entered details do not match"));
    /// 400: another account has the address.
    pub(in crate::http) const EMAIL_TAKEN: Self = Self::Refused(Cow::Borrowed("Email already registered"));
    /// 400: the mail server does not accept such an address.
    pub(in crate::http) const UNREACHABLE: Self = Self::Refused(Cow::Borrowed(UNREACHABLE));
    /// 400: another account has the nickname.
    pub(in crate::http) const NICKNAME_TAKEN: Self = Self::Refused(Cow::Borrowed("Nickname already taken"));
    /// 400: only administrators choose customer plans.
    pub(in crate::http) const CUSTOMER_ACCOUNT_NOT_ALLOWED: Self =
        Self::Refused(Cow::Borrowed("The customer account cannot be chosen here, only \"none\""));

    /// 400: the password is too weak, with the reason.
    pub(in crate::http) fn weak(reason: WeakPassword) -> Self {
        Self::Refused(Cow::Owned(reason.to_string()))
    }

    /// Returns the status of the error.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Refused(_) | Self::InvalidRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthenticated { .. } | Self::ServiceUnauthenticated { .. } | Self::IncorrectCredentials => {
                StatusCode::UNAUTHORIZED
            }
            Self::AdminOnly | Self::ReauthenticationNeeded(_) | Self::ScopeMissing { .. } => StatusCode::FORBIDDEN,
            Self::NotFound
            | Self::UnknownAccount(_)
            | Self::UnknownMail(_)
            | Self::UnknownServiceToken(_)
            | Self::UnknownSession
            | Self::UnknownLimit => StatusCode::NOT_FOUND,
            Self::CursorTooOld => StatusCode::GONE,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::LastAdmin | Self::NotRotated(_) => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson | Self::NotForm | Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Limited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn detail(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Malformed(detail) | Self::InvalidRequest(detail) => detail,
            Self::Refused(detail) => detail,
            Self::Unauthenticated { token_sent: false } => "Not authenticated",
            Self::Unauthenticated { token_sent: true } => "Could not validate credentials",
            Self::ServiceUnauthenticated { sent: false, .. } => "A service token is required",
            Self::ServiceUnauthenticated { sent: true, .. } => "The service token is not good",
            Self::ScopeMissing { .. } => "The service token does not have the scope that this needs",
            Self::UnknownServiceToken(id) => return Cow::Owned(format!("Service token with id {id} not found")),
            Self::CursorTooOld => "Revocations after this cursor are gone: begin again with after=start",
            Self::NotForm => "The request body must be application/x-www-form-urlencoded",
            Self::IncorrectCredentials => "Incorrect email or password",
            Self::AdminOnly => "Insufficient permissions. Admin role required.",
            Self::ReauthenticationNeeded(_) => "Send current_password, or log in again, to make this change",
            Self::NotFound => "Not found",
            Self::UnknownAccount(id) => return Cow::Owned(format!("User with id {id} not found")),
            Self::UnknownMail(id) => return Cow::Owned(format!("Mail with id {id} not found")),
            Self::UnknownSession => "Session not found",
            Self::UnknownLimit => "Nothing is counted by this key",
            Self::MethodNotAllowed => "Method not allowed",
            Self::BodyTooSlow => "The request body did not arrive in time",
            Self::LastAdmin => "The last administrator cannot be removed, demoted or locked",
            Self::NotRotated(refusal) => return Cow::Owned(refusal.to_string()),
            Self::BodyTooLarge => "The request body is larger than 64 KiB",
            Self::Encoded => "The request body must not be compressed: no Content-Encoding is understood",
            Self::NotJson => "The request body must be application/json",
            Self::Invalid(_) => "The request is not of the right shape",
            Self::Limited(_) => "Too many requests, try again later",
            Self::Unavailable(_) => "The service is busy, try again later",
            Self::Internal => "Internal server error",
        })
    }

    /// Returns the code that OAuth 2.0 clients look for.
    const fn code(&self) -> Option<&'static str> {
        match self {
            Self::ServiceUnauthenticated { .. } => Some("invalid_client"),
            Self::InvalidRequest(_) | Self::NotForm => Some("invalid_request"),
            Self::ScopeMissing { .. } => Some("insufficient_scope"),
            _ => None,
        }
    }

    /// Returns how long to wait before a retry, for errors that are temporary.
    pub(in crate::http) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited(limited) => Some(limited.retry_after),
            Self::Unavailable(after) => Some(*after),
            _ => None,
        }
    }

    /// Renders the problem as a response. `allow` is the value of `Allow` for a 405.
    pub(in crate::http) fn render(&self, request_id: &str, allow: Option<&str>) -> Response {
        let status = self.status();
        let errors: &[FieldError] = if let Self::Invalid(errors) = self { errors } else { &[] };
        let problem = Problem {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: self.detail(),
            instance: request_id,
            error: self.code(),
            errors,
        };
        // Strings and a number always serialise. Even an empty body would have the status.
        let mut response = Response::new(serde_json::to_vec(&problem).unwrap_or_default().into());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            Self::Unauthenticated { token_sent: true } | Self::ServiceUnauthenticated { basic: false, sent: true } => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
            }
            Self::Unauthenticated { token_sent: false }
            | Self::ServiceUnauthenticated { basic: false, sent: false }
            | Self::IncorrectCredentials => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::AdminOnly | Self::ScopeMissing { bearer: true } => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"insufficient_scope\""));
            }
            // RFC 9470 §3.
            Self::ReauthenticationNeeded(within) => {
                let challenge = format!(
                    "Bearer error=\"insufficient_user_authentication\", \
                     error_description=\"A more recent login is needed\", max_age={}",
                    within.as_secs()
                );
                if let Ok(challenge) = HeaderValue::from_str(&challenge) {
                    headers.insert(WWW_AUTHENTICATE, challenge);
                }
            }
            Self::ServiceUnauthenticated { basic: true, .. } => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"doorward\""));
            }
            Self::Limited(Limited { retry_after: after, .. }) | Self::Unavailable(after) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(*after)));
            }
            Self::MethodNotAllowed => {
                if let Some(allow) = allow.and_then(|methods| HeaderValue::from_str(methods).ok()) {
                    headers.insert(ALLOW, allow);
                }
            }
            // Tells which content codings a body may have (RFC 9110 §12.5.3).
            Self::Encoded => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            // Otherwise the rest of the body would be read as the next request.
            Self::BodyTooSlow | Self::BodyTooLarge => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

/// Returns a wait as `Retry-After` needs it: whole seconds, rounded up, at least one (RFC 9110 §10.2.3).
pub(in crate::http) fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// The error travels in the response's extensions to the edge, which is the only place that renders problems.
impl Reply for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        *response.status_mut() = self.status();
        response.extensions_mut().insert(self);
        response
    }
}

/// Answers a request that no route accepted.
pub(in crate::http) async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    // The edge provides what the filters of all routes extract, so this is a defect.
    tracing::error!(?rejection, "a request was rejected for an unknown reason");
    Ok(ApiError::Internal.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s61_waits_are_whole_seconds_and_never_zero() {
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::from_mins(1)), 60);
    }

    #[test]
    fn s61_a_challenge_names_the_error_only_when_a_token_was_sent() {
        let challenge = |token_sent| {
            ApiError::Unauthenticated { token_sent }.render("id", None).headers()[WWW_AUTHENTICATE].clone()
        };
        assert_eq!(challenge(false), "Bearer");
        assert_eq!(challenge(true), "Bearer error=\"invalid_token\"");
    }

    #[test]
    fn s61_who_may_not_is_challenged_where_a_bearer_was_sent() {
        let challenge = |error: ApiError| error.render("id", None).headers().get(WWW_AUTHENTICATE).cloned();
        for error in [ApiError::AdminOnly, ApiError::ScopeMissing { bearer: true }] {
            assert_eq!(challenge(error).unwrap(), "Bearer error=\"insufficient_scope\"");
        }
        assert_eq!(challenge(ApiError::ScopeMissing { bearer: false }), None);
        let too_old = challenge(ApiError::ReauthenticationNeeded(Duration::from_mins(15))).unwrap();
        assert_eq!(
            too_old,
            "Bearer error=\"insufficient_user_authentication\", error_description=\"A more recent login is needed\", \
             max_age=900"
        );
    }
}
