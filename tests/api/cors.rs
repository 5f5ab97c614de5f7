//! Requests from pages of other origins (CORS).

use std::collections::BTreeSet;

use doorward::settings::Origins;
use doorward::{Access, Documented, route_table};
use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, SERVICE_TOKEN, TestApp};

const APP: &str = "https://app.example.com";
const OTHER: &str = "http://localhost:3000";
const ALLOWED: &str = "Authorization, Content-Type, If-None-Match, Last-Event-ID, X-Request-Id";
const EXPOSED: &str = "Accept-Encoding, Content-Disposition, ETag, RateLimit, RateLimit-Policy, Retry-After, \
    WWW-Authenticate, X-Accel-Buffering, X-Auth-Email, X-Auth-Nickname, X-Auth-Role, X-Auth-Session, X-Auth-User-Id, X-Request-Id";

async fn open_to_apps() -> TestApp {
    let origins = Origins::parse(&format!("{APP},{OTHER}")).unwrap();
    TestApp::builder().with(|settings| settings.http.cors_origins = origins).spawn().await
}

fn concrete(template: &str) -> String {
    template.replace("{id}", "1").replace("{file}", "index.css")
}

fn preflight(app: &TestApp, origin: &str, path: &str) -> reqwest::RequestBuilder {
    let request = app.request(Method::OPTIONS, path).header("Origin", origin);
    request
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization,content-type")
}

#[track_caller]
fn assert_readable(answer: &Answer, origin: &str) {
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin), "{answer:?}");
    assert_eq!(answer.header("access-control-expose-headers"), Some(EXPOSED), "{answer:?}");
    assert_eq!(answer.headers.get_all("vary").iter().filter(|value| *value == "Origin").count(), 1, "{answer:?}");
    assert!(answer.header("access-control-allow-credentials").is_none(), "{answer:?}");
}

#[track_caller]
fn assert_not_readable(answer: &Answer) {
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{answer:?}");
    assert!(answer.headers.get_all("vary").iter().any(|value| value == "Origin"), "{answer:?}");
}

#[tokio::test]
async fn s67_a_listed_origin_may_ask_and_read_on_every_route_but_those_of_services() {
    let app = open_to_apps().await;
    for route in route_table() {
        let path = concrete(route.path);
        let asked = app.send(preflight(&app, APP, &path)).await;
        let request = app.request(route.method.clone(), &path).header("Origin", OTHER);
        let answered = app.send(request.header("X-Service-Token", SERVICE_TOKEN)).await;
        if matches!(route.access, Access::Service(_) | Access::ServiceAndBearer(_)) {
            assert_eq!(asked.status, 405, "{path}");
            assert_not_readable(&asked);
            assert_not_readable(&answered);
            continue;
        }
        assert_eq!((asked.status, asked.text.as_str()), (204, ""), "{path}: {asked:?}");
        assert_readable(&asked, APP);
        let methods = asked.header("access-control-allow-methods").unwrap();
        assert!(methods.split(", ").any(|method| method == route.method.as_str()), "{path}: {methods}");
        assert_eq!(asked.header("access-control-allow-headers"), Some(ALLOWED), "{path}");
        assert_eq!(asked.header("access-control-max-age"), Some("600"), "{path}");
        assert_readable(&answered, OTHER);
    }
}

