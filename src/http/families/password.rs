//! `POST /password/check`: rates a password before it is used.

use doorward_actors::{OwnNames, PasswordReport, Secret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, json_reply};
use crate::http::error::ApiError;
use crate::http::fields::Fields;
use crate::http::routes::{Access, Class, RouteInfo};

/// A candidate password and the names of the account that it is for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordCheckRequest {
    /// At most 1,024 bytes.
    #[schema(value_type = String, format = Password, example = "quiet-lamp-tree")]
    password: Secret,
    /// The address of the account, if it is known.
    #[schema(format = Email, example = "ann@example.com", max_length = 254)]
    email: Option<String>,
    /// The nickname of the account, if it is known.
    #[schema(example = "ann", max_length = 64)]
    nickname: Option<String>,
}

/// The strength of a password.
#[derive(Serialize, ToSchema)]
struct PasswordStrength {
    /// Whether it would be accepted for an account with these names.
    acceptable: bool,
    /// How hard it is to guess: 0 (found at once) to 4 (very hard).
    #[schema(minimum = 0, maximum = 4)]
    score: u8,
    /// What is wrong with it; null if nothing is.
    warning: Option<String>,
    /// How to improve it.
    suggestions: Vec<String>,
    /// Whether it is in the service's list of breached passwords; null if there is no list.
    breached: Option<bool>,
}

impl From<PasswordReport> for PasswordStrength {
    fn from(report: PasswordReport) -> Self {
        let PasswordReport { weakness, score, warning, suggestions, breached } = report;
        // The rule that refuses the password comes first. But the estimator's advice says more than "too easy to guess".
        let warning = match weakness {
            Some(doorward_actors::WeakPassword::Guessable) | None => {
                warning.or_else(|| weakness.map(|weak| weak.to_string()))
            }
            Some(weak) => Some(weak.to_string()),
        };
        Self { acceptable: weakness.is_none(), score, warning, suggestions, breached }
    }
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![RouteInfo::new(__path_check, Access::Public, Class::Credential, |api, context| Box::pin(check(api, context)))]
}

/// Rate a password
///
/// Changes nothing and records nothing. The rules are those of registration and of a change of password, so a form can show the
/// result before it is sent.
#[utoipa::path(post, path = "/password/check", operation_id = "password_check", tag = "Account",
    request_body = PasswordCheckRequest,
    responses((status = 200, description = "How good it would be", body = PasswordStrength)))]
async fn check(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let typed: PasswordCheckRequest = context.json().await?;
    let mut fields = Fields::default();
    let email = typed.email.and_then(|email| fields.email(&email));
    let nickname = typed.nickname.and_then(|nickname| fields.nickname(&nickname));
    let Some(password) = fields.password("/password", typed.password) else { return Err(fields.into()) };
    fields.check()?;
    let report = api.handles.hasher.judge(password, OwnNames { email, nickname }).await?;
    Ok(json_reply(&PasswordStrength::from(report)))
}
