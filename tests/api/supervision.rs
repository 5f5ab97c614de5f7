//! Internal failures as clients see them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use doorward::Ended;
use doorward_actors::ActorHealth;
use doorward_actors::testing::Fault;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Person, TestApp, until, within};

async fn actor(app: &TestApp, name: &str) -> Value {
    let inside = app.inside().await;
    inside["actors"].as_array().unwrap().iter().find(|actor| actor["name"] == name).unwrap().clone()
}

/// Asserts that a request during a failure got its normal answer or a 503 with `Retry-After`.
#[track_caller]
fn assert_answered(answer: &Answer, success: u16) {
    if answer.status == 503 {
        answer.assert_problem(503, "The service is busy, try again later");
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1, "{answer:?}");
    } else {
        assert_eq!(answer.status, success, "{answer:?}");
    }
}

/// Sends requests of all people concurrently.
async fn everybody_is_answered(app: &TestApp, people: &[(Person, String)]) {
    let asked = people.iter().map(|(person, token)| async move {
        assert_answered(&within(app.verify(token)).await, 200);
        assert_answered(&within(app.call(Method::GET, "/my_account/", token, &Value::Null)).await, 200);
        assert_answered(&within(app.try_login(person)).await, 200);
        assert_eq!(within(app.get("/health/live")).await.status, 200);
    });
    join_all(asked).await;
}

async fn r09_fails_and_recovers(name: &str, fault: Fault, cause: &str) {
    let app = TestApp::spawn().await;
    let mut people = Vec::new();
    for person in ["ann", "bob", "cleo", "dora"] {
        people.push(app.register_and_login(person).await);
    }
    let logged_out = app.login(&people[0].0).await;
    assert_eq!(app.logout(&logged_out).await.status, 200);

    let (injected, ()) = tokio::join!(app.handles.inject(name, fault), everybody_is_answered(&app, &people));
    injected.unwrap();
    everybody_is_answered(&app, &people).await;

    app.restarted(name, 1).await;
    let back = actor(&app, name).await;
    assert_eq!((&back["restarts"], &back["failed"]), (&json!(1), &json!(1)), "{back}");
    assert_eq!(back["last_restart"], "2025-01-01T00:00:00.000Z");
    assert!(back["last_failure"].as_str().unwrap().contains(cause), "{back}");
    for other in app.inside().await["actors"].as_array().unwrap() {
        if other["name"] != name {
            let untouched = (&other["restarts"], &other["failed"], &other["state"]);
            assert_eq!(untouched, (&json!(0), &json!(0), &json!("running")), "{other}");
        }
    }
    for (person, token) in &people {
        assert!(app.is_live(token).await, "{}'s session was lost", person.nickname);
        app.login(person).await;
    }
    assert!(!app.is_live(&logged_out).await, "a session came back to life");
    app.register_and_login("late").await;
    // Readiness is checked again once the cached result has expired.
    app.pass(Duration::from_secs(2));
    app.get("/health/ready").await.assert_body(200, &json!({"status": "ready"}));
    assert_eq!(app.inside().await["status"], "ok");
}

#[tokio::test]
async fn r09_every_actor_comes_back_after_a_panic_and_an_error() {
    let names: Vec<String> = TestApp::spawn().await.handles.vitals().into_iter().map(|actor| actor.name).collect();
    assert_eq!(names.len(), 8, "{names:?}");
    for name in names {
        r09_fails_and_recovers(&name, Fault::Panic, "injected panic").await;
        r09_fails_and_recovers(&name, Fault::Error, "injected error").await;
    }
}

#[tokio::test]
async fn r09_the_hashing_threads_outlive_their_panics() {
    let app = TestApp::builder().with(|settings| settings.passwords.hash_threads = 2).spawn().await;
    let people = [app.register_and_login("ann").await];
    for n in 1..=5 {
        let (injected, ()) =
            tokio::join!(within(app.handles.inject("hasher", Fault::Panic)), everybody_is_answered(&app, &people));
        injected.unwrap();
        // The job is counted shortly after its caller has the result.
        until(async || app.handles.hasher.health().failed == n).await;
        assert_eq!(app.handles.hasher.health().threads, 2);
        assert_eq!(app.inside().await["hasher"]["failed"], n);
        app.login(&people[0].0).await;
    }
}

/// More seconds than a handler may wait for a commit.
const FROZEN: usize = 13;

#[tokio::test]
async fn r19_a_frozen_actor_is_replaced_and_its_queue_is_kept() {
    let app = TestApp::spawn().await;
    let people = [app.register_and_login("ann").await, app.register_and_login("bob").await];
    for ActorHealth { name, .. } in app.handles.vitals() {
        app.fail(&name, Fault::Hang(Duration::from_hours(1))).await;
        until(async || app.vitals_of(&name).mailbox == 0).await;
        // The next incarnation takes it from the queue, and ends by it.
        app.fail(&name, Fault::Error).await;
        app.handles.look_for_frozen(FROZEN / 2);
        assert_eq!(app.vitals_of(&name).restarts, 0, "{name}");
        app.handles.look_for_frozen(FROZEN);
        app.restarted(&name, 2).await;
        let seen = app.vitals_of(&name);
        assert_eq!((seen.failed, seen.last_failure.as_deref()), (2, Some("injected error")), "{name}");
        app.handles.look_for_frozen(FROZEN);
        app.pass(Duration::from_secs(61));
    }
    everybody_is_answered(&app, &people).await;
    assert!(app.handles.vitals().iter().all(|actor| actor.restarts == 2), "a working actor was replaced");
}

static BLOCKED: AtomicBool = AtomicBool::new(true);

