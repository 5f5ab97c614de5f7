//! Every fault of an access token, for every algorithm, at every endpoint that accepts one. All get the same answer,
//! none makes the service fail, and none ends anything.

mod claims;
mod forge;
mod headers;
mod refresh;
mod shapes;
mod signatures;

use doorward::settings::Algorithm;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, SERVICE_TOKEN, TestApp};
use forge::Forge;

/// A token that must be refused, and the reason.
struct Fault {
    name: String,
    token: String,
}

impl Fault {
    fn new(name: impl Into<String>, token: impl Into<String>) -> Self {
        Self { name: name.into(), token: token.into() }
    }
}

/// The answer of each endpoint to a token, always under the same request id.
struct Doors<'a> {
    app: &'a TestApp,
    revoker: String,
    /// The answers of the endpoints with a token header to a garbage token.
    refusals: Vec<Answer>,
}

impl<'a> Doors<'a> {
    async fn of(forge: &'a Forge) -> Self {
        let (_, revoker) = forge.app.service_token(&forge.admins, "revoker", &["revoke"]).await;
        let mut doors = Self { app: &forge.app, revoker, refusals: Vec::new() };
        doors.refusals = doors.shown("garbage").await;
        for refusal in &doors.refusals {
            refusal.assert_unauthorized("Bearer error=\"invalid_token\"");
        }
        doors
    }

    /// Returns the answers of the endpoints that take the token in a header.
    async fn shown(&self, token: &str) -> Vec<Answer> {
        let routes = [
            (Method::POST, "/verify"),
            (Method::GET, "/my_account/"),
            (Method::GET, "/accounts_management/"),
            (Method::GET, "/forward_auth"),
            (Method::POST, "/logout"),
        ];
        let mut answers = Vec::new();
        for (method, path) in routes {
            let request = self.app.request(method, path).bearer_auth(token).header("X-Request-Id", "the-same");
            let request = if path == "/verify" { request.header("X-Service-Token", SERVICE_TOKEN) } else { request };
            answers.push(self.app.send(request).await);
        }
        answers
    }

    async fn form(&self, path: &str, service: &str, token: &str) -> Answer {
        let token: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
        let request = self.app.form(path, &format!("token={token}")).header("X-Service-Token", service);
        self.app.send(request).await
    }

    async fn introspect(&self, token: &str) -> Answer {
        self.form("/oauth2/introspect", SERVICE_TOKEN, token).await
    }

    async fn revoke(&self, token: &str) -> Answer {
        self.form("/oauth2/revoke", &self.revoker, token).await
    }

    async fn assert_dead(&self, fault: &Fault) {
        let Fault { name, token } = fault;
        if !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            for (answer, refusal) in self.shown(token).await.iter().zip(&self.refusals) {
                assert_eq!(answer.whole(), refusal.whole(), "{name}");
            }
        }
        if token.is_empty() {
            return;
        }
        let introspected = self.introspect(token).await;
        assert_eq!((introspected.status, &introspected.body), (200, &json!({"active": false})), "{name}");
        let revoked = self.revoke(token).await;
        assert_eq!((revoked.status, &*revoked.text), (200, ""), "{name}");
    }
}

/// Sends every fault to every endpoint and then checks that nothing has changed.
async fn run(algorithm: Algorithm) {
    let forge = Box::pin(Forge::with(algorithm)).await;
    let doors = Doors::of(&forge).await;
    // Tokens that are forged without a fault are accepted, so the fault is the reason for each refusal.
    for (name, token) in claims::none(&forge) {
        let told = forge.app.verify(&token).await;
        assert_eq!((told.status, &told.body["id"]), (200, &json!(forge.ann.id)), "{algorithm} {name}: {told:?}");
        assert_eq!(doors.introspect(&token).await.body["sub"], forge.ann.id.to_string(), "{algorithm} {name}");
    }
    let mut faults = headers::faults(&forge).await;
    faults.extend(headers::confusions(&forge).await);
    faults.extend(signatures::faults(&forge));
    faults.extend(claims::faults(&forge).await);
    faults.extend(shapes::faults(&forge));
    for fault in &mut faults {
        fault.name.insert_str(0, &format!("{algorithm}: "));
        doors.assert_dead(fault).await;
    }
    assert!(faults.len() > 150, "{}", faults.len());
    for token in [&forge.token, &forge.admins] {
        assert!(forge.app.is_live(token).await, "a dead token ended a live session");
    }
    let told = forge.app.call(Method::GET, "/audit/?limit=100", &forge.admins, &Value::Null).await;
    let events = told.body["events"].as_array().unwrap();
    let ended =
        |event: &&Value| matches!(event["event"].as_str().unwrap(), "session.revoked_by_service" | "session.logout");
    assert_eq!(events.iter().filter(ended).count(), 1, "but for the session that ended so that a token could name it");
}

#[tokio::test]
async fn s43_s45_s47_s48_s51_every_fault_is_answered_alike_where_hs256_signs() {
    Box::pin(run(Algorithm::Hs256)).await;
}

#[tokio::test]
async fn s43_s45_s47_s48_s51_every_fault_is_answered_alike_where_hs384_signs() {
    Box::pin(run(Algorithm::Hs384)).await;
}

#[tokio::test]
async fn s43_s45_s47_s48_s51_every_fault_is_answered_alike_where_hs512_signs() {
    Box::pin(run(Algorithm::Hs512)).await;
}

#[tokio::test]
async fn s43_s45_s47_s48_s51_every_fault_is_answered_alike_where_eddsa_signs() {
    Box::pin(run(Algorithm::EdDsa)).await;
}

#[tokio::test]
async fn s43_s45_s47_s48_s51_every_fault_is_answered_alike_where_es256_signs() {
    Box::pin(run(Algorithm::Es256)).await;
}

#[tokio::test]
async fn s43_s45_s47_s48_s51_every_fault_is_answered_alike_where_rs256_signs() {
    Box::pin(run(Algorithm::Rs256)).await;
}
