//! `POST /login`, `POST /logout` and the lifetime of a session.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Person, TestApp, TestAppBuilder};

fn one_hashing_thread() -> TestAppBuilder {
    TestApp::builder().with(|settings| settings.passwords.hash_threads = 1)
}

#[tokio::test]
async fn logging_in_opens_a_session() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    for path in ["/login", "/login/"] {
        let answer = app.post(path, &json!({"email": ann.email, "password": ann.password})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.members(), ["access_token", "expires_in", "refresh_token", "token_type", "user"]);
        assert_eq!(answer.body["token_type"], "bearer");
        assert_eq!(answer.body["expires_in"], 1800);
        assert_eq!(answer.body["user"], json!({"id": ann.id, "nickname": "ann", "email": "ann@example.com"}));
        assert!(app.is_live(answer.body["access_token"].as_str().unwrap()).await);
    }
}

#[tokio::test]
async fn s16_any_spelling_of_the_address_logs_in() {
    let app = TestApp::spawn().await;
    let kate = app.register("kate").await;
    for email in ["KATE@EXAMPLE.COM", " kate@example.com", "\u{212A}ate@example.com", "kate@ＥＸＡＭＰＬＥ.com"]
    {
        assert_eq!(app.login_under_one_id(email, &kate.password).await.status, 200, "{email}");
    }
}

#[tokio::test]
async fn s10_unknown_wrong_and_locked_logins_answer_alike() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, bob) = (app.register("ann").await, app.register("bob").await);
    app.lock(&admin, bob.id).await;
    let wrong = app.login_under_one_id(&ann.email, "Wrong-lamp-7-tree").await;
    wrong.assert_problem(401, "Incorrect email or password");
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer"));
    for (email, password) in [
        ("nobody@example.com", ann.password.as_str()),
        (&ann.email, ""),
        (&ann.email, "quiet-lamp-7-tree"),
        (&ann.email, " Quiet-lamp-7-tree"),
        (&bob.email, &bob.password),
        (&bob.email, "Wrong-lamp-7-tree"),
    ] {
        let answer = app.login_under_one_id(email, password).await;
        assert_eq!(answer.whole(), wrong.whole(), "{email} {password}");
    }
    assert!(app.opens(&ann, &ann.password).await);
}

#[tokio::test]
async fn s11_every_way_a_login_ends_computes_one_hash() {
    let app = one_hashing_thread().spawn().await;
    let admin = app.admin().await;
    let (ann, bob) = (app.register("ann").await, app.register("bob").await);
    app.lock(&admin, bob.id).await;
    for (way, email, password, status) in [
        ("unknown", "nobody@example.com", ann.password.as_str(), 401),
        ("wrong", &ann.email, "Wrong-lamp-7-tree", 401),
        ("locked", &bob.email, &bob.password, 401),
        ("locked and wrong", &bob.email, "Wrong-lamp-7-tree", 401),
        ("right", &ann.email, &ann.password, 200),
    ] {
        let before = app.hashes().await;
        assert_eq!(app.login_under_one_id(email, password).await.status, status, "{way}");
        assert_eq!(app.hashes().await - before, 1, "{way}");
    }
}

#[tokio::test]
async fn s10_s11_an_unverified_login_answers_as_a_wrong_one_does_after_one_hash() {
    let app = one_hashing_thread().with(|settings| settings.accounts.require_email_verification = true).spawn().await;
    let ann = app.register("ann").await;
    let wrong = app.login_under_one_id(&ann.email, "Wrong-lamp-7-tree").await;
    wrong.assert_problem(401, "Incorrect email or password");
    for (email, password) in [(ann.email.as_str(), ann.password.as_str()), ("nobody@example.com", &ann.password)] {
        let before = app.hashes().await;
        assert_eq!(app.login_under_one_id(email, password).await.whole(), wrong.whole(), "{email}");
        assert_eq!(app.hashes().await - before, 1, "{email}");
    }
}

