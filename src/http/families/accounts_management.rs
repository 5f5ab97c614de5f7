//! `/accounts_management`: administrators manage all accounts. Not rate-limited, so that an administrator can act during
//! an attack.

use doorward_actors::store::Page;
use doorward_actors::{Role, Secret, describe_idle};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, account_id, json_reply, json_reply_with};
use crate::http::error::{ApiError, FieldError};
use crate::http::fields::Fields;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::wire::{Message, RegisterRequest, WireLocale, WireRole, account_change, current_password, profile};
use doorward_actors::{AccountOverview, AdminChange, DeleteError, OwnChange, Password, RegisterError, UpdateError};

/// How many accounts a page has if the request does not say.
const DEFAULT_LIMIT: usize = 100;
/// The most accounts of a page: about 300 KB of body.
const MAX_LIMIT: usize = 1000;

/// An account as administrators see it.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are the interface's, and none excludes another")]
struct AccountObject<'a> {
    /// Never reused.
    #[schema(minimum = 1)]
    id: u64,
    nickname: &'a str,
    #[schema(format = Email)]
    email: &'a str,
    customer_account: &'a str,
    role: WireRole,
    lock: bool,
    email_verified: bool,
    /// Whether the password was in the list of breached passwords at the last login. A new password resets it.
    password_compromised: bool,
    /// The last activity, RFC 3339, UTC; null if there was none. The spelling is that of the established interface.
    #[schema(format = DateTime)]
    iddle_time: Option<String>,
    /// How long ago that was; null if there was none.
    #[schema(example = "5 min 30 sec")]
    idle_duration: Option<String>,
    /// Whether there is a live session.
    is_logged_in: bool,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// Says that no mail can be sent to the address. Only in the answer that creates an account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    warning: Option<&'static str>,
}

impl<'a> AccountObject<'a> {
    fn of(overview: &'a AccountOverview) -> Self {
        let account = &overview.account;
        Self {
            id: account.id.get(),
            nickname: account.nickname.as_str(),
            email: account.email.as_str(),
            customer_account: account.customer_account.as_str(),
            role: account.role.into(),
            lock: account.locked,
            email_verified: account.email_verified,
            password_compromised: account.password_compromised,
            iddle_time: overview.last_active_at.map(doorward_actors::Timestamp::to_rfc3339),
            idle_duration: overview.idle.map(describe_idle),
            is_logged_in: overview.live_sessions > 0,
            created_at: account.created_at.to_rfc3339(),
            warning: None,
        }
    }
}

account_change! {
    /// What to change. A member that is left out or null stays as it is. Lock, role and password affect live tokens at once.
    struct AccountChange {
        /// The caller's current password. Needed to change another account's role, email, password or passphrase, unless the caller
        /// logged in within `ADMIN_REAUTH_MINUTES`.
        current_password,
        role: Option<WireRole>,
        lock: Option<bool>,
    }
}

/// To delete another's account, administrators send their password or have logged in recently enough. Other members are
/// ignored, because the established interface ignores the body.
#[derive(Default, Deserialize, ToSchema)]
struct AccountDeletion {
    /// The caller's current password.
    #[schema(value_type = Option<String>, format = Password)]
    current_password: Option<Secret>,
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_list, Access::Admin, Class::Admin, |api, context| Box::pin(list(api, context))),
        RouteInfo::new(__path_create, Access::Admin, Class::Admin, |api, context| Box::pin(create(api, context))),
        RouteInfo::new(__path_show, Access::Admin, Class::Admin, |api, context| Box::pin(show(api, context))),
        RouteInfo::new(__path_change, Access::Admin, Class::Admin, |api, context| Box::pin(change(api, context))),
        RouteInfo::new(__path_delete, Access::Admin, Class::Admin, |api, context| Box::pin(delete(api, context))),
    ]
}

/// List accounts, by id
#[utoipa::path(get, path = "/accounts_management/", operation_id = "list_accounts", tag = "Administration",
    params(
    ("skip" = Option<u64>, Query, description = "How many to pass over (0)"),
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "How many to return (100), 1 to 1,000"),
), responses(
    (status = 200, description = "The accounts", body = [AccountObject<'_>]),
    (status = 422, description = "`skip` or `limit` is not possible"),
))]
async fn list(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.admin(context).await?;
    let accounts = api.handles.users.list(page(context.query())?).await?;
    Ok(json_reply(&accounts.iter().map(AccountObject::of).collect::<Vec<_>>()))
}

/// Create an account
///
/// Its role is `user`.
#[utoipa::path(post, path = "/accounts_management/", operation_id = "create_account", tag = "Administration",
    request_body = RegisterRequest, responses(
    (status = 201, description = "The account was made", body = AccountObject<'_>),
    (status = 400, description = "Weak password, or the email or nickname is taken"),
))]
async fn create(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.admin(context).await?;
    let registration = context.json::<RegisterRequest>().await?.parse(None)?;
    // Checked again: while the body arrived, the session may have ended and the role may have changed (S37, S38).
    let admin = api.admin(context).await?;
    let warning = api.warning_of(&registration.email)?;
    match api.handles.users.create_by_admin(&admin, registration, context.origin()).await {
        Ok(overview) => {
            Ok(json_reply_with(StatusCode::CREATED, &AccountObject { warning, ..AccountObject::of(&overview) }))
        }
        Err(RegisterError::Revoked) => Err(api.revoked_admin(context).await),
        Err(error) => Err(error.into()),
    }
}

