//! Token checks while an administrator changes roles. No check returns a state older than the last acknowledged one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use super::people::{log_in, patient};
use super::witness::{Chance, Race, Span};
use crate::support::TestApp;

const CHANGES: usize = 250;
const ASKERS: usize = 4;

/// The result of one check of an account: the number of changes to it and whether it is an administrator. Each value is
/// `None` if this kind of check does not return it.
struct Told {
    span: Span,
    change: Option<usize>,
    admin: Option<bool>,
    by: &'static str,
}

/// Every second change makes the account an administrator.
fn role(change: usize) -> &'static str {
    if change % 2 == 1 { "admin" } else { "user" }
}

/// Checks which account a token belongs to. Some ways return the plan, which counts the changes, some the role, and
/// some both.
async fn ask(app: &TestApp, token: &str, luck: &mut Chance) -> (&'static str, Option<usize>, Option<bool>) {
    let number = |plan: &str| plan.strip_prefix("plan").map(|number| number.parse().unwrap());
    match luck.below(16) {
        0..10 => {
            let account = app.handles.sessions.authenticate(token).await.unwrap().account;
            ("authenticate", number(account.customer_account.as_str()), Some(account.role.as_str() == "admin"))
        }
        10..12 => {
            let told = app.verify(token).await.body;
            ("verify", number(told["customer_account"].as_str().unwrap()), Some(told["role"] == "admin"))
        }
        12 => {
            let request = app.request(Method::GET, "/forward_auth?role=admin").bearer_auth(token);
            let answer = app.send(request).await;
            assert!(matches!(answer.status, 200 | 403), "{answer:?}");
            ("forward_auth", None, Some(answer.status == 200))
        }
        13 => {
            let inspected = app.handles.sessions.inspect(token).await.unwrap();
            ("inspect", None, Some(inspected.principal.account.role.as_str() == "admin"))
        }
        14 => {
            let answer = app.call(Method::GET, "/my_account/", token, &Value::Null).await;
            ("my_account", number(answer.body["customer_account"].as_str().unwrap()), None)
        }
        _ => {
            let answer = app.call(Method::GET, "/keys/", token, &Value::Null).await;
            assert!(matches!(answer.status, 200 | 403), "{answer:?}");
            ("an administrator's route", None, Some(answer.status == 200))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s38_no_check_tells_an_older_role_than_was_acknowledged() {
    let mut luck = Chance::of_the_test();
    let app = Arc::new(patient().spawn().await);
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    let token = log_in(&app, &ann).await.access;
    app.must_change(&admin, ann.id, &json!({"customer_account": "plan0"})).await;
    let (race, over) = (Arc::new(Race::default()), Arc::new(AtomicBool::new(false)));
    let askers: Vec<_> = (0..ASKERS)
        .map(|_| {
            let (app, race, over) = (Arc::clone(&app), Arc::clone(&race), Arc::clone(&over));
            let (token, mut luck) = (token.clone(), luck.fork());
            tokio::spawn(async move {
                let mut told = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    let (span, (by, change, admin)) = race.time(ask(&app, &token, &mut luck)).await;
                    told.push(Told { span, change, admin, by });
                    luck.dawdle().await;
                }
                told
            })
        })
        .collect();
    let mut changes = vec![Span { began: 0, ended: 0 }];
    for change in 1..=CHANGES {
        let body = json!({"role": role(change), "customer_account": format!("plan{change}")});
        changes.push(race.time(app.must_change(&admin, ann.id, &body)).await.0);
        luck.dawdle().await;
    }
    over.store(true, Ordering::SeqCst);
    let mut told = Vec::new();
    for asker in askers {
        told.extend(asker.await.unwrap());
    }
    told.sort_by_key(|told| told.span.began);
    for Told { span, change, admin, by } in &told {
        let oldest = changes.partition_point(|change| change.ended < span.began).saturating_sub(1);
        let newest = changes.partition_point(|change| change.began < span.ended).saturating_sub(1);
        if let Some(change) = change {
            assert!((oldest..=newest).contains(change), "{by} told change {change} between {oldest} and {newest}");
            assert!(admin.is_none_or(|admin| admin == (role(*change) == "admin")), "{by} told half a change");
        }
        if let Some(admin) = admin {
            let was = (oldest..=newest).any(|change| (role(change) == "admin") == *admin);
            assert!(was, "{by} told a role that was not");
        }
    }
    // A check that begins after another was answered returns the same state or a newer one.
    let mut answered: Vec<_> = told.iter().filter_map(|told| Some((told.span.ended, told.change?))).collect();
    answered.sort_unstable();
    let (mut known, mut next) = (0, answered.into_iter().peekable());
    for Told { span, change, by, .. } in told.iter().filter(|told| told.change.is_some()) {
        while let Some((_, change)) = next.next_if(|(ended, _)| *ended < span.began) {
            known = known.max(change);
        }
        assert!(change.unwrap() >= known, "{by} told change {change:?} after somebody was told {known}");
    }
}
