//! Access control (S54): every caller tries every route of the table.

use doorward::settings::{Algorithm, Settings};
use doorward::{Access, RouteInfo, route_table};
use doorward_actors::ports::SendError;
use doorward_actors::{MailKind, ServiceScope};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Answer, Person, SERVICE_TOKEN, TestApp};

/// A kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Anonymous,
    Garbage,
    User,
    Admin,
    LockedUser,
    DemotedAdmin,
    Service,
    ServiceWithUser,
    ServiceWithGarbage,
}

const CALLERS: [Caller; 9] =
    [Anonymous, Garbage, User, Admin, LockedUser, DemotedAdmin, Service, ServiceWithUser, ServiceWithGarbage];

/// The answer that a caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// 401 with the bare challenge: the request has no user's token.
    NoToken,
    /// 401 that says that the token is not live.
    DeadToken,
    /// 403 that says that the caller lacks the role.
    Forbidden,
    /// 403 for a service that sent its token in `X-Service-Token`.
    NoScope,
    Hidden,
    /// 400.
    Ambiguous,
}

use Caller::{Admin, Anonymous, DemotedAdmin, Garbage, LockedUser, Service, ServiceWithGarbage, ServiceWithUser, User};
use Outcome::{Ambiguous, DeadToken, Done, Forbidden, Hidden, NoScope, NoToken};

fn expected(access: Access, caller: Caller) -> Outcome {
    let is_service = matches!(caller, Service | ServiceWithUser | ServiceWithGarbage);
    let user = match caller {
        Anonymous | Service => NoToken,
        Garbage | LockedUser | ServiceWithGarbage => DeadToken,
        User | Admin | DemotedAdmin | ServiceWithUser => Done,
    };
    match access {
        Access::Public => Done,
        Access::ServiceAndBearer(scope) if is_service && scope_of_default(scope) => user,
        Access::HiddenAdminOrService(scope) if is_service && scope_of_default(scope) => Done,
        Access::ServiceAndBearer(_) | Access::HiddenAdminOrService(_) if is_service => NoScope,
        Access::HiddenAdminOrService(_) if caller == Admin => Done,
        Access::ServiceAndBearer(_) | Access::HiddenAdminOrService(_) => Hidden,
        // The request has two credentials of a service.
        Access::Service(_) if matches!(caller, ServiceWithUser | ServiceWithGarbage) => Ambiguous,
        Access::Service(scope) if is_service && scope_of_default(scope) => Done,
        Access::Service(_) if is_service => NoScope,
        Access::Service(_) if caller == Anonymous => NoToken,
        Access::Service(_) => DeadToken,
        Access::AdminOrService(scope) if is_service && scope_of_default(scope) => Done,
        Access::AdminOrService(_) if caller == Service => NoScope,
        Access::Admin | Access::AdminOrService(_) if user == Done && caller != Admin => Forbidden,
        Access::Bearer | Access::Admin | Access::AdminOrService(_) => user,
    }
}

/// Returns whether the service token of the settings, which [`Service`] uses, has this scope.
fn scope_of_default(scope: ServiceScope) -> bool {
    matches!(scope, ServiceScope::Verify | ServiceScope::Introspect | ServiceScope::Metrics)
}

/// All callers and their targets, in an application of their own.
struct World {
    app: TestApp,
    admin: String,
    user: String,
    locked: String,
    demoted: String,
    /// The person whose number and address the requests name.
    target: Person,
    /// The tokens of the links that the target received by mail.
    links: Links,
    /// The number of a mail that cannot be sent.
    mail: u64,
    /// A refresh token of the target.
    refresh: String,
    /// The ids of the sessions of the administrator, the user, the demoted one and the target.
    sessions: (String, String, String, String),
    /// The number of a service token.
    service_token: u64,
}

struct Links {
    verify: String,
    cancel: String,
    reset: String,
}

