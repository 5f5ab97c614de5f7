//! The links that undo changes to an account, and changes made in the meantime.

use std::time::Duration;

use doorward_actors::MailKind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{NEW_PASSWORD, Person, TestApp};

const HOUR: Duration = Duration::from_hours(1);
const THIEFS_PASSWORD: &str = "Stolen-river-5-tree";

async fn undo(app: &TestApp, token: &str) -> u16 {
    app.post("/email/cancel", &json!({"token": token})).await.status
}

async fn confirm(app: &TestApp, address: &str) -> u16 {
    let token = app.token_from(address, MailKind::ConfirmNewAddress).await;
    app.post("/email/verify", &json!({"token": token})).await.status
}

/// Requests another address, with the password as fresh proof.
async fn move_to(app: &TestApp, owner: &Person, session: &str, address: &str) {
    let answer = app.change_own(session, &json!({"email": address, "current_password": owner.password})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn verified(app: &TestApp, name: &str) -> Person {
    let person = app.register(name).await;
    let token = app.token_from(&person.email, MailKind::VerifyAddress).await;
    assert_eq!(app.post("/email/verify", &json!({"token": token})).await.status, 200);
    person
}

async fn my_account(app: &TestApp, session: &str) -> Value {
    app.call(Method::GET, "/my_account/", session, &Value::Null).await.body
}

/// Returns the number of mails to an address that carry an undo link.
async fn links(app: &TestApp, address: &str) -> usize {
    let undoes = |kind| doorward_actors::TokenPurpose::of_mail(kind) == Some(doorward_actors::TokenPurpose::Undo);
    app.mails_to(address).await.iter().filter(|mail| undoes(mail.kind) && mail.values.token.is_some()).count()
}

#[tokio::test]
async fn c08_a_change_of_address_that_was_confirmed_at_once_is_undone_with_all_that_was_set_since() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = verified(&app, "ann").await;
    let session = app.login(&ann).await;
    move_to(&app, &ann, &session, "thief@example.net").await;
    assert_eq!(confirm(&app, "thief@example.net").await, 200);
    let set = json!({"password": THIEFS_PASSWORD, "passphrase": "mine from now on"});
    assert_eq!(app.change_own(&session, &set).await.status, 200);
    let thief = Person { email: "thief@example.net".to_owned(), password: THIEFS_PASSWORD.to_owned(), ..ann.clone() };
    let theirs = app.login(&thief).await;
    // A recovery by mail at the new address ends other links, but not this one.
    app.post("/recovery/request", &json!({"email": thief.email})).await;
    let reset = app.token_from(&thief.email, MailKind::ResetPassword).await;
    let body = json!({"token": reset, "new_password": THIEFS_PASSWORD, "passphrase": "mine from now on"});
    assert_eq!(app.post("/recovery/confirm", &body).await.status, 200);
    assert_eq!(links(&app, &thief.email).await, 0, "an address reached by a change that can be undone gets no link");

    app.pass(71 * HOUR);
    let link = app.token_from(&ann.email, MailKind::AddressChangePending).await;
    let page = app.get(&format!("/email/cancel?token={link}")).await;
    assert!(page.status == 200 && page.text.contains("ann@example.com"), "{}", page.text);
    assert_eq!(undo(&app, &link).await, 200);
    for session in [&session, &theirs] {
        assert!(!app.is_live(session).await);
    }
    let account = app.account(&admin_again(&app, &admin).await, ann.id).await;
    assert_eq!((&account["email"], &account["email_verified"]), (&json!(ann.email), &json!(true)));
    for password in [THIEFS_PASSWORD, &ann.password] {
        assert!(!app.opens(&ann, password).await, "no earlier secret comes back");
        assert!(!app.opens(&thief, password).await);
    }
    app.recover(&ann.email, "mine from now on", NEW_PASSWORD).await.assert_problem(400, "Entered details do not match");
    let reset = app.token_from(&ann.email, MailKind::ResetPassword).await;
    let body = json!({"token": reset, "new_password": NEW_PASSWORD});
    assert_eq!(app.post("/recovery/confirm", &body).await.status, 200);
    assert!(app.opens(&ann, NEW_PASSWORD).await);
}

/// Returns the administrator's session, or a new one if it has expired.
async fn admin_again(app: &TestApp, admin: &str) -> String {
    if app.is_live(admin).await { admin.to_owned() } else { app.login(&Person::named("admin")).await }
}

#[tokio::test]
async fn c08_the_earliest_link_wins_and_the_address_stays_reserved_meanwhile() {
    let app = TestApp::spawn().await;
    app.admin().await;
    let ann = verified(&app, "ann").await;
    let session = app.login(&ann).await;
    for address in ["one@example.net", "two@example.net"] {
        move_to(&app, &ann, &session, address).await;
        assert_eq!(confirm(&app, address).await, 200);
    }
    assert_eq!(links(&app, "one@example.net").await + links(&app, "two@example.net").await, 0);
    let squatter = Person { nickname: "other".to_owned(), ..ann.clone() };
    app.post("/register", &squatter.registration()).await.assert_problem(400, "Email already registered");
    let (bob, of_bob) = app.register_and_login("bob").await;
    let taken = json!({"email": ann.email, "current_password": bob.password});
    app.change_own(&of_bob, &taken).await.assert_problem(400, "Email already registered");
    let free = Person { email: "one@example.net".to_owned(), ..Person::named("one") };
    assert_eq!(app.post("/register", &free.registration()).await.status, 201, "what was in between is free");

    let earliest = app.token_from(&ann.email, MailKind::AddressChangePending).await;
    assert_eq!(undo(&app, &earliest).await, 200);
    assert!(app.opens(&ann, &ann.password).await, "what was set before stays");
    let at_two = Person { email: "two@example.net".to_owned(), ..ann.clone() };
    assert!(!app.opens(&at_two, &ann.password).await);
}

#[tokio::test]
async fn c08_the_link_and_the_reservation_are_over_after_their_hours() {
    let hours = |settings: &mut doorward::settings::Settings| settings.accounts.undo_ttl = 2 * HOUR;
    let app = TestApp::builder().with(hours).spawn().await;
    let ann = verified(&app, "ann").await;
    let session = app.login(&ann).await;
    move_to(&app, &ann, &session, "new@example.net").await;
    assert_eq!(confirm(&app, "new@example.net").await, 200);
    let link = app.token_from(&ann.email, MailKind::AddressChangePending).await;
    app.pass(2 * HOUR);
    assert_eq!(undo(&app, &link).await, 400);
    assert_eq!(undo(&app, &app.token_from(&ann.email, MailKind::AddressChanged).await).await, 400);
    let other = Person { nickname: "other".to_owned(), ..ann.clone() };
    assert_eq!(app.post("/register", &other.registration()).await.status, 201);
    // The new address now belongs to the account, so changes can be undone there.
    let moved = Person { email: "new@example.net".to_owned(), ..ann };
    let session = app.login(&moved).await;
    assert_eq!(app.change_own(&session, &json!({"passphrase": "warm stones by the sea"})).await.status, 200);
    assert_eq!(links(&app, &moved.email).await, 1);
}

#[tokio::test]
async fn c08_a_link_is_neither_replaced_by_a_newer_one_nor_ended_by_a_new_password() {
    let app = TestApp::spawn().await;
    let ann = verified(&app, "ann").await;
    let session = app.login(&ann).await;
    let mut passphrases = Vec::new();
    let mut tokens = Vec::new();
    for n in 0..3 {
        passphrases.push(format!("mine from now on {n}"));
        assert_eq!(app.change_own(&session, &json!({"passphrase": passphrases[n]})).await.status, 200);
        tokens.push(app.token_from(&ann.email, MailKind::PassphraseChanged).await);
    }
    let answer = app.change_own(&session, &json!({"password": THIEFS_PASSWORD})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(app.is_live(&session).await);
    assert_eq!(undo(&app, &tokens[0]).await, 200);
    assert!(!app.is_live(&session).await, "the thief's session goes on");
    let refresh = json!({"refresh_token": answer.text_at("refresh_token")});
    assert_eq!(app.post("/refresh", &refresh).await.status, 401);
    for passphrase in passphrases.iter().chain([&ann.passphrase]) {
        app.recover(&ann.email, passphrase, NEW_PASSWORD).await.assert_status_problem(400);
    }
    assert!(!app.opens(&ann, THIEFS_PASSWORD).await);
    assert_eq!(undo(&app, &tokens[2]).await, 400, "all that it would undo is undone");
}

#[tokio::test]
async fn c08_a_locked_account_confirms_nothing_and_locking_clears_what_is_pending() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    let session = app.login(&ann).await;
    move_to(&app, &ann, &session, "new@example.net").await;
    app.post("/recovery/request", &json!({"email": ann.email})).await;
    let verify = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    let reset = app.token_from(&ann.email, MailKind::ResetPassword).await;
    let cancel = app.token_from(&ann.email, MailKind::AddressChangePending).await;
    app.lock(&admin, ann.id).await;
    for page in ["verify", "cancel"] {
        let token = if page == "verify" { &verify } else { &cancel };
        assert_eq!(app.get(&format!("/email/{page}?token={token}")).await.status, 400, "{page}");
        assert_eq!(app.post(&format!("/email/{page}"), &json!({"token": token})).await.status, 400, "{page}");
    }
    assert_eq!(confirm(&app, "new@example.net").await, 400);
    let account = app.account(&admin, ann.id).await;
    assert_eq!((&account["email"], &account["email_verified"]), (&json!(ann.email), &json!(false)));

    app.must_change(&admin, ann.id, &json!({"lock": false})).await;
    assert_eq!(confirm(&app, "new@example.net").await, 400);
    let body = json!({"token": reset, "new_password": NEW_PASSWORD});
    assert_eq!(app.post("/recovery/confirm", &body).await.status, 400);
    let session = app.login(&ann).await;
    assert_eq!(my_account(&app, &session).await["pending_email"], Value::Null);
    assert_eq!(
        app.post("/email/verify", &json!({"token": verify})).await.status,
        200,
        "it has to do with no credential"
    );
}

#[tokio::test]
async fn c08_setting_the_present_address_again_withdraws_a_pending_one() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = verified(&app, "ann").await;
    let session = app.login(&ann).await;
    for by_admin in [false, true] {
        move_to(&app, &ann, &session, "new@example.net").await;
        // Another spelling of it is the same address.
        let present = json!({"email": "Ann@Example.com"});
        if by_admin {
            app.must_change(&admin, ann.id, &present).await;
        } else {
            assert_eq!(app.change_own(&session, &present).await.status, 200);
        }
        let account = my_account(&app, &session).await;
        assert_eq!((&account["email"], &account["pending_email"]), (&json!("Ann@example.com"), &Value::Null));
        assert_eq!(confirm(&app, "new@example.net").await, 400);
    }
}

