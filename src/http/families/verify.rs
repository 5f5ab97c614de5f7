//! `POST /verify`: a service checks a user's token. This is the hot path: one mailbox hop, and the body is not read.

use std::time::Duration;

use doorward_actors::{Principal, ServiceScope, Timestamp};
use hyper::header::{CACHE_CONTROL, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, json_reply};
use crate::http::error::ApiError;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::wire::WireRole;

/// The owner of a valid token.
#[derive(Serialize, ToSchema)]
struct Verified<'a> {
    #[schema(minimum = 1)]
    id: u64,
    #[schema(format = Email)]
    email: &'a str,
    nickname: &'a str,
    role: WireRole,
    /// Always true: an invalid token is answered with 401.
    valid: bool,
    /// Always false: a locked account has no valid token.
    lock: bool,
    customer_account: &'a str,
    /// Whether the password was in the list of breached passwords at the last login. A new password resets it.
    password_compromised: bool,
    /// The session that the token belongs to, as in its claim `sid`.
    session_id: String,
    /// RFC 3339, UTC: when the token expires, unless its session ends earlier.
    #[schema(format = DateTime)]
    expires_at: String,
    /// RFC 3339, UTC: when the session expires, unless it is used before.
    #[schema(format = DateTime)]
    idle_expires_at: String,
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![RouteInfo::new(
        __path_verify,
        Access::ServiceAndBearer(ServiceScope::Verify),
        Class::Verify,
        |api, context| Box::pin(verify(api, context)),
    )]
}

/// Check a user's token
///
/// For services. They authenticate by `X-Service-Token` and send the user's token as bearer. The session's idle time starts
/// again. Needs the scope `verify`.
#[utoipa::path(post, path = "/verify", tag = "Services", responses(
    (status = 200, description = "The token is live. `Cache-Control` says for how long that may be taken for granted",
        body = Verified<'_>),
    (status = 403, description = "The service token does not have the scope `verify`"),
    (status = 404, description = "The service token is missing or wrong"),
))]
async fn verify(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.a_service(context, ServiceScope::Verify).await?;
    let principal = api.authenticate(context).await?;
    let account = &principal.account;
    let mut response = json_reply(&Verified {
        id: account.id.get(),
        email: account.email.as_str(),
        nickname: account.nickname.as_str(),
        role: account.role.into(),
        valid: true,
        lock: account.locked,
        customer_account: account.customer_account.as_str(),
        password_compromised: account.password_compromised,
        session_id: principal.session.to_string(),
        expires_at: principal.expires_at.to_rfc3339(),
        idle_expires_at: principal.idle_expires_at.to_rfc3339(),
    });
    if let Some(allowed) = cache_control(&principal, api.handles.sessions.now(), api.rules.verify_cache) {
        response.headers_mut().insert(CACHE_CONTROL, allowed);
    }
    Ok(response)
}

/// Returns how long the answer may be cached: at most as long as the operator allows, and never beyond the end of the token
/// or the idle end of the session. `None` forbids caching, which is the default of all answers.
fn cache_control(principal: &Principal, now: Timestamp, allowed: Duration) -> Option<HeaderValue> {
    let left = principal.expires_at.min(principal.idle_expires_at).since(now);
    let seconds = allowed.min(left).as_secs();
    if seconds == 0 {
        return None;
    }
    HeaderValue::try_from(format!("private, max-age={seconds}")).ok()
}
