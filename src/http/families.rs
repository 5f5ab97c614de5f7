//! The route families: each file has the paths, the wire types, the handlers and the documentation of one family, and knows no other
//! family.

pub(in crate::http) mod accounts_management;
pub(in crate::http) mod audit;
pub(in crate::http) mod docs;
pub(in crate::http) mod email;
pub(in crate::http) mod forward_auth;
pub(in crate::http) mod health;
pub(in crate::http) mod keys;
pub(in crate::http) mod login;
pub(in crate::http) mod my_account;
pub(in crate::http) mod oauth2;
pub(in crate::http) mod outbox;
pub(in crate::http) mod password;
pub(in crate::http) mod rate_limits;
pub(in crate::http) mod recovery;
pub(in crate::http) mod recovery_by_mail;
pub(in crate::http) mod refresh;
pub(in crate::http) mod register;
pub(in crate::http) mod revocations;
pub(in crate::http) mod root;
pub(in crate::http) mod service_tokens;
pub(in crate::http) mod sessions;
pub(in crate::http) mod verify;

use std::convert::Infallible;
use std::sync::Arc;

use warp::Filter;
use warp::reply::Response;

use crate::http::{Api, Family, error};

/// Joins the families. A request costs a little for each family that it passes, so the busiest come first and all others
/// are one step behind them.
pub(in crate::http) fn routes(
    api: &Arc<Api>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let rest: Family = health::routes(api)
        .or(login::routes(api))
        .unify()
        .or(refresh::routes(api))
        .unify()
        .or(my_account::routes(api))
        .unify()
        .or(sessions::routes(api))
        .unify()
        .or(accounts_management::routes(api))
        .unify()
        .or(register::routes(api))
        .unify()
        .or(password::routes(api))
        .unify()
        .or(recovery::routes(api))
        .unify()
        .or(recovery_by_mail::routes(api))
        .unify()
        .or(email::routes(api))
        .unify()
        .or(outbox::routes(api))
        .unify()
        .or(rate_limits::routes(api))
        .unify()
        .or(service_tokens::routes(api))
        .unify()
        .or(revocations::routes(api))
        .unify()
        .or(audit::routes(api))
        .unify()
        .or(keys::routes(api))
        .unify()
        .or(root::routes(api))
        .unify()
        .or(docs::routes(api))
        .unify()
        .boxed();
    let quick: Family = forward_auth::routes(api).or(oauth2::routes(api)).unify().boxed();
    verify::routes(api).or(quick).unify().or(rest).unify().recover(error::recover).unify()
}
