//! `/email`: confirms that mail to an address arrives, and undoes changes to an account. The token in the mail is enough; no
//! login is needed.
//!
//! `GET` is a page that asks. `POST` does it, from JSON or from the form of that page.

use doorward_actors::{ConfirmError, Confirmed, Secret, TokenPurpose};
use hyper::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, json_reply, json_reply_with};
use crate::http::error::ApiError;
use crate::http::links::{opened_again, used_link};
use crate::http::pages::{self, Topic};
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::wire::AddressRequest;
use crate::http::wire::Message;

/// The purposes of the links to each page.
const VERIFIES: [TokenPurpose; 2] = [TokenPurpose::VerifyAddress, TokenPurpose::ConfirmAddress];
const UNDOES: [TokenPurpose; 2] = [TokenPurpose::Undo, TokenPurpose::CancelAddressChange];

/// The token of a link in a mail.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    /// The token of the link. It works once.
    #[schema(value_type = String, format = Password)]
    token: Secret,
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::page("/email/verify", |api, context| Box::pin(ask(api, context))),
        RouteInfo::new(__path_verify, Access::Public, Class::Account, |api, context| Box::pin(verify(api, context)))
            .or_form(),
        RouteInfo::new(__path_resend, Access::Public, Class::Account, |api, context| Box::pin(resend(api, context))),
        RouteInfo::page("/email/cancel", |api, context| Box::pin(ask_cancel(api, context))),
        RouteInfo::new(__path_cancel, Access::Public, Class::Account, |api, context| Box::pin(cancel(api, context)))
            .or_form(),
    ]
}

/// Shows the page that asks whether to confirm the address. Opening it changes nothing (S29).
async fn ask(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let token = context.link_token();
    let Some(about) = api.handles.users.preview_token(token.expose()).await? else {
        return opened_again(api, &token, &VERIFIES).await;
    };
    let topic = match about.purpose {
        TokenPurpose::VerifyAddress => Topic::Verify,
        TokenPurpose::ConfirmAddress => Topic::Change,
        TokenPurpose::ResetPassword | TokenPurpose::CancelAddressChange | TokenPurpose::Undo => {
            return Err(ApiError::BAD_TOKEN);
        }
    };
    Ok(pages::question(topic, &about, token.expose()))
}

/// Confirm an e-mail address
///
/// The address of a new account or the new address of an account, by the token that was mailed to it. The token works
/// once. A page with a form for it is at the same path.
#[utoipa::path(post, path = "/email/verify", operation_id = "verify_email", tag = "Account", request_body = TokenRequest,
    responses(
    (status = 200, description = "`E-mail address verified` or `E-mail address changed`", body = Message),
    (status = 400, description = "The token is not good, whatever the cause; or another account has the address by now"),
))]
async fn verify(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let typed: TokenRequest = context.json_or_form().await?;
    match api.handles.users.confirm_email(typed.token.clone(), context.origin()).await {
        Ok(Confirmed::AddressVerified) => Ok(told(context, Topic::Verify, "E-mail address verified")),
        Ok(Confirmed::AddressChanged) => Ok(told(context, Topic::Change, "E-mail address changed")),
        Err(error) => not_done(api, context, &typed.token, &VERIFIES, error).await,
    }
}

/// Send the verification mail again
///
/// The answer is the same whether the address has an unverified account, a verified one or none (S12).
#[utoipa::path(post, path = "/email/verify/resend", operation_id = "resend_verification", tag = "Account",
    request_body = AddressRequest, responses(
    (status = 202, description = "If there is something to verify, a mail is on its way", body = Message),
))]
async fn resend(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let email = context.json::<AddressRequest>().await?.parse()?;
    api.handles.users.resend_verification(email, context.origin()).await?;
    let message = "If this address has an unverified account, a mail is on its way to it.";
    Ok(json_reply_with(StatusCode::ACCEPTED, &Message::new(message)))
}

/// Shows the page that asks whether to undo what was done since the mail.
async fn ask_cancel(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let token = context.link_token();
    match api.handles.users.preview_token(token.expose()).await? {
        Some(about) if UNDOES.contains(&about.purpose) => Ok(pages::question(Topic::Undo, &about, token.expose())),
        Some(_) => Err(ApiError::BAD_TOKEN),
        None => opened_again(api, &token, &UNDOES).await,
    }
}

/// Undo a change of e-mail address, password or passphrase
///
/// By the token of the mail about the change. The account gets back the address that the mail went to. Passwords and passphrases
/// set since then become unusable, and every session ends. A mail for choosing a new password is sent to that address.
/// A page with a form for it is at the same path.
#[utoipa::path(post, path = "/email/cancel", operation_id = "cancel_email_change", tag = "Account",
    request_body = TokenRequest, responses(
    (status = 200, description = "What was done since the mail is undone", body = Message),
    (status = 400, description = "The token is not good, whatever the cause"),
))]
async fn cancel(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let typed: TokenRequest = context.json_or_form().await?;
    match api.handles.users.undo(typed.token.clone(), context.origin()).await {
        Ok(()) => Ok(told(context, Topic::Undo, "Undone. A mail to set a new password is on its way.")),
        Err(error) => not_done(api, context, &typed.token, &UNDOES, error).await,
    }
}

/// Reports success in the format of the request: as a page for a form, else as JSON.
fn told(context: &RequestContext, topic: Topic, message: &'static str) -> Response {
    if context.is_form() { pages::done(context.page_language(), topic) } else { json_reply(&Message::new(message)) }
}

/// Answers a request that failed. If the link was used a moment ago, a form gets the page of success, because users press buttons
/// twice. If the link was used earlier, the page says what it did.
async fn not_done(
    api: &Api,
    context: &RequestContext,
    token: &Secret,
    purposes: &[TokenPurpose],
    error: ConfirmError,
) -> Result<Response, ApiError> {
    if error != ConfirmError::BadToken || !context.is_form() {
        return Err(error.into());
    }
    let (link, locale) = (used_link(api, token, purposes).await?, context.page_language());
    Ok(if link.is_recent { pages::done_again(locale, &link) } else { pages::used(locale, &link) })
}

impl From<ConfirmError> for ApiError {
    fn from(error: ConfirmError) -> Self {
        match error {
            ConfirmError::BadToken => Self::BAD_TOKEN,
            ConfirmError::EmailTaken => Self::EMAIL_TAKEN,
            ConfirmError::Limited(limited) => limited.into(),
            ConfirmError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}