#[tokio::test]
async fn s67_refusals_are_readable_too() {
    let origins = Origins::parse(APP).unwrap();
    let app = TestApp::builder()
        .with(|settings| {
            settings.http.cors_origins = origins;
            settings.limits.public.permits = 3.try_into().unwrap();
        })
        .spawn()
        .await;
    let post = |body: String| app.request(Method::POST, "/login").header("Origin", APP).body(body);
    let json_post = |body: String| post(body).header("Content-Type", "application/json");
    let unknown = json!({"email": "nobody@example.com", "password": "x"}).to_string();
    for (status, request) in [
        (400, json_post("{".to_owned())),
        (401, json_post(unknown.clone())),
        (413, json_post("x".repeat(70_000))),
        (415, post("{}".to_owned())),
        (429, json_post(unknown)),
        (401, app.request(Method::GET, "/my_account/").header("Origin", APP)),
        (404, app.request(Method::GET, "/nope").header("Origin", APP)),
        (404, preflight(&app, APP, "/nope")),
        (405, app.request(Method::PATCH, "/login").header("Origin", APP)),
        (405, app.request(Method::OPTIONS, "/login").header("Origin", APP)),
    ] {
        let answer = app.send(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_readable(&answer, APP);
    }
}

#[tokio::test]
async fn s67_any_other_origin_is_answered_without_a_word_about_it() {
    let app = open_to_apps().await;
    let person = app.register("ann").await;
    for origin in [
        "https://evil.example",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://evil-app.example.com",
        "https://APP.example.com",
        "https://app.example.com/",
        "null",
        "*",
        "",
    ] {
        let asked = app.send(preflight(&app, origin, "/login")).await;
        assert_eq!(asked.status, 405, "{origin}");
        assert_not_readable(&asked);
        let body = json!({"email": person.email, "password": person.password});
        let answered = app.send(app.request(Method::POST, "/login").header("Origin", origin).json(&body)).await;
        assert_eq!(answered.status, 200, "{origin}");
        assert_not_readable(&answered);
    }
    let two = app.request(Method::GET, "/").header("Origin", APP).header("Origin", APP);
    assert_not_readable(&app.send(two).await);
    assert_not_readable(&app.get("/").await);
}

/// The headers that handlers read: the name in their source, the name of the header, and why a page needs no permission
/// to send it. An empty reason means that CORS allows the header.
const TAKEN: [(&str, &str, &str); 11] = [
    ("ACCEPT", "Accept", "every page may"),
    ("ACCEPT_ENCODING", "Accept-Encoding", "browsers alone may"),
    ("ACCEPT_LANGUAGE", "Accept-Language", "every page may"),
    ("AUTHORIZATION", "Authorization", ""),
    ("CONTENT_ENCODING", "Content-Encoding", "a body must have none"),
    ("CONTENT_TYPE", "Content-Type", ""),
    ("IF_NONE_MATCH", "If-None-Match", ""),
    ("SEC_FETCH_SITE", "Sec-Fetch-Site", "browsers alone may"),
    ("USER_AGENT", "User-Agent", "browsers alone do"),
    ("X_SERVICE_TOKEN", "X-Service-Token", "the secret of a service belongs in no browser"),
    ("\"last-event-id\"", "Last-Event-ID", ""),
];

#[test]
fn f20_a_page_may_send_every_header_that_a_route_takes() {
    let source = include_str!("../../src/http/edge/extract.rs").split("#[cfg(test)]").next().unwrap();
    let mut taken = BTreeSet::new();
    for look in ["headers.get(", "headers.get_all(", "headers.contains_key("] {
        let after = source.match_indices(look).map(|(at, _)| &source[at + look.len()..]);
        taken.extend(after.map(|rest| rest.split(')').next().unwrap()));
    }
    let known: BTreeSet<_> = TAKEN.iter().map(|(name, ..)| *name).collect();
    assert_eq!(taken, known, "a header is looked at that this test does not know of");
    for (_, header, otherwise) in TAKEN {
        assert_eq!(ALLOWED.split(", ").any(|allowed| allowed == header), otherwise.is_empty(), "{header}");
    }
}

#[test]
fn f20_a_page_may_read_every_header_that_a_route_gives() {
    // No answer in these tests has headers that the document lacks; see `support/documented.rs`.
    let document = doorward::openapi_document();
    for route in route_table().iter().filter(|route| route.documented == Documented::Yes) {
        if matches!(route.access, Access::Service(_) | Access::ServiceAndBearer(_)) {
            continue;
        }
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        for response in operation["responses"].as_object().unwrap().values() {
            for header in response["headers"].as_object().unwrap().keys() {
                assert!(EXPOSED.split(", ").any(|exposed| exposed == header), "{} {header}", route.path);
            }
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|it| it["in"] == "header") {
            let name = parameter["name"].as_str().unwrap();
            assert!(ALLOWED.split(", ").any(|allowed| allowed == name), "{} {name}", route.path);
        }
    }
}
