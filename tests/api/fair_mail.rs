//! Mails are shared fairly: no client delays, displaces or uses up the mails of others (S75).

use std::net::IpAddr;
use std::time::Duration;

use doorward_actors::ports::SendError;
use doorward_actors::{MailKind, MailState, QueuedMail};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Person, TestApp};

const NEW_PASSWORD: &str = "Another-quiet-lamp-8";
const MINUTE: Duration = Duration::from_mins(1);

async fn outbox(app: &TestApp) -> Vec<QueuedMail> {
    app.handles.mailer.list(None, 100_000).await.unwrap()
}

/// Starts an application that sends one mail at a time, so that their order is the order in which they were chosen.
async fn one_at_a_time() -> TestApp {
    TestApp::builder().with(|settings| settings.mail.concurrency = 1).spawn().await
}

fn hold_mails(app: &TestApp) {
    app.mail.refuse(Some(SendError::Transient("451 later".to_owned())));
}

/// Lets the waiting mails be sent.
fn let_go(app: &TestApp) {
    app.mail.refuse(None);
    app.pass(Duration::from_hours(2));
}

fn stranger(number: u8) -> IpAddr {
    [127, 0, 1, number].into()
}

async fn count(app: &TestApp, person: &Person, kind: MailKind) -> usize {
    app.mails_to(&person.email).await.iter().filter(|mail| mail.kind == kind).count()
}

async fn ask(app: &TestApp, path: &str, person: &Person) {
    assert_eq!(app.post(path, &json!({"email": person.email})).await.status, 202);
    // The service decides after the answer which mail it sends.
    app.handles.tend_mail().await.unwrap();
}

async fn move_to(app: &TestApp, session: &str, address: &str) -> Answer {
    app.call(Method::PUT, "/my_account/", session, &json!({"email": address})).await
}

#[tokio::test]
async fn d12_ten_accounts_cannot_fill_the_outbox_or_delay_a_recovery() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    app.handles.tend_mail().await.unwrap();
    hold_mails(&app);
    let mut refused = 0;
    for n in 0..10 {
        let (_, session) = app.register_and_login(&format!("mallory{n}")).await;
        for m in 0..30 {
            let answer = move_to(&app, &session, &format!("target{n}x{m}@example.net")).await;
            match answer.status {
                200 => {}
                429 => {
                    refused += 1;
                    assert!(answer.header("retry-after").is_some(), "{answer:?}");
                }
                _ => panic!("{answer:?}"),
            }
        }
    }
    assert_eq!(refused, 10 * 25, "five notices wait for each account");
    let waiting = outbox(&app).await;
    // One link that verifies the first address, the newest link that confirms another address, and notices of five
    // changes, each with an undo link.
    assert!(waiting.len() <= 10 * (2 + 5), "a newer link withdraws the one before: {}", waiting.len());
    app.mail.refuse(None);
    ask(&app, "/recovery/request", &ann).await;
    assert_eq!(count(&app, &ann, MailKind::ResetPassword).await, 1);
}

#[tokio::test]
async fn d12_a_change_of_address_that_cannot_be_told_is_not_made() {
    let app = TestApp::spawn().await;
    let (_, session) = app.register_and_login("ann").await;
    for n in 0..10 {
        assert_eq!(move_to(&app, &session, &format!("ann{n}@example.net")).await.status, 200);
    }
    assert_eq!(move_to(&app, &session, "late@example.net").await.status, 429);
    let account = app.call(Method::GET, "/my_account/", &session, &Value::Null).await.body;
    assert_eq!(account["pending_email"], "ann9@example.net");
    let token = app.token_from("ann9@example.net", MailKind::ConfirmNewAddress).await;
    assert_eq!(app.post("/email/verify", &json!({"token": token})).await.status, 200, "its link is good still");
}

#[tokio::test]
async fn d12_a_newer_link_withdraws_the_mail_of_the_one_before() {
    let app = TestApp::spawn().await;
    hold_mails(&app);
    let ann = app.register("ann").await;
    for path in ["/recovery/request", "/email/verify/resend", "/recovery/request", "/email/verify/resend"] {
        app.pass(MINUTE);
        ask(&app, path, &ann).await;
    }
    let mut waiting: Vec<&str> = Vec::new();
    let mails = outbox(&app).await;
    waiting.extend(mails.iter().map(|mail| mail.mail.kind.as_str()));
    assert_eq!(waiting, ["reset_password", "verify_address"]);
    let_go(&app);
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    assert_eq!(app.post("/email/verify", &json!({"token": token})).await.status, 200);
}

