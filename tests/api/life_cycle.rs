//! Every credential has the same life cycle (S74). The owner gets a notice of each new credential, with an undo link. A
//! recovery by mail, an administrator's reset and the undo link end it.

use doorward_actors::MailKind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{NEW_PASSWORD, Person, TestApp};

/// The credentials that the thief sets.
const SET_PASSWORD: &str = "Stolen-river-5-tree";
const SET_PASSPHRASE: &str = "nobody but me knows this";
const SET_ADDRESS: &str = "thief@example.net";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credential {
    Password,
    Passphrase,
    Address,
    RefreshToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Registration,
    Owner,
    Administrator,
    Mail,
    Passphrase,
    Login,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    RecoveryByMail,
    OwnNewPassword,
    AdministratorsReset,
    Lock,
    UndoLink,
}

const CREDENTIALS: [Credential; 4] =
    [Credential::Password, Credential::Passphrase, Credential::Address, Credential::RefreshToken];
const SETS: [Set; 6] = [Set::Registration, Set::Owner, Set::Administrator, Set::Mail, Set::Passphrase, Set::Login];
const ENDS: [End; 5] = [End::RecoveryByMail, End::OwnNewPassword, End::AdministratorsReset, End::Lock, End::UndoLink];

/// Returns the kind of the mail that reports a new credential, or `None` if it cannot be set in this way.
fn told_by(credential: Credential, set: Set) -> Option<MailKind> {
    use Credential::{Address, Passphrase, Password, RefreshToken};
    match (credential, set) {
        (Password | Passphrase, Set::Registration) | (RefreshToken, Set::Login) => Some(MailKind::VerifyAddress),
        (Password, Set::Owner | Set::Administrator) => Some(MailKind::PasswordChanged),
        (Password, Set::Mail | Set::Passphrase) => Some(MailKind::RecoveryUsed),
        (Passphrase, Set::Owner | Set::Administrator | Set::Mail) => Some(MailKind::PassphraseChanged),
        (Address, Set::Owner | Set::Administrator) => Some(MailKind::AddressChanged),
        _ => None,
    }
}

/// Returns whether a credential that was set in this way is still valid after this end. For a lock: after the unlock.
fn lives(credential: Credential, set: Set, end: End) -> bool {
    match (credential, end) {
        // A passphrase is not a password: its owner keeps using it with a new password.
        (Credential::Password | Credential::Passphrase, End::Lock) | (Credential::Passphrase, End::OwnNewPassword) => {
            true
        }
        // A credential from before the undone change stays valid.
        (Credential::Password | Credential::Passphrase, End::UndoLink) => set == Set::Registration,
        // A new address is not forgotten: only the undo link at the old address takes it back.
        (Credential::Address, end) => end != End::UndoLink,
        (Credential::Password | Credential::Passphrase | Credential::RefreshToken, _) => false,
    }
}

/// An account and its known state.
struct Stage {
    app: TestApp,
    admin: String,
    ann: Person,
    /// The credential that the thief holds.
    held: String,
}

impl Stage {
    async fn new() -> Self {
        let app = TestApp::spawn().await;
        let admin = app.admin().await;
        let ann = app.register("ann").await;
        let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
        assert_eq!(app.post("/email/verify", &json!({"token": token})).await.status, 200);
        Self { app, admin, ann, held: String::new() }
    }

