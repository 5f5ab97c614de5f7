//! `POST /refresh`: exchanges a refresh token for the next access token of its session.

use doorward_actors::{RefreshError, Secret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, json_reply};
use crate::http::error::ApiError;
use crate::http::routes::{Access, Class, RouteInfo};

/// A request for the next access token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefreshRequest {
    /// The refresh token that came with the last access token.
    #[schema(value_type = String, format = Password)]
    refresh_token: Secret,
}

/// The next tokens of a session.
#[derive(Serialize, ToSchema)]
struct RefreshReply<'a> {
    /// The token for `Authorization: Bearer …`. The one before it stays valid until it expires.
    access_token: &'a str,
    #[schema(example = "bearer")]
    token_type: &'static str,
    /// How long the access token is valid, in seconds.
    expires_in: u64,
    /// The next refresh token. The one that was sent is used up.
    refresh_token: &'a str,
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![RouteInfo::new(__path_refresh, Access::Public, Class::Account, |api, context| Box::pin(refresh(api, context)))]
}

/// Get the next access token
///
/// A refresh token works once. Within `REFRESH_GRACE_SECONDS` it may be sent again, by another tab or after a lost answer, and
/// returns the same next refresh token. If it is used later, its session ends and the owner is notified.
#[utoipa::path(post, path = "/refresh", tag = "Session", request_body = RefreshRequest, responses(
    (status = 200, description = "The session goes on", body = RefreshReply<'_>),
    (status = 401, description = "The refresh token is not good; the same whatever the cause"),
))]
async fn refresh(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let typed: RefreshRequest = context.json().await?;
    let token = typed.refresh_token;
    // The owner of an issued token is counted by account, so that other clients at the same address cannot use up the quota.
    match api.handles.users.owner_of_refresh(token.clone()).await? {
        Some(owner) => context.note(api.handles.limits.check_private(owner)?),
        None => api.anyone(context)?,
    }
    let session = api.handles.users.refresh(token, context.origin()).await?;
    context.speaks_for(session.account.id);
    Ok(json_reply(&RefreshReply {
        access_token: session.access_token.expose(),
        token_type: "bearer",
        expires_in: session.expires_in.as_secs(),
        refresh_token: session.refresh_token.expose(),
    }))
}

impl From<RefreshError> for ApiError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Dead => Self::Unauthenticated { token_sent: true },
            RefreshError::Limited(limited) => limited.into(),
            RefreshError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}
