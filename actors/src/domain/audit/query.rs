//! Queries of the audit log.

use std::net::IpAddr;
use std::time::Duration;

use super::{AuditActorKind, AuditEvent, AuditOutcome, AuditRecord, ServiceName};
use crate::domain::account::AccountId;
use crate::domain::time::Timestamp;

/// How far the time of a record may deviate from its place in the log before a search by time misses it.
/// A clock that is wrong by a day puts two records at most two days out of order.
const DISORDER: Duration = Duration::from_hours(48);

/// A selection of records: those that match every given field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Records made at this time or later.
    pub from: Option<Timestamp>,
    /// Records made before this time.
    pub to: Option<Timestamp>,
    /// The event.
    pub event: Option<AuditEvent>,
    /// The actor.
    pub actor: Option<AuditActorFilter>,
    /// The account that the event was about.
    pub subject: Option<AccountId>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// The outcome.
    pub outcome: Option<AuditOutcome>,
}

/// A selection of actors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditActorFilter {
    /// This actor.
    One(AuditActorKind),
    /// Any owner of an account.
    AnyAccount,
    /// Any administrator.
    AnyAdmin,
    /// Any service.
    AnyService,
}

impl AuditActorFilter {
    /// Parses an actor in its written form, or a kind of actors: `account`, `admin`, `service`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = |number: &str| {
            let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            number.parse().ok().filter(|_| digits).and_then(AccountId::new)
        };
        Some(match (text, text.split_once(':')) {
            ("anonymous", _) => Self::One(AuditActorKind::Anonymous),
            ("system", _) => Self::One(AuditActorKind::System),
            ("account", _) => Self::AnyAccount,
            ("admin", _) => Self::AnyAdmin,
            ("service", _) => Self::AnyService,
            (_, Some(("account", number))) => Self::One(AuditActorKind::Account(id(number)?)),
            (_, Some(("admin", number))) => Self::One(AuditActorKind::Admin(id(number)?)),
            (_, Some(("service", name))) => Self::One(AuditActorKind::Service(ServiceName::parse(name)?)),
            _ => return None,
        })
    }

    fn admits(&self, actor: &AuditActorKind) -> bool {
        match self {
            Self::One(wanted) => wanted == actor,
            Self::AnyAccount => matches!(actor, AuditActorKind::Account(_)),
            Self::AnyAdmin => matches!(actor, AuditActorKind::Admin(_)),
            Self::AnyService => matches!(actor, AuditActorKind::Service(_)),
        }
    }
}

impl AuditFilter {
    /// Returns whether a record matches.
    #[must_use]
    pub fn admits(&self, record: &AuditRecord) -> bool {
        self.from.is_none_or(|from| record.at >= from)
            && self.to.is_none_or(|to| record.at < to)
            && self.event.is_none_or(|event| record.event == event)
            && self.actor.as_ref().is_none_or(|actor| actor.admits(&record.actor))
            && self.subject.is_none_or(|subject| record.subject == Some(subject))
            && self.address.is_none_or(|address| record.origin.address == Some(address))
            && self.outcome.is_none_or(|outcome| record.outcome() == outcome)
    }

    /// Returns whether a record lies so far past the wanted time that no record after it, in this order, can match.
    #[must_use]
    pub fn is_past(&self, record: &AuditRecord, order: AuditOrder) -> bool {
        match order {
            AuditOrder::NewestFirst => self.from.is_some_and(|from| from.since(record.at) > DISORDER),
            AuditOrder::OldestFirst => self.to.is_some_and(|to| record.at.since(to) > DISORDER),
        }
    }
}

/// The order in which records are examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOrder {
    /// From the newest to the oldest.
    NewestFirst,
    /// From the oldest to the newest.
    OldestFirst,
}

