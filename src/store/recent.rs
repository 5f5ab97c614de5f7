//! Accounts that were asked for lately, as they are stored.
//!
//! Every token check reads an account. The engine finds one of a million in a page that it may have to read from the disk and
//! always has to search; here it is one look into a table. What is told is never older than what the engine tells (S38): the
//! committer takes an account out before it changes it, and until it has, nothing of it is kept here. So whoever was told of
//! a change by one way is not told of what was before it by another.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use doorward_actors::AccountId;

/// Parts that are locked apart, so that threads rarely wait for each other: 16.
const PART_BITS: u32 = 4;
/// How many accounts the younger or the older half of a part holds: what a table of 8,192 places takes before it grows. Two
/// halves of 16 parts, and some 300 bytes an account: all are full at some 80 MB, of up to 229,376 accounts.
const HALF: usize = 7168;

/// The stored forms of accounts.
#[derive(Debug)]
pub(super) struct RecentAccounts {
    parts: Vec<Mutex<Part>>,
}

/// What was asked about lately, and what before that. When the younger is full the older goes.
#[derive(Debug, Default)]
struct Part {
    young: HashMap<AccountId, Box<[u8]>>,
    old: HashMap<AccountId, Box<[u8]>>,
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
        Self { parts: (0..1 << PART_BITS).map(|_| Mutex::default()).collect() }
    }

    /// Reads an account, if it is here.
    pub(super) fn read<T>(&self, id: AccountId, read: impl FnOnce(&[u8]) -> T) -> Recent<T> {
        let mut part = self.part(id);
        if let Some(stored) = part.young.get(&id) {
            return Recent::Known(read(stored));
        }
        let Some(stored) = part.old.remove(&id) else { return Recent::Unknown(part.changes) };
        let known = Recent::Known(read(&stored));
        part.remember(id, stored);
        known
    }

    /// Keeps what the engine said after [`Self::read`] gave this number, unless accounts changed since.
    pub(super) fn keep(&self, id: AccountId, number: u64, stored: &[u8]) {
        let mut part = self.part(id);
        if part.changes == number && !part.changing {
            part.remember(id, stored.into());
        }
    }

    /// Takes accounts out that are about to change, and tells by the engine alone until [`Self::changed`]. Called by the one
    /// writer, as is that.
    pub(super) fn change(&self, accounts: &[AccountId]) {
        for id in accounts {
            let mut part = self.part(*id);
            part.changing = true;
            part.changes += 1;
            part.young.remove(id);
            part.old.remove(id);
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

    fn part(&self, id: AccountId) -> std::sync::MutexGuard<'_, Part> {
        // The highest bits of a product that spreads numbers which have something in common (Fibonacci hashing).
        let part = id.get().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - PART_BITS);
        // So few bits are a number below that of the parts.
        self.parts[usize::try_from(part).unwrap_or_default()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn remember(&mut self, id: AccountId, stored: Box<[u8]>) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, stored);
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
    fn it_stays_small_and_keeps_what_is_asked_about() {
        let recent = RecentAccounts::new();
        let ask = |n: u64| match read(&recent, n) {
            Ok(_) => true,
            Err(number) => {
                recent.keep(id(n), number, &n.to_be_bytes());
                false
            }
        };
        ask(1);
        for n in 2..20 * 16 * HALF as u64 {
            ask(n);
            assert!(n % 16 != 0 || ask(1));
        }
        let held = |part: &Mutex<Part>| {
            let part = part.lock().unwrap();
            part.young.len() + part.old.len()
        };
        assert!(recent.parts.iter().map(held).sum::<usize>() <= 2 * 16 * HALF);
        assert!(!ask(2));
    }
}
