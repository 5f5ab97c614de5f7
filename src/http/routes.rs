//! The table of all routes: what `Allow`, admission, the request log, the documentation and the access tests agree on.

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
    /// A service with this scope, by `X-Service-Token`, as bearer or by HTTP Basic. Others are asked who they are.
    Service(ServiceScope),
    /// A service with this scope, by `X-Service-Token`, that presents a user's token. To others the route is not there.
    ServiceAndBearer(ServiceScope),
    /// An administrator or a service with this scope, by `X-Service-Token`. To others the route is not there.
    HiddenAdminOrService(ServiceScope),
    /// An administrator or a service with this scope, by `X-Service-Token`.
    AdminOrService(ServiceScope),
}

/// Which share of the server a route draws on; see `http::admission`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Shows a password: waits in the lane of verifications for its hash.
    Login,
    /// Is to get a new credential, or wants to know how good one is: waits in the lane of creations.
    Credential,
    /// A user about their own account.
    Account,
    /// A user about what happened to their own account.
    Events,
    /// An administrator about others' accounts.
    Admin,
    /// Services checking tokens, and proxies: the hot path, without a body.
    Verify,
    /// Services about tokens and revocations.
    Service,
    /// Probes and health.
    Operator,
    /// The documentation, answered from memory and counted by itself.
    Docs,
    /// Answered from memory at once: never refused.
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
    /// The path as a template, as documented: `/accounts_management/{id}`. A trailing slash is the documented
    /// spelling of the established interface; every path works with and without it.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// What it draws on.
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

/// All routes, the most frequent first: it is searched from the front. A fixed path comes before a template that
/// would match it.
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

/// All routes, for tests that must not miss one (S54).
#[doc(hidden)]
#[must_use]
pub fn route_table() -> &'static [RouteInfo] {
    &ROUTES
}

impl RouteInfo {
    /// Whether services alone use it, whose secret belongs in no browser.
    pub(super) const fn is_for_services(&self) -> bool {
        matches!(self.access, Access::Service(_) | Access::ServiceAndBearer(_))
    }
}

/// What the table knows of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Resolved {
    /// This route.
    Route(&'static RouteInfo),
    /// The path of this route, but no route of that path has the method.
    OtherMethod(&'static RouteInfo),
    /// No such path.
    Unknown,
}

impl Resolved {
    /// The template for the log, never the raw path: that would let clients write into it (S71).
    pub(super) fn template(self) -> &'static str {
        match self {
            Self::Route(info) | Self::OtherMethod(info) => info.path,
            Self::Unknown => "unmatched",
        }
    }

    /// What the request draws on; an error answered from memory draws on nothing.
    pub(super) fn class(self) -> Class {
        if let Self::Route(info) = self { info.class } else { Class::Static }
    }

    /// Whether the log line of a success belongs at debug: these come many times a second.
    pub(super) fn is_quiet(self) -> bool {
        matches!(self, Self::Route(info) if matches!(info.class, Class::Verify | Class::Service | Class::Operator))
    }

    /// The value of `Allow` for the path (RFC 9110 §10.2.1).
    pub(super) fn allow(self) -> Option<String> {
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
pub(super) fn resolve(method: &Method, path: &str) -> Resolved {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut same_path = None;
    for info in &ROUTES {
        // A fixed path shadows the templates after it, whatever the method.
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

/// Whether a path without its trailing slash is one of a template's.
fn matches(template: &str, path: &str) -> bool {
    let template = template.strip_suffix('/').unwrap_or(template);
    let mut segments = path.split('/');
    // A parameter is a whole segment, and takes one that is not empty.
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