#[tokio::test]
async fn s03_an_over_long_password_is_refused_without_a_hash() {
    let app = one_hashing_thread().spawn().await;
    let ann = app.register("ann").await;
    let before = app.hashes().await;
    assert_eq!(app.login_under_one_id(&ann.email, &"x".repeat(1025)).await.pointers(), ["/password"]);
    app.login_under_one_id(&ann.email, &"x".repeat(1_000_000)).await.assert_status_problem(413);
    assert_eq!(app.hashes().await, before);
}

#[tokio::test]
async fn s06_a_password_hash_of_another_cost_is_renewed_at_the_next_login() {
    let directory = tempfile::TempDir::new().unwrap();
    let cheap = one_hashing_thread().data_dir(directory.path()).spawn().await;
    let ann = cheap.register("ann").await;
    cheap.stop().await.unwrap();
    let dearer = |settings: &mut doorward::settings::Settings| settings.passwords.hash_memory_kib = 128;
    let app = one_hashing_thread().with(dearer).data_dir(directory.path()).spawn().await;
    for (login, hashes) in [("first", 2), ("second", 1)] {
        let before = app.hashes().await;
        app.login(&ann).await;
        // The hash is renewed after the answer.
        app.handles.tend_mail().await.unwrap();
        assert_eq!(app.hashes().await - before, hashes, "{login} login after the change");
    }
}

#[tokio::test]
async fn s61_a_login_without_its_fields_names_them() {
    let app = TestApp::spawn().await;
    let login = async |body: Value| app.post("/login", &body).await;
    assert_eq!(login(json!({"password": "x"})).await.pointers(), ["/email"]);
    assert_eq!(login(json!({"email": "ann@example.com"})).await.pointers(), ["/password"]);
    assert_eq!(login(json!({"email": "ann", "password": "x"})).await.pointers(), ["/email"]);
    assert_eq!(login(json!({"email": 1, "password": "x"})).await.pointers(), ["/email"]);
    assert_eq!(login(json!({"email": "ann@example.com", "password": 1})).await.pointers(), ["/password"]);
    let otp = json!({"email": "ann@example.com", "password": "x", "role": "admin"});
    assert_eq!(login(otp).await.pointers(), ["/role"]);
}

#[tokio::test]
async fn s37_logging_out_ends_this_session_everywhere_and_no_other() {
    let app = TestApp::spawn().await;
    let (ann, here) = app.register_and_login("ann").await;
    let there = app.login(&ann).await;
    app.logout(&here).await.assert_body(200, &json!({"detail": "Logged out successfully"}));
    assert!(!app.is_live(&here).await);
    for (method, path) in
        [(Method::GET, "/my_account/"), (Method::GET, "/accounts_management/"), (Method::POST, "/logout")]
    {
        app.call(method, path, &here, &Value::Null).await.assert_unauthorized("Bearer error=\"invalid_token\"");
    }
    assert!(app.is_live(&there).await);
    let slashed = app.call(Method::POST, "/logout/", &there, &Value::Null).await;
    slashed.assert_body(200, &json!({"detail": "Logged out successfully"}));
    assert!(!app.is_live(&there).await);
}

#[tokio::test]
async fn logging_out_without_a_token_is_401() {
    let app = TestApp::spawn().await;
    app.post("/logout", &json!({})).await.assert_unauthorized("Bearer");
    app.logout("garbage").await.assert_unauthorized("Bearer error=\"invalid_token\"");
}

#[tokio::test]
async fn sessions_live_through_a_restart_and_ended_ones_stay_ended() {
    let app = TestApp::spawn().await;
    let (ann, kept) = app.register_and_login("ann").await;
    let ended = app.login(&ann).await;
    assert_eq!(app.logout(&ended).await.status, 200);
    let app = app.restart().await;
    assert!(app.is_live(&kept).await);
    assert!(!app.is_live(&ended).await);
    assert!(app.opens(&ann, &ann.password).await);
    let app = app.restart().await;
    assert!(app.is_live(&kept).await);
    assert!(!app.is_live(&ended).await);
}