impl World {
    async fn new() -> Self {
        // Keys can be rotated only where a key pair signs.
        let with_pairs = |settings: &mut Settings| settings.tokens.algorithm = Algorithm::EdDsa;
        let app = TestApp::builder().with(with_pairs).spawn().await;
        let admin = app.admin().await;
        let (_, user) = app.register_and_login("user").await;
        let (locked_person, locked) = app.register_and_login("locked").await;
        app.lock(&admin, locked_person.id).await;
        let (demoted_person, demoted) = app.register_and_login("demoted").await;
        app.must_change(&admin, demoted_person.id, &json!({"role": "admin"})).await;
        app.must_change(&admin, demoted_person.id, &json!({"role": "user"})).await;
        // A second administrator, so that the first one may delete their own account.
        let second = app.register("second").await;
        app.must_change(&admin, second.id, &json!({"role": "admin"})).await;
        let target = app.register("target").await;
        let login = app.try_login(&target).await;
        let session = login.body["access_token"].as_str().unwrap().to_owned();
        let refresh = login.body["refresh_token"].as_str().unwrap().to_owned();
        let id = async |token: &str| {
            let answer = app.call(Method::GET, "/my_account/sessions", token, &Value::Null).await;
            answer.body["sessions"][0]["id"].as_str().unwrap().to_owned()
        };
        let sessions = (id(&admin).await, id(&user).await, id(&demoted).await, id(&session).await);
        let change = json!({"email": "elsewhere@example.com"});
        assert_eq!(app.call(Method::PUT, "/my_account/", &session, &change).await.status, 200);
        assert_eq!(app.post("/recovery/request", &json!({"email": target.email})).await.status, 202);
        let links = Links {
            verify: app.token_from(&target.email, MailKind::VerifyAddress).await,
            cancel: app.token_from(&target.email, MailKind::AddressChangePending).await,
            reset: app.token_from(&target.email, MailKind::ResetPassword).await,
        };
        app.mail.refuse(Some(SendError::Permanent("no such user".to_owned())));
        let undeliverable = app.register("undeliverable").await;
        assert!(app.mails_to(&undeliverable.email).await.is_empty());
        let outbox = app.call(Method::GET, "/outbox/", &admin, &Value::Null).await;
        let mail = outbox.body["mails"][0]["id"].as_u64().unwrap();
        let service_token = app.service_token(&admin, "present", &["backup"]).await.0;
        Self { app, admin, user, locked, demoted, target, links, mail, refresh, sessions, service_token }
    }

