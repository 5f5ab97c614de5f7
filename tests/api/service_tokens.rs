//! `/service_tokens`: creation, rotation and revocation.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Person, TestApp, members};

async fn verify_with(app: &TestApp, secret: &str, token: &str) -> Answer {
    app.send(app.request(Method::POST, "/verify").header("X-Service-Token", secret).bearer_auth(token)).await
}

async fn list(app: &TestApp, admin: &str) -> Vec<Value> {
    let answer = app.call(Method::GET, "/service_tokens/", admin, &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["next"], Value::Null);
    answer.body["service_tokens"].as_array().unwrap().clone()
}

async fn rotate(app: &TestApp, admin: &str, id: u64, body: &Value) -> Answer {
    app.call(Method::POST, &format!("/service_tokens/{id}/rotate"), admin, body).await
}

async fn revoke(app: &TestApp, admin: &str, id: u64) -> Answer {
    app.call(Method::DELETE, &format!("/service_tokens/{id}"), admin, &Value::Null).await
}

#[tokio::test]
async fn s50_a_token_is_shown_once_and_works_until_it_is_revoked() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (_, user) = app.register_and_login("ann").await;
    let body = json!({"name": "billing", "scopes": ["metrics", "verify", "verify"]});
    let made = app.call(Method::POST, "/service_tokens/", &admin, &body).await;
    let secret = made.body["token"].as_str().unwrap().to_owned();
    made.assert_body(
        201,
        &json!({"id": 1, "name": "billing", "scopes": ["verify", "metrics"], "expires_at": null,
        "replaced_until": null, "token": secret}),
    );
    assert!(secret.starts_with("dws_") && secret.len() == 53, "{secret}");
    assert_eq!(verify_with(&app, &secret, &user).await.status, 200);
    let listed = list(&app, &admin).await;
    assert_eq!(
        listed[0],
        json!({"id": 0, "name": "default", "scopes": ["verify", "introspect", "metrics"],
        "created_at": null, "expires_at": null, "replaced_until": null, "last_used_at": null})
    );
    assert_eq!(listed[1]["last_used_at"], "2025-01-01T00:00:00.000Z");
    assert_eq!(
        members(&listed[1]),
        ["created_at", "expires_at", "id", "last_used_at", "name", "replaced_until", "scopes"]
    );

    let app = app.restart().await;
    assert_eq!(verify_with(&app, &secret, &user).await.status, 200, "it outlives a restart");
    let gone = revoke(&app, &admin, 1).await;
    assert_eq!((gone.status, &*gone.text), (204, ""));
    verify_with(&app, &secret, &user).await.assert_problem(404, "Not found");
    revoke(&app, &admin, 1).await.assert_problem(404, "Service token with id 1 not found");
    rotate(&app, &admin, 1, &Value::Null).await.assert_problem(404, "Service token with id 1 not found");
    assert_eq!(list(&app, &admin).await.len(), 1);
    let app = app.restart().await;
    assert_eq!(verify_with(&app, &secret, &user).await.status, 404, "it stays dead");
    assert_eq!(app.service_token(&admin, "billing", &["verify"]).await.0, 2, "a name is free again, a number is not");
}

#[tokio::test]
async fn s50_a_rotated_token_overlaps_with_its_successor_for_as_long_as_it_was_told() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.sessions.idle_timeout = Duration::from_hours(500);
            settings.tokens.access_token_lifetime = Duration::from_hours(500);
        })
        .spawn()
        .await;
    let admin = app.admin().await;
    let works = async |secret: &str| verify_with(&app, secret, &admin).await.status == 200;
    let (id, first) = app.service_token(&admin, "billing", &["verify"]).await;
    let rotated = rotate(&app, &admin, id, &Value::Null).await;
    assert_eq!((rotated.status, &rotated.body["replaced_until"]), (200, &json!("2025-01-02T00:00:00.000Z")));
    let second = rotated.body["token"].as_str().unwrap().to_owned();
    assert!(works(&first).await && works(&second).await);
    app.pass(Duration::from_hours(24) - Duration::from_millis(1));
    assert!(works(&first).await);
    app.pass(Duration::from_millis(1));
    assert!(!works(&first).await && works(&second).await);

    let admin = app.login(&Person::named("admin")).await;
    let third = rotate(&app, &admin, id, &json!({"overlap_seconds": 60})).await.body["token"].clone();
    let third = third.as_str().unwrap();
    assert!(works(&second).await && works(third).await);
    // A second rotation ends the overlap of the previous secret at once.
    let fourth = rotate(&app, &admin, id, &json!({"overlap_seconds": 0})).await.body["token"].clone();
    let fourth = fourth.as_str().unwrap();
    assert!(!works(&second).await && !works(third).await && works(fourth).await);
    for body in [json!({"overlap_seconds": 2_592_001}), json!({"overlap_seconds": -1}), json!({"overlap": 1})] {
        assert_eq!(rotate(&app, &admin, id, &body).await.status, 422, "{body}");
    }
    revoke(&app, &admin, id).await;
    assert!(!works(fourth).await);
}

