use doorward_actors::testing::Fault;
use reqwest::Method;
use serde_json::{Value, json};

use super::app::TestApp;
use super::client::{Answer, Person};

/// A second valid password.
pub(crate) const NEW_PASSWORD: &str = "Warm-river-9-stone";

/// Shortcuts for the actions of people.
impl TestApp {
    /// Registers the administrator, who must be the first to register, and logs them in.
    pub(crate) async fn admin(&self) -> String {
        self.register_and_login("admin").await.1
    }

    /// Returns an account as administrators see it.
    pub(crate) async fn account(&self, admin: &str, id: u64) -> Value {
        let answer = self.call(Method::GET, &format!("/accounts_management/{id}"), admin, &Value::Null).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// Changes an account as an administrator.
    pub(crate) async fn change(&self, admin: &str, id: u64, body: &Value) -> Answer {
        self.call(Method::PUT, &format!("/accounts_management/{id}"), admin, body).await
    }

    /// Changes an account as an administrator and expects success.
    pub(crate) async fn must_change(&self, admin: &str, id: u64, body: &Value) {
        let answer = self.change(admin, id, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Deletes an account as an administrator.
    pub(crate) async fn delete(&self, admin: &str, id: u64) -> Answer {
        self.call(Method::DELETE, &format!("/accounts_management/{id}"), admin, &Value::Null).await
    }

    /// Creates a service token with these scopes and returns its number and its secret.
    pub(crate) async fn service_token(&self, admin: &str, name: &str, scopes: &[&str]) -> (u64, String) {
        let body = json!({"name": name, "scopes": scopes});
        let answer = self.call(Method::POST, "/service_tokens/", admin, &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        (answer.body["id"].as_u64().unwrap(), answer.body["token"].as_str().unwrap().to_owned())
    }

    /// Locks an account.
    pub(crate) async fn lock(&self, admin: &str, id: u64) {
        self.must_change(admin, id, &json!({"lock": true})).await;
    }

    pub(crate) async fn logout(&self, token: &str) -> Answer {
        self.call(Method::POST, "/logout", token, &Value::Null).await
    }

    /// Changes the caller's own account.
    pub(crate) async fn change_own(&self, token: &str, body: &Value) -> Answer {
        self.call(Method::PUT, "/my_account/", token, body).await
    }

    /// Deletes the caller's own account.
    pub(crate) async fn delete_own(&self, token: &str, body: &Value) -> Answer {
        self.call(Method::DELETE, "/my_account/delete", token, body).await
    }

    pub(crate) async fn recover(&self, email: &str, passphrase: &str, new_password: &str) -> Answer {
        self.post("/recovery", &json!({"email": email, "passphrase": passphrase, "new_password": new_password})).await
    }

    /// Logs in under a fixed request id, so that two answers can be compared byte for byte.
    pub(crate) async fn login_under_one_id(&self, email: &str, password: &str) -> Answer {
        let request = self.request(Method::POST, "/login").header("X-Request-Id", "the-same");
        self.send(request.json(&json!({"email": email, "password": password}))).await
    }

    /// Returns whether `/verify` accepts a token. Any answer other than 200 and 401 fails the test.
    #[track_caller]
    pub(crate) fn is_live<'a>(&'a self, token: &'a str) -> impl Future<Output = bool> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.verify(token).await;
            assert!(matches!(answer.status, 200 | 401), "{caller}: {answer:?}");
            answer.status == 200
        }
    }

    /// Returns whether this person can log in with this password.
    pub(crate) async fn opens(&self, person: &Person, password: &str) -> bool {
        let answer = self.post("/login", &json!({"email": person.email, "password": password})).await;
        assert!(matches!(answer.status, 200 | 401), "{answer:?}");
        answer.status == 200
    }

    /// Returns the number of hashes computed so far. The application must have a single hashing thread: a job that
    /// panics goes through it after all others, so all earlier jobs are counted when it ends.
    pub(crate) async fn hashes(&self) -> u64 {
        self.handles.inject("hasher", Fault::Panic).await.unwrap();
        let health = self.handles.hasher.health();
        assert_eq!(health.threads, 1, "build the application with one hashing thread");
        health.done
    }
}
