//! Pages of other origins.

use doorward::settings::Origins;
use doorward::{Access, route_table};
use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, SERVICE_TOKEN, TestApp};

const APP: &str = "https://app.example.com";
const OTHER: &str = "http://localhost:3000";
const EXPOSED: &str = "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate";

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
        assert_eq!(
            asked.header("access-control-allow-headers"),
            Some("Authorization, Content-Type, X-Request-Id"),
            "{path}"
        );
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
