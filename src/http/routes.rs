//! The table of all routes. `Allow`, admission, the request log, the documentation and the access tests all use it.

use doorward_actors::ServiceScope;
use hyper::Method;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Public,
    /// A user with a live session.
    Bearer,
    /// An administrator with a live session.
    Admin,
    /// A service with this scope, by `X-Service-Token`, as bearer or by HTTP Basic. Others get 401.
    Service(ServiceScope),
    /// A service with this scope, by `X-Service-Token`, that also sends a user's token. Without a valid service token the
    /// answer is 404.
    ServiceAndBearer(ServiceScope),
    /// An administrator or a service with this scope, by `X-Service-Token`. Clients that are neither get 404.
    HiddenAdminOrService(ServiceScope),
    /// An administrator or a service with this scope, by `X-Service-Token`.
    AdminOrService(ServiceScope),
}

/// The share of the server that a route uses; see `http::admission`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Requests that carry a password. Their hash waits in the lane for verifications.
    Login,
    /// Requests that set a new credential or ask how strong one is. Their hash waits in the lane for creations.
    Credential,
    /// A user's requests about their own account.
    Account,
    /// A user's requests about the events of their own account.
    Events,
    /// An administrator's requests about other accounts.
    Admin,
    /// Token checks by services and proxies: the hot path, without a body.
    Verify,
    /// Requests of services about tokens and revocations.
    Service,
    /// Probes and health.
    Operator,
    /// The documentation. It is answered from memory and has a quota of its own.
    Docs,
    /// Answered from memory at once, and never refused.
    Static,
}

/// Whether `openapi.json` describes a route, or why it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Documented {
    /// It does.
    Yes,
    /// It does not, for this reason.
    No(&'static str),
}

/// One method of one path.
#[derive(Debug, Clone)]
pub struct RouteInfo {
    /// The method. `HEAD` is served wherever `GET` is and has no entry of its own.
    pub method: Method,
    /// The path as a template, as documented: `/accounts_management/{id}`. Some paths of the established interface are
    /// documented with a trailing slash. Every path works with and without it.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// The share of the server that it uses.
    pub class: Class,
    /// Whether it is in the documentation.
    pub documented: Documented,
}

const PAGES: Documented = Documented::No("a page for people");
const ASSETS: Documented = Documented::No("serves the documentation itself");

const fn route(method: Method, path: &'static str, access: Access, class: Class) -> RouteInfo {
    RouteInfo { method, path, access, class, documented: Documented::Yes }
}

const fn undocumented(path: &'static str) -> RouteInfo {
    RouteInfo { method: Method::GET, path, access: Access::Public, class: Class::Docs, documented: ASSETS }
}

/// A page that a link in a mail leads to.
const fn page(path: &'static str) -> RouteInfo {
    RouteInfo { method: Method::GET, path, access: Access::Public, class: Class::Account, documented: PAGES }
}

