//! Links in mails: the form is submitted twice, or the link is opened again later.

use std::time::Duration;

use doorward_actors::MailKind;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Answer, NEW_PASSWORD, Person, TestApp};

const OTHER_PASSWORD: &str = "Third-quiet-lamp-9";
/// How long a repeated form gets the same answer as the first one.
const WHILE: Duration = Duration::from_mins(10);
const VERIFY: &str = "/email/verify";
const CANCEL: &str = "/email/cancel";
const RECOVER: &str = "/recovery/confirm";

/// A link and the texts of its page.
struct Link {
    path: &'static str,
    token: String,
    /// The audit event that a use of the link records.
    event: &'static str,
    /// The title of the page that reports success.
    done: &'static str,
    /// The text of the page when the link is opened later.
    later: &'static str,
}

impl Link {
    async fn open(&self, app: &TestApp) -> Answer {
        app.get(&format!("{}?token={}", self.path, self.token)).await
    }

    /// Submits the form of the page.
    async fn press(&self, app: &TestApp) -> Answer {
        press(app, self.path, &self.token, NEW_PASSWORD).await
    }

    /// Uses the link as a program does, with JSON.
    async fn redeem(&self, app: &TestApp) -> Answer {
        let mut body = json!({"token": self.token});
        if self.path == RECOVER {
            body["new_password"] = json!(NEW_PASSWORD);
        }
        app.post(self.path, &body).await
    }
}

async fn press(app: &TestApp, path: &str, token: &str, password: &str) -> Answer {
    let password = if path == RECOVER { format!("&new_password={password}") } else { String::new() };
    app.send(app.form(&format!("{path}?locale=en"), &format!("token={token}{password}"))).await
}

#[track_caller]
fn assert_page(page: &Answer, status: u16, says: &str) {
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{page:?}");
    assert!(page.status == status && page.text.contains(says), "{says}: {page:?}");
}

#[track_caller]
fn assert_bad(page: &Answer) {
    assert_page(page, 400, "<h1>This link does not work</h1>");
}

async fn asked_to_recover(app: &TestApp, person: &Person) -> String {
    assert_eq!(app.post("/recovery/request", &json!({"email": person.email})).await.status, 202);
    app.token_from(&person.email, MailKind::ResetPassword).await
}

async fn asked_to_move(app: &TestApp, person: &Person, address: &str) -> String {
    let session = app.login(person).await;
    assert_eq!(app.change_own(&session, &json!({"email": address})).await.status, 200);
    app.token_from(address, MailKind::ConfirmNewAddress).await
}

/// Creates a link of each purpose, each for another account.
async fn one_of_each(app: &TestApp) -> [Link; 4] {
    let ann = app.register("ann").await;
    let bob = app.register("bob").await;
    let cem = app.register("cem").await;
    let dan = app.register("dan").await;
    let session = app.login(&dan).await;
    assert_eq!(app.change_own(&session, &json!({"password": OTHER_PASSWORD})).await.status, 200);
    [
        Link {
            path: VERIFY,
            token: app.token_from(&ann.email, MailKind::VerifyAddress).await,
            event: "email.verified",
            done: "Address confirmed",
            later: "The address was confirmed with this link on 2",
        },
        Link {
            path: VERIFY,
            token: asked_to_move(app, &bob, "new@example.com").await,
            event: "email.changed",
            done: "Address changed",
            later: "Your account got its new address with this link on 2",
        },
        Link {
            path: RECOVER,
            token: asked_to_recover(app, &cem).await,
            event: "account.recovered",
            done: "Password changed",
            later: "A new password was chosen with this link on 2",
        },
        Link {
            path: CANCEL,
            token: app.token_from(&dan.email, MailKind::PasswordChanged).await,
            event: "account.updated",
            done: "Undone",
            later: "What was done to the account was undone with this link on 2",
        },
    ]
}

/// Returns the number of successful audit events of this kind.
async fn times_done(app: &TestApp, admin: &str, event: &str) -> usize {
    app.handles.audit.settle().await;
    let path = format!("/audit/?event={event}&outcome=success");
    let answer = app.call(reqwest::Method::GET, &path, admin, &Value::Null).await;
    answer.body["events"].as_array().unwrap().len()
}