/// Show an account
#[utoipa::path(get, path = "/accounts_management/{id}", operation_id = "show_account", tag = "Administration",
    params(
    ("id" = i64, Path, description = "The number of the account"),
), responses(
    (status = 200, description = "The account", body = AccountObject<'_>),
    (status = 404, description = "No such account"),
    (status = 422, description = "The id is not an integer"),
))]
async fn show(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let id = context.param("id");
    api.admin(context).await?;
    let id = account_id(id)?;
    let overview = api.handles.users.get(id).await?;
    overview.map(|found| json_reply(&AccountObject::of(&found))).ok_or(ApiError::UnknownAccount(id.to_string()))
}

/// Change an account
#[utoipa::path(put, path = "/accounts_management/{id}", operation_id = "change_account", tag = "Administration",
    params(
    ("id" = i64, Path, description = "The number of the account"),
), request_body = AccountChange, responses(
    (status = 200, description = "The account is changed", body = Message),
    (status = 400, description = "Weak password, or the email or nickname is taken"),
    (status = 403, description = "Re-authentication needed (RFC 9470), or not an administrator"),
    (status = 404, description = "No such account"),
    (status = 409, description = "The last administrator"),
))]
async fn change(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let id = context.param("id");
    api.admin(context).await?;
    let id = account_id(id)?;
    let typed: AccountChange = context.json().await?;
    let (role, locked) = (typed.role.map(Role::from), typed.lock);
    let (own, current) = typed.parse()?;
    let change = AdminChange { own, role, locked };
    // Checked again: while the body arrived, the session may have ended and the role may have changed (S37, S38).
    let admin = api.admin(context).await?;
    let warning = change.own.email.as_ref().map(|email| api.warning_of(email)).transpose()?.flatten();
    match api.handles.users.update_by_admin(&admin, id, change, current, context.origin()).await {
        Ok(()) => {
            let message = Message::new(format!("User details successfully updated for user {id}"));
            Ok(json_reply(&message.warning(warning)))
        }
        Err(UpdateError::Unknown) => Err(ApiError::UnknownAccount(id.to_string())),
        Err(UpdateError::Revoked) => Err(api.revoked_admin(context).await),
        Err(error) => Err(error.into()),
    }
}

/// Delete an account
#[utoipa::path(delete, path = "/accounts_management/{id}", operation_id = "delete_account", tag = "Administration",
    params(
    ("id" = i64, Path, description = "The number of the account"),
), request_body = Option<AccountDeletion>, responses(
    (status = 200, description = "The account is gone", body = Message),
    (status = 400, description = "Administrators cannot delete their own accounts"),
    (status = 403, description = "Re-authentication needed (RFC 9470), or not an administrator"),
    (status = 404, description = "No such account"),
    (status = 409, description = "The last administrator"),
    (status = 422, description = "The id is not an integer"),
))]
async fn delete(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let id = context.param("id");
    api.admin(context).await?;
    let id = account_id(id)?;
    let typed: AccountDeletion = context.optional_json().await?.unwrap_or_default();
    let current = current_password(typed.current_password)?;
    // Checked again: while the body arrived, the session may have ended and the role may have changed (S37, S38).
    let admin = api.admin(context).await?;
    match api.handles.users.delete_by_admin(&admin, id, current, context.origin()).await {
        Ok(()) => Ok(json_reply(&Message::new(format!("User {id} has been successfully deleted")))),
        Err(DeleteError::Unknown) => Err(ApiError::UnknownAccount(id.to_string())),
        Err(DeleteError::Revoked) => Err(api.revoked_admin(context).await),
        Err(error) => Err(error.into()),
    }
}

/// Reads `skip` and `limit`. Ignores other parameters. If a name is there twice, both must be valid and the last one counts.
/// A name without a value counts as empty, which is invalid.
fn page(query: Option<&str>) -> Result<Page, ApiError> {
    let mut page = Page { skip: 0, limit: DEFAULT_LIMIT };
    let mut errors = Vec::new();
    for (name, value) in query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
        match name {
            "skip" => match value.parse() {
                Ok(skip) => page.skip = skip,
                Err(_) => errors.push(FieldError::new("?skip", "This must be an integer of at least 0")),
            },
            "limit" => match value.parse() {
                Ok(limit @ 1..=MAX_LIMIT) => page.limit = limit,
                _ => errors.push(FieldError::new("?limit", "This must be an integer from 1 to 1000")),
            },
            _ => {}
        }
    }
    if errors.is_empty() { Ok(page) } else { Err(ApiError::Invalid(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_bounds() {
        let read = |query: &str| page(Some(query)).ok().map(|page| (page.skip, page.limit));
        assert_eq!(page(None).unwrap(), Page { skip: 0, limit: 100 });
        assert_eq!(read("skip=5&limit=1000&x=y"), Some((5, 1000)));
        for bad in [
            "skip=-1",
            "skip=x",
            "skip=",
            "skip",
            "limit",
            "limit=0",
            "limit=1001",
            "limit=1.5",
            "limit=99999999999999999999999",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
