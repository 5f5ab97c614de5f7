//! The rules for a new password, `POST /password/check`, and the list of breached passwords.

use std::path::{Path, PathBuf};

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::MailKind;
use doorward_actors::testing::Fault;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Answer, NEW_PASSWORD, Person, TestApp, TestAppBuilder};

const GUESSABLE: &str = "Password is too weak: it is too common or too easy to guess";
const BREACHED: &str = "Password is too weak: it became known in a breach of another service";
/// A password that only a breached list rejects, and its SHA-1.
const LEAKED: &str = "Seven-otters-9-cross";
const LEAKED_SHA1: &str = "AF13F126C19C989F061488EC4C2F1FCFBBBD07D2";
/// The neighbouring entries in the lists of these tests.
const FIRST: &str = "000000005AD76BD555C1D6D771DE417A4B87E4B4:10";
const LAST: &str = "FFFFFFFEE791CBAC0F6305CAF0CEE06BBE131160:2";

fn one_hashing_thread() -> TestAppBuilder {
    TestApp::builder().with(|settings| settings.passwords.hash_threads = 1)
}

/// Creates a directory with a list that contains the leaked password.
fn list() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("breached.txt");
    std::fs::write(&path, format!("{FIRST}\r\n{LEAKED_SHA1}:7\r\n{LAST}\r\n")).unwrap();
    (directory, path)
}

fn with_list(builder: TestAppBuilder, path: &Path) -> TestAppBuilder {
    let path = path.to_owned();
    builder.with(move |settings| settings.passwords.breached_file = Some(path))
}

async fn check(app: &TestApp, body: &Value) -> Answer {
    app.post("/password/check", body).await
}

/// Registers a person with the leaked password while no list is configured.
async fn with_leaked_password(data_dir: &Path) -> Person {
    let app = TestApp::builder().data_dir(data_dir).spawn().await;
    app.admin().await;
    let ann = Person { password: LEAKED.to_owned(), ..Person::named("ann") };
    let answer = app.post("/register", &ann.registration()).await;
    app.stop().await.unwrap();
    Person { id: answer.body["id"].as_u64().unwrap(), ..ann }
}

#[tokio::test]
async fn a_password_can_be_checked_before_anybody_has_it() {
    let app = one_hashing_thread().spawn().await;
    let before = app.hashes().await;
    for path in ["/password/check", "/password/check/"] {
        let answer = app.post(path, &json!({"password": "quiet-lamp-under-blue-stairs"})).await;
        let good = json!({"acceptable": true, "score": 4, "warning": null, "suggestions": [], "breached": null});
        answer.assert_body(200, &good);
    }
    let weak = check(&app, &json!({"password": "Password1!"})).await;
    assert_eq!((weak.status, &weak.body["acceptable"], &weak.body["breached"]), (200, &json!(false), &Value::Null));
    assert!(weak.body["score"].as_u64().unwrap() < 2 && weak.body["warning"].is_string(), "{weak:?}");
    assert!(!weak.body["suggestions"].as_array().unwrap().is_empty(), "{weak:?}");
    for (password, warning) in [
        ("", "Password is too weak: it must have at least 8 characters"),
        (
            "quietlamptree",
            "Password is too weak: with fewer than 15 characters it must have an upper case letter, a lower \
          case letter, a digit and a special character",
        ),
    ] {
        let answer = check(&app, &json!({"password": password})).await;
        assert_eq!((&answer.body["acceptable"], &answer.body["warning"]), (&json!(false), &json!(warning)));
    }
    assert_eq!(app.hashes().await, before, "a check costs no hash");
}

#[tokio::test]
async fn a_check_judges_by_the_names_it_is_told_as_registration_does() {
    let app = TestApp::spawn().await;
    for (password, names) in [
        ("Zebrafinch-zebrafinch-1", json!({"nickname": "zebrafinch"})),
        ("Zebrafinch-zebrafinch-1", json!({"email": "zebrafinch@example.com"})),
        ("Bluewhale.Bluewhale.77", json!({"email": "ann@bluewhale.example"})),
    ] {
        let mut body = names.clone();
        body["password"] = json!(password);
        let told = check(&app, &body).await;
        assert_eq!(told.body["acceptable"], false, "{told:?}");
        let mut registration = Person::named("ann").registration();
        registration["password"] = json!(password);
        for (name, value) in names.as_object().unwrap() {
            registration[name] = value.clone();
        }
        app.post("/register", &registration).await.assert_problem(400, GUESSABLE);
    }
}