#[tokio::test]
async fn f21_a_button_pressed_twice_says_that_it_worked_and_does_it_once() {
    let app = TestApp::spawn().await;
    app.register("admin").await;
    for link in one_of_each(&app).await {
        let admin = app.login(&Person::named("admin")).await;
        let before = times_done(&app, &admin, link.event).await;
        assert_page(&link.open(&app).await, 200, "<form");
        let first = link.press(&app).await;
        assert_page(&first, 200, &format!("<h1>{}</h1>", link.done));
        let again = link.press(&app).await;
        assert_eq!((again.status, &again.text), (200, &first.text));
        app.pass(Duration::from_secs(599));
        let again = link.press(&app).await;
        assert_eq!((again.status, &again.text), (200, &first.text));
        let program = link.redeem(&app).await;
        program.assert_problem(400, "This link is not good: it was used, replaced by a newer one, or is over");
        assert_eq!(times_done(&app, &admin, link.event).await, before + 1, "{}", link.event);

        app.pass(Duration::from_secs(1));
        assert_page(&link.press(&app).await, 400, link.later);
        link.redeem(&app).await.assert_status_problem(400);
    }
}

#[tokio::test]
async fn f21_a_used_link_that_is_opened_says_what_it_did_and_what_to_do_next() {
    let app = TestApp::spawn().await;
    app.register("root").await;
    let links = one_of_each(&app).await;
    for link in &links {
        assert_eq!(link.redeem(&app).await.status, 200);
    }
    for passed in [Duration::ZERO, WHILE, Duration::from_hours(24 * 365)] {
        app.pass(passed);
        for link in &links {
            let page = link.open(&app).await;
            assert_page(&page, 400, link.later);
            assert!(page.text.contains("<h1>This link was used already</h1>"), "{page:?}");
            assert!(page.text.contains("og in"), "the next step: {page:?}");
            let said = page.text.split("</style>").last().unwrap();
            for told in ["<form", "example.com", "ann", "bob", "cem", "dan"] {
                assert!(!said.contains(told), "{told}: {said}");
            }
        }
    }
    // The store remembers the use, not the process.
    let app = app.restart().await;
    for link in &links {
        assert_page(&link.open(&app).await, 400, link.later);
    }
}

#[tokio::test]
async fn f21_a_recovery_sent_again_with_another_password_says_that_the_first_counts() {
    let app = TestApp::spawn().await;
    app.register("root").await;
    let ann = app.register("ann").await;
    let token = asked_to_recover(&app, &ann).await;
    assert_page(&press(&app, RECOVER, &token, NEW_PASSWORD).await, 200, "<h1>Password changed</h1>");
    for other in [OTHER_PASSWORD, "weak"] {
        let page = press(&app, RECOVER, &token, other).await;
        assert_page(&page, 400, "<h1>The password chosen first counts</h1>");
        assert!(!page.text.contains(other) && !page.text.contains(&ann.email), "{page:?}");
    }
    assert!(app.opens(&ann, NEW_PASSWORD).await);
    assert!(!app.opens(&ann, OTHER_PASSWORD).await);
    // The answer to a program gives no more detail than before.
    let body = json!({"token": token, "new_password": OTHER_PASSWORD});
    app.post(RECOVER, &body)
        .await
        .assert_problem(400, "This link is not good: it was used, replaced by a newer one, or is over");

    // Once the owner has set another password, the page confirms neither password.
    let session = app.login(&Person { password: NEW_PASSWORD.to_owned(), ..ann.clone() }).await;
    assert_eq!(app.change_own(&session, &json!({"password": OTHER_PASSWORD})).await.status, 200);
    for password in [NEW_PASSWORD, OTHER_PASSWORD] {
        let page = press(&app, RECOVER, &token, password).await;
        assert_page(&page, 400, "A new password was chosen with this link on 2");
    }
}

#[tokio::test]
async fn f21_a_used_link_helps_nobody_to_guess_the_password() {
    let app = TestApp::builder().with(|settings| settings.limits.login_failures = 3).spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    let token = asked_to_recover(&app, &ann).await;
    assert_eq!(press(&app, RECOVER, &token, NEW_PASSWORD).await.status, 200);
    for _ in 0..3 {
        let page = press(&app, RECOVER, &token, OTHER_PASSWORD).await;
        assert_page(&page, 400, "<h1>The password chosen first counts</h1>");
    }
    // The correct password is not checked either, neither here nor at login.
    let page = press(&app, RECOVER, &token, NEW_PASSWORD).await;
    assert_page(&page, 400, "A new password was chosen with this link on 2");
    let login = app.try_login(&Person { password: NEW_PASSWORD.to_owned(), ..ann.clone() }).await;
    assert_eq!(login.status, 429, "{login:?}");
    app.handles.audit.settle().await;
    let path = format!("/audit/?event=account.recovered&subject={}&outcome=refused", ann.id);
    let answer = app.call(reqwest::Method::GET, &path, &admin, &Value::Null).await;
    let reasons: Vec<_> = answer.body["events"].as_array().unwrap().iter().map(|event| &event["reason"]).collect();
    assert_eq!(reasons.iter().filter(|reason| **reason == "wrong_password").count(), 3, "{reasons:?}");
}