/// All routes, the most frequent first, because the table is searched from the front. A fixed path comes before a
/// template that would match it.
static ROUTES: [RouteInfo; 58] = [
    route(Method::POST, "/verify", Access::ServiceAndBearer(ServiceScope::Verify), Class::Verify),
    route(Method::GET, "/forward_auth", Access::Bearer, Class::Verify),
    route(Method::POST, "/oauth2/introspect", Access::Service(ServiceScope::Introspect), Class::Service),
    route(Method::GET, "/health/live", Access::Public, Class::Operator),
    route(Method::GET, "/health/ready", Access::Public, Class::Operator),
    route(Method::GET, "/health/actors", Access::HiddenAdminOrService(ServiceScope::Metrics), Class::Operator),
    route(Method::POST, "/oauth2/revoke", Access::Service(ServiceScope::Revoke), Class::Service),
    route(Method::GET, "/revocations", Access::Service(ServiceScope::Revocations), Class::Service),
    route(Method::GET, "/.well-known/oauth-authorization-server", Access::Public, Class::Static),
    route(Method::POST, "/login", Access::Public, Class::Login),
    route(Method::POST, "/refresh", Access::Public, Class::Account),
    route(Method::POST, "/logout", Access::Bearer, Class::Account),
    route(Method::POST, "/register", Access::Public, Class::Credential),
    route(Method::POST, "/password/check", Access::Public, Class::Credential),
    route(Method::POST, "/recovery", Access::Public, Class::Credential),
    route(Method::POST, "/recovery/request", Access::Public, Class::Account),
    page("/recovery/confirm"),
    route(Method::POST, "/recovery/confirm", Access::Public, Class::Credential),
    page("/email/verify"),
    route(Method::POST, "/email/verify", Access::Public, Class::Account),
    route(Method::POST, "/email/verify/resend", Access::Public, Class::Account),
    page("/email/cancel"),
    route(Method::POST, "/email/cancel", Access::Public, Class::Account),
    route(Method::GET, "/my_account/", Access::Bearer, Class::Account),
    route(Method::PUT, "/my_account/", Access::Bearer, Class::Account),
    route(Method::DELETE, "/my_account/delete", Access::Bearer, Class::Account),
    route(Method::GET, "/my_account/events", Access::Bearer, Class::Events),
    route(Method::GET, "/my_account/sessions", Access::Bearer, Class::Account),
    route(Method::DELETE, "/my_account/sessions", Access::Bearer, Class::Account),
    route(Method::PATCH, "/my_account/sessions/{id}", Access::Bearer, Class::Account),
    route(Method::DELETE, "/my_account/sessions/{id}", Access::Bearer, Class::Account),
    route(Method::GET, "/accounts_management/", Access::Admin, Class::Admin),
    route(Method::POST, "/accounts_management/", Access::Admin, Class::Admin),
    route(Method::GET, "/accounts_management/{id}", Access::Admin, Class::Admin),
    route(Method::PUT, "/accounts_management/{id}", Access::Admin, Class::Admin),
    route(Method::DELETE, "/accounts_management/{id}", Access::Admin, Class::Admin),
    route(Method::GET, "/accounts_management/{id}/sessions", Access::Admin, Class::Admin),
    route(Method::DELETE, "/accounts_management/{id}/sessions", Access::Admin, Class::Admin),
    route(Method::DELETE, "/accounts_management/{id}/sessions/{sid}", Access::Admin, Class::Admin),
    route(Method::GET, "/outbox/", Access::Admin, Class::Admin),
    route(Method::POST, "/outbox/{id}/retry", Access::Admin, Class::Admin),
    route(Method::DELETE, "/outbox/{id}", Access::Admin, Class::Admin),
    route(Method::GET, "/service_tokens/", Access::Admin, Class::Admin),
    route(Method::POST, "/service_tokens/", Access::Admin, Class::Admin),
    route(Method::POST, "/service_tokens/{id}/rotate", Access::Admin, Class::Admin),
    route(Method::DELETE, "/service_tokens/{id}", Access::Admin, Class::Admin),
    route(Method::GET, "/rate_limits/", Access::Admin, Class::Admin),
    route(Method::DELETE, "/rate_limits/{key}", Access::Admin, Class::Admin),
    route(Method::GET, "/audit/", Access::AdminOrService(ServiceScope::Audit), Class::Admin),
    route(Method::GET, "/audit/export", Access::AdminOrService(ServiceScope::Audit), Class::Admin),
    route(Method::GET, "/audit/stream", Access::AdminOrService(ServiceScope::Audit), Class::Admin),
    route(Method::GET, "/keys/", Access::Admin, Class::Admin),
    route(Method::POST, "/keys/rotate", Access::Admin, Class::Admin),
    route(Method::GET, "/.well-known/jwks.json", Access::Public, Class::Static),
    route(Method::GET, "/", Access::Public, Class::Static),
    undocumented("/openapi.json"),
    undocumented("/docs"),
    undocumented("/docs/{file}"),
];

/// Returns all routes, for tests that must not miss one (S54).
#[doc(hidden)]
#[must_use]
pub fn route_table() -> &'static [RouteInfo] {
    &ROUTES
}

impl RouteInfo {
    /// Whether only services use it. Their secret does not belong in a browser.
    pub(in crate::http) const fn is_for_services(&self) -> bool {
        matches!(self.access, Access::Service(_) | Access::ServiceAndBearer(_))
    }
}

