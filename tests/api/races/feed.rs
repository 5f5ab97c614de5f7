//! The revocation feed while many sessions end. A client that saw an end acknowledged finds it in the feed. Each end
//! occurs once and in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use doorward_actors::{CursorError, Origin, RevocationPage, Revoked};
use reqwest::Method;
use serde_json::{Value, json};

use super::people::{Held, log_in, patient};
use super::witness::Chance;
use crate::support::{Person, TestApp};

const WRITERS: usize = 8;
const ENDS: usize = 30;

async fn page(app: &TestApp, after: u64, limit: usize) -> RevocationPage {
    let page = app.handles.revocations.after(after, limit).await.unwrap().unwrap();
    // The numbers have no gaps.
    for ((number, _), expected) in page.revocations.iter().zip(after + 1..) {
        assert_eq!(*number, expected);
    }
    assert_eq!(page.last, after + u64::try_from(page.revocations.len()).unwrap());
    page
}

/// Returns a page in short form.
fn told(page: &RevocationPage) -> Vec<(u64, String)> {
    let what = |what: &Revoked| match what {
        Revoked::Session(session) => session.to_string(),
        other => format!("{other:?}"),
    };
    page.revocations.iter().map(|(number, revocation)| (*number, what(&revocation.what))).collect()
}

