//! Token checks and refreshes while a session ends, in each possible way.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::people::{Asker, Held, Refresher, exchange, is_alive, log_in, patient, restarted, session_of};
use super::witness::{Chance, Race, Seen, judge};
use crate::support::{NEW_PASSWORD, Person, TestApp};

/// The number of sessions that end concurrently, each with its own race, so that their ends share commits.
const SIDE_BY_SIDE: usize = 8;
/// The number of rounds.
const ROUNDS: usize = 20;
/// The number of concurrent checks of one session's access token.
const ASKERS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Logout,
    LogoutByRefresh,
    OwnerEndsOne,
    OwnerEndsOthers,
    AdminEndsOne,
    AdminEndsAll,
    Service,
    Lock,
    Delete,
    OwnPassword,
    AdminPassword,
    Recovery,
    Reuse,
    Eviction,
}

/// A person whose session ends in each round.
struct Subject {
    person: Person,
    held: Held,
    /// A refresh token of the session that was replaced long ago.
    spent: String,
    /// Another session of the same account.
    elsewhere: Option<Held>,
}

struct Scene {
    app: Arc<TestApp>,
    admin: Person,
    revoker: String,
}

impl Scene {
    async fn new(how: End) -> Self {
        let cap = if how == End::Eviction { 1 } else { 1000 };
        let app = patient().with(|settings| settings.sessions.max_per_account = cap).spawn().await;
        let admin = app.register("admin").await;
        let token = app.login(&admin).await;
        let (_, revoker) = app.service_token(&token, "revoker", &["revoke"]).await;
        Self { app: Arc::new(app), admin, revoker }
    }

    /// Logs people in, exchanges the first refresh token of each and waits until its grace period has expired.
    async fn prepare(&self, people: &[Person], how: End, luck: &mut Chance) -> Vec<Subject> {
        let prepare = async |person: &Person, mut luck: Chance| {
            let first = log_in(&self.app, person).await;
            let elsewhere = if how == End::Eviction { None } else { Some(log_in(&self.app, person).await) };
            let held = exchange(&self.app, &first.refresh, &mut luck).await.unwrap();
            Subject { person: person.clone(), held, spent: first.refresh, elsewhere }
        };
        let subjects = futures_util::future::join_all(people.iter().map(|person| prepare(person, luck.fork()))).await;
        self.app.pass(Duration::from_secs(11));
        subjects
    }

