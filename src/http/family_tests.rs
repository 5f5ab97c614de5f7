//! Tests of the families over a real listener and real actors, with the store in memory: statuses, spellings and the order
//! of checks.

#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod streaming_tests;
#[cfg(test)]
mod watching_tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use doorward_actors::ports::Clock as _;
use doorward_actors::store::{LastUse, ShardOf, Store};
use doorward_actors::testing::{
    ManualClock, MemoryEngine, MemoryKeys, MemoryMail, SeededEntropy, memory_store, system_settings,
};
use doorward_actors::{
    ActorSystem, AuditActorKind, AuditEvent, AuditRecord, Origin, Ports, RateQuota, SecretDigest, ServiceScope,
    Session, SessionId, Timestamp,
};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::http::Access;
use crate::http::Api;
use crate::http::Documented;
use crate::http::ServerSettings;
use crate::http::route_table;
use crate::http::serve_api;

/// The documentation entry of the pages that links in mails lead to.
const PAGE: Documented = Documented::No("a page for people");
const SERVICE_TOKEN: &str = "a-service-token-of-a-good-length";
const PLENTY: u32 = 10_000;

struct App {
    base: String,
    client: reqwest::Client,
    store: Store,
    engine: Arc<MemoryEngine>,
    clock: Arc<ManualClock>,
    // Keeps the actors alive for as long as the test runs.
    system: ActorSystem,
}

struct Answer {
    status: StatusCode,
    headers: hyper::HeaderMap,
    body: Value,
}

