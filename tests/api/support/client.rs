use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// An answer, read whole. A body that is not JSON is `null` here and stands in `text`.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Answer {
    pub async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, text, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Asserts that this is a problem (RFC 9457) of this status with this detail.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, detail: &str) {
        self.assert_status_problem(status);
        assert_eq!(self.body["detail"], detail, "{self:?}");
    }

    /// Asserts that this is a problem (RFC 9457) of this status, with all its members.
    #[track_caller]
    pub fn assert_status_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.body["status"], status, "{self:?}");
        for member in ["type", "title", "detail", "instance"] {
            assert!(self.body[member].is_string(), "no {member}: {self:?}");
        }
        assert_eq!(self.body["instance"].as_str(), self.header("x-request-id"), "{self:?}");
    }

    /// The JSON pointers of the fields that a 422 names.
    #[track_caller]
    pub fn pointers(&self) -> Vec<&str> {
        self.assert_status_problem(422);
        self.body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }
}

/// Somebody with an account, and what only they know.
#[derive(Debug, Clone)]
pub struct Person {
    /// 0 until registered.
    pub id: u64,
    pub email: String,
    pub nickname: String,
    pub password: String,
    pub passphrase: String,
}

impl Person {
    pub fn named(name: &str) -> Self {
        Self {
            id: 0,
            email: format!("{name}@example.com"),
            nickname: name.to_owned(),
            password: "Quiet-lamp-7-tree".to_owned(),
            passphrase: "blue heron over water".to_owned(),
        }
    }

    pub fn registration(&self) -> Value {
        json!({"email": self.email, "nickname": self.nickname, "password": self.password, "passphrase": self.passphrase})
    }
}
