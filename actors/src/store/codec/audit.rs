//! The frozen form of audit records.

use crate::domain::audit::{
    AuditActorKind, AuditCheckpoint, AuditDetails, AuditEvent, AuditField, AuditHash, AuditHead, AuditRecord,
    AuditRefusal, AuditStart, ServiceName,
};
use crate::domain::session::{Origin, SessionId};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AddressV1, Record, RecordError, account_id, open, write};

/// The version bytes of chained records.
const V2: u8 = 2;
const V3: u8 = 3;
const V4: u8 = 4;

/// An audit record with the hash of the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chained {
    pub(crate) previous: AuditHash,
    pub(crate) record: AuditRecord,
}

/// An audit record from before the log was chained; the migration to layout 4 replaces all of them.
/// Events and refusals are stored under the permanent numbers that the domain assigns.
#[derive(Serialize, Deserialize)]
struct AuditV1 {
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

/// The actor. The variants are numbered in this order.
#[derive(Serialize, Deserialize)]
enum ActorV1 {
    Anonymous,
    Account(u64),
    Admin(u64),
    System,
}

/// Adds the hash of the record before, as first field.
#[derive(Serialize, Deserialize)]
pub(crate) struct AuditV2 {
    previous: [u8; 32],
    at: i64,
    event: u8,
    actor: ActorV2,
    subject: Option<u64>,
    session: Option<[u8; 16]>,
    address: Option<AddressV1>,
    user_agent: Option<String>,
    request_id: Option<String>,
    refusal: Option<u8>,
}

/// The actor. The variants are numbered in this order.
#[derive(Serialize, Deserialize)]
enum ActorV2 {
    Anonymous,
    Account(u64),
    Admin(u64),
    System,
    Service(String),
}

/// Adds the details, which are never `None`: a record without details is written in the second version, so that its value can be
/// reproduced from the record as it is shown.
#[derive(Serialize, Deserialize)]
pub(crate) struct AuditV3 {
    record: AuditV2,
    details: Option<DetailsV1>,
}

/// The details. The variants are numbered in this order.
#[derive(Serialize, Deserialize)]
enum DetailsV1 {
    /// The numbers of the fields.
    Changed(Vec<u8>),
    Pruned {
        first: u64,
        before: [u8; 32],
    },
}

impl DetailsV1 {
    fn of(details: &AuditDetails) -> Option<Self> {
        match details {
            AuditDetails::Changed(fields) => Some(Self::Changed(fields.iter().map(|field| field.number()).collect())),
            AuditDetails::Pruned(start) => Some(Self::Pruned { first: start.first, before: *start.before.as_bytes() }),
            AuditDetails::Counted(_) => None,
        }
    }
}

/// Adds the count of refusals that have no record of their own.
#[derive(Serialize, Deserialize)]
pub(crate) struct AuditV4 {
    record: AuditV2,
    details: Option<DetailsV2>,
}

/// The details. The variants are numbered in this order. The first two are still written in the third version.
#[derive(Serialize, Deserialize)]
enum DetailsV2 {
    Changed(Vec<u8>),
    Pruned { first: u64, before: [u8; 32] },
    Counted(u64),
}

impl From<DetailsV1> for DetailsV2 {
    fn from(details: DetailsV1) -> Self {
        match details {
            DetailsV1::Changed(fields) => Self::Changed(fields),
            DetailsV1::Pruned { first, before } => Self::Pruned { first, before },
        }
    }
}

impl DetailsV2 {
    fn thaw(self) -> Result<AuditDetails, &'static str> {
        let field = |number| AuditField::from_number(number).ok_or("unknown field");
        Ok(match self {
            Self::Changed(fields) => AuditDetails::Changed(fields.into_iter().map(field).collect::<Result<_, _>>()?),
            Self::Pruned { first: 0, .. } => return Err("audit number zero"),
            Self::Pruned { first, before } => {
                AuditDetails::Pruned(AuditStart { first, before: AuditHash::from_bytes(before) })
            }
            Self::Counted(count) => AuditDetails::Counted(count),
        })
    }
}