impl App {
    async fn start(public: u32, private: u32) -> Self {
        let (store, engine) = memory_store();
        let clock = Arc::new(ManualClock::new());
        let ports = Ports {
            store: store.clone(),
            clock: Arc::clone(&clock) as _,
            entropy: Arc::new(SeededEntropy::new(7)),
            mail: Arc::new(MemoryMail::new()),
            breached: None,
            keys: Arc::new(MemoryKeys::default()),
            backups: None,
        };
        let quota = |permits| RateQuota { permits: NonZeroU32::new(permits).unwrap(), per: Duration::from_mins(10) };
        let mut settings = system_settings();
        (settings.limits.public, settings.limits.private) = (quota(public), quota(private));
        let system = ActorSystem::start(ports, settings).await.unwrap();
        let token = SecretDigest::of(SERVICE_TOKEN.as_bytes());
        let api = Api::beating(system.handles().clone(), token, Duration::from_millis(5));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let patience = Duration::from_secs(30);
        let settings = ServerSettings::plain(64, patience);
        tokio::spawn(async move { serve_api(listener, &api, settings, std::future::pending()).await });
        Self { base, client: reqwest::Client::new(), store, engine, clock, system }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        // A stream does not end, so its body is not read.
        let is_stream = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let bytes = if is_stream { Bytes::new() } else { response.bytes().await.unwrap() };
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status, headers, body }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[], Some(body)).await
    }

    async fn with_token(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> Answer {
        self.send(method, path, &[("authorization", &format!("Bearer {token}"))], body).await
    }

    async fn verify(&self, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.send(Method::POST, "/verify", &[("authorization", &bearer), ("x-service-token", SERVICE_TOKEN)], None)
            .await
    }

    /// Registers a user and logs in. Returns the access token.
    async fn person(&self, name: &str) -> String {
        assert_eq!(self.post("/register", &registration(name)).await.status, 201);
        let login = self.post("/login", &json!({"email": format!("{name}@example.com"), "password": PASSWORD})).await;
        login.body["access_token"].as_str().unwrap().to_owned()
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
const PASSWORD: &str = "quiet lamp tree window";
const PASSPHRASE: &str = "my first car was blue";

fn registration(name: &str) -> Value {
    json!({"email": format!("{name}@example.com"), "nickname": name, "password": PASSWORD, "passphrase": PASSPHRASE})
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[track_caller]
fn refused(answer: &Answer, status: u16, detail: &str) {
    assert_eq!((answer.status.as_u16(), answer.body["detail"].as_str()), (status, Some(detail)), "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.body["instance"].as_str().unwrap(), answer.headers["x-request-id"]);
}

#[tokio::test]
async fn the_life_of_an_account_in_the_established_words() {
    let app = App::start(PLENTY, PLENTY).await;
    let made = app.post("/register/", &registration("ann")).await;
    assert_eq!(
        (made.status.as_u16(), &made.body),
        (201, &json!({"id": 1, "nickname": "ann", "email": "ann@example.com"}))
    );
    refused(&app.post("/register", &registration("ann")).await, 400, "Email already registered");
    let mut other = registration("ann");
    other["email"] = json!("other@example.com");
    refused(&app.post("/register", &other).await, 400, "Nickname already taken");
    let mut weak = registration("bob");
    weak["password"] = json!("short");
    refused(&app.post("/register", &weak).await, 400, "Password is too weak: it must have at least 8 characters");

    let login = app.post("/login", &json!({"email": "ann@example.com", "password": PASSWORD})).await;
    assert_eq!(login.body["token_type"], "bearer");
    assert_eq!(login.body["expires_in"], 1800);
    assert_eq!(login.body["user"], json!({"id": 1, "nickname": "ann", "email": "ann@example.com"}));
    let token = login.body["access_token"].as_str().unwrap();
    for (email, password) in [("ann@example.com", "wrong"), ("nobody@example.com", PASSWORD)] {
        let answer = app.post("/login", &json!({"email": email, "password": password})).await;
        refused(&answer, 401, "Incorrect email or password");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }

    let verified = app.verify(token).await;
    let expected = json!({"id": 1, "email": "ann@example.com", "nickname": "ann", "role": "admin", "valid": true, "lock": false, "customer_account": "none",
        "password_compromised": false, "session_id": verified.body["session_id"],
        "expires_at": "2025-01-01T00:30:00.000Z", "idle_expires_at": "2025-01-01T00:30:00.000Z"});
    assert_eq!((verified.status.as_u16(), &verified.body), (200, &expected));

    let mine = app.with_token(Method::GET, "/my_account/", token, None).await.body;
    assert_eq!(
        keys(&mine),
        ["created_at", "customer_account", "email", "email_verified", "locale", "nickname", "pending_email"]
    );
    let changed =
        app.with_token(Method::PUT, "/my_account", token, Some(&json!({"nickname": "anna", "email": null}))).await;
    assert_eq!(changed.body, json!({"message": "Account details updated successfully"}));

    let out = app.with_token(Method::POST, "/logout", token, None).await;
    assert_eq!((out.status.as_u16(), &out.body), (200, &json!({"detail": "Logged out successfully"})));
    let dead = app.verify(token).await;
    refused(&dead, 401, "Could not validate credentials");
    assert_eq!(dead.headers["www-authenticate"], "Bearer error=\"invalid_token\"");

    let recovery = |passphrase: &str| json!({"email": "ann@example.com", "passphrase": passphrase, "new_password": "another lamp tree window"});
    refused(&app.post("/recovery", &recovery("no")).await, 400, "Entered details do not match");
    let recovered = app.post("/recovery", &recovery(" My FIRST car was blue")).await;
    assert_eq!(recovered.body, json!({"message": "Password changed successfully"}));
    let login = app.post("/login", &json!({"email": "ann@example.com", "password": "another lamp tree window"})).await;
    let token = login.body["access_token"].as_str().unwrap();
    let gone = app.with_token(Method::DELETE, "/my_account/delete", token, None).await;
    assert_eq!((gone.status.as_u16(), &gone.body), (200, &json!({"detail": "Account deleted successfully"})));
}

#[tokio::test]
async fn administrators_manage_accounts() {
    let app = App::start(PLENTY, PLENTY).await;
    let admin = app.person("root").await;
    let user = app.person("ulla").await;
    let list = app.with_token(Method::GET, "/accounts_management/?skip=1&limit=5", &admin, None).await;
    let account = &list.body.as_array().unwrap()[0];
    assert_eq!(
        keys(account),
        [
            "created_at",
            "customer_account",
            "email",
            "email_verified",
            "id",
            "idle_duration",
            "iddle_time",
            "is_logged_in",
            "lock",
            "nickname",
            "password_compromised",
            "role"
        ]
        .into_iter()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
    );
    assert_eq!(
        (&account["id"], &account["is_logged_in"], &account["idle_duration"]),
        (&json!(2), &json!(true), &json!("0 sec"))
    );
    let made = app.with_token(Method::POST, "/accounts_management", &admin, Some(&registration("max"))).await;
    assert_eq!(
        (made.status.as_u16(), &made.body["role"], &made.body["iddle_time"]),
        (201, &json!("user"), &Value::Null)
    );
    let one = |method, id: &str, body: Option<Value>| {
        let (path, admin, app) = (format!("/accounts_management/{id}"), &admin, &app);
        async move { app.with_token(method, &path, admin, body.as_ref()).await }
    };
    assert_eq!(one(Method::GET, "3", None).await.body["nickname"], "max");
    for id in ["9", "0", "-4", "99999999999999999999"] {
        let detail = format!("User with id {id} not found");
        refused(&one(Method::GET, id, None).await, 404, &detail);
        refused(&one(Method::PUT, id, Some(json!({}))).await, 404, &detail);
        refused(&one(Method::DELETE, id, None).await, 404, &detail);
    }
    assert_eq!(one(Method::GET, "x", None).await.status, 422);
    let locked = one(Method::PUT, "2", Some(json!({"lock": true}))).await;
    assert_eq!(locked.body, json!({"message": "User details successfully updated for user 2"}));
    assert_eq!(app.verify(&user).await.status, 401);
    assert_eq!(one(Method::PUT, "1", Some(json!({"role": "user"}))).await.status, 409);
    refused(&one(Method::DELETE, "1", None).await, 400, "Administrators cannot delete their own accounts");
    assert_eq!(one(Method::DELETE, "3", None).await.body, json!({"message": "User 3 has been successfully deleted"}));
    assert_eq!(app.with_token(Method::GET, "/accounts_management?limit=0", &admin, None).await.status, 422);
}

#[tokio::test]
async fn s54_every_route_keeps_out_whom_it_must_before_it_reads_the_body() {
    let app = App::start(PLENTY, PLENTY).await;
    let admin = app.person("root").await;
    let user = app.person("ulla").await;
    for route in route_table() {
        let path = route.path.replace("{id}", "2").replace("{file}", "index.css");
        // No route that reads a body accepts this one, so a request that is let in is refused for its body.
        let nonsense = (route.method != Method::GET).then(|| json!({"x": 1}));
        let status = async |headers: &[(&str, &str)]| {
            app.send(route.method.clone(), &path, headers, nonsense.as_ref()).await.status.as_u16()
        };
        let bearer = |token: &str| format!("Bearer {token}");
        let (none, dead) = (status(&[]).await, status(&[("authorization", "Bearer x")]).await);
        let twice = status(&[("authorization", "Bearer x"), ("authorization", "Bearer x")]).await;
        let as_user = if route.path == "/logout" { 200 } else { status(&[("authorization", &bearer(&user))]).await };
        let name = format!("{} {}", route.method, route.path);
        match route.access {
            Access::Public => {
                // Without a token, a page shows an error.
                let expected = if route.documented == PAGE { &[400][..] } else { &[200, 422] };
                assert!(expected.contains(&none) && none == dead, "{name}: {none} {dead}");
                assert_eq!(twice, 400, "{name}");
            }
            Access::Bearer => {
                assert_eq!((none, dead, twice), (401, 401, 400), "{name}");
                // No session has this id.
                let expected = if route.path == "/my_account/sessions/{id}" { [404, 422] } else { [200, 422] };
                let done = route.path == "/my_account/sessions" && as_user == 204;
                assert!(done || expected.contains(&as_user), "{name}: {as_user}");
            }
            Access::Admin => {
                assert_eq!((none, dead, twice, as_user), (401, 401, 400, 403), "{name}");
                if route.method != Method::DELETE {
                    let as_admin = status(&[("authorization", &bearer(&admin))]).await;
                    // There is no mail or service token with this number.
                    let has_no_such = ["/outbox/{id}/retry", "/service_tokens/{id}/rotate"].contains(&route.path);
                    let expected = if has_no_such { &[404, 422][..] } else { &[200, 422] };
                    assert!(expected.contains(&as_admin), "{name}: {as_admin}");
                }
            }
            Access::ServiceAndBearer(_) => {
                assert_eq!((none, dead, twice, as_user), (404, 404, 400, 404), "{name}");
                let service = ("x-service-token", SERVICE_TOKEN);
                assert_eq!(status(&[service]).await, 401, "{name}");
                assert_eq!(status(&[service, ("authorization", "Bearer x"), ("authorization", "Bearer x")]).await, 400);
            }
            Access::HiddenAdminOrService(_) => {
                assert_eq!((none, dead, twice, as_user), (404, 404, 400, 404), "{name}");
                assert_eq!(status(&[("x-service-token", SERVICE_TOKEN)]).await, 200, "{name}");
                assert_eq!(status(&[("authorization", &bearer(&admin))]).await, 200, "{name}");
            }
            Access::AdminOrService(_) => {
                assert_eq!((none, dead, twice, as_user), (401, 401, 400, 403), "{name}");
                assert_eq!(status(&[("x-service-token", SERVICE_TOKEN)]).await, 403, "{name}");
                assert_eq!(status(&[("x-service-token", "wrong")]).await, 401, "{name}");
                // The body is none that a backup takes.
                let expected = if route.method == Method::POST { 422 } else { 200 };
                assert_eq!(status(&[("authorization", &bearer(&admin))]).await, expected, "{name}");
            }
            Access::Service(scope) => {
                assert_eq!((none, dead, twice, as_user), (401, 401, 400, 401), "{name}");
                let expected = match scope {
                    ServiceScope::Introspect => 415,
                    _ => 403,
                };
                assert_eq!(status(&[("x-service-token", SERVICE_TOKEN)]).await, expected, "{name}");
                assert_eq!(status(&[("x-service-token", SERVICE_TOKEN), ("authorization", "Bearer x")]).await, 400);
            }
        }
        let wrong = app.send(Method::TRACE, &path, &[], None).await;
        assert_eq!(wrong.status, 405, "{name}");
        assert!(wrong.headers["allow"].to_str().unwrap().contains(route.method.as_str()), "{name}");
    }
}

#[tokio::test]
async fn all_wrong_fields_are_told_at_once() {
    let app = App::start(PLENTY, PLENTY).await;
    let body = json!({"email": "x", "nickname": " ", "password": "p".repeat(2000), "passphrase": "", "customer_account": "a/b"});
    let answer = app.post("/register", &body).await;
    assert_eq!(answer.status, 422);
    let pointers: Vec<_> =
        answer.body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/email", "/nickname", "/password", "/passphrase", "/customer_account"]);
    for smuggled in ["role", "lock", "email_verified", "id"] {
        let mut body = registration("eve");
        body[smuggled] = json!(true);
        let answer = app.post("/register", &body).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["errors"][0]["pointer"]),
            (422, &json!(format!("/{smuggled}")))
        );
    }
}

#[tokio::test]
async fn s22_limits_count_by_address_and_by_account() {
    let app = App::start(4, 2).await;
    let token = app.person("root").await;
    for expected in [200, 200, 429] {
        assert_eq!(app.with_token(Method::GET, "/my_account", &token, None).await.status.as_u16(), expected);
    }
    for expected in [404, 404, 429] {
        let answer = app.send(Method::POST, "/verify", &[("x-service-token", "wrong")], None).await;
        assert_eq!(answer.status.as_u16(), expected);
        assert_eq!(answer.headers.contains_key("retry-after"), expected == 429);
    }
    assert_eq!(app.post("/login", &json!({})).await.status, 429);
    assert_eq!(app.verify(&token).await.status, 200);
    assert_eq!(app.with_token(Method::GET, "/accounts_management", &token, None).await.status, 200);
}

#[tokio::test]
async fn s52_s72_a_failing_store_is_never_valid_and_strangers_learn_no_more() {
    let app = App::start(PLENTY, PLENTY).await;
    let token = app.person("root").await;
    assert_eq!(app.send(Method::GET, "/health/ready", &[], None).await.body, json!({"status": "ready"}));
    app.engine.break_down("on purpose");
    // Readiness is cached for a moment.
    app.clock.advance(Duration::from_secs(5));
    let verified = app.verify(&token).await;
    assert_eq!((verified.status.as_u16(), verified.headers.contains_key("retry-after")), (503, true));
    let ready = app.send(Method::GET, "/health/ready", &[], None).await;
    assert_eq!((ready.status.as_u16(), &ready.body), (503, &json!({"status": "not_ready"})));
    assert_eq!(app.send(Method::GET, "/health/live", &[], None).await.body, json!({"status": "ok"}));
    let health = app.send(Method::GET, "/health/actors", &[("x-service-token", SERVICE_TOKEN)], None).await.body;
    assert_eq!(
        keys(&health),
        [
            "actors",
            "backups",
            "feed",
            "hasher",
            "limiter",
            "log",
            "outbox",
            "problems",
            "sessions",
            "status",
            "store",
            "uptime_seconds"
        ]
    );
    assert_eq!(
        (&health["status"], &health["store"]["ok"], &health["sessions"]["live"]),
        (&json!("degraded"), &json!(false), &json!(1))
    );
}

#[tokio::test]
async fn the_documentation_is_served_from_here() {
    let app = App::start(PLENTY, PLENTY).await;
    let get = async |path: &str| app.client.get(format!("{}{path}", app.base)).send().await.unwrap();
    let page = get("/docs").await;
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("script-src 'self';"));
    assert!(page.headers()["cache-control"].to_str().unwrap().starts_with("public"));
    let page = page.text().await.unwrap();
    assert_eq!(page, get("/docs/").await.text().await.unwrap());
    for link in page.split(['"']).filter(|piece| piece.starts_with("/docs/")) {
        assert_eq!(get(link).await.status(), 200, "{link}");
    }
    assert!(get("/docs/swagger-initializer.js").await.text().await.unwrap().contains("\"url\": \"/openapi.json\""));
    assert_eq!(get("/docs/nope.js").await.status(), 404);
    let document: Value = get("/openapi.json").await.json().await.unwrap();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let root: Value = get("/").await.json().await.unwrap();
    assert_eq!(keys(&root), ["docs", "message", "version"]);
}

#[tokio::test]
async fn s66_pages_take_their_own_forms_and_answer_people_with_pages() {
    let app = App::start(PLENTY, PLENTY).await;
    let send = async |path: &str, kind: &str, site: Option<&str>, body: &'static str| {
        let mut request = app.client.post(format!("{}{path}", app.base)).header("content-type", kind).body(body);
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site);
        }
        let response = request.send().await.unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (response.status().as_u16(), kind.split(';').next().unwrap().to_owned(), response.text().await.unwrap())
    };
    for path in ["/email/verify?locale=fr", "/email/cancel?locale=fr", "/recovery/confirm?locale=fr"] {
        let form =
            if path.starts_with("/recovery") { "token=x&new_password=quiet+lamp+tree+window" } else { "token=x" };
        for site in [None, Some("same-origin")] {
            let (status, kind, page) = send(path, FORM, site, form).await;
            assert_eq!((status, kind.as_str()), (400, "text/html"), "{path}");
            assert!(page.contains("<html lang=\"fr\">"), "{page}");
        }
        for (form, status) in [("token=x&token=x", 400), ("token=%ff", 400), ("token=x&role=admin", 422), ("", 422)] {
            let (seen, kind, _) = send(path, FORM, None, form).await;
            assert_eq!((seen, kind.as_str()), (status, "text/html"), "{path} {form}");
        }
        for site in ["cross-site", "same-site", "none"] {
            let (status, kind, _) = send(path, FORM, Some(site), form).await;
            assert_eq!((status, kind.as_str()), (415, "application/problem+json"), "{path} {site}");
        }
        assert_eq!(send(path, "text/plain", None, form).await.0, 415);
    }
    for path in ["/login", "/register", "/recovery", "/recovery/request", "/email/verify/resend"] {
        assert_eq!(send(path, FORM, None, "email=ann@example.com").await.0, 415, "{path}");
    }
    let bad = app.post("/email/verify", &json!({"token": "x"})).await;
    refused(&bad, 400, "This link is not good: it was used, replaced by a newer one, or is over");
}

