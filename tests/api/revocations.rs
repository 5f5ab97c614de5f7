//! `/revocations`: the feed for services that verify tokens offline.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Answer, NEW_PASSWORD, Person, TestApp, within};
use doorward_actors::SigningAlgorithm;

/// A service that follows the feed.
struct Feed<'a> {
    app: &'a TestApp,
    secret: String,
}

impl<'a> Feed<'a> {
    async fn new(app: &'a TestApp, admin: &str) -> Self {
        Self { app, secret: app.service_token(admin, "follower", &["revocations"]).await.1 }
    }

    fn request(&self, query: &str) -> reqwest::RequestBuilder {
        self.app.request(Method::GET, &format!("/revocations{query}")).header("X-Service-Token", &self.secret)
    }

    async fn get(&self, query: &str) -> Answer {
        within(self.app.send(self.request(query))).await
    }

    async fn page(&self, query: &str) -> (String, Vec<Value>) {
        let answer = self.get(query).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let events = answer.body["events"].as_array().unwrap().clone();
        (answer.body["cursor"].as_str().unwrap().to_owned(), events)
    }

    async fn cursor(&self) -> String {
        let (cursor, events) = self.page("").await;
        assert_eq!(events, Vec::<Value>::new());
        cursor
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

async fn session_of(app: &TestApp, token: &str) -> String {
    app.handles.sessions.look(token).await.unwrap().session.to_string()
}

#[tokio::test]
async fn every_end_of_a_session_and_every_change_that_matters_is_told_in_order() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.sessions.max_per_account = 2;
            settings.sessions.idle_timeout = Duration::from_mins(10);
        })
        .spawn()
        .await;
    let admin = app.admin().await;
    let feed = Feed::new(&app, &admin).await;
    let (ann, token) = app.register_and_login("ann").await;
    let mut cursor = feed.cursor().await;
    let mut next = async |expected: &[&str]| {
        app.handles.tend_sessions().await.unwrap();
        let (after, events) = feed.page(&format!("?after={cursor}")).await;
        assert_eq!(kinds(&events), expected, "{events:?}");
        assert!(events.iter().all(|event| event["at"].is_string()));
        cursor = after;
        events
    };
    let sid = session_of(&app, &token).await;
    assert_eq!(app.logout(&token).await.status, 200);
    let told = next(&["session_ended"]).await;
    assert_eq!(
        told[0],
        json!({"kind": "session_ended", "session_id": sid, "account_id": ann.id,
        "at": "2025-01-01T00:00:00.000Z"})
    );

    let first = session_of(&app, &app.login(&ann).await).await;
    app.pass(Duration::from_secs(1));
    app.login(&ann).await;
    app.login(&ann).await;
    assert_eq!(next(&["session_ended"]).await[0]["session_id"], first, "it made room");

    app.must_change(&admin, ann.id, &json!({"role": "admin"})).await;
    let told = next(&["role_changed"]).await;
    assert_eq!((&told[0]["role"], &told[0]["session_id"]), (&json!("admin"), &Value::Null));
    app.must_change(&admin, ann.id, &json!({"role": "user", "nickname": "anna"})).await;
    next(&["role_changed"]).await;
    app.must_change(&admin, ann.id, &json!({"nickname": "ann"})).await;
    next(&[]).await;

    let keeps = app.login(&ann).await;
    next(&["session_ended"]).await;
    let change = json!({"password": NEW_PASSWORD, "current_password": ann.password});
    assert_eq!(app.change_own(&keeps, &change).await.status, 200);
    assert_ne!(next(&["session_ended"]).await[0]["session_id"], session_of(&app, &keeps).await, "not the own one");

    app.lock(&admin, ann.id).await;
    next(&["session_ended", "account_locked"]).await;
    app.must_change(&admin, ann.id, &json!({"lock": false})).await;
    next(&[]).await;
    app.pass(Duration::from_mins(5));
    let (bob, _) = app.register_and_login("bob").await;
    assert!(app.is_live(&admin).await);
    assert_eq!(app.delete(&admin, bob.id).await.status, 200);
    next(&["session_ended", "account_deleted"]).await;
    let (_, idle) = app.register_and_login("cyd").await;
    let idle = session_of(&app, &idle).await;
    app.pass(Duration::from_mins(6));
    assert!(app.is_live(&admin).await);
    app.pass(Duration::from_mins(5));
    assert_eq!(next(&["session_ended"]).await[0]["session_id"], idle);
}