/// Ends a session in some way and looks for it in the feed as soon as the end was acknowledged.
async fn end_and_look(app: &TestApp, person: &Person, admin: &str, luck: &mut Chance) -> String {
    let first: Held = log_in(app, person).await;
    let principal = app.handles.sessions.authenticate(&first.access).await.unwrap();
    let session = principal.session.to_string();
    let before = app.handles.revocations.last().await.unwrap();
    let head = *app.handles.revocations.head().borrow();
    assert!(before <= head, "a cursor that a crash could take back was given out: {before}, {head}");
    match luck.below(6) {
        0..3 => app.handles.sessions.logout(&principal, Origin::default()).await.unwrap(),
        3 => {
            let path = format!("/accounts_management/{}/sessions", person.id);
            assert_eq!(app.call(Method::DELETE, &path, admin, &Value::Null).await.status, 204);
        }
        4 => {
            app.lock(admin, person.id).await;
            app.must_change(admin, person.id, &json!({"lock": false})).await;
        }
        _ => {
            let answer = app.recover(&person.email, &person.passphrase, &person.password).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    let (mut after, mut found) = (before, false);
    loop {
        let page = page(app, after, 1 + luck.below(20)).await;
        found |= told(&page).iter().any(|(_, what)| *what == session);
        if found || page.last == after {
            break;
        }
        after = page.last;
    }
    assert!(found, "an end was acknowledged that the log does not have");
    session
}

/// Follows the feed from a cursor, in pages of any size, until nothing more is written.
async fn follow(app: Arc<TestApp>, mut after: u64, over: Arc<AtomicBool>, mut luck: Chance) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    loop {
        let last = over.load(Ordering::SeqCst);
        let page = page(&app, after, 1 + luck.below(9)).await;
        seen.extend(told(&page));
        if last && page.last == after {
            return seen;
        }
        after = page.last;
        luck.dawdle().await;
    }
}

/// Follows the feed over HTTP with `wait`. Returns the ids of the ended sessions.
async fn poll(app: Arc<TestApp>, secret: String, mut after: String, over: Arc<AtomicBool>) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let last = over.load(Ordering::SeqCst);
        let path = format!("/revocations?after={after}&wait={}", u8::from(!last));
        let answer = app.send(app.request(Method::GET, &path).header("X-Service-Token", &secret)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let events = answer.body["events"].as_array().unwrap();
        seen.extend(events.iter().filter_map(|event| event["session_id"].as_str().map(str::to_owned)));
        if last && events.is_empty() {
            return seen;
        }
        let cursor = answer.body["cursor"].as_str().unwrap();
        let number = |cursor: &str| cursor.split('-').next().unwrap().parse::<u64>().unwrap();
        assert!(number(cursor) >= number(&after), "a cursor went back");
        cursor.clone_into(&mut after);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s37_an_acknowledged_end_is_in_the_log_once_and_in_order() {
    let mut luck = Chance::of_the_test();
    let app = Arc::new(patient().spawn().await);
    let admin_person = app.register("admin").await;
    let admin = log_in(&app, &admin_person).await.access;
    let (_, secret) = app.service_token(&admin, "follower", &["revocations"]).await;
    let start = app.handles.revocations.last().await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let followers: Vec<_> =
        (0..3).map(|_| tokio::spawn(follow(Arc::clone(&app), start, Arc::clone(&over), luck.fork()))).collect();
    let poller = tokio::spawn(poll(Arc::clone(&app), secret.clone(), start.to_string(), Arc::clone(&over)));
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        let person = app.register(&format!("person{n}")).await;
        let (app, admin, mut luck) = (Arc::clone(&app), admin.clone(), luck.fork());
        writers.push(tokio::spawn(async move {
            let mut ended = Vec::new();
            for _ in 0..ENDS {
                ended.push(end_and_look(&app, &person, &admin, &mut luck).await);
            }
            ended
        }));
    }
    let mut ended = BTreeSet::new();
    for writer in writers {
        ended.extend(writer.await.unwrap());
    }
    over.store(true, Ordering::SeqCst);
    let last = app.handles.revocations.last().await.unwrap();
    let whole = told(&page(&app, start, usize::MAX).await);
    assert_eq!(whole.last().unwrap().0, last);
    let sessions: Vec<_> = whole.iter().filter(|(_, what)| what.len() == 22).map(|(_, what)| what.clone()).collect();
    assert_eq!(sessions.len(), WRITERS * ENDS, "each once");
    assert_eq!(sessions.iter().cloned().collect::<BTreeSet<_>>(), ended);
    for follower in followers {
        assert_eq!(follower.await.unwrap(), whole);
    }
    assert_eq!(poller.await.unwrap(), sessions);
    // Every cursor returns the rest of the same feed.
    for (n, after) in (start..=last).enumerate() {
        assert_eq!(told(&page(&app, after, usize::MAX).await), whole[n..], "after {after}");
    }
    for future in [last + 1, last + 1000, u64::MAX] {
        assert_eq!(app.handles.revocations.after(future, 9).await.unwrap(), Err(CursorError::Future));
        let path = format!("/revocations?after={future}&wait=30");
        let answer = app.send(app.request(Method::GET, &path).header("X-Service-Token", &secret)).await;
        assert_eq!(answer.pointers(), ["?after"], "without waiting for it to come true");
    }
}

/// While old revocations are removed, a reader gets either everything after its cursor or an error that some of it is
/// gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s37_a_reader_whose_place_is_removed_is_told_so_and_never_misses_one() {
    const OLD: usize = 24;
    let mut luck = Chance::of_the_test();
    for _ in 0..8 {
        let app = Arc::new(patient().spawn().await);
        let ann = app.register("ann").await;
        let end = async || {
            let token = log_in(&app, &ann).await.access;
            let principal = app.handles.sessions.authenticate(&token).await.unwrap();
            app.handles.sessions.logout(&principal, Origin::default()).await.unwrap();
        };
        futures_util::future::join_all((0..OLD).map(|_| end())).await;
        // This work runs once a minute. It later removes only revocations that it has seen here.
        app.pass(Duration::from_mins(1));
        app.handles.tend_services().await.unwrap();
        app.pass(Duration::from_mins(20));
        end().await;
        end().await;
        // The old revocations are now as old as the longest token lifetime plus one minute.
        app.pass(Duration::from_mins(12));
        let (old, last) = (u64::try_from(OLD).unwrap(), app.handles.revocations.last().await.unwrap());
        assert_eq!(last, old + 2);
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (app, mut luck) = (Arc::clone(&app), luck.fork());
                tokio::spawn(async move {
                    for _ in 0..200 {
                        let after = u64::try_from(luck.below(OLD + 2)).unwrap();
                        match app.handles.revocations.after(after, 9).await.unwrap() {
                            Ok(page) => {
                                assert_eq!(page.revocations[0].0, after + 1, "a gap that was not told");
                                assert!(page.revocations.windows(2).all(|two| two[0].0 + 1 == two[1].0));
                            }
                            Err(error) => {
                                assert!(error == CursorError::TooOld && after < old, "{error:?} after {after}");
                            }
                        }
                        luck.dawdle().await;
                    }
                })
            })
            .collect();
        luck.dawdle().await;
        app.handles.tend_services().await.unwrap();
        for reader in readers {
            reader.await.unwrap();
        }
        for after in 0..old {
            assert_eq!(app.handles.revocations.after(after, 9).await.unwrap(), Err(CursorError::TooOld));
        }
        for after in old..=last {
            assert_eq!(page(&app, after, 9).await.last, last);
        }
        assert_eq!(app.handles.revocations.start().await.unwrap(), old);
    }
}