#[tokio::test]
async fn s42_one_login_too_many_ends_the_session_that_was_idle_for_longest() {
    let app = TestApp::builder().with(|settings| settings.sessions.max_per_account = 3).spawn().await;
    let ann = app.register("ann").await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(app.login(&ann).await);
        app.pass(Duration::from_secs(10));
    }
    // The first session was opened first, but the second was used longest ago.
    assert!(app.is_live(&tokens[0]).await);
    app.pass(Duration::from_secs(10));
    tokens.push(app.login(&ann).await);
    let mut live = Vec::new();
    for token in &tokens {
        live.push(app.is_live(token).await);
    }
    assert_eq!(live, [true, false, true, true]);
    let app = app.restart().await;
    assert!(!app.is_live(&tokens[1]).await);
}

#[tokio::test]
async fn s42_the_newest_session_stays_even_when_the_clock_stands_still_or_goes_back() {
    let app = TestApp::builder().with(|settings| settings.sessions.max_per_account = 1).spawn().await;
    let (ann, first) = app.register_and_login("ann").await;
    let second = app.login(&ann).await;
    assert!(app.is_live(&second).await, "opened within the same millisecond");
    assert!(!app.is_live(&first).await);
    app.clock.set_back(Duration::from_mins(10));
    let third = app.login(&ann).await;
    assert!(app.is_live(&third).await, "opened after the clock went back");
    assert!(!app.is_live(&second).await);
}

#[tokio::test]
async fn s42_the_cap_is_for_each_account_alone() {
    let app = TestApp::builder().with(|settings| settings.sessions.max_per_account = 1).spawn().await;
    let (_, ann) = app.register_and_login("ann").await;
    let (_, bob) = app.register_and_login("bob").await;
    let (_, cleo) = app.register_and_login("cleo").await;
    for token in [&ann, &bob, &cleo] {
        assert!(app.is_live(token).await);
    }
}

fn long_lived() -> TestAppBuilder {
    TestApp::builder().with(|settings| {
        settings.sessions.idle_timeout = Duration::from_mins(10);
        settings.tokens.access_token_lifetime = Duration::from_hours(1);
    })
}

#[tokio::test]
async fn s39_a_session_idle_for_too_long_is_over_and_stays_over() {
    let app = long_lived().spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    // Each use in the last moment restarts the idle time.
    for _ in 0..3 {
        app.pass(Duration::from_mins(10));
        assert_eq!(app.call(Method::GET, "/my_account/", &token, &Value::Null).await.status, 200);
    }
    app.pass(Duration::from_millis(10 * 60 * 1000 + 1));
    let answer = app.call(Method::GET, "/my_account/", &token, &Value::Null).await;
    answer.assert_unauthorized("Bearer error=\"invalid_token\"");
    assert!(!app.is_live(&token).await);
    // R05: a clock that is set back revives no session.
    app.clock.set_back(Duration::from_hours(1));
    assert!(!app.is_live(&token).await);
    let app = app.restart().await;
    assert!(!app.is_live(&token).await);
}

#[tokio::test]
async fn r05_no_step_of_the_clock_keeps_a_session_alive() {
    for step in [Duration::from_hours(1), Duration::from_hours(24)] {
        let app = long_lived().spawn().await;
        let (ann, idle) = app.register_and_login("ann").await;
        let used = app.login(&ann).await;
        app.clock.set_back(step);
        // By the wall clock only five minutes have passed since the logins, so the access tokens have not expired.
        app.pass(step + Duration::from_mins(5));
        assert!(!app.is_live(&idle).await);
        assert!(!app.is_live(&used).await);
        let fresh = app.login(&ann).await;
        assert!(app.is_live(&fresh).await);
        app.clock.set_forward(step);
        assert!(!app.is_live(&fresh).await);
        app.clock.set_back(step);
        app.pass(Duration::from_mins(11));
        assert!(!app.is_live(&fresh).await);
        assert!(app.is_live(&app.login(&ann).await).await);
    }
}

#[tokio::test]
async fn r05_after_a_restart_with_the_clock_set_back_old_sessions_are_over() {
    let app = long_lived().spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    let app = app.restart().await;
    assert!(app.is_live(&token).await);
    app.clock.set_back(Duration::from_hours(24));
    let app = app.restart().await;
    app.pass(Duration::from_hours(24));
    assert!(!app.is_live(&token).await);
    assert!(app.is_live(&app.login(&ann).await).await);
}

