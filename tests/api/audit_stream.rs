//! `/audit/stream`: the log while it grows.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Person, TestApp};

/// A client of the stream.
struct Follower {
    response: reqwest::Response,
    text: String,
}

impl Follower {
    async fn new(app: &TestApp, token: &str, query: &str, last: Option<u64>) -> Self {
        let mut request = app.request(Method::GET, &format!("/audit/stream?{query}")).bearer_auth(token);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last.to_string());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// Returns the next event with its `id`. Skips comments. Returns `None` when the stream has ended.
    async fn next(&mut self) -> Option<(Option<u64>, Value)> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let found = field("data: ")
                    .map(|data| (field("id: ").map(|id| id.parse().unwrap()), serde_json::from_str(&data).unwrap()));
                if found.is_some() {
                    return found;
                }
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn event(&mut self) -> Value {
        let (id, event) = self.next().await.unwrap();
        assert_eq!(id, event["sequence"].as_u64());
        event
    }
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let mut all = Follower::new(&app, &admin, "", None).await;
    let mut refused = Follower::new(&app, &admin, "outcome=refused", None).await;
    assert_eq!(all.event().await["event"], "audit.followed", "it begins with itself");
    assert_eq!(all.event().await["event"], "audit.followed");
    let ann = app.register("ann").await;
    let told = all.event().await;
    assert_eq!((&told["event"], &told["subject"]), (&json!("account.registered"), &json!(ann.id)));
    app.try_login(&Person { password: "Not-the-password-1".to_owned(), ..ann }).await;
    let told = all.event().await;
    assert_eq!(told["reason"], "wrong_password");
    assert_eq!(refused.event().await, told);
    let listed = app.call(Method::GET, "/audit/?limit=1&outcome=refused", &admin, &Value::Null).await;
    assert_eq!(listed.body["events"][0], told, "the same as in a list");
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke_off_without_a_gap_while_others_write() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    let write = async {
        for _ in 0..20 {
            futures_util::future::join_all((0..5).map(|_| app.try_login(&ann))).await;
        }
        app.post("/register", &Person::named("last").registration()).await;
    };
    let read = async {
        let (mut seen, mut last) = (Vec::new(), 0);
        'connections: loop {
            let mut follower = Follower::new(&app, &admin, "", Some(last)).await;
            for _ in 0..17 {
                let event = follower.event().await;
                last = event["sequence"].as_u64().unwrap();
                seen.push(last);
                if event["event"] == "account.registered" && event["subject"] == 3 {
                    break 'connections seen;
                }
            }
        }
    };
    let ((), seen) = tokio::join!(write, read);
    assert!(seen.len() > 100);
    assert_eq!(seen, (1..=seen.last().copied().unwrap()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_learns_of_the_gap_that_a_pruning_left() {
    let directory = tempfile::TempDir::new().unwrap();
    let builder = || TestApp::builder().data_dir(directory.path());
    let small = builder().with(|settings| settings.audit.max_bytes = 2000).spawn().await;
    let admin = small.register("admin").await;
    for _ in 0..30 {
        small.login(&admin).await;
    }
    // With a larger limit, nothing more is removed while the test reads.
    let app = builder().continuing(small).await;
    let admin = app.login(&admin).await;
    let first = app.handles.audit.status().await.unwrap().checkpoint.first;
    let mut follower = Follower::new(&app, &admin, "", Some(1)).await;
    assert_eq!(follower.next().await, Some((None, json!({"first": first}))));
    assert_eq!(follower.event().await["sequence"], first);
    let mut follower = Follower::new(&app, &admin, "", Some(first - 1)).await;
    assert_eq!(follower.event().await["sequence"], first, "nothing between is missing");
}

#[tokio::test]
async fn s38_a_stream_ends_with_the_session_and_with_the_role_of_its_reader() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (second, token) = app.register_and_login("second").await;
    app.must_change(&admin, second.id, &json!({"role": "admin"})).await;
    let read_to_the_end = async |mut follower: Follower| {
        let mut events = Vec::new();
        while let Some((_, event)) = follower.next().await {
            events.push(event["event"].as_str().unwrap().to_owned());
        }
        events
    };
    let follower = Follower::new(&app, &token, "", None).await;
    app.must_change(&admin, second.id, &json!({"role": "user"})).await;
    assert!(!read_to_the_end(follower).await.contains(&"account.updated".to_owned()), "its own demotion is not told");
    app.must_change(&admin, second.id, &json!({"role": "admin"})).await;
    let follower = Follower::new(&app, &token, "", None).await;
    app.logout(&token).await;
    assert!(!read_to_the_end(follower).await.contains(&"session.logout".to_owned()));
    let token = app.login(&second).await;
    let follower = Follower::new(&app, &token, "", None).await;
    app.lock(&admin, second.id).await;
    read_to_the_end(follower).await;
}

#[tokio::test]
async fn s39_following_is_no_use_of_a_session() {
    let app = TestApp::builder()
        .with(|settings| settings.tokens.access_token_lifetime = std::time::Duration::from_hours(9))
        .spawn()
        .await;
    let admin = app.register("admin").await;
    let token = app.login(&admin).await;
    let mut follower = Follower::new(&app, &token, "", None).await;
    assert_eq!(follower.event().await["event"], "audit.followed");
    app.pass(std::time::Duration::from_mins(20));
    app.register("ann").await;
    assert_eq!(follower.event().await["event"], "account.registered");
    app.pass(std::time::Duration::from_mins(20));
    app.register("bob").await;
    assert_eq!(follower.next().await, None);
}

#[tokio::test]
async fn r11_a_stop_waits_for_no_stream() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let mut followers = Vec::new();
    for _ in 0..3 {
        followers.push(Follower::new(&app, &admin, "", None).await);
    }
    app.stop().await.unwrap();
    for mut follower in followers {
        // Each stream ends in order. A truncated answer would be an error.
        while follower.next().await.is_some() {}
    }
}

#[tokio::test]
async fn r10_streams_are_bounded_and_take_no_place_of_administrators() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let mut followers = Vec::new();
    for _ in 0..32 {
        followers.push(Follower::new(&app, &admin, "", None).await);
    }
    let answer = app.call(Method::GET, "/audit/stream", &admin, &Value::Null).await;
    answer.assert_status_problem(503);
    assert_eq!(answer.header("retry-after"), Some("60"));
    assert_eq!(app.call(Method::GET, "/accounts_management/", &admin, &Value::Null).await.status, 200);
    assert_eq!(app.call(Method::GET, "/audit/export", &admin, &Value::Null).await.status, 200);
}

#[tokio::test]
async fn s61_a_place_that_this_log_does_not_have_is_refused() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for bad in ["x", "-1", "99", "18446744073709551616"] {
        let request = app.request(Method::GET, "/audit/stream").bearer_auth(&admin).header("Last-Event-ID", bad);
        let answer = app.send(request).await;
        answer.assert_status_problem(422);
        assert_eq!(answer.pointers(), ["Last-Event-ID"], "{bad}");
    }
    let answer = app.call(Method::GET, "/audit/stream?actor=x", &admin, &Value::Null).await;
    assert_eq!(answer.pointers(), ["?actor"]);
}
