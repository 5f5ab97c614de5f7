//! Refresh tokens: exchanged, shared by two tabs, stolen, and used for logout.

use std::num::NonZeroU32;
use std::time::Duration;

use doorward_actors::MailKind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, NEW_PASSWORD, Person, TestApp};

const GRACE: Duration = Duration::from_secs(10);

fn text(answer: &Answer, member: &str) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body[member].as_str().unwrap().to_owned()
}

async fn log_in(app: &TestApp, person: &Person) -> (String, String) {
    let answer = app.try_login(person).await;
    (text(&answer, "access_token"), text(&answer, "refresh_token"))
}

async fn refresh(app: &TestApp, token: &str) -> Answer {
    app.post("/refresh", &json!({"refresh_token": token})).await
}

/// Exchanges a token, expects success and returns the next token.
async fn next(app: &TestApp, token: &str) -> String {
    text(&refresh(app, token).await, "refresh_token")
}

async fn events(app: &TestApp, token: &str, event: &str) -> usize {
    let answer = app.call(Method::GET, &format!("/my_account/events?event={event}"), token, &Value::Null).await;
    answer.body["events"].as_array().unwrap().len()
}

#[tokio::test]
async fn s39_a_session_goes_on_by_refreshing_until_its_absolute_end() {
    let app = TestApp::builder().with(|settings| settings.sessions.lifetime = Duration::from_hours(24)).spawn().await;
    let ann = app.register("ann").await;
    let login = app.try_login(&ann).await;
    assert_eq!(login.body["expires_in"], 1800);
    let (mut access, mut token) = (text(&login, "access_token"), text(&login, "refresh_token"));
    assert!(token.starts_with("dwr_"));
    for _ in 0..71 {
        app.pass(Duration::from_mins(20));
        let answer = refresh(&app, &token).await;
        assert_eq!(answer.members(), ["access_token", "expires_in", "refresh_token", "token_type"]);
        assert!(app.is_live(&access).await, "the one before stays good until its end");
        (access, token) = (text(&answer, "access_token"), text(&answer, "refresh_token"));
    }
    app.pass(Duration::from_mins(10));
    let last = refresh(&app, &token).await;
    assert_eq!(last.body["expires_in"], 600, "no access token outlives its session");
    app.pass(Duration::from_mins(10));
    refresh(&app, &text(&last, "refresh_token")).await.assert_unauthorized("Bearer error=\"invalid_token\"");
    assert!(!app.is_live(&text(&last, "access_token")).await);
}

#[tokio::test]
async fn s39_a_remembered_session_may_be_idle_for_days() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let body = json!({"email": ann.email, "password": ann.password, "remember": true});
    let remembered = text(&app.post("/login", &body).await, "refresh_token");
    let (_, usual) = log_in(&app, &ann).await;
    app.pass(Duration::from_mins(31));
    assert_eq!(refresh(&app, &usual).await.status, 401);
    app.pass(Duration::from_hours(24 * 20));
    let app = app.restart().await;
    let remembered = next(&app, &remembered).await;
    app.pass(Duration::from_hours(24 * 10));
    assert_eq!(refresh(&app, &remembered).await.status, 401, "the absolute end comes all the same");
    assert_eq!(
        app.post("/login", &json!({"email": "a@b.c", "password": "x", "remember": 1})).await.pointers(),
        ["/remember"]
    );
}

#[tokio::test]
async fn s05_a_refresh_is_no_login() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let (_, token) = log_in(&app, &ann).await;
    app.pass(Duration::from_mins(6));
    let access = text(&refresh(&app, &token).await, "access_token");
    let change = json!({"password": NEW_PASSWORD});
    assert_eq!(app.change_own(&access, &change).await.status, 403);
}

#[tokio::test]
async fn two_tabs_that_refresh_at_once_stay_logged_in() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let (_, mut token) = log_in(&app, &ann).await;
    for _ in 0..20 {
        let tabs = futures_util::future::join_all((0..8).map(|_| refresh(&app, &token))).await;
        let next: Vec<_> = tabs.iter().map(|tab| text(tab, "refresh_token")).collect();
        assert!(next.iter().all(|other| *other == next[0]), "the family forked");
        for tab in &tabs {
            assert!(app.is_live(&text(tab, "access_token")).await);
        }
        // A tab that is late by less than the grace period, after another tab was faster.
        app.pass(Duration::from_secs(5));
        let newest = self::next(&app, &next[0]).await;
        assert_eq!(self::next(&app, &token).await, newest);
        assert_eq!(self::next(&app, &next[0]).await, newest);
        token.clone_from(&newest);
        app.pass(Duration::from_mins(10));
    }
    assert!(app.mails_to(&ann.email).await.iter().all(|mail| mail.kind != MailKind::RefreshReused));
}

