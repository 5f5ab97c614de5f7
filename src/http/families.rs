//! The route families: each file has the paths, the wire types, the handlers and the documentation of one family, and knows no other
//! family.

pub(in crate::http) mod accounts_management;
pub(in crate::http) mod audit;
pub(in crate::http) mod backup;
pub(in crate::http) mod docs;
pub(in crate::http) mod email;
pub(in crate::http) mod forward_auth;
pub(in crate::http) mod health;
pub(in crate::http) mod keys;
pub(in crate::http) mod login;
pub(in crate::http) mod metrics;
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

use std::sync::LazyLock;

use crate::http::routes::RouteInfo;

/// The routes of all families, the busiest first, because they are searched from the front.
static ROUTES: LazyLock<Vec<RouteInfo>> = LazyLock::new(|| {
    let families = [
        verify::routes(),
        forward_auth::routes(),
        oauth2::routes(),
        health::routes(),
        metrics::routes(),
        revocations::routes(),
        login::routes(),
        refresh::routes(),
        register::routes(),
        password::routes(),
        recovery::routes(),
        recovery_by_mail::routes(),
        email::routes(),
        my_account::routes(),
        sessions::routes(),
        accounts_management::routes(),
        outbox::routes(),
        service_tokens::routes(),
        rate_limits::routes(),
        audit::routes(),
        backup::routes(),
        keys::routes(),
        root::routes(),
        docs::routes(),
    ];
    families.into_iter().flatten().collect()
});

/// Returns all routes, for tests that must not miss one (S54).
#[doc(hidden)]
#[must_use]
pub fn route_table() -> &'static [RouteInfo] {
    &ROUTES
}