fn block() {
    while BLOCKED.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r19_an_actor_that_blocks_its_thread_is_replaced_too() {
    let app = TestApp::spawn().await;
    let people = [app.register_and_login("ann").await];
    for name in ["user", "keys"] {
        app.fail(name, Fault::Block(block)).await;
        until(async || app.vitals_of(name).mailbox == 0).await;
        app.fail(name, Fault::Hang(Duration::ZERO)).await;
        app.handles.look_for_frozen(FROZEN);
        app.restarted(name, 1).await;
        everybody_is_answered(&app, &people).await;
    }
    BLOCKED.store(false, Ordering::Release);
    everybody_is_answered(&app, &people).await;
    assert_eq!(["user", "keys"].map(|name| app.vitals_of(name).restarts), [1, 1]);
}

#[tokio::test]
async fn s52_while_a_shard_hangs_its_tokens_are_neither_valid_nor_dead_and_others_do_not_notice() {
    let app = TestApp::spawn().await;
    let (one, stuck) = app.register_and_login("ann").await;
    let (two, free) = app.register_and_login("bob").await;
    assert_ne!(one.id % 2, two.id % 2, "both are in one shard");
    app.pass(Duration::from_secs(2));
    app.fail(&format!("session-{}", one.id % 2), Fault::Hang(Duration::from_secs(30))).await;
    let (held_up, through) = tokio::join!(within(app.verify(&stuck)), within(app.verify(&free)));
    held_up.assert_problem(503, "The service is busy, try again later");
    assert_eq!(held_up.header("retry-after"), Some("1"));
    assert_eq!(through.status, 200, "{through:?}");
    let ready = within(app.get("/health/ready")).await;
    ready.assert_body(503, &json!({"status": "not_ready"}));
    assert!(ready.header("retry-after").is_some(), "{ready:?}");
    assert_eq!(app.get("/health/live").await.status, 200);
}

async fn r12_fails_for_good(name: &str) {
    let app = TestApp::spawn().await;
    for failures in 1..=11 {
        app.fail(name, Fault::Error).await;
        until(async || app.vitals_of(name).failed == failures).await;
    }
    let ended = within(app.ended()).await;
    let Err(Ended::ActorGaveUp(reason)) = ended else { panic!("{ended:?}") };
    assert!(reason.contains(name) && reason.contains("injected error"), "{reason}");
}

#[tokio::test]
async fn r12_an_actor_that_keeps_failing_ends_the_application_with_the_reason() {
    let names: Vec<String> = TestApp::spawn().await.handles.vitals().into_iter().map(|actor| actor.name).collect();
    join_all(names.iter().map(|name| r12_fails_for_good(name))).await;
}

#[tokio::test]
async fn r12_failures_that_are_far_apart_are_survived_however_many() {
    let app = TestApp::spawn().await;
    let (ann, _) = app.register_and_login("ann").await;
    for n in 1..=25 {
        app.fail("user", Fault::Panic).await;
        app.restarted("user", n).await;
        app.pass(Duration::from_secs(61));
    }
    app.login(&ann).await;
}

/// Repeats the logout until it is acknowledged or the token is refused.
async fn log_out_for_sure(app: &TestApp, token: &str) {
    until(async || {
        let answer = within(app.logout(token)).await;
        if answer.status != 401 {
            assert_answered(&answer, 200);
        }
        answer.status != 503
    })
    .await;
}

/// Repeats the check until it says whether the token is live.
async fn is_live_at_last(app: &TestApp, token: &str) -> bool {
    let mut is_live = false;
    until(async || {
        let answer = within(app.verify(token)).await;
        if answer.status != 401 {
            assert_answered(&answer, 200);
        }
        is_live = answer.status == 200;
        answer.status != 503
    })
    .await;
    is_live
}

#[tokio::test]
async fn r09_no_failure_under_load_revives_a_session_or_ends_one() {
    let app = TestApp::spawn().await;
    let mut people = Vec::new();
    for name in ["ann", "bob", "cleo", "dora"] {
        people.push(app.register(name).await);
    }
    let (mut ended, mut kept) = (Vec::new(), Vec::new());
    for round in 0..8 {
        let mut tokens = Vec::new();
        for person in &people {
            tokens.push((app.login(person).await, app.login(person).await));
        }
        let faults = async {
            for name in ["session-0", "session-1", "user", "audit", "services"] {
                app.fail(name, if round % 2 == 0 { Fault::Panic } else { Fault::Error }).await;
                tokio::task::yield_now().await;
            }
        };
        let load = join_all(tokens.iter().map(|(ending, staying)| async {
            tokio::join!(log_out_for_sure(&app, ending), is_live_at_last(&app, staying)).1
        }));
        let ((), alive) = tokio::join!(faults, load);
        assert!(alive.iter().all(|alive| *alive), "a live session was called dead");
        ended.extend(tokens.iter().map(|(ending, _)| ending.clone()));
        kept.extend(tokens.into_iter().map(|(_, staying)| staying));
        for token in &ended {
            assert!(!is_live_at_last(&app, token).await, "a session came back to life in round {round}");
        }
        for token in &kept {
            assert!(is_live_at_last(&app, token).await, "a session was lost in round {round}");
        }
        for name in ["session-0", "session-1", "user", "audit", "services"] {
            app.restarted(name, round + 1).await;
        }
        // Past the window in which restarts are counted.
        app.pass(Duration::from_secs(61));
    }
    let app = app.restart().await;
    for token in &ended {
        assert!(!app.is_live(token).await);
    }
    for token in &kept {
        assert!(app.is_live(token).await);
    }
}
