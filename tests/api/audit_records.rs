//! The content of the audit log: every authentication and every action of an administrator (S70).

use std::time::Duration;

use reqwest::Method;
use reqwest::header::USER_AGENT;
use serde_json::{Value, json};

use doorward_actors::MailKind;
use doorward_actors::ports::SendError;

use crate::support::{NEW_PASSWORD, Person, SERVICE_TOKEN, TestApp};

/// Returns the whole audit log, the oldest record first.
pub(crate) async fn events(app: &TestApp, admin: &str) -> Vec<Value> {
    app.handles.tend_mail().await.unwrap();
    app.handles.audit.settle().await;
    let answer = app.call(Method::GET, "/audit/?limit=1000", admin, &Value::Null).await;
    assert_eq!((answer.status, &answer.body["next"]), (200, &Value::Null), "{answer:?}");
    let mut events = answer.body["events"].as_array().unwrap().clone();
    events.reverse();
    events
}

/// Returns the new records since the last call, in short form and sorted. A refusal is not part of a commit with a
/// change, so it may be recorded slightly after later events.
struct Log<'a> {
    app: &'a TestApp,
    admin: String,
    seen: usize,
}

impl Log<'_> {
    async fn news(&mut self) -> Vec<String> {
        let events = events(self.app, &self.admin).await;
        // The reads of this test are themselves recorded, some time later.
        let news = events[self.seen..].iter().filter(|event| event["event"] != "audit.read");
        let mut news: Vec<String> = news.map(short).collect();
        for event in &events[self.seen..] {
            assert_eq!(event["outcome"] == "refused", event["reason"].is_string(), "{event}");
        }
        self.seen = events.len();
        news.sort();
        news
    }

    #[track_caller]
    fn expect<'b>(&'b mut self, expected: &'b [&'b str]) -> impl Future<Output = ()> + 'b {
        let caller = std::panic::Location::caller();
        async move {
            let mut expected: Vec<_> = expected.iter().map(|line| (*line).to_owned()).collect();
            expected.sort();
            assert_eq!(self.news().await, expected, "at {caller}");
        }
    }
}

fn short(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
    let subject = event["subject"].as_u64().map_or("-".to_owned(), |subject| subject.to_string());
    format!("{} by {} on {subject}: {}", text("event"), text("actor"), event["reason"].as_str().unwrap_or("done"))
}

#[tokio::test]
async fn s70_every_authentication_is_on_record_with_how_it_ended() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let mut log = Log { app: &app, admin: admin.clone(), seen: 0 };
    log.expect(&["account.registered by anonymous on 1: done", "session.login by account:1 on 1: done"]).await;
    let ann = app.register("ann").await;
    app.post("/register", &Person { nickname: "other".to_owned(), ..ann.clone() }.registration()).await;
    app.post("/register", &Person { nickname: ann.nickname.clone(), ..Person::named("bob") }.registration()).await;
    app.post("/register", &Person { password: "password".to_owned(), ..Person::named("bob") }.registration()).await;
    log.expect(&[
        "account.registered by anonymous on 2: done",
        "account.registered by anonymous on -: email_taken",
        "account.registered by anonymous on -: nickname_taken",
        "account.registered by anonymous on -: weak_password",
    ])
    .await;
    let token = app.login(&ann).await;
    app.try_login(&Person { password: "Not-the-password-1".to_owned(), ..ann.clone() }).await;
    app.try_login(&Person::named("nobody")).await;
    app.lock(&admin, ann.id).await;
    app.try_login(&ann).await;
    app.must_change(&admin, ann.id, &json!({"lock": false})).await;
    let second = app.login(&ann).await;
    app.logout(&second).await;
    log.expect(&[
        "session.login by account:2 on 2: done",
        "session.login by anonymous on 2: wrong_password",
        "session.login by anonymous on -: unknown_account",
        "account.updated by admin:1 on 2: done",
        "session.login by anonymous on 2: locked",
        "account.updated by admin:1 on 2: done",
        "session.login by account:2 on 2: done",
        "session.logout by account:2 on 2: done",
    ])
    .await;
    app.recover(&ann.email, "not the passphrase", NEW_PASSWORD).await;
    app.recover("nobody@example.com", &ann.passphrase, NEW_PASSWORD).await;
    app.recover(&ann.email, &ann.passphrase, NEW_PASSWORD).await;
    log.expect(&[
        "account.recovered by anonymous on 2: wrong_passphrase",
        "account.recovered by anonymous on -: unknown_account",
        "account.recovered by anonymous on 2: done",
    ])
    .await;
    assert!(!app.is_live(&token).await);
    let wrong = app.request(Method::POST, "/verify").header("X-Service-Token", "wrong").bearer_auth(&admin);
    assert_eq!(app.send(wrong).await.status, 404);
    assert_eq!(app.call(Method::GET, "/audit/", &token, &Value::Null).await.status, 401);
    log.expect(&[
        "access.denied by anonymous on -: wrong_service_token",
        "access.denied by anonymous on -: dead_token",
    ])
    .await;
}

