//! `POST /password/check`: how good a password would be, before anybody has it.

use std::sync::Arc;

use doorward_actors::{OwnNames, PasswordReport, Secret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::Filter as _;
use warp::reply::Response;

use super::error::ApiError;
use super::extract::{Payload, RequestContext, context, json_reply, payload};
use super::fields::Fields;
use super::{Api, Family};

/// A password that somebody thinks of, and the names of the account that it would be for.
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

/// How good a password would be.
#[derive(Serialize, ToSchema)]
struct PasswordStrength {
    /// Whether it would be taken for an account with these names.
    acceptable: bool,
    /// How soon a guesser would find it: 0 (at once) to 4 (hardly ever).
    #[schema(minimum = 0, maximum = 4)]
    score: u8,
    /// What is wrong with it; null if nothing is.
    warning: Option<String>,
    /// What would make it better.
    suggestions: Vec<String>,
    /// Whether it is on the service's list of breached passwords; null where there is none.
    breached: Option<bool>,
}

impl From<PasswordReport> for PasswordStrength {
    fn from(report: PasswordReport) -> Self {
        let PasswordReport { weakness, score, warning, suggestions, breached } = report;
        // What decides comes first; the advice says more than "too easy to guess" does.
        let warning = match weakness {
            Some(doorward_actors::WeakPassword::Guessable) | None => {
                warning.or_else(|| weakness.map(|weak| weak.to_string()))
            }
            Some(weak) => Some(weak.to_string()),
        };
        Self { acceptable: weakness.is_none(), score, warning, suggestions, breached }
    }
}

pub(super) fn routes(api: &Arc<Api>) -> Family {
    let api = Arc::clone(api);
    warp::path!("password" / "check")
        .and(warp::post())
        .and(context())
        .and(payload())
        .then(move |context: Arc<RequestContext>, payload| {
            let api = Arc::clone(&api);
            async move { api.admit(&context, check(&api, &context, payload)).await }
        })
        .boxed()
}

/// Ask how good a password would be
///
/// Makes nothing, and puts nothing on record. What registration and a change of the password judge by, so that a form can say it
/// beforehand.
#[utoipa::path(post, path = "/password/check", operation_id = "password_check", tag = "Account",
    request_body = PasswordCheckRequest,
    responses((status = 200, description = "How good it would be", body = PasswordStrength)))]
async fn check(api: &Api, context: &RequestContext, payload: Payload) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let typed: PasswordCheckRequest = context.json(payload).await?;
    let mut fields = Fields::default();
    let email = typed.email.and_then(|email| fields.email(&email));
    let nickname = typed.nickname.and_then(|nickname| fields.nickname(&nickname));
    let Some(password) = fields.password("/password", typed.password) else { return Err(fields.into()) };
    fields.check()?;
    let report = api.handles.hasher.judge(password, OwnNames { email, nickname }).await?;
    Ok(json_reply(&PasswordStrength::from(report)))
}
