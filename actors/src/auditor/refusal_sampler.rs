//! A limit on records that a client can cause at will: only one of each kind in a time window.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::domain::account::AccountId;
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRecord, AuditRefusal};
use crate::domain::network::ClientNetworks;
use crate::domain::session::SessionId;

/// How long one record stands for all of its kind.
const WINDOW: Duration = Duration::from_mins(10);
/// The part of all kinds that one account, service or network may cause is 1/`SHARE`, so that nobody can use up the room of
/// others (S75).
const SHARE: usize = 16;

/// The properties that make two records the same kind.
/// A refusal is of the same kind in every session of an account, because a new session costs nothing.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    event: AuditEvent,
    refusal: Option<AuditRefusal>,
    actor: AuditActorKind,
    subject: Option<AccountId>,
    session: Option<SessionId>,
    network: Option<IpAddr>,
}

/// The source of a record: the account or service if known, otherwise the network.
#[derive(PartialEq, Eq, Hash)]
enum Source {
    Known(AuditActorKind),
    Network(Option<IpAddr>),
}

/// The decision about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The record is to be written.
    Taken,
    /// A record of its kind was written in the same window.
    Known,
    /// There is no room for another kind in this window.
    LeftOut,
}

/// The kinds of records that were written in the current window.
pub(super) struct RefusalSampler {
    /// The maximum number of kinds per window, which also limits a client with many addresses.
    most: usize,
    /// The number of leading bits of an IPv6 address that identify one client (`IPV6_PREFIX`).
    ipv6_prefix: u8,
    began: Duration,
    taken: HashSet<Kind>,
    sources: HashMap<Source, usize>,
}

impl RefusalSampler {
    pub(super) fn new(most: usize, ipv6_prefix: u8) -> Self {
        Self { most, ipv6_prefix, began: Duration::ZERO, taken: HashSet::new(), sources: HashMap::new() }
    }

    /// Decides about a record. `now` is on the monotonic clock.
    pub(super) fn judge(&mut self, record: &AuditRecord, now: Duration) -> Verdict {
        if now.saturating_sub(self.began) >= WINDOW {
            *self = Self { began: now, ..Self::new(self.most, self.ipv6_prefix) };
        }
        let networks = ClientNetworks { ipv6_prefix: self.ipv6_prefix, ..ClientNetworks::default() };
        let network = record.origin.address.map(|client| networks.of(client));
        let kind = Kind {
            event: record.event,
            refusal: record.refusal,
            actor: record.actor.clone(),
            subject: record.subject,
            session: record.session.filter(|_| record.refusal.is_none()),
            network,
        };
        if self.taken.contains(&kind) {
            return Verdict::Known;
        }
        let source = match &record.actor {
            AuditActorKind::Anonymous | AuditActorKind::System => Source::Network(network),
            known => Source::Known(known.clone()),
        };
        let of_source = self.sources.get(&source).copied().unwrap_or(0);
        if self.taken.len() >= self.most || of_source >= self.most / SHARE {
            return Verdict::LeftOut;
        }
        self.sources.insert(source, of_source + 1);
        self.taken.insert(kind);
        Verdict::Taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::session::Origin;
    use crate::domain::time::Timestamp;

    fn denied(address: IpAddr) -> AuditRecord {
        AuditRecord {
            actor: AuditActorKind::Anonymous,
            origin: Origin::new(Some(address), None, None),
            refusal: Some(AuditRefusal::DeadToken),
            ..AuditRecord::new(AuditEvent::AccessDenied, Timestamp::from_millis(0))
        }
    }

    #[test]
    fn one_of_a_kind_is_taken_in_a_while() {
        let mut seldom = RefusalSampler::new(256, 64);
        let record = denied([192, 0, 2, 1].into());
        assert_eq!(seldom.judge(&record, Duration::ZERO), Verdict::Taken);
        assert_eq!(seldom.judge(&record, WINDOW.checked_sub(Duration::from_nanos(1)).unwrap()), Verdict::Known);
        assert_eq!(seldom.judge(&denied([192, 0, 2, 2].into()), Duration::ZERO), Verdict::Taken);
        let other = AuditRecord { refusal: Some(AuditRefusal::AdminOnly), ..record.clone() };
        assert_eq!(seldom.judge(&other, Duration::ZERO), Verdict::Taken);
        assert_eq!(seldom.judge(&record, WINDOW), Verdict::Taken);
    }

    #[test]
    fn s17_an_ipv6_network_of_the_operators_size_is_one_client() {
        let mut seldom = RefusalSampler::new(256, 56);
        assert_eq!(seldom.judge(&denied("2001:db8:0:ff00::1".parse().unwrap()), Duration::ZERO), Verdict::Taken);
        assert_eq!(seldom.judge(&denied("2001:db8:0:ffff::2".parse().unwrap()), Duration::ZERO), Verdict::Known);
        assert_eq!(seldom.judge(&denied("2001:db8:1:ff00::1".parse().unwrap()), Duration::ZERO), Verdict::Taken);
    }

    #[test]
    fn many_addresses_cannot_make_the_log_grow_without_bound() {
        let mut seldom = RefusalSampler::new(256, 64);
        let from = |n: u32| denied(std::net::Ipv4Addr::from_bits(n).into());
        let taken = (0..10_000).filter(|n| seldom.judge(&from(*n), Duration::ZERO) == Verdict::Taken).count();
        assert_eq!(taken, 256);
        assert_eq!((seldom.taken.len(), seldom.sources.len()), (256, 256));
        assert_eq!(seldom.judge(&from(1), WINDOW), Verdict::Taken);
    }

    #[test]
    fn d13_s75_nobody_keeps_others_off_the_record() {
        let mut seldom = RefusalSampler::new(256, 64);
        let of = |actor: u64, subject: u64| AuditRecord {
            actor: AuditActorKind::Admin(AccountId::new(actor).unwrap()),
            subject: AccountId::new(subject),
            ..denied([192, 0, 2, 1].into())
        };
        let mut judged = |actor, subject| seldom.judge(&of(actor, subject), Duration::ZERO);
        let taken = (1..=10_000).filter(|subject| judged(1, *subject) == Verdict::Taken).count();
        assert_eq!(taken, 16);
        assert_eq!(judged(1, 10_001), Verdict::LeftOut);
        assert_eq!(judged(2, 1), Verdict::Taken);
        assert_eq!(seldom.sources.len(), 2);
    }

    #[test]
    fn d13_a_refusal_is_of_one_kind_in_every_session_of_an_account() {
        let mut seldom = RefusalSampler::new(256, 64);
        let within = |session: u8, refusal| AuditRecord {
            actor: AuditActorKind::Account(AccountId::new(1).unwrap()),
            session: Some(SessionId::from_bytes([session; 16])),
            refusal,
            ..denied([192, 0, 2, 1].into())
        };
        let refused = Some(AuditRefusal::NicknameTaken);
        assert_eq!(seldom.judge(&within(1, refused), Duration::ZERO), Verdict::Taken);
        assert_eq!(seldom.judge(&within(2, refused), Duration::ZERO), Verdict::Known);
        assert_eq!(seldom.judge(&within(1, None), Duration::ZERO), Verdict::Taken);
        assert_eq!(seldom.judge(&within(2, None), Duration::ZERO), Verdict::Taken);
    }
}