#[tokio::test]
async fn s70_sessions_that_end_by_themselves_are_on_record() {
    let app = TestApp::builder().with(|settings| settings.sessions.max_per_account = 1).spawn().await;
    let admin = app.register("admin").await;
    let ann = app.register("ann").await;
    app.login(&ann).await;
    app.login(&ann).await;
    app.handles.tend_sessions().await.unwrap();
    app.pass(Duration::from_mins(31));
    app.handles.tend_sessions().await.unwrap();
    let token = app.login(&admin).await;
    let all: Vec<String> = events(&app, &token).await.iter().map(short).collect();
    for (event, count) in [("session.evicted", 1), ("session.expired", 1)] {
        let line = format!("{event} by system on 2: done");
        assert_eq!(all.iter().filter(|found| **found == line).count(), count, "{all:#?}");
    }
}

#[tokio::test]
async fn s70_what_goes_by_mail_is_on_record() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let mut log = Log { app: &app, admin: admin.clone(), seen: 0 };
    let ann = app.register("ann").await;
    let token = app.login(&ann).await;
    log.news().await;
    for email in [&*ann.email, "nobody@example.com"] {
        app.post("/email/verify/resend", &json!({"email": email})).await;
        app.handles.tend_mail().await.unwrap();
        app.post("/recovery/request", &json!({"email": email})).await;
        app.handles.tend_mail().await.unwrap();
    }
    app.post("/recovery/request", &json!({"email": ann.email})).await;
    log.expect(&[
        "email.verification_sent by anonymous on 2: too_soon",
        "account.recovery_requested by anonymous on 2: done",
        "email.verification_sent by anonymous on -: unknown_account",
        "account.recovery_requested by anonymous on -: unknown_account",
        "account.recovery_requested by anonymous on 2: too_soon",
    ])
    .await;
    let verify = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    app.post("/email/verify", &json!({"token": verify})).await;
    app.post("/email/verify", &json!({"token": verify})).await;
    app.post("/email/verify/resend", &json!({"email": ann.email})).await;
    app.change_own(&token, &json!({"email": "ann@example.org"})).await;
    let confirm = app.token_from("ann@example.org", MailKind::ConfirmNewAddress).await;
    app.post("/email/verify", &json!({"token": confirm})).await;
    app.change_own(&token, &json!({"email": "ann@example.net"})).await;
    let cancel = app.token_from(&ann.email, MailKind::AddressChangePending).await;
    app.post("/email/cancel", &json!({"token": cancel})).await;
    app.post("/email/cancel", &json!({"token": cancel})).await;
    app.pass(Duration::from_mins(1));
    app.post("/recovery/request", &json!({"email": ann.email})).await;
    let reset = app.token_from(&ann.email, MailKind::ResetPassword).await;
    app.post("/recovery/confirm", &json!({"token": reset, "new_password": NEW_PASSWORD})).await;
    app.post("/recovery/confirm", &json!({"token": reset, "new_password": NEW_PASSWORD})).await;
    log.expect(&[
        "email.verified by account:2 on 2: done",
        "email.verified by anonymous on -: bad_token",
        "email.verification_sent by anonymous on 2: already_verified",
        "account.updated by account:2 on 2: done",
        "email.changed by account:2 on 2: done",
        "account.updated by account:2 on 2: done",
        "email.change_cancelled by account:2 on 2: done",
        "email.change_cancelled by anonymous on -: bad_token",
        "account.recovery_requested by anonymous on 2: done",
        "account.recovered by anonymous on 2: done",
        "account.recovered by anonymous on -: bad_token",
    ])
    .await;
}

