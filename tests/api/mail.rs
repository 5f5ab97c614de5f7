//! Mails: verification of an address, a new password, a change of address, and notices.

use std::time::Duration;

use doorward_actors::MailKind;
use doorward_actors::ports::SendError;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Person, TestApp};

const NEW_PASSWORD: &str = "Another-quiet-lamp-8";

async fn verify(app: &TestApp, token: &str) -> u16 {
    app.post("/email/verify", &json!({"token": token})).await.status
}

async fn my_account(app: &TestApp, token: &str) -> Value {
    app.call(Method::GET, "/my_account/", token, &Value::Null).await.body
}

fn kinds(mails: &[doorward_actors::OutgoingMail]) -> Vec<MailKind> {
    mails.iter().map(|mail| mail.kind).collect()
}

#[tokio::test]
async fn s24_a_registered_address_is_verified_by_the_link_that_was_mailed_to_it() {
    let app = TestApp::spawn().await;
    let (ann, session) = app.register_and_login("ann").await;
    assert_eq!(my_account(&app, &session).await["email_verified"], false);
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    let answer = app.post("/email/verify", &json!({"token": token})).await;
    assert_eq!((answer.status, answer.body), (200, json!({"message": "E-mail address verified"})));
    assert_eq!(my_account(&app, &session).await["email_verified"], true);
    assert_eq!(verify(&app, &token).await, 400, "a token is used once");
}

#[tokio::test]
async fn s25_of_fifty_parallel_redemptions_one_succeeds() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    let answers = join_all((0..50).map(|_| verify(&app, &token))).await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == 400).count(), 49, "{answers:?}");

    app.post("/recovery/request", &json!({"email": ann.email})).await;
    let token = reset_token(&app, &ann).await;
    let bodies: Vec<Value> =
        (0..50).map(|n| json!({"token": token, "new_password": format!("Another-quiet-lamp-{n}")})).collect();
    let answers = join_all(bodies.iter().map(|body| app.post("/recovery/confirm", body))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
}

async fn reset_token(app: &TestApp, person: &Person) -> String {
    app.token_from(&person.email, MailKind::ResetPassword).await
}

#[tokio::test]
async fn s26_a_link_is_over_after_its_time_and_when_a_newer_one_was_sent() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let first = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    app.pass(Duration::from_hours(1));
    let resent = app.post("/email/verify/resend", &json!({"email": ann.email})).await;
    assert_eq!(resent.status, 202);
    let second = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    assert_ne!(first, second, "a newer mail has a newer token");
    assert_eq!(verify(&app, &first).await, 400, "the newer one replaced it");
    app.pass(Duration::from_hours(48));
    assert_eq!(verify(&app, &second).await, 400, "it is over");
}

#[tokio::test]
async fn s26_r05_a_clock_set_back_makes_no_link_good_again() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    app.post("/recovery/request", &json!({"email": ann.email})).await;
    let token = reset_token(&app, &ann).await;
    app.pass(Duration::from_hours(2));
    app.clock.set_back(Duration::from_mins(119));
    let answer = app.post("/recovery/confirm", &json!({"token": token, "new_password": NEW_PASSWORD})).await;
    answer.assert_status_problem(400);
    assert!(app.opens(&ann, &ann.password).await);
    // A link that is issued now is valid, whatever the wall clock says.
    app.post("/recovery/request", &json!({"email": ann.email})).await;
    let token = reset_token(&app, &ann).await;
    let answer = app.post("/recovery/confirm", &json!({"token": token, "new_password": NEW_PASSWORD})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn s27_a_token_is_good_for_its_purpose_alone() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    let reset = app.post("/recovery/confirm", &json!({"token": token, "new_password": NEW_PASSWORD})).await;
    assert_eq!(reset.status, 400);
    assert_eq!(app.post("/email/cancel", &json!({"token": token})).await.status, 400);
    assert_eq!(app.try_login(&ann).await.status, 200, "the password is the old one");
    for bad in ["", "x", &token[1..], &format!("{token}A"), &token.to_uppercase(), "ünicode"] {
        assert_eq!(verify(&app, bad).await, 400, "{bad}");
    }
    assert_eq!(verify(&app, &token).await, 200, "none of that used it up");
}

