//! `/.well-known/jwks.json`: the public keys, for services that check tokens themselves. `/keys`: all keys, for administrators.

use doorward_actors::{AuditEvent, KEY_SET_MAX_AGE, KeyView, PublishedKeys, RotateError, Secret, Timestamp};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue};
use serde::{Deserialize, Serialize};
use std::future::ready;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::closed_sets;
use crate::http::edge::extract::{RequestContext, json_reply};
use crate::http::error::ApiError;
use crate::http::routes::{Access, Class, RouteInfo};

/// All keys, the newest first. There are never more than 32, so there is one page.
#[derive(Serialize, ToSchema)]
struct KeyList {
    keys: Vec<Key>,
    /// Always null.
    next: Option<String>,
    /// After how many days a key pair gives way to a new one; null if it never does.
    rotation_days: Option<u64>,
}

/// A key and its state, without the key material.
#[derive(Serialize, ToSchema)]
struct Key {
    /// The id of the key. For a key pair: the RFC 7638 thumbprint, which tokens have as `kid`. The id of a secret is in no token.
    #[schema(example = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")]
    kid: String,
    #[schema(value_type = closed_sets::SigningAlgorithm)]
    algorithm: &'static str,
    #[schema(value_type = closed_sets::KeyState)]
    state: &'static str,
    /// Whether it is in `/.well-known/jwks.json`. A secret never is.
    published: bool,
    /// Whether its tokens can be checked. False for an earlier `SECRET_KEY` that is not set as `SECRET_KEY_PREVIOUS`.
    accepted: bool,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    signs_from: String,
    /// When another key replaces it, if one does. RFC 3339, UTC.
    #[schema(format = DateTime)]
    retired_at: Option<String>,
    /// Until when its tokens are accepted, once its replacement is scheduled. RFC 3339, UTC.
    #[schema(format = DateTime)]
    accepted_until: Option<String>,
}

impl Key {
    fn of(view: &KeyView) -> Self {
        Self {
            kid: view.id.to_string(),
            algorithm: view.algorithm.as_str(),
            state: view.state.as_str(),
            published: !view.algorithm.is_symmetric(),
            accepted: view.at_hand,
            created_at: view.created_at.to_rfc3339(),
            signs_from: view.signs_from.to_rfc3339(),
            retired_at: view.retired_at.map(Timestamp::to_rfc3339),
            accepted_until: view.accepted_until.map(Timestamp::to_rfc3339),
        }
    }
}

/// How to rotate.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KeyRotation {
    /// Whether the present key is compromised. Then the new key signs at once, and all other keys are removed. The tokens
    /// that they signed become invalid.
    compromised: Option<bool>,
    /// The caller's current password; needed unless they logged in within `ADMIN_REAUTH_MINUTES`.
    #[schema(value_type = Option<String>, format = Password)]
    current_password: Option<Secret>,
}

/// The public keys (RFC 7517).
#[derive(Serialize, ToSchema)]
struct KeySet {
    /// Each with `kty`, `use`, `alg`, `kid` and the members of its type.
    keys: Vec<std::collections::BTreeMap<String, String>>,
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_list, Access::Admin, Class::Admin, |api, context| Box::pin(list(api, context))),
        RouteInfo::new(__path_rotate, Access::Admin, Class::Admin, |api, context| Box::pin(rotate(api, context))),
        RouteInfo::new(__path_published, Access::Public, Class::Static, |api, context| {
            Box::pin(ready(Ok(published(&api.handles.keys.published(), context.if_none_match()))))
        })
        .at_once(),
    ]
}

/// List the signing keys
#[utoipa::path(get, path = "/keys/", operation_id = "list_keys", tag = "Administration", responses(
    (status = 200, description = "The keys, the newest first", body = KeyList),
))]
async fn list(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.admin(context).await?;
    let keys = &api.handles.keys;
    let rotation_days = keys.rotation().map(|rotation| rotation.as_secs() / (24 * 3600));
    Ok(json_reply(&KeyList { keys: keys.list().iter().map(Key::of).collect(), next: None, rotation_days }))
}