#[tokio::test]
async fn s61_a_check_takes_its_own_fields_alone_and_names_what_is_wrong() {
    let app = TestApp::spawn().await;
    assert_eq!(check(&app, &json!({})).await.pointers(), ["/password"]);
    assert_eq!(check(&app, &json!({"password": 7})).await.pointers(), ["/password"]);
    let useless = json!({"password": "x".repeat(1025), "email": "x", "nickname": " "});
    let answer = check(&app, &useless).await;
    let mut pointers = answer.pointers();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/email", "/nickname", "/password"]);
    assert_eq!(check(&app, &json!({"password": "x", "passphrase": "y"})).await.pointers(), ["/passphrase"]);
    assert_eq!(check(&app, &json!({"password": "x", "email": null, "nickname": null})).await.status, 200);
}

#[tokio::test]
async fn s22_checks_are_limited_with_the_other_public_routes() {
    let app = TestApp::builder().with(|settings| settings.limits.public.permits = 2.try_into().unwrap()).spawn().await;
    for _ in 0..2 {
        assert_eq!(check(&app, &json!({"password": "x"})).await.status, 200);
    }
    check(&app, &json!({"password": "x"})).await.assert_problem(429, "Too many requests, try again later");
    assert_eq!(app.try_login(&Person::named("ann")).await.status, 429);
}

#[tokio::test]
async fn s03_odd_and_huge_passwords_are_judged_within_their_bounds() {
    let app = one_hashing_thread().spawn().await;
    let before = app.hashes().await;
    for odd in [
        "\0".repeat(1024),
        "\u{fdfa}".repeat(341),
        "a\u{301}".repeat(340),
        "4@8({[<369#!1|0$5+7%2".repeat(48),
        "\u{202e}\u{200b}x".repeat(140),
        "аррӏе".repeat(100),
    ] {
        let answer = check(&app, &json!({"password": odd})).await;
        assert_eq!(answer.status, 200, "{odd:?}: {answer:?}");
    }
    let huge = json!({"password": "x".repeat(1_000_000)});
    check(&app, &huge).await.assert_status_problem(413);
    assert_eq!(app.hashes().await, before);
    let ann = Person { password: "Quiet\0lamp 7 tr\u{e9}e".to_owned(), ..Person::named("ann") };
    assert_eq!(app.post("/register", &ann.registration()).await.status, 201);
    assert!(app.opens(&ann, &ann.password).await);
    for other in ["Quietlamp 7 tr\u{e9}e", "Quiet\0lamp 7 tre\u{301}e", "Quiet"] {
        assert!(!app.opens(&ann, other).await, "{other:?}: a password is taken as it is");
    }
}

#[tokio::test]
async fn s04_own_names_repeated_or_decorated_are_refused_at_registration_change_and_recovery() {
    let app = one_hashing_thread().spawn().await;
    let (ann, token) = app.register_and_login("annabel").await;
    app.post("/recovery/request", &json!({"email": ann.email})).await;
    let link = app.token_from(&ann.email, MailKind::ResetPassword).await;
    let before = app.hashes().await;
    for weak in ["doorwarddoorward1!A", "Annabel-annabel-2024", "aNNaBeL.example.com.1"] {
        let other = Person { email: "annabel@example.com".to_owned(), ..Person::named("annabel") };
        let registration = Person { password: weak.to_owned(), email: format!("x{}", other.email), ..other };
        app.post("/register", &registration.registration()).await.assert_problem(400, GUESSABLE);
        app.change_own(&token, &json!({"password": weak})).await.assert_problem(400, GUESSABLE);
        app.recover(&ann.email, &ann.passphrase, weak).await.assert_problem(400, GUESSABLE);
        let confirm = json!({"token": link, "new_password": weak});
        app.post("/recovery/confirm", &confirm).await.assert_problem(400, GUESSABLE);
    }
    assert_eq!(app.hashes().await, before, "a weak password costs no hash");
}

#[tokio::test]
async fn s04_a_breached_password_is_refused_at_registration_change_and_recovery() {
    let (_directory, path) = list();
    let app = with_list(TestApp::builder(), &path).spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    let bob = Person { password: LEAKED.to_owned(), ..Person::named("bob") };
    app.post("/register", &bob.registration()).await.assert_problem(400, BREACHED);
    app.change_own(&token, &json!({"password": LEAKED})).await.assert_problem(400, BREACHED);
    app.recover(&ann.email, &ann.passphrase, LEAKED).await.assert_problem(400, BREACHED);
    app.recover(&ann.email, "another passphrase", LEAKED).await.assert_problem(400, BREACHED);
    app.post("/recovery/request", &json!({"email": ann.email})).await;
    let link = app.token_from(&ann.email, MailKind::ResetPassword).await;
    let confirm = json!({"token": link, "new_password": LEAKED});
    app.post("/recovery/confirm", &confirm).await.assert_problem(400, BREACHED);
    let made = app.call(Method::POST, "/accounts_management/", &token, &bob.registration()).await;
    made.assert_problem(400, BREACHED);
    assert!(app.opens(&ann, &ann.password).await);

    let told = check(&app, &json!({"password": LEAKED})).await;
    assert_eq!((&told.body["acceptable"], &told.body["breached"]), (&json!(false), &json!(true)), "{told:?}");
    assert_eq!(told.body["warning"], BREACHED);
    let other = check(&app, &json!({"password": NEW_PASSWORD})).await;
    assert_eq!((&other.body["acceptable"], &other.body["breached"]), (&json!(true), &json!(false)), "{other:?}");
}

