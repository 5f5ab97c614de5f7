//! Logins while their account is locked, deleted or given another password, and more logins than the session cap of an
//! account.

use std::sync::Arc;

use doorward_actors::{Email, LoginAttempt, LoginError, Origin, Password};
use serde_json::json;

use super::people::{log_in, patient, restarted};
use super::witness::{Ask, Chance, Race, judge};
use crate::support::{NEW_PASSWORD, Person, TestApp};

const SIDE_BY_SIDE: usize = 6;
const ROUNDS: usize = 40;
const DOORS: usize = 3;

/// A client that logs in repeatedly with one password.
struct Comer {
    app: Arc<TestApp>,
    person: Person,
    /// The access tokens that it received.
    given: Vec<String>,
}

impl Ask for Comer {
    async fn ask(&mut self, _: &mut Chance) -> (&'static str, bool) {
        let attempt = LoginAttempt {
            email: Email::parse(&self.person.email).unwrap(),
            password: Password::new(self.person.password.clone()).unwrap(),
            remember: false,
        };
        match self.app.handles.users.login(attempt, Origin::default()).await {
            Ok(session) => self.given.push(session.access_token.expose().to_owned()),
            Err(LoginError::Incorrect) => return ("login", false),
            Err(other) => panic!("{other:?}"),
        }
        ("login", true)
    }
}

/// Closes an account to its old password by lock, deletion, password change or recovery. Returns the credentials that
/// open it later.
async fn shut(app: &TestApp, admin: &str, person: &Person, how: usize) -> Person {
    let next = if person.password == NEW_PASSWORD { "Quiet-lamp-7-tree" } else { NEW_PASSWORD };
    match how {
        0 => app.lock(admin, person.id).await,
        1 => assert_eq!(app.delete(admin, person.id).await.status, 200),
        // A password change by an admin without a passphrase would leave the account without one (c06).
        2 => app.must_change(admin, person.id, &json!({"password": next, "passphrase": person.passphrase})).await,
        _ => assert_eq!(app.recover(&person.email, &person.passphrase, next).await.status, 200),
    }
    Person { password: if how < 2 { person.password.clone() } else { next.to_owned() }, ..person.clone() }
}

async fn race(app: Arc<TestApp>, admin: String, person: Person, mut luck: Chance) -> (Person, Vec<String>) {
    let (race, how) = (Arc::new(Race::default()), luck.below(4));
    let comer = || Comer { app: Arc::clone(&app), person: person.clone(), given: Vec::new() };
    let comers: Vec<_> = (0..DOORS).map(|_| race.watch(luck.fork(), comer())).collect();
    let (span, after) = race.change(DOORS, &mut luck, shut(&app, &admin, &person, how)).await;
    let (mut seen, mut given) = (Vec::new(), Vec::new());
    for comer in comers {
        let (told, comer) = comer.await.unwrap();
        seen.extend(told);
        given.extend(comer.given);
    }
    judge(&seen, span, "an account that was shut");
    for token in &given {
        assert!(app.handles.sessions.look(token).await.is_err(), "a login opened a session of what was shut: {how}");
    }
    match how {
        0 => app.must_change(&admin, person.id, &json!({"lock": false})).await,
        1 => return (app.register(&person.nickname).await, given),
        _ => {}
    }
    (after, given)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s38_no_login_opens_an_account_that_was_shut_before_it_was_answered() {
    let mut luck = Chance::of_the_test();
    let app = Arc::new(patient().spawn().await);
    let admin = app.register("admin").await;
    let admin = log_in(&app, &admin).await.access;
    let (mut people, mut dead) = (Vec::new(), Vec::new());
    for n in 0..SIDE_BY_SIDE {
        people.push(app.register(&format!("person{n}")).await);
    }
    for _ in 0..ROUNDS {
        let races =
            people.drain(..).map(|person| tokio::spawn(race(Arc::clone(&app), admin.clone(), person, luck.fork())));
        for done in futures_util::future::join_all(races.collect::<Vec<_>>()).await {
            let (person, given) = done.unwrap();
            people.push(person);
            dead.extend(given);
        }
    }
    let app = restarted(app).await;
    for token in dead.iter().rev().take(200) {
        assert!(app.handles.sessions.look(token).await.is_err(), "a restart revived a session");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s42_however_many_log_in_at_once_no_account_has_more_sessions_than_it_may() {
    const CAP: usize = 3;
    let mut luck = Chance::of_the_test();
    let app = Arc::new(patient().with(|settings| settings.sessions.max_per_account = CAP).spawn().await);
    let mut people = Vec::new();
    for n in 0..SIDE_BY_SIDE {
        people.push(app.register(&format!("person{n}")).await);
    }
    let mut given: Vec<Vec<String>> = vec![Vec::new(); SIDE_BY_SIDE];
    for _ in 0..ROUNDS {
        let logins = (0..SIDE_BY_SIDE * 5).map(|n| {
            let (app, person, mut luck) = (Arc::clone(&app), people[n % SIDE_BY_SIDE].clone(), luck.fork());
            tokio::spawn(async move {
                luck.dawdle().await;
                log_in(&app, &person).await.access
            })
        });
        for (n, login) in futures_util::future::join_all(logins.collect::<Vec<_>>()).await.into_iter().enumerate() {
            given[n % SIDE_BY_SIDE].push(login.unwrap());
        }
        for tokens in &given {
            let mut alive = 0;
            for token in tokens {
                alive += usize::from(app.handles.sessions.look(token).await.is_ok());
            }
            assert_eq!(alive, CAP);
        }
        assert_eq!(app.handles.sessions.live(), SIDE_BY_SIDE * CAP);
    }
    let mut alive = Vec::new();
    for token in given.iter().flatten() {
        alive.push(app.handles.sessions.look(token).await.is_ok());
    }
    let app = restarted(app).await;
    for (token, was_alive) in given.iter().flatten().zip(alive) {
        assert_eq!(app.handles.sessions.look(token).await.is_ok(), was_alive, "the next start sees it otherwise");
    }
}
