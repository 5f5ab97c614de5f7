//! Leases: what one node does for all of them, for a time.

use std::time::Duration;

use super::time::Timestamp;

/// How long a lease lasts. When its holder crashes, another node takes over after this time. One that ends later was written by a
/// clock that was ahead, and keeps nobody out (R05).
pub(crate) const LEASE_TIME: Duration = Duration::from_mins(10);

/// What is done by one node at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lease {
    /// Removing counters of failed attempts that have no effect any more.
    PruneFailures,
    /// Removing audit records that are too old or too many.
    PruneAudit,
    /// Removing given-up mails and counts of mails of earlier days.
    PruneMails,
    /// Removing revocations that no living token needs.
    PruneRevocations,
    /// Removing accounts that nobody verified.
    RemoveUnverified,
    /// Making a signing key when the present one is old.
    RotateKeys,
    /// Making a backup when one is due.
    MakeBackup,
}

impl Lease {
    /// Every lease.
    pub const ALL: [Self; 7] = [
        Self::PruneFailures,
        Self::PruneAudit,
        Self::PruneMails,
        Self::PruneRevocations,
        Self::RemoveUnverified,
        Self::RotateKeys,
        Self::MakeBackup,
    ];

    /// The number under which it is stored; never given to another one.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::PruneFailures => 1,
            Self::PruneAudit => 2,
            Self::PruneMails => 3,
            Self::PruneRevocations => 4,
            Self::RemoveUnverified => 5,
            Self::RotateKeys => 6,
            Self::MakeBackup => 7,
        }
    }
}

/// Who holds a lease, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseClaim {
    /// The holder: random, chosen at each start of a process.
    pub holder: [u8; 16],
    /// Until when.
    pub until: Timestamp,
}

impl LeaseClaim {
    /// Whether this claim, which is stored, refuses another one.
    #[must_use]
    pub fn keeps_out(&self, other: &Self, now: Timestamp) -> bool {
        self.holder != other.holder && now < self.until && self.until <= now.plus(LEASE_TIME * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_one_holder_until_it_ends() {
        let claim = |holder: u8, until| LeaseClaim { holder: [holder; 16], until: Timestamp::from_millis(until) };
        let at = Timestamp::from_millis;
        let held = claim(1, 100);
        assert!(held.keeps_out(&claim(2, 200), at(99)));
        assert!(!held.keeps_out(&claim(1, 200), at(99)), "the holder renews it");
        assert!(!held.keeps_out(&claim(2, 200), at(100)));
        let years_ahead = claim(1, i64::MAX);
        assert!(!years_ahead.keeps_out(&claim(2, 200), at(99)), "a clock that was ahead keeps nobody out for ever");
    }

    #[test]
    fn leases_have_distinct_numbers() {
        let mut numbers = Lease::ALL.map(Lease::number).to_vec();
        numbers.dedup();
        assert_eq!(numbers.len(), Lease::ALL.len());
    }
}