#[tokio::test]
async fn s04_a_breached_password_in_use_logs_in_and_marks_the_account_until_there_is_another() {
    let (_list, path) = list();
    let directory = TempDir::new().unwrap();
    let ann = with_leaked_password(directory.path()).await;
    let marked_by = |mark: bool| move |body: &Value| body["password_compromised"] == json!(mark);

    let app = with_list(one_hashing_thread(), &path).data_dir(directory.path()).spawn().await;
    let admin = app.login(&Person::named("admin")).await;
    assert!(marked_by(false)(&app.account(&admin, ann.id).await), "nobody has looked yet");
    app.try_login(&Person { password: "Not-the-password-1".to_owned(), ..ann.clone() }).await;
    assert!(marked_by(false)(&app.account(&admin, ann.id).await));

    let before = app.hashes().await;
    let token = app.login(&ann).await;
    assert_eq!(app.hashes().await - before, 1, "looking it up costs no hash");
    assert!(marked_by(true)(&app.verify(&token).await.body));
    assert!(marked_by(true)(&app.account(&admin, ann.id).await));
    assert!(marked_by(false)(&app.verify(&admin).await.body));
    let again = app.login(&ann).await;
    app.must_change(&admin, ann.id, &json!({"nickname": "anna"})).await;
    assert!(marked_by(true)(&app.verify(&again).await.body), "another change leaves the mark");

    let app = app.restart().await;
    assert!(marked_by(true)(&app.verify(&again).await.body), "the mark is durable");
    let change = json!({"password": NEW_PASSWORD, "current_password": LEAKED});
    assert_eq!(app.change_own(&again, &change).await.status, 200);
    assert!(marked_by(false)(&app.verify(&again).await.body), "another password takes it away");
    let admin = app.login(&Person::named("admin")).await;
    assert!(marked_by(false)(&app.account(&admin, ann.id).await));

    app.stop().await.unwrap();
    let store = SledEngine::open(directory.path(), SledOptions::default()).unwrap().into_store(u64::MAX);
    let records = store.recent_audit(100).await.unwrap();
    let found: Vec<_> =
        records.iter().filter(|(_, record)| record.event.as_str() == "account.password_compromised").collect();
    assert_eq!(found.len(), 1, "put on record once: {found:?}");
    let record = &found[0].1;
    assert_eq!(record.subject.map(doorward_actors::AccountId::get), Some(ann.id));
    assert!(record.origin.address.is_some() && record.origin.request_id.is_some() && record.refusal.is_none());
}

#[tokio::test]
async fn s04_a_breached_password_that_does_not_log_in_marks_nobody() {
    let (_list, path) = list();
    let directory = TempDir::new().unwrap();
    let ann = with_leaked_password(directory.path()).await;
    let app = with_list(one_hashing_thread(), &path).data_dir(directory.path()).spawn().await;
    let admin = app.login(&Person::named("admin")).await;
    app.lock(&admin, ann.id).await;
    for (email, what) in
        [(&ann.email, "locked"), (&"admin@example.com".to_owned(), "wrong"), (&"x@example.com".to_owned(), "unknown")]
    {
        let before = app.hashes().await;
        let answer = app.login_under_one_id(email, LEAKED).await;
        answer.assert_problem(401, "Incorrect email or password");
        assert_eq!(app.hashes().await - before, 1, "S11: {what}");
    }
    for id in [1, ann.id] {
        assert_eq!(app.account(&admin, id).await["password_compromised"], false);
    }
}