#[tokio::test]
async fn f21_of_fifty_presses_at_once_one_does_it_and_all_say_that_it_worked() {
    // The server counts repeated requests of programs as guesses, so the limit is high.
    let app = TestApp::builder().with(|settings| settings.limits.address_failures = 10_000).spawn().await;
    let admin = app.admin().await;
    for link in one_of_each(&app).await {
        let before = times_done(&app, &admin, link.event).await;
        let programs = join_all((0..25).map(|_| link.redeem(&app)));
        let pages = join_all((0..25).map(|_| link.press(&app)));
        let (programs, pages) = tokio::join!(programs, pages);
        for page in &pages {
            assert_page(page, 200, &format!("<h1>{}</h1>", link.done));
        }
        let of_programs = programs.iter().filter(|answer| answer.status == 200).count();
        assert!(of_programs <= 1, "{programs:?}");
        assert!(programs.iter().all(|answer| matches!(answer.status, 200 | 400)), "{programs:?}");
        assert_eq!(times_done(&app, &admin, link.event).await, before + 1, "{}", link.event);
    }
}

#[tokio::test]
async fn f21_a_link_that_was_never_used_is_told_from_no_other() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    let replaced = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    app.pass(Duration::from_mins(2));
    app.post("/email/verify/resend", &json!({"email": ann.email})).await;
    let used = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    assert_ne!(used, replaced);
    assert_page(&press(&app, VERIFY, &used, "").await, 200, "Address confirmed");
    let bob = app.register("bob").await;
    let ended = asked_to_move(&app, &bob, "new@example.com").await;
    app.lock(&admin, bob.id).await;
    let cem = app.register("cem").await;
    let over = asked_to_recover(&app, &cem).await;
    app.pass(Duration::from_hours(100));

    let bad = app.get("/email/verify?token=nonsense").await;
    assert_bad(&bad);
    // A used link counts as used only on the page of its own purpose.
    assert_page(&app.get(&format!("{VERIFY}?token={used}")).await, 400, "was used already");
    for (path, token) in
        [(VERIFY, &replaced), (VERIFY, &ended), (RECOVER, &over), (VERIFY, &over), (RECOVER, &used), (CANCEL, &used)]
    {
        let page = app.get(&format!("{path}?token={token}")).await;
        assert_eq!((page.status, &page.text), (400, &bad.text), "{path}");
        let page = press(&app, path, token, NEW_PASSWORD).await;
        assert_eq!((page.status, &page.text), (400, &bad.text), "{path}");
    }
}

#[tokio::test]
async fn f21_the_use_of_a_link_goes_with_its_account() {
    let app = TestApp::spawn().await;
    app.register("root").await;
    let ann = app.register("ann").await;
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    assert_eq!(press(&app, VERIFY, &token, "").await.status, 200);
    assert_page(&app.get(&format!("{VERIFY}?token={token}")).await, 400, "was used already");
    let session = app.login(&ann).await;
    assert_eq!(app.delete_own(&session, &json!({})).await.status, 200);
    assert_bad(&app.get(&format!("{VERIFY}?token={token}")).await);
    assert_bad(&press(&app, VERIFY, &token, "").await);
}

#[tokio::test]
async fn f21_a_link_used_before_the_clock_was_set_back_says_when_it_was_used() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    app.pass(Duration::from_hours(1));
    assert_eq!(press(&app, VERIFY, &token, "").await.status, 200);
    app.clock.set_back(Duration::from_mins(30));
    assert_page(&press(&app, VERIFY, &token, "").await, 400, "The address was confirmed with this link on 2");
}

#[tokio::test]
async fn f21_a_used_link_speaks_the_language_of_the_account() {
    let app = TestApp::spawn().await;
    for (locale, title) in [
        ("en", "This link was used already"),
        ("de", "Dieser Link wurde schon verwendet"),
        ("fr", "Ce lien a déjà été utilisé"),
        ("es", "Este enlace ya se ha usado"),
        ("ro", "Acest link a fost deja folosit"),
    ] {
        let person = Person::named(locale);
        let mut registration = person.registration();
        registration["locale"] = json!(locale);
        assert_eq!(app.post("/register", &registration).await.status, 201);
        let token = app.token_from(&person.email, MailKind::VerifyAddress).await;
        let form = || app.form(&format!("{VERIFY}?locale={locale}"), &format!("token={token}"));
        let first = app.send(form()).await;
        let again = app.send(form()).await;
        assert_eq!((first.status, again.status, &again.text), (200, 200, &first.text));
        let page = app.get(&format!("{VERIFY}?token={token}")).await;
        assert_page(&page, 400, &format!("<h1>{title}</h1>"));
        assert_eq!(page.header("content-language"), Some(locale));
    }
}
