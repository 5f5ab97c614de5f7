//! What a route is. `Allow`, admission, the request log, the documentation and the access tests all use the table of routes, which
//! joins the lists of the families.

use std::sync::Arc;

use doorward_actors::ServiceScope;
use futures_util::future::BoxFuture;
use hyper::Method;
use utoipa::__dev::{SchemaReferences, Tags};
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::HttpMethod;
use warp::reply::{Reply as _, Response};

use crate::http::Api;
use crate::http::edge::extract::RequestContext;
use crate::http::error::ApiError;
use crate::http::pages;

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
    /// A user's requests about the events of their own account, and for all that is stored about it.
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

/// Answers a request of one route.
pub(in crate::http) type Handler =
    for<'a> fn(&'a Arc<Api>, &'a RequestContext) -> BoxFuture<'a, Result<Response, ApiError>>;

/// How a request reaches the handler of its route, and how the handler's error is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Entrance {
    /// By a place of its class. An error is a problem document.
    Admitted,
    /// By a place of its class. An error is a page, because people opened a link.
    Page,
    /// By a place of its class. An error is a page if the request is a form.
    Form,
    /// At once: the answer comes from memory.
    AtOnce,
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
    entrance: Entrance,
    handler: Handler,
    describe: fn(&mut OpenApi),
}

/// Adds the documentation of a handler to the document.
fn describe<P: utoipa::Path + SchemaReferences + for<'t> Tags<'t>>(document: &mut OpenApi) {
    let mut operation = P::operation();
    operation.tags = Some(<P as Tags>::tags().into_iter().map(str::to_owned).collect());
    document.paths.add_path_operation(P::path(), P::methods(), operation);
    let mut schemas = Vec::new();
    P::schemas(&mut schemas);
    document.components.get_or_insert_default().schemas.extend(schemas);
}

impl RouteInfo {
    /// Creates a route. Its method and its path are those of the handler's documentation, `__path_` and the handler's name.
    pub(in crate::http) fn new<P>(_documentation: P, access: Access, class: Class, handler: Handler) -> Self
    where
        P: utoipa::Path + SchemaReferences + for<'t> Tags<'t>,
    {
        let method = match P::methods().first() {
            Some(HttpMethod::Post) => Method::POST,
            Some(HttpMethod::Put) => Method::PUT,
            Some(HttpMethod::Patch) => Method::PATCH,
            Some(HttpMethod::Delete) => Method::DELETE,
            _ => Method::GET,
        };
        // The table is built once, so this happens once for each route.
        let path = Box::leak(P::path().into_boxed_str());
        let (documented, entrance) = (Documented::Yes, Entrance::Admitted);
        Self { method, path, access, class, documented, entrance, handler, describe: describe::<P> }
    }

    /// Creates the route of a page that a link in a mail leads to.
    pub(in crate::http) fn page(path: &'static str, handler: Handler) -> Self {
        let documented = Documented::No("a page for people");
        Self { class: Class::Account, entrance: Entrance::Page, ..Self::undocumented(path, handler, documented) }
    }

    /// Creates the route of a file that the documentation consists of.
    pub(in crate::http) fn asset(path: &'static str, handler: Handler) -> Self {
        Self::undocumented(path, handler, Documented::No("serves the documentation itself"))
    }

    fn undocumented(path: &'static str, handler: Handler, documented: Documented) -> Self {
        let (method, access, class) = (Method::GET, Access::Public, Class::Docs);
        Self { method, path, access, class, documented, entrance: Entrance::AtOnce, handler, describe: |_| {} }
    }

    /// Makes the answer need no place.
    pub(in crate::http) fn at_once(self) -> Self {
        Self { entrance: Entrance::AtOnce, ..self }
    }

    /// Makes errors pages where the form of a page was sent.
    pub(in crate::http) fn or_form(self) -> Self {
        Self { entrance: Entrance::Form, ..self }
    }

    /// Adds the documentation of this route to the document.
    pub(in crate::http) fn describe(&self, document: &mut OpenApi) {
        (self.describe)(document);
    }

    /// Whether only services use it. Their secret does not belong in a browser.
    pub(in crate::http) const fn is_for_services(&self) -> bool {
        matches!(self.access, Access::Service(_) | Access::ServiceAndBearer(_))
    }
}

/// Answers a request by the handler of its route.
pub(in crate::http) async fn respond(api: &Arc<Api>, context: &RequestContext) -> Response {
    let served = |route: &&RouteInfo| api.rules.docs || route.class != Class::Docs;
    let route = match context.resolved() {
        Resolved::Route(route) if served(&route) => route,
        Resolved::OtherMethod(route) if served(&route) => return ApiError::MethodNotAllowed.into_response(),
        _ => return ApiError::NotFound.into_response(),
    };
    let work = (route.handler)(api, context);
    match route.entrance {
        Entrance::Admitted => api.admit(context, work).await,
        Entrance::Page => pages::for_people(context, api.admit(context, work).await),
        Entrance::Form => pages::for_forms(context, api.admit(context, work).await),
        Entrance::AtOnce => work.await.unwrap_or_else(ApiError::into_response),
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
    pub(in crate::http) fn allow(self, table: Table) -> Option<String> {
        let (Self::Route(known) | Self::OtherMethod(known)) = self else { return None };
        let mut methods = Vec::new();
        for info in table.0.iter().filter(|info| info.path == known.path) {
            methods.push(info.method.as_str());
            if info.method == Method::GET {
                methods.push("HEAD");
            }
        }
        Some(methods.join(", "))
    }
}

/// All routes, the most frequent first, because they are searched from the front. A fixed path comes before a template that would
/// match it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Table(pub(in crate::http) &'static [RouteInfo]);

impl Table {
    /// Finds the route of a request. `path` may have one trailing slash more than its template.
    pub(in crate::http) fn resolve(self, method: &Method, path: &str) -> Resolved {
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut same_path = None;
        for info in self.0 {
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
    use crate::http::route_table;

    fn resolve(method: &Method, path: &str) -> Resolved {
        Table(route_table()).resolve(method, path)
    }

    fn allow(method: &Method, path: &str) -> String {
        resolve(method, path).allow(Table(route_table())).unwrap()
    }

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
        assert_eq!(allow(&Method::PUT, "/my_account/sessions/x"), "PATCH, DELETE");
        assert_eq!(template(&Method::POST, "/outbox/1"), "other method");
        assert_eq!(template(&Method::GET, "/outbox/1/retry"), "other method");
        assert_eq!(template(&Method::GET, "/login"), "other method");
        assert_eq!(allow(&Method::PATCH, "/my_account"), "GET, HEAD, PUT");
        assert_eq!(allow(&Method::GET, "/login"), "POST");
    }

    #[test]
    fn no_route_stands_twice_in_the_table() {
        for (n, info) in route_table().iter().enumerate() {
            assert!(!route_table()[..n].iter().any(|other| other.method == info.method && other.path == info.path));
        }
    }
}
