//! The clients of the races and the ways in which they check a token.

use std::sync::Arc;
use std::time::Duration;

use doorward_actors::{AuthenticateError, Email, LoginAttempt, Origin, Password, RefreshError, Secret};
use reqwest::Method;
use serde_json::{Value, json};

use super::witness::{Ask, Chance};
use crate::support::{Person, SERVICE_TOKEN, TestApp, TestAppBuilder};

/// An application with very high limits on attempts.
pub(super) fn patient() -> TestAppBuilder {
    TestApp::builder().with(|settings| {
        settings.limits.login_failures = 10_000;
        settings.limits.address_failures = 100_000;
        settings.sessions.max_per_account = 1000;
        // On a busy machine a hash may wait long. These tests do not check that.
        settings.passwords.hash_deadline = Duration::from_mins(1);
    })
}

/// The tokens of one session.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) access: String,
    pub(super) refresh: String,
}

/// Logs in through the handles, without the network.
pub(super) async fn log_in(app: &TestApp, person: &Person) -> Held {
    let attempt = LoginAttempt {
        email: Email::parse(&person.email).unwrap(),
        password: Password::new(person.password.clone()).unwrap(),
        remember: false,
    };
    let logged_in = app.handles.users.login(attempt, Origin::default()).await.unwrap();
    Held { access: logged_in.access_token.expose().to_owned(), refresh: logged_in.refresh_token.expose().to_owned() }
}

/// Returns the next tokens for a refresh token, or `None` if the token is not valid.
pub(super) async fn exchange(app: &TestApp, token: &str, luck: &mut Chance) -> Option<Held> {
    if luck.below(8) == 0 {
        let answer = app.post("/refresh", &json!({"refresh_token": token})).await;
        assert!(matches!(answer.status, 200 | 401), "{answer:?}");
        let text = |member: &str| answer.body[member].as_str().unwrap().to_owned();
        return (answer.status == 200).then(|| Held { access: text("access_token"), refresh: text("refresh_token") });
    }
    match app.handles.users.refresh(Secret::new(token.to_owned()), Origin::default()).await {
        Ok(next) => Some(Held {
            access: next.access_token.expose().to_owned(),
            refresh: next.refresh_token.expose().to_owned(),
        }),
        Err(RefreshError::Dead) => None,
        Err(other) => panic!("{other:?}"),
    }
}

/// Checks in one of the possible ways whether an access token is live. Returns the way and the result.
pub(super) async fn is_alive(app: &TestApp, token: &str, uses: bool, luck: &mut Chance) -> (&'static str, bool) {
    let told = |answer: Result<(), AuthenticateError>| match answer {
        Ok(()) => true,
        Err(AuthenticateError::Dead) => false,
        Err(other) => panic!("{other:?}"),
    };
    let sessions = &app.handles.sessions;
    // Most checks avoid the network, so that more of them fall into the critical moment.
    match luck.below(if uses { 32 } else { 16 }) {
        0..8 => ("look", told(sessions.look(token).await.map(drop))),
        8..15 => ("inspect", told(sessions.inspect(token).await.map(drop))),
        15 => {
            let request = app.form("/oauth2/introspect", &format!("token={token}"));
            let answer = app.send(request.header("X-Service-Token", SERVICE_TOKEN)).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            ("introspect", answer.body["active"].as_bool().unwrap())
        }
        16..28 => ("authenticate", told(sessions.authenticate(token).await.map(drop))),
        28..30 => ("verify", app.is_live(token).await),
        30 => {
            let answer = app.call(Method::GET, "/my_account/", token, &Value::Null).await;
            assert!(matches!(answer.status, 200 | 401), "{answer:?}");
            ("my_account", answer.status == 200)
        }
        _ => {
            let answer = app.send(app.request(Method::GET, "/forward_auth").bearer_auth(token)).await;
            assert!(matches!(answer.status, 200 | 401), "{answer:?}");
            ("forward_auth", answer.status == 200)
        }
    }
}

/// Checks one access token.
pub(super) struct Asker {
    pub(super) app: Arc<TestApp>,
    pub(super) token: String,
    /// Whether the checks may also count as a use of the session.
    pub(super) uses: bool,
}

impl Ask for Asker {
    async fn ask(&mut self, luck: &mut Chance) -> (&'static str, bool) {
        is_alive(&self.app, &self.token, self.uses, luck).await
    }
}

/// Keeps a session alive by refreshing.
pub(super) struct Refresher {
    pub(super) app: Arc<TestApp>,
    pub(super) held: Held,
    /// The access tokens that it received.
    pub(super) given: Vec<String>,
}

impl Ask for Refresher {
    async fn ask(&mut self, luck: &mut Chance) -> (&'static str, bool) {
        let next = exchange(&self.app, &self.held.refresh, luck).await;
        let alive = next.is_some();
        if let Some(next) = next {
            self.given.push(next.access.clone());
            self.held = next;
        }
        ("refresh", alive)
    }
}

/// Returns the session id of a live token.
pub(super) async fn session_of(app: &TestApp, token: &str) -> String {
    app.handles.sessions.look(token).await.unwrap().session.to_string()
}

/// Restarts an application that no other task uses any more.
pub(super) async fn restarted(app: Arc<TestApp>) -> TestApp {
    let Ok(app) = Arc::try_unwrap(app) else { panic!("somebody still uses it") };
    app.restart().await
}
