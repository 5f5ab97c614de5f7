//! `POST /register`: creates an account.

use std::sync::Arc;

use doorward_actors::{Account, Locale, Secret};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::Filter as _;
use warp::reply::Response;

use super::error::ApiError;
use super::extract::{Payload, RequestContext, context, json_reply_with, payload};
use super::fields::Fields;
use super::recovery::Message;
use super::{Api, Family};
use doorward_actors::{RegisterError, Registered, Registration};

/// Does not reveal whether the address had an account.
const CONCEALED: &str = "If this address can be registered, a mail is on its way to it.";

/// A new account. All members except `customer_account` and `locale` are required.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterRequest {
    /// Unique. Case is ignored.
    #[schema(format = Email, example = "ann@example.com", max_length = 254)]
    email: String,
    /// Unique.
    #[schema(example = "ann", min_length = 1, max_length = 64)]
    nickname: String,
    /// At least 15 characters, or 8 with upper case, lower case, digit and special; not easy to guess. At most 1,024
    /// bytes.
    #[schema(value_type = String, format = Password, example = "quiet-lamp-tree")]
    password: Secret,
    /// Recovers the account if the password is lost. Case and spacing are ignored. At most 1,024 bytes.
    #[schema(value_type = String, format = Password, min_length = 1, example = "my first car was blue")]
    passphrase: Secret,
    /// Only `none` unless the service lets users choose.
    #[schema(example = "none", max_length = 64)]
    customer_account: Option<String>,
    /// The language of its mails. If left out: the one that `Accept-Language` prefers, else the operator's.
    locale: Option<WireLocale>,
}

/// A language of mails.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Locale)]
pub(super) enum WireLocale {
    En,
    De,
    Fr,
    Es,
    Ro,
}

impl From<WireLocale> for Locale {
    fn from(locale: WireLocale) -> Self {
        match locale {
            WireLocale::En => Self::En,
            WireLocale::De => Self::De,
            WireLocale::Fr => Self::Fr,
            WireLocale::Es => Self::Es,
            WireLocale::Ro => Self::Ro,
        }
    }
}

impl From<Locale> for WireLocale {
    fn from(locale: Locale) -> Self {
        match locale {
            Locale::En => Self::En,
            Locale::De => Self::De,
            Locale::Fr => Self::Fr,
            Locale::Es => Self::Es,
            Locale::Ro => Self::Ro,
        }
    }
}

impl RegisterRequest {
    /// Parses the registration. Its language is `preferred` if the body names none.
    pub(super) fn parse(self, preferred: Option<Locale>) -> Result<Registration, ApiError> {
        let mut fields = Fields::default();
        let email = fields.email(&self.email);
        let nickname = fields.nickname(&self.nickname);
        let password = fields.password("/password", self.password);
        let passphrase = fields.passphrase(self.passphrase.expose());
        let customer_account = self.customer_account.and_then(|plan| fields.customer_account(&plan));
        match (email, nickname, password, passphrase, fields.check()) {
            (Some(email), Some(nickname), Some(password), Some(passphrase), Ok(())) => {
                let locale = self.locale.map(Locale::from).or(preferred);
                Ok(Registration { email, nickname, password, passphrase, customer_account, locale })
            }
            (.., Err(wrong)) => Err(wrong),
            // A field that is missing here has left an error in `fields`.
            (.., Ok(())) => Err(ApiError::Internal),
        }
    }
}

/// The names of an account.
#[derive(Serialize, ToSchema)]
pub(super) struct AccountSummary<'a> {
    /// Never reused.
    #[schema(minimum = 1)]
    id: u64,
    nickname: &'a str,
    #[schema(format = Email)]
    email: &'a str,
    /// Says that no mail can be sent to the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    warning: Option<&'static str>,
}

impl<'a> AccountSummary<'a> {
    pub(super) fn of(account: &'a Account) -> Self {
        Self { id: account.id.get(), nickname: account.nickname.as_str(), email: account.email.as_str(), warning: None }
    }
}

pub(super) fn routes(api: &Arc<Api>) -> Family {
    let api = Arc::clone(api);
    warp::path!("register")
        .and(warp::post())
        .and(context())
        .and(payload())
        .then(move |context: Arc<RequestContext>, payload| {
            let api = Arc::clone(&api);
            async move { api.admit(&context, register(&api, &context, payload)).await }
        })
        .boxed()
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
async fn register(api: &Api, context: &RequestContext, payload: Payload) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let registration = context.json::<RegisterRequest>(payload).await?.parse(context.language())?;
    let warning = api.warning_of(&registration.email)?;
    Ok(match api.handles.users.register(registration, context.origin()).await? {
        Registered::Created(account) => {
            json_reply_with(StatusCode::CREATED, &AccountSummary { warning, ..AccountSummary::of(&account) })
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
