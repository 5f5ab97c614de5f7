//! Rules that hold for every route.

use std::collections::BTreeSet;

use doorward::route_table;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Answer, SERVICE_TOKEN, TestApp};

/// Every route that reads a body.
const BODY_ROUTES: [(Method, &str); 7] = [
    (Method::POST, "/register"),
    (Method::POST, "/login"),
    (Method::POST, "/recovery"),
    (Method::PUT, "/my_account/"),
    (Method::DELETE, "/my_account/delete"),
    (Method::POST, "/accounts_management/"),
    (Method::PUT, "/accounts_management/1"),
];

fn json_bytes(app: &TestApp, method: Method, path: &str, token: &str, body: Vec<u8>) -> RequestBuilder {
    app.request(method, path).bearer_auth(token).header("Content-Type", "application/json").body(body)
}

fn concrete(template: &str) -> String {
    template.replace("{id}", "1").replace("{file}", "index.css")
}

#[track_caller]
fn assert_fixed_headers(answer: &Answer) {
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"), ("cache-control", "no-store")]
    {
        let given: Vec<_> = answer.headers.get_all(name).iter().collect();
        assert_eq!(given, [value], "{name}: {answer:?}");
    }
    assert_eq!(answer.headers.get_all("x-request-id").iter().count(), 1, "{answer:?}");
    for talkative in ["server", "x-powered-by", "access-control-allow-origin"] {
        assert!(answer.header(talkative).is_none(), "{talkative}: {answer:?}");
    }
}

#[tokio::test]
async fn s61_an_unknown_path_is_404_whatever_the_method() {
    let app = TestApp::spawn().await;
    for path in
        ["/nope", "/login/x", "/login//", "//", "/my_account/7", "/accounts_management/1/2", "/Login", "/docs/a/b"]
    {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            app.send(app.request(method, path)).await.assert_problem(404, "Not found");
        }
    }
}

#[tokio::test]
async fn s61_a_method_that_a_path_lacks_is_405_and_the_answer_says_which_it_has() {
    let app = TestApp::spawn().await;
    for path in route_table().iter().map(|route| route.path).collect::<BTreeSet<_>>() {
        let mut has: BTreeSet<String> =
            route_table().iter().filter(|route| route.path == path).map(|route| route.method.to_string()).collect();
        if has.contains("GET") {
            has.insert("HEAD".to_owned());
        }
        let bare = concrete(path).trim_end_matches('/').to_owned();
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            if has.contains(method) {
                continue;
            }
            for path in [bare.clone(), format!("{bare}/")] {
                let answer = app.send(app.request(method.parse().unwrap(), &path)).await;
                assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
                let allowed: BTreeSet<String> =
                    answer.header("allow").unwrap().split(", ").map(str::to_owned).collect();
                assert_eq!(allowed, has, "{method} {path}");
                if method != "HEAD" {
                    answer.assert_problem(405, "Method not allowed");
                }
            }
        }
    }
}

#[tokio::test]
async fn s61_a_body_that_is_not_declared_as_json_is_415() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for (method, path) in BODY_ROUTES {
        for declared in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("application/json; charset=utf-16"),
            Some("application/jsonp"),
        ] {
            let mut request = app.request(method.clone(), path).bearer_auth(&admin).body("{}");
            if let Some(declared) = declared {
                request = request.header("Content-Type", declared);
            }
            app.send(request).await.assert_problem(415, "The request body must be application/json");
        }
    }
    let declared = app.request(Method::PUT, "/my_account/").bearer_auth(&admin);
    let declared = declared.header("Content-Type", "application/json; charset=UTF-8").body("{}");
    assert_eq!(app.send(declared).await.status, 200);
}

