//! Which attempts count as failed: not those in flight, not those with the correct secret, but every one with a wrong
//! secret.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use doorward::{Access, route_table};
use doorward_actors::MailKind;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Answer, NEW_PASSWORD, Person, TestApp};

const WRONG: &str = "Wrong-lamp-7-tree";

/// Returns an address of this host that no test used before.
fn stranger(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 8, number).into()
}

async fn login_from(app: &TestApp, client: IpAddr, email: &str, password: &str) -> Answer {
    app.post_from(client, "/login", &json!({"email": email, "password": password})).await
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// Returns the number of answers with this status.
fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

async fn slow_hashes() -> TestApp {
    TestApp::builder()
        .with(|settings| {
            settings.passwords.hash_threads = 1;
            // The hashes take so long that all attempts have arrived before the first one has its result.
            settings.passwords.hash_memory_kib = 8 * 1024;
        })
        .spawn()
        .await
}

#[tokio::test]
async fn d14_parallel_right_logins_of_one_account_all_succeed() {
    let app = slow_hashes().await;
    let ann = app.register("ann").await;
    for known in [false, true] {
        let answers = join_all((0..12).map(|_| app.try_login(&ann))).await;
        assert_eq!(statuses(&answers), [200; 12], "known: {known}");
    }
}

#[tokio::test]
async fn d14_parallel_right_logins_of_many_accounts_from_one_address_all_succeed() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.passwords.hash_threads = 1;
            settings.passwords.hash_memory_kib = 8 * 1024;
            settings.limits.address_failures = 2;
        })
        .spawn()
        .await;
    let mut people = Vec::new();
    for n in 0..8 {
        people.push(app.register(&format!("user{n}")).await);
    }
    let answers = join_all(people.iter().map(|person| app.try_login(person))).await;
    assert_eq!(statuses(&answers), [200; 8]);
}

#[tokio::test]
async fn d14_parallel_right_current_passwords_and_passphrases_all_pass() {
    let app = slow_hashes().await;
    let (ann, token) = app.register_and_login("ann").await;
    app.pass(Duration::from_mins(6));
    // At most five notices about changes of the address may wait for an account.
    for (mut change, times) in [(json!({"passphrase": ann.passphrase}), 12), (json!({"email": "ann@example.org"}), 5)] {
        change["current_password"] = json!(ann.password);
        let answers = join_all((0..times).map(|_| app.change_own(&token, &change))).await;
        assert_eq!(count(&answers, 200), times, "{change}: {:?}", statuses(&answers));
    }
    let answers = join_all((0..12).map(|_| app.recover(&ann.email, &ann.passphrase, NEW_PASSWORD))).await;
    assert_eq!(count(&answers, 429), 0, "{:?}", statuses(&answers));
}

#[tokio::test]
async fn d14_s15_a_right_login_among_parallel_guesses_is_let_in_or_refused_and_no_more_is_hashed() {
    let app = slow_hashes().await;
    let ann = app.register("ann").await;
    let before = app.hashes().await;
    let answers = join_all((1..=200).map(|number| login_from(&app, stranger(number), &ann.email, WRONG))).await;
    assert_eq!((count(&answers, 401), count(&answers, 429)), (5, 195));
    assert_eq!(app.hashes().await - before, 5);
    app.pass(Duration::from_mins(1));
    // One attempt is allowed now. The others wait for its result, and then for the longer back-off.
    let answers = join_all((1..=20).map(|number| login_from(&app, stranger(number), &ann.email, WRONG))).await;
    assert_eq!((count(&answers, 401), count(&answers, 429)), (1, 19));
    assert_eq!(app.hashes().await - before, 6);
    app.pass(Duration::from_mins(2));
    let answers = join_all((1..=12).map(|number| login_from(&app, stranger(number), &ann.email, &ann.password))).await;
    assert_eq!(statuses(&answers), [200; 12]);
}

#[tokio::test]
async fn d14_a_success_forgives_no_guess_that_is_under_way() {
    let app = slow_hashes().await;
    let ann = app.register("ann").await;
    let before = app.hashes().await;
    let passwords = (1..=60).map(|n| if n % 20 == 0 { ann.password.clone() } else { format!("{WRONG}{n}") });
    let answers = join_all((1..).zip(passwords).map(|(n, password)| {
        let (app, email) = (&app, &ann.email);
        async move { login_from(app, stranger(n), email, &password).await }
    }))
    .await;
    // Each success allows at most five more guesses.
    let right = count(&answers, 200);
    assert!(count(&answers, 401) <= 5 * (right + 1), "{:?}", statuses(&answers));
    assert_eq!(app.hashes().await - before, u64::try_from(right + count(&answers, 401)).unwrap());
}