/// The result of looking a request up in the table.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) enum Resolved {
    /// The request matches this route.
    Route(&'static RouteInfo),
    /// The path is the one of this route, but no route of that path has the method.
    OtherMethod(&'static RouteInfo),
    /// No route has this path.
    Unknown,
}

impl Resolved {
    /// Returns the template for the log. The raw path is never logged, because clients could write into the log with it (S71).
    pub(in crate::http) fn template(self) -> &'static str {
        match self {
            Self::Route(info) | Self::OtherMethod(info) => info.path,
            Self::Unknown => "unmatched",
        }
    }

    /// Returns the class of the request. An error that is answered from memory has the class `Static`.
    pub(in crate::http) fn class(self) -> Class {
        if let Self::Route(info) = self { info.class } else { Class::Static }
    }

    /// Whether a success is logged at debug level, because such requests come many times a second.
    pub(in crate::http) fn is_quiet(self) -> bool {
        matches!(self, Self::Route(info) if matches!(info.class, Class::Verify | Class::Service | Class::Operator))
    }

    /// Returns the value of `Allow` for the path (RFC 9110 §10.2.1).
    pub(in crate::http) fn allow(self) -> Option<String> {
        let (Self::Route(known) | Self::OtherMethod(known)) = self else { return None };
        let mut methods = Vec::new();
        for info in ROUTES.iter().filter(|info| info.path == known.path) {
            methods.push(info.method.as_str());
            if info.method == Method::GET {
                methods.push("HEAD");
            }
        }
        Some(methods.join(", "))
    }
}

/// Finds the route of a request. `path` may have one trailing slash more than its template.
pub(in crate::http) fn resolve(method: &Method, path: &str) -> Resolved {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut same_path = None;
    for info in &ROUTES {
        // A fixed path hides the templates after it, whatever the method.
        if same_path.is_some_and(|known: &RouteInfo| known.path != info.path) || !matches(info.path, path) {
            continue;
        }
        if info.method == *method {
            return Resolved::Route(info);
        }
        same_path = Some(info);
    }
    same_path.map_or(Resolved::Unknown, Resolved::OtherMethod)
}

/// Whether `path`, which has no trailing slash, matches the template.
fn matches(template: &str, path: &str) -> bool {
    let template = template.strip_suffix('/').unwrap_or(template);
    let mut segments = path.split('/');
    // A parameter is a whole segment, which must not be empty.
    let fits = |wanted: &str| {
        segments
            .next()
            .is_some_and(|segment| if wanted.starts_with('{') { !segment.is_empty() } else { segment == wanted })
    };
    template.split('/').all(fits) && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(method: &Method, path: &str) -> &'static str {
        match resolve(method, path) {
            Resolved::Route(info) => info.path,
            Resolved::OtherMethod(_) => "other method",
            Resolved::Unknown => "unknown",
        }
    }

    #[test]
    fn paths_resolve_with_and_without_their_trailing_slash() {
        for info in route_table() {
            let path = info
                .path
                .replace("{id}", "7")
                .replace("{file}", "x.js")
                .replace("{key}", "public-192.0.2.1")
                .replace("{sid}", "x");
            let bare = path.trim_end_matches('/');
            assert_eq!(template(&info.method, &format!("{bare}/")), info.path);
            if !bare.is_empty() {
                assert_eq!(template(&info.method, bare), info.path);
            }
        }
    }

    #[test]
    fn s61_other_paths_and_methods_are_told_apart() {
        for unknown in
            ["", "*", "//", "/nope", "/login//", "/login/x", "/accounts_management/1/2", "/my_account/deleted"]
        {
            assert_eq!(template(&Method::GET, unknown), if unknown.is_empty() { "/" } else { "unknown" }, "{unknown}");
        }
        for unknown in ["/outbox//retry", "/outbox/1/2/retry", "/outbox/1/retries", "/outbox/1/retry/x"] {
            assert_eq!(template(&Method::POST, unknown), "unknown", "{unknown}");
        }
        for unknown in
            ["/accounts_management/1/sessions/2/3", "/accounts_management//sessions", "/accounts_management/1/x/2"]
        {
            assert_eq!(template(&Method::DELETE, unknown), "unknown", "{unknown}");
        }
        assert_eq!(template(&Method::GET, "/accounts_management/1/sessions/2"), "other method");
        assert_eq!(resolve(&Method::PUT, "/my_account/sessions/x").allow().unwrap(), "PATCH, DELETE");
        assert_eq!(template(&Method::POST, "/outbox/1"), "other method");
        assert_eq!(template(&Method::GET, "/outbox/1/retry"), "other method");
        assert_eq!(template(&Method::GET, "/login"), "other method");
        assert_eq!(resolve(&Method::PATCH, "/my_account").allow().unwrap(), "GET, HEAD, PUT");
        assert_eq!(resolve(&Method::GET, "/login").allow().unwrap(), "POST");
    }

    #[test]
    fn no_route_stands_twice_in_the_table() {
        for (n, info) in ROUTES.iter().enumerate() {
            assert!(!ROUTES[..n].iter().any(|other| other.method == info.method && other.path == info.path));
        }
    }
}
