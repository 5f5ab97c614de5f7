//! Records that somebody could cause as often as they like: one of each in a while.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::domain::account::AccountId;
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRecord, AuditRefusal};
use crate::domain::network::ClientNetworks;
use crate::domain::session::SessionId;

/// For how long one record stands for all of its kind.
const WINDOW: Duration = Duration::from_mins(10);
/// What makes two records one kind.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    event: AuditEvent,
    refusal: Option<AuditRefusal>,
    actor: AuditActorKind,
    subject: Option<AccountId>,
    session: Option<SessionId>,
    network: Option<IpAddr>,
}

/// What was taken lately.
pub(super) struct Seldom {
    /// How many different ones are taken in that time: whoever has many addresses cannot make the log grow by more.
    most: usize,
    /// How many leading bits of an IPv6 address name one client (`IPV6_PREFIX`).
    ipv6_prefix: u8,
    began: Duration,
    taken: HashSet<Kind>,
    left_out: u64,
}

impl Seldom {
    pub(super) fn new(most: usize, ipv6_prefix: u8) -> Self {
        Self { most, ipv6_prefix, began: Duration::ZERO, taken: HashSet::new(), left_out: 0 }
    }

    /// Whether a record is to be taken. `now` is of the monotonic clock.
    pub(super) fn takes(&mut self, record: &AuditRecord, now: Duration) -> bool {
        if now.saturating_sub(self.began) >= WINDOW {
            if self.left_out > 0 {
                tracing::warn!(left_out = self.left_out, "too many refusals for the audit log; some are not on record");
            }
            *self = Self { began: now, ..Self::new(self.most, self.ipv6_prefix) };
        }
        let networks = ClientNetworks { ipv6_prefix: self.ipv6_prefix, ..ClientNetworks::default() };
        let kind = Kind {
            event: record.event,
            refusal: record.refusal,
            actor: record.actor.clone(),
            subject: record.subject,
            session: record.session,
            network: record.origin.address.map(|client| networks.of(client)),
        };
        if self.taken.contains(&kind) {
            return false;
        }
        if self.taken.len() == self.most {
            self.left_out += 1;
            return false;
        }
        self.taken.insert(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::session::Origin;
    use crate::domain::time::Timestamp;

    fn denied(address: IpAddr) -> AuditRecord {
        AuditRecord {
            at: Timestamp::from_millis(0),
            event: AuditEvent::AccessDenied,
            actor: AuditActorKind::Anonymous,
            subject: None,
            session: None,
            origin: Origin::new(Some(address), None, None),
            refusal: Some(AuditRefusal::DeadToken),
            details: None,
        }
    }

    #[test]
    fn one_of_a_kind_is_taken_in_a_while() {
        let mut seldom = Seldom::new(256, 64);
        let record = denied([192, 0, 2, 1].into());
        assert!(seldom.takes(&record, Duration::ZERO));
        assert!(!seldom.takes(&record, WINDOW.checked_sub(Duration::from_nanos(1)).unwrap()));
        assert!(seldom.takes(&denied([192, 0, 2, 2].into()), Duration::ZERO));
        let other = AuditRecord { refusal: Some(AuditRefusal::AdminOnly), ..record.clone() };
        assert!(seldom.takes(&other, Duration::ZERO));
        assert!(seldom.takes(&record, WINDOW));
    }

    #[test]
    fn s17_an_ipv6_network_of_the_operators_size_is_one_client() {
        let mut seldom = Seldom::new(256, 56);
        assert!(seldom.takes(&denied("2001:db8:0:ff00::1".parse().unwrap()), Duration::ZERO));
        assert!(!seldom.takes(&denied("2001:db8:0:ffff::2".parse().unwrap()), Duration::ZERO));
        assert!(seldom.takes(&denied("2001:db8:1:ff00::1".parse().unwrap()), Duration::ZERO));
    }

    #[test]
    fn many_addresses_cannot_make_the_log_grow_without_bound() {
        let mut seldom = Seldom::new(256, 64);
        let from = |n: u32| denied(std::net::Ipv4Addr::from_bits(n).into());
        let taken = (0..10_000).filter(|n| seldom.takes(&from(*n), Duration::ZERO)).count();
        assert_eq!(taken, 256);
        assert_eq!(seldom.taken.len(), 256);
        assert!(seldom.takes(&from(1), WINDOW));
    }
}