#[tokio::test]
async fn s29_opening_a_link_changes_nothing() {
    let app = TestApp::spawn().await;
    let (ann, session) = app.register_and_login("ann").await;
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    for _ in 0..3 {
        let page = app.get(&format!("/email/verify?token={token}")).await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains("ann"), "the page names the nickname");
    }
    assert_eq!(my_account(&app, &session).await["email_verified"], false);
    let page = app.get("/email/verify?token=nonsense").await;
    assert_eq!(page.status, 400);
    assert_eq!(verify(&app, &token).await, 200);
}

#[tokio::test]
async fn s31_a_recovery_by_mail_ends_all_sessions_logs_nobody_in_and_tells_the_owner() {
    let app = TestApp::spawn().await;
    let (ann, session) = app.register_and_login("ann").await;
    let unknown = app.post("/recovery/request", &json!({"email": "nobody@example.com"})).await;
    let known = app.post("/recovery/request", &json!({"email": ann.email})).await;
    assert_eq!((known.status, &known.body), (202, &unknown.body), "s12: the answers are alike");
    assert_eq!(unknown.status, 202);
    let token = reset_token(&app, &ann).await;
    let weak = app.post("/recovery/confirm", &json!({"token": token, "new_password": "password"})).await;
    weak.assert_status_problem(400);
    let answer = app.post("/recovery/confirm", &json!({"token": token, "new_password": NEW_PASSWORD})).await;
    assert_eq!((answer.status, answer.body), (200, json!({"message": "Password changed successfully"})));
    assert_eq!(app.verify(&session).await.status, 401);
    assert_eq!(app.try_login(&ann).await.status, 401);
    let ann = Person { password: NEW_PASSWORD.to_owned(), ..ann };
    let session = app.login(&ann).await;
    assert_eq!(my_account(&app, &session).await["email_verified"], true, "whoever reads the mail owns the address");
    assert!(kinds(&app.mails_to(&ann.email).await).contains(&MailKind::RecoveryUsed));
    assert!(app.mails_to("nobody@example.com").await.is_empty());
}

