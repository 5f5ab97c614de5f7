//! The live sessions of an account: under `/my_account/sessions` for its owner, under `/accounts_management/{id}/sessions` for
//! administrators.

use doorward_actors::{AccountId, EndError, Session, SessionId, SessionLabel, WhichSessions};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, account_id, json_reply};
use crate::http::error::{ApiError, FieldError};
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::shown::session::SessionObject;

/// The live sessions of an account, the newest login first. An account has at most `MAX_SESSIONS_PER_USER`, so there is one
/// page.
#[derive(Serialize, ToSchema)]
struct Sessions<'a> {
    sessions: Vec<SessionObject<'a>>,
    /// Always null.
    next: Option<&'static str>,
}

/// The new name of a session.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SessionChange {
    /// 1 to 64 characters; null removes the label.
    #[schema(required = true, min_length = 1, max_length = 64, example = "Phone")]
    #[serde(deserialize_with = "present")]
    label: Option<String>,
}

/// Reads a member that may be null but must not be left out.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_list, Access::Bearer, Class::Account, |api, context| Box::pin(list(api, context))),
        RouteInfo::new(__path_end_others, Access::Bearer, Class::Account, |api, context| {
            Box::pin(end_others(api, context))
        }),
        RouteInfo::new(__path_label, Access::Bearer, Class::Account, |api, context| Box::pin(label(api, context))),
        RouteInfo::new(__path_end_one, Access::Bearer, Class::Account, |api, context| Box::pin(end_one(api, context))),
        RouteInfo::new(__path_list_of, Access::Admin, Class::Admin, |api, context| Box::pin(list_of(api, context))),
        RouteInfo::new(__path_end_all_of, Access::Admin, Class::Admin, |api, context| {
            Box::pin(end_all_of(api, context))
        }),
        RouteInfo::new(__path_end_one_of, Access::Admin, Class::Admin, |api, context| {
            Box::pin(end_one_of(api, context))
        }),
    ]
}

/// List my sessions
#[utoipa::path(get, path = "/my_account/sessions", operation_id = "list_my_sessions", tag = "Account",
    responses(
    (status = 200, description = "The live sessions", body = Sessions<'_>),
))]
async fn list(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let owner = api.user(context).await?;
    Ok(shown(&api.handles.sessions.list(&owner.account).await?, owner.session))
}

/// End all my other sessions
#[utoipa::path(delete, path = "/my_account/sessions", operation_id = "end_my_other_sessions", tag = "Account",
    responses(
    (status = 204, description = "There is no other session any more"),
))]
async fn end_others(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let owner = api.user(context).await?;
    let others = WhichSessions::AllBut(owner.session);
    api.handles.sessions.end(&owner, owner.account.id, others, context.origin()).await?;
    Ok(done())
}

/// Name one of my sessions
#[utoipa::path(patch, path = "/my_account/sessions/{id}", operation_id = "label_my_session", tag = "Account",
    params(
    ("id" = String, Path, description = "The id of the session"),
), request_body = SessionChange, responses(
    (status = 200, description = "The session as it is now", body = SessionObject<'_>),
    (status = 404, description = "There is no such session of yours"),
))]
async fn label(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let id = context.param("id");
    api.user(context).await?;
    let typed: SessionChange = context.json().await?;
    // Checked again but not counted again: while the body arrived, the session may have ended (S37, S38).
    let owner = api.authenticate(context).await?;
    let wrong = |_| ApiError::Invalid(vec![FieldError::new("/label", LABEL_RULE)]);
    let label = typed.label.map(|label| SessionLabel::parse(&label)).transpose().map_err(wrong)?;
    let session = api.handles.sessions.label(&owner, session_id(id)?, label, context.origin()).await?;
    Ok(json_reply(&SessionObject::of(&session, owner.session)))
}

/// End one of my sessions
#[utoipa::path(delete, path = "/my_account/sessions/{id}", operation_id = "end_my_session", tag = "Account",
    params(
    ("id" = String, Path, description = "The id of the session"),
), responses(
    (status = 204, description = "It is over"),
    (status = 404, description = "There is no such session of yours"),
))]
async fn end_one(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let id = context.param("id");
    let owner = api.user(context).await?;
    let one = WhichSessions::One(session_id(id)?);
    api.handles.sessions.end(&owner, owner.account.id, one, context.origin()).await?;
    Ok(done())
}

/// List the sessions of an account
#[utoipa::path(get, path = "/accounts_management/{id}/sessions", operation_id = "list_sessions", tag = "Administration",
    params(
    ("id" = i64, Path, description = "The number of the account"),
), responses(
    (status = 200, description = "The live sessions", body = Sessions<'_>),
    (status = 404, description = "No such account"),
    (status = 422, description = "The id is not an integer"),
))]
async fn list_of(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let id = context.param("id");
    let admin = api.admin(context).await?;
    let id = account_id(id)?;
    let overview = api.handles.users.get(id).await?.ok_or_else(|| unknown(id))?;
    Ok(shown(&api.handles.sessions.list(&overview.account).await?, admin.session))
}

/// End all sessions of an account
///
/// If it is the caller's own account, the session of this request is kept.
#[utoipa::path(delete, path = "/accounts_management/{id}/sessions", operation_id = "end_sessions", tag = "Administration",
    params(
    ("id" = i64, Path, description = "The number of the account"),
), responses(
    (status = 204, description = "They are over"),
    (status = 404, description = "No such account"),
    (status = 422, description = "The id is not an integer"),
))]
async fn end_all_of(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let id = context.param("id");
    let admin = api.admin(context).await?;
    let id = known(api, id).await?;
    let which = if id == admin.account.id { WhichSessions::AllBut(admin.session) } else { WhichSessions::All };
    api.handles.sessions.end(&admin, id, which, context.origin()).await?;
    Ok(done())
}

/// End one session of an account
#[utoipa::path(delete, path = "/accounts_management/{id}/sessions/{sid}", operation_id = "end_session", tag = "Administration",
    params(
    ("id" = i64, Path, description = "The number of the account"),
    ("sid" = String, Path, description = "The id of the session"),
), responses(
    (status = 204, description = "It is over"),
    (status = 404, description = "No such account, or no such session of it"),
    (status = 422, description = "The id is not an integer"),
))]
async fn end_one_of(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let id = context.param("id");
    let session = context.param("sid");
    let admin = api.admin(context).await?;
    let id = known(api, id).await?;
    let one = WhichSessions::One(session_id(session)?);
    api.handles.sessions.end(&admin, id, one, context.origin()).await?;
    Ok(done())
}

const LABEL_RULE: &str = "A label is 1 to 64 characters, none of them a control character";

/// Returns the id of an account that exists.
async fn known(api: &Api, id: &str) -> Result<AccountId, ApiError> {
    let id = account_id(id)?;
    api.handles.users.get(id).await?.map(|_| id).ok_or_else(|| unknown(id))
}

fn unknown(id: AccountId) -> ApiError {
    ApiError::UnknownAccount(id.to_string())
}

/// Parses the id of a session in a path. A text that cannot be one gets the same answer as another account's session (S55).
fn session_id(segment: &str) -> Result<SessionId, ApiError> {
    SessionId::parse(segment).ok_or(ApiError::UnknownSession)
}

fn shown(sessions: &[Session], current: SessionId) -> Response {
    let sessions = sessions.iter().map(|session| SessionObject::of(session, current)).collect();
    json_reply(&Sessions { sessions, next: None })
}

fn done() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

impl From<EndError> for ApiError {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Unknown => Self::UnknownSession,
            EndError::Revoked => Self::Unauthenticated { token_sent: true },
            EndError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}