    /// Ends the session of a subject and returns the account after that.
    async fn end(&self, how: End, subject: &Subject, admin: &str) -> Person {
        let (app, held, mut person) = (&self.app, &subject.held, subject.person.clone());
        let id = person.id;
        let elsewhere = || &subject.elsewhere.as_ref().unwrap().access;
        let delete = async |path: &str, token: &str| {
            let answer = app.call(Method::DELETE, path, token, &Value::Null).await;
            assert_eq!(answer.status, 204, "{how:?}: {answer:?}");
        };
        let next = if person.password == NEW_PASSWORD { "Quiet-lamp-7-tree" } else { NEW_PASSWORD };
        match how {
            End::Logout => assert_eq!(app.logout(&held.access).await.status, 200),
            End::LogoutByRefresh => {
                let answer = app.post("/logout", &json!({"refresh_token": held.refresh})).await;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
            End::OwnerEndsOne | End::AdminEndsOne => {
                let session = session_of(app, &held.access).await;
                if how == End::OwnerEndsOne {
                    delete(&format!("/my_account/sessions/{session}"), elsewhere()).await;
                } else {
                    delete(&format!("/accounts_management/{id}/sessions/{session}"), admin).await;
                }
            }
            End::OwnerEndsOthers => delete("/my_account/sessions", elsewhere()).await,
            End::AdminEndsAll => delete(&format!("/accounts_management/{id}/sessions"), admin).await,
            End::Service => {
                let form = app.form("/oauth2/revoke", &format!("token={}", held.access));
                assert_eq!(app.send(form.header("X-Service-Token", &self.revoker)).await.status, 200);
            }
            End::Lock => app.lock(admin, id).await,
            End::Delete => assert_eq!(app.delete(admin, id).await.status, 200),
            End::OwnPassword => {
                let answer = app.change_own(elsewhere(), &json!({"password": next})).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                next.clone_into(&mut person.password);
            }
            End::AdminPassword => {
                app.must_change(admin, id, &json!({"password": next})).await;
                next.clone_into(&mut person.password);
            }
            End::Recovery => {
                let answer = app.recover(&person.email, &person.passphrase, next).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                next.clone_into(&mut person.password);
            }
            End::Reuse => {
                let answer = app.post("/refresh", &json!({"refresh_token": subject.spent})).await;
                assert_eq!(answer.status, 401, "{answer:?}");
            }
            End::Eviction => drop(log_in(app, &person).await),
        }
        person
    }

    /// Restores an account to its state before its session ended.
    async fn restore(&self, how: End, person: Person, admin: &str) -> Person {
        match how {
            End::Lock => self.app.must_change(admin, person.id, &json!({"lock": false})).await,
            End::Delete => return self.app.register(&person.nickname).await,
            _ => {}
        }
        person
    }

    /// Ends the session of one subject during concurrent checks and a concurrent refresh.
    async fn race(&self, how: End, subject: &Subject, admin: &str, mut luck: Chance) -> Person {
        let race = Arc::new(Race::default());
        let mut askers = Vec::new();
        for _ in 0..ASKERS {
            let asker = Asker { app: Arc::clone(&self.app), token: subject.held.access.clone(), uses: true };
            askers.push(race.watch(luck.fork(), asker));
        }
        let refresher = Refresher { app: Arc::clone(&self.app), held: subject.held.clone(), given: Vec::new() };
        let refresher = race.watch(luck.fork(), refresher);
        let (span, person) = race.change(ASKERS + 1, &mut luck, self.end(how, subject, admin)).await;
        let mut seen: Vec<Seen> = Vec::new();
        for asker in askers {
            seen.extend(asker.await.unwrap().0);
        }
        let (exchanges, Refresher { given, .. }) = refresher.await.unwrap();
        let what = format!("{how:?}");
        judge(&exchanges, span, &what);
        if how == End::Reuse {
            // A reuse ends the family a moment before the session's shard learns of it, so refreshes and token checks
            // are judged apart.
            judge(&seen, span, &what);
        } else {
            seen.extend(exchanges);
            judge(&seen, span, &what);
        }
        for token in given {
            assert!(!is_alive(&self.app, &token, true, &mut luck).await.1, "{how:?}: a refresh outlived the end");
        }
        person
    }
}

async fn run(how: End) {
    let mut luck = Chance::of_the_test();
    let scene = Scene::new(how).await;
    let mut people = Vec::new();
    for n in 0..SIDE_BY_SIDE {
        people.push(scene.app.register(&format!("person{n}")).await);
    }
    let (mut ended, mut kept) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let subjects = scene.prepare(&people, how, &mut luck).await;
        let admin = log_in(&scene.app, &scene.admin).await.access;
        let races = subjects.iter().map(|subject| scene.race(how, subject, &admin, luck.fork()));
        people = futures_util::future::join_all(races).await;
        // The other sessions continue if this end concerns only one session.
        let spares = matches!(how, End::Logout | End::LogoutByRefresh | End::OwnerEndsOne | End::OwnerEndsOthers)
            || matches!(how, End::AdminEndsOne | End::Service | End::OwnPassword | End::Reuse);
        kept.clear();
        for subject in subjects {
            if let Some(elsewhere) = subject.elsewhere {
                assert_eq!(scene.app.is_live(&elsewhere.access).await, spares, "{how:?}");
                kept.push(elsewhere.access);
            }
            ended.push(subject.held);
        }
        let restored = people.into_iter().map(|person| scene.restore(how, person, &admin));
        people = futures_util::future::join_all(restored).await;
        assert!(scene.app.is_live(&admin).await);
    }
    // A restart revives nothing.
    let app = restarted(scene.app).await;
    for held in ended.iter().rev().take(200) {
        assert!(app.handles.sessions.look(&held.access).await.is_err(), "{how:?}: a restart revived a session");
        assert!(exchange(&app, &held.refresh, &mut luck).await.is_none(), "{how:?}: a restart revived a token");
    }
    let spares = matches!(how, End::Logout | End::OwnerEndsOthers | End::OwnPassword);
    for token in kept.iter().filter(|_| spares) {
        assert!(app.is_live(token).await, "{how:?}: a restart ended a session");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s37_no_check_and_no_refresh_outlives_a_logout() {
    run(End::Logout).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s37_no_check_and_no_refresh_outlives_a_logout_by_refresh_token() {
    run(End::LogoutByRefresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s37_no_check_and_no_refresh_outlives_a_revocation_by_a_service() {
    run(End::Service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s37_no_check_and_no_refresh_outlives_the_reuse_of_a_refresh_token() {
    run(End::Reuse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s38_no_check_and_no_refresh_outlives_a_lock() {
    run(End::Lock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s38_no_check_and_no_refresh_outlives_a_deletion() {
    run(End::Delete).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s38_no_check_and_no_refresh_outlives_a_new_password() {
    run(End::OwnPassword).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s38_no_check_and_no_refresh_outlives_a_password_set_by_an_administrator() {
    run(End::AdminPassword).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s38_no_check_and_no_refresh_outlives_a_recovery() {
    run(End::Recovery).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s41_no_check_and_no_refresh_outlives_its_end_by_the_owner() {
    run(End::OwnerEndsOne).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s41_no_check_and_no_refresh_outlives_the_end_of_all_others() {
    run(End::OwnerEndsOthers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s41_no_check_and_no_refresh_outlives_its_end_by_an_administrator() {
    run(End::AdminEndsOne).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s41_no_check_and_no_refresh_outlives_the_end_of_all_by_an_administrator() {
    run(End::AdminEndsAll).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s42_no_check_and_no_refresh_outlives_an_eviction() {
    run(End::Eviction).await;
}
