//! Refresh tokens in concurrent use: by tabs that share a session, and by thieves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward_actors::MailKind;
use reqwest::Method;
use serde_json::Value;

use super::people::{Held, exchange, log_in, patient, restarted};
use super::witness::Chance;
use crate::support::{Person, TestApp};

const SIDE_BY_SIDE: usize = 8;
const TABS: usize = 3;
/// The number of refreshes of a tab that does not learn the tokens of the others. The sum over all tabs stays below the
/// number of generations that a family remembers.
const EXCHANGES: usize = 4;
const GRACE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(1);

/// Returns the generation of a token in its family. The first token has generation 0.
fn generation(token: &str) -> u32 {
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix("dwr_").unwrap()).unwrap();
    u32::from_be_bytes(bytes[24..28].try_into().unwrap())
}

async fn people(app: &TestApp) -> Vec<Person> {
    let mut people = Vec::new();
    for n in 0..SIDE_BY_SIDE {
        people.push(app.register(&format!("person{n}")).await);
    }
    people
}

/// Refreshes one token in several tabs, some times in each. Returns all tokens that the tabs received.
async fn in_tabs(app: &Arc<TestApp>, token: &str, luck: &mut Chance) -> Vec<Held> {
    let tabs = (0..TABS).map(|_| {
        let (app, mut token, mut luck) = (Arc::clone(app), token.to_owned(), luck.fork());
        tokio::spawn(async move {
            let mut given = Vec::new();
            for _ in 0..EXCHANGES {
                luck.dawdle().await;
                let next = exchange(&app, &token, &mut luck).await.expect("a tab was logged out");
                token.clone_from(&next.refresh);
                given.push(next);
            }
            given
        })
    });
    futures_util::future::join_all(tabs).await.into_iter().flat_map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s37_tabs_that_refresh_at_once_stay_in_one_family_and_a_late_one_ends_it() {
    const ROUNDS: usize = 12;
    let mut luck = Chance::of_the_test();
    let app = Arc::new(patient().spawn().await);
    let people = people(&app).await;
    let runs = people.iter().map(|person| {
        let (app, person, luck) = (Arc::clone(&app), person.clone(), luck.fork());
        async move { (log_in(&app, &person).await, luck) }
    });
    let mut families: Vec<_> = futures_util::future::join_all(runs)
        .await
        .into_iter()
        .map(|(held, luck)| (BTreeMap::from([(0, held.refresh)]), luck))
        .collect();
    for _ in 0..ROUNDS {
        let runs = families.iter_mut().map(|(family, luck)| async {
            let newest = family.values().next_back().unwrap().clone();
            let given = in_tabs(&app, &newest, luck).await;
            let session = app.handles.sessions.look(&given[0].access).await.unwrap().session;
            for held in given {
                let told = app.handles.sessions.authenticate(&held.access).await.expect("a tab got a dead token");
                assert_eq!(told.session, session);
                let known = family.entry(generation(&held.refresh)).or_insert_with(|| held.refresh.clone());
                assert_eq!(*known, held.refresh, "the family forked");
            }
        });
        futures_util::future::join_all(runs).await;
        app.pass(GRACE + MOMENT);
    }
    // Any token of a family that is now past its grace period ends the family.
    for (family, luck) in &mut families {
        let newest = *family.keys().next_back().unwrap();
        let late = luck.below(usize::try_from(newest).unwrap());
        let late = family.range(..=u32::try_from(late).unwrap()).next_back().unwrap().1;
        assert!(exchange(&app, late, luck).await.is_none());
        assert!(exchange(&app, &family[&newest], luck).await.is_none(), "the family outlived a reuse");
    }
    assert_eq!(app.handles.sessions.live(), 0);
}

/// Returns how many mails told the owner of a reuse, and how many audit events record one.
pub(super) async fn reuses(app: &TestApp, person: &Person) -> (usize, usize) {
    let mails = app.mails_to(&person.email).await;
    let access = log_in(app, person).await.access;
    let path = "/my_account/events?event=session.refresh_reused&limit=100";
    let events = app.call(Method::GET, path, &access, &Value::Null).await;
    let mailed = mails.iter().filter(|mail| mail.kind == MailKind::RefreshReused).count();
    (mailed, events.body["events"].as_array().unwrap().len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s37_a_family_that_thieves_and_tabs_use_at_once_ends_once() {
    const ROUNDS: usize = 15;
    let mut luck = Chance::of_the_test();
    let app = Arc::new(patient().spawn().await);
    let people = people(&app).await;
    let mut ended = Vec::new();
    for _ in 0..ROUNDS {
        let logins = people.iter().map(|person| log_in(&app, person));
        let first = futures_util::future::join_all(logins).await;
        let mut second = Vec::new();
        for held in &first {
            second.push(exchange(&app, &held.refresh, &mut luck).await.unwrap());
        }
        app.pass(GRACE + MOMENT);
        let uses = first.iter().zip(&second).flat_map(|(spent, present)| [&spent.refresh, &present.refresh].repeat(3));
        let uses = uses.map(|token| {
            let (app, token, mut luck) = (Arc::clone(&app), token.clone(), luck.fork());
            tokio::spawn(async move {
                luck.dawdle().await;
                exchange(&app, &token, &mut luck).await
            })
        });
        let answers = futures_util::future::join_all(uses).await;
        for (n, answer) in answers.into_iter().enumerate() {
            let answer = answer.unwrap();
            assert!(n % 2 == 1 || answer.is_none(), "a thief was served");
            ended.extend(answer);
        }
        ended.extend(second);
        assert_eq!(app.handles.sessions.live(), 0, "a family outlived a reuse");
    }
    for held in &ended {
        assert!(app.handles.sessions.look(&held.access).await.is_err());
        assert!(exchange(&app, &held.refresh, &mut luck).await.is_none());
    }
    for person in &people {
        // An account gets at most ten notices of a kind in a day (D12). The audit log has every family.
        let told = ROUNDS.min(10);
        assert_eq!(reuses(&app, person).await, (told, ROUNDS), "told once for each family, and on record once");
    }
    let app = restarted(app).await;
    for held in ended.iter().rev().take(100) {
        assert!(app.handles.sessions.look(&held.access).await.is_err(), "a restart revived a session");
    }
}

/// At the edge of the grace period a token is either honoured or counts as reused. The session continues or ends
/// accordingly.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s37_at_the_edge_of_the_grace_the_answer_and_the_session_agree() {
    const ROUNDS: usize = 60;
    let mut luck = Chance::of_the_test();
    let app = Arc::new(patient().spawn().await);
    let people = people(&app).await;
    let (mut honoured, mut reused) = (0, 0);
    for _ in 0..ROUNDS {
        let mut families = Vec::new();
        for person in &people {
            let first = log_in(&app, person).await;
            let second = exchange(&app, &first.refresh, &mut luck).await.unwrap();
            families.push((first, second));
        }
        app.pass(GRACE);
        let uses = families.iter().map(|(first, _)| {
            let (app, token, mut luck) = (Arc::clone(&app), first.refresh.clone(), luck.fork());
            tokio::spawn(async move {
                luck.dawdle().await;
                exchange(&app, &token, &mut luck).await
            })
        });
        let uses: Vec<_> = uses.collect();
        luck.dawdle().await;
        app.pass(MOMENT);
        for (used, (_, second)) in uses.into_iter().zip(&families) {
            let answer = used.await.unwrap();
            assert_eq!(app.handles.sessions.look(&second.access).await.is_ok(), answer.is_some());
            if let Some(next) = answer {
                assert_eq!(next.refresh, second.refresh, "it leads to the same successor");
                honoured += 1;
            } else {
                assert!(exchange(&app, &second.refresh, &mut luck).await.is_none());
                reused += 1;
            }
        }
    }
    assert_eq!(honoured + reused, ROUNDS * SIDE_BY_SIDE);
}
