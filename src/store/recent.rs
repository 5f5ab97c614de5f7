//! Accounts that were asked for lately, as they are stored.
//!
//! Every token check reads an account. The engine finds one of a million in a page that it may have to read from the disk and
//! always has to search; here it is one look into a table. What is told is never older than what the engine tells (S38): the
//! committer takes an account out before it changes it, and until it has, nothing of it is kept here. So whoever was told of
//! a change by one way is not told of what was before it by another.

use std::sync::{Mutex, MutexGuard, PoisonError};

use doorward_actors::AccountId;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

/// Parts that are locked apart, so that threads rarely wait for each other: 16.
const PART_BITS: u32 = 4;
/// How much all of them hold: 48 MiB, of some 400 bytes an account.
const MOST_BYTES: u64 = 48 * 1024 * 1024;
/// What an account takes besides its stored form: its key, its place in the table and in the order in which they are forgotten.
const OVERHEAD_BYTES: u64 = 80;
/// How many of the forgotten a part notes, to know them when they come back: few, as each takes as much room as a known one.
const NOTED: usize = 64;

/// The stored forms of accounts.
pub(super) struct RecentAccounts {
    parts: Vec<Mutex<Part>>,
}

/// What was asked about lately. What was asked about least goes first.
struct Part {
    accounts: Cache<AccountId, Box<[u8]>, Bytes>,
    /// Grows when a change begins and when it is done. What was read before that may be of before the change, and is not kept.
    changes: u64,
    /// A change is under way.
    changing: bool,
}

/// What is known of an account.
pub(super) enum Recent<T> {
    /// This.
    Known(T),
    /// Nothing; what is read from the engine now can be [kept](RecentAccounts::keep) under this number.
    Unknown(u64),
}

impl RecentAccounts {
    pub(super) fn new() -> Self {
        Self { parts: (0..1 << PART_BITS).map(|_| Mutex::new(Part::new())).collect() }
    }

    /// Reads an account, if it is here.
    pub(super) fn read<T>(&self, id: AccountId, read: impl FnOnce(&[u8]) -> T) -> Recent<T> {
        let part = self.part(id);
        match part.accounts.get(&id) {
            Some(stored) => Recent::Known(read(stored)),
            None => Recent::Unknown(part.changes),
        }
    }

    /// Keeps what the engine said after [`Self::read`] gave this number, unless accounts changed since.
    pub(super) fn keep(&self, id: AccountId, number: u64, stored: &[u8]) {
        let mut part = self.part(id);
        if part.changes == number && !part.changing {
            part.accounts.insert(id, stored.into());
        }
    }

    /// Takes accounts out that are about to change, and tells by the engine alone until [`Self::changed`]. Called by the one
    /// writer, as is that.
    pub(super) fn change(&self, accounts: &[AccountId]) {
        for id in accounts {
            let mut part = self.part(*id);
            part.changing = true;
            part.changes += 1;
            part.accounts.remove(id);
        }
    }

    /// The engine has the change.
    pub(super) fn changed(&self, accounts: &[AccountId]) {
        for id in accounts {
            let mut part = self.part(*id);
            part.changing = false;
            // What was read while it changed may be of before it.
            part.changes += 1;
        }
    }

    fn part(&self, id: AccountId) -> MutexGuard<'_, Part> {
        // The highest bits of a product that spreads numbers which have something in common (Fibonacci hashing).
        let part = id.get().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - PART_BITS);
        // So few bits are a number below that of the parts.
        self.parts[usize::try_from(part).unwrap_or_default()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn new() -> Self {
        let accounts = Cache::with_weighter(NOTED, MOST_BYTES >> PART_BITS, Bytes);
        Self { accounts, changes: 0, changing: false }
    }
}

/// What an account takes, in bytes.
struct Bytes;

impl Weighter<AccountId, Box<[u8]>> for Bytes {
    fn weight(&self, _: &AccountId, stored: &Box<[u8]>) -> u64 {
        u64::try_from(stored.len()).unwrap_or(u64::MAX).saturating_add(OVERHEAD_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> AccountId {
        AccountId::new(n).unwrap()
    }

    fn read(recent: &RecentAccounts, n: u64) -> Result<Vec<u8>, u64> {
        match recent.read(id(n), <[u8]>::to_vec) {
            Recent::Known(stored) => Ok(stored),
            Recent::Unknown(number) => Err(number),
        }
    }

    #[test]
    fn s38_what_was_read_before_a_change_is_not_kept_after_it() {
        let recent = RecentAccounts::new();
        let number = read(&recent, 1).unwrap_err();
        recent.change(&[id(1)]);
        recent.keep(id(1), number, b"old");
        let number = read(&recent, 1).unwrap_err();
        recent.keep(id(1), number, b"old");
        assert!(read(&recent, 1).is_err(), "nobody knows what the engine said while it changed");
        recent.changed(&[id(1)]);
        recent.keep(id(1), number, b"old");
        assert!(read(&recent, 1).is_err(), "nor whether it was read before or after the change");
        let number = read(&recent, 1).unwrap_err();
        recent.keep(id(1), number, b"new");
        assert_eq!(read(&recent, 1).unwrap(), b"new");
        recent.change(&[id(1)]);
        assert!(read(&recent, 1).is_err());
    }

    #[test]
    fn it_keeps_a_hundred_thousand_and_stays_small() {
        let recent = RecentAccounts::new();
        let ask = |n: u64| match read(&recent, n) {
            Ok(_) => true,
            Err(number) => {
                recent.keep(id(n), number, &[0; 320]);
                false
            }
        };
        for known in [false, true, true] {
            assert!((1..=100_000).all(|n| ask(n) == known));
        }
        // One that is asked about often stays, whatever comes.
        for n in 100_001..300_000 {
            ask(n);
            assert!(n % 16 != 0 || ask(1));
        }
        let weight: u64 = recent.parts.iter().map(|part| part.lock().unwrap().accounts.weight()).sum();
        assert!(weight <= MOST_BYTES);
        assert!((1..300_000).any(|n| !ask(n)), "some made room");
    }
}
