//! Refreshes of a session while it sets a new password. The new password begins a new family of refresh tokens. Once it
//! is committed, older refresh tokens are invalid, and their use ends nothing.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::people::{Asker, Held, exchange, log_in, patient, restarted, session_of};
use super::refresh::reuses;
use super::witness::{Ask, Chance, Race, judge};
use crate::support::{Answer, NEW_PASSWORD, Person, TestApp};

/// The password at registration.
const OLD_PASSWORD: &str = "Quiet-lamp-7-tree";
const SIDE_BY_SIDE: usize = 6;
const ROUNDS: usize = 20;
/// The number of tokens that each of three tabs replaces. The sum stays below the number of generations that a family
/// remembers.
const EXCHANGES: usize = 4;
/// Longer than the grace period of a replaced token.
const LATE: Duration = Duration::from_secs(11);

/// A session and all refresh tokens that it received, the newest last.
struct Session {
    person: Person,
    access: String,
    /// The first token was replaced long ago, the second just now.
    tokens: Vec<String>,
}

/// Refreshes repeatedly. After enough exchanges it sends its last token again, as a client does after a lost answer.
struct Tab {
    app: Arc<TestApp>,
    token: String,
    left: usize,
    given: Vec<Held>,
}

impl Ask for Tab {
    async fn ask(&mut self, luck: &mut Chance) -> (&'static str, bool) {
        let Some(next) = exchange(&self.app, &self.token, luck).await else { return ("refresh", false) };
        if self.left > 0 {
            self.left -= 1;
            self.token.clone_from(&next.refresh);
        }
        self.given.push(next);
        ("refresh", true)
    }
}

async fn sessions(app: &TestApp, people: &[Person], luck: &mut Chance) -> Vec<Session> {
    let mut sessions = Vec::new();
    for person in people {
        let first = log_in(app, person).await;
        let second = exchange(app, &first.refresh, luck).await.unwrap();
        let tokens = vec![first.refresh, second.refresh];
        sessions.push(Session { person: person.clone(), access: second.access, tokens });
    }
    app.pass(LATE);
    for session in &mut sessions {
        session.tokens.push(exchange(app, &session.tokens[1], luck).await.unwrap().refresh);
    }
    sessions
}

/// Sets the other one of two passwords.
async fn set_password(app: &TestApp, session: &Session) -> Answer {
    let current = &session.person.password;
    let next = if current == NEW_PASSWORD { OLD_PASSWORD } else { NEW_PASSWORD };
    app.change_own(&session.access, &json!({"password": next, "current_password": current})).await
}

/// Checks what must hold once the new password is acknowledged. Returns the session with only its new tokens.
async fn settle(app: &TestApp, session: Session, answer: &Answer, mut luck: Chance) -> Session {
    assert_eq!((answer.status, answer.members()), (200, vec!["message", "refresh_token"]), "{answer:?}");
    let Session { mut person, access, tokens } = session;
    let mut renewed = vec![answer.text_at("refresh_token")];
    assert!(!tokens.contains(&renewed[0]));
    let id = session_of(app, &access).await;
    // The new family is young at first. In the end it is as old as the previous family was.
    for _ in 0..4 {
        for dead in &tokens {
            assert!(exchange(app, dead, &mut luck).await.is_none(), "a refresh token outlived a new password");
        }
        let next = exchange(app, renewed.last().unwrap(), &mut luck).await.expect("the new refresh token is dead");
        assert_eq!(session_of(app, &next.access).await, id);
        renewed.push(next.refresh);
    }
    let next = if person.password == NEW_PASSWORD { OLD_PASSWORD } else { NEW_PASSWORD };
    next.clone_into(&mut person.password);
    Session { person, access, tokens: renewed }
}