/// The version byte of a record that could not be read when the log was chained.
/// It is followed by the hash of the record before and the original value.
const ASIDE: u8 = 0xFF;

/// Wraps an unreadable value so that it is part of the chain, and cannot be changed or removed unnoticed either.
pub(crate) fn put_aside(stored: &[u8], previous: AuditHash) -> Vec<u8> {
    [&[ASIDE], &previous.as_bytes()[..], stored].concat()
}

/// Returns the hash in such a value; `None` for any other value.
pub(crate) fn put_aside_after(value: &[u8]) -> Option<AuditHash> {
    let (&ASIDE, rest) = value.split_first()? else { return None };
    Some(AuditHash::from_bytes(*rest.first_chunk()?))
}

/// Converts a record from before the log was chained, with the hash of the record before.
pub(crate) fn chain(value: &[u8], previous: AuditHash) -> Result<Chained, RecordError> {
    let unreadable = |why| RecordError::Unreadable { kind: Chained::KIND, why };
    let Some((1, body)) = value.split_first() else {
        return Err(unreadable("unknown version byte"));
    };
    let old: AuditV1 = open(body).map_err(unreadable)?;
    let chained = AuditV2 {
        previous: *previous.as_bytes(),
        at: old.at,
        event: old.event,
        actor: match old.actor {
            ActorV1::Anonymous => ActorV2::Anonymous,
            ActorV1::Account(id) => ActorV2::Account(id),
            ActorV1::Admin(id) => ActorV2::Admin(id),
            ActorV1::System => ActorV2::System,
        },
        subject: old.subject,
        session: old.session,
        address: old.address,
        user_agent: old.user_agent,
        request_id: old.request_id,
        refusal: old.refusal,
    };
    Chained::thaw(AuditV4 { record: chained, details: None }).map_err(unreadable)
}

impl Record for Chained {
    const KIND: &'static str = "audit";
    const VERSION: u8 = V4;
    type Frozen = AuditV4;

    fn freeze(&self) -> AuditV4 {
        let details = match &self.record.details {
            Some(AuditDetails::Counted(count)) => Some(DetailsV2::Counted(*count)),
            other => other.as_ref().and_then(DetailsV1::of).map(Into::into),
        };
        AuditV4 { record: self.freeze_record(), details }
    }

    fn put(&self, value: &mut Vec<u8>) -> Result<(), &'static str> {
        let record = self.freeze_record();
        match &self.record.details {
            None => write(V2, &record, value),
            Some(AuditDetails::Counted(_)) => write(V4, &self.freeze(), value),
            Some(details) => write(V3, &AuditV3 { record, details: DetailsV1::of(details) }, value),
        }
    }

    fn upgrade(version: u8, body: &[u8]) -> Result<AuditV4, &'static str> {
        match version {
            V2 => Ok(AuditV4 { record: open(body)?, details: None }),
            V3 => {
                let AuditV3 { record, details } = open(body)?;
                Ok(AuditV4 { record, details: details.map(Into::into) })
            }
            _ => Err("unknown version byte"),
        }
    }

    fn thaw(AuditV4 { record: frozen, details }: AuditV4) -> Result<Self, &'static str> {
        let record = AuditRecord {
            actor: match frozen.actor {
                ActorV2::Anonymous => AuditActorKind::Anonymous,
                ActorV2::Account(id) => AuditActorKind::Account(account_id(id)?),
                ActorV2::Admin(id) => AuditActorKind::Admin(account_id(id)?),
                ActorV2::System => AuditActorKind::System,
                ActorV2::Service(name) => {
                    AuditActorKind::Service(ServiceName::parse(&name).ok_or("its service has no name")?)
                }
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
            details: details.map(DetailsV2::thaw).transpose()?,
            ..AuditRecord::new(
                AuditEvent::from_number(frozen.event).ok_or("unknown event")?,
                Timestamp::from_millis(frozen.at),
            )
        };
        Ok(Self { previous: AuditHash::from_bytes(frozen.previous), record })
    }
}