#[tokio::test]
async fn c08_an_administrators_change_of_address_can_be_undone_unless_it_takes_the_account_away() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, bob) = (verified(&app, "ann").await, verified(&app, "bob").await);
    app.must_change(&admin, ann.id, &json!({"email": "ann@example.net"})).await;
    let link = app.token_from(&ann.email, MailKind::AddressChanged).await;
    assert_eq!(undo(&app, &link).await, 200);
    assert!(app.opens(&ann, &ann.password).await);

    // An admin moves the account away from a compromised mailbox, with a new address and a new password in one request.
    let session = app.login(&bob).await;
    assert_eq!(app.change_own(&session, &json!({"passphrase": "mine from now on"})).await.status, 200);
    let earlier = app.token_from(&bob.email, MailKind::PassphraseChanged).await;
    app.must_change(&admin, bob.id, &json!({"email": "bob@example.net", "password": NEW_PASSWORD})).await;
    assert_eq!(undo(&app, &earlier).await, 400);
    assert_eq!(links(&app, &bob.email).await, 1, "the earlier one");
    assert!(app.opens(&Person { email: "bob@example.net".to_owned(), ..bob.clone() }, NEW_PASSWORD).await);
    // The link stays invalid, even if the account returns to that mailbox.
    app.must_change(&admin, bob.id, &json!({"email": bob.email})).await;
    assert_eq!(undo(&app, &earlier).await, 400);
}