#[tokio::test]
async fn s12_s22_what_is_mailed_to_an_address_is_answered_alike_and_limited() {
    for path in ["/recovery/request", "/email/verify/resend"] {
        let app = App::start(4, PLENTY).await;
        assert_eq!(app.post("/register", &registration("ann")).await.status, 201);
        let known = app.post(path, &json!({"email": "ann@example.com"})).await;
        let unknown = app.post(path, &json!({"email": "nobody@example.com"})).await;
        assert_eq!((known.status.as_u16(), unknown.status.as_u16()), (202, 202));
        assert_eq!(known.body, unknown.body);
        assert_eq!(app.post(path, &json!({"email": "x"})).await.body["errors"][0]["pointer"], "/email");
        assert_eq!(app.post(path, &json!({"email": "nobody@example.com"})).await.status, 429);
        // A person who opens a link gets the same answer as a page.
        let page = app.send(Method::GET, "/email/verify?token=x", &[], None).await;
        assert_eq!(
            (page.status.as_u16(), &page.headers["content-type"]),
            (429, &"text/html; charset=utf-8".parse().unwrap())
        );
        assert!(page.headers.contains_key("retry-after"));
    }
}

#[tokio::test]
async fn s52_with_the_store_failing_no_service_and_no_proxy_hears_that_a_token_lives_or_is_dead() {
    let app = App::start(PLENTY, PLENTY).await;
    let admin = app.person("root").await;
    let body = json!({"name": "all", "scopes": ["introspect", "revoke", "revocations"]});
    let made = app.with_token(Method::POST, "/service_tokens/", &admin, Some(&body)).await;
    let secret = made.body["token"].as_str().unwrap();
    let form = |path: &str| {
        let request = app.client.post(format!("{}{path}", app.base)).header("x-service-token", secret);
        let typed = request.header("content-type", "application/x-www-form-urlencoded");
        typed.body(format!("token={admin}")).send()
    };
    assert_eq!(form("/oauth2/introspect").await.unwrap().status(), 200);
    app.engine.break_down("a test");
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        assert_eq!(form(path).await.unwrap().status(), 503, "{path}");
    }
    assert_eq!(app.with_token(Method::GET, "/forward_auth", &admin, None).await.status, 503);
    for path in ["/revocations", "/revocations?after=start", "/revocations?after=0"] {
        assert_eq!(app.send(Method::GET, path, &[("x-service-token", secret)], None).await.status, 503, "{path}");
    }
}