#[tokio::test]
async fn s50_a_token_ends_at_its_time() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let body = json!({"name": "short", "scopes": ["verify"], "expires_at": "2025-01-01T01:10:00+01:00"});
    let made = app.call(Method::POST, "/service_tokens/", &admin, &body).await;
    assert_eq!(made.body["expires_at"], "2025-01-01T00:10:00.000Z");
    let secret = made.body["token"].as_str().unwrap();
    let rotated = rotate(&app, &admin, 1, &Value::Null).await;
    assert_eq!(rotated.body["replaced_until"], "2025-01-01T00:10:00.000Z", "no longer than the token itself");
    app.pass(Duration::from_mins(10) - Duration::from_millis(1));
    assert_eq!(verify_with(&app, secret, &admin).await.status, 200);
    app.pass(Duration::from_millis(1));
    assert_eq!(verify_with(&app, secret, &admin).await.status, 404);
    rotate(&app, &admin, 1, &Value::Null).await.assert_problem(400, "This service token is over");
    let past = json!({"name": "past", "scopes": ["verify"], "expires_at": "2025-01-01T00:10:00Z"});
    let refused = app.call(Method::POST, "/service_tokens/", &admin, &past).await;
    refused.assert_problem(400, "A service token must end in the future");
}

#[tokio::test]
async fn what_cannot_be_a_token_is_refused_and_named() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let create = async |body: Value| app.call(Method::POST, "/service_tokens/", &admin, &body).await;
    assert_eq!(create(json!({"name": "\n", "scopes": ["root"]})).await.pointers(), ["/name", "/scopes/0"]);
    assert_eq!(create(json!({"name": "a", "scopes": []})).await.pointers(), ["/scopes"]);
    assert_eq!(create(json!({"name": "a", "scopes": "verify"})).await.pointers(), ["/scopes"]);
    assert_eq!(create(json!({"name": "a"})).await.pointers(), ["/scopes"]);
    assert_eq!(create(json!({"name": "a", "scopes": ["verify"], "token": "mine"})).await.pointers(), ["/token"]);
    for taken in ["default", "present"] {
        app.service_token(&admin, &format!("not {taken}"), &["verify"]).await;
        if taken == "present" {
            app.service_token(&admin, taken, &["verify"]).await;
        }
        let refused = create(json!({"name": taken, "scopes": ["verify"]})).await;
        refused.assert_problem(400, "A service token with this name exists already");
    }
    let built_in = "This service token is changed in the settings (SERVICE_TOKEN)";
    rotate(&app, &admin, 0, &Value::Null).await.assert_problem(400, built_in);
    revoke(&app, &admin, 0).await.assert_problem(400, built_in);
    let odd = app.call(Method::DELETE, "/service_tokens/x", &admin, &Value::Null).await;
    assert_eq!(odd.pointers(), ["/id"]);
}

#[tokio::test]
async fn s50_the_store_holds_no_secret_of_a_service() {
    fn contents(directory: &Path) -> Vec<Vec<u8>> {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() { contents(&path) } else { vec![std::fs::read(path).unwrap()] })
            .collect()
    }
    let directory = tempfile::tempdir().unwrap();
    let app = TestApp::builder().data_dir(directory.path()).spawn().await;
    let admin = app.admin().await;
    let (id, first) = app.service_token(&admin, "visible-name", &["verify"]).await;
    let second = rotate(&app, &admin, id, &Value::Null).await.body["token"].as_str().unwrap().to_owned();
    app.stop().await.unwrap();
    let stored = contents(directory.path());
    let holds = |needle: &str| stored.iter().any(|file| file.windows(needle.len()).any(|at| at == needle.as_bytes()));
    assert!(holds("visible-name"), "the data is not where it was looked for");
    for secret in [first, second] {
        assert!(!holds(&secret) && !holds(&secret[4..47]), "a secret is stored");
    }
}

#[tokio::test]
async fn s50_no_token_check_that_begins_after_the_revocation_passes() {
    let app = TestApp::builder().with(|settings| settings.limits.address_failures = 10_000).spawn().await;
    let admin = app.admin().await;
    for round in 0..100 {
        let (id, secret) = app.service_token(&admin, &format!("service {round}"), &["verify"]).await;
        let revoked = AtomicBool::new(false);
        let check = async {
            let (mut alive, mut dead) = (0, 0);
            while dead < 3 {
                let was_revoked = revoked.load(Ordering::SeqCst);
                match verify_with(&app, &secret, &admin).await.status {
                    200 => {
                        assert!(!was_revoked, "a revoked token passed");
                        alive += 1;
                    }
                    404 => dead += 1,
                    other => panic!("{other}"),
                }
            }
            alive
        };
        let end = async {
            tokio::task::yield_now().await;
            assert_eq!(revoke(&app, &admin, id).await.status, 204);
            revoked.store(true, Ordering::SeqCst);
        };
        tokio::join!(check, check_again(&app, &secret, &admin, &revoked), end);
    }
}

