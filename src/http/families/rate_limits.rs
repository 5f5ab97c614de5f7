//! `/rate_limits`: the counters of clients and accounts, for administrators to list and to reset.

use doorward_actors::{AccountId, Email, LimitFilter, LimitKey, LimitView};
use serde::Serialize;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::closed_sets;
use crate::http::edge::extract::{RequestContext, json_reply, no_content};
use crate::http::error::{ApiError, FieldError, whole_seconds};
use crate::http::form;
use crate::http::routes::{Access, Class, RouteInfo};

/// How many counters a page has if the request does not say.
const DEFAULT_LIMIT: usize = 100;
/// The most counters of a page, of about 200 bytes each.
const MAX_LIMIT: usize = 1000;

/// A page of counters, ordered by key.
#[derive(Serialize, ToSchema)]
struct RateLimits {
    rate_limits: Vec<RateLimit>,
    /// The value of `cursor` for the next page; null on the last one.
    next: Option<String>,
}

/// A counter and its state.
#[derive(Serialize, ToSchema)]
struct RateLimit {
    /// The key for `DELETE /rate_limits/{key}`.
    #[schema(example = "login-address-192.0.2.7")]
    key: String,
    /// `public` and `private` count requests, all others failed attempts.
    #[schema(value_type = closed_sets::RateLimitPolicy)]
    policy: &'static str,
    /// The account, if the counter belongs to one that exists.
    account_id: Option<u64>,
    /// The client's address, or the network that counts as one client.
    address: Option<String>,
    /// How many requests are allowed, or how many failed attempts before the first wait.
    quota: u32,
    /// How many of them are left.
    remaining: u32,
    /// How many seconds the next request or attempt must wait; null if it need not.
    retry_after: Option<u64>,
}

impl RateLimit {
    fn of(view: &LimitView) -> Self {
        Self {
            key: view.key.to_string(),
            policy: view.key.policy(),
            account_id: view.account.map(AccountId::get),
            address: view.key.address().map(|address| address.to_string()),
            quota: view.quota,
            remaining: view.remaining,
            retry_after: Some(view.wait).filter(|wait| !wait.is_zero()).map(whole_seconds),
        }
    }
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_list, Access::Admin, Class::Admin, |api, context| Box::pin(list(api, context))),
        RouteInfo::new(__path_clear, Access::Admin, Class::Admin, |api, context| Box::pin(clear(api, context))),
    ]
}

/// List the counters of clients and accounts
#[utoipa::path(get, path = "/rate_limits/", operation_id = "list_rate_limits", tag = "Administration",
    params(
    ("policy" = Option<closed_sets::RateLimitPolicy>, Query, description = "Only this"),
    ("account" = Option<u64>, Query, minimum = 1, description = "Only what is counted by this account"),
    ("email" = Option<String>, Query, format = Email, description = "Only what is counted by this address, whether an account has it or not"),
    ("address" = Option<String>, Query, description = "Only what is counted by this client address"),
    ("waiting" = Option<bool>, Query, description = "Only what has to wait now"),
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "How many to return (100), 1 to 1,000"),
    ("cursor" = Option<String>, Query, description = "`next` of the page before"),
), responses(
    (status = 200, description = "What is counted", body = RateLimits),
    (status = 422, description = "A parameter is not possible"),
))]
async fn list(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.admin(context).await?;
    let Asked { filter, after, limit } = asked(context.query())?;
    let page = api.handles.limits.list(filter, after, limit).await?;
    let next = page.limits.last().filter(|_| page.more).map(|last| last.key.to_string());
    Ok(json_reply(&RateLimits { rate_limits: page.limits.iter().map(RateLimit::of).collect(), next }))
}

/// Reset a counter
///
/// A client that had to wait because of it may try again at once.
#[utoipa::path(delete, path = "/rate_limits/{key}", operation_id = "clear_rate_limit", tag = "Administration",
    params(
    ("key" = String, Path, description = "`key` of the list"),
), responses(
    (status = 204, description = "It is forgotten"),
    (status = 404, description = "Nothing is counted by this key"),
))]
async fn clear(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let key = context.param("key");
    let admin = api.admin(context).await?;
    let decoded = percent_encoding::percent_decode_str(key).decode_utf8().map_err(|_| ApiError::UnknownLimit)?;
    let key = LimitKey::parse(&decoded).ok_or(ApiError::UnknownLimit)?;
    match api.handles.limits.clear(&admin, key, context.origin()).await {
        Ok(true) => Ok(no_content()),
        Ok(false) => Err(ApiError::UnknownLimit),
        Err(error) => Err(api.not_done(context, error).await),
    }
}

/// The parsed query of a list.
struct Asked {
    filter: LimitFilter,
    after: Option<LimitKey>,
    limit: usize,
}

/// Reads the query. Ignores other parameters.
fn asked(query: Option<&str>) -> Result<Asked, ApiError> {
    let fields = form::parse(query.unwrap_or_default().as_bytes())?;
    let mut errors = Vec::new();
    let mut read = |name: &str, otherwise: &'static str, parsed: Option<bool>| {
        if parsed == Some(false) {
            errors.push(FieldError::new(format!("?{name}"), otherwise));
        }
    };
    let text = |name: &str| fields.get(name).map(String::as_str);
    let account = text("account").map(|id| id.parse().ok().and_then(AccountId::new));
    read("account", "This must be the number of an account", account.map(|account| account.is_some()));
    let email = text("email").map(|email| Email::parse(email).ok());
    read("email", "This must be an e-mail address", email.as_ref().map(Option::is_some));
    let address = text("address").map(|address| address.parse().ok());
    read("address", "This must be an IP address", address.map(|address: Option<std::net::IpAddr>| address.is_some()));
    let waiting = text("waiting").map(|waiting| waiting.parse::<bool>().ok());
    read("waiting", "This must be true or false", waiting.map(|waiting| waiting.is_some()));
    let after = text("cursor").map(LimitKey::parse);
    read("cursor", "This is no cursor of this list", after.map(|after| after.is_some()));
    let limit = text("limit").map_or(Ok(DEFAULT_LIMIT), str::parse).ok().filter(|n| (1..=MAX_LIMIT).contains(n));
    read("limit", "This must be an integer from 1 to 1000", Some(limit.is_some()));
    let policy = text("policy");
    let known = policy.map(|policy| LimitKey::POLICIES.contains(&policy));
    read("policy", "There is no such policy", known);
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    let filter = LimitFilter {
        policy: policy.map(str::to_owned),
        account: account.flatten(),
        email: email.flatten(),
        address: address.flatten(),
        waiting: waiting.flatten().unwrap_or(false),
    };
    Ok(Asked { filter, after: after.flatten(), limit: limit.unwrap_or(DEFAULT_LIMIT) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s61_a_query_has_its_bounds() {
        let read = |query: &str| asked(Some(query)).ok();
        assert_eq!(asked(None).ok().unwrap().limit, 100);
        let full =
            read("policy=login&account=7&email=Ann%40example.com&address=2001:db8::1&waiting=true&limit=1000&x=y");
        assert!(full.is_some_and(|asked| asked.filter.waiting && asked.limit == 1000));
        assert!(read("cursor=public-192.0.2.1").is_some_and(|asked| asked.after.is_some()));
        for bad in [
            "policy=x",
            "policy=",
            "account",
            "email=",
            "address=",
            "waiting=",
            "limit=",
            "cursor=",
            "account=0",
            "account=x",
            "email=x",
            "address=x",
            "waiting=1",
            "limit=0",
            "limit=1001",
            "limit=x",
            "cursor=x",
        ] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }
}
