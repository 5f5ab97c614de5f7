//! The limits on failed attempts.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use doorward_actors::MailKind;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, NEW_PASSWORD, Person, SERVICE_TOKEN, TestApp};

const WRONG: &str = "Wrong-lamp-7-tree";

/// Returns an address of this host that no test used before.
fn stranger(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, number).into()
}

async fn one_thread() -> TestApp {
    TestApp::builder().with(|settings| settings.passwords.hash_threads = 1).spawn().await
}

async fn login_from(app: &TestApp, client: IpAddr, email: &str, password: &str) -> Answer {
    app.post_from(client, "/login", &json!({"email": email, "password": password})).await
}

async fn login_at(app: &TestApp, email: &str, password: &str) -> Answer {
    app.post("/login", &json!({"email": email, "password": password})).await
}

#[track_caller]
fn assert_waits(answer: &Answer, seconds: u64) {
    answer.assert_problem(429, "Too many requests, try again later");
    assert_eq!(answer.header("retry-after"), Some(seconds.to_string().as_str()), "{answer:?}");
}

/// Uses up the number of guesses that unknown addresses have at an account.
async fn guess(app: &TestApp, email: &str) {
    for number in 1..=5 {
        assert_eq!(login_from(app, stranger(number), email, WRONG).await.status, 401);
    }
}

#[tokio::test]
async fn s15_parallel_guesses_from_many_addresses_compute_no_more_hashes_than_allowed() {
    let app = one_thread().await;
    let ann = app.register("ann").await;
    let before = app.hashes().await;
    let guesses = (1..=200).map(|number| login_from(&app, stranger(number), &ann.email, WRONG));
    let answers = join_all(guesses).await;
    let counted = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((counted(401), counted(429)), (5, 195));
    assert_eq!(app.hashes().await - before, 5);
    // Nobody has logged in yet from the address of the registration, so it counts as unknown too.
    assert_waits(&app.try_login(&ann).await, 60);
}

#[tokio::test]
async fn s19_the_owner_still_logs_in_from_a_known_address_and_a_stranger_waits_longer_each_time() {
    let app = one_thread().await;
    let ann = app.register("ann").await;
    app.login(&ann).await;
    guess(&app, &ann.email).await;
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_waits(&login_from(&app, stranger(9), &ann.email, &ann.password).await, minutes * 60);
        app.login(&ann).await;
        app.pass(Duration::from_secs(minutes * 60 - 1));
        assert_waits(&login_from(&app, stranger(9), &ann.email, &ann.password).await, 1);
        app.pass(Duration::from_secs(1));
        assert_eq!(login_from(&app, stranger(9), &ann.email, WRONG).await.status, 401);
    }
    app.pass(Duration::from_hours(1));
    assert_eq!(login_from(&app, stranger(9), &ann.email, &ann.password).await.status, 200);
}

#[tokio::test]
async fn s19_success_resets_what_strangers_may_guess() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    guess(&app, &ann.email).await;
    app.pass(Duration::from_mins(1));
    assert_eq!(login_from(&app, stranger(1), &ann.email, &ann.password).await.status, 200);
    for number in 2..=6 {
        assert_eq!(login_from(&app, stranger(number), &ann.email, WRONG).await.status, 401);
    }
    assert_waits(&login_from(&app, stranger(7), &ann.email, WRONG).await, 60);
}

#[tokio::test]
async fn s19_a_recovery_ends_the_wait() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    guess(&app, &ann.email).await;
    assert_waits(&login_from(&app, stranger(9), &ann.email, &ann.password).await, 60);
    let body = json!({"email": ann.email, "passphrase": ann.passphrase, "new_password": NEW_PASSWORD});
    assert_eq!(app.post_from(stranger(9), "/recovery", &body).await.status, 200);
    assert_eq!(login_from(&app, stranger(9), &ann.email, NEW_PASSWORD).await.status, 200);
}

#[tokio::test]
async fn s70_refused_attempts_cannot_push_older_records_out_of_the_log() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    guess(&app, &ann.email).await;
    app.handles.audit.settle().await;
    let before = *app.handles.audit.head().borrow();
    for _ in 0..50 {
        assert_eq!(login_from(&app, stranger(9), &ann.email, WRONG).await.status, 429);
    }
    app.handles.audit.settle().await;
    assert_eq!(*app.handles.audit.head().borrow() - before, 1, "one stands for all of its kind");
}