#[tokio::test]
async fn s32_who_registered_a_strangers_address_keeps_nothing_once_the_owner_recovers_it() {
    let app = TestApp::spawn().await;
    app.register("root").await;
    let (squatter, session) = app.register_and_login("victim").await;
    app.post("/recovery/request", &json!({"email": squatter.email})).await;
    let token = reset_token(&app, &squatter).await;
    let answer = app.post("/recovery/confirm", &json!({"token": token, "new_password": NEW_PASSWORD})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(app.verify(&session).await.status, 401);
    let by_passphrase = json!({
        "email": squatter.email, "passphrase": squatter.passphrase, "new_password": "Third-quiet-lamp-9",
    });
    app.post("/recovery", &by_passphrase).await.assert_problem(400, "Entered details do not match");
}

#[tokio::test]
async fn s33_a_new_address_counts_once_it_is_confirmed_there_and_the_old_one_is_told() {
    let app = TestApp::spawn().await;
    let (ann, session) = app.register_and_login("ann").await;
    let change = json!({"email": "new@example.com"});
    assert_eq!(app.call(Method::PUT, "/my_account/", &session, &change).await.status, 200);
    let account = my_account(&app, &session).await;
    assert_eq!((&account["email"], &account["pending_email"]), (&json!(ann.email), &json!("new@example.com")));
    let token = app.token_from("new@example.com", MailKind::ConfirmNewAddress).await;
    assert!(kinds(&app.mails_to(&ann.email).await).contains(&MailKind::AddressChangePending));
    let answer = app.post("/email/verify", &json!({"token": token})).await;
    assert_eq!((answer.status, answer.body), (200, json!({"message": "E-mail address changed"})));
    let account = my_account(&app, &session).await;
    assert_eq!(account["email"], "new@example.com");
    assert_eq!((&account["pending_email"], &account["email_verified"]), (&Value::Null, &json!(true)));
    assert!(kinds(&app.mails_to(&ann.email).await).contains(&MailKind::AddressChanged));
    assert_eq!(app.try_login(&ann).await.status, 401, "the old address is nobody's");
    app.register("ann2").await;
}

#[tokio::test]
async fn s33_the_old_address_can_cancel_a_change() {
    let app = TestApp::spawn().await;
    let (ann, session) = app.register_and_login("ann").await;
    app.call(Method::PUT, "/my_account/", &session, &json!({"email": "new@example.com"})).await;
    let confirm = app.token_from("new@example.com", MailKind::ConfirmNewAddress).await;
    let cancel = app.token_from(&ann.email, MailKind::AddressChangePending).await;
    assert_eq!(app.get(&format!("/email/cancel?token={cancel}")).await.status, 200);
    assert_eq!(my_account(&app, &session).await["pending_email"], "new@example.com");
    assert_eq!(app.post("/email/cancel", &json!({"token": cancel})).await.status, 200);
    assert_eq!(app.verify(&session).await.status, 401, "c08: every session ends");
    app.post("/recovery/confirm", &json!({"token": reset_token(&app, &ann).await, "new_password": NEW_PASSWORD})).await;
    let session = app.login(&Person { password: NEW_PASSWORD.to_owned(), ..ann }).await;
    assert_eq!(my_account(&app, &session).await["pending_email"], Value::Null);
    assert_eq!(verify(&app, &confirm).await, 400);
}

#[tokio::test]
async fn a_required_verification_keeps_out_who_has_not_verified_and_nobody_can_squat() {
    let app = TestApp::builder().with(|settings| settings.accounts.require_email_verification = true).spawn().await;
    let ann = app.register("ann").await;
    let wrong = app.try_login(&Person { password: NEW_PASSWORD.to_owned(), ..ann.clone() }).await;
    let right = app.try_login(&ann).await;
    assert_eq!((right.status, &right.body["detail"]), (401, &wrong.body["detail"]), "s10: the answers are alike");
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    assert_eq!(verify(&app, &token).await, 200);
    app.login(&ann).await;

    let squatter = app.register("bob").await;
    let owner = Person { nickname: "robert".to_owned(), password: NEW_PASSWORD.to_owned(), ..squatter.clone() };
    let answer = app.post("/register", &owner.registration()).await;
    assert_eq!(answer.status, 201, "an unverified registration is replaced: {answer:?}");
    assert_ne!(answer.body["id"], squatter.id, "ids are never given again");
    let token = app.token_from(&owner.email, MailKind::VerifyAddress).await;
    assert_eq!(verify(&app, &token).await, 200);
    assert_eq!(app.try_login(&squatter).await.status, 401);
    app.login(&owner).await;
    app.post("/register", &squatter.registration()).await.assert_problem(400, "Email already registered");
}

#[tokio::test]
async fn where_verification_is_required_who_does_not_verify_in_time_is_removed() {
    let lenient = TestApp::builder().with(|settings| settings.accounts.unverified_ttl = Duration::from_hours(24 * 7));
    let app = lenient.with(|settings| settings.accounts.require_email_verification = true).spawn().await;
    let root = app.register("root").await;
    let verified = app.register("ann").await;
    assert_eq!(verify(&app, &app.token_from(&verified.email, MailKind::VerifyAddress).await).await, 200);
    let late = app.register("late").await;
    app.pass(Duration::from_hours(24 * 6));
    let early = app.register("early").await;
    app.handles.tend_accounts().await.unwrap();
    assert_eq!(app.post("/register", &late.registration()).await.status, 201, "an unverified address is not taken");
    app.pass(Duration::from_hours(24 * 2));
    app.handles.tend_accounts().await.unwrap();
    app.login(&verified).await;
    // A request by address sends a mail only if the account still exists.
    for (person, is_there) in [(&root, true), (&early, true), (&late, true)] {
        app.post("/email/verify/resend", &json!({"email": person.email})).await;
        let newest = app.mails_to(&person.email).await.pop().unwrap();
        assert_eq!(newest.written_at.as_millis() == clock_millis(&app), is_there, "{}", person.email);
    }
    app.pass(Duration::from_hours(24 * 5) + Duration::from_mins(1));
    app.handles.tend_accounts().await.unwrap();
    for (person, is_there) in [(&root, true), (&early, false), (&late, false)] {
        app.post("/email/verify/resend", &json!({"email": person.email})).await;
        let newest = app.mails_to(&person.email).await.pop().unwrap();
        assert_eq!(newest.written_at.as_millis() == clock_millis(&app), is_there, "{}", person.email);
    }
}

fn clock_millis(app: &TestApp) -> i64 {
    doorward_actors::ports::Clock::now(&*app.clock).as_millis()
}

#[tokio::test]
async fn a_registration_can_keep_to_itself_whether_the_address_was_taken() {
    let app = TestApp::builder().with(|settings| settings.accounts.enumeration_safe_registration = true).spawn().await;
    let ann = Person::named("ann");
    let free = app.post("/register", &ann.registration()).await;
    let again = Person { nickname: "other".to_owned(), ..ann.clone() };
    let taken = app.post("/register", &again.registration()).await;
    assert_eq!((free.status, taken.status), (202, 202));
    assert_eq!(free.body, taken.body);
    assert!(kinds(&app.mails_to(&ann.email).await).contains(&MailKind::AddressInUse));
    app.login(&ann).await;
}

#[tokio::test]
async fn each_mode_of_recovery_offers_what_it_says() {
    use doorward_actors::RecoveryMode::{Either, Email, EmailAndPassphrase, Passphrase};
    for mode in [Passphrase, Email, Either, EmailAndPassphrase] {
        let app = TestApp::builder().with(|settings| settings.accounts.recovery_mode = mode).spawn().await;
        let ann = app.register("ann").await;
        assert_eq!(verify(&app, &app.token_from(&ann.email, MailKind::VerifyAddress).await).await, 200);
        let by_passphrase =
            json!({"email": ann.email, "passphrase": ann.passphrase, "new_password": "First-quiet-lamp-1"});
        let answer = app.post("/recovery", &by_passphrase).await;
        assert_eq!(answer.status, if matches!(mode, Passphrase | Either) { 200 } else { 400 }, "{mode:?} {answer:?}");
        let request = app.post("/recovery/request", &json!({"email": ann.email})).await;
        assert_eq!(request.status, 202, "{mode:?}");
        if mode == Passphrase {
            let told = kinds(&app.mails_to(&ann.email).await);
            assert!(!told.contains(&MailKind::ResetPassword), "it is for those whose address was never verified");
            continue;
        }
        let token = reset_token(&app, &ann).await;
        let mut body = json!({"token": token, "new_password": NEW_PASSWORD});
        if mode == EmailAndPassphrase {
            assert_ne!(app.post("/recovery/confirm", &body).await.status, 200, "the passphrase is missing");
            body["passphrase"] = json!("not the passphrase");
            app.post("/recovery/confirm", &body).await.assert_problem(400, "Entered details do not match");
            body["passphrase"] = json!(ann.passphrase);
        }
        assert_eq!(app.post("/recovery/confirm", &body).await.status, 200, "{mode:?}");
        app.login(&Person { password: NEW_PASSWORD.to_owned(), ..ann }).await;
    }
}

#[tokio::test]
async fn r04_a_mail_server_that_refuses_for_minutes_delays_nobody_and_loses_nothing() {
    let app = TestApp::spawn().await;
    let (root, admin) = app.register_and_login("root").await;
    app.handles.tend_mail().await.unwrap();
    app.mail.refuse(Some(SendError::Transient("451 try again later".to_owned())));
    let ann = app.register("ann").await;
    assert!(app.mails_to(&ann.email).await.is_empty());
    let listed = app.call(Method::GET, "/outbox/", &admin, &Value::Null).await.body;
    let waiting = &listed["mails"][0];
    assert_eq!((&waiting["to"], &waiting["template"]), (&json!(ann.email), &json!("verify_address")));
    assert_eq!((&waiting["attempts"], &waiting["last_error"]), (&json!(1), &json!("451 try again later")));
    for _ in 0..6 {
        app.pass(Duration::from_mins(1));
        assert!(app.mails_to(&ann.email).await.is_empty());
    }
    app.mail.refuse(None);
    app.pass(Duration::from_hours(1));
    assert_eq!(kinds(&app.mails_to(&ann.email).await), [MailKind::VerifyAddress]);
    let admin = app.login(&root).await;
    let listed = app.call(Method::GET, "/outbox/", &admin, &Value::Null).await.body;
    assert_eq!(listed["mails"], json!([]), "a delivered mail is gone");
}

#[tokio::test]
async fn r04_a_mail_server_that_says_nothing_holds_nobody_up() {
    let app = TestApp::spawn().await;
    app.mail.stall(true);
    for n in 0..8 {
        app.register(&format!("person{n}")).await;
    }
    app.mail.stall(false);
}

#[tokio::test]
async fn r04_a_queued_mail_outlives_the_process() {
    let app = TestApp::spawn().await;
    app.mail.refuse(Some(SendError::Transient("no connection".to_owned())));
    let ann = app.register("ann").await;
    assert!(app.mails_to(&ann.email).await.is_empty());
    let app = app.restart().await;
    app.mail.refuse(None);
    app.pass(Duration::from_hours(1));
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    assert_eq!(verify(&app, &token).await, 200, "its link is good after the restart");
}

#[tokio::test]
async fn a_mail_that_cannot_be_delivered_is_kept_for_an_administrator() {
    let app = TestApp::spawn().await;
    let (root, admin) = app.register_and_login("root").await;
    app.handles.tend_mail().await.unwrap();
    app.mail.refuse(Some(SendError::Permanent("550 no such user".to_owned())));
    let ann = app.register("ann").await;
    assert!(app.mails_to(&ann.email).await.is_empty());
    let listed = app.call(Method::GET, "/outbox/", &admin, &Value::Null).await;
    let dead = &listed.body["mails"][0];
    assert_eq!((&dead["state"], &dead["last_error"]), (&json!("dead"), &json!("550 no such user")));
    let attempts = app.mail.attempts();
    app.pass(Duration::from_hours(12));
    app.handles.tend_mail().await.unwrap();
    assert_eq!(app.mail.attempts(), attempts, "it is not tried again by itself");

    app.mail.refuse(None);
    let admin = app.login(&root).await;
    let id = dead["id"].as_u64().unwrap();
    assert_eq!(app.call(Method::POST, &format!("/outbox/{id}/retry"), &admin, &Value::Null).await.status, 200);
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    assert!(!listed.text.contains(&token), "s24: no token is shown");
    let gone = app.call(Method::DELETE, &format!("/outbox/{id}"), &admin, &Value::Null).await;
    gone.assert_problem(404, &format!("Mail with id {id} not found"));
}

#[tokio::test]
async fn s60_a_deleted_account_takes_its_pending_mail_along_and_its_owner_is_told() {
    let app = TestApp::spawn().await;
    let (_, admin) = app.register_and_login("root").await;
    app.handles.tend_mail().await.unwrap();
    app.mail.refuse(Some(SendError::Transient("later".to_owned())));
    let ann = app.register("ann").await;
    app.handles.tend_mail().await.unwrap();
    let path = format!("/accounts_management/{}", ann.id);
    assert_eq!(app.call(Method::DELETE, &path, &admin, &Value::Null).await.status, 200);
    app.mail.refuse(None);
    app.pass(Duration::from_hours(1));
    assert_eq!(kinds(&app.mails_to(&ann.email).await), [MailKind::AccountDeleted]);
}

#[tokio::test]
async fn owners_are_told_of_what_an_administrator_or_they_themselves_did() {
    let app = TestApp::spawn().await;
    let (_, admin) = app.register_and_login("root").await;
    let (ann, session) = app.register_and_login("ann").await;
    let path = format!("/accounts_management/{}", ann.id);
    let password = json!({"password": NEW_PASSWORD});
    assert_eq!(app.call(Method::PUT, "/my_account/", &session, &password).await.status, 200);
    for change in [json!({"lock": true}), json!({"lock": false}), json!({"email": "moved@example.com"})] {
        assert_eq!(app.call(Method::PUT, &path, &admin, &change).await.status, 200);
    }
    let told = kinds(&app.mails_to(&ann.email).await);
    for kind in
        [MailKind::PasswordChanged, MailKind::AccountLocked, MailKind::AccountUnlocked, MailKind::AddressChanged]
    {
        assert!(told.contains(&kind), "{kind:?} in {told:?}");
    }
    assert_eq!(kinds(&app.mails_to("moved@example.com").await), [MailKind::VerifyAddress]);
}

#[tokio::test]
async fn the_language_is_what_was_asked_for_else_what_the_browser_prefers_else_the_operators() {
    let app = TestApp::spawn().await;
    let mut body = Person::named("ann").registration();
    body["locale"] = json!("fr");
    assert_eq!(app.post("/register", &body).await.status, 201);
    let german = app.request(Method::POST, "/register").header("Accept-Language", "de-AT,en;q=0.5");
    assert_eq!(app.send(german.json(&Person::named("bea").registration())).await.status, 201);
    app.register("cleo").await;
    for (address, language) in [("ann@example.com", "fr"), ("bea@example.com", "de"), ("cleo@example.com", "en")] {
        assert_eq!(app.mails_to(address).await[0].locale.as_str(), language, "{address}");
    }
    body["locale"] = json!("tlh");
    assert_eq!(app.post("/register", &body).await.pointers(), ["/locale"]);
}
