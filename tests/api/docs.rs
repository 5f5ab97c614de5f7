//! `/docs` and `/openapi.json`: they have a quota of their own, and the settings can switch them off.

use std::time::Duration;

use doorward_actors::LimitKey;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::TestApp;

const PATHS: [&str; 4] = ["/docs", "/docs/", "/docs/swagger-ui.css", "/openapi.json"];

#[tokio::test]
async fn d15_s75_reading_the_documentation_uses_up_nobodys_logins() {
    let app = TestApp::builder().with(|settings| settings.limits.public.permits = 4.try_into().unwrap()).spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    for path in PATHS.iter().cycle().take(40) {
        let answer = app.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("ratelimit").unwrap().starts_with("\"docs\";r="), "{answer:?}");
    }
    app.login(&ann).await;
    let left = app.call(Method::GET, "/rate_limits/?policy=docs", &token, &Value::Null).await;
    assert_eq!(left.body["rate_limits"][0]["remaining"], 260, "{left:?}");
    let key = left.body["rate_limits"][0]["key"].as_str().unwrap();
    assert!(matches!(LimitKey::parse(key), Some(LimitKey::Docs(_))), "{key}");
    for _ in 0..260 {
        assert_eq!(app.get("/openapi.json").await.status, 200);
    }
    for path in PATHS {
        app.get(path).await.assert_problem(429, "Too many requests, try again later");
    }
    app.login(&ann).await;
    assert_eq!(app.call(Method::DELETE, &format!("/rate_limits/{key}"), &token, &Value::Null).await.status, 204);
    assert_eq!(app.get("/docs").await.status, 200);
}

#[tokio::test]
async fn d15_who_may_not_log_in_may_read_the_documentation_and_the_other_way_round() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.limits.public.permits = 1.try_into().unwrap();
            settings.limits.public.per = Duration::from_hours(1);
        })
        .spawn()
        .await;
    app.post("/login", &json!({})).await;
    assert_eq!(app.post("/login", &json!({})).await.status, 429);
    for path in PATHS {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn d15_the_documentation_can_be_switched_off() {
    let app = TestApp::builder().with(|settings| settings.http.docs = false).spawn().await;
    for path in PATHS {
        app.get(path).await.assert_problem(404, "Not found");
        assert_eq!(app.send(app.request(Method::POST, path)).await.status, 404, "{path}");
        assert_eq!(app.send(app.request(Method::HEAD, path)).await.status, 404, "{path}");
    }
    let root = app.get("/").await;
    assert_eq!(root.members(), ["docs", "message", "version"]);
    assert_eq!(root.body["docs"], Value::Null);
    let on = TestApp::spawn().await;
    assert_eq!(on.get("/").await.body["docs"], "/docs");
}