    /// Returns a request that succeeds for every caller who may make it.
    fn request(&self, route: &RouteInfo, caller: Caller) -> RequestBuilder {
        let target = &self.target;
        let (path, body) = match (route.method.as_str(), route.path) {
            (
                "GET",
                "/"
                | "/docs"
                | "/openapi.json"
                | "/health/live"
                | "/health/ready"
                | "/health/actors"
                | "/metrics"
                | "/my_account/"
                | "/accounts_management/"
                | "/outbox/"
                | "/rate_limits/"
                | "/my_account/events"
                | "/my_account/sessions"
                | "/audit/"
                | "/audit/export"
                | "/audit/stream"
                | "/keys/"
                | "/.well-known/jwks.json"
                | "/service_tokens/"
                | "/forward_auth"
                | "/revocations"
                | "/.well-known/oauth-authorization-server",
            )
            | ("POST", "/logout" | "/verify" | "/keys/rotate" | "/my_account/export" | "/backup")
            | ("DELETE", "/my_account/delete" | "/my_account/sessions") => (route.path.to_owned(), None),
            ("GET", "/docs/{file}") => ("/docs/index.css".to_owned(), None),
            ("POST", "/login") => {
                (route.path.to_owned(), Some(json!({"email": target.email, "password": target.password})))
            }
            ("POST", "/register" | "/accounts_management/") => {
                (route.path.to_owned(), Some(Person::named("newcomer").registration()))
            }
            ("POST", "/password/check") => {
                (route.path.to_owned(), Some(json!({"password": target.password, "email": target.email})))
            }
            ("POST", "/recovery") => {
                let body = json!({"email": target.email, "passphrase": target.passphrase,
                    "new_password": crate::support::NEW_PASSWORD});
                (route.path.to_owned(), Some(body))
            }
            ("POST", "/recovery/request" | "/email/verify/resend") => {
                (route.path.to_owned(), Some(json!({"email": target.email})))
            }
            ("POST", "/recovery/confirm") => {
                let body = json!({"token": self.links.reset, "new_password": crate::support::NEW_PASSWORD});
                (route.path.to_owned(), Some(body))
            }
            ("POST", "/email/verify") => (route.path.to_owned(), Some(json!({"token": self.links.verify}))),
            ("POST", "/email/cancel") => (route.path.to_owned(), Some(json!({"token": self.links.cancel}))),
            ("GET", "/recovery/confirm") => (format!("{}?token={}", route.path, self.links.reset), None),
            ("GET", "/email/verify") => (format!("{}?token={}", route.path, self.links.verify), None),
            ("GET", "/email/cancel") => (format!("{}?token={}", route.path, self.links.cancel), None),
            ("POST", "/oauth2/introspect" | "/oauth2/revoke") => {
                return self.app.form(route.path, "token=unknown");
            }
            ("POST", "/service_tokens/") => {
                (route.path.to_owned(), Some(json!({"name": "newcomer", "scopes": ["verify"]})))
            }
            ("POST", "/service_tokens/{id}/rotate") | ("DELETE", "/service_tokens/{id}") => {
                (route.path.replace("{id}", &self.service_token.to_string()), None)
            }
            ("DELETE", "/outbox/{id}") | ("POST", "/outbox/{id}/retry") => {
                (route.path.replace("{id}", &self.mail.to_string()), None)
            }
            // Every caller has made a request before, so the counter exists.
            ("DELETE", "/rate_limits/{key}") => (route.path.replace("{key}", "public-127.0.0.1"), None),
            ("PUT", "/my_account/") => (route.path.to_owned(), Some(json!({"nickname": "renamed"}))),
            ("POST", "/refresh") => (route.path.to_owned(), Some(json!({"refresh_token": self.refresh}))),
            ("PATCH" | "DELETE", "/my_account/sessions/{id}") => {
                let id = match caller {
                    Admin => &self.sessions.0,
                    DemotedAdmin => &self.sessions.2,
                    _ => &self.sessions.1,
                };
                let body = (route.method == Method::PATCH).then(|| json!({"label": "mine"}));
                (route.path.replace("{id}", id), body)
            }
            ("DELETE", "/accounts_management/{id}/sessions/{sid}") => {
                (route.path.replace("{id}", &target.id.to_string()).replace("{sid}", &self.sessions.3), None)
            }
            ("GET" | "DELETE", "/accounts_management/{id}" | "/accounts_management/{id}/sessions") => {
                (route.path.replace("{id}", &target.id.to_string()), None)
            }
            ("PUT", "/accounts_management/{id}") => {
                (route.path.replace("{id}", &target.id.to_string()), Some(json!({"nickname": "renamed"})))
            }
            (method, path) => panic!("the matrix does not know how to call {method} {path}: teach it"),
        };
        let request = self.app.request(route.method.clone(), &path);
        match body {
            Some(body) => request.json(&body),
            None => request,
        }
    }

    async fn call(&self, route: &RouteInfo, caller: Caller) -> Answer {
        let request = self.request(route, caller);
        let with_service = |request: RequestBuilder| request.header("X-Service-Token", SERVICE_TOKEN);
        let request = match caller {
            Anonymous => request,
            Garbage => request.bearer_auth("garbage"),
            User => request.bearer_auth(&self.user),
            Admin => request.bearer_auth(&self.admin),
            LockedUser => request.bearer_auth(&self.locked),
            DemotedAdmin => request.bearer_auth(&self.demoted),
            Service => with_service(request),
            ServiceWithUser => with_service(request).bearer_auth(&self.user),
            ServiceWithGarbage => with_service(request).bearer_auth("garbage"),
        };
        self.app.send(request).await
    }
}

fn outcome(answer: &Answer) -> Option<Outcome> {
    match (answer.status, answer.header("www-authenticate")) {
        (200 | 201 | 202 | 204, None) => Some(Done),
        (401, Some("Bearer")) => Some(NoToken),
        (401, Some("Bearer error=\"invalid_token\"")) => Some(DeadToken),
        (403, Some("Bearer error=\"insufficient_scope\"")) => Some(Forbidden),
        (403, None) => Some(NoScope),
        (404, None) => Some(Hidden),
        (400, None) => Some(Ambiguous),
        _ => None,
    }
}

