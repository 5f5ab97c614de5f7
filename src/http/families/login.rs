//! `POST /login` and `POST /logout`: open and end a session.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, json_reply};
use crate::http::error::ApiError;
use crate::http::fields::Fields;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::wire::AccountSummary;
use crate::http::wire::Detail;
use doorward_actors::{LoginAttempt, LoginError, Secret};

/// A login.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoginRequest {
    /// The address of the account.
    #[schema(format = Email, example = "ann@example.com", max_length = 254)]
    email: String,
    /// The password, at most 1,024 bytes.
    #[schema(value_type = String, format = Password, example = "quiet-lamp-tree")]
    password: Secret,
    /// Whether the session may be idle for `REMEMBER_DAYS` instead of `IDDLE_MINUTES`.
    remember: Option<bool>,
}

/// An open session.
#[derive(Serialize, ToSchema)]
struct LoginReply<'a> {
    /// The token for `Authorization: Bearer …`.
    access_token: &'a str,
    #[schema(example = "bearer")]
    token_type: &'static str,
    /// How long the access token is valid, in seconds.
    expires_in: u64,
    /// The token for `POST /refresh`, which returns the next access token.
    refresh_token: &'a str,
    user: AccountSummary<'a>,
}

/// The session to end, if no valid access token names it.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogoutRequest {
    /// A refresh token of the session.
    #[schema(value_type = Option<String>, format = Password)]
    refresh_token: Option<Secret>,
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_login, Access::Public, Class::Login, |api, context| Box::pin(login(api, context))),
        RouteInfo::new(__path_logout, Access::Bearer, Class::Account, |api, context| Box::pin(logout(api, context))),
    ]
}

/// Open a session
#[utoipa::path(post, path = "/login", tag = "Session", request_body = LoginRequest, responses(
    (status = 200, description = "The session is open", body = LoginReply<'_>),
    (status = 401, description = "Incorrect email or password; the same for unknown, locked and (where verification is required) unverified accounts"),
))]
async fn login(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let typed: LoginRequest = context.json().await?;
    let mut fields = Fields::default();
    let email = fields.email(&typed.email);
    let password = fields.password("/password", typed.password);
    let (Some(email), Some(password)) = (email, password) else { return Err(fields.into()) };
    let remember = typed.remember.unwrap_or(false);
    let session = api.handles.users.login(LoginAttempt { email, password, remember }, context.origin()).await?;
    context.speaks_for(session.account.id);
    Ok(json_reply(&LoginReply {
        access_token: session.access_token.expose(),
        token_type: "bearer",
        expires_in: session.expires_in.as_secs(),
        refresh_token: session.refresh_token.expose(),
        user: AccountSummary::of(&session.account),
    }))
}

/// End this session
///
/// After the answer its tokens are invalid everywhere. The session is the one of the access token. Once that has expired, a refresh
/// token in the body is enough.
#[utoipa::path(post, path = "/logout", tag = "Session", request_body = Option<LogoutRequest>, responses(
    (status = 200, description = "The session is over", body = Detail),
    (status = 400, description = "The access token and the refresh token are live and belong to different sessions"),
))]
async fn logout(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    // Not counted: a client that has used up its quota must still be able to end the session.
    let by_access = match api.authenticate(context).await {
        Err(error) if !matches!(error, ApiError::Unauthenticated { .. }) => return Err(error),
        by_access => by_access,
    };
    // A body that cannot be read is ignored. The established interface has no body here, so its clients may send anything.
    let body = context.optional_json::<LogoutRequest>().await.unwrap_or_default();
    let token = body.and_then(|body| body.refresh_token);
    let principal = match (by_access, token) {
        (by_access, None) => by_access?,
        // Errors of the refresh token are ignored here, because the access token already names the session to end.
        (Ok(principal), Some(token)) => match api.handles.users.look_at_refresh(token).await {
            Ok(Some(holder)) if holder.session != principal.session => return Err(ApiError::TWO_SESSIONS),
            _ => principal,
        },
        (Err(_), Some(token)) => {
            // A valid refresh token is not counted. Otherwise other clients at the address could use up its quota and keep the
            // session alive.
            if api.handles.users.owner_of_refresh(token.clone()).await?.is_none() {
                api.anyone(context)?;
            }
            let holder = api.handles.users.holder_of_refresh(token, context.origin()).await?;
            context.speaks_for(holder.account.id);
            holder
        }
    };
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