#[tokio::test]
async fn s70_every_action_of_owners_and_administrators_is_on_record() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let mut log = Log { app: &app, admin: admin.clone(), seen: 0 };
    let (ann, token) = app.register_and_login("ann").await;
    log.news().await;
    app.pass(Duration::from_mins(6));
    app.change_own(&token, &json!({"nickname": "anna"})).await;
    app.change_own(&token, &json!({"password": NEW_PASSWORD})).await;
    app.change_own(&token, &json!({"password": NEW_PASSWORD, "current_password": "wrong"})).await;
    app.change_own(&token, &json!({"customer_account": "gold"})).await;
    app.delete_own(&token, &Value::Null).await;
    app.delete_own(&token, &json!({"current_password": ann.password})).await;
    log.expect(&[
        "account.updated by account:2 on 2: done",
        "account.updated by account:2 on 2: reauthentication_needed",
        "account.updated by account:2 on 2: wrong_password",
        "account.updated by account:2 on 2: customer_account_not_allowed",
        "account.deleted by account:2 on 2: reauthentication_needed",
        "account.deleted by account:2 on 2: done",
    ])
    .await;

    app.mail.refuse(Some(SendError::Permanent("no such user".to_owned())));
    app.call(Method::POST, "/accounts_management/", &admin, &Person::named("bob").registration()).await;
    app.call(Method::POST, "/accounts_management/", &admin, &Person::named("bob").registration()).await;
    app.must_change(&admin, 3, &json!({"role": "admin"})).await;
    app.must_change(&admin, 3, &json!({"role": "user", "lock": true})).await;
    app.change(&admin, 3, &json!({"nickname": "admin"})).await;
    app.change(&admin, 1, &json!({"role": "user"})).await;
    app.delete(&admin, 1).await;
    app.handles.tend_mail().await.unwrap();
    let outbox = app.call(Method::GET, "/outbox/", &admin, &Value::Null).await;
    let path = format!("/outbox/{}", outbox.body["mails"][0]["id"]);
    app.call(Method::POST, &format!("{path}/retry"), &admin, &Value::Null).await;
    app.call(Method::DELETE, &path, &admin, &Value::Null).await;
    app.delete(&admin, 3).await;
    log.expect(&[
        "account.created by admin:1 on 3: done",
        "account.created by admin:1 on -: email_taken",
        "account.updated by admin:1 on 3: done",
        "account.updated by admin:1 on 3: done",
        "account.updated by admin:1 on 3: nickname_taken",
        "account.updated by admin:1 on 1: last_admin",
        "account.deleted by admin:1 on 1: own_account",
        "mail.retried by admin:1 on 3: done",
        "mail.deleted by admin:1 on 3: done",
        "account.deleted by admin:1 on 3: done",
    ])
    .await;
}

#[tokio::test]
async fn s70_refused_clients_are_on_record_and_cannot_flood_it() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let mut log = Log { app: &app, admin: admin.clone(), seen: 0 };
    let (ann, token) = app.register_and_login("ann").await;
    log.news().await;
    for _ in 0..50 {
        for path in ["/audit/", "/audit/export", "/audit/stream", "/accounts_management/", "/outbox/"] {
            assert_eq!(app.call(Method::GET, path, &token, &Value::Null).await.status, 403);
            assert_eq!(app.call(Method::GET, path, "garbage", &Value::Null).await.status, 401);
        }
    }
    log.expect(&["access.denied by account:2 on 2: admin_only", "access.denied by anonymous on -: dead_token"]).await;
    // A client without any token has made a mistake. An expired token on a user's own routes is an everyday event.
    // Neither is recorded.
    assert_eq!(app.get("/audit/").await.status, 401);
    assert_eq!(app.get("/health/actors").await.status, 404);
    assert_eq!(app.call(Method::GET, "/my_account/", "garbage", &Value::Null).await.status, 401);
    log.expect(&[]).await;
    app.pass(Duration::from_mins(10));
    assert_eq!(app.call(Method::GET, "/health/actors", &token, &Value::Null).await.status, 404);
    let events = events(&app, &admin).await;
    let denied = events.iter().rfind(|event| event["event"] == "access.denied").unwrap();
    assert_eq!((&denied["subject"], &denied["outcome"]), (&json!(ann.id), &json!("refused")));
    assert!(denied["session_id"].is_string() && denied["at"] == "2025-01-01T00:10:00.000Z", "{denied}");
}

