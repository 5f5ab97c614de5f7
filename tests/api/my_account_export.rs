//! `POST /my_account/export`: what is stored about an account, for its owner.

use std::time::Duration;

use doorward_actors::MailKind;
use doorward_actors::ports::SendError;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestApp};

async fn export(app: &TestApp, token: &str, body: &Value) -> Answer {
    app.call(Method::POST, "/my_account/export", token, body).await
}

async fn get(app: &TestApp, token: &str, path: &str) -> Value {
    let answer = app.call(Method::GET, path, token, &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn an_export_has_all_that_is_stored_about_the_account_and_no_secret() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let bob = app.register("bob").await;
    let (ann, first) = app.register_and_login("ann").await;
    let verify = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    assert_eq!(app.post("/email/verify", &json!({"token": verify})).await.status, 200);
    app.must_change(&admin, ann.id, &json!({"customer_account": "gold"})).await;
    app.mail.refuse(Some(SendError::Transient("later".to_owned())));
    app.pass(Duration::from_secs(1));
    let token = app.login(&ann).await;
    assert_eq!(app.change_own(&token, &json!({"email": "anna@example.org"})).await.status, 200);
    app.handles.tend_mail().await.unwrap();

    let answer = export(&app, &token, &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let data = &answer.body;
    let account = &data["account"];
    assert_eq!(
        (&account["id"], &account["nickname"], &account["email"]),
        (&json!(ann.id), &json!("ann"), &json!(ann.email))
    );
    assert_eq!((&account["pending_email"], &account["email_verified"]), (&json!("anna@example.org"), &json!(true)));
    assert_eq!((&account["customer_account"], &account["role"]), (&json!("gold"), &json!("user")));
    assert_eq!((&account["lock"], &account["origin"]), (&json!(false), &json!("owner")));
    assert_eq!((&account["has_password"], &account["has_passphrase"]), (&json!(true), &json!(true)));
    assert_eq!(account["last_active_at"], "2025-01-01T00:00:01.000Z");
    assert_eq!(data["sessions"], get(&app, &token, "/my_account/sessions").await["sessions"]);
    assert_eq!(data["networks"], json!([{"address": "127.0.0.1", "last_login_at": "2025-01-01T00:00:01.000Z"}]));
    let purposes = |list: &str| -> Vec<String> {
        let links = data[list].as_array().unwrap().iter();
        links.map(|link| link["purpose"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(purposes("links"), ["confirm_address", "undo"]);
    assert_eq!(purposes("used_links"), ["verify_address"]);
    let mails = data["mails"].as_array().unwrap();
    let waiting = mails.iter().find(|mail| mail["template"] == "confirm_new_address").unwrap();
    assert_eq!((&waiting["to"], &waiting["state"]), (&json!("anna@example.org"), &json!("queued")));
    assert!(waiting.get("address").is_none() && waiting["last_error"].is_null(), "{waiting}");
    assert_eq!(
        (&data["events"][0]["event"], &data["events"][0]["outcome"]),
        (&json!("account.exported"), &json!("success"))
    );
    assert_eq!(data["events"], get(&app, &token, "/my_account/events?limit=500").await["events"]);
    assert_eq!((&data["events_next"], &data["administration"]), (&Value::Null, &json!([])));

    for secret in ["$argon2", "hash\"", "seed", &bob.email, "admin@example.com", &verify, &token, &first] {
        assert!(!answer.text.contains(secret), "{secret}: {}", answer.text);
    }
    // The addresses of others who acted on the account are theirs.
    let by_admin = data["events"].as_array().unwrap().iter().find(|event| event["actor"] == "admin").unwrap();
    assert_eq!((&by_admin["address"], &by_admin["details"]), (&Value::Null, &json!("customer_account")));
}

#[tokio::test]
async fn an_export_of_an_administrator_says_what_it_did_to_others() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    app.lock(&admin, ann.id).await;
    app.must_change(&admin, 1, &json!({"customer_account": "gold"})).await;
    let data = export(&app, &admin, &Value::Null).await.body;
    let acts = data["administration"].as_array().unwrap();
    assert_eq!(acts.len(), 1, "{acts:?}");
    assert_eq!((&acts[0]["actor"], &acts[0]["subject"]), (&json!("admin:1"), &json!(ann.id)));
    assert_eq!(acts[0]["address"], "127.0.0.1");
}

#[tokio::test]
async fn s05_an_export_needs_a_recent_login_or_the_password_and_is_on_record() {
    let app =
        TestApp::builder().with(|settings| settings.sessions.reauth_window = Duration::from_mins(5)).spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    assert_eq!(export(&app, &token, &Value::Null).await.status, 200);
    app.pass(Duration::from_secs(301));
    let refused = export(&app, &token, &json!({})).await;
    refused.assert_problem(403, "Send current_password, or log in again, to make this change");
    assert!(refused.header("www-authenticate").unwrap().contains("max_age=300"));
    export(&app, &token, &json!({"current_password": "Wrong-lamp-7-tree"})).await.assert_status_problem(403);
    assert_eq!(export(&app, &token, &json!({"current_password": ann.password})).await.status, 200);
    assert_eq!(export(&app, &token, &json!({"password": ann.password})).await.pointers(), ["/password"]);
    app.handles.audit.settle().await;
    let events = get(&app, &token, "/my_account/events?event=account.exported").await;
    let reasons: Vec<_> = events["events"].as_array().unwrap().iter().map(|event| event["reason"].clone()).collect();
    assert_eq!(reasons, [Value::Null, json!("wrong_password"), json!("reauthentication_needed"), Value::Null]);
    app.logout(&token).await;
    export(&app, &token, &json!({"current_password": ann.password})).await.assert_status_problem(401);
}

#[tokio::test]
async fn an_export_from_a_long_log_is_bounded_and_its_cursor_leads_to_the_rest() {
    let app = TestApp::spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    let sessions = get(&app, &token, "/my_account/sessions").await;
    let path = format!("/my_account/sessions/{}", sessions["sessions"][0]["id"].as_str().unwrap());
    for label in 0..510 {
        app.call(Method::PATCH, &path, &token, &json!({"label": label.to_string()})).await;
    }
    let data = export(&app, &token, &Value::Null).await.body;
    assert_eq!(data["events"].as_array().unwrap().len(), 500);
    let rest = get(&app, &token, &format!("/my_account/events?cursor={}", data["events_next"].as_str().unwrap())).await;
    let last = data["events"][499]["sequence"].as_u64().unwrap();
    let rest = rest["events"].as_array().unwrap();
    assert_eq!((&rest[0]["sequence"], &rest.last().unwrap()["sequence"]), (&json!(last - 1), &json!(1)));
}
