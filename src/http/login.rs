//! `POST /login` and `POST /logout`: opening and ending a session.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::Filter as _;
use warp::reply::Response;

use super::error::ApiError;
use super::extract::{Payload, RequestContext, context, json_reply, payload};
use super::fields::Fields;
use super::register::AccountSummary;
use super::{Api, Family};
use doorward_actors::{LoginAttempt, LoginError};

/// Somebody who wants in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoginRequest {
    /// The address of the account.
    #[schema(example = "ann@example.com", max_length = 254)]
    email: String,
    /// The password, at most 1,024 bytes.
    #[schema(format = Password, example = "quiet-lamp-tree")]
    password: String,
}

/// An open session.
#[derive(Serialize, ToSchema)]
struct LoginReply<'a> {
    /// Goes into `Authorization: Bearer …`.
    access_token: &'a str,
    #[schema(example = "bearer")]
    token_type: &'static str,
    /// How long the token is good for, in seconds.
    expires_in: u64,
    user: AccountSummary<'a>,
}

/// It is done.
#[derive(Serialize, ToSchema)]
pub(super) struct Detail {
    /// One sentence.
    pub(super) detail: &'static str,
}

pub(super) fn routes(api: &Arc<Api>) -> Family {
    let login_api = Arc::clone(api);
    let logout_api = Arc::clone(api);
    let login = warp::path!("login").and(warp::post()).and(context()).and(payload()).then(
        move |context: Arc<RequestContext>, payload| {
            let api = Arc::clone(&login_api);
            async move { api.admit(&context, login(&api, &context, payload)).await }
        },
    );
    let logout = warp::path!("logout").and(warp::post()).and(context()).then(move |context: Arc<RequestContext>| {
        let api = Arc::clone(&logout_api);
        async move { api.admit(&context, logout(&api, &context)).await }
    });
    login.or(logout).unify().boxed()
}

/// Open a session
#[utoipa::path(post, path = "/login", tag = "Session", request_body = LoginRequest, responses(
    (status = 200, description = "The session is open", body = LoginReply<'_>),
    (status = 401, description = "Incorrect email or password; the same for unknown, locked and (where verification is required) unverified accounts"),
))]
async fn login(api: &Api, context: &RequestContext, payload: Payload) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let typed: LoginRequest = context.json(payload).await?;
    let mut fields = Fields::default();
    let email = fields.email(&typed.email);
    let password = fields.password("/password", typed.password);
    let (Some(email), Some(password)) = (email, password) else { return Err(fields.into()) };
    let session = api.handles.users.login(LoginAttempt { email, password }, context.origin()).await?;
    context.speaks_for(session.account.id);
    Ok(json_reply(&LoginReply {
        access_token: session.access_token.expose(),
        token_type: "bearer",
        expires_in: session.expires_in.as_secs(),
        user: AccountSummary::of(&session.account),
    }))
}

/// End this session
///
/// The token is dead everywhere from the answer on.
#[utoipa::path(post, path = "/logout", tag = "Session", responses(
    (status = 200, description = "The session is over", body = Detail),
))]
async fn logout(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    // Not counted: whoever has used up the allowance must still be able to end the session.
    let principal = api.authenticate(context).await?;
    api.handles.sessions.logout(&principal, context.origin()).await?;
    Ok(json_reply(&Detail { detail: "Logged out successfully" }))
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Incorrect => Self::IncorrectCredentials,
            LoginError::Limited(limited) => limited.into(),
            LoginError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}
