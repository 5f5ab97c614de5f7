//! `POST /register`: creates an account.

use hyper::StatusCode;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, json_reply_with};
use crate::http::error::ApiError;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::wire::Message;
use crate::http::wire::{AccountSummary, RegisterRequest};
use doorward_actors::{RegisterError, Registered};

/// Does not reveal whether the address had an account.
const CONCEALED: &str = "If this address can be registered, a mail is on its way to it.";

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![RouteInfo::new(__path_register, Access::Public, Class::Credential, |api, context| {
        Box::pin(register(api, context))
    })]
}

/// Create an account
///
/// The first account of a new service becomes its administrator, if the service is set up for this. A service that is set
/// up not to reveal which addresses have an account answers 202, whether the address had one or not.
#[utoipa::path(post, path = "/register", tag = "Account", request_body = RegisterRequest, responses(
    (status = 201, description = "The account was made", body = AccountSummary<'_>),
    (status = 202, description = "Whether the account was made is told by mail", body = Message),
    (status = 400, description = "Weak password, or the email or nickname is taken"),
))]
async fn register(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let registration = context.json::<RegisterRequest>().await?.parse(context.language())?;
    let warning = api.warning_of(&registration.email)?;
    Ok(match api.handles.users.register(registration, context.origin()).await? {
        Registered::Created(account) => {
            json_reply_with(StatusCode::CREATED, &AccountSummary::of(&account).warning(warning))
        }
        Registered::Concealed => json_reply_with(StatusCode::ACCEPTED, &Message::new(CONCEALED).warning(warning)),
    })
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Revoked => Self::Unauthenticated { token_sent: true },
            RegisterError::Weak(weak) => Self::weak(weak),
            RegisterError::EmailTaken => Self::EMAIL_TAKEN,
            RegisterError::NicknameTaken => Self::NICKNAME_TAKEN,
            RegisterError::CustomerAccountNotAllowed => Self::CUSTOMER_ACCOUNT_NOT_ALLOWED,
            RegisterError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}