#[tokio::test]
async fn s37_a_stolen_refresh_token_kills_the_family_and_the_owner_is_told() {
    for generation in [0, 1, 4] {
        let app = TestApp::spawn().await;
        let ann = app.register("ann").await;
        let (access, first) = log_in(&app, &ann).await;
        let (other, _) = log_in(&app, &ann).await;
        let mut tokens = vec![first];
        for _ in 0..5 {
            app.pass(GRACE);
            tokens.push(next(&app, tokens.last().unwrap()).await);
        }
        app.pass(GRACE + Duration::from_millis(1));
        refresh(&app, &tokens[generation]).await.assert_unauthorized("Bearer error=\"invalid_token\"");
        assert!(!app.is_live(&access).await);
        for token in &tokens {
            assert_eq!(refresh(&app, token).await.status, 401);
        }
        assert!(app.is_live(&other).await, "another session of the account has nothing to do with it");
        let told = |mails: Vec<doorward_actors::OutgoingMail>| {
            mails.into_iter().filter(|mail| mail.kind == MailKind::RefreshReused).count()
        };
        assert_eq!(told(app.mails_to(&ann.email).await), 1);
        assert_eq!(events(&app, &other, "session.refresh_reused").await, 1);
        let app = app.restart().await;
        assert!(!app.is_live(&access).await);
        assert_eq!(refresh(&app, &tokens[5]).await.status, 401);
    }
}

#[tokio::test]
async fn with_no_grace_a_token_works_exactly_once() {
    let app = TestApp::builder().with(|settings| settings.sessions.refresh_grace = Duration::ZERO).spawn().await;
    let ann = app.register("ann").await;
    let (_, first) = log_in(&app, &ann).await;
    let second = next(&app, &first).await;
    app.pass(Duration::from_millis(1));
    assert_eq!(refresh(&app, &first).await.status, 401);
    assert_eq!(refresh(&app, &second).await.status, 401);
}

#[tokio::test]
async fn s55_forged_and_foreign_refresh_tokens_are_401_and_harm_nobody() {
    let app = TestApp::spawn().await;
    let (ann, bob) = (app.register("ann").await, app.register("bob").await);
    let (access, anns) = log_in(&app, &ann).await;
    let (_, bobs) = log_in(&app, &bob).await;
    let mixed = format!("{}{}", &anns[..40], &bobs[40..]);
    let flipped: String = anns.chars().rev().collect();
    let mut last = anns.clone();
    let end = if last.pop() == Some('A') { 'Q' } else { 'A' };
    last.push(end);
    for bad in ["", "dwr_", "x", &anns[..105], &mixed, &flipped, &access, &anns.replace("dwr_", "dws_"), &last] {
        let answer = refresh(&app, bad).await;
        answer.assert_unauthorized("Bearer error=\"invalid_token\"");
        assert_eq!(answer.body["detail"], "Could not validate credentials");
    }
    for body in [json!({}), json!({"refresh_token": 1}), json!({"refresh_token": anns, "id": 1})] {
        assert_eq!(app.post("/refresh", &body).await.status, 422);
    }
    let anns = next(&app, &anns).await;
    assert_eq!(events(&app, &access, "session.refresh").await, 0, "a guess names nobody");
    next(&app, &anns).await;
    next(&app, &bobs).await;
    // A refresh token is not valid as a bearer token.
    assert_eq!(app.verify(&bobs).await.status, 401);
}