impl Chained {
    fn freeze_record(&self) -> AuditV2 {
        let record = &self.record;
        AuditV2 {
            previous: *self.previous.as_bytes(),
            at: record.at.as_millis(),
            event: record.event.number(),
            actor: match &record.actor {
                AuditActorKind::Anonymous => ActorV2::Anonymous,
                AuditActorKind::Account(id) => ActorV2::Account(id.get()),
                AuditActorKind::Admin(id) => ActorV2::Admin(id.get()),
                AuditActorKind::System => ActorV2::System,
                AuditActorKind::Service(name) => ActorV2::Service(name.as_str().to_owned()),
            },
            subject: record.subject.map(crate::AccountId::get),
            session: record.session.map(|id| *id.as_bytes()),
            address: record.origin.address.map(Into::into),
            user_agent: record.origin.user_agent.clone(),
            request_id: record.origin.request_id.clone(),
            refusal: record.refusal.map(AuditRefusal::number),
        }
    }
}

/// The newest record of the log, and the size of all kept records and their index, keys and values, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogEnd {
    pub(crate) head: AuditHead,
    pub(crate) bytes: u64,
}

impl LogEnd {
    /// The end of a log without records.
    pub(crate) const GENESIS: Self = Self { head: AuditHead::GENESIS, bytes: 0 };
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LogEndV1 {
    sequence: u64,
    hash: [u8; 32],
    bytes: u64,
}

impl Record for LogEnd {
    const KIND: &'static str = "audit head";
    type Frozen = LogEndV1;

    fn freeze(&self) -> LogEndV1 {
        LogEndV1 { sequence: self.head.sequence, hash: *self.head.hash.as_bytes(), bytes: self.bytes }
    }

    fn thaw(frozen: LogEndV1) -> Result<Self, &'static str> {
        let head = AuditHead { sequence: frozen.sequence, hash: AuditHash::from_bytes(frozen.hash) };
        Ok(Self { head, bytes: frozen.bytes })
    }
}

/// The size of the kept refusals and their index, keys and values, in bytes. Refusals from before this was counted are not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusals {
    pub(crate) bytes: u64,
    /// The first record that is counted.
    pub(crate) from: u64,
    /// The newest record at the last count. If an older program appended records without counting, this lags behind and the count restarts.
    pub(crate) upto: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RefusalsV1 {
    bytes: u64,
    from: u64,
    upto: u64,
}

impl Record for Refusals {
    const KIND: &'static str = "refusals";
    type Frozen = RefusalsV1;

    fn freeze(&self) -> RefusalsV1 {
        RefusalsV1 { bytes: self.bytes, from: self.from, upto: self.upto }
    }

    fn thaw(RefusalsV1 { bytes, from, upto }: RefusalsV1) -> Result<Self, &'static str> {
        Ok(Self { bytes, from, upto })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CheckpointV1 {
    first: u64,
    before: [u8; 32],
    at: Option<i64>,
}

impl Record for AuditCheckpoint {
    const KIND: &'static str = "audit checkpoint";
    type Frozen = CheckpointV1;

    fn freeze(&self) -> CheckpointV1 {
        CheckpointV1 { first: self.first, before: *self.before.as_bytes(), at: self.at.map(Timestamp::as_millis) }
    }

    fn thaw(frozen: CheckpointV1) -> Result<Self, &'static str> {
        if frozen.first == 0 {
            return Err("audit number zero");
        }
        Ok(Self {
            first: frozen.first,
            before: AuditHash::from_bytes(frozen.before),
            at: frozen.at.map(Timestamp::from_millis),
        })
    }
}