#[tokio::test]
async fn d12_recovery_and_notices_leave_before_confirmations() {
    let app = one_at_a_time().await;
    hold_mails(&app);
    let mut people = Vec::new();
    for n in 0..6 {
        people.push(app.register(&format!("person{n}")).await);
    }
    ask(&app, "/recovery/request", &people[5]).await;
    let session = app.login(&people[4]).await;
    let password = json!({"password": NEW_PASSWORD});
    assert_eq!(app.call(Method::PUT, "/my_account/", &session, &password).await.status, 200);
    let_go(&app);
    app.handles.tend_mail().await.unwrap();
    let sent: Vec<MailKind> = app.mail.sent().iter().map(|mail| mail.kind).collect();
    assert_eq!(sent.len(), 8);
    for urgent in [MailKind::ResetPassword, MailKind::PasswordChanged] {
        assert!(sent[..2].contains(&urgent), "{sent:?}");
    }
}

#[tokio::test]
async fn d12_clients_and_their_accounts_take_turns() {
    let app = one_at_a_time().await;
    hold_mails(&app);
    for n in 0..30 {
        let crowd = Person::named(&format!("crowd{n}"));
        assert_eq!(app.post_from(stranger(1), "/register", &crowd.registration()).await.status, 201);
    }
    let (ann, bob) = (app.register("ann").await, app.register("bob").await);
    let_go(&app);
    app.handles.tend_mail().await.unwrap();
    let sent: Vec<String> = app.mail.sent().iter().map(|mail| mail.to.as_str().to_owned()).collect();
    assert_eq!(sent.len(), 32);
    for person in [ann, bob] {
        assert!(sent[..6].contains(&person.email), "{sent:?}");
    }
}

#[tokio::test]
async fn d12_the_life_of_a_link_begins_when_its_mail_is_handed_over() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let reset = |token: String, n: u8| json!({"token": token, "new_password": format!("Another-quiet-lamp-{n}")});
    for (n, (waits, opened_after, status)) in (0..).zip([(10, 29, 200), (10, 30, 400), (47, 29, 200), (48, 29, 200)]) {
        hold_mails(&app);
        ask(&app, "/recovery/request", &ann).await;
        app.mail.refuse(None);
        app.pass(Duration::from_hours(waits));
        let token = app.token_from(&ann.email, MailKind::ResetPassword).await;
        app.pass(MINUTE * opened_after);
        let answer = app.post("/recovery/confirm", &reset(token, n)).await;
        assert_eq!(answer.status, status, "{waits} h, {opened_after} min: {answer:?}");
    }
}

#[tokio::test]
async fn d12_a_link_that_waited_for_two_days_begins_its_life_then_and_is_not_mailed_when_it_is_over() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    app.handles.tend_mail().await.unwrap();
    hold_mails(&app);
    ask(&app, "/recovery/request", &ann).await;
    app.mail.refuse(None);
    app.pass(Duration::from_hours(48) + MINUTE * 31);
    assert_eq!(count(&app, &ann, MailKind::ResetPassword).await, 0, "it would arrive dead");
    let given_up = outbox(&app).await;
    assert_eq!((given_up.len(), given_up[0].state), (1, MailState::Dead));
    assert_eq!(given_up[0].last_error.as_deref(), Some("its link is no longer good"));
    // A new link is valid.
    ask(&app, "/recovery/request", &ann).await;
    assert_eq!(count(&app, &ann, MailKind::ResetPassword).await, 1);
}

#[tokio::test]
async fn d12_a_link_that_was_revoked_while_its_mail_waited_is_not_mailed() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    app.handles.tend_mail().await.unwrap();
    hold_mails(&app);
    ask(&app, "/recovery/request", &ann).await;
    let by_passphrase = app.recover(&ann.email, &ann.passphrase, NEW_PASSWORD).await;
    assert_eq!(by_passphrase.status, 200, "{by_passphrase:?}");
    let_go(&app);
    assert_eq!(count(&app, &ann, MailKind::RecoveryUsed).await, 1);
    let reset = count(&app, &ann, MailKind::ResetPassword).await;
    if reset == 1 {
        let token = app.token_from(&ann.email, MailKind::ResetPassword).await;
        let body = json!({"token": token, "new_password": "Third-quiet-lamp-9"});
        assert_eq!(app.post("/recovery/confirm", &body).await.status, 200, "a link that is mailed is good");
    }
}

#[tokio::test]
async fn d12_nobody_suppresses_recovery_mails_by_asking_for_verification_mails() {
    let app = TestApp::spawn().await;
    let (ann, bob) = (app.register("ann").await, app.register("bob").await);
    for (person, used_up, free, kind) in [
        (&ann, "/email/verify/resend", "/recovery/request", MailKind::ResetPassword),
        (&bob, "/recovery/request", "/email/verify/resend", MailKind::VerifyAddress),
    ] {
        for _ in 0..12 {
            app.pass(MINUTE);
            ask(&app, used_up, person).await;
        }
        let before = count(&app, person, kind).await;
        ask(&app, free, person).await;
        assert_eq!(count(&app, person, kind).await, before + 1, "{kind:?}");
    }
}

