//! Administrators must prove their identity again before they change other accounts, service tokens or signing keys
//! (S77).

use std::time::Duration;

use doorward::settings::Algorithm;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, NEW_PASSWORD, TestApp};

const REFUSED: &str = "Send current_password, or log in again, to make this change";

fn challenge(max_age: u64) -> String {
    format!(
        "Bearer error=\"insufficient_user_authentication\", error_description=\"A more recent login is needed\", \
         max_age={max_age}"
    )
}

/// Adds `current_password` to a body.
fn with(body: &Value, password: &str) -> Value {
    let mut body = if body.is_null() { json!({}) } else { body.clone() };
    body["current_password"] = json!(password);
    body
}

async fn ask(app: &TestApp, admin: &str, what: &(Method, String, Value), password: Option<&str>) -> Answer {
    let (method, path, body) = what;
    let body = password.map_or_else(|| body.clone(), |password| with(body, password));
    app.call(method.clone(), path, admin, &body).await
}

#[tokio::test]
async fn c10_s77_what_gives_power_over_others_needs_a_recent_login_or_the_password() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.tokens.algorithm = Algorithm::EdDsa;
            settings.limits.login_failures = 100;
            settings.limits.address_failures = 1000;
        })
        .spawn()
        .await;
    let (admin, bearer) = app.register_and_login("admin").await;
    let (ann, bob) = (app.register("ann").await, app.register("bob").await);
    let (token, _) = app.service_token(&bearer, "billing", &["verify"]).await;
    let account = |id: u64| format!("/accounts_management/{id}");
    let put = |body: Value| (Method::PUT, account(ann.id), body);
    // The last requests delete what the earlier ones change.
    let sensitive = [
        put(json!({"role": "admin"})),
        put(json!({"role": "user", "lock": false})),
        put(json!({"password": NEW_PASSWORD})),
        put(json!({"passphrase": "quite another one"})),
        put(json!({"email": "anna@example.com"})),
        (Method::POST, "/service_tokens/".to_owned(), json!({"name": "second", "scopes": ["verify"]})),
        (Method::POST, format!("/service_tokens/{token}/rotate"), Value::Null),
        (Method::POST, "/keys/rotate".to_owned(), Value::Null),
        (Method::POST, "/keys/rotate".to_owned(), json!({"compromised": false})),
        (Method::DELETE, format!("/service_tokens/{token}"), Value::Null),
        (Method::DELETE, account(bob.id), Value::Null),
    ];
    app.pass(Duration::from_mins(15));
    assert_eq!(app.change(&bearer, ann.id, &json!({"role": "user"})).await.status, 200, "at the last moment");
    app.pass(Duration::from_millis(1));
    let before = (app.account(&bearer, ann.id).await, app.account(&bearer, bob.id).await);
    for what in &sensitive {
        for password in [None, Some("Wrong-lamp-7-tree")] {
            let answer = ask(&app, &bearer, what, password).await;
            answer.assert_problem(403, REFUSED);
            assert_eq!(answer.header("www-authenticate"), Some(&*challenge(900)), "{what:?}");
        }
    }
    assert_eq!((app.account(&bearer, ann.id).await, app.account(&bearer, bob.id).await), before);
    // Locks, plans, names and read access need no proof, as before.
    for harmless in [
        put(json!({"lock": true})),
        put(json!({"lock": false})),
        put(json!({"customer_account": "gold", "nickname": "anna", "locale": "de"})),
        (Method::GET, "/accounts_management/".to_owned(), Value::Null),
        (Method::GET, "/service_tokens/".to_owned(), Value::Null),
        (Method::GET, "/keys/".to_owned(), Value::Null),
    ] {
        assert_eq!(ask(&app, &bearer, &harmless, None).await.status, 200, "{harmless:?}");
    }
    for what in &sensitive {
        let answer = ask(&app, &bearer, what, Some(&admin.password)).await;
        assert!(answer.status < 300, "{what:?}: {answer:?}");
    }
    // A fresh login counts as proof.
    let again = app.login(&admin).await;
    assert_eq!(app.delete(&again, ann.id).await.status, 200);
}

#[tokio::test]
async fn c10_a_wrong_password_counts_and_a_new_one_ends_the_freshness_for_what_administrators_do_too() {
    let app = TestApp::spawn().await;
    let (admin, bearer) = app.register_and_login("admin").await;
    let ann = app.register("ann").await;
    let path = format!("/accounts_management/{}", ann.id);
    assert_eq!(app.change_own(&bearer, &json!({"password": NEW_PASSWORD})).await.status, 200);
    app.delete(&bearer, ann.id).await.assert_problem(403, REFUSED);
    let guess = json!({"current_password": admin.password});
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(app.call(Method::DELETE, &path, &bearer, &guess).await.status);
    }
    assert!(statuses.contains(&403) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(app.account(&bearer, ann.id).await["id"], ann.id);
    // The answer tells an owner the maximum age of the login too.
    let own = app.change_own(&bearer, &json!({"passphrase": "quite another one"})).await;
    assert_eq!(own.header("www-authenticate"), Some(&*challenge(300)));
    let wrong = app.call(Method::DELETE, &path, &bearer, &json!({"current_password": 7})).await;
    assert_eq!(wrong.pointers(), ["/current_password"]);
}
