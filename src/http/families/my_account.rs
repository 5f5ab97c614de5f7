//! `/my_account`: owners manage their own account.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, json_reply};
use crate::http::error::ApiError;
use crate::http::fields::Fields;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::wire::{Detail, Message, Reauthentication, WireLocale, account_change, profile};
use doorward_actors::{DeleteError, Email, OwnChange, Password, ProofError, Secret, UpdateError};

mod export;

/// An account as its owner sees it.
#[derive(Serialize, ToSchema)]
struct MyAccount<'a> {
    nickname: &'a str,
    #[schema(format = Email)]
    email: &'a str,
    customer_account: &'a str,
    email_verified: bool,
    /// The new address, until the owner confirms it by mail; null if no change is pending.
    #[schema(format = Email)]
    pending_email: Option<&'a str>,
    /// The language of its mails.
    locale: WireLocale,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
}

account_change! {
    /// What to change. A member that is left out or null stays as it is. A new email, password or passphrase needs
    /// `current_password` or a login within the last few minutes.
    struct MyAccountChange {
        /// The current password.
        current_password,
    }
}

/// The account is changed.
#[derive(Serialize, ToSchema)]
struct Changed<'a> {
    #[serde(flatten)]
    message: Message,
    /// After a change of password: the new refresh token of this session. Its earlier ones are revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, format = Password, example = "dwr_…")]
    refresh_token: Option<&'a str>,
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_show, Access::Bearer, Class::Account, |api, context| Box::pin(show(api, context))),
        RouteInfo::new(__path_change, Access::Bearer, Class::Account, |api, context| Box::pin(change(api, context))),
        RouteInfo::new(__path_delete, Access::Bearer, Class::Account, |api, context| Box::pin(delete(api, context))),
        RouteInfo::new(export::__path_export, Access::Bearer, Class::Events, |api, context| {
            Box::pin(export::export(api, context))
        }),
    ]
}

/// Show my account
#[utoipa::path(get, path = "/my_account/", operation_id = "show_my_account", tag = "Account",
    responses(
    (status = 200, description = "The account of the caller", body = MyAccount<'_>),
))]
async fn show(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let account = api.user(context).await?.account;
    Ok(json_reply(&MyAccount {
        nickname: account.nickname.as_str(),
        email: account.email.as_str(),
        customer_account: account.customer_account.as_str(),
        email_verified: account.email_verified,
        pending_email: account.pending_email.as_ref().map(Email::as_str),
        locale: account.locale.into(),
        created_at: account.created_at.to_rfc3339(),
    }))
}

/// Change my account
///
/// A new password ends all other sessions and revokes the refresh tokens of this one, which gets a new one. After it, the next
/// sensitive change needs `current_password`. If mail is set up, a new e-mail address takes effect once the link that
/// is mailed to it is used.
#[utoipa::path(put, path = "/my_account/", operation_id = "change_my_account", tag = "Account",
    request_body = MyAccountChange, responses(
    (status = 200, description = "The account is changed", body = Changed<'_>),
    (status = 400, description = "Weak password, or the email or nickname is taken"),
    (status = 403, description = "Re-authentication needed (RFC 9470)"),
))]
async fn change(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.user(context).await?;
    let typed: MyAccountChange = context.json().await?;
    // Checked again but not counted again: while the body arrived, the session may have ended (S37, S38).
    let principal = api.authenticate(context).await?;
    let (change, current) = typed.parse()?;
    let warning = change.email.as_ref().map(|email| api.warning_of(email)).transpose()?.flatten();
    match api.handles.users.update_own(&principal, change, current, context.origin()).await {
        Ok(changed) => Ok(json_reply(&Changed {
            message: Message::new("Account details updated successfully").warning(warning),
            refresh_token: changed.refresh_token.as_ref().map(Secret::expose),
        })),
        // The account was deleted meanwhile, so the token is no longer valid.
        Err(UpdateError::Unknown) => Err(ApiError::Unauthenticated { token_sent: true }),
        Err(error) => Err(error.into()),
    }
}

/// Delete my account
///
/// Its sessions end. Its number is never reused.
#[utoipa::path(delete, path = "/my_account/delete", operation_id = "delete_my_account", tag = "Account",
    request_body = Option<Reauthentication>, responses(
    (status = 200, description = "The account is gone", body = Detail),
    (status = 403, description = "Re-authentication needed (RFC 9470)"),
    (status = 409, description = "The last administrator, while other accounts exist"),
))]
async fn delete(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.user(context).await?;
    let typed: Reauthentication = context.optional_json().await?.unwrap_or_default();
    // Checked again but not counted again: while the body arrived, the session may have ended (S37, S38).
    let principal = api.authenticate(context).await?;
    let current = typed.parse()?;
    match api.handles.users.delete_own(&principal, current, context.origin()).await {
        Ok(()) => Ok(json_reply(&Detail { detail: "Account deleted successfully" })),
        Err(DeleteError::Unknown) => Err(ApiError::Unauthenticated { token_sent: true }),
        Err(error) => Err(error.into()),
    }
}

impl From<UpdateError> for ApiError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Unknown => Self::NotFound,
            UpdateError::Revoked => Self::Unauthenticated { token_sent: true },
            UpdateError::Weak(weak) => Self::weak(weak),
            UpdateError::EmailTaken => Self::EMAIL_TAKEN,
            UpdateError::NicknameTaken => Self::NICKNAME_TAKEN,
            UpdateError::CustomerAccountNotAllowed => Self::CUSTOMER_ACCOUNT_NOT_ALLOWED,
            UpdateError::ReauthenticationNeeded(within) => Self::ReauthenticationNeeded(within),
            UpdateError::LastAdmin => Self::LastAdmin,
            UpdateError::Limited(limited) => limited.into(),
            UpdateError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<ProofError> for ApiError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::ReauthenticationNeeded(within) => Self::ReauthenticationNeeded(within),
            ProofError::Limited(limited) => limited.into(),
            ProofError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl From<DeleteError> for ApiError {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::Unknown => Self::NotFound,
            DeleteError::Revoked => Self::Unauthenticated { token_sent: true },
            DeleteError::OwnAccount => Self::Refused("Administrators cannot delete their own accounts".into()),
            DeleteError::ReauthenticationNeeded(within) => Self::ReauthenticationNeeded(within),
            DeleteError::LastAdmin => Self::LastAdmin,
            DeleteError::Limited(limited) => limited.into(),
            DeleteError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}
