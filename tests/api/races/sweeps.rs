//! Token checks and refreshes while sessions expire and the sweep removes them.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::people::{Asker, Refresher, log_in, patient, restarted};
use super::witness::{Chance, Race, judge};
use crate::support::Person;

const SIDE_BY_SIDE: usize = 8;
const IDLE: Duration = Duration::from_mins(10);
const LIFETIME: Duration = Duration::from_hours(1);
const MOMENT: Duration = Duration::from_millis(1);

/// Lets sessions expire after this time, repeatedly.
async fn run(rounds: usize, time: Duration, idle: Duration) {
    let mut luck = Chance::of_the_test();
    let app = patient().with(|settings| {
        settings.sessions.idle_timeout = idle;
        settings.sessions.lifetime = LIFETIME;
        settings.tokens.access_token_lifetime = LIFETIME;
    });
    let app = Arc::new(app.spawn().await);
    let mut people = Vec::new();
    for n in 0..SIDE_BY_SIDE {
        people.push(app.register(&format!("person{n}")).await);
    }
    let mut ended = Vec::new();
    for _ in 0..rounds {
        let held = futures_util::future::join_all(people.iter().map(|person| log_in(&app, person))).await;
        // The last moment at which the sessions are alive.
        app.pass(time);
        let race = Arc::new(Race::default());
        let watchers: Vec<_> = held
            .iter()
            .map(|held| {
                let asker = || Asker { app: Arc::clone(&app), token: held.access.clone(), uses: false };
                let refresher = Refresher { app: Arc::clone(&app), held: held.clone(), given: Vec::new() };
                // An idle session must only get checks that do not count as a use.
                let refresher = (idle == LIFETIME).then(|| race.watch(luck.fork(), refresher));
                ([race.watch(luck.fork(), asker()), race.watch(luck.fork(), asker())], refresher)
            })
            .collect();
        let sweeper = tokio::spawn({
            let (app, mut luck) = (Arc::clone(&app), luck.fork());
            async move {
                for _ in 0..3 {
                    luck.dawdle().await;
                    app.handles.tend_sessions().await.unwrap();
                }
            }
        });
        let change = async { app.pass(MOMENT) };
        let (span, ()) = race.change(2 * SIDE_BY_SIDE, &mut luck, change).await;
        for (askers, refresher) in watchers {
            let mut seen = Vec::new();
            for asker in askers {
                seen.extend(asker.await.unwrap().0);
            }
            if let Some(refresher) = refresher {
                seen.extend(refresher.await.unwrap().0);
            }
            judge(&seen, span, "the end of its time");
        }
        sweeper.await.unwrap();
        app.handles.tend_sessions().await.unwrap();
        assert_eq!(app.handles.sessions.live(), 0);
        ended.extend(held);
    }
    let person: &Person = &people[0];
    let access = log_in(&app, person).await.access;
    let path = "/my_account/events?event=session.expired&limit=100";
    let events = app.call(Method::GET, path, &access, &Value::Null).await;
    assert_eq!(events.body["events"].as_array().unwrap().len(), rounds, "each end is on record once");
    app.clock.set_back(time);
    for held in &ended {
        assert!(app.handles.sessions.look(&held.access).await.is_err(), "the clock was set back, and it lives again");
    }
    let app = restarted(app).await;
    for held in &ended {
        assert!(app.handles.sessions.look(&held.access).await.is_err(), "a restart revived a session");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s39_no_check_outlives_the_idle_time_in_any_order() {
    run(60, IDLE, IDLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s39_no_check_and_no_refresh_outlives_the_absolute_end_in_any_order() {
    run(40, LIFETIME.saturating_sub(MOMENT), LIFETIME).await;
}

/// A use in the last moment either comes in time, and the session continues, or it finds the session ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s39_a_use_that_races_the_end_of_the_idle_time_is_told_what_becomes_of_the_session() {
    let mut luck = Chance::of_the_test();
    let app = patient().with(|settings| {
        settings.sessions.idle_timeout = IDLE;
        settings.tokens.access_token_lifetime = LIFETIME;
    });
    let app = Arc::new(app.spawn().await);
    let mut people = Vec::new();
    for n in 0..SIDE_BY_SIDE {
        people.push(app.register(&format!("person{n}")).await);
    }
    for _ in 0..60 {
        let held = futures_util::future::join_all(people.iter().map(|person| log_in(&app, person))).await;
        app.pass(IDLE);
        let tasks: Vec<_> = held
            .iter()
            .map(|held| {
                let (app, token, mut luck) = (Arc::clone(&app), held.access.clone(), luck.fork());
                tokio::spawn(async move {
                    luck.dawdle().await;
                    app.handles.sessions.authenticate(&token).await.is_ok()
                })
            })
            .collect();
        luck.dawdle().await;
        app.pass(MOMENT);
        app.handles.tend_sessions().await.unwrap();
        let mut in_time = 0;
        for (used, held) in tasks.into_iter().zip(&held) {
            let used = used.await.unwrap();
            in_time += usize::from(used);
            assert_eq!(app.handles.sessions.look(&held.access).await.is_ok(), used);
        }
        app.handles.tend_sessions().await.unwrap();
        assert_eq!(app.handles.sessions.live(), in_time);
        app.pass(IDLE + MOMENT);
        app.handles.tend_sessions().await.unwrap();
        assert_eq!(app.handles.sessions.live(), 0);
    }
}