/// A query of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// The wanted records.
    pub filter: AuditFilter,
    /// The order.
    pub order: AuditOrder,
    /// Only records after this number, in this order. The record with this number need not exist any more.
    pub after: Option<u64>,
    /// The maximum number of records to return, at least 1.
    pub limit: usize,
    /// The maximum number of records to examine, at least 1, which bounds the work of one call whatever the filter.
    /// With `NewestFirst` and a subject, only the records of that subject count; otherwise all records count.
    pub scan: usize,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// Records with their numbers, in the requested order.
    pub entries: Vec<(u64, AuditRecord)>,
    /// The last record that was examined, matching or not; the given `after` if none was examined.
    pub last: Option<u64>,
    /// Whether there are more records to examine after that one.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::session::Origin;

    fn record(at: i64) -> AuditRecord {
        AuditRecord {
            actor: AuditActorKind::Admin(AccountId::new(3).unwrap()),
            subject: AccountId::new(7),
            origin: Origin::new(Some([192, 0, 2, 1].into()), None, None),
            ..AuditRecord::new(AuditEvent::Login, Timestamp::from_millis(at))
        }
    }

    #[test]
    fn each_part_of_a_filter_counts() {
        let millis = |at| Some(Timestamp::from_millis(at));
        let admits = |filter: AuditFilter| filter.admits(&record(10));
        let none = AuditFilter::default;
        assert!(admits(none()));
        for (good, bad) in [
            (AuditFilter { from: millis(10), ..none() }, AuditFilter { from: millis(11), ..none() }),
            (AuditFilter { to: millis(11), ..none() }, AuditFilter { to: millis(10), ..none() }),
            (
                AuditFilter { event: Some(AuditEvent::Login), ..none() },
                AuditFilter { event: Some(AuditEvent::Logout), ..none() },
            ),
            (
                AuditFilter { actor: AuditActorFilter::parse("admin:3"), ..none() },
                AuditFilter { actor: AuditActorFilter::parse("account:3"), ..none() },
            ),
            (
                AuditFilter { subject: AccountId::new(7), ..none() },
                AuditFilter { subject: AccountId::new(8), ..none() },
            ),
            (
                AuditFilter { address: Some([192, 0, 2, 1].into()), ..none() },
                AuditFilter { address: Some([192, 0, 2, 2].into()), ..none() },
            ),
            (
                AuditFilter { outcome: Some(AuditOutcome::Success), ..none() },
                AuditFilter { outcome: Some(AuditOutcome::Refused), ..none() },
            ),
        ] {
            assert!(admits(good.clone()), "{good:?}");
            assert!(!admits(bad.clone()), "{bad:?}");
        }
    }

    #[test]
    fn an_actor_is_read_as_it_is_written() {
        let id = AccountId::new(7).unwrap();
        let service = AuditActorKind::Service(ServiceName::parse("a: b").unwrap());
        for actor in [
            AuditActorKind::Anonymous,
            AuditActorKind::System,
            AuditActorKind::Account(id),
            AuditActorKind::Admin(id),
            service.clone(),
        ] {
            assert_eq!(AuditActorFilter::parse(&actor.to_string()), Some(AuditActorFilter::One(actor)));
        }
        assert!(AuditActorFilter::parse("service").unwrap().admits(&service));
        assert!(AuditActorFilter::parse("account").unwrap().admits(&AuditActorKind::Account(id)));
        assert!(!AuditActorFilter::parse("admin").unwrap().admits(&AuditActorKind::Account(id)));
        for bad in ["", "x", "account:", "account:0", "account:+7", "admin:x", "service:", "system:1", "Account:7"] {
            assert_eq!(AuditActorFilter::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_search_by_time_ends_two_days_past_it() {
        let day = 24 * 60 * 60 * 1000;
        let filter = AuditFilter {
            from: Some(Timestamp::from_millis(10 * day)),
            to: Some(Timestamp::from_millis(20 * day)),
            ..AuditFilter::default()
        };
        let past = |at, order| filter.is_past(&record(at), order);
        assert!(!past(8 * day, AuditOrder::NewestFirst) && past(8 * day - 1, AuditOrder::NewestFirst));
        assert!(!past(22 * day, AuditOrder::OldestFirst) && past(22 * day + 1, AuditOrder::OldestFirst));
        assert!(!past(99 * day, AuditOrder::NewestFirst) && !past(0, AuditOrder::OldestFirst));
    }
}