/// Create a new signing key
///
/// It is published at once and signs a quarter of an hour later, so that services which check tokens know it by then. The answer
/// has the time. Until then, another request returns the same key.
#[utoipa::path(post, path = "/keys/rotate", operation_id = "rotate_keys", tag = "Administration",
    request_body(content = Option<KeyRotation>, description = "May be left out"),
    responses(
    (status = 200, description = "The new key", body = Key),
    (status = 403, description = "Re-authentication needed (RFC 9470), or not an administrator"),
    (status = 409, description = "Tokens are signed with `SECRET_KEY`, or there are 32 keys whose tokens are not over"),
))]
async fn rotate(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.admin(context).await?;
    let asked: KeyRotation = context.optional_json().await?.unwrap_or_default();
    let compromised = asked.compromised.unwrap_or(false);
    let event = if compromised { AuditEvent::KeyReplaced } else { AuditEvent::KeyRotated };
    let admin = api.proven_admin(context, event, asked.current_password).await?;
    match api.handles.keys.rotate(&admin, compromised, context.origin()).await {
        Ok(key) => Ok(json_reply(&Key::of(&key))),
        Err(RotateError::Refused(refusal)) => Err(ApiError::NotRotated(refusal)),
        Err(RotateError::Revoked) => Err(api.revoked_admin(context).await),
        Err(RotateError::Unavailable(unavailable)) => Err(unavailable.into()),
    }
}

/// The public keys
///
/// A JSON Web Key Set (RFC 7517) of the keys that sign access tokens now, those that will soon, and earlier ones until their tokens
/// have expired. It is empty if tokens are signed with a secret only.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "key_set", tag = "Services", params(
    ("If-None-Match" = Option<String>, Header, description = "`ETag` of the answer before: it is not sent again while it is the same"),
), responses(
    (status = 200, description = "The keys", body = KeySet, headers(("ETag" = String, description = "Names this state of the keys"))),
    (status = 304, description = "They are those of `If-None-Match`", headers(("ETag" = String, description = "Names this state of the keys"))),
))]
fn published(keys: &PublishedKeys, known: Option<&[u8]>) -> Response {
    let is_known = known.is_some_and(|known| names(known, &keys.etag));
    let mut response = if is_known { Response::default() } else { Response::new(keys.body.clone().into()) };
    let headers = response.headers_mut();
    // Clients that check the type expect this one. RFC 7517 §8.5 registers another, which not all of them know.
    if !is_known {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let max_age = format!("public, max-age={}", KEY_SET_MAX_AGE.as_secs());
    for (name, value) in [(CACHE_CONTROL, max_age.as_str()), (ETAG, keys.etag.as_str())] {
        // Digits and base64 are valid in a header.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    response
}

/// Whether `If-None-Match` contains this tag, by the weak comparison (RFC 9110 §13.1.2).
fn names(header: &[u8], etag: &str) -> bool {
    let tags = header.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    tags.map(|tag| tag.strip_prefix(b"W/").unwrap_or(tag)).any(|tag| tag == b"*" || tag == etag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_set_is_not_sent_again() {
        let keys = PublishedKeys { body: "{}".to_owned(), etag: "\"abc\"".to_owned() };
        for known in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            let answer = published(&keys, Some(known.as_bytes()));
            assert_eq!(
                (answer.status().as_u16(), answer.headers()[ETAG].to_str().unwrap()),
                (304, "\"abc\""),
                "{known}"
            );
            assert_eq!(answer.headers()[CACHE_CONTROL], "public, max-age=300");
        }
        for other in [None, Some("\"abcd\""), Some("abc"), Some("")] {
            assert_eq!(published(&keys, other.map(str::as_bytes)).status(), 200, "{other:?}");
        }
    }
}