/// Sets a new password while tabs of the same session refresh.
async fn race_tabs(app: Arc<TestApp>, mut session: Session, mut luck: Chance) -> Session {
    let race = Arc::new(Race::default());
    let tab = |token: &String| Tab { app: Arc::clone(&app), token: token.clone(), left: EXCHANGES, given: Vec::new() };
    let tabs = [1, 2, 2].map(|n| race.watch(luck.fork(), tab(&session.tokens[n])));
    let asker = Asker { app: Arc::clone(&app), token: session.access.clone(), uses: true };
    let asker = race.watch(luck.fork(), asker);
    let (span, answer) = race.change(4, &mut luck, set_password(&app, &session)).await;
    let (mut seen, mut accesses) = (Vec::new(), Vec::new());
    for tab in tabs {
        let (told, Tab { given, .. }) = tab.await.unwrap();
        seen.extend(told);
        for Held { access, refresh } in given {
            accesses.push(access);
            session.tokens.push(refresh);
        }
    }
    judge(&seen, span, "refresh tokens from before a new password");
    session.tokens.sort_unstable();
    session.tokens.dedup();
    for seen in asker.await.unwrap().0 {
        assert!(seen.alive, "{} said dead of the session in which the password was set", seen.by);
    }
    let id = session_of(&app, &session.access).await;
    for access in accesses {
        assert_eq!(session_of(&app, &access).await, id, "a refresh that was honoured gave a dead access token");
    }
    settle(&app, session, &answer, luck).await
}

async fn people(app: &TestApp) -> Vec<Person> {
    app.register("admin").await;
    let mut people = Vec::new();
    for n in 0..SIDE_BY_SIDE {
        people.push(app.register(&format!("person{n}")).await);
    }
    people
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c07_s74_no_refresh_token_from_before_a_new_password_outlives_it_and_none_is_taken_for_theft() {
    let mut luck = Chance::of_the_test();
    let app = Arc::new(patient().spawn().await);
    let mut people = people(&app).await;
    let mut last = Vec::new();
    for _ in 0..ROUNDS {
        let sessions = sessions(&app, &people, &mut luck).await;
        let races = sessions.into_iter().map(|session| race_tabs(Arc::clone(&app), session, luck.fork()));
        last = futures_util::future::join_all(races).await;
        people = last.iter().map(|session| session.person.clone()).collect();
    }
    for person in &people {
        assert_eq!(reuses(&app, person).await, (0, 0), "a dead refresh token was taken for theft");
    }
    let app = restarted(app).await;
    for session in &last {
        assert!(app.is_live(&session.access).await, "a restart ended the session in which the password was set");
        assert!(exchange(&app, session.tokens.last().unwrap(), &mut luck).await.is_some(), "a restart lost a family");
    }
}

/// A token that was replaced long ago is used while a new password is set. Either the use comes first and is theft, and
/// the password is not set. Or the password comes first, and the use ends nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c07_s74_a_theft_and_a_new_password_at_once_are_one_of_the_two() {
    let mut luck = Chance::of_the_test();
    let app = Arc::new(patient().spawn().await);
    let mut people = people(&app).await;
    let mut thefts = [0; SIDE_BY_SIDE];
    for _ in 0..ROUNDS {
        let sessions = sessions(&app, &people, &mut luck).await;
        let races = sessions.into_iter().map(|session| {
            let (app, mut luck) = (Arc::clone(&app), luck.fork());
            async move {
                let thief = {
                    let (app, spent, mut luck) = (Arc::clone(&app), session.tokens[0].clone(), luck.fork());
                    tokio::spawn(async move {
                        for _ in 0..luck.below(8) {
                            luck.dawdle().await;
                        }
                        exchange(&app, &spent, &mut luck).await
                    })
                };
                luck.dawdle().await;
                let answer = set_password(&app, &session).await;
                assert!(thief.await.unwrap().is_none(), "a thief was served");
                if answer.status == 200 {
                    return (settle(&app, session, &answer, luck).await.person, false);
                }
                answer.assert_unauthorized("Bearer error=\"invalid_token\"");
                for token in &session.tokens {
                    assert!(exchange(&app, token, &mut luck).await.is_none(), "a family outlived a theft");
                }
                assert!(!app.is_live(&session.access).await);
                assert!(app.opens(&session.person, &session.person.password).await, "a password was set all the same");
                (session.person, true)
            }
        });
        let races = futures_util::future::join_all(races).await;
        people.clear();
        for (n, (person, stolen)) in races.into_iter().enumerate() {
            thefts[n] += usize::from(stolen);
            people.push(person);
        }
    }
    for (person, thefts) in people.iter().zip(thefts) {
        assert_eq!(reuses(&app, person).await.1, thefts, "on record once for each theft, and for nothing else");
    }
}
