//! `/health`: answers for probes and operators.

use std::time::Duration;

use doorward::settings::Settings;
use doorward_actors::HashBackendChoice;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{SERVICE_TOKEN, TestApp, members};

#[tokio::test]
async fn s72_probes_are_answered_in_a_word() {
    let app = TestApp::spawn().await;
    for slash in ["", "/"] {
        app.get(&format!("/health/live{slash}")).await.assert_body(200, &json!({"status": "ok"}));
        app.get(&format!("/health/ready{slash}")).await.assert_body(200, &json!({"status": "ready"}));
    }
}

#[tokio::test]
async fn s72_the_inside_is_shown_to_administrators_and_services_alone() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (_, user) = app.register_and_login("ann").await;
    let ask = || app.request(Method::GET, "/health/actors");
    for stranger in [
        ask(),
        ask().bearer_auth("garbage"),
        ask().bearer_auth(&user),
        ask().header("X-Service-Token", "wrong"),
        ask().header("X-Service-Token", "wrong").bearer_auth(&user),
    ] {
        app.send(stranger).await.assert_problem(404, "Not found");
    }
    for insider in [
        ask().bearer_auth(&admin),
        ask().header("X-Service-Token", SERVICE_TOKEN),
        ask().header("X-Service-Token", SERVICE_TOKEN).bearer_auth(&user),
        ask().header("X-Service-Token", "wrong").bearer_auth(&admin),
    ] {
        let answer = app.send(insider).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn the_inside_is_shown_with_all_its_parts() {
    let app = TestApp::builder().with(|settings| settings.passwords.hash_threads = 1).spawn().await;
    let admin = app.admin().await;
    app.register_and_login("ann").await;
    // Two registrations of two hashes, and two logins of one.
    assert_eq!(app.hashes().await, 6);
    app.pass(Duration::from_secs(90));
    let answer = app.call(Method::GET, "/health/actors/", &admin, &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.members(),
        [
            "actors",
            "backups",
            "feed",
            "hasher",
            "limiter",
            "log",
            "outbox",
            "problems",
            "sessions",
            "status",
            "store",
            "uptime_seconds"
        ]
    );
    let body = &answer.body;
    assert_eq!((&body["status"], &body["uptime_seconds"]), (&json!("ok"), &json!(90)));
    assert_eq!(body["sessions"], json!({"live": 2}));
    // The tests of this process do not log to standard error.
    assert_eq!(body["log"], json!({"written": 0, "dropped": 0}));
    assert_eq!(body["problems"], json!([]));
    the_store_is_shown(&body["store"]);
    let quota = |policy: &str, keys: u64| json!({"policy": policy, "keys": keys, "refused": 0});
    let quotas = json!([quota("public", 1), quota("docs", 0), quota("private", 0)]);
    assert_eq!(body["limiter"], json!({"quotas": quotas, "failures": 0}));
    assert_eq!(members(&body["feed"]), ["audit_head", "position", "readers", "revocation_head", "settled"]);
    assert_eq!(body["feed"]["position"], body["feed"]["settled"], "nothing is under way");
    assert_eq!(body["feed"]["readers"], 0);
    let mut names: Vec<&str> = Vec::new();
    for actor in body["actors"].as_array().unwrap() {
        let expected = [
            "failed",
            "handled",
            "handling",
            "last_failure",
            "last_progress",
            "last_restart",
            "last_restart_cause",
            "mailbox",
            "name",
            "oldest_message_seconds",
            "parent",
            "recent_restarts",
            "restarts",
            "state",
            "uptime_seconds",
        ];
        assert_eq!(members(actor), expected);
        assert_eq!((&actor["state"], &actor["restarts"]), (&json!("running"), &json!(0)), "{actor}");
        assert_eq!((&actor["failed"], &actor["last_failure"]), (&json!(0), &Value::Null), "{actor}");
        assert_eq!(actor["uptime_seconds"], 90, "{actor}");
        assert_eq!((&actor["mailbox"], &actor["oldest_message_seconds"]), (&json!(0), &Value::Null), "{actor}");
        let parent = if actor["name"] == "supervisor" { Value::Null } else { json!("supervisor") };
        assert_eq!(actor["parent"], parent);
        assert_eq!(actor["handling"]["count"], actor["handled"], "few messages are all timed: {actor}");
        names.push(actor["name"].as_str().unwrap());
    }
    let order = ["user", "session-0", "session-1", "rate_limiter", "keys", "services", "audit", "mailer"];
    assert_eq!(names, [&["supervisor"], &order[..]].concat(), "each actor comes after its parent");
    let hasher = &body["hasher"];
    let expected = [
        "backend",
        "breached_list_readable",
        "busy",
        "capacity",
        "done",
        "failed",
        "lanes",
        "queued",
        "refused",
        "threads",
    ];
    assert_eq!(members(hasher), expected);
    for (name, value) in [("done", 6), ("threads", 1), ("capacity", 512), ("queued", 0), ("refused", 0)] {
        assert_eq!(hasher[name], value, "{hasher}");
    }
    assert_eq!(hasher["breached_list_readable"], Value::Null);
    // Counting the hashes added one job to the lane of the logins.
    let lane = |name: &str, handled: u64| json!({"name": name, "queued": 0, "capacity": 256, "handled": handled, "refused": 0});
    assert_eq!(hasher["lanes"], json!([lane("verification", 3), lane("creation", 2)]));
}

fn the_store_is_shown(store: &Value) {
    let expected =
        ["commit", "disk_free_bytes", "disk_used_bytes", "group_size", "last_sync", "ok", "probe_ms", "waiting"];
    assert_eq!(members(store), expected);
    assert_eq!((&store["ok"], &store["waiting"]), (&json!(true), &json!(0)));
    assert!(store["commit"]["count"].as_u64().unwrap() > 4, "{store}");
    assert!(store["commit"]["p50_ms"].as_f64().unwrap() > 0.0, "{store}");
    assert!(store["group_size"]["p99"].as_u64().unwrap() > 0, "{store}");
    assert!(store["disk_used_bytes"].as_u64().unwrap() > 1000, "{store}");
    assert!(store["disk_free_bytes"].as_u64().unwrap() > 1000, "{store}");
    assert!(store["last_sync"].is_string(), "{store}");
}

#[tokio::test]
async fn s01_the_hasher_names_its_backend_and_verifies_what_the_other_hashed() {
    let directory = tempfile::TempDir::new().unwrap();
    let backends = [HashBackendChoice::Portable, HashBackendChoice::Auto, HashBackendChoice::Portable];
    let mut people = Vec::new();
    for (backend, name) in backends.into_iter().zip(["ann", "bob", "cy"]) {
        let chosen = |settings: &mut Settings| {
            settings.passwords.hash_threads = 1;
            settings.passwords.hash_backend = backend;
        };
        let app = TestApp::builder().with(chosen).data_dir(directory.path()).spawn().await;
        people.push(app.register(name).await);
        let before = app.hashes().await;
        for person in &people {
            app.login(person).await;
        }
        app.handles.tend_mail().await.unwrap();
        assert_eq!(app.hashes().await - before, people.len() as u64, "no hash is renewed for what computed it");
        let ask = app.request(Method::GET, "/health/actors").header("X-Service-Token", SERVICE_TOKEN);
        let named = app.send(ask).await.body["hasher"]["backend"].clone();
        #[cfg(target_arch = "x86_64")]
        let fast_here = std::arch::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let fast_here = named != "portable";
        let fast = backend == HashBackendChoice::Auto && fast_here;
        let possible = if fast { ["avx512", "avx2", "neon"].as_slice() } else { &["portable"] };
        assert!(possible.iter().any(|name| named == *name), "{backend:?}: {named}");
        app.stop().await.unwrap();
    }
}
