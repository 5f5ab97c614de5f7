//! What can be asked of the audit log.

use std::net::IpAddr;
use std::time::Duration;

use super::{AuditActorKind, AuditEvent, AuditOutcome, AuditRecord, ServiceName};
use crate::domain::account::AccountId;
use crate::domain::time::Timestamp;

/// By how much the time of a record may be off from its place in the log before a search by time misses it. A clock that is
/// wrong by a day puts two records at most two days out of order.
const DISORDER: Duration = Duration::from_hours(48);

/// Which records are wanted: those that fit every part that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Made at this time or later.
    pub from: Option<Timestamp>,
    /// Made before this time.
    pub to: Option<Timestamp>,
    /// What happened.
    pub event: Option<AuditEvent>,
    /// Who did it.
    pub actor: Option<AuditActorFilter>,
    /// Whose account it was done to.
    pub subject: Option<AccountId>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// How it ended.
    pub outcome: Option<AuditOutcome>,
}

/// Which actors are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditActorFilter {
    /// This one.
    One(AuditActorKind),
    /// Any owner of an account.
    AnyAccount,
    /// Any administrator.
    AnyAdmin,
    /// Any service.
    AnyService,
}

impl AuditActorFilter {
    /// Reads an actor as it is written, or a kind of actors: `account`, `admin`, `service`.
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
    /// Whether a record is wanted.
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

    /// Whether a record lies so far past the wanted time that none after it, in this order, is looked for.
    #[must_use]
    pub fn is_past(&self, record: &AuditRecord, order: AuditOrder) -> bool {
        match order {
            AuditOrder::NewestFirst => self.from.is_some_and(|from| from.since(record.at) > DISORDER),
            AuditOrder::OldestFirst => self.to.is_some_and(|to| record.at.since(to) > DISORDER),
        }
    }
}

/// In which order records are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOrder {
    /// From the newest on.
    NewestFirst,
    /// From the oldest on.
    OldestFirst,
}

/// A question to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// Which records.
    pub filter: AuditFilter,
    /// In which order.
    pub order: AuditOrder,
    /// Only those that come after this one, in this order. It need not exist any more.
    pub after: Option<u64>,
    /// How many to return at most, at least 1.
    pub limit: usize,
    /// How many to look at at most, at least 1. Newest first and with a subject, only records with that subject count;
    /// otherwise all records do. So one call has bounded work, whatever the filter.
    pub scan: usize,
}

/// What a question is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// Records with their numbers, in the order that was asked for.
    pub entries: Vec<(u64, AuditRecord)>,
    /// The last record that was looked at, wanted or not; what was asked for as `after` if there was none.
    pub last: Option<u64>,
    /// Whether records after that one are still to be looked at.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::session::Origin;

    fn record(at: i64) -> AuditRecord {
        AuditRecord {
            at: Timestamp::from_millis(at),
            event: AuditEvent::Login,
            actor: AuditActorKind::Admin(AccountId::new(3).unwrap()),
            subject: AccountId::new(7),
            session: None,
            origin: Origin::new(Some([192, 0, 2, 1].into()), None, None),
            refusal: None,
            details: None,
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