#[tokio::test]
async fn s43_a_reader_is_told_that_every_key_was_replaced() {
    let app = TestApp::builder().with(|settings| settings.tokens.algorithm = SigningAlgorithm::EdDsa).spawn().await;
    let admin = app.admin().await;
    let feed = Feed::new(&app, &admin).await;
    let cursor = feed.cursor().await;
    let rotate = async |body: Value| app.call(Method::POST, "/keys/rotate", &admin, &body).await;
    assert_eq!(rotate(json!({})).await.status, 200);
    assert_eq!(feed.page(&format!("?after={cursor}")).await.1, Vec::<Value>::new(), "an honest change ends nothing");

    // A client that learns of the event finds only the new key set published.
    let query = format!("?after={cursor}&wait=30");
    let told = async {
        let soon = tokio::time::timeout(Duration::from_secs(20), feed.page(&query)).await.unwrap();
        (soon, app.get("/.well-known/jwks.json").await)
    };
    let (((_, events), keys), rotated) = tokio::join!(told, async {
        tokio::task::yield_now().await;
        rotate(json!({"compromised": true})).await
    });
    let expected =
        json!([{"kind": "keys_replaced", "session_id": null, "account_id": null, "at": "2025-01-01T00:00:00.000Z"}]);
    assert_eq!(Value::from(events), expected);
    let kids = |keys: &Value| keys.as_array().unwrap().iter().map(|key| key["kid"].clone()).collect::<Vec<_>>();
    assert_eq!(kids(&keys.body["keys"]), [rotated.body["kid"].clone()], "{rotated:?}");
}

#[tokio::test]
async fn a_reader_that_waits_hears_of_it_at_once() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let feed = Feed::new(&app, &admin).await;
    let (_, token) = app.register_and_login("ann").await;
    let sid = session_of(&app, &token).await;
    let cursor = feed.cursor().await;
    let query = format!("?after={cursor}&wait=30");
    // Far more time than needed, and less than the 24 seconds of a poll without events.
    let soon = tokio::time::timeout(Duration::from_secs(20), feed.page(&query));
    let (told, ()) = tokio::join!(soon, async {
        tokio::task::yield_now().await;
        assert_eq!(app.logout(&token).await.status, 200);
    });
    assert_eq!(told.unwrap().1[0]["session_id"], sid);
    assert_eq!(feed.page(&query).await.1.len(), 1, "nor does it wait for what is there");
}

#[tokio::test]
async fn a_stream_tells_what_happens_and_goes_on_where_it_broke_off() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let feed = Feed::new(&app, &admin).await;
    let ann = app.register("ann").await;
    let mut ended = HashSet::new();
    let (mut seen, mut last) = (Vec::new(), None::<String>);
    for _ in 0..4 {
        let mut request = feed.request("?after=start").header("Accept", "text/event-stream");
        if let Some(last) = &last {
            request = request.header("Last-Event-ID", last);
        }
        let mut response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        let mut text = String::new();
        for _ in 0..3 {
            let token = app.login(&ann).await;
            ended.insert(session_of(&app, &token).await);
            assert_eq!(app.logout(&token).await.status, 200);
        }
        while text.matches("data: ").count() < 3 || !text.ends_with("\n\n") {
            let chunk = within(response.chunk()).await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        for line in text.lines() {
            if let Some(id) = line.strip_prefix("id: ") {
                last = Some(id.to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                let event: Value = serde_json::from_str(data).unwrap();
                seen.push(event["session_id"].as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(seen.len(), 12, "each once");
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), ended);
}

#[tokio::test]
async fn a_stream_that_breaks_off_before_its_first_event_misses_nothing() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let feed = Feed::new(&app, &admin).await;
    let (_, token) = app.register_and_login("ann").await;
    let sid = session_of(&app, &token).await;
    let stream = || feed.request("").header("Accept", "text/event-stream");
    let mut response = stream().send().await.unwrap();
    let first = within(response.chunk()).await.unwrap().unwrap();
    let cursor = std::str::from_utf8(&first).unwrap().strip_prefix("id: ").unwrap().trim_end().to_owned();
    drop(response);
    assert_eq!(app.logout(&token).await.status, 200);
    let mut response = stream().header("Last-Event-ID", cursor).send().await.unwrap();
    let mut text = String::new();
    while !text.contains("data: ") {
        text.push_str(std::str::from_utf8(&within(response.chunk()).await.unwrap().unwrap()).unwrap());
    }
    assert!(text.contains(&sid), "{text}");
}

#[tokio::test]
async fn one_service_does_not_take_the_places_of_the_others() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let greedy = Feed::new(&app, &admin).await;
    let other = Feed { app: &app, secret: app.service_token(&admin, "other", &["revocations"]).await.1 };
    let stream = |feed: &Feed<'_>| feed.request("").header("Accept", "text/event-stream").send();
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(stream(&greedy).await.unwrap());
        assert_eq!(open.last().unwrap().status(), 200);
    }
    let cursor = greedy.cursor().await;
    let refused = greedy.get(&format!("?after={cursor}&wait=30")).await;
    refused.assert_status_problem(503);
    assert_eq!(refused.header("retry-after"), Some("60"));
    assert_eq!(stream(&greedy).await.unwrap().status(), 503);
    assert_eq!(stream(&other).await.unwrap().status(), 200);
}

