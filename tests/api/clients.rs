//! Requests of real clients that are unusual but not wrong.

use reqwest::Method;
use reqwest::header::{ACCEPT_LANGUAGE, HeaderValue, USER_AGENT};
use serde_json::json;

use crate::support::{Person, SERVICE_TOKEN, TestApp};

#[tokio::test]
async fn f22_an_encoded_body_is_415_and_the_identity_is_none() {
    let app = TestApp::spawn().await;
    let (person, token) = app.register_and_login("ann").await;
    let login = json!({"email": person.email, "password": person.password});
    let detail = "The request body must not be compressed: no Content-Encoding is understood";
    for coding in ["gzip", "GZIP", "x-gzip", "br", "zstd", "deflate", "identity, gzip", "utf-8"] {
        for (method, path) in [
            (Method::POST, "/login"),
            (Method::POST, "/recovery"),
            (Method::PUT, "/my_account/"),
            (Method::DELETE, "/my_account/delete"),
            (Method::POST, "/accounts_management/"),
        ] {
            let request = app.request(method, path).bearer_auth(&token).header("Content-Encoding", coding);
            let answer = app.send(request.json(&login)).await;
            answer.assert_problem(415, detail);
            assert_eq!(answer.header("accept-encoding"), Some("identity"), "{answer:?}");
        }
        let form = |path| app.form(path, "token=x").header("Content-Encoding", coding);
        let introspection = form("/oauth2/introspect").header("X-Service-Token", SERVICE_TOKEN);
        app.send(introspection).await.assert_problem(415, detail);
        // A form of the service's own page gets a page as its answer.
        assert_eq!(app.send(form("/email/verify")).await.status, 415, "{coding}");
    }
    for coding in ["identity", "Identity", "identity,identity", ""] {
        let request = app.request(Method::POST, "/login").header("Content-Encoding", coding);
        assert_eq!(app.send(request.json(&login)).await.status, 200, "{coding}");
    }
}

#[tokio::test]
async fn f22_a_user_agent_of_other_bytes_is_kept() {
    let app = TestApp::spawn().await;
    let person = app.register("ann").await;
    let login = json!({"email": person.email, "password": person.password});
    for (sent, kept) in
        [(&b"Caf\xc3\xa9/1"[..], "Café/1"), (b"Caf\xe9/1 (x)", "Caf\u{fffd}/1 (x)"), (b"a\tb/1", "ab/1")]
    {
        let agent = HeaderValue::from_bytes(sent).unwrap();
        let answer = app.send(app.request(Method::POST, "/login").header(USER_AGENT, agent).json(&login)).await;
        let sessions =
            app.send(app.request(Method::GET, "/my_account/sessions").bearer_auth(answer.text_at("access_token")));
        let sessions = sessions.await.body["sessions"].clone();
        let current = sessions.as_array().unwrap().iter().find(|session| session["current"] == true).unwrap();
        assert_eq!(current["user_agent"], kept);
    }
}

#[tokio::test]
async fn f22_the_language_of_a_client_is_read_from_all_its_lines() {
    let app = TestApp::spawn().await;
    for (n, (lines, locale)) in [
        (&["ja, en;Q=0.1", "de;q=0.5"][..], "de"),
        (&["fr;Q=0.3", "", "ro;q=0.9"], "ro"),
        (&["es"], "es"),
        (&["en;q=0, *;q=0.5"], "de"),
        (&["ja", "*"], "en"),
    ]
    .into_iter()
    .enumerate()
    {
        let person = Person::named(&format!("person{n}"));
        let mut request = app.request(Method::POST, "/register").json(&person.registration());
        for line in lines {
            request = request.header(ACCEPT_LANGUAGE, *line);
        }
        assert_eq!(app.send(request).await.status, 201);
        let token = app.login(&person).await;
        let own = app.send(app.request(Method::GET, "/my_account/").bearer_auth(token)).await;
        assert_eq!(own.body["locale"], locale, "{lines:?}");
    }
}

#[tokio::test]
async fn f22_a_time_has_three_digits_of_a_second_whichever_it_is() {
    for millis in [0, 7, 250, 500, 999] {
        let app = TestApp::spawn().await;
        app.pass(std::time::Duration::from_millis(millis));
        let (_, token) = app.register_and_login("ann").await;
        let own = app.send(app.request(Method::GET, "/my_account/").bearer_auth(token)).await;
        assert_eq!(own.body["created_at"], format!("2025-01-01T00:00:00.{millis:03}Z"));
    }
}