#[tokio::test]
async fn s38_what_ends_a_session_ends_its_refresh_token() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for how in 0..5 {
        let person = app.register(&format!("person{how}")).await;
        let (access, token) = log_in(&app, &person).await;
        let token = next(&app, &token).await;
        match how {
            0 => assert_eq!(app.logout(&access).await.status, 200),
            1 => app.lock(&admin, person.id).await,
            2 => assert_eq!(app.delete(&admin, person.id).await.status, 200),
            3 => app.must_change(&admin, person.id, &json!({"password": NEW_PASSWORD})).await,
            _ => {
                let recovered = app.recover(&person.email, &person.passphrase, NEW_PASSWORD).await;
                assert_eq!(recovered.status, 200);
            }
        }
        assert_eq!(refresh(&app, &token).await.status, 401, "{how}");
    }
    // The session that sets the new password continues, with a new refresh token.
    let person = app.register("spared").await;
    let (access, token) = log_in(&app, &person).await;
    let (_, other) = log_in(&app, &person).await;
    let renewed = text(&app.change_own(&access, &json!({"password": NEW_PASSWORD})).await, "refresh_token");
    next(&app, &renewed).await;
    for ended in [&token, &other] {
        assert_eq!(refresh(&app, ended).await.status, 401);
    }
}

#[tokio::test]
async fn s22_wrong_refresh_tokens_are_counted_by_address() {
    let app = TestApp::builder().with(|settings| settings.limits.address_failures = 3).spawn().await;
    let ann = app.register("ann").await;
    let (_, mut token) = log_in(&app, &ann).await;
    for _ in 0..5 {
        token = next(&app, &token).await;
    }
    for _ in 0..3 {
        assert_eq!(refresh(&app, "dwr_wrong").await.status, 401);
    }
    let limited = refresh(&app, "dwr_wrong").await;
    assert_eq!(limited.status, 429);
    assert!(limited.header("retry-after").is_some());
    // A client at the same address that has a valid token is not blocked.
    next(&app, &token).await;
}

#[tokio::test]
async fn s20_no_neighbour_uses_up_what_refreshes_need_and_each_account_has_an_allowance() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.limits.public.permits = const { NonZeroU32::new(20).unwrap() };
            settings.limits.private.permits = const { NonZeroU32::new(12).unwrap() };
        })
        .spawn()
        .await;
    let (ann, bob) = (app.register("ann").await, app.register("bob").await);
    let ((_, mut anns), (_, bobs)) = (log_in(&app, &ann).await, log_in(&app, &bob).await);
    while app.post("/password/check", &json!({"password": "x"})).await.status != 429 {}
    for _ in 0..12 {
        anns = next(&app, &anns).await;
    }
    assert_eq!(refresh(&app, &anns).await.status, 429);
    let bobs = next(&app, &bobs).await;
    // A used-up quota does not prevent a client from ending its session with a valid refresh token.
    for (token, status) in [(anns.as_str(), 200), (&bobs, 200), ("dwr_wrong", 429)] {
        assert_eq!(app.post("/logout", &json!({"refresh_token": token})).await.status, status, "{token}");
    }
}

#[tokio::test]
async fn s70_refresh_tokens_that_nobody_was_given_do_not_fill_the_log() {
    let app = TestApp::spawn().await;
    app.handles.audit.settle().await;
    let before = *app.handles.audit.head().borrow();
    for n in 0..20 {
        assert_eq!(refresh(&app, &format!("dwr_wrong{n}")).await.status, 401);
        assert_eq!(app.post("/logout", &json!({"refresh_token": format!("dwr_wrong{n}")})).await.status, 401);
    }
    app.handles.audit.settle().await;
    assert!(*app.handles.audit.head().borrow() - before <= 2, "one of a kind stands for the others");
}

/// Changes the signing secret, with and without the previous secret in the settings.
#[tokio::test]
async fn s37_a_changed_secret_ends_refresh_tokens_unless_the_one_before_is_given() {
    let secret = |text: &str| Some(doorward_actors::Secret::new(format!("{text}, and 32 bytes and more of it")));
    for is_given in [true, false] {
        let directory = tempfile::TempDir::new().unwrap();
        let with = |present: &'static str, previous: Option<&'static str>| {
            TestApp::builder().data_dir(directory.path()).with(move |settings| {
                settings.tokens.secret_key = secret(present);
                settings.tokens.previous_secret_key = previous.and_then(secret);
            })
        };
        let app = with("the first", None).spawn().await;
        let ann = app.register("ann").await;
        let (access, first) = log_in(&app, &ann).await;
        let second = next(&app, &first).await;
        let app = with("the second", is_given.then_some("the first")).continuing(app).await;
        assert_eq!(app.is_live(&access).await, is_given);
        if is_given {
            // Another tab, whose token was replaced shortly before the change.
            assert_eq!(next(&app, &first).await.len(), second.len());
            let third = next(&app, &second).await;
            let app = with("the second", None).continuing(app).await;
            next(&app, &third).await;
        } else {
            assert_eq!(refresh(&app, &second).await.status, 401);
            assert_eq!(refresh(&app, &first).await.status, 401);
        }
    }
}

