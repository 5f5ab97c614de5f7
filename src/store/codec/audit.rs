//! The frozen form of audit records.

use doorward_actors::{AuditActorKind, AuditEvent, AuditRecord, AuditRefusal, Origin, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{AddressV1, Record, account_id};

/// Events and refusals are stored under the numbers that the domain gives them once and for all.
#[derive(Serialize, Deserialize)]
pub(in crate::store) struct AuditV1 {
    at: i64,
    event: u8,
    actor: ActorV1,
    subject: Option<u64>,
    session: Option<[u8; 16]>,
    address: Option<AddressV1>,
    user_agent: Option<String>,
    request_id: Option<String>,
    refusal: Option<u8>,
}

/// Who did it, with variants numbered in this order.
#[derive(Serialize, Deserialize)]
enum ActorV1 {
    Anonymous,
    Account(u64),
    Admin(u64),
    System,
}

impl Record for AuditRecord {
    const KIND: &'static str = "audit";
    type Frozen = AuditV1;

    fn freeze(&self) -> AuditV1 {
        AuditV1 {
            at: self.at.as_millis(),
            event: self.event.number(),
            actor: match self.actor {
                AuditActorKind::Anonymous => ActorV1::Anonymous,
                AuditActorKind::Account(id) => ActorV1::Account(id.get()),
                AuditActorKind::Admin(id) => ActorV1::Admin(id.get()),
                AuditActorKind::System => ActorV1::System,
            },
            subject: self.subject.map(doorward_actors::AccountId::get),
            session: self.session.map(|id| *id.as_bytes()),
            address: self.origin.address.map(Into::into),
            user_agent: self.origin.user_agent.clone(),
            request_id: self.origin.request_id.clone(),
            refusal: self.refusal.map(AuditRefusal::number),
        }
    }

    fn thaw(frozen: AuditV1) -> Result<Self, &'static str> {
        Ok(Self {
            at: Timestamp::from_millis(frozen.at),
            event: AuditEvent::from_number(frozen.event).ok_or("unknown event")?,
            actor: match frozen.actor {
                ActorV1::Anonymous => AuditActorKind::Anonymous,
                ActorV1::Account(id) => AuditActorKind::Account(account_id(id)?),
                ActorV1::Admin(id) => AuditActorKind::Admin(account_id(id)?),
                ActorV1::System => AuditActorKind::System,
            },
            subject: frozen.subject.map(account_id).transpose()?,
            session: frozen.session.map(SessionId::from_bytes),
            origin: Origin {
                address: frozen.address.map(Into::into),
                user_agent: frozen.user_agent,
                request_id: frozen.request_id,
            },
            refusal: frozen
                .refusal
                .map(|number| AuditRefusal::from_number(number).ok_or("unknown refusal"))
                .transpose()?,
        })
    }
}
