//! The endpoints that OAuth 2.0 services expect: introspection (RFC 7662), revocation (RFC 7009) and metadata (RFC 8414).

use doorward_actors::{AuthenticateError, Inspected, Principal, Secret, ServiceScope};
use serde::{Deserialize, Serialize};
use std::future::ready;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, json_reply};
use crate::http::error::ApiError;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::wire::WireRole;

/// A token to inspect or to revoke.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the form, which is read by its names")]
struct TokenForm {
    /// The token.
    #[schema(format = Password)]
    token: String,
    /// `access_token` or anything else: it is ignored.
    #[schema(nullable = false)]
    token_type_hint: Option<String>,
}

/// The claims of a token (RFC 7662 §2.2). For an inactive token the answer has only `active`.
#[derive(Default, Serialize, ToSchema)]
struct Introspection {
    /// Whether it is valid now.
    active: bool,
    /// Always `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "Bearer")]
    token_type: Option<&'static str>,
    /// The id of the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sub: Option<String>,
    /// The e-mail address, with which the user logs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    nickname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    role: Option<WireRole>,
    /// The session that the token belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    aud: Option<String>,
    /// The id of the token. Tokens that were issued before tokens had ids have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    jti: Option<String>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    iat: Option<i64>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    exp: Option<i64>,
}

impl Introspection {
    fn of(inspected: &Inspected) -> Self {
        let Inspected { principal, token_id, issued_at, issuer, audience } = inspected;
        let account = &principal.account;
        Self {
            active: true,
            token_type: Some("Bearer"),
            sub: Some(account.id.to_string()),
            username: Some(account.email.as_str().to_owned()),
            nickname: Some(account.nickname.as_str().to_owned()),
            role: Some(account.role.into()),
            sid: Some(principal.session.to_string()),
            iss: Some(issuer.clone()),
            aud: Some(audience.clone()),
            jti: token_id.map(|name| name.to_string()),
            iat: Some(issued_at.as_seconds()),
            exp: Some(principal.expires_at.as_seconds()),
        }
    }
}

/// The capabilities of this server (RFC 8414 §2).
#[derive(Serialize, ToSchema)]
struct Metadata {
    issuer: String,
    /// The URL of the public keys. The set is empty while tokens are signed with a secret.
    jwks_uri: String,
    introspection_endpoint: String,
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
    revocation_endpoint: String,
    revocation_endpoint_auth_methods_supported: [&'static str; 1],
    /// Always empty, because there is no login by OAuth 2.0 here. If it were left out, default values would apply.
    grant_types_supported: [&'static str; 0],
    /// Always empty, for the same reason.
    response_types_supported: [&'static str; 0],
    service_documentation: String,
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_introspect, Access::Service(ServiceScope::Introspect), Class::Service, |api, context| {
            Box::pin(introspect(api, context))
        }),
        RouteInfo::new(__path_revoke, Access::Service(ServiceScope::Revoke), Class::Service, |api, context| {
            Box::pin(revoke(api, context))
        }),
        RouteInfo::new(__path_metadata, Access::Public, Class::Static, |api, _| Box::pin(ready(Ok(metadata(api)))))
            .at_once(),
    ]
}

/// Inspect a token
///
/// RFC 7662. It does not count as a use of the session. Needs the scope `introspect`.
#[utoipa::path(post, path = "/oauth2/introspect", operation_id = "introspect", tag = "Services",
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"), responses(
    (status = 200, description = "What is known of it; `{\"active\":false}` for any token that is not live", body = Introspection),
    (status = 400, description = "The form has no token, or the same name twice"),
    (status = 415, description = "The body is not a form"),
))]
async fn introspect(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.service(context, ServiceScope::Introspect).await?;
    let token = token(context).await?;
    // Checked again: while the body arrived, the service token may have been revoked.
    api.service(context, ServiceScope::Introspect).await?;
    match api.handles.sessions.inspect(token.expose()).await {
        Ok(inspected) => Ok(json_reply(&Introspection::of(&inspected))),
        Err(AuthenticateError::Dead) => Ok(json_reply(&Introspection::default())),
        Err(AuthenticateError::Unavailable(unavailable)) => Err(unavailable.into()),
    }
}

/// Revoke a token
///
/// RFC 7009. Before the answer, the session of an access or refresh token has ended, and all its tokens are revoked.
/// A token that is not valid is answered with 200, too. Needs the scope `revoke`.
#[utoipa::path(post, path = "/oauth2/revoke", operation_id = "revoke", tag = "Services",
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"), responses(
    (status = 200, description = "It is dead, if it ever lived"),
    (status = 400, description = "The form has no token, or the same name twice"),
    (status = 415, description = "The body is not a form"),
))]
async fn revoke(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.service(context, ServiceScope::Revoke).await?;
    let token = token(context).await?;
    let service = api.service(context, ServiceScope::Revoke).await?.service;
    // A token that is not valid counts as revoked (RFC 7009 §2.2).
    if let Some(principal) = holder(api, token).await? {
        context.speaks_for(principal.account.id);
        api.handles.sessions.revoke(&principal, service.name(), context.origin()).await?;
    }
    Ok(Response::default())
}

/// Returns the owner of the session that an access or refresh token belongs to.
async fn holder(api: &Api, token: Secret) -> Result<Option<Principal>, ApiError> {
    match api.handles.sessions.look(token.expose()).await {
        Ok(principal) => Ok(Some(principal)),
        Err(AuthenticateError::Dead) => Ok(api.handles.users.look_at_refresh(token).await?),
        Err(AuthenticateError::Unavailable(unavailable)) => Err(unavailable.into()),
    }
}

/// Show the capabilities of this server
///
/// RFC 8414. The issuer is `PUBLIC_URL`. Tokens name the same issuer if `TOKEN_ISSUER` has the same value.
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", operation_id = "oauth_metadata", tag = "Services",
    responses((status = 200, description = "The metadata", body = Metadata)))]
fn metadata(api: &Api) -> Response {
    let base = &api.rules.public_url;
    json_reply(&Metadata {
        issuer: base.clone(),
        jwks_uri: format!("{base}/.well-known/jwks.json"),
        introspection_endpoint: format!("{base}/oauth2/introspect"),
        introspection_endpoint_auth_methods_supported: ["client_secret_basic", "Bearer"],
        revocation_endpoint: format!("{base}/oauth2/revoke"),
        revocation_endpoint_auth_methods_supported: ["client_secret_basic"],
        grant_types_supported: [],
        response_types_supported: [],
        service_documentation: format!("{base}/docs"),
    })
}

/// Reads the token in the form.
async fn token(context: &RequestContext) -> Result<Secret, ApiError> {
    let fields = context.form().await.map_err(|error| match error {
        ApiError::Malformed(detail) => ApiError::InvalidRequest(detail),
        other => other,
    })?;
    let token = fields.into_iter().find(|(name, _)| name == "token").map(|(_, token)| token);
    token.ok_or(ApiError::InvalidRequest("The form has no token"))
}
