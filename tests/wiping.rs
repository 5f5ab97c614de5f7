//! Secrets are overwritten before their memory is freed: in bodies, strings and fields. This test is a binary of its
//! own, because the allocator belongs to the whole process.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test may panic like the test itself")]

#[path = "api/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "this test needs only some of what the tests of the routes need")]
mod support;
#[path = "wiping/allocator.rs"]
mod watch;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use reqwest::Method;
use serde_json::json;

use support::{Person, TestApp};
use watch::{LEFT_BEHIND, WATCHING};

/// The libraries that may free such memory: the HTTP code of client and server, which holds a request before our code
/// gets it; the JSON library, which assembles strings with escapes; and zxcvbn, whose result is dropped by its caller.
/// docs/security.md lists them.
const OTHERS: [&str; 10] = [
    "/bytes-",
    "/hyper-",
    "/hyper-util-",
    "/http-",
    "/http-body-util-",
    "/reqwest-",
    "/serde_json-",
    "/url-",
    "/form_urlencoded-",
    "/zxcvbn-",
];

/// Returns the first call site in a backtrace that is neither the standard library nor the allocator of this test.
fn place(trace: &str) -> Option<&str> {
    let places = trace.lines().filter_map(|line| line.trim().strip_prefix("at "));
    places.into_iter().find(|at| !at.starts_with("/rust") && !at.contains("wiping/allocator.rs"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g26_no_secret_is_left_in_memory_that_was_given_back() {
    let app = TestApp::builder().spawn().await;
    let person = Person {
        password: "Kanarienvogel-1-kanarienvogel".to_owned(),
        passphrase: "kanarienvogel kanarienvogel".to_owned(),
        ..Person::named("ann")
    };
    WATCHING.store(true, Ordering::Relaxed);
    assert_eq!(app.post("/register", &person.registration()).await.status, 201);
    let login = json!({"email": person.email, "password": person.password});
    let answer = app.post("/login", &login).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = answer.text_at("access_token");
    // Right and wrong secrets, for every route that accepts one.
    let secret = "kanarienvogel-kanarienvogel-2";
    for (method, path, body) in [
        (Method::POST, "/login", json!({"email": person.email, "password": secret})),
        (Method::POST, "/login", json!({"password": secret, "email": 1})),
        (Method::POST, "/login", json!({"email": person.email, "password": secret.repeat(100)})),
        (Method::POST, "/refresh", json!({"refresh_token": secret})),
        (Method::POST, "/recovery", json!({"email": person.email, "passphrase": secret, "new_password": secret})),
        (Method::POST, "/recovery/confirm", json!({"token": secret, "new_password": secret, "passphrase": secret})),
        (Method::POST, "/email/verify", json!({"token": secret})),
        (Method::POST, "/email/cancel", json!({"token": secret})),
        (Method::POST, "/password/check", json!({"password": secret})),
        (Method::PUT, "/my_account/", json!({"passphrase": secret, "current_password": person.password})),
        (Method::PUT, "/my_account/", json!({"password": format!("{secret}-A"), "current_password": person.password})),
        (Method::PUT, "/accounts_management/1", json!({"passphrase": secret})),
        (Method::DELETE, "/my_account/delete", json!({"current_password": secret})),
        (Method::POST, "/logout", json!({"refresh_token": secret})),
    ] {
        app.call(method, path, &token, &body).await;
    }
    for (path, form) in [
        ("/email/verify", format!("token={secret}")),
        ("/recovery/confirm", format!("token={secret}&new_password={secret}+%C3%A9")),
        ("/oauth2/introspect", format!("token={secret}")),
        ("/email/verify", format!("token={secret}&token={secret}")),
        ("/email/verify", format!("token={secret}%ff")),
    ] {
        app.send(app.form(path, &form).basic_auth("service", Some(secret))).await;
    }
    // A large body arrives in several chunks.
    let padded = format!("{{\"password\":\"{secret}\",\"email\":\"{}\"}}", "x".repeat(40_000));
    let request = app.request(Method::POST, "/login").header("Content-Type", "application/json");
    app.send(request.body(padded)).await;
    app.stop().await.unwrap();
    WATCHING.store(false, Ordering::Relaxed);

    let traces = std::mem::take(&mut *LEFT_BEHIND.lock().unwrap());
    // Skips the results of zxcvbn, which are dropped at the call site.
    let traces = traces.iter().filter(|trace| !trace.contains("drop_in_place<zxcvbn::"));
    let places: Vec<_> = traces.map(|trace| place(trace).expect(trace)).collect();
    let is_ours = |at: &&&str| !at.starts_with("./tests/") && !OTHERS.iter().any(|other| at.contains(other));
    let ours: BTreeSet<_> = places.iter().filter(is_ours).collect();
    assert!(ours.is_empty(), "{ours:#?}");
    assert!(places.iter().any(|at| at.contains("/bytes-")), "the buffers of HTTP are found");
}