#[tokio::test]
async fn revocations_are_forgotten_in_turns_with_other_work() {
    let app = App::start(PLENTY, PLENTY).await;
    app.person("root").await;
    let handles = app.system.handles();
    let opened = app.store.sessions(ShardOf { index: 0, of: 1 }).await.unwrap().remove(0);
    let record = app.store.recent_audit(1).await.unwrap().remove(0).1;
    for n in 0..2600_u128 {
        let session = Session { id: SessionId::from_bytes(n.to_be_bytes()), ..opened.clone() };
        let touch = LastUse { account: session.account, session: session.id, at: app.clock.now() };
        app.store.open_session(session, None, None, None, record.clone()).await.unwrap();
        app.store.end_sessions(vec![touch], record.at, vec![record.clone()]).await.unwrap();
    }
    app.clock.advance(Duration::from_mins(1));
    handles.tend_services().await.unwrap();
    app.clock.advance(Duration::from_hours(1));
    let count = async || {
        let report = handles.health.report().await;
        report.actors.iter().find(|actor| actor.name == "services").unwrap().handled
    };
    let before = count().await;
    handles.tend_services().await.unwrap();
    assert_eq!(app.store.revocation_span().await.unwrap().before, 2600);
    assert!(count().await >= before + 6, "512 of them are removed by one message, and whoever asks meanwhile is next");
}