#[tokio::test]
async fn s70_who_reads_the_log_is_on_record() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for _ in 0..3 {
        for path in ["/audit/", "/audit/export", "/audit/stream"] {
            assert_eq!(app.call(Method::GET, path, &admin, &Value::Null).await.status, 200);
        }
    }
    let all: Vec<String> = events(&app, &admin).await.iter().map(short).collect();
    let count = |event: &str| all.iter().filter(|line| **line == format!("{event} by admin:1 on -: done")).count();
    assert_eq!((count("audit.read"), count("audit.exported"), count("audit.followed")), (1, 3, 3));
}

#[tokio::test]
async fn s70_a_record_says_when_from_where_and_under_which_request() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    let login =
        app.request(Method::POST, "/login").header("X-Request-Id", "a-request").header(USER_AGENT, "an agent/1");
    let body = json!({"email": ann.email, "password": ann.password});
    assert_eq!(app.send(login.json(&body)).await.status, 200);
    let events = events(&app, &admin).await;
    let event = events.iter().find(|event| event["request_id"] == "a-request").unwrap();
    assert_eq!(event["at"], "2025-01-01T00:00:00.000Z");
    assert_eq!((&event["address"], &event["user_agent"]), (&json!("127.0.0.1"), &json!("an agent/1")));
    assert_eq!((&event["actor"], &event["subject"]), (&json!("account:2"), &json!(2)));
    assert_eq!((&event["outcome"], &event["reason"]), (&json!("success"), &Value::Null));
    assert!(event["session_id"].as_str().is_some_and(|id| id.len() == 22));
    for (number, event) in (1..).zip(&events) {
        assert_eq!(event["sequence"], number, "there are no gaps");
        assert!(event["address"].is_string() && event["request_id"].is_string(), "{event}");
    }
}

#[tokio::test]
async fn s70_an_account_that_gave_way_to_another_is_on_record() {
    let app = TestApp::builder().with(|settings| settings.accounts.require_email_verification = true).spawn().await;
    let root = app.register("root").await;
    let link = app.token_from(&root.email, MailKind::VerifyAddress).await;
    app.post("/email/verify", &json!({"token": link})).await;
    let admin = app.login(&root).await;
    let squatter = app.register("ann").await;
    let owner = app.register("ann").await;
    assert_ne!(squatter.id, owner.id);
    let events: Vec<String> = events(&app, &admin).await.iter().map(short).collect();
    let at = events.iter().position(|line| *line == "account.unverified_removed by anonymous on 2: done").unwrap();
    assert_eq!(events[at + 1], "account.registered by anonymous on 3: done");
}

#[tokio::test]
async fn s09_the_log_holds_no_secret() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    app.try_login(&Person { email: "kanarienvogel@example.com".to_owned(), ..ann.clone() }).await;
    let service =
        app.request(Method::POST, "/verify").header("X-Service-Token", SERVICE_TOKEN).bearer_auth("kanarienvogel");
    app.send(service).await;
    let wrong = app.request(Method::POST, "/verify").header("X-Service-Token", "kanarienvogel");
    app.send(wrong).await;
    let log = format!("{:?}", events(&app, &admin).await);
    for secret in ["kanarienvogel", &ann.password, &ann.passphrase, &ann.email, SERVICE_TOKEN] {
        assert!(!log.contains(secret), "{secret}");
    }
}
