//! `/my_account`: what owners do with their own accounts.

use std::time::Duration;

use doorward_actors::MailKind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{NEW_PASSWORD, Person, TestApp, TestAppBuilder};

const REAUTHENTICATE: &str = "Send current_password, or log in again, to make this change";

/// Returns a builder whose sessions live longer than a login counts as fresh for changes of credentials.
fn app_with_a_window() -> TestAppBuilder {
    TestApp::builder().with(|settings| settings.sessions.reauth_window = Duration::from_mins(5))
}

fn updated() -> Value {
    json!({"message": "Account details updated successfully"})
}

async fn mine(app: &TestApp, token: &str) -> Value {
    let answer = app.call(Method::GET, "/my_account/", token, &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn owners_see_their_account_and_no_secret_of_it() {
    let app = TestApp::spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    let expected = json!({"nickname": "ann", "email": ann.email, "customer_account": "none", "email_verified": false,
        "pending_email": null, "locale": "en", "created_at": "2025-01-01T00:00:00.000Z"});
    for path in ["/my_account/", "/my_account"] {
        app.call(Method::GET, path, &token, &Value::Null).await.assert_body(200, &expected);
    }
}

#[tokio::test]
async fn my_account_is_for_live_tokens_only() {
    let app = TestApp::spawn().await;
    for (method, path) in
        [(Method::GET, "/my_account/"), (Method::PUT, "/my_account/"), (Method::DELETE, "/my_account/delete")]
    {
        app.send(app.request(method.clone(), path)).await.assert_unauthorized("Bearer");
        let answer = app.call(method, path, "garbage", &Value::Null).await;
        answer.assert_unauthorized("Bearer error=\"invalid_token\"");
    }
}

#[tokio::test]
async fn owners_change_their_names() {
    let app = TestApp::spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    for path in ["/my_account/", "/my_account"] {
        let change = json!({"nickname": "Anna", "email": "Anna@Example.org"});
        app.call(Method::PUT, path, &token, &change).await.assert_body(200, &updated());
    }
    let seen = mine(&app, &token).await;
    assert_eq!((&seen["nickname"], &seen["pending_email"]), (&json!("Anna"), &json!("Anna@example.org")));
    let link = app.token_from("Anna@example.org", MailKind::ConfirmNewAddress).await;
    assert_eq!(app.post("/email/verify", &json!({"token": link})).await.status, 200);
    let seen = mine(&app, &token).await;
    assert_eq!((&seen["email"], &seen["pending_email"]), (&json!("Anna@example.org"), &Value::Null));
    assert!(!app.opens(&ann, &ann.password).await, "the old address still logs in");
    let renamed = Person { email: "anna@example.org".to_owned(), ..ann };
    assert!(app.opens(&renamed, &renamed.password).await);
    // The old nickname is free at once, the old address only when the change can no longer be undone (c08).
    app.pass(Duration::from_hours(72));
    let other = app.register("ann").await;
    assert_ne!(other.id, renamed.id);
}

#[tokio::test]
async fn null_and_absent_members_change_nothing() {
    let app = TestApp::spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    let before = mine(&app, &token).await;
    let nothing = json!({"nickname": null, "email": null, "password": null, "passphrase": null,
        "customer_account": null, "current_password": null});
    app.change_own(&token, &nothing).await.assert_body(200, &updated());
    assert_eq!(mine(&app, &token).await, before);
    assert!(app.opens(&ann, &ann.password).await);
}

#[tokio::test]
async fn taken_names_and_weak_passwords_are_refused() {
    let app = TestApp::spawn().await;
    app.register("kate").await;
    let (ann, token) = app.register_and_login("ann").await;
    let change = async |body: Value| app.change_own(&token, &body).await;
    change(json!({"email": "KATE@example.com"})).await.assert_problem(400, "Email already registered");
    change(json!({"nickname": "Kate"})).await.assert_problem(400, "Nickname already taken");
    let short = "Password is too weak: it must have at least 8 characters";
    change(json!({"password": "short"})).await.assert_problem(400, short);
    let guessable = "Password is too weak: it is too common or too easy to guess";
    change(json!({"password": "Password1!"})).await.assert_problem(400, guessable);
    // S04: the check uses the names that the account will have after the change.
    let made_of_it = json!({"nickname": "Zebrafinch42", "password": "Zebrafinch42!"});
    change(made_of_it).await.assert_problem(400, guessable);
    assert_eq!(mine(&app, &token).await["nickname"], "ann");
    assert!(app.opens(&ann, &ann.password).await);
    // The account's own names do not count as taken.
    change(json!({"email": "ANN@example.com", "nickname": "ANN"})).await.assert_body(200, &updated());
}

#[tokio::test]
async fn a_customer_plan_is_the_administrators_business_unless_users_may_choose() {
    let app = TestApp::spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    app.change_own(&token, &json!({"customer_account": "gold"})).await.assert_status_problem(400);
    assert_eq!(mine(&app, &token).await["customer_account"], "none");
    let app = TestApp::builder().with(|settings| settings.accounts.customer_account_self_service = true).spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    app.change_own(&token, &json!({"customer_account": "gold"})).await.assert_body(200, &updated());
    assert_eq!(mine(&app, &token).await["customer_account"], "gold");
}

#[tokio::test]
async fn s05_a_new_password_ends_the_other_sessions_but_not_this_one() {
    let app = TestApp::spawn().await;
    let (ann, here) = app.register_and_login("ann").await;
    let there = app.login(&ann).await;
    let (_, of_another) = app.register_and_login("bob").await;
    let answer = app.change_own(&here, &json!({"password": NEW_PASSWORD})).await;
    assert_eq!((answer.status, &answer.body["message"]), (200, &updated()["message"]));
    assert!(app.is_live(&here).await && app.is_live(&of_another).await);
    assert!(!app.is_live(&there).await);
    assert!(!app.opens(&ann, &ann.password).await);
    assert!(app.opens(&ann, NEW_PASSWORD).await);
    let app = app.restart().await;
    assert!(app.is_live(&here).await);
    assert!(!app.is_live(&there).await);
    assert!(!app.opens(&ann, &ann.password).await);
}

#[tokio::test]
async fn s05_sensitive_changes_need_the_password_once_the_login_is_old() {
    let app = app_with_a_window().with(|settings| settings.limits.login_failures = 100).spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    app.pass(Duration::from_mins(5));
    app.change_own(&token, &json!({"passphrase": "at the last moment"})).await.assert_body(200, &updated());
    app.pass(Duration::from_millis(1));
    let sensitive = [
        json!({"password": NEW_PASSWORD}),
        json!({"email": "anna@example.com"}),
        json!({"passphrase": "quite another one"}),
        json!({"nickname": "anna", "passphrase": "quite another one"}),
    ];
    for change in &sensitive {
        app.change_own(&token, change).await.assert_problem(403, REAUTHENTICATE);
        let mut wrong = change.clone();
        wrong["current_password"] = json!("Wrong-lamp-7-tree");
        app.change_own(&token, &wrong).await.assert_problem(403, REAUTHENTICATE);
    }
    app.delete_own(&token, &Value::Null).await.assert_problem(403, REAUTHENTICATE);
    app.delete_own(&token, &json!({"current_password": "Wrong-lamp-7-tree"})).await.assert_problem(403, REAUTHENTICATE);
    // Nothing was changed.
    let seen = mine(&app, &token).await;
    assert_eq!((&seen["nickname"], &seen["email"]), (&json!("ann"), &json!(ann.email)));
    assert!(app.opens(&ann, &ann.password).await);

    app.change_own(&token, &json!({"nickname": "anna"})).await.assert_body(200, &updated());
    let mut password = ann.password.clone();
    for change in sensitive {
        let mut confirmed = change.clone();
        confirmed["current_password"] = json!(password);
        let answer = app.change_own(&token, &confirmed).await;
        assert_eq!((answer.status, &answer.body["message"]), (200, &updated()["message"]));
        if change.get("password").is_some() {
            password = NEW_PASSWORD.to_owned();
        }
    }
    let gone = app.delete_own(&token, &json!({"current_password": password})).await;
    gone.assert_body(200, &json!({"detail": "Account deleted successfully"}));
    assert!(!app.is_live(&token).await);
}

#[tokio::test]
async fn s05_r05_a_clock_set_back_makes_no_login_recent_again() {
    let app = app_with_a_window().spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    app.pass(Duration::from_secs(301));
    app.clock.set_back(Duration::from_mins(4));
    let change = json!({"passphrase": "quite another one"});
    app.change_own(&token, &change).await.assert_problem(403, REAUTHENTICATE);
    // A process that starts while the clock is right refuses it too.
    app.clock.set_forward(Duration::from_mins(4));
    let app = app.restart().await;
    app.clock.set_back(Duration::from_mins(4));
    app.change_own(&token, &change).await.assert_problem(403, REAUTHENTICATE);
}

#[tokio::test]
async fn s05_another_login_allows_sensitive_changes_in_its_own_session_only() {
    let app = app_with_a_window().spawn().await;
    let (ann, old) = app.register_and_login("ann").await;
    app.pass(Duration::from_mins(6));
    let fresh = app.login(&ann).await;
    let change = json!({"passphrase": "quite another one"});
    app.change_own(&old, &change).await.assert_problem(403, REAUTHENTICATE);
    app.change_own(&fresh, &change).await.assert_body(200, &updated());
    let recovered = app.recover(&ann.email, "quite another one", NEW_PASSWORD).await;
    assert_eq!(recovered.status, 200, "{recovered:?}");
    assert!(!app.is_live(&fresh).await);
}

#[tokio::test]
async fn s08_a_new_passphrase_replaces_the_old_one() {
    let app = TestApp::spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    app.change_own(&token, &json!({"passphrase": "Quite ANOTHER one"})).await.assert_body(200, &updated());
    let refused = app.recover(&ann.email, &ann.passphrase, NEW_PASSWORD).await;
    refused.assert_problem(400, "Entered details do not match");
    assert_eq!(app.recover(&ann.email, "quite another one", NEW_PASSWORD).await.status, 200);
}

#[tokio::test]
async fn s60_a_deleted_account_takes_its_sessions_along_and_frees_its_names_but_not_its_number() {
    let app = TestApp::spawn().await;
    app.register("admin").await;
    let (ann, here) = app.register_and_login("ann").await;
    let there = app.login(&ann).await;
    let answer = app.call(Method::DELETE, "/my_account/delete/", &here, &Value::Null).await;
    answer.assert_body(200, &json!({"detail": "Account deleted successfully"}));
    assert!(!app.is_live(&here).await && !app.is_live(&there).await);
    assert!(!app.opens(&ann, &ann.password).await);
    app.recover(&ann.email, &ann.passphrase, NEW_PASSWORD).await.assert_problem(400, "Entered details do not match");
    let again = app.register("ann").await;
    assert_eq!(again.id, ann.id + 1);
    assert!(!app.is_live(&here).await, "the new account took over the old one's session");
    let app = app.restart().await;
    assert!(!app.is_live(&here).await);
    assert_eq!(app.register("bob").await.id, ann.id + 2);
}

#[tokio::test]
async fn s58_the_last_administrator_stays_while_others_are_there() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (_, ann) = app.register_and_login("ann").await;
    let refusal = "The last administrator cannot be removed, demoted or locked";
    app.delete_own(&admin, &Value::Null).await.assert_problem(409, refusal);
    assert!(app.is_live(&admin).await);
    assert_eq!(app.delete_own(&ann, &Value::Null).await.status, 200);
    assert_eq!(app.delete_own(&admin, &json!({})).await.status, 200);
    assert!(!app.is_live(&admin).await);
}

#[tokio::test]
async fn s56_owners_cannot_change_what_is_not_theirs_to_change() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, token) = app.register_and_login("ann").await;
    let before = app.account(&admin, ann.id).await;
    for (member, value) in [
        ("role", json!("admin")),
        ("lock", json!(true)),
        ("email_verified", json!(true)),
        ("id", json!(1)),
        ("created_at", json!("2020-01-01T00:00:00Z")),
        ("is_logged_in", json!(false)),
        ("revision", json!(9)),
    ] {
        let answer = app.change_own(&token, &json!({"nickname": "anna", member: value})).await;
        assert_eq!(answer.pointers(), [format!("/{member}")]);
        let answer = app.delete_own(&token, &json!({member: value})).await;
        assert_eq!(answer.pointers(), [format!("/{member}")]);
    }
    assert_eq!(app.account(&admin, ann.id).await, before);
}

#[tokio::test]
async fn s61_fields_that_cannot_be_used_are_named() {
    let app = TestApp::spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    let long = "x".repeat(1025);
    let useless = json!({"email": "x", "nickname": "", "password": long, "passphrase": " ", "customer_account": "",
        "current_password": long});
    let all = ["/email", "/nickname", "/password", "/passphrase", "/customer_account", "/current_password"];
    assert_eq!(app.change_own(&token, &useless).await.pointers(), all);
    for member in all {
        let answer = app.change_own(&token, &json!({&member[1..]: 7})).await;
        assert_eq!(answer.pointers(), [member]);
    }
    assert_eq!(app.delete_own(&token, &json!({"current_password": 7})).await.pointers(), ["/current_password"]);
    app.change_own(&token, &Value::Null).await.assert_status_problem(422);
    assert!(app.is_live(&token).await);
}