#[tokio::test]
async fn c08_who_registered_a_strangers_address_and_left_it_keeps_nothing_once_the_owner_undoes_that() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let squatter = app.register("victim").await;
    let session = app.login(&squatter).await;
    move_to(&app, &squatter, &session, "thief@example.net").await;
    assert_eq!(confirm(&app, "thief@example.net").await, 200);
    let link = app.token_from(&squatter.email, MailKind::AddressChangePending).await;
    assert_eq!(undo(&app, &link).await, 200);
    let account = app.account(&admin, squatter.id).await;
    assert_eq!((&account["email"], &account["email_verified"]), (&json!(squatter.email), &json!(false)), "as it was");
    let reset = app.token_from(&squatter.email, MailKind::ResetPassword).await;
    let body = json!({"token": reset, "new_password": NEW_PASSWORD});
    assert_eq!(app.post("/recovery/confirm", &body).await.status, 200);
    assert!(!app.opens(&squatter, &squatter.password).await);
    app.recover(&squatter.email, &squatter.passphrase, NEW_PASSWORD).await.assert_status_problem(400);
}

#[tokio::test]
async fn c08_an_undone_account_has_one_hash_computed_for_every_login() {
    let app = TestApp::builder().with(|settings| settings.passwords.hash_threads = 1).spawn().await;
    app.admin().await;
    let ann = verified(&app, "ann").await;
    let session = app.login(&ann).await;
    assert_eq!(app.change_own(&session, &json!({"password": THIEFS_PASSWORD, "passphrase": "mine"})).await.status, 200);
    assert_eq!(undo(&app, &app.token_from(&ann.email, MailKind::PasswordChanged).await).await, 200);
    let nobody = app.login_under_one_id("nobody@example.com", &ann.password).await;
    for password in [&*ann.password, THIEFS_PASSWORD] {
        let before = app.hashes().await;
        let answer = app.login_under_one_id(&ann.email, password).await;
        assert_eq!(app.hashes().await - before, 1);
        assert_eq!(answer.whole(), nobody.whole());
    }
    let before = app.hashes().await;
    app.recover(&ann.email, "mine", NEW_PASSWORD).await.assert_problem(400, "Entered details do not match");
    assert_eq!(app.hashes().await - before, 1);
}