#[tokio::test]
async fn s37_a_refresh_token_logs_out_with_and_without_an_access_token() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let logout = async |body: Value, bearer: Option<&str>| {
        let request = app.request(Method::POST, "/logout").json(&body);
        app.send(bearer.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth)).await
    };
    let (access, token) = log_in(&app, &ann).await;
    logout(json!({"refresh_token": token}), None).await.assert_body(200, &json!({"detail": "Logged out successfully"}));
    assert!(!app.is_live(&access).await);
    assert_eq!(logout(json!({"refresh_token": token}), None).await.status, 401);

    let (access, token) = log_in(&app, &ann).await;
    let token = next(&app, &token).await;
    assert_eq!(logout(json!({"refresh_token": token}), Some(&access)).await.status, 200);
    assert!(!app.is_live(&access).await);

    let body = json!({"email": ann.email, "password": ann.password, "remember": true});
    let login = app.post("/login", &body).await;
    let (expired, token) = (text(&login, "access_token"), text(&login, "refresh_token"));
    app.pass(Duration::from_mins(31));
    assert_eq!(logout(json!({}), Some(&expired)).await.status, 401);
    assert_eq!(logout(json!({"refresh_token": token}), Some(&expired)).await.status, 200);
    assert_eq!(refresh(&app, &token).await.status, 401);

    let ((one, first), (other, _)) = (log_in(&app, &ann).await, log_in(&app, &ann).await);
    let answer = logout(json!({"refresh_token": first}), Some(&other)).await;
    answer.assert_problem(400, "The access token and the refresh token belong to different sessions");
    assert!(app.is_live(&one).await && app.is_live(&other).await);
    // These are requests that clients of the established interface may send.
    assert_eq!(logout(Value::Null, Some(&one)).await.status, 200);
    let form =
        app.request(Method::POST, "/logout").bearer_auth(&other).header("Content-Type", "text/plain").body("a=b");
    assert_eq!(app.send(form).await.status, 200);
    // The session of the access token ends, whatever else is wrong with the request.
    for body in [json!({"refresh_token": "dwr_wrong"}), json!({"refresh_token": 1}), json!({"more": 1}), json!([])] {
        let (access, _) = log_in(&app, &ann).await;
        assert_eq!(logout(body, Some(&access)).await.status, 200);
        assert!(!app.is_live(&access).await);
    }
}

#[tokio::test]
async fn c07_a_new_password_ends_the_refresh_tokens_and_the_freshness_of_its_own_session() {
    let app = TestApp::builder().with(|settings| settings.limits.address_failures = 100).spawn().await;
    let ann = app.register("ann").await;
    let login = app.try_login(&ann).await;
    let (here, first) = (text(&login, "access_token"), text(&login, "refresh_token"));
    let second = next(&app, &first).await;
    let there = text(&app.try_login(&ann).await, "refresh_token");
    let answer = app.change_own(&here, &json!({"nickname": "anna"})).await;
    answer.assert_body(200, &json!({"message": "Account details updated successfully"}));

    let answer = app.change_own(&here, &json!({"password": NEW_PASSWORD})).await;
    assert_eq!((answer.status, answer.members()), (200, vec!["message", "refresh_token"]));
    let renewed = text(&answer, "refresh_token");
    // Replaced tokens are refused within the grace period, after it, and when the new family is as old as theirs. They
    // never count as theft.
    let mut present = renewed;
    for _ in 0..3 {
        for dead in [&first, &second, &there] {
            refresh(&app, dead).await.assert_unauthorized("Bearer error=\"invalid_token\"");
            let out = app.post("/logout", &json!({"refresh_token": dead})).await;
            out.assert_unauthorized("Bearer error=\"invalid_token\"");
        }
        app.pass(GRACE + Duration::from_secs(1));
        present = next(&app, &present).await;
        assert!(app.is_live(&here).await);
    }
    assert_eq!(events(&app, &here, "session.refresh_reused").await, 0);
    assert!(app.mails_to(&ann.email).await.iter().all(|mail| mail.kind != MailKind::RefreshReused));

    // A thief who holds this session knows neither password.
    let mut app = app;
    for _ in 0..2 {
        for change in [
            json!({"passphrase": "quite another one"}),
            json!({"email": "thief@example.com"}),
            json!({"password": "Third-bridge-5-cloud"}),
        ] {
            assert_eq!(app.change_own(&here, &change).await.status, 403, "{change}");
        }
        assert_eq!(app.delete_own(&here, &Value::Null).await.status, 403);
        app = app.restart().await;
    }
    let confirmed = json!({"passphrase": "quite another one", "current_password": NEW_PASSWORD});
    assert_eq!(app.change_own(&here, &confirmed).await.status, 200);
    next(&app, &present).await;
}