    async fn owner_changes(&self, body: &Value) {
        let session = self.app.login(&self.ann).await;
        let answer = self.app.change_own(&session, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    async fn recover_by_mail(&self, password: &str, passphrase: Option<&str>) {
        let email = self.app.account(&self.admin, self.ann.id).await["email"].as_str().unwrap().to_owned();
        assert_eq!(self.app.post("/recovery/request", &json!({"email": email})).await.status, 202);
        let token = self.app.token_from(&email, MailKind::ResetPassword).await;
        let mut body = json!({"token": token, "new_password": password});
        if let Some(passphrase) = passphrase {
            body["passphrase"] = json!(passphrase);
        }
        let answer = self.app.post("/recovery/confirm", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    async fn set(&mut self, credential: Credential, set: Set) {
        let (key, value) = match credential {
            Credential::Password => ("password", SET_PASSWORD),
            Credential::Passphrase => ("passphrase", SET_PASSPHRASE),
            Credential::Address => ("email", SET_ADDRESS),
            Credential::RefreshToken => ("", ""),
        };
        value.clone_into(&mut self.held);
        match set {
            Set::Registration if credential == Credential::Password => self.held.clone_from(&self.ann.password),
            Set::Registration => self.held.clone_from(&self.ann.passphrase),
            Set::Owner => self.owner_changes(&json!({key: value})).await,
            Set::Administrator => self.app.must_change(&self.admin, self.ann.id, &json!({key: value})).await,
            Set::Mail if credential == Credential::Password => self.recover_by_mail(value, None).await,
            Set::Mail => {
                self.recover_by_mail(NEW_PASSWORD, Some(value)).await;
                NEW_PASSWORD.clone_into(&mut self.ann.password);
            }
            Set::Passphrase => {
                let answer = self.app.recover(&self.ann.email, &self.ann.passphrase, value).await;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
            Set::Login => {
                let login = self.app.try_login(&self.ann).await;
                self.held = login.text_at("refresh_token");
            }
        }
        if credential == Credential::Password {
            self.ann.password.clone_from(&self.held);
        }
        if credential == Credential::Address && set == Set::Owner {
            let token = self.app.token_from(SET_ADDRESS, MailKind::ConfirmNewAddress).await;
            assert_eq!(self.app.post("/email/verify", &json!({"token": token})).await.status, 200);
        }
    }

    async fn end(&self, credential: Credential, set: Set, end: End) {
        let mut owner = self.ann.clone();
        if credential == Credential::Address {
            SET_ADDRESS.clone_into(&mut owner.email);
        }
        match end {
            End::RecoveryByMail => {
                // The last recovery may be less than a minute ago.
                self.app.pass(std::time::Duration::from_mins(1));
                self.recover_by_mail("Owners-calm-lake-3", None).await;
            }
            End::OwnNewPassword => {
                let session = self.app.login(&owner).await;
                let answer = self.app.change_own(&session, &json!({"password": "Owners-calm-lake-3"})).await;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
            End::AdministratorsReset => {
                let body = json!({"password": "Owners-calm-lake-3"});
                self.app.must_change(&self.admin, self.ann.id, &body).await;
            }
            End::Lock => {
                self.app.lock(&self.admin, self.ann.id).await;
                assert!(!self.opens(credential).await || credential == Credential::Address, "{credential:?} {set:?}");
                self.app.must_change(&self.admin, self.ann.id, &json!({"lock": false})).await;
            }
            End::UndoLink => {
                let kind = match told_by(credential, set) {
                    // Nothing undoes a registration or a login. The undo link of a later change keeps what was set
                    // before it.
                    Some(MailKind::VerifyAddress) if credential == Credential::Password => {
                        self.owner_changes(&json!({"passphrase": SET_PASSPHRASE})).await;
                        MailKind::PassphraseChanged
                    }
                    Some(MailKind::VerifyAddress) => {
                        self.owner_changes(&json!({"password": SET_PASSWORD})).await;
                        MailKind::PasswordChanged
                    }
                    Some(kind) => kind,
                    None => panic!("{credential:?} {set:?}"),
                };
                let token = self.app.token_from(&self.ann.email, kind).await;
                assert_eq!(self.app.get(&format!("/email/cancel?token={token}")).await.status, 200);
                let answer = self.app.post("/email/cancel", &json!({"token": token})).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                let again = self.app.post("/email/cancel", &json!({"token": token})).await;
                assert_eq!(again.status, 400, "once");
                assert!(self.told(MailKind::ResetPassword).await, "it leads to recovery");
            }
        }
    }

    /// Returns whether the owner got a mail of this kind.
    async fn told(&self, kind: MailKind) -> bool {
        self.app.mails_to(&self.ann.email).await.iter().any(|mail| mail.kind == kind)
    }

    /// Returns whether the thief's credential is still valid.
    async fn opens(&self, credential: Credential) -> bool {
        match credential {
            Credential::Password => self.app.opens(&self.ann, &self.held).await,
            Credential::Passphrase => {
                self.app.recover(&self.ann.email, &self.held, "Warm-hill-4-cloud").await.status == 200
            }
            Credential::Address => self.app.account(&self.admin, self.ann.id).await["email"] == self.held.as_str(),
            Credential::RefreshToken => {
                self.app.post("/refresh", &json!({"refresh_token": self.held})).await.status == 200
            }
        }
    }
}

#[tokio::test]
async fn c06_c08_s74_every_credential_however_it_was_set_has_one_life_cycle() {
    let mut cells = 0;
    for credential in CREDENTIALS {
        for set in SETS {
            let Some(kind) = told_by(credential, set) else { continue };
            for end in ENDS {
                let mut stage = Stage::new().await;
                stage.set(credential, set).await;
                assert!(stage.told(kind).await, "{credential:?} {set:?}");
                stage.end(credential, set, end).await;
                let opens = stage.opens(credential).await;
                assert_eq!(opens, lives(credential, set, end), "{credential:?} {set:?} {end:?}");
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 60);
}

#[tokio::test]
async fn c06_who_loses_the_passphrase_is_asked_for_a_new_one() {
    let stage = Stage::new().await;
    let (app, ann) = (&stage.app, &stage.ann);
    let asked = async || {
        let mails = app.mails_to(&ann.email).await;
        mails.iter().filter(|mail| mail.kind == MailKind::PassphraseNeeded).count()
    };
    let no_match = "Entered details do not match";
    stage.recover_by_mail(NEW_PASSWORD, None).await;
    assert_eq!(asked().await, 1);
    app.recover(&ann.email, &ann.passphrase, SET_PASSWORD).await.assert_problem(400, no_match);

    // A passphrase in the same request becomes the new one.
    let body = json!({"password": SET_PASSWORD, "passphrase": SET_PASSPHRASE});
    app.must_change(&stage.admin, ann.id, &body).await;
    assert_eq!(asked().await, 1);
    assert_eq!(app.recover(&ann.email, SET_PASSPHRASE, "Warm-hill-4-cloud").await.status, 200);

    app.must_change(&stage.admin, ann.id, &json!({"password": NEW_PASSWORD})).await;
    assert_eq!(asked().await, 2);
    app.recover(&ann.email, SET_PASSPHRASE, SET_PASSWORD).await.assert_problem(400, no_match);
    let session = app.login(&Person { password: NEW_PASSWORD.to_owned(), ..ann.clone() }).await;
    assert_eq!(app.change_own(&session, &json!({"passphrase": "warm stones by the sea"})).await.status, 200);
    assert_eq!(app.recover(&ann.email, "warm stones by the sea", SET_PASSWORD).await.status, 200);

    // If an administrator also changes the address, the owner gets the request at the new address.
    let elsewhere = "ann@example.net";
    app.must_change(&stage.admin, ann.id, &json!({"password": NEW_PASSWORD, "email": elsewhere})).await;
    assert_eq!(asked().await, 2);
    let mails = app.mails_to(elsewhere).await;
    assert!(mails.iter().any(|mail| mail.kind == MailKind::PassphraseNeeded));
}

#[tokio::test]
async fn c06_nobody_is_asked_for_a_passphrase_that_opens_nothing() {
    let mode = doorward_actors::RecoveryMode::Email;
    let app = TestApp::builder().with(|settings| settings.accounts.recovery_mode = mode).spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    app.must_change(&admin, ann.id, &json!({"password": NEW_PASSWORD})).await;
    app.post("/recovery/request", &json!({"email": ann.email})).await;
    let token = app.token_from(&ann.email, MailKind::ResetPassword).await;
    let body = json!({"token": token, "new_password": SET_PASSWORD});
    assert_eq!(app.post("/recovery/confirm", &body).await.status, 200);
    let mails = app.mails_to(&ann.email).await;
    assert!(mails.iter().all(|mail| mail.kind != MailKind::PassphraseNeeded));
}

#[tokio::test]
async fn c06_an_account_that_an_administrator_makes_keeps_its_passphrase() {
    let stage = Stage::new().await;
    let bob = Person::named("bob");
    let made = stage.app.call(Method::POST, "/accounts_management/", &stage.admin, &bob.registration()).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(stage.app.recover(&bob.email, &bob.passphrase, NEW_PASSWORD).await.status, 200);
}

#[tokio::test]
async fn c06_a_passphrase_that_was_just_shown_stays() {
    let mode = doorward_actors::RecoveryMode::EmailAndPassphrase;
    let app = TestApp::builder().with(|settings| settings.accounts.recovery_mode = mode).spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    app.post("/email/verify", &json!({"token": token})).await;
    let recover = async |passphrase: Option<&str>, password: &str| {
        app.pass(std::time::Duration::from_mins(1));
        app.post("/recovery/request", &json!({"email": ann.email})).await;
        let token = app.token_from(&ann.email, MailKind::ResetPassword).await;
        let page = app.get(&format!("/recovery/confirm?token={token}")).await;
        let asked = page.text.contains("name=\"passphrase\"");
        let mut body = json!({"token": token, "new_password": password});
        if let Some(passphrase) = passphrase {
            body["passphrase"] = json!(passphrase);
        }
        (asked, app.post("/recovery/confirm", &body).await.status)
    };
    for password in [NEW_PASSWORD, SET_PASSWORD] {
        assert_eq!(recover(Some(&ann.passphrase), password).await, (true, 200), "it is there still");
    }
    assert_eq!(recover(None, NEW_PASSWORD).await, (true, 422));
    assert_eq!(recover(Some("another one"), NEW_PASSWORD).await, (true, 400));
    // An administrator's reset leaves no passphrase. This must not lock out the owner, who may send a new one.
    app.must_change(&admin, ann.id, &json!({"password": NEW_PASSWORD})).await;
    assert_eq!(recover(Some(SET_PASSPHRASE), SET_PASSWORD).await, (false, 200));
    assert_eq!(recover(Some(&ann.passphrase), NEW_PASSWORD).await, (true, 400));
    assert_eq!(recover(Some(SET_PASSPHRASE), NEW_PASSWORD).await, (true, 200));
}
