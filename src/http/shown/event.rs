//! An audit record as the interface shows it.

use std::borrow::Cow;
use std::net::IpAddr;

use doorward_actors::{AccountId, AuditActorKind, AuditDetails, AuditRecord, AuditRefusal, SessionId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::closed_sets;

/// An event of the audit log.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are those of the interface")]
pub(in crate::http) struct Event {
    /// Its number in the log. The log has no gaps, but the events of one account do.
    #[schema(minimum = 1)]
    sequence: u64,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    at: String,
    #[schema(value_type = closed_sets::AuditEvent)]
    event: &'static str,
    /// Who did it: `account:7`, `admin:3`, `service:name`, `system` or `anonymous`.
    #[schema(example = "account:7")]
    actor: String,
    /// The id of the account it was done to, if that is known.
    #[schema(minimum = 1)]
    subject: Option<u64>,
    /// The address that the request came from.
    address: Option<String>,
    user_agent: Option<String>,
    session_id: Option<String>,
    request_id: Option<String>,
    /// `success` or `refused`.
    #[schema(value_type = closed_sets::AuditOutcome)]
    outcome: &'static str,
    /// Why it was refused; null if it was not.
    #[schema(value_type = Option<closed_sets::AuditRefusal>)]
    reason: Option<&'static str>,
    /// For `account.updated`: the changed parts of the account, separated by spaces. For `audit.pruned`: where the log begins
    /// since then, as `FIRST:HASH`.
    #[schema(example = "password pending_email")]
    details: Option<String>,
}

impl Event {
    /// The names of the members, in their order.
    pub(in crate::http) const NAMES: [&'static str; 12] = [
        "sequence",
        "at",
        "event",
        "actor",
        "subject",
        "address",
        "user_agent",
        "session_id",
        "request_id",
        "outcome",
        "reason",
        "details",
    ];

    pub(in crate::http) fn of(sequence: u64, record: &AuditRecord) -> Self {
        Self {
            sequence,
            at: record.at.to_rfc3339(),
            event: record.event.as_str(),
            actor: record.actor.to_string(),
            subject: record.subject.map(AccountId::get),
            address: record.origin.address.as_ref().map(IpAddr::to_string),
            user_agent: record.origin.user_agent.clone(),
            session_id: record.session.as_ref().map(SessionId::to_string),
            request_id: record.origin.request_id.clone(),
            outcome: record.outcome().as_str(),
            reason: record.refusal.map(AuditRefusal::as_str),
            details: record.details.as_ref().map(AuditDetails::to_string),
        }
    }

    /// Shows the record to the owner of the account. Owners see the addresses of their own and of anonymous requests. They do
    /// not see where an administrator or a service was, nor which of them it was.
    pub(in crate::http) fn for_owner(sequence: u64, record: &AuditRecord, owner: AccountId) -> Self {
        let whole = Self::of(sequence, record);
        let actor = match &record.actor {
            AuditActorKind::Anonymous => return whole,
            AuditActorKind::Account(id) | AuditActorKind::Admin(id) if *id == owner => return whole,
            AuditActorKind::Account(_) => "account",
            AuditActorKind::Admin(_) => "admin",
            AuditActorKind::System => "system",
            AuditActorKind::Service(_) => "service",
        };
        // An expired session is one of the owner's own.
        let session_id = whole.session_id.filter(|_| record.actor == AuditActorKind::System);
        let actor = actor.to_owned();
        Self { actor, address: None, user_agent: None, request_id: None, session_id, ..whole }
    }

    /// Returns the cells of a CSV line, in the order of [`Self::NAMES`], safe to open in a spreadsheet.
    pub(in crate::http) fn cells(&self) -> [Cow<'_, str>; 12] {
        let optional = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        [
            self.sequence.to_string().into(),
            Cow::Borrowed(self.at.as_str()),
            self.event.into(),
            harmless(&self.actor.clone()),
            self.subject.map(|subject| subject.to_string()).unwrap_or_default().into(),
            harmless(&optional(&self.address)),
            harmless(&optional(&self.user_agent)),
            harmless(&optional(&self.session_id)),
            harmless(&optional(&self.request_id)),
            self.outcome.into(),
            self.reason.unwrap_or_default().into(),
            harmless(&optional(&self.details)),
        ]
    }
}

/// Keeps spreadsheets from treating a text as a formula: a text that begins like one gets an apostrophe in front. So does
/// the text after a semicolon, where spreadsheets in many languages begin a new cell (OWASP, CSV injection).
fn harmless(text: &str) -> Cow<'static, str> {
    let mut safe = String::with_capacity(text.len() + 1);
    let mut begins = true;
    for c in text.chars() {
        if begins && matches!(c, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n') {
            safe.push('\'');
        }
        begins = c == ';' || (begins && c == ' ' && !safe.is_empty());
        safe.push(c);
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use doorward_actors::{AuditEvent, Origin, ServiceName, Timestamp};
    use serde_json::json;

    use super::*;

    fn id(number: u64) -> AccountId {
        AccountId::new(number).unwrap()
    }

    fn record(actor: AuditActorKind) -> AuditRecord {
        AuditRecord {
            actor,
            subject: Some(id(7)),
            session: Some(SessionId::from_bytes([0xF5; 16])),
            origin: Origin::new(Some([192, 0, 2, 1].into()), Some("agent"), Some("request".to_owned())),
            refusal: Some(AuditRefusal::Conflict),
            ..AuditRecord::new(AuditEvent::AccountUpdated, Timestamp::from_millis(0))
        }
    }

    #[test]
    fn no_cell_begins_like_a_formula_whatever_parts_the_cells() {
        assert_eq!(harmless("x;=1+1"), "x;'=1+1");
        assert_eq!(harmless("=1; @SUM(1)"), "'=1; '@SUM(1)");
        assert_eq!(harmless("Mozilla/5.0 (X11; Linux) a-b"), "Mozilla/5.0 (X11; Linux) a-b");
    }

    #[test]
    fn an_event_has_the_members_of_the_contract() {
        let shown = serde_json::to_value(Event::of(5, &record(AuditActorKind::Account(id(7))))).unwrap();
        let expected = json!({"sequence": 5, "at": "1970-01-01T00:00:00.000Z", "event": "account.updated",
            "actor": "account:7", "subject": 7, "address": "192.0.2.1", "user_agent": "agent",
            "session_id": "9fX19fX19fX19fX19fX19Q", "request_id": "request", "outcome": "refused", "reason": "conflict",
            "details": null});
        assert_eq!(shown, expected);
        let mut names: Vec<_> = expected.as_object().unwrap().keys().map(String::as_str).collect();
        let mut of_csv = Event::NAMES;
        names.sort_unstable();
        of_csv.sort_unstable();
        assert_eq!(names, of_csv);
    }

    #[test]
    fn owners_see_from_where_they_and_strangers_came_and_nothing_of_those_who_keep_the_service() {
        let shown = |actor| serde_json::to_value(Event::for_owner(5, &record(actor), id(7))).unwrap();
        for whole in [AuditActorKind::Anonymous, AuditActorKind::Account(id(7)), AuditActorKind::Admin(id(7))] {
            let of = serde_json::to_value(Event::of(5, &record(whole.clone()))).unwrap();
            assert_eq!(shown(whole), of);
        }
        let service = AuditActorKind::Service(ServiceName::parse("billing").unwrap());
        for (actor, name) in
            [(AuditActorKind::Admin(id(3)), "admin"), (AuditActorKind::Account(id(3)), "account"), (service, "service")]
        {
            let shown = shown(actor);
            assert_eq!(shown["actor"], name);
            for hidden in ["address", "user_agent", "request_id", "session_id"] {
                assert_eq!(shown[hidden], json!(null), "{name} {hidden}");
            }
            assert_eq!((&shown["subject"], &shown["reason"]), (&json!(7), &json!("conflict")));
        }
        let expired = shown(AuditActorKind::System);
        assert!(expired["session_id"].is_string() && expired["address"].is_null());
    }

    #[test]
    fn no_cell_is_a_formula() {
        let mut odd = record(AuditActorKind::Anonymous);
        for start in ["=", "+", "-", "@", "\t", "\r", "\n"] {
            odd.origin.user_agent = Some(format!("{start}cmd"));
            odd.origin.request_id = Some(format!("{start}1"));
            let event = Event::of(5, &odd);
            assert_eq!(event.cells()[6], format!("'{start}cmd"));
            assert_eq!(event.cells()[8], format!("'{start}1"));
        }
        assert_eq!(Event::of(5, &record(AuditActorKind::Anonymous)).cells()[6], "agent");
    }
}
