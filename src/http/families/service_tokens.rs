//! `/service_tokens`: administrators issue and revoke the tokens by which services authenticate.

use std::time::Duration;

use doorward_actors::Secret;
use doorward_actors::{
    AuditEvent, CreateTokenError, IssuedToken, MAX_OVERLAP, RevokeTokenError, RotateTokenError, ServiceName,
    ServiceScope, ServiceScopes, ServiceToken, ServiceTokenId, Timestamp,
};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::closed_sets;
use crate::http::edge::extract::{RequestContext, json_reply, json_reply_with, no_content, service_token_id};
use crate::http::error::{ApiError, FieldError};
use crate::http::form;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::wire::Reauthentication;

/// How long a replaced secret stays valid if the request does not say.
const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);
/// How many tokens a page has if the request does not say.
const DEFAULT_LIMIT: usize = 100;
/// The most tokens of a page.
const MAX_LIMIT: usize = 1000;

/// A token to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ServiceTokenRequest {
    /// The name of the service, 1 to 64 bytes. No two tokens have the same name.
    #[schema(min_length = 1, max_length = 64, example = "billing")]
    name: String,
    /// What it may do: `verify`, `introspect`, `revoke`, `revocations`, `audit`, `metrics`, `backup`.
    #[schema(min_items = 1, value_type = Vec<closed_sets::ServiceScope>)]
    scopes: Vec<String>,
    /// RFC 3339: when it expires; never if this is left out.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// The caller's current password; needed unless they logged in within `ADMIN_REAUTH_MINUTES`.
    #[schema(value_type = Option<String>, format = Password)]
    current_password: Option<Secret>,
}

/// How a token gets another secret.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RotationRequest {
    /// How long the present secret stays valid: 0 to 2,592,000 seconds (30 days); 86,400 if this is left out.
    #[schema(maximum = 2_592_000)]
    overlap_seconds: Option<u64>,
    /// The caller's current password; needed unless they logged in within `ADMIN_REAUTH_MINUTES`.
    #[schema(value_type = Option<String>, format = Password)]
    current_password: Option<Secret>,
}

/// A token with its secret, which is shown only once.
#[derive(Serialize, ToSchema)]
struct IssuedServiceToken<'a> {
    /// Never reused.
    #[schema(minimum = 1)]
    id: u64,
    name: &'a str,
    #[schema(value_type = Vec<closed_sets::ServiceScope>)]
    scopes: Vec<&'static str>,
    /// RFC 3339, UTC; null if it does not expire.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// RFC 3339, UTC: until when the previous secret stays valid; null if there is none.
    #[schema(format = DateTime)]
    replaced_until: Option<String>,
    /// The secret that the service sends. It is not stored and cannot be shown again.
    #[schema(format = Password, example = "dws_…")]
    token: &'a str,
}

/// A token without its secret.
#[derive(Serialize, ToSchema)]
struct ListedServiceToken {
    /// 0 is the token from the settings (`SERVICE_TOKEN`).
    id: u64,
    name: String,
    #[schema(value_type = Vec<closed_sets::ServiceScope>)]
    scopes: Vec<&'static str>,
    /// RFC 3339, UTC; null for the token from the settings.
    #[schema(format = DateTime)]
    created_at: Option<String>,
    /// RFC 3339, UTC; null if it does not expire.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// RFC 3339, UTC: until when the previous secret stays valid; null if there is none.
    #[schema(format = DateTime)]
    replaced_until: Option<String>,
    /// RFC 3339, UTC, to the minute; null if it was never used.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
}

/// A page of tokens, ordered by number.
#[derive(Serialize, ToSchema)]
struct ServiceTokens {
    service_tokens: Vec<ListedServiceToken>,
    /// The value of `cursor` for the next page; null on the last one.
    next: Option<String>,
}

fn scopes(of: ServiceScopes) -> Vec<&'static str> {
    of.iter().map(ServiceScope::as_str).collect()
}

fn replaced_until(token: &ServiceToken, now: Timestamp) -> Option<String> {
    token.replaced.filter(|replaced| now < replaced.until).map(|replaced| replaced.until.to_rfc3339())
}

fn listed(token: &ServiceToken, now: Timestamp) -> ListedServiceToken {
    ListedServiceToken {
        id: token.id.get(),
        name: token.name.as_str().to_owned(),
        scopes: scopes(token.scopes),
        created_at: (token.id != ServiceTokenId::BUILT_IN).then(|| token.created_at.to_rfc3339()),
        expires_at: token.expires_at.map(Timestamp::to_rfc3339),
        replaced_until: replaced_until(token, now),
        last_used_at: token.last_used_at.map(Timestamp::to_rfc3339),
    }
}