/// Numbers are assigned again after a restore. A client that saw the first ones must not miss the new ones.
#[tokio::test]
async fn s37_a_cursor_from_before_a_backup_was_restored_is_told() {
    let (directory, backup) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let begin = || TestApp::builder().data_dir(directory.path());
    let app = begin().spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    let secret = Feed::new(&app, &admin).await.secret;
    end(&app, &ann).await;
    let feed = Feed { app: &app, secret: secret.clone() };
    let common = feed.cursor().await;
    app.stop().await.unwrap();
    copy(directory.path(), backup.path());

    let app = begin().spawn().await;
    end(&app, &ann).await;
    end(&app, &ann).await;
    let lost = Feed { app: &app, secret: secret.clone() }.cursor().await;
    app.stop().await.unwrap();
    std::fs::remove_dir_all(directory.path()).unwrap();
    copy(backup.path(), directory.path());

    let app = begin().spawn().await;
    let feed = Feed { app: &app, secret };
    assert_eq!(feed.get(&format!("?after={lost}")).await.pointers(), ["?after"]);
    let mut ended = Vec::new();
    for _ in 0..3 {
        ended.push(end(&app, &ann).await);
    }
    let gone = "Revocations after this cursor are gone: begin again with after=start";
    feed.get(&format!("?after={lost}")).await.assert_problem(410, gone);
    let number = lost.split('-').next().unwrap();
    feed.get(&format!("?after={number}")).await.assert_problem(410, gone);
    let stream = app.send(feed.request("").header("Accept", "text/event-stream").header("Last-Event-ID", lost)).await;
    assert_eq!(stream.status, 410);
    // A cursor from the part that both logs share is still valid.
    let (_, events) = feed.page(&format!("?after={common}")).await;
    assert_eq!(events.iter().map(|event| event["session_id"].as_str().unwrap()).collect::<Vec<_>>(), ended);
}

/// Logs in and out. Returns the id of the ended session.
async fn end(app: &TestApp, person: &Person) -> String {
    let token = app.login(person).await;
    let session = session_of(app, &token).await;
    assert_eq!(app.logout(&token).await.status, 200);
    session
}

/// Copies a directory with its content.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &there);
        } else {
            std::fs::copy(entry.path(), there).unwrap();
        }
    }
}

#[tokio::test]
async fn the_log_is_kept_for_as_long_as_a_token_may_live_and_a_lost_cursor_is_told() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.tokens.access_token_lifetime = Duration::from_mins(20);
            settings.sessions.idle_timeout = Duration::from_hours(10);
        })
        .spawn()
        .await;
    let admin_person = {
        app.admin().await;
        Person::named("admin")
    };
    let admin = app.login(&admin_person).await;
    let feed = Feed::new(&app, &admin).await;
    let (_, old) = app.register_and_login("ann").await;
    let before = feed.cursor().await;
    assert_eq!(app.logout(&old).await.status, 200);
    app.pass(Duration::from_mins(1));
    app.handles.tend_services().await.unwrap();
    app.pass(Duration::from_mins(14));
    let (_, young) = app.register_and_login("bob").await;
    let sid = session_of(&app, &young).await;
    assert_eq!(app.logout(&young).await.status, 200);
    let newest = feed.cursor().await;
    app.handles.tend_services().await.unwrap();
    assert_eq!(feed.page(&format!("?after={before}")).await.1.len(), 2, "its token could still be alive");

    app.pass(Duration::from_mins(7));
    app.handles.tend_services().await.unwrap();
    feed.get(&format!("?after={before}"))
        .await
        .assert_problem(410, "Revocations after this cursor are gone: begin again with after=start");
    let stream = feed.request(&format!("?after={before}")).header("Accept", "text/event-stream");
    assert_eq!(app.send(stream).await.status, 410);
    let (cursor, snapshot) = feed.page("?after=start").await;
    assert_eq!(snapshot.iter().map(|event| &event["session_id"]).collect::<Vec<_>>(), [&json!(sid)]);
    assert_eq!(cursor, newest, "and on from there");
    assert_eq!(feed.page(&format!("?after={newest}")).await.1, Vec::<Value>::new());

    let future = newest.split('-').next().unwrap().parse::<u64>().unwrap() + 1;
    for odd in [future.to_string(), "x".to_owned(), "-1".to_owned(), u64::MAX.to_string()] {
        assert_eq!(feed.get(&format!("?after={odd}")).await.pointers(), ["?after"], "{odd}");
    }
    assert_eq!(feed.get("?wait=31").await.pointers(), ["?wait"]);
}