#[tokio::test]
async fn d12_what_strangers_ask_for_suppresses_no_notice() {
    let app = TestApp::builder().with(|settings| settings.accounts.enumeration_safe_registration = true).spawn().await;
    let ann = Person::named("ann");
    assert_eq!(app.post("/register", &ann.registration()).await.status, 202);
    let session = app.login(&ann).await;
    for n in 0..15 {
        app.pass(MINUTE);
        let again = Person { nickname: format!("other{n}"), ..ann.clone() };
        assert_eq!(app.post("/register", &again.registration()).await.status, 202);
        ask(&app, "/recovery/request", &ann).await;
        ask(&app, "/email/verify/resend", &ann).await;
    }
    assert_eq!(count(&app, &ann, MailKind::AddressInUse).await, 10, "ten a day, however many clients");
    let password = json!({"password": NEW_PASSWORD, "current_password": ann.password});
    assert_eq!(app.call(Method::PUT, "/my_account/", &session, &password).await.status, 200);
    assert_eq!(count(&app, &ann, MailKind::PasswordChanged).await, 1);
}

#[tokio::test]
async fn d12_the_notices_of_one_account_are_bounded_kind_by_kind_and_day_by_day() {
    let app = TestApp::spawn().await;
    let (mut ann, admin) = app.register_and_login("ann").await;
    let (mut changed, mut session) = (0, admin);
    for day in 1..=2 {
        for _ in 0..15 {
            changed += 1;
            let next = format!("Another-quiet-lamp-{changed}");
            let body = json!({"password": next, "current_password": ann.password});
            assert_eq!(app.call(Method::PUT, "/my_account/", &session, &body).await.status, 200);
            ann.password = next;
        }
        assert_eq!(count(&app, &ann, MailKind::PasswordChanged).await, 10 * day);
        app.pass(Duration::from_hours(24));
        session = app.login(&ann).await;
    }
    app.recover(&ann.email, &ann.passphrase, NEW_PASSWORD).await;
    assert_eq!(count(&app, &ann, MailKind::RecoveryUsed).await, 1, "other notices are counted apart");
    ann.password = NEW_PASSWORD.to_owned();
    let session = app.login(&ann).await;
    let log = app.call(Method::GET, "/audit/?event=mail.withheld", &session, &Value::Null).await.body;
    // The withheld mails are recorded once a day, by the account's quota, which is used up first.
    assert_eq!(log["events"].as_array().map(Vec::len), Some(2), "{log}");
    assert_eq!(log["events"][0]["reason"], "too_many_mails", "{log}");
}

#[tokio::test]
async fn d12_the_counts_outlive_a_restart() {
    let app = TestApp::spawn().await;
    let (ann, session) = app.register_and_login("ann").await;
    for n in 0..10 {
        assert_eq!(move_to(&app, &session, &format!("ann{n}@example.net")).await.status, 200);
    }
    let app = app.restart().await;
    let session = app.login(&ann).await;
    assert_eq!(move_to(&app, &session, "late@example.net").await.status, 429);
    app.pass(Duration::from_hours(24));
    let session = app.login(&ann).await;
    assert_eq!(move_to(&app, &session, "late@example.net").await.status, 200);
}

#[tokio::test]
async fn d12_the_owner_of_an_address_is_told_again_after_somebody_elses_account_used_up_its_notices() {
    let app = TestApp::spawn().await;
    app.register("root").await;
    // Another person registers the address and causes notices to it.
    let (mut ann, mut session) = app.register_and_login("ann").await;
    for n in 0..12 {
        let next = format!("Another-quiet-lamp-{n}");
        let body = json!({"password": next, "current_password": ann.password});
        assert_eq!(app.call(Method::PUT, "/my_account/", &session, &body).await.status, 200);
        ann.password = next;
        session = app.login(&ann).await;
    }
    assert_eq!(count(&app, &ann, MailKind::PasswordChanged).await, 10);
    // The owner takes over the account on the same day.
    ask(&app, "/recovery/request", &ann).await;
    let token = app.token_from(&ann.email, MailKind::ResetPassword).await;
    let body = json!({"token": token, "new_password": NEW_PASSWORD});
    assert_eq!(app.post("/recovery/confirm", &body).await.status, 200);
    ann.password = NEW_PASSWORD.to_owned();
    let session = app.login(&ann).await;
    let body = json!({"password": "Third-quiet-lamp-9"});
    assert_eq!(app.call(Method::PUT, "/my_account/", &session, &body).await.status, 200);
    assert_eq!(count(&app, &ann, MailKind::PasswordChanged).await, 11);
}