#[tokio::test]
async fn s54_every_route_admits_exactly_whom_the_table_says() {
    for route in route_table() {
        // The calls run concurrently, because each has a world of its own.
        let calls = CALLERS.map(|caller| async move {
            let answer = World::new().await.call(route, caller).await;
            let seen = outcome(&answer);
            let wanted = expected(route.access, caller);
            assert_eq!(seen, Some(wanted), "{} {} by {caller:?}: {answer:?}", route.method, route.path);
        });
        futures_util::future::join_all(calls).await;
    }
}

#[tokio::test]
async fn s54_every_scope_opens_exactly_its_routes() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (_, user) = app.register_and_login("user").await;
    for held in ServiceScope::ALL {
        let (_, secret) = app.service_token(&admin, held.as_str(), &[held.as_str()]).await;
        for route in route_table() {
            let (needed, bearer) = match route.access {
                Access::Service(scope) | Access::HiddenAdminOrService(scope) | Access::AdminOrService(scope) => {
                    (scope, None)
                }
                Access::ServiceAndBearer(scope) => (scope, Some(&user)),
                Access::Public | Access::Bearer | Access::Admin => continue,
            };
            let is_form = route.path.starts_with("/oauth2/");
            let request =
                if is_form { app.form(route.path, "token=x") } else { app.request(route.method.clone(), route.path) };
            let request = request.header("X-Service-Token", &secret);
            let request = bearer.into_iter().fold(request, RequestBuilder::bearer_auth);
            let answer = app.send(request).await;
            let name = format!("{} {} with {}: {answer:?}", route.method, route.path, held.as_str());
            assert_eq!(answer.status, if needed == *held { 200 } else { 403 }, "{name}");
        }
    }
}

#[tokio::test]
async fn s54_a_refused_caller_changed_nothing() {
    let world = World::new().await;
    let before = world.app.call(Method::GET, "/accounts_management/", &world.admin, &Value::Null).await;
    let refusing = route_table().iter().filter(|route| route.access != Access::Public && route.method != Method::GET);
    for route in refusing {
        for caller in CALLERS.into_iter().filter(|caller| expected(route.access, *caller) != Done) {
            world.call(route, caller).await;
        }
    }
    let after = world.app.call(Method::GET, "/accounts_management/", &world.admin, &Value::Null).await;
    assert_eq!(after.body, before.body);
    let services = world.app.call(Method::GET, "/service_tokens/", &world.admin, &Value::Null).await;
    assert_eq!(services.body["service_tokens"].as_array().unwrap().len(), 2, "{services:?}");
}

#[tokio::test]
async fn s55_nobody_gets_at_another_account_by_its_number() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, ann_token) = app.register_and_login("ann").await;
    let (_, bob) = app.register_and_login("bob").await;
    let before = app.account(&admin, ann.id).await;
    let number = ann.id;
    for (method, body) in [
        (Method::GET, Value::Null),
        (Method::PUT, json!({"nickname": "stolen"})),
        (Method::PUT, json!({"lock": true, "role": "admin", "password": "Stolen-lamp-7-tree"})),
        (Method::DELETE, Value::Null),
    ] {
        let answer = app.call(method.clone(), &format!("/accounts_management/{number}"), &bob, &body).await;
        answer.assert_problem(403, "Insufficient permissions. Admin role required.");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"insufficient_scope\""), "{answer:?}");
        let answer = app.call(method, &format!("/my_account/{number}"), &bob, &body).await;
        answer.assert_problem(404, "Not found");
    }
    for member in ["id", "user_id", "account_id", "subject"] {
        let answer = app.change_own(&bob, &json!({"nickname": "stolen", member: number})).await;
        assert_eq!(answer.pointers(), [format!("/{member}")]);
        let answer = app.delete_own(&bob, &json!({member: number})).await;
        assert_eq!(answer.pointers(), [format!("/{member}")]);
    }
    let query = format!("/my_account/?id={number}&user_id={number}");
    let seen = app.call(Method::GET, &query, &bob, &Value::Null).await;
    assert_eq!(seen.body["nickname"], "bob");
    assert_eq!(app.account(&admin, number).await, before);
    assert!(app.is_live(&ann_token).await);
}
