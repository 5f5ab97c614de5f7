//! Uses of a service token while it is rotated or revoked.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use super::people::{log_in, patient, restarted};
use super::witness::{Ask, Chance, Race, judge};
use crate::support::TestApp;

const SIDE_BY_SIDE: usize = 8;
const ROUNDS: usize = 25;
const ASKERS: usize = 3;

/// A client that uses one service token.
struct User {
    app: Arc<TestApp>,
    secret: String,
    /// The user's access token that the client checks.
    about: String,
}

impl Ask for User {
    async fn ask(&mut self, luck: &mut Chance) -> (&'static str, bool) {
        if luck.below(8) > 0 {
            return ("find", self.app.handles.services.find(self.secret.as_bytes()).await.unwrap().is_some());
        }
        let verifies = luck.below(2) == 0;
        let request = if verifies {
            self.app.request(Method::POST, "/verify").bearer_auth(&self.about)
        } else {
            self.app.form("/oauth2/introspect", &format!("token={}", self.about))
        };
        let answer = self.app.send(request.header("X-Service-Token", &self.secret)).await;
        let dead = if verifies { 404 } else { 401 };
        assert!(answer.status == 200 || answer.status == dead, "{answer:?}");
        ("a request", answer.status == 200)
    }
}

/// Revokes a service token, or replaces its secret and returns the new one.
async fn end(app: &TestApp, admin: &str, id: u64, how: usize) -> Option<String> {
    let path = format!("/service_tokens/{id}");
    if how == 0 {
        let answer = app.call(Method::DELETE, &path, admin, &Value::Null).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        return None;
    }
    let answer = app.call(Method::POST, &format!("{path}/rotate"), admin, &json!({"overlap_seconds": 0})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    Some(answer.body["token"].as_str().unwrap().to_owned())
}

async fn race(app: Arc<TestApp>, admin: String, name: String, mut luck: Chance) -> (String, Option<String>) {
    let (id, mut secret) = app.service_token(&admin, &name, &["verify", "introspect"]).await;
    let how = luck.below(3);
    if how == 2 {
        // A rotation ends the secret before the last one at once, even within its overlap time.
        let overlap = json!({"overlap_seconds": 3600});
        let rotated = app.call(Method::POST, &format!("/service_tokens/{id}/rotate"), &admin, &overlap).await;
        assert_eq!(rotated.status, 200);
        if luck.below(2) == 0 {
            rotated.body["token"].as_str().unwrap().clone_into(&mut secret);
        }
    }
    let race = Arc::new(Race::default());
    let user = || User { app: Arc::clone(&app), secret: secret.clone(), about: admin.clone() };
    let users: Vec<_> = (0..ASKERS).map(|_| race.watch(luck.fork(), user())).collect();
    let (span, next) = race.change(ASKERS, &mut luck, end(&app, &admin, id, how)).await;
    let mut seen = Vec::new();
    for user in users {
        seen.extend(user.await.unwrap().0);
    }
    judge(&seen, span, if how == 0 { "a revoked service token" } else { "a replaced secret" });
    if let Some(next) = &next {
        let mut user = User { secret: next.clone(), ..user() };
        for _ in 0..8 {
            assert!(user.ask(&mut luck).await.1, "the new secret is not known");
        }
        end(&app, &admin, id, 0).await;
    }
    (secret, next)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s50_no_use_of_a_service_token_outlives_its_revocation_or_its_rotation() {
    let mut luck = Chance::of_the_test();
    let app = Arc::new(patient().spawn().await);
    let admin = app.register("admin").await;
    let token = log_in(&app, &admin).await.access;
    let mut dead = Vec::new();
    for round in 0..ROUNDS {
        let races = (0..SIDE_BY_SIDE)
            .map(|n| tokio::spawn(race(Arc::clone(&app), token.clone(), format!("service {round} {n}"), luck.fork())));
        for done in futures_util::future::join_all(races.collect::<Vec<_>>()).await {
            let (secret, next) = done.unwrap();
            dead.push(secret);
            dead.extend(next);
        }
    }
    let app = restarted(app).await;
    for secret in &dead {
        assert!(
            app.handles.services.find(secret.as_bytes()).await.unwrap().is_none(),
            "a restart revived a service token"
        );
    }
}
