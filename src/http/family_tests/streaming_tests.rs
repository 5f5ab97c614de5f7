//! Tests of answers without an early end: events, exports and the log of revocations.

use super::*;

#[tokio::test]
async fn s38_a_stream_says_that_it_lives_and_ends_with_its_session_though_nothing_happens() {
    let app = App::start(PLENTY, PLENTY).await;
    let admin = app.person("root").await;
    let request = app.client.get(format!("{}/audit/stream", app.base)).bearer_auth(admin);
    let mut stream = request.send().await.unwrap();
    let mut seen = String::new();
    while seen.matches(": alive\n\n").count() < 3 {
        seen.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
    }
    app.clock.advance(Duration::from_mins(31));
    while stream.chunk().await.unwrap().is_some() {}
}

#[tokio::test]
async fn s38_exports_that_nobody_reads_give_their_places_back_when_their_reader_may_not_read() {
    let app = App::start(PLENTY, PLENTY).await;
    let (root, admin) = (app.person("root").await, app.person("ulla").await);
    let role = json!({"role": "admin"});
    assert_eq!(app.with_token(Method::PUT, "/accounts_management/2", &root, Some(&role)).await.status, 200);
    // So many that an export does not fit into the buffers on its way.
    let record = |number: i64| AuditRecord {
        actor: AuditActorKind::Anonymous,
        origin: Origin::new(None, Some(&"x".repeat(256)), Some("y".repeat(64))),
        ..AuditRecord::new(AuditEvent::Login, Timestamp::from_millis(number))
    };
    app.store.append_audit((0..30_000).map(record).collect()).await.unwrap();
    let ask = || app.client.get(format!("{}/audit/export", app.base));
    let mut held = Vec::new();
    for _ in 0..4 {
        let unread = ask().bearer_auth(&admin).send().await.unwrap();
        assert_eq!(unread.status(), 200);
        held.push(unread);
    }
    assert_eq!(ask().bearer_auth(&root).send().await.unwrap().status(), 503);
    assert_eq!(app.with_token(Method::POST, "/logout", &admin, None).await.status, 200);
    let free = async { while ask().bearer_auth(&root).send().await.unwrap().status() == 503 {} };
    tokio::time::timeout(Duration::from_secs(30), free).await.expect("a place is held");
    for mut unread in held {
        // What was on its way arrives. Then an error follows, because a normal end would look complete.
        while unread.chunk().await.map(|chunk| assert!(chunk.is_some(), "it ended as if it were whole")).is_ok() {}
    }
}

#[tokio::test]
async fn a_quiet_stream_of_revocations_says_again_and_again_how_far_it_came() {
    let app = App::start(PLENTY, PLENTY).await;
    let admin = app.person("root").await;
    let body = json!({"name": "follower", "scopes": ["revocations"]});
    let made = app.with_token(Method::POST, "/service_tokens/", &admin, Some(&body)).await;
    let request = app.client.get(format!("{}/revocations", app.base)).header("accept", "text/event-stream");
    let mut stream = request.header("x-service-token", made.body["token"].as_str().unwrap()).send().await.unwrap();
    let mut seen = String::new();
    while seen.matches(": alive\nid: 0\n\n").count() < 3 {
        seen.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
        assert!(!seen.contains(": alive\n\n"), "{seen}");
    }
}