#[tokio::test]
async fn s06_the_renewal_of_a_hash_leaves_the_mark() {
    let (_list, path) = list();
    let directory = TempDir::new().unwrap();
    let ann = with_leaked_password(directory.path()).await;
    let dearer = |settings: &mut doorward::settings::Settings| settings.passwords.hash_memory_kib = 128;
    let app = with_list(one_hashing_thread(), &path).with(dearer).data_dir(directory.path()).spawn().await;
    for (login, hashes) in [("first", 2), ("second", 1)] {
        let before = app.hashes().await;
        let token = app.login(&ann).await;
        // The hash is renewed after the answer.
        app.handles.tend_mail().await.unwrap();
        assert_eq!(app.hashes().await - before, hashes, "{login}");
        assert_eq!(app.verify(&token).await.body["password_compromised"], true, "{login}");
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_read_stops_new_passwords_and_no_login() {
    let (_list, path) = list();
    let app = with_list(TestApp::builder(), &path).spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    let readable = async || {
        app.call(Method::GET, "/health/actors", &token, &Value::Null).await.body["hasher"]["breached_list_readable"]
            .clone()
    };
    assert_eq!(readable().await, true);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    for (refused, what) in [
        (app.post("/register", &Person::named("bob").registration()).await, "register"),
        (app.change_own(&token, &json!({"password": NEW_PASSWORD})).await, "change"),
        (app.recover(&ann.email, &ann.passphrase, NEW_PASSWORD).await, "recovery"),
        (check(&app, &json!({"password": NEW_PASSWORD})).await, "check"),
    ] {
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("30")), "{what}: {refused:?}");
    }
    assert_eq!(readable().await, false);
    let again = app.login(&ann).await;
    assert_eq!(app.verify(&again).await.body["password_compromised"], false);
    std::fs::write(&path, format!("{FIRST}\r\n{LEAKED_SHA1}:7\r\n{LAST}\r\n")).unwrap();
    assert_eq!(app.post("/register", &Person::named("bob").registration()).await.status, 201);
    assert_eq!(readable().await, true);
}

/// Returns a builder with a single slow hashing thread and this queue length, so that the queue fills up.
fn narrow(queue: usize) -> TestAppBuilder {
    one_hashing_thread().with(move |settings| {
        // These tests do not check this limit.
        settings.limits.login_failures = 100;
        settings.passwords.hash_queue = queue;
        settings.passwords.hash_memory_kib = 16_384;
        settings.passwords.hash_iterations = 2;
    })
}

#[tokio::test]
async fn r08_a_storm_of_registrations_is_shed_with_a_time_and_leaves_logins_their_place() {
    let app = narrow(4).spawn().await;
    let ann = app.register("ann").await;
    let registrations = (0..40).map(|n| {
        let app = &app;
        async move { app.post("/register", &Person::named(&format!("person{n}")).registration()).await }
    });
    let logins = async {
        let mut opened = 0;
        for _ in 0..6 {
            opened += u32::from(app.opens(&ann, &ann.password).await);
        }
        opened
    };
    let (registered, opened) = tokio::join!(futures_util::future::join_all(registrations), logins);
    assert_eq!(opened, 6, "no login was refused for want of a place");
    let shed: Vec<_> = registered.iter().filter(|answer| answer.status == 503).collect();
    assert!(!shed.is_empty() && shed.len() < 40, "{}", shed.len());
    for answer in shed {
        answer.assert_problem(503, "The service is busy, try again later");
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    }
    let health = app.handles.hasher.health();
    assert_eq!(health.lanes[0].refused, 0, "{health:?}");
    assert!(health.lanes[1].refused > 0, "{health:?}");
}

#[tokio::test]
async fn s20_a_flood_of_recoveries_leaves_logins_their_place() {
    let app = narrow(4).spawn().await;
    let ann = app.register("ann").await;
    let recoveries = (0..40).map(|n| {
        let (app, email) = (&app, if n % 2 == 0 { ann.email.clone() } else { format!("nobody{n}@example.com") });
        async move { app.recover(&email, "another passphrase", NEW_PASSWORD).await }
    });
    let logins = async {
        for _ in 0..6 {
            app.login(&ann).await;
        }
    };
    let (recovered, ()) = tokio::join!(futures_util::future::join_all(recoveries), logins);
    assert!(recovered.iter().any(|answer| answer.status == 503));
    assert!(recovered.iter().all(|answer| matches!(answer.status, 400 | 503)), "{recovered:?}");
}

#[tokio::test]
async fn r08_a_storm_of_logins_leaves_registrations_their_place() {
    let app = narrow(4).spawn().await;
    let ann = app.register("ann").await;
    let logins = (0..40).map(|_| app.login_under_one_id(&ann.email, "Not-the-password-1"));
    let registrations = async {
        for n in 0..3 {
            app.register(&format!("person{n}")).await;
        }
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(logins), registrations);
    assert!(answers.iter().any(|answer| answer.status == 503));
    assert!(answers.iter().all(|answer| matches!(answer.status, 401 | 503)), "{answers:?}");
    app.handles.inject("hasher", Fault::Panic).await.unwrap();
    assert_eq!(app.handles.hasher.health().lanes[1].refused, 0);
}
