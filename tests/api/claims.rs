//! Accounts with an unverified address, and the owner of the mailbox.

use std::time::Duration;

use doorward_actors::RecoveryMode::{Either, Email, EmailAndPassphrase, Passphrase};
use doorward_actors::{MailKind, RecoveryMode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{NEW_PASSWORD, Person, TestApp};

const OWNERS_PASSWORD: &str = "Owners-calm-lake-3";

async fn in_mode(mode: RecoveryMode) -> TestApp {
    TestApp::builder().with(|settings| settings.accounts.recovery_mode = mode).spawn().await
}

async fn reset_token(app: &TestApp, person: &Person) -> String {
    app.post("/recovery/request", &json!({"email": person.email})).await;
    app.token_from(&person.email, MailKind::ResetPassword).await
}

async fn redeem(app: &TestApp, token: &str, password: &str) -> u16 {
    app.post("/recovery/confirm", &json!({"token": token, "new_password": password})).await.status
}

#[tokio::test]
async fn c09_a_reset_link_ends_with_a_new_password_whether_the_address_is_verified_or_not() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for verified in [true, false] {
        for way in ["owner", "passphrase", "administrator"] {
            let person = app.register(&format!("{way}-{verified}")).await;
            let verify = app.token_from(&person.email, MailKind::VerifyAddress).await;
            if verified {
                assert_eq!(app.post("/email/verify", &json!({"token": verify})).await.status, 200);
            }
            let token = reset_token(&app, &person).await;
            let status = match way {
                "owner" => {
                    let session = app.login(&person).await;
                    app.change_own(&session, &json!({"password": NEW_PASSWORD})).await.status
                }
                "passphrase" => app.recover(&person.email, &person.passphrase, NEW_PASSWORD).await.status,
                _ => app.change(&admin, person.id, &json!({"password": NEW_PASSWORD})).await.status,
            };
            assert_eq!(status, 200, "{way} {verified}");
            assert_eq!(redeem(&app, &token, OWNERS_PASSWORD).await, 400, "{way} {verified}");
            assert!(app.opens(&person, NEW_PASSWORD).await);
            if !verified {
                // The verification does not depend on the password.
                assert_eq!(app.post("/email/verify", &json!({"token": verify})).await.status, 200, "{way}");
            }
        }
    }
}

#[tokio::test]
async fn c09_s32_in_every_mode_the_owner_of_the_mailbox_claims_an_unverified_account_by_mail() {
    for mode in [Passphrase, Email, Either, EmailAndPassphrase] {
        let app = in_mode(mode).await;
        app.admin().await;
        let squatter = app.register("victim").await;
        let session = app.login(&squatter).await;
        let change = json!({"email": "thief@example.net"});
        assert_eq!(app.change_own(&session, &change).await.status, 200);
        let confirm = app.token_from("thief@example.net", MailKind::ConfirmNewAddress).await;
        let refresh = app.try_login(&squatter).await.text_at("refresh_token");
        let earlier = app.token_from(&squatter.email, MailKind::AddressChangePending).await;

        let token = reset_token(&app, &squatter).await;
        let page = app.get(&format!("/recovery/confirm?token={token}")).await;
        assert!(page.status == 200 && !page.text.contains("name=\"passphrase\""), "{mode:?}: {}", page.text);
        assert_eq!(redeem(&app, &token, OWNERS_PASSWORD).await, 200, "{mode:?}");

        assert!(!app.is_live(&session).await, "{mode:?}");
        assert_eq!(app.post("/refresh", &json!({"refresh_token": refresh})).await.status, 401, "{mode:?}");
        assert!(!app.opens(&squatter, &squatter.password).await, "{mode:?}");
        assert_eq!(app.post("/email/verify", &json!({"token": confirm})).await.status, 400, "{mode:?}");
        assert_eq!(app.post("/email/cancel", &json!({"token": earlier})).await.status, 400, "{mode:?}");
        let by_passphrase = app.recover(&squatter.email, &squatter.passphrase, NEW_PASSWORD).await;
        assert_eq!(by_passphrase.status, 400, "{mode:?}");
        let owner = Person { password: OWNERS_PASSWORD.to_owned(), ..squatter };
        let session = app.login(&owner).await;
        let account = app.call(Method::GET, "/my_account/", &session, &Value::Null).await.body;
        assert_eq!((&account["email_verified"], &account["pending_email"]), (&json!(true), &Value::Null), "{mode:?}");
    }
}

