//! `GET /forward_auth`: a proxy asks who sent a request before it passes the request on. One mailbox hop; the body is not
//! read.

use doorward_actors::{AuditRefusal, Role};
use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::RequestContext;
use crate::http::error::{ApiError, FieldError};
use crate::http::form;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::wire::WireRole;

const USER_ID: HeaderName = HeaderName::from_static("x-auth-user-id");
const EMAIL: HeaderName = HeaderName::from_static("x-auth-email");
const NICKNAME: HeaderName = HeaderName::from_static("x-auth-nickname");
const ROLE: HeaderName = HeaderName::from_static("x-auth-role");
const SESSION: HeaderName = HeaderName::from_static("x-auth-session");

/// The characters that are percent-encoded in a header value, besides all non-ASCII ones: control characters, so that no
/// value ends a line, and the percent sign, so that every value can be decoded.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![RouteInfo::new(__path_forward_auth, Access::Bearer, Class::Verify, |api, context| {
        Box::pin(forward_auth(api, context))
    })]
}

/// May this request pass?
///
/// For proxies, which send the head of their client's request. The answer has no body. Its headers name the user in percent-encoded
/// UTF-8. The session's idle time starts again. Not counted, because a proxy asks for every request.
#[utoipa::path(get, path = "/forward_auth", operation_id = "forward_auth", tag = "Services",
    params(
    ("role" = Option<WireRole>, Query, description = "`admin`: only administrators pass. `user` (default): everybody with a live token"),
), responses(
    (status = 200, description = "It may", headers(
        ("X-Auth-User-Id" = u64, description = "The id of the account"),
        ("X-Auth-Email" = String, description = "Its e-mail address"),
        ("X-Auth-Nickname" = String, description = "Its nickname"),
        ("X-Auth-Role" = WireRole, description = "`user` or `admin`"),
        ("X-Auth-Session" = String, description = "The id of the session"),
    )),
    (status = 403, description = "The user does not have the role"),
    (status = 422, description = "There is no such role, or no such field of the query"),
))]
async fn forward_auth(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let principal = api.authenticate(context).await?;
    let account = &principal.account;
    if wants_admin(context)? && account.role != Role::Admin {
        api.handles.audit.denied(Some(&principal), AuditRefusal::AdminOnly, context.origin());
        return Err(ApiError::AdminOnly);
    }
    let mut response = Response::default();
    let headers = response.headers_mut();
    headers.insert(USER_ID, HeaderValue::from(account.id.get()));
    headers.insert(EMAIL, value(account.email.as_str())?);
    headers.insert(NICKNAME, value(account.nickname.as_str())?);
    headers.insert(ROLE, HeaderValue::from_static(account.role.as_str()));
    headers.insert(SESSION, value(&principal.session.to_string())?);
    Ok(response)
}

/// Whether the query asks for the role of administrators.
fn wants_admin(context: &RequestContext) -> Result<bool, ApiError> {
    let fields = form::parse(context.query().unwrap_or_default().as_bytes())?;
    // A misspelt name or an empty role must not let everybody pass.
    if let Some(name) = fields.keys().find(|name| *name != "role") {
        return Err(ApiError::Invalid(vec![FieldError::new(format!("?{name}"), "There is no such field")]));
    }
    match fields.get("role").map(String::as_str) {
        None | Some("user") => Ok(false),
        Some("admin") => Ok(true),
        Some(_) => Err(ApiError::Invalid(vec![FieldError::new("?role", "This must be user or admin")])),
    }
}

/// Encodes a text as a header value.
fn value(text: &str) -> Result<HeaderValue, ApiError> {
    // The encoded text is visible ASCII and spaces, which are always valid in a header.
    HeaderValue::try_from(utf8_percent_encode(text, ENCODED).to_string()).map_err(|_| ApiError::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_one_line_of_ascii_that_reads_back() {
        for (text, written) in [
            ("ann@example.com", "ann@example.com"),
            ("Ann Lee", "Ann Lee"),
            ("Änn", "%C3%84nn"),
            ("100%", "100%25"),
            ("a\r\nX-Auth-Role: admin\u{7f}", "a%0D%0AX-Auth-Role: admin%7F"),
        ] {
            let value = value(text).unwrap();
            assert_eq!(value.to_str().unwrap(), written);
            let back = percent_encoding::percent_decode(value.as_bytes()).decode_utf8().unwrap();
            assert_eq!(back, text);
        }
    }
}