#[tokio::test]
async fn s19_a_known_address_has_an_allowance_of_its_own_and_no_more() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    app.login(&ann).await;
    for _ in 0..5 {
        assert_eq!(login_at(&app, &ann.email, WRONG).await.status, 401);
    }
    assert_waits(&app.try_login(&ann).await, 60);
    // Other clients are not limited by this.
    assert_eq!(login_from(&app, stranger(1), &ann.email, &ann.password).await.status, 200);
}

#[tokio::test]
async fn s16_every_spelling_of_an_address_shares_one_counter() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let spellings =
        ["ANN@example.com", " ann@EXAMPLE.com ", "ann@example.com", "\u{ff41}nn@example.com", "Ann@Example.com"];
    for spelling in spellings {
        assert_eq!(login_at(&app, spelling, WRONG).await.status, 401, "{spelling}");
    }
    for spelling in spellings {
        assert_waits(&login_at(&app, spelling, &ann.password).await, 60);
    }
}

#[tokio::test]
async fn s13_an_unknown_account_waits_like_a_known_one() {
    let app = one_thread().await;
    let ann = app.register("ann").await;
    let before = app.hashes().await;
    for email in [&ann.email, "nobody@example.com"] {
        for _ in 0..5 {
            assert_eq!(login_at(&app, email, WRONG).await.status, 401);
        }
    }
    let known = app.login_under_one_id(&ann.email, WRONG).await;
    let unknown = app.login_under_one_id("nobody@example.com", WRONG).await;
    assert_waits(&known, 60);
    assert_eq!(known.whole(), unknown.whole());
    assert_eq!(app.hashes().await - before, 10);
}

#[tokio::test]
async fn an_address_waits_when_it_failed_at_many_accounts_and_its_own_login_does_not_help() {
    let app = TestApp::builder().with(|settings| settings.limits.address_failures = 6).spawn().await;
    let mallory = app.register("mallory").await;
    for n in 0..6 {
        assert_eq!(login_at(&app, &format!("victim{n}@example.com"), WRONG).await.status, 401);
        if n < 5 {
            app.login(&mallory).await;
        }
    }
    assert_waits(&app.try_login(&mallory).await, 60);
    assert_eq!(login_from(&app, stranger(1), &mallory.email, &mallory.password).await.status, 200);
    app.pass(Duration::from_mins(1));
    app.login(&mallory).await;
}

#[tokio::test]
async fn s20_a_flood_of_one_kind_does_not_block_another() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    for _ in 0..5 {
        assert_eq!(app.recover(&ann.email, "not my phrase", NEW_PASSWORD).await.status, 400);
    }
    assert_waits(&app.recover(&ann.email, &ann.passphrase, NEW_PASSWORD).await, 60);
    let token = app.login(&ann).await;
    guess(&app, &ann.email).await;
    app.pass(Duration::from_mins(6));
    for _ in 0..5 {
        let guess = json!({"password": NEW_PASSWORD, "current_password": WRONG});
        assert_eq!(app.change_own(&token, &guess).await.status, 403);
    }
    let body = json!({"password": NEW_PASSWORD, "current_password": ann.password});
    assert_waits(&app.change_own(&token, &body).await, 60);
    app.login(&ann).await;
    assert_eq!(app.recover(&ann.email, &ann.passphrase, NEW_PASSWORD).await.status, 200);
}

#[tokio::test]
async fn s08_the_passphrase_is_guarded_for_accounts_that_do_not_exist_too() {
    let app = one_thread().await;
    let before = app.hashes().await;
    let guesses = (1..=40).map(|number| {
        let body = json!({"email": "nobody@example.com", "passphrase": "guess", "new_password": NEW_PASSWORD});
        let app = &app;
        async move { app.post_from(stranger(number), "/recovery", &body).await.status }
    });
    let statuses = join_all(guesses).await;
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 5);
    assert_eq!(app.hashes().await - before, 5);
}

#[tokio::test]
async fn s22_bad_one_time_tokens_and_service_tokens_are_limited_by_address() {
    let app = TestApp::builder().with(|settings| settings.limits.address_failures = 3).spawn().await;
    let ann = app.register("ann").await;
    let good = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    for path in ["/email/verify", "/email/cancel", "/email/verify"] {
        assert_eq!(app.post(path, &json!({"token": "x".repeat(43)})).await.status, 400);
    }
    assert_waits(&app.post("/email/verify", &json!({"token": good})).await, 60);
    let guess = || app.request(Method::POST, "/verify").header("X-Service-Token", "wrong");
    for _ in 0..3 {
        app.send(guess()).await.assert_problem(404, "Not found");
    }
    assert_waits(&app.send(guess()).await, 60);
    let request = app.request(Method::GET, "/health/actors").header("X-Service-Token", SERVICE_TOKEN);
    assert_eq!(app.send(request).await.status, 200, "the right token waits for nobody");
    app.pass(Duration::from_mins(1));
    assert_eq!(app.post("/email/verify", &json!({"token": good})).await.status, 200);
}

