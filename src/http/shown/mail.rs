//! A mail of the outbox as the interface shows it. Its content and the token of its link are never shown (S24).

use doorward_actors::{MailState, QueuedMail, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::closed_sets;

/// A mail that the mail server has not accepted yet.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Mail<'a> {
    /// Never reused.
    #[schema(minimum = 1)]
    id: u64,
    #[schema(format = Email)]
    to: &'a str,
    /// What it is about.
    #[schema(value_type = closed_sets::MailTemplate)]
    template: &'static str,
    #[schema(value_type = closed_sets::MailState)]
    state: &'static str,
    /// The number of attempts.
    attempts: u32,
    /// RFC 3339, UTC; null if the mail is dead.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
    /// Why the last attempt failed.
    last_error: Option<&'a str>,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
}

impl<'a> Mail<'a> {
    /// Returns what its owner sees: not what a mail server said, which is for operators.
    pub(in crate::http) fn for_owner(queued: &'a QueuedMail) -> Self {
        Self { last_error: None, ..Self::of(queued) }
    }

    pub(in crate::http) fn of(queued: &'a QueuedMail) -> Self {
        let (state, due) = match queued.state {
            MailState::Queued => ("queued", Some(queued.next_attempt_at)),
            MailState::Dead => ("dead", None),
        };
        Self {
            id: queued.id.get(),
            to: queued.mail.to.as_str(),
            template: queued.mail.kind.as_str(),
            state,
            attempts: queued.attempts,
            next_attempt_at: due.map(Timestamp::to_rfc3339),
            last_error: queued.last_error.as_deref(),
            created_at: queued.mail.written_at.to_rfc3339(),
        }
    }
}

#[cfg(test)]
mod tests {
    use doorward_actors::{Email, Locale, MailId, MailKind, NewMail, TokenSeed};

    use super::*;

    #[test]
    fn s24_what_is_shown_of_a_mail_holds_nothing_of_its_link() {
        let at = Timestamp::from_millis(0);
        let mail = NewMail {
            to: Email::parse("ann@example.com").unwrap(),
            kind: MailKind::ResetPassword,
            locale: Locale::De,
            nickname: "ann".to_owned(),
            seed: Some(TokenSeed::from_bytes([b'S'; 32])),
            token: None,
            valid_for: None,
            new_address: None,
            client_address: None,
            network: None,
            user_agent: None,
            written_at: at,
            message_key: [b'K'; 16],
        };
        let mut queued = QueuedMail {
            id: MailId::new(3).unwrap(),
            account: None,
            mail,
            state: MailState::Queued,
            attempts: 2,
            next_attempt_at: at,
            last_error: Some("no connection".to_owned()),
        };
        let shown = serde_json::to_value(Mail::of(&queued)).unwrap();
        let expected = serde_json::json!({"id": 3, "to": "ann@example.com", "template": "reset_password",
            "state": "queued", "attempts": 2, "next_attempt_at": "1970-01-01T00:00:00.000Z",
            "last_error": "no connection", "created_at": "1970-01-01T00:00:00.000Z"});
        assert_eq!(shown, expected);
        queued.state = MailState::Dead;
        let shown = serde_json::to_value(Mail::of(&queued)).unwrap();
        assert_eq!((&shown["state"], &shown["next_attempt_at"]), (&"dead".into(), &serde_json::Value::Null));
    }
}
