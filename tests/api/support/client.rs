use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::leaks;

/// A complete answer. The body of a stream is not read. A body that is not JSON is `null` in `body` and stands in
/// `text`.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Answer {
    /// Returns a text member of a successful answer.
    pub(crate) fn text_at(&self, member: &str) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.body[member].as_str().unwrap().to_owned()
    }

    pub(crate) async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // A stream does not end.
        let is_stream = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let text = if is_stream { String::new() } else { response.text().await.unwrap() };
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        leaks::note(&body);
        Self { status, headers, text, body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Asserts that this is a problem (RFC 9457) of this status with this detail.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, detail: &str) {
        self.assert_status_problem(status);
        assert_eq!(self.body["detail"], detail, "{self:?}");
    }

    /// Asserts that this is a problem (RFC 9457) of this status, with all its members.
    #[track_caller]
    pub(crate) fn assert_status_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.body["status"], status, "{self:?}");
        for member in ["type", "title", "detail", "instance"] {
            assert!(self.body[member].is_string(), "no {member}: {self:?}");
        }
        assert_eq!(self.body["instance"].as_str(), self.header("x-request-id"), "{self:?}");
    }

    /// Asserts that this is a 401 with this challenge.
    #[track_caller]
    pub(crate) fn assert_unauthorized(&self, challenge: &str) {
        self.assert_status_problem(401);
        assert_eq!(self.header("www-authenticate"), Some(challenge), "{self:?}");
    }

    /// Asserts that this is a success with exactly this body.
    #[track_caller]
    pub(crate) fn assert_body(&self, status: u16, body: &Value) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert_eq!(&self.body, body);
    }

    /// Returns status, headers and body, byte for byte, without the date and the remaining quota. Two answers with
    /// equal results cannot be told apart.
    pub(crate) fn whole(&self) -> (u16, Vec<(String, String)>, &str) {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| *name != "date" && *name != "ratelimit")
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        headers.sort();
        (self.status, headers, &self.text)
    }

    /// The names of the members of the body, in alphabetical order.
    #[track_caller]
    pub(crate) fn members(&self) -> Vec<&str> {
        members(&self.body)
    }

    /// The JSON pointers of the fields that a 422 names.
    #[track_caller]
    pub(crate) fn pointers(&self) -> Vec<&str> {
        self.assert_status_problem(422);
        self.body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }
}

/// The names of the members of an object, in alphabetical order.
#[track_caller]
pub(crate) fn members(object: &Value) -> Vec<&str> {
    let mut names: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// A person with an account and their secrets.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    /// 0 until registered.
    pub(crate) id: u64,
    pub(crate) email: String,
    pub(crate) nickname: String,
    pub(crate) password: String,
    pub(crate) passphrase: String,
}

impl Person {
    pub(crate) fn named(name: &str) -> Self {
        Self {
            id: 0,
            email: format!("{name}@example.com"),
            nickname: name.to_owned(),
            password: "Quiet-lamp-7-tree".to_owned(),
            passphrase: "blue heron over water".to_owned(),
        }
    }

    pub(crate) fn registration(&self) -> Value {
        json!({"email": self.email, "nickname": self.nickname, "password": self.password, "passphrase": self.passphrase})
    }
}