fn issued(status: StatusCode, issued: &IssuedToken, now: Timestamp) -> Response {
    let token = &issued.token;
    let body = IssuedServiceToken {
        id: token.id.get(),
        name: token.name.as_str(),
        scopes: scopes(token.scopes),
        expires_at: token.expires_at.map(Timestamp::to_rfc3339),
        replaced_until: replaced_until(token, now),
        token: issued.secret.expose(),
    };
    json_reply_with(status, &body)
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_list, Access::Admin, Class::Admin, |api, context| Box::pin(list(api, context))),
        RouteInfo::new(__path_create, Access::Admin, Class::Admin, |api, context| Box::pin(create(api, context))),
        RouteInfo::new(__path_rotate, Access::Admin, Class::Admin, |api, context| Box::pin(rotate(api, context))),
        RouteInfo::new(__path_revoke, Access::Admin, Class::Admin, |api, context| Box::pin(revoke(api, context))),
    ]
}

/// List the service tokens, without their secrets
#[utoipa::path(get, path = "/service_tokens/", operation_id = "list_service_tokens", tag = "Administration",
    params(
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "How many to return (100), 1 to 1,000"),
    ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,18}$", description = "`next` of the page before"),
), responses(
    (status = 200, description = "The tokens", body = ServiceTokens),
    (status = 422, description = "`limit` or `cursor` is not possible"),
))]
async fn list(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.admin(context).await?;
    let (after, limit) = page(context.query())?;
    let now = api.handles.sessions.now();
    let mut tokens = api.handles.services.list().await?;
    tokens.retain(|token| after.is_none_or(|after| token.id > after));
    let more = tokens.len() > limit;
    tokens.truncate(limit);
    let next = tokens.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(json_reply(&ServiceTokens { service_tokens: tokens.iter().map(|token| listed(token, now)).collect(), next }))
}

/// Create a service token
///
/// Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/service_tokens/", operation_id = "create_service_token", tag = "Administration",
    request_body = ServiceTokenRequest, responses(
    (status = 201, description = "It is made", body = IssuedServiceToken<'_>),
    (status = 400, description = "The name is taken, there are 256 tokens already, or it would be over at once"),
    (status = 403, description = "Re-authentication needed (RFC 9470), or not an administrator"),
))]
async fn create(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.admin(context).await?;
    let request: ServiceTokenRequest = context.json().await?;
    let (name, scopes, expires_at) = parse(&request)?;
    let admin = api.proven_admin(context, AuditEvent::ServiceTokenCreated, request.current_password).await?;
    match api.handles.services.create(&admin, name, scopes, expires_at, context.origin()).await {
        Ok(made) => Ok(issued(StatusCode::CREATED, &made, api.handles.sessions.now())),
        Err(CreateTokenError::NameTaken) => {
            Err(ApiError::Refused("A service token with this name exists already".into()))
        }
        Err(CreateTokenError::TooMany) => Err(ApiError::Refused("There are 256 service tokens already".into())),
        Err(CreateTokenError::Over) => Err(ApiError::Refused("A service token must end in the future".into())),
        Err(CreateTokenError::Revoked) => Err(api.revoked_admin(context).await),
        Err(CreateTokenError::Unavailable(unavailable)) => Err(unavailable.into()),
    }
}

/// Give a service token another secret
///
/// The present secret stays valid for a while. A secret that was replaced earlier becomes invalid at once.
#[utoipa::path(post, path = "/service_tokens/{id}/rotate", operation_id = "rotate_service_token",
    tag = "Administration", params(
    ("id" = i64, Path, description = "The number of the token"),
), request_body(content = Option<RotationRequest>), responses(
    (status = 200, description = "It has another secret", body = IssuedServiceToken<'_>),
    (status = 400, description = "It is the token of the settings, or it is over"),
    (status = 403, description = "Re-authentication needed (RFC 9470), or not an administrator"),
    (status = 404, description = "No such token"),
    (status = 422, description = "The id is not an integer, or `overlap_seconds` is not possible"),
))]
async fn rotate(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let id = context.param("id");
    api.admin(context).await?;
    let request: RotationRequest = context.optional_json().await?.unwrap_or_default();
    let overlap = request.overlap_seconds.map_or(DEFAULT_OVERLAP, Duration::from_secs);
    if overlap > MAX_OVERLAP {
        let error = FieldError::new("/overlap_seconds", "This must be an integer from 0 to 2592000");
        return Err(ApiError::Invalid(vec![error]));
    }
    let id = changeable(id)?;
    let admin = api.proven_admin(context, AuditEvent::ServiceTokenRotated, request.current_password).await?;
    match api.handles.services.rotate(&admin, id, overlap, context.origin()).await {
        Ok(rotated) => Ok(issued(StatusCode::OK, &rotated, api.handles.sessions.now())),
        Err(RotateTokenError::Unknown) => Err(ApiError::UnknownServiceToken(id.to_string())),
        Err(RotateTokenError::Over) => Err(ApiError::Refused("This service token is over".into())),
        Err(RotateTokenError::Revoked) => Err(api.revoked_admin(context).await),
        Err(RotateTokenError::Unavailable(unavailable)) => Err(unavailable.into()),
    }
}

