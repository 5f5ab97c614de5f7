//! `POST /recovery/request` and `/recovery/confirm`: a new password for the person who receives the account's mail.

use doorward_actors::{MailedRecovery, MailedRecoveryError, Secret, TokenPurpose};
use hyper::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, json_reply, json_reply_with};
use crate::http::error::{ApiError, FieldError};
use crate::http::fields::Fields;
use crate::http::links::{opened_again, used_link};
use crate::http::pages::{self, Complaint};
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::wire::AddressRequest;
use crate::http::wire::{Message, PASSWORD_CHANGED};

/// The purposes of the links to this page.
const RECOVERS: [TokenPurpose; 1] = [TokenPurpose::ResetPassword];

/// A recovery by the token of a mail.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MailedRecoveryRequest {
    /// The token of the link. It works once.
    #[schema(value_type = String, format = Password)]
    token: Secret,
    /// The new password. The rules of registration apply.
    #[schema(value_type = String, format = Password, example = "quiet-lamp-forest")]
    new_password: Secret,
    /// The account's passphrase, if the service asks for it too; otherwise a new one.
    #[schema(value_type = Option<String>, format = Password, min_length = 1, example = "my first car was blue")]
    passphrase: Option<Secret>,
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_request, Access::Public, Class::Account, |api, context| Box::pin(request(api, context))),
        RouteInfo::page("/recovery/confirm", |api, context| Box::pin(ask(api, context))),
        RouteInfo::new(__path_confirm, Access::Public, Class::Credential, |api, context| {
            Box::pin(confirm(api, context))
        })
        .or_form(),
    ]
}

/// Ask for a mail to set a new password
///
/// The answer is the same whether the address has an account or not (S12). If the service does not offer recovery by mail, only an
/// account whose address was never verified or whose password was undone gets a mail.
#[utoipa::path(post, path = "/recovery/request", operation_id = "request_recovery", tag = "Account",
    request_body = AddressRequest, responses(
    (status = 202, description = "If the address has an account, a mail is on its way", body = Message),
))]
async fn request(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let email = context.json::<AddressRequest>().await?.parse()?;
    api.handles.users.request_recovery(email, context.origin()).await?;
    let message = "If this address has an account, a mail is on its way to it.";
    Ok(json_reply_with(StatusCode::ACCEPTED, &Message::new(message)))
}

/// Shows the page with the form for a new password. Opening it changes nothing (S29).
async fn ask(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.anyone(context)?;
    form(api, &context.link_token(), None).await
}

/// Set a new password by mail
///
/// By the token that was mailed and, if the service asks for both, by the passphrase too. Every session of the account ends.
/// If the passphrase was not asked for, the old one is removed, and the request may set a new one. The answer opens no
/// session. A page with a form for it is at the same path.
#[utoipa::path(post, path = "/recovery/confirm", operation_id = "confirm_recovery", tag = "Account",
    request_body = MailedRecoveryRequest, responses(
    (status = 200, description = "The password is changed", body = Message),
    (status = 400, description = "The token is not good, whatever the cause; a wrong passphrase; or a weak password"),
))]
async fn confirm(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.anyone(context)?;
    let typed: MailedRecoveryRequest = context.json_or_form().await?;
    let (token, new_password) = (typed.token.clone(), typed.new_password.clone());
    match (recover(api, context, typed).await, context.is_form()) {
        (Ok(()), true) => Ok(pages::password_changed(context.page_language())),
        (Ok(()), false) => Ok(json_reply(&Message::new(PASSWORD_CHANGED))),
        // After a typing error the form is shown again. The token is still valid.
        (Err(Failure { error, complaint: Some(complaint) }), true) => {
            form(api, &token, Some((complaint, error.status()))).await
        }
        (Err(Failure { error, .. }), true) if error == ApiError::BAD_TOKEN => {
            sent_again(api, context, token, new_password).await
        }
        (Err(Failure { error, .. }), _) => Err(error),
    }
}

/// Answers a form whose link is no longer valid. If the link was used a moment ago, the page says that this worked or, if the
/// form has another password, that the first one counts. If the link was used earlier, or the passwords cannot be
/// compared, the page says what the link did.
async fn sent_again(
    api: &Api,
    context: &RequestContext,
    token: Secret,
    new_password: Secret,
) -> Result<Response, ApiError> {
    let (link, locale) = (used_link(api, &token, &RECOVERS).await?, context.page_language());
    let password = Fields::default().password("/new_password", new_password).filter(|_| link.is_recent);
    let Some(password) = password else { return Ok(pages::used(locale, &link)) };
    Ok(match api.handles.users.repeats_recovery(token, password, context.origin()).await {
        Ok(true) => pages::done_again(locale, &link),
        Ok(false) => pages::password_kept(locale),
        Err(_) => pages::used(locale, &link),
    })
}

/// Why there is no new password: the error for programs, and the complaint for people who can correct it on the page.
struct Failure {
    error: ApiError,
    complaint: Option<Complaint>,
}

async fn recover(api: &Api, context: &RequestContext, typed: MailedRecoveryRequest) -> Result<(), Failure> {
    let mut fields = Fields::default();
    let new_password = fields.password("/new_password", typed.new_password);
    let passphrase = typed.passphrase.as_ref().map(|typed| fields.passphrase(typed.expose()));
    let Some(new_password) = new_password else {
        return Err(Failure { error: fields.into(), complaint: Some(Complaint::PasswordTooLong) });
    };
    if passphrase.as_ref().is_some_and(Option::is_none) {
        let blank = typed.passphrase.is_some_and(|typed| typed.expose().trim().is_empty());
        let complaint = if blank { Complaint::PassphraseMissing } else { Complaint::PassphraseTooLong };
        return Err(Failure { error: fields.into(), complaint: Some(complaint) });
    }
    let attempt = MailedRecovery { token: typed.token, new_password, passphrase: passphrase.flatten() };
    Ok(api.handles.users.recover_by_mail(attempt, context.origin()).await?)
}

/// Shows the page with the form and, if the form was sent before, what was wrong with it.
async fn form(api: &Api, token: &Secret, again: Option<(Complaint, StatusCode)>) -> Result<Response, ApiError> {
    let Some(about) = api.handles.users.preview_token(token.expose()).await? else {
        return opened_again(api, token, &RECOVERS).await;
    };
    if !RECOVERS.contains(&about.purpose) {
        return Err(ApiError::BAD_TOKEN);
    }
    let (complaint, status) = again.map_or((None, StatusCode::OK), |(complaint, status)| (Some(complaint), status));
    Ok(pages::new_password(status, &about, token.expose(), complaint))
}

impl From<MailedRecoveryError> for Failure {
    fn from(error: MailedRecoveryError) -> Self {
        let (error, complaint) = match error {
            MailedRecoveryError::BadToken => (ApiError::BAD_TOKEN, None),
            MailedRecoveryError::NoMatch => (ApiError::NO_MATCH, Some(Complaint::NoMatch)),
            MailedRecoveryError::PassphraseNeeded => {
                let missing = FieldError::new("/passphrase", "This field is required");
                (ApiError::Invalid(vec![missing]), Some(Complaint::PassphraseMissing))
            }
            MailedRecoveryError::Weak(weak) => (ApiError::weak(weak), Some(Complaint::Weak(weak))),
            MailedRecoveryError::Limited(limited) => (limited.into(), None),
            MailedRecoveryError::Unavailable(unavailable) => (unavailable.into(), None),
        };
        Self { error, complaint }
    }
}
