//! `GET /`, `GET /docs` and `GET /openapi.json`.

use std::collections::BTreeSet;

use doorward::settings::PublicUrl;
use doorward::{Documented, route_table};
use reqwest::Method;
use serde_json::json;

use crate::support::TestApp;

#[tokio::test]
async fn the_root_says_what_answers_here() {
    let app = TestApp::spawn().await;
    let answer = app.get("/").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.members(), ["docs", "message", "version"]);
    assert_eq!(answer.body["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(app.get(answer.body["docs"].as_str().unwrap()).await.status, 200);
}

#[tokio::test]
async fn the_documentation_asks_no_other_host() {
    let app = TestApp::spawn().await;
    for path in ["/docs", "/docs/"] {
        let page = app.get(path).await;
        assert_eq!(page.status, 200, "{page:?}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(!page.text.contains("://"), "the page names another host");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        let files: Vec<&str> = page.text.split(['"', '\'']).filter(|text| text.starts_with("/docs/")).collect();
        assert!(files.len() >= 4, "{files:?}");
        for file in files {
            let answer = app.get(file).await;
            assert_eq!(answer.status, 200, "{file}");
            assert!(answer.header("cache-control").unwrap().starts_with("public, "), "{file}");
        }
    }
}

#[tokio::test]
async fn the_documentation_holds_only_its_own_files() {
    let app = TestApp::spawn().await;
    for name in ["index.html", "..%2f..%2fCargo.toml", "%2e%2e", "..", "swagger-ui.js.map", "a/b"] {
        // Sent as raw bytes, because an HTTP client would resolve the dots itself.
        let answer = app.exchange(format!("GET /docs/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{name}: {answer}");
    }
}

#[tokio::test]
async fn the_interface_is_described_as_openapi() {
    let app = TestApp::spawn().await;
    for path in ["/openapi.json", "/openapi.json/"] {
        let answer = app.get(path).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let document = &answer.body;
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        assert_eq!(document["security"], json!([{"userAuth": []}]));
        let schemes = &document["components"]["securitySchemes"];
        assert_eq!((&schemes["userAuth"]["type"], &schemes["userAuth"]["scheme"]), (&json!("http"), &json!("bearer")));
        let service = &schemes["serviceAuth"];
        assert_eq!((&service["type"], &service["in"]), (&json!("apiKey"), &json!("header")));
        assert_eq!(service["name"], "X-Service-Token");
        assert_eq!(document["paths"]["/verify"]["post"]["security"], json!([{"userAuth": [], "serviceAuth": []}]));
        for (path, method) in [("/register", "post"), ("/login", "post"), ("/recovery", "post"), ("/", "get")] {
            assert_eq!(document["paths"][path][method]["security"], json!([]), "{path}");
        }
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let app = TestApp::spawn().await;
    for path in ["/", "/health/live", "/openapi.json", "/docs"] {
        let (get, head) = (app.get(path).await, app.send(app.request(Method::HEAD, path)).await);
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("content-length"), Some(get.text.len().to_string().as_str()), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

#[tokio::test]
async fn every_route_of_the_table_is_described_and_no_other() {
    let app = TestApp::spawn().await;
    let document = app.get("/openapi.json").await.body;
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        described.extend(item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    let documented = route_table().iter().filter(|route| route.documented == Documented::Yes);
    let documented: BTreeSet<_> = documented.map(|route| (route.method.to_string(), route.path.to_owned())).collect();
    assert_eq!(described, documented);
}

/// Starts an application with a public path, which a proxy in front removes from requests.
async fn under_a_path() -> TestApp {
    let public_url = PublicUrl::parse("https://example.com/auth").unwrap();
    TestApp::builder().with(|settings| settings.mail.public_url = public_url).spawn().await
}

#[tokio::test]
async fn f19_under_a_path_every_link_of_the_documentation_works() {
    let app = under_a_path().await;
    let root = app.get("/").await;
    assert_eq!(root.body["docs"], "/auth/docs");
    for page in ["/docs", "/docs/"] {
        let page = app.get(page).await;
        let links: Vec<&str> = page.text.split(['"', '\'']).filter(|text| text.starts_with('/')).collect();
        assert!(links.len() >= 4, "{links:?}");
        assert!(!page.text.contains("\"./") && !page.text.contains("href=\"index"), "{}", page.text);
        for link in links {
            let behind_proxy = link.strip_prefix("/auth").unwrap_or_else(|| panic!("{link}"));
            assert_eq!(app.get(behind_proxy).await.status, 200, "{link}");
        }
    }
    let script = app.get("/docs/swagger-initializer.js").await.text;
    assert!(script.contains("/auth/openapi.json"), "{script}");
    assert_eq!(app.get("/openapi.json").await.body["servers"], json!([{"url": "https://example.com/auth"}]));
}

#[tokio::test]
async fn f19_nothing_else_that_a_browser_gets_names_an_absolute_path() {
    let app = under_a_path().await;
    for page in ["/email/verify?token=x", "/email/cancel?token=x", "/recovery/confirm?token=x"] {
        let page = app.get(page).await;
        for absolute in ["=\"/", "='/", "url(/", "url(\"/"] {
            assert!(!page.text.contains(absolute), "{absolute} in {}", page.text);
        }
    }
    for route in route_table() {
        let answer = app.send(app.request(route.method.clone(), &route.path.replace(['{', '}'], ""))).await;
        for header in ["location", "set-cookie", "content-location", "link", "refresh"] {
            assert_eq!(answer.header(header), None, "{}", route.path);
        }
    }
    let metadata = app.get("/.well-known/oauth-authorization-server").await;
    let urls = metadata.body.as_object().unwrap().values().filter_map(|value| value.as_str());
    assert!(urls.clone().count() >= 5 && urls.clone().all(|url| url.starts_with("https://example.com/auth")));
}