#[tokio::test]
async fn r05_a_clock_that_steps_ahead_and_is_put_right_makes_no_dead_token_good_again() {
    const HOUR: Duration = Duration::from_hours(1);
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let secret = Feed::new(&app, &admin).await.secret;
    let (_, token) = app.register_and_login("ann").await;
    let sid = session_of(&app, &token).await;
    assert_eq!(app.logout(&token).await.status, 200);
    app.pass(Duration::from_mins(5));
    app.handles.tend_services().await.unwrap();
    app.clock.set_forward(HOUR);
    app.handles.tend_services().await.unwrap();
    // A start while the clock is wrong removes nothing either.
    let app = app.restart().await;
    app.handles.tend_services().await.unwrap();
    app.clock.set_back(HOUR);
    let feed = Feed { app: &app, secret };
    let named = async || feed.page("?after=start").await.1.iter().any(|event| event["session_id"] == sid);
    assert!(named().await);
    app.pass(HOUR);
    app.handles.tend_services().await.unwrap();
    assert!(!named().await, "all its tokens are over");
}

#[tokio::test]
async fn a_restart_loses_nothing_and_reuses_no_number() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let secret = Feed::new(&app, &admin).await.secret;
    let (ann, token) = app.register_and_login("ann").await;
    assert_eq!(app.logout(&token).await.status, 200);
    let app = app.restart().await;
    let feed = Feed { app: &app, secret };
    let (cursor, events) = feed.page("?after=start").await;
    assert_eq!(events.len(), 1);
    let token = app.login(&ann).await;
    assert_eq!(app.logout(&token).await.status, 200);
    let (_, events) = feed.page(&format!("?after={cursor}")).await;
    assert_eq!(kinds(&events), ["session_ended"]);
}

#[tokio::test]
async fn s38_a_stream_ends_with_the_token_of_its_reader() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (id, secret) = app.service_token(&admin, "follower", &["revocations"]).await;
    let (_, token) = app.register_and_login("ann").await;
    let feed = Feed { app: &app, secret };
    let mut response = feed.request("").header("Accept", "text/event-stream").send().await.unwrap();
    let revoke = app.call(Method::DELETE, &format!("/service_tokens/{id}"), &admin, &Value::Null).await;
    assert_eq!(revoke.status, 204);
    assert_eq!(app.logout(&token).await.status, 200);
    let mut text = String::new();
    while let Some(chunk) = within(response.chunk()).await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(!text.contains("data:"), "{text}");
    assert_eq!(feed.get("").await.status, 401);
}

#[tokio::test]
async fn r11_a_stop_waits_for_no_reader() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let feed = Feed::new(&app, &admin).await;
    let cursor = feed.cursor().await;
    let waiting = feed.request(&format!("?after={cursor}&wait=30"));
    let waiting = tokio::spawn(waiting.send());
    let stream = feed.request("").header("Accept", "text/event-stream").send().await.unwrap();
    assert_eq!(stream.status(), 200);
    drop(feed);
    within(app.stop()).await.unwrap();
    drop(waiting.await);
}

#[tokio::test]
async fn s37_no_reader_is_told_late_or_never_while_many_sessions_end_at_once() {
    // Concurrent logins count as failed until they succeed.
    let app = TestApp::builder().with(|settings| settings.limits.login_failures = 100).spawn().await;
    let admin = app.admin().await;
    let feed = Feed::new(&app, &admin).await;
    let ann = app.register("ann").await;
    let mut cursor = feed.cursor().await;
    for _ in 0..10 {
        let tokens = futures_util::future::join_all((0..8).map(|_| app.login(&ann))).await;
        let sids: HashSet<_> = futures_util::future::join_all(tokens.iter().map(|token| session_of(&app, token)))
            .await
            .into_iter()
            .collect();
        let answers = futures_util::future::join_all(tokens.iter().map(|token| app.logout(token))).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        // An acknowledged end is in the feed, because both are written in the same commit.
        let (after, events) = feed.page(&format!("?after={cursor}")).await;
        let told: HashSet<_> = events.iter().map(|event| event["session_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(told, sids);
        cursor = after;
    }
}