#[tokio::test]
async fn s63_a_body_that_is_not_json_is_400() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for (method, path) in BODY_ROUTES {
        let send = async |body: &[u8]| app.send(json_bytes(&app, method.clone(), path, &admin, body.to_vec())).await;
        for broken in ["{", "nope", "{\"email\":\"x\"} x", "{'email':1}", "{\"email\":\"\\ud800\"}", "\u{feff}{}"] {
            send(broken.as_bytes()).await.assert_problem(400, "The request body is not valid JSON");
        }
        let deep = "[".repeat(60_000);
        send(deep.as_bytes()).await.assert_problem(400, "The request body is not valid JSON");
        send(b"{\"email\":\"\xff\"}").await.assert_problem(400, "The request body is not valid UTF-8");
        for twice in [
            r#"{"email":"a@b.cd","email":"b@b.cd"}"#,
            r#"{"email":"a@b.cd","\u0065mail":"b@b.cd"}"#,
            r#"{"x":[{"y":{"z":1,"z":1}}]}"#,
        ] {
            let detail = "The request body has a JSON object with the same name twice";
            send(twice.as_bytes()).await.assert_problem(400, detail);
        }
    }
}

#[tokio::test]
async fn s61_json_that_is_no_object_is_422() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for (method, path) in BODY_ROUTES {
        for other in ["[]", "\"x\"", "1", "null", "true", "[{\"email\":\"a@b.cd\"}]"] {
            // Null counts as no body, and a deletion needs none.
            if other == "null" && method == Method::DELETE {
                continue;
            }
            let request = json_bytes(&app, method.clone(), path, &admin, other.into());
            assert_eq!(app.send(request).await.pointers(), [""], "{method} {path} {other}");
        }
        let request = json_bytes(&app, method.clone(), path, &admin, br#"{"a/b~c":1}"#.to_vec());
        assert_eq!(app.send(request).await.pointers(), ["/a~1b~0c"], "{method} {path}");
    }
}

