//! `POST /recovery`.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, NEW_PASSWORD, TestApp};

async fn recover_under_one_id(app: &TestApp, email: &str, passphrase: &str, password: &str) -> Answer {
    let request = app.request(Method::POST, "/recovery").header("X-Request-Id", "the-same");
    app.send(request.json(&json!({"email": email, "passphrase": passphrase, "new_password": password}))).await
}

#[tokio::test]
async fn s31_a_recovery_replaces_the_password_ends_all_sessions_and_logs_nobody_in() {
    let app = TestApp::spawn().await;
    let (ann, one) = app.register_and_login("ann").await;
    let two = app.login(&ann).await;
    let (_, of_another) = app.register_and_login("bob").await;
    let answer = app.recover(&ann.email, &ann.passphrase, NEW_PASSWORD).await;
    answer.assert_body(200, &json!({"message": "Password changed successfully"}));
    assert!(!app.is_live(&one).await && !app.is_live(&two).await);
    assert!(app.is_live(&of_another).await);
    assert!(!app.opens(&ann, &ann.password).await);
    assert!(app.opens(&ann, NEW_PASSWORD).await);
    let app = app.restart().await;
    assert!(!app.is_live(&one).await && !app.is_live(&two).await);
    assert!(!app.opens(&ann, &ann.password).await);
    assert!(app.opens(&ann, NEW_PASSWORD).await);
}

#[tokio::test]
async fn s08_the_passphrase_counts_whatever_its_case_spacing_and_unicode_form() {
    let app = TestApp::spawn().await;
    let mut ann = crate::support::Person::named("ann");
    ann.passphrase = "  Ｍy FIRST\tcafe\u{301}  ".to_owned();
    assert_eq!(app.post("/register", &ann.registration()).await.status, 201);
    for (n, passphrase) in ["my first café", "MY  first CAFÉ", "Ｍy FIRST cafe\u{301}"].iter().enumerate() {
        let answer = app.recover(" ANN@example.com", passphrase, &format!("{NEW_PASSWORD}{n}")).await;
        assert_eq!(answer.status, 200, "{passphrase}: {answer:?}");
    }
    for other in ["my first cafe", "myfirst café", "my first"] {
        app.recover(&ann.email, other, NEW_PASSWORD).await.assert_problem(400, "Entered details do not match");
    }
    app.recover(&ann.email, " \u{3000} ", NEW_PASSWORD).await.assert_status_problem(422);
    assert!(app.opens(&ann, &format!("{NEW_PASSWORD}2")).await);
}

#[tokio::test]
async fn s12_unknown_wrong_and_locked_recoveries_answer_alike() {
    let app = TestApp::builder().with(|settings| settings.passwords.hash_threads = 1).spawn().await;
    let admin = app.admin().await;
    let (ann, bob) = (app.register("ann").await, app.register("bob").await);
    app.lock(&admin, bob.id).await;
    let wrong = recover_under_one_id(&app, &ann.email, "something else", NEW_PASSWORD).await;
    wrong.assert_problem(400, "Entered details do not match");
    for (email, passphrase) in [
        ("nobody@example.com", ann.passphrase.as_str()),
        (&bob.email, &bob.passphrase),
        (&bob.email, "something else"),
        (&ann.email, "something else"),
    ] {
        let before = app.hashes().await;
        let answer = recover_under_one_id(&app, email, passphrase, NEW_PASSWORD).await;
        assert_eq!(answer.whole(), wrong.whole(), "{email} {passphrase}");
        assert_eq!(app.hashes().await - before, 1, "{email} {passphrase}");
    }
    assert!(app.opens(&ann, &ann.password).await);
    app.must_change(&admin, bob.id, &json!({"lock": false})).await;
    assert!(app.opens(&bob, &bob.password).await, "a refused recovery changed a locked account");
}

#[tokio::test]
async fn s12_a_weak_new_password_is_refused_alike_for_known_and_unknown_accounts() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    for weak in ["short", "Password1!"] {
        let known = recover_under_one_id(&app, &ann.email, "something else", weak).await;
        known.assert_status_problem(400);
        assert!(known.body["detail"].as_str().unwrap().starts_with("Password is too weak: "), "{known:?}");
        let unknown = recover_under_one_id(&app, "eve@example.com", "something else", weak).await;
        assert_eq!(unknown.whole(), known.whole());
        let right = recover_under_one_id(&app, &ann.email, &ann.passphrase, weak).await;
        assert_eq!(right.whole(), known.whole());
    }
    assert!(app.opens(&ann, &ann.password).await);
}

#[tokio::test]
async fn s04_a_new_password_made_of_the_nickname_is_refused_only_to_who_knows_the_passphrase() {
    let app = TestApp::spawn().await;
    let mut ann = crate::support::Person::named("ann");
    ann.nickname = "Zebrafinch42".to_owned();
    assert_eq!(app.post("/register", &ann.registration()).await.status, 201);
    let weak = "Zebrafinch42!";
    app.recover(&ann.email, "something else", weak).await.assert_problem(400, "Entered details do not match");
    let answer = app.recover(&ann.email, &ann.passphrase, weak).await;
    answer.assert_problem(400, "Password is too weak: it is too common or too easy to guess");
    assert!(app.opens(&ann, &ann.password).await);
}

#[tokio::test]
async fn s61_a_recovery_without_its_fields_names_them() {
    let app = TestApp::spawn().await;
    let whole = json!({"email": "ann@example.com", "passphrase": "x", "new_password": NEW_PASSWORD});
    for member in ["email", "passphrase", "new_password"] {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(member);
        assert_eq!(app.post("/recovery", &body).await.pointers(), [format!("/{member}")]);
        body[member] = json!(7);
        assert_eq!(app.post("/recovery/", &body).await.pointers(), [format!("/{member}")]);
    }
    let useless = json!({"email": "x", "passphrase": "", "new_password": "x".repeat(1025)});
    assert_eq!(app.post("/recovery", &useless).await.pointers(), ["/email", "/passphrase", "/new_password"]);
    let mut more = whole.clone();
    more["password"] = json!("x");
    assert_eq!(app.post("/recovery", &more).await.pointers(), ["/password"]);
}