#[tokio::test]
async fn s12_nobody_floods_a_mailbox() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    let mut sent = Vec::new();
    for _ in 0..12 {
        app.pass(Duration::from_mins(1));
        let request = json!({"email": ann.email});
        assert_eq!(app.post("/email/verify/resend", &request).await.status, 202);
        assert_eq!(app.post("/recovery/request", &request).await.status, 202);
        sent.push(app.mails_to(&ann.email).await.len());
    }
    // At first one notice, then five of each kind, and one more of each after waits of one, two and four minutes.
    assert!(sent[11] <= 1 + 2 * (5 + 4), "{sent:?}");
    assert!(sent[0] >= 2, "{sent:?}");
}

#[tokio::test]
async fn failures_outlive_a_restart_and_success_does_too() {
    let app = TestApp::spawn().await;
    let (ann, bob) = (app.register("ann").await, app.register("bob").await);
    for person in [&ann, &bob] {
        guess(&app, &person.email).await;
    }
    app.handles.tend_limits().await.unwrap();
    app.pass(Duration::from_mins(1));
    assert_eq!(login_from(&app, stranger(1), &bob.email, &bob.password).await.status, 200);
    assert_eq!(login_from(&app, stranger(1), &ann.email, WRONG).await.status, 401);
    let app = app.restart().await;
    assert_waits(&login_from(&app, stranger(2), &ann.email, &ann.password).await, 120);
    for number in 2..=6 {
        assert_eq!(login_from(&app, stranger(number), &bob.email, WRONG).await.status, 401);
    }
    assert_waits(&login_from(&app, stranger(7), &bob.email, WRONG).await, 60);
}

#[tokio::test]
async fn r05_a_clock_that_jumps_locks_nobody_out_and_lets_nobody_in() {
    let app = TestApp::spawn().await;
    let ann = app.register("ann").await;
    guess(&app, &ann.email).await;
    app.clock.set_back(Duration::from_hours(24));
    assert_waits(&login_from(&app, stranger(1), &ann.email, &ann.password).await, 60);
    app.clock.set_forward(Duration::from_hours(48));
    assert_waits(&login_from(&app, stranger(1), &ann.email, &ann.password).await, 60);
    let app = app.restart().await;
    app.clock.set_back(Duration::from_hours(48));
    let app = app.restart().await;
    app.pass(Duration::from_mins(1));
    assert_eq!(login_from(&app, stranger(1), &ann.email, &ann.password).await.status, 200);
}

#[tokio::test]
async fn what_could_not_be_computed_does_not_count() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.passwords.hash_threads = 1;
            settings.passwords.hash_queue = 1;
        })
        .spawn()
        .await;
    let ann = app.register("ann").await;
    let answers = join_all((0..20).map(|number| login_from(&app, stranger(number + 1), &ann.email, WRONG))).await;
    let failed = answers.iter().filter(|answer| answer.status == 401).count();
    assert!(answers.iter().all(|answer| matches!(answer.status, 401 | 429 | 503)), "{answers:?}");
    // Attempts that were refused for lack of capacity did not use up the allowance.
    for number in failed..5 {
        assert_eq!(login_from(&app, stranger(50), &ann.email, WRONG).await.status, 401, "{number}");
    }
    assert_eq!(login_from(&app, stranger(50), &ann.email, WRONG).await.status, 429);
}

#[tokio::test]
async fn s21_answers_tell_how_the_allowance_stands() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.limits.public.permits = 10.try_into().unwrap();
            settings.limits.public.per = Duration::from_mins(10);
        })
        .spawn()
        .await;
    let (ann, token) = app.register_and_login("ann").await;
    let answer = app.post("/login", &json!({})).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"public\";q=10;w=600"));
    assert_eq!(answer.header("ratelimit"), Some("\"public\";r=7;t=180"));
    let mine = app.call(Method::GET, "/my_account/", &token, &Value::Null).await;
    assert_eq!(mine.header("ratelimit-policy"), Some("\"private\";q=1000000;w=3600"));
    assert!(mine.header("ratelimit").unwrap().starts_with("\"private\";r=999999;t="));
    assert_eq!(app.verify(&token).await.header("ratelimit"), None);
    assert_eq!(app.get("/health/live").await.header("ratelimit"), None);
    for _ in 0..7 {
        app.post("/login", &json!({})).await;
    }
    let limited = app.post("/login", &json!({})).await;
    assert_waits(&limited, 60);
    assert_eq!(limited.header("ratelimit"), Some("\"public\";r=0;t=60"));
    app.pass(Duration::from_mins(10));
    for _ in 0..5 {
        login_at(&app, &ann.email, WRONG).await;
    }
    let guessed = login_at(&app, &ann.email, WRONG).await;
    assert_waits(&guessed, 60);
    assert_eq!(guessed.header("ratelimit"), Some("\"login\";r=0;t=60"));
    assert_eq!(guessed.header("ratelimit-policy"), Some("\"login\";q=5;w=36000"));
}