#[tokio::test]
async fn d14_s76_an_owner_logs_in_at_once_after_a_recovery() {
    let app = TestApp::builder().with(|settings| settings.limits.address_failures = 8).spawn().await;
    let (ann, bob) = (app.register("ann").await, app.register("bob").await);
    app.login(&ann).await;
    // Ann's own address is known, but it has used up its allowance at this account.
    for _ in 0..5 {
        assert_eq!(app.try_login(&Person { password: WRONG.to_owned(), ..ann.clone() }).await.status, 401);
    }
    assert_eq!(app.try_login(&ann).await.status, 429);
    app.post("/recovery/request", &json!({"email": ann.email})).await;
    let reset = app.token_from(&ann.email, MailKind::ResetPassword).await;
    let done = app.post("/recovery/confirm", &json!({"token": reset, "new_password": NEW_PASSWORD})).await;
    assert_eq!(done.status, 200, "{done:?}");
    let ann = Person { password: NEW_PASSWORD.to_owned(), ..ann };
    app.login(&ann).await;
    // Other clients at the address use up its allowance at other accounts.
    for n in 0..3 {
        let neighbour = json!({"email": format!("n{n}@example.com"), "password": WRONG});
        assert_eq!(app.post("/login", &neighbour).await.status, 401);
    }
    assert_eq!(app.post("/login", &json!({"email": "n@example.com", "password": WRONG})).await.status, 429);
    assert_eq!(app.try_login(&bob).await.status, 429);
    assert_eq!(app.recover(&bob.email, &bob.passphrase, NEW_PASSWORD).await.status, 200);
    let bob = Person { password: NEW_PASSWORD.to_owned(), ..bob };
    app.login(&bob).await;
    // This gives guesses no advantage: the account still takes five at most, and the address none at other accounts.
    for _ in 0..5 {
        assert_eq!(app.try_login(&Person { password: WRONG.to_owned(), ..bob.clone() }).await.status, 401);
    }
    assert_eq!(app.try_login(&bob).await.status, 429);
    assert_eq!(app.post("/login", &json!({"email": "n@example.com", "password": WRONG})).await.status, 429);
}

#[tokio::test]
async fn d14_s76_a_recovery_forgets_wrong_current_passwords() {
    let app = TestApp::spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    for _ in 0..5 {
        let guess = json!({"password": "Some-other-lamp-12", "current_password": WRONG});
        assert_eq!(app.change_own(&token, &guess).await.status, 403);
    }
    assert_eq!(app.recover(&ann.email, &ann.passphrase, NEW_PASSWORD).await.status, 200);
    let token = app.login(&Person { password: NEW_PASSWORD.to_owned(), ..ann }).await;
    let change = json!({"password": "Some-other-lamp-12", "current_password": NEW_PASSWORD});
    assert_eq!(app.change_own(&token, &change).await.status, 200);
}

#[tokio::test]
async fn d14_s10_the_right_password_of_an_unverified_account_is_no_failure_and_looks_like_one() {
    let app = TestApp::builder().with(|settings| settings.accounts.require_email_verification = true).spawn().await;
    let ann = app.register("ann").await;
    for _ in 0..12 {
        let right = app.login_under_one_id(&ann.email, &ann.password).await;
        let nobody = app.login_under_one_id("nobody@example.com", WRONG).await;
        assert_eq!(right.status, 401);
        if nobody.status == 401 {
            assert_eq!(right.whole(), nobody.whole());
        }
    }
    for _ in 0..4 {
        assert_eq!(app.try_login(&Person { password: WRONG.to_owned(), ..ann.clone() }).await.status, 401);
    }
    // A correct password of an unverified account does not reset the failures either.
    assert_eq!(app.try_login(&ann).await.status, 401);
    assert_eq!(app.try_login(&Person { password: WRONG.to_owned(), ..ann.clone() }).await.status, 401);
    assert_eq!(app.try_login(&ann).await.status, 429);
    app.pass(Duration::from_mins(1));
    let link = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    assert_eq!(app.post("/email/verify", &json!({"token": link})).await.status, 200);
    app.login(&ann).await;
}

#[tokio::test]
async fn d14_s22_wrong_service_tokens_count_whatever_bearer_comes_along() {
    let routes = route_table().iter().filter(|route| {
        matches!(
            route.access,
            Access::HiddenAdminOrService(_) | Access::AdminOrService(_) | Access::ServiceAndBearer(_)
        )
    });
    let mut seen = 0;
    for route in routes {
        seen += 1;
        let app = TestApp::builder().with(|settings| settings.limits.address_failures = 3).spawn().await;
        let admin = app.admin().await;
        let (_, user) = app.register_and_login("ann").await;
        let (_, service) = app.service_token(&admin, "watch", &["verify", "metrics", "audit", "backup"]).await;
        let ask = |token: &str, bearer: &str| {
            app.send(app.request(route.method.clone(), route.path).header("X-Service-Token", token).bearer_auth(bearer))
        };
        for bearer in ["garbage", &user, &admin] {
            assert_ne!(ask("wrong", bearer).await.status, 429, "{} {bearer}", route.path);
        }
        for bearer in ["garbage", &user] {
            assert_eq!(ask("wrong", bearer).await.status, 429, "{} {bearer}", route.path);
        }
        // The correct token needs no wait.
        assert_eq!(ask(&service, &user).await.status, 200, "{}", route.path);
        if !matches!(route.access, Access::ServiceAndBearer(_)) {
            let by_bearer = app.call(route.method.clone(), route.path, &admin, &Value::Null).await;
            assert_eq!(by_bearer.status, 200, "{}", route.path);
        }
    }
    assert!(seen >= 5, "{seen}");
}
