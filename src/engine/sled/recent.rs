//! Rows that were asked for lately, of the one kind that every token check reads.
//!
//! The tree finds one of a million accounts in a page that it may have to read from the disk and always has to search; here it
//! is one look into a table. What is told is never older than what the tree tells (S38): the committer takes a row out before it
//! changes it, and until it has, nothing of it is kept here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::Weighter;
use quick_cache::unsync::Cache;

/// Parts that are locked apart, so that threads rarely wait for each other: 16.
const PART_BITS: u32 = 4;
/// How much all of them hold: 48 MiB, of some 400 bytes each.
const MOST_BYTES: u64 = 48 * 1024 * 1024;
/// What a row takes besides its value: its key, its place in the table and in the order in which they are forgotten.
const OVERHEAD_BYTES: u64 = 80;
/// How many of the forgotten a part notes, to know them when they come back: few, as each takes as much room as a known one.
const NOTED: usize = 64;

/// Rows whose keys are a prefix and a number of eight bytes.
pub(super) struct RecentRows {
    prefix: &'static [u8],
    parts: Vec<Mutex<Part>>,
}

/// What was asked about lately. What was asked about least goes first.
struct Part {
    rows: Cache<u64, Box<[u8]>, Bytes>,
    /// Grows when a change begins and when it is done. What was read before that may be of before the change, and is not kept.
    changes: u64,
    /// A change is under way.
    changing: bool,
}

/// What is known of a row.
pub(super) enum Recent {
    /// Its value.
    Known(Vec<u8>),
    /// Nothing; what is read from the tree now can be [kept](RecentRows::keep) under this number.
    Unknown(u64),
    /// Rows of its kind are not kept.
    Never,
}

impl RecentRows {
    /// Keeps rows whose keys begin with this.
    pub(super) fn new(prefix: &'static [u8]) -> Self {
        Self { prefix, parts: (0..1 << PART_BITS).map(|_| Mutex::new(Part::new())).collect() }
    }

    /// The value of a row, if it is here.
    pub(super) fn read(&self, key: &[u8]) -> Recent {
        let Some(id) = self.number(key) else { return Recent::Never };
        let part = self.part(id);
        match part.rows.get(&id) {
            Some(stored) => Recent::Known(stored.to_vec()),
            None => Recent::Unknown(part.changes),
        }
    }

    /// Keeps what the tree said after [`Self::read`] gave this number, unless rows changed since.
    pub(super) fn keep(&self, key: &[u8], number: u64, stored: &[u8]) {
        let Some(id) = self.number(key) else { return };
        let mut part = self.part(id);
        if part.changes == number && !part.changing {
            part.rows.insert(id, stored.into());
        }
    }

    /// Takes rows out that are about to change, and tells by the tree alone until [`Self::changed`]. Called by the one writer, as
    /// is that.
    pub(super) fn change<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        for id in keys.filter_map(|key| self.number(key)) {
            let mut part = self.part(id);
            part.changing = true;
            part.changes += 1;
            part.rows.remove(&id);
        }
    }

    /// The tree has the change.
    pub(super) fn changed<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        for id in keys.filter_map(|key| self.number(key)) {
            let mut part = self.part(id);
            part.changing = false;
            // What was read while it changed may be of before it.
            part.changes += 1;
        }
    }

    fn number(&self, key: &[u8]) -> Option<u64> {
        Some(u64::from_be_bytes(key.strip_prefix(self.prefix)?.try_into().ok()?))
    }

    fn part(&self, id: u64) -> MutexGuard<'_, Part> {
        // The highest bits of a product that spreads numbers which have something in common (Fibonacci hashing).
        let part = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - PART_BITS);
        // So few bits are a number below that of the parts.
        self.parts[usize::try_from(part).unwrap_or_default()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn new() -> Self {
        let rows = Cache::with_weighter(NOTED, MOST_BYTES >> PART_BITS, Bytes);
        Self { rows, changes: 0, changing: false }
    }
}

/// What an account takes, in bytes.
struct Bytes;

impl Weighter<u64, Box<[u8]>> for Bytes {
    fn weight(&self, _: &u64, stored: &Box<[u8]>) -> u64 {
        u64::try_from(stored.len()).unwrap_or(u64::MAX).saturating_add(OVERHEAD_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &[u8] = &[7];

    fn id(n: u64) -> Vec<u8> {
        [PREFIX, &n.to_be_bytes()].concat()
    }

    fn read(recent: &RecentRows, n: u64) -> Result<Vec<u8>, u64> {
        match recent.read(&id(n)) {
            Recent::Known(stored) => Ok(stored),
            Recent::Unknown(number) => Err(number),
            Recent::Never => panic!("a key of another kind"),
        }
    }

    #[test]
    fn s38_what_was_read_before_a_change_is_not_kept_after_it() {
        let recent = RecentRows::new(PREFIX);
        let number = read(&recent, 1).unwrap_err();
        recent.change(std::iter::once(&id(1)[..]));
        recent.keep(&id(1), number, b"old");
        let number = read(&recent, 1).unwrap_err();
        recent.keep(&id(1), number, b"old");
        assert!(read(&recent, 1).is_err(), "nobody knows what the engine said while it changed");
        recent.changed(std::iter::once(&id(1)[..]));
        recent.keep(&id(1), number, b"old");
        assert!(read(&recent, 1).is_err(), "nor whether it was read before or after the change");
        let number = read(&recent, 1).unwrap_err();
        recent.keep(&id(1), number, b"new");
        assert_eq!(read(&recent, 1).unwrap(), b"new");
        recent.change(std::iter::once(&id(1)[..]));
        assert!(read(&recent, 1).is_err());
    }

    #[test]
    fn it_keeps_a_hundred_thousand_and_stays_small() {
        let recent = RecentRows::new(PREFIX);
        let ask = |n: u64| match read(&recent, n) {
            Ok(_) => true,
            Err(number) => {
                recent.keep(&id(n), number, &[0; 320]);
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
        let weight: u64 = recent.parts.iter().map(|part| part.lock().unwrap().rows.weight()).sum();
        assert!(weight <= MOST_BYTES);
        assert!((1..300_000).any(|n| !ask(n)), "some made room");
    }
}