/// Verifies as fast as possible until the token is revoked, and once more after that.
async fn check_again(app: &TestApp, secret: &str, token: &str, revoked: &AtomicBool) {
    loop {
        let was_revoked = revoked.load(Ordering::SeqCst);
        let status = verify_with(app, secret, token).await.status;
        assert!(matches!(status, 200 | 404) && !(was_revoked && status == 200), "{status} after the revocation");
        if was_revoked {
            return;
        }
    }
}

#[tokio::test]
async fn s70_what_happens_to_service_tokens_is_on_record() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (id, _) = app.service_token(&admin, "billing", &["audit"]).await;
    let taken = json!({"name": "billing", "scopes": ["verify"]});
    assert_eq!(app.call(Method::POST, "/service_tokens/", &admin, &taken).await.status, 400);
    let secret = rotate(&app, &admin, id, &Value::Null).await.body["token"].as_str().unwrap().to_owned();
    // The service reads these events itself, and this read is recorded too.
    let read = async |path: &str| app.send(app.request(Method::GET, path).header("X-Service-Token", &secret)).await;
    let seen = read("/audit/?actor=admin:1&limit=3").await;
    let told: Vec<_> = seen.body["events"].as_array().unwrap().iter().map(|e| (&e["event"], &e["reason"])).collect();
    assert_eq!(
        told,
        [
            (&json!("service_token.rotated"), &Value::Null),
            (&json!("service_token.created"), &json!("name_taken")),
            (&json!("service_token.created"), &Value::Null),
        ]
    );
    app.handles.audit.settle().await;
    let seen = read("/audit/?actor=service:billing").await;
    assert_eq!(seen.body["events"][0]["event"], "audit.read");
    assert_eq!(read("/audit/export").await.status, 200);
    // A request outside its scopes is refused and recorded.
    assert_eq!(read("/health/actors").await.status, 403);
    app.handles.audit.settle().await;
    let seen = read("/audit/?actor=service:billing&outcome=refused").await;
    assert_eq!(seen.body["events"][0]["reason"], "scope_missing");
    assert_eq!(revoke(&app, &admin, id).await.status, 204);
    assert_eq!(read("/audit/").await.status, 401);
}

#[tokio::test]
async fn s70_a_change_of_a_service_token_that_cannot_be_is_on_record() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    assert_eq!(rotate(&app, &admin, 7, &Value::Null).await.status, 404);
    assert_eq!(revoke(&app, &admin, 7).await.status, 404);
    let past = json!({"name": "late", "scopes": ["verify"], "expires_at": "2020-01-01T00:00:00Z"});
    assert_eq!(app.call(Method::POST, "/service_tokens/", &admin, &past).await.status, 400);
    let seen = app.call(Method::GET, "/audit/?outcome=refused&actor=admin:1", &admin, &Value::Null).await;
    let told: Vec<_> = seen.body["events"].as_array().unwrap().iter().map(|e| (&e["event"], &e["reason"])).collect();
    assert_eq!(
        told,
        [
            (&json!("service_token.created"), &json!("token_over")),
            (&json!("service_token.revoked"), &json!("unknown_service_token")),
            (&json!("service_token.rotated"), &json!("unknown_service_token")),
        ]
    );
}

#[tokio::test]
async fn the_last_use_is_kept_to_the_minute_over_restarts() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (_, secret) = app.service_token(&admin, "billing", &["verify"]).await;
    app.pass(Duration::from_mins(2));
    assert_eq!(verify_with(&app, &secret, &admin).await.status, 200);
    assert!(app.is_live(&admin).await, "asked with the token of the settings");
    app.pass(Duration::from_secs(59));
    assert_eq!(verify_with(&app, &secret, &admin).await.status, 200);
    let app = app.restart().await;
    for listed in list(&app, &admin).await {
        assert_eq!(listed["last_used_at"], "2025-01-01T00:02:00.000Z", "{listed}");
    }
}

#[tokio::test]
async fn s50_a_crash_of_the_actor_loses_no_token_and_revives_none() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (id, dead) = app.service_token(&admin, "dead", &["verify"]).await;
    let (_, alive) = app.service_token(&admin, "alive", &["verify"]).await;
    assert_eq!(revoke(&app, &admin, id).await.status, 204);
    app.handles.inject("services", doorward_actors::testing::Fault::Panic).await.unwrap();
    for _ in 0..50 {
        assert_eq!(verify_with(&app, &alive, &admin).await.status, 200);
        assert_eq!(verify_with(&app, &dead, &admin).await.status, 404);
    }
    let person = Person::named("admin");
    assert!(app.opens(&person, &person.password).await);
}