#[tokio::test]
async fn s61_more_than_64_kib_of_body_are_413_and_64_kib_are_not() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let padded = |size: usize| format!("{{{}}}", " ".repeat(size - 2)).into_bytes();
    let fits = json_bytes(&app, Method::PUT, "/my_account/", &admin, padded(64 * 1024));
    assert_eq!(app.send(fits).await.status, 200);
    for (method, path) in BODY_ROUTES {
        let request = json_bytes(&app, method.clone(), path, &admin, padded(64 * 1024 + 1));
        app.send(request).await.assert_problem(413, "The request body is larger than 64 KiB");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {admin}\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let chunks = format!("1000\r\n{}\r\n", " ".repeat(0x1000)).repeat(17);
        let answer = app.exchange(format!("{head}{chunks}0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn s63_two_authorization_headers_are_400_on_every_route() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for route in route_table() {
        for (first, second) in [(&*admin, &*admin), (&*admin, "garbage"), ("garbage", &*admin)] {
            let request = app.request(route.method.clone(), &concrete(route.path)).bearer_auth(first);
            let request = request.header("Authorization", format!("Bearer {second}"));
            let answer = app.send(request.header("X-Service-Token", SERVICE_TOKEN)).await;
            assert_eq!(answer.status, 400, "{} {}: {answer:?}", route.method, route.path);
            answer.assert_problem(400, "There is more than one Authorization header");
        }
    }
    assert!(app.is_live(&admin).await);
}

#[tokio::test]
async fn a_token_counts_only_as_a_bearer_in_the_authorization_header() {
    let app = TestApp::spawn().await;
    let token = app.admin().await;
    let ask = |query: &str| app.request(Method::GET, &format!("/my_account/{query}"));
    for request in [
        ask(&format!("?access_token={token}")),
        ask(&format!("?token={token}&Authorization=Bearer%20{token}")),
        ask("").header("Cookie", format!("access_token={token}")),
        ask("").header("X-Authorization", format!("Bearer {token}")),
        ask("").header("Authorization", format!("Basic {token}")),
        ask("").header("Authorization", token.clone()),
        ask("").header("Authorization", "Bearer"),
    ] {
        app.send(request).await.assert_unauthorized("Bearer");
    }
    let dead = ask(&format!("?access_token={token}")).bearer_auth("garbage");
    app.send(dead).await.assert_unauthorized("Bearer error=\"invalid_token\"");
    assert_eq!(app.send(ask("").header("Authorization", format!("bEARER {token}"))).await.status, 200);
}

#[tokio::test]
async fn s66_every_answer_carries_the_fixed_headers() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let is_kept = |path: &str| path.starts_with("/docs") || path.starts_with("/.well-known/");
    for route in route_table().iter().filter(|route| !is_kept(route.path)) {
        for token in ["garbage", &admin] {
            let request = app.request(route.method.clone(), &concrete(route.path)).bearer_auth(token);
            assert_fixed_headers(&app.send(request).await);
        }
    }
    let (_, user) = app.register_and_login("ann").await;
    let login = |body: &str| json_bytes(&app, Method::POST, "/login", "x", body.into());
    for (status, request) in [
        (200, app.request(Method::GET, "/my_account/").bearer_auth(&user)),
        (201, app.request(Method::POST, "/register").json(&crate::support::Person::named("bob").registration())),
        (400, login("{")),
        (401, login(r#"{"email":"x@example.com","password":"x"}"#)),
        (403, app.request(Method::GET, "/accounts_management/").bearer_auth(&user)),
        (404, app.request(Method::GET, "/nope")),
        (405, app.request(Method::GET, "/login")),
        (413, login(&"x".repeat(70_000))),
        (415, app.request(Method::POST, "/login").body("x")),
        (422, login("{}")),
    ] {
        let answer = app.send(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_fixed_headers(&answer);
    }
}

#[tokio::test]
async fn s67_no_other_origin_is_let_in() {
    let app = TestApp::spawn().await;
    for (method, path) in [(Method::OPTIONS, "/login"), (Method::GET, "/"), (Method::POST, "/login")] {
        let request = app.request(method, path).header("Origin", "https://evil.example");
        let answer = app.send(request.header("Access-Control-Request-Method", "POST")).await;
        assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{answer:?}");
    }
}

#[tokio::test]
async fn s71_a_sane_request_id_comes_back_and_any_other_is_replaced() {
    let app = TestApp::spawn().await;
    let with_id = async |id: &[u8]| {
        let value = reqwest::header::HeaderValue::from_bytes(id).unwrap();
        app.send(app.request(Method::GET, "/nope").header("X-Request-Id", value)).await
    };
    let longest = "x".repeat(64);
    for sane in ["a", "Ab-1.2_3", "0192f3a4-7c6d-7e00-8000-0123456789ab", longest.as_str()] {
        let answer = with_id(sane.as_bytes()).await;
        assert_eq!(answer.header("x-request-id"), Some(sane));
        assert_eq!(answer.body["instance"], sane);
    }
    let too_long = "x".repeat(65);
    let mut made = BTreeSet::new();
    for bad in [b"".as_slice(), b"a b", b"a;b", b"\"a\"", b"\xe9", b"a\tb", b"../../x", too_long.as_bytes()] {
        let answer = with_id(bad).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert!(id.len() >= 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        assert_eq!(answer.body["instance"], json!(id));
        assert!(made.insert(id), "the same id twice");
    }
    let twice = app.request(Method::GET, "/").header("X-Request-Id", "a").header("X-Request-Id", "b");
    assert!(!["a", "b"].contains(&app.send(twice).await.header("x-request-id").unwrap()));
}

#[tokio::test]
async fn r07_no_malformed_request_is_a_server_error() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let values = [
        json!(null),
        json!(-1),
        json!(1.5e300),
        json!("\u{0}"),
        json!("\u{202E}\u{FEFF}\u{1F600}"),
        json!("x".repeat(30_000)),
        json!("'; DROP TABLE users; --"),
        json!([[[[]]]]),
        json!({"$ne": null}),
    ];
    let members = ["email", "nickname", "password", "passphrase", "new_password", "customer_account", "role", "lock"];
    for (method, path) in BODY_ROUTES {
        for value in &values {
            let whole: Value = members.iter().map(|member| ((*member).to_owned(), value.clone())).collect();
            for body in members.iter().map(|member| json!({*member: value})).chain([whole]) {
                let answer = app.call(method.clone(), path, &admin, &body).await;
                assert!(answer.status < 500, "{method} {path} {body}: {answer:?}");
                // Null changes nothing, and some of the strings are odd but valid nicknames or passphrases.
                let possible = value.is_null() || value.is_string();
                assert!(answer.status != 200 || possible, "{method} {path} {body}: {answer:?}");
            }
        }
    }
    assert!(app.is_live(&admin).await);
}