/// Revoke a service token
///
/// A request that begins after the answer cannot use it.
#[utoipa::path(delete, path = "/service_tokens/{id}", operation_id = "revoke_service_token", tag = "Administration",
    params(
    ("id" = i64, Path, description = "The number of the token"),
), request_body = Option<Reauthentication>, responses(
    (status = 204, description = "It is revoked"),
    (status = 403, description = "Re-authentication needed (RFC 9470), or not an administrator"),
    (status = 400, description = "It is the token of the settings"),
    (status = 404, description = "No such token"),
    (status = 422, description = "The id is not an integer"),
))]
async fn revoke(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let id = context.param("id");
    api.admin(context).await?;
    let id = changeable(id)?;
    let typed: Reauthentication = context.optional_json().await?.unwrap_or_default();
    let admin = api.proven_admin(context, AuditEvent::ServiceTokenRevoked, typed.current_password).await?;
    match api.handles.services.revoke(&admin, id, context.origin()).await {
        Ok(()) => Ok(no_content()),
        Err(RevokeTokenError::Unknown) => Err(ApiError::UnknownServiceToken(id.to_string())),
        Err(RevokeTokenError::Revoked) => Err(api.revoked_admin(context).await),
        Err(RevokeTokenError::Unavailable(unavailable)) => Err(unavailable.into()),
    }
}

/// Parses the number of a token that administrators may change.
fn changeable(id: &str) -> Result<ServiceTokenId, ApiError> {
    match service_token_id(id)? {
        ServiceTokenId::BUILT_IN => {
            Err(ApiError::Refused("This service token is changed in the settings (SERVICE_TOKEN)".into()))
        }
        id => Ok(id),
    }
}

/// Validates the request for a new token. The error has everything that is wrong.
fn parse(request: &ServiceTokenRequest) -> Result<(ServiceName, ServiceScopes, Option<Timestamp>), ApiError> {
    let mut errors = Vec::new();
    let name = ServiceName::parse(&request.name);
    if name.is_none() {
        errors.push(FieldError::new("/name", "This must be 1 to 64 bytes without control characters"));
    }
    let mut wanted = Vec::new();
    for (n, scope) in request.scopes.iter().enumerate() {
        match ServiceScope::from_text(scope) {
            Some(scope) => wanted.push(scope),
            None => errors.push(FieldError::new(format!("/scopes/{n}"), "There is no such scope")),
        }
    }
    if request.scopes.is_empty() {
        errors.push(FieldError::new("/scopes", "There must be at least one scope"));
    }
    let expires_at = request.expires_at.as_deref().map(Timestamp::parse_rfc3339);
    if expires_at == Some(None) {
        errors.push(FieldError::new("/expires_at", "This must be a time such as 2026-01-31T09:00:00Z"));
    }
    match name {
        Some(name) if errors.is_empty() => Ok((name, wanted.into_iter().collect(), expires_at.flatten())),
        _ => Err(ApiError::Invalid(errors)),
    }
}

/// Reads `cursor` and `limit`. Ignores other parameters.
fn page(query: Option<&str>) -> Result<(Option<ServiceTokenId>, usize), ApiError> {
    let fields = form::parse(query.unwrap_or_default().as_bytes())?;
    let mut errors = Vec::new();
    let after = fields.get("cursor").map(|cursor| cursor.parse().ok().map(ServiceTokenId::new));
    if after == Some(None) {
        errors.push(FieldError::new("?cursor", "This is no cursor of this list"));
    }
    let limit = fields.get("limit").map_or(Ok(DEFAULT_LIMIT), |limit| limit.parse()).unwrap_or_default();
    if !(1..=MAX_LIMIT).contains(&limit) {
        errors.push(FieldError::new("?limit", "This must be an integer from 1 to 1000"));
    }
    if errors.is_empty() { Ok((after.flatten(), limit)) } else { Err(ApiError::Invalid(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s61_a_token_that_cannot_be_is_told_with_all_that_is_wrong() {
        let request = |name: &str, scopes: &[&str], end: Option<&str>| ServiceTokenRequest {
            name: name.to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            expires_at: end.map(str::to_owned),
            current_password: None,
        };
        assert!(parse(&request("billing", &["verify", "verify"], Some("2026-01-31T09:00:00Z"))).is_ok());
        let pointers = |request: &ServiceTokenRequest| match parse(request) {
            Err(ApiError::Invalid(errors)) => errors.into_iter().map(|error| error.pointer).collect(),
            other => panic!("{:?}", other.is_ok()),
        };
        let wrong: Vec<String> = pointers(&request("", &["verify", "root"], Some("soon")));
        assert_eq!(wrong, ["/name", "/scopes/1", "/expires_at"]);
        assert_eq!(pointers(&request("a", &[], None)), ["/scopes"]);
    }

    #[test]
    fn s61_a_page_has_its_bounds() {
        let read = |query: &str| page(Some(query)).ok();
        assert_eq!(page(None).unwrap(), (None, 100));
        assert_eq!(read("cursor=7&limit=1000&x=y"), Some((Some(ServiceTokenId::new(7)), 1000)));
        for bad in ["limit=0", "limit=1001", "limit=x", "limit=", "cursor", "cursor=x", "cursor=-1", "limit=1&limit=2"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