#[tokio::test]
async fn c09_a_claim_brings_a_new_passphrase_along_where_the_mode_needs_one() {
    let app = in_mode(EmailAndPassphrase).await;
    app.admin().await;
    let squatter = app.register("victim").await;
    let token = reset_token(&app, &squatter).await;
    let body = json!({"token": token, "new_password": OWNERS_PASSWORD, "passphrase": "the owner's own"});
    assert_eq!(app.post("/recovery/confirm", &body).await.status, 200);
    app.pass(Duration::from_mins(1));
    let token = reset_token(&app, &squatter).await;
    let mut body = json!({"token": token, "new_password": NEW_PASSWORD, "passphrase": squatter.passphrase});
    app.post("/recovery/confirm", &body).await.assert_problem(400, "Entered details do not match");
    body["passphrase"] = json!("the owner's own");
    assert_eq!(app.post("/recovery/confirm", &body).await.status, 200);
}

#[tokio::test]
async fn c09_where_recovery_by_mail_is_not_offered_a_verified_account_gets_no_mail() {
    let app = in_mode(Passphrase).await;
    let ann = app.register("ann").await;
    let verify = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    app.post("/email/verify", &json!({"token": verify})).await;
    let known = app.post("/recovery/request", &json!({"email": ann.email})).await;
    let unknown = app.post("/recovery/request", &json!({"email": "nobody@example.com"})).await;
    assert_eq!((known.status, known.body), (202, unknown.body), "s12");
    let is_reset = |mail: &doorward_actors::OutgoingMail| mail.kind == MailKind::ResetPassword;
    assert!(!app.mails_to(&ann.email).await.iter().any(is_reset));
    // After an undo, the account has no other way back.
    let session = app.login(&ann).await;
    let set = json!({"password": NEW_PASSWORD, "passphrase": "mine from now on"});
    assert_eq!(app.change_own(&session, &set).await.status, 200);
    let undo = app.token_from(&ann.email, MailKind::PassphraseChanged).await;
    assert_eq!(app.post("/email/cancel", &json!({"token": undo})).await.status, 200);
    let first = app.token_from(&ann.email, MailKind::ResetPassword).await;
    app.pass(Duration::from_hours(1));
    assert_eq!(redeem(&app, &first, OWNERS_PASSWORD).await, 400, "the one that came with the undoing is over");
    let token = reset_token(&app, &ann).await;
    assert_eq!(redeem(&app, &token, OWNERS_PASSWORD).await, 200);
    assert!(app.opens(&ann, OWNERS_PASSWORD).await);
}

#[tokio::test]
async fn c09_a_second_registration_never_replaces_an_account_that_an_administrator_made() {
    let app = TestApp::builder().with(|settings| settings.accounts.require_email_verification = true).spawn().await;
    let root = app.register("root").await;
    let token = app.token_from(&root.email, MailKind::VerifyAddress).await;
    assert_eq!(app.post("/email/verify", &json!({"token": token})).await.status, 200);
    let admin = app.login(&root).await;
    let ann = Person::named("ann");
    let made = app.call(Method::POST, "/accounts_management/", &admin, &ann.registration()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let squatter = Person { nickname: "other".to_owned(), password: NEW_PASSWORD.to_owned(), ..ann.clone() };
    app.post("/register", &squatter.registration()).await.assert_problem(400, "Email already registered");
    let app = app.restart().await;
    app.post("/register", &squatter.registration()).await.assert_problem(400, "Email already registered");
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    assert_eq!(app.post("/email/verify", &json!({"token": token})).await.status, 200);
    assert!(app.opens(&ann, &ann.password).await);
}
