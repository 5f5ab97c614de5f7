//! `POST /verify`: a service asks whether a user's token is live. The hot path: one mailbox hop, no body read.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;
use warp::Filter as _;
use warp::reply::Response;

use super::accounts_management::WireRole;
use super::error::ApiError;
use super::extract::{RequestContext, context, json_reply};
use super::{Api, Family};

/// Whom a live token speaks for.
#[derive(Serialize, ToSchema)]
struct Verified<'a> {
    #[schema(minimum = 1)]
    id: u64,
    email: &'a str,
    nickname: &'a str,
    role: WireRole,
    /// Always true: a token that is not live is answered with 401.
    valid: bool,
    /// Always false: a locked account has no live token.
    lock: bool,
    customer_account: &'a str,
    /// Whether the password was on the list of breached ones at the last login; until there is another one.
    password_compromised: bool,
}

pub(super) fn routes(api: &Arc<Api>) -> Family {
    let api = Arc::clone(api);
    warp::path!("verify")
        .and(warp::post())
        .and(context())
        .then(move |context: Arc<RequestContext>| {
            let api = Arc::clone(&api);
            async move { api.admit(&context, verify(&api, &context)).await }
        })
        .boxed()
}

/// Check a user's token
///
/// For services, which show who they are in `X-Service-Token` and the user's token as bearer. The session's idle
/// clock restarts.
#[utoipa::path(post, path = "/verify", tag = "Services", responses(
    (status = 200, description = "The token is live", body = Verified<'_>),
    (status = 404, description = "The service token is missing or wrong"),
))]
async fn verify(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.a_service(context)?;
    let account = api.authenticate(context).await?.account;
    Ok(json_reply(&Verified {
        id: account.id.get(),
        email: account.email.as_str(),
        nickname: account.nickname.as_str(),
        role: account.role.into(),
        valid: true,
        lock: account.locked,
        customer_account: account.customer_account.as_str(),
        password_compromised: account.password_compromised,
    }))
}
