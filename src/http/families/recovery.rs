//! `POST /recovery`: sets a new password for a user who knows the passphrase.

use serde::Deserialize;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, json_reply};
use crate::http::error::ApiError;
use crate::http::fields::Fields;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::wire::{Message, PASSWORD_CHANGED};
use doorward_actors::{RecoverError, RecoveryAttempt, Secret};

/// A recovery by passphrase.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RecoveryRequest {
    /// The address of the account.
    #[schema(format = Email, example = "ann@example.com", max_length = 254)]
    email: String,
    /// The passphrase of the account. Case and spacing are ignored.
    #[schema(value_type = String, format = Password, min_length = 1, example = "my first car was blue")]
    passphrase: Secret,
    /// The new password. The rules of registration apply.
    #[schema(value_type = String, format = Password, example = "quiet-lamp-forest")]
    new_password: Secret,
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![RouteInfo::new(__path_recover, Access::Public, Class::Credential, |api, context| {
        Box::pin(recover(api, context))
    })]
}

/// Set a new password by passphrase
///
/// Every session of the account ends. The answer opens no session.
#[utoipa::path(post, path = "/recovery", tag = "Account", request_body = RecoveryRequest, responses(
    (status = 200, description = "The password is changed", body = Message),
    (status = 400, description = "Entered details do not match, the same for unknown accounts; a weak password; or recovery by passphrase is not offered"),
))]
async fn recover(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let typed: RecoveryRequest = context.json().await?;
    let mut fields = Fields::default();
    let email = fields.email(&typed.email);
    let passphrase = fields.passphrase(typed.passphrase.expose());
    let new_password = fields.password("/new_password", typed.new_password);
    let (Some(email), Some(passphrase), Some(new_password)) = (email, passphrase, new_password) else {
        return Err(fields.into());
    };
    let attempt = RecoveryAttempt { email, passphrase, new_password };
    api.handles.users.recover(attempt, context.origin()).await?;
    Ok(json_reply(&Message::new(PASSWORD_CHANGED)))
}

impl From<RecoverError> for ApiError {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::NoMatch => Self::NO_MATCH,
            RecoverError::NotOffered => Self::Refused("Recovery by passphrase is not offered here".into()),
            RecoverError::Weak(weak) => Self::weak(weak),
            RecoverError::Limited(limited) => limited.into(),
            RecoverError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}