/// Returns the address and the user agent of the only session in the list.
async fn place(app: &TestApp, access: &str) -> (Value, Value) {
    let answer = app.call(Method::GET, "/my_account/sessions", access, &Value::Null).await;
    let session = &answer.body["sessions"][0];
    (session["address"].clone(), session["user_agent"].clone())
}

#[tokio::test]
async fn c11_a_refresh_from_another_network_is_shown_and_told_once_a_day() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let login = app.try_login(&ann).await;
    let (access, mut token) = (text(&login, "access_token"), text(&login, "refresh_token"));
    let told = async |app: &TestApp| {
        let mails = app.mails_to(&ann.email).await;
        let sign_ins = mails.iter().filter(|mail| mail.kind == MailKind::NewSignIn);
        sign_ins.map(|mail| mail.values.client_address.unwrap().to_string()).collect::<Vec<_>>()
    };
    let from = async |app: &TestApp, host: u8, token: &str| {
        let body = json!({"refresh_token": token});
        let answer = app.post_from([127, 0, 0, host].into(), "/refresh", &body).await;
        (text(&answer, "access_token"), text(&answer, "refresh_token"))
    };
    let refresh = app.request(Method::POST, "/refresh").json(&json!({"refresh_token": token}));
    token = text(&app.send(refresh.header("User-Agent", "tab/1")).await, "refresh_token");
    assert_eq!(place(&app, &access).await, (json!("127.0.0.1"), json!("tab/1")));
    let (access, mut token) = from(&app, 2, &token).await;
    assert_eq!(place(&app, &access).await, (json!("127.0.0.2"), Value::Null));
    assert_eq!(told(&app).await, ["127.0.0.2"]);
    // A known network, and one more within the day: the list shows them, but no mail is sent.
    for host in [2, 3, 1, 3] {
        token = from(&app, host, &token).await.1;
    }
    let app = app.restart().await;
    assert_eq!(place(&app, &access).await.0, "127.0.0.3");
    assert_eq!(told(&app).await, ["127.0.0.2"]);
    // No mail told the owner about the third network, so it is still new on the next day.
    for _ in 0..24 * 3 {
        app.pass(Duration::from_mins(20));
        token = from(&app, 1, &token).await.1;
    }
    let (access, _) = from(&app, 3, &token).await;
    assert_eq!(place(&app, &access).await.0, "127.0.0.3");
    assert_eq!(told(&app).await, ["127.0.0.2", "127.0.0.3"]);

    // After a recovery of either kind, only the network of the recovery is known. All others are new, even the most
    // used one.
    let by_passphrase = json!({"email": ann.email, "passphrase": ann.passphrase, "new_password": NEW_PASSWORD});
    let mut expected = told(&app).await;
    for (host, path) in [(4, "/recovery"), (5, "/recovery/confirm")] {
        let body = if path == "/recovery" {
            by_passphrase.clone()
        } else {
            app.post("/recovery/request", &json!({"email": ann.email})).await;
            let token = app.token_from(&ann.email, MailKind::ResetPassword).await;
            json!({"token": token, "new_password": NEW_PASSWORD})
        };
        assert_eq!(app.post_from([127, 0, 0, host].into(), path, &body).await.status, 200, "{path}");
        let login = json!({"email": ann.email, "password": NEW_PASSWORD});
        assert_eq!(app.post_from([127, 0, 0, 2].into(), "/login", &login).await.status, 200);
        expected.push("127.0.0.2".to_owned());
        assert_eq!(told(&app).await, expected, "{path}");
        assert_eq!(app.post_from([127, 0, 0, host].into(), "/login", &login).await.status, 200);
        assert_eq!(told(&app).await, expected, "{path}");
    }
}