#[tokio::test]
async fn listed_networks_are_not_counted_and_denied_ones_not_served() {
    let networks = |text| doorward_actors::Networks::parse(text).unwrap();
    let app = TestApp::builder()
        .with(|settings| {
            settings.limits.public.permits = 2.try_into().unwrap();
            settings.limits.allow = networks("127.0.0.1");
            settings.limits.deny = networks("127.0.7.0/28");
        })
        .spawn()
        .await;
    for _ in 0..5 {
        let answer = app.post("/login", &json!({})).await;
        assert_eq!((answer.status, answer.header("ratelimit")), (422, None));
    }
    for _ in 0..2 {
        assert_eq!(app.post_from(stranger(16), "/login", &json!({})).await.status, 422);
    }
    assert_eq!(app.post_from(stranger(16), "/login", &json!({})).await.status, 429);
    assert_waits(&app.post_from(stranger(15), "/login", &json!({})).await, 3600);
}

#[tokio::test]
async fn administrators_see_what_is_counted_and_forget_it() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann: Person = app.register("ann").await;
    guess(&app, &ann.email).await;
    let list = async |query: &str| {
        let answer = app.call(Method::GET, &format!("/rate_limits/{query}"), &admin, &Value::Null).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    };
    let waiting = list("?policy=login&waiting=true").await;
    let [limit] = waiting["rate_limits"].as_array().unwrap().as_slice() else { panic!("{waiting}") };
    assert_eq!(limit["account_id"], ann.id);
    assert_eq!((&limit["quota"], &limit["remaining"], &limit["retry_after"]), (&json!(5), &json!(0), &json!(60)));
    assert_eq!(list(&format!("?email={}", ann.email)).await["rate_limits"], json!([limit]));
    assert_eq!(list("?policy=login&address=127.0.7.1").await["rate_limits"].as_array().unwrap().len(), 1);
    assert_eq!(list("?address=203.0.113.1").await["rate_limits"], json!([]));

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("?limit=2{cursor}")).await;
        seen.extend(page["rate_limits"].as_array().unwrap().iter().map(|limit| limit["key"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let all: Vec<_> =
        list("?limit=1000").await["rate_limits"].as_array().unwrap().iter().map(|limit| limit["key"].clone()).collect();
    assert_eq!(seen, all);
    assert!(all.len() > 5, "{all:?}");

    let forget = async |key: &str| app.call(Method::DELETE, &format!("/rate_limits/{key}"), &admin, &Value::Null).await;
    assert_eq!(forget(limit["key"].as_str().unwrap()).await.status, 204);
    forget(limit["key"].as_str().unwrap()).await.assert_problem(404, "Nothing is counted by this key");
    forget("nonsense").await.assert_problem(404, "Nothing is counted by this key");
    assert_eq!(login_from(&app, stranger(1), &ann.email, &ann.password).await.status, 200);
    let query = "?policy=nonsense&account=x&email=x&address=x&waiting=2&limit=0&cursor=x";
    let answer = app.call(Method::GET, &format!("/rate_limits/{query}"), &admin, &Value::Null).await;
    assert_eq!(
        answer.pointers(),
        ["?account", "?email", "?address", "?waiting", "?cursor", "?limit", "?policy"],
        "{answer:?}"
    );
}

#[tokio::test]
async fn counters_are_forgotten_when_nothing_is_left_of_them() {
    let app = TestApp::spawn().await;
    for n in 0..40 {
        login_from(&app, stranger(n % 4 + 1), &format!("nobody{n}@example.com"), WRONG).await;
    }
    assert!(app.handles.limits.len() >= 44);
    app.handles.tend_limits().await.unwrap();
    assert!(app.handles.limits.len() >= 44);
    app.pass(Duration::from_hours(4));
    app.handles.tend_limits().await.unwrap();
    assert_eq!(app.handles.limits.len(), 0);
    let app = app.restart().await;
    assert_eq!(app.handles.limits.len(), 0, "what is forgotten is not stored");
}