#[tokio::test]
async fn s39_a_session_in_use_ends_at_its_absolute_lifetime() {
    let app = long_lived().spawn().await;
    let ann = app.register("ann").await;
    let answer = app.try_login(&ann).await;
    assert_eq!(answer.body["expires_in"], 3600);
    let token = answer.body["access_token"].as_str().unwrap();
    for _ in 0..7 {
        app.pass(Duration::from_mins(8));
        assert!(app.is_live(token).await);
    }
    app.pass(Duration::from_millis(4 * 60 * 1000 - 1));
    assert!(app.is_live(token).await);
    app.pass(Duration::from_millis(1));
    assert!(!app.is_live(token).await);
}

#[tokio::test]
async fn s39_idle_time_runs_on_while_the_application_is_stopped() {
    let app = long_lived().spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    app.pass(Duration::from_mins(9));
    assert!(app.is_live(&token).await);
    let app = app.restart().await;
    app.pass(Duration::from_mins(9));
    assert!(app.is_live(&token).await, "the use before the stop was lost");
    let clock = std::sync::Arc::clone(&app.clock);
    clock.advance(Duration::from_mins(11));
    let app = app.restart().await;
    assert!(!app.is_live(&token).await);
}

#[tokio::test]
async fn s39_the_sweep_ends_what_is_over_and_nothing_else() {
    let app = long_lived().spawn().await;
    let (_, old) = app.register_and_login("ann").await;
    app.pass(Duration::from_mins(6));
    let (_, young) = app.register_and_login("bob").await;
    app.pass(Duration::from_mins(6));
    assert_eq!(app.handles.sessions.live(), 2);
    app.handles.tend_sessions().await.unwrap();
    assert_eq!(app.handles.sessions.live(), 1);
    assert!(!app.is_live(&old).await);
    assert!(app.is_live(&young).await);
}

/// `{"alg":"none"}` and `{"alg":"HS384","typ":"JWT"}` in base64url.
const OTHER_HEADERS: [&str; 2] = ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9"];

#[tokio::test]
async fn s43_a_token_that_was_touched_is_dead() {
    let app = TestApp::spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    let (_, other) = app.register_and_login("bob").await;
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{} parts", parts.len()) };
    let others: Vec<&str> = other.split('.').collect();
    let mut forged = vec![
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
        format!("{header}.{}.{signature}", others[1]),
        format!("{header}.{claims}.{}", others[2]),
        format!("{token}x"),
        format!("{token}.{signature}"),
        token.to_uppercase(),
    ];
    for header in OTHER_HEADERS {
        forged.extend([format!("{header}.{claims}.{signature}"), format!("{header}.{claims}.")]);
    }
    for token in forged {
        let answer = app.verify(&token).await;
        answer.assert_unauthorized("Bearer error=\"invalid_token\"");
    }
    assert!(app.is_live(&token).await);
}

#[tokio::test]
async fn s43_a_token_of_another_installation_is_dead() {
    let app = TestApp::spawn().await;
    let (ann, _) = app.register_and_login("ann").await;
    let elsewhere = TestApp::builder()
        .with(|settings| {
            let key = "another-secret-key-0123456789abcdef".to_owned();
            settings.tokens.secret_key = Some(doorward_actors::Secret::new(key));
        })
        .spawn()
        .await;
    let (_, foreign) = elsewhere.register_and_login("ann").await;
    assert!(elsewhere.is_live(&foreign).await);
    assert!(!app.is_live(&foreign).await);
    assert_ne!(app.login(&ann).await, foreign);
}

#[tokio::test]
async fn s40_each_login_opens_a_session_of_its_own() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let mut tokens = std::collections::BTreeSet::new();
    for _ in 0..5 {
        tokens.insert(app.login(&ann).await);
    }
    assert_eq!(tokens.len(), 5);
    assert_eq!(app.handles.sessions.live(), 5);
}

#[tokio::test]
async fn a_person_who_is_not_registered_has_no_session() {
    let app = TestApp::spawn().await;
    assert!(!app.opens(&Person::named("ann"), "Quiet-lamp-7-tree").await);
    assert_eq!(app.handles.sessions.live(), 0);
}
