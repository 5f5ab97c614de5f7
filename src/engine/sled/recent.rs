//! A cache of recently read rows, of the one kind that every token check reads.
//!
//! To find one of a million accounts, the tree always searches a page, and may have to read that page from disk. The cache needs one
//! look-up in a table. Its answers are never older than those of the tree (S38): the committer removes a row before it changes it,
//! and nothing is cached for the row until the change is in the tree.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::Weighter;
use quick_cache::unsync::Cache;

/// The cache has 2^4 = 16 parts with a lock each, so that threads rarely wait for each other.
const PART_BITS: u32 = 4;
/// The maximum size of all parts together: 48 MiB. A row takes about 400 bytes.
const MOST_BYTES: u64 = 48 * 1024 * 1024;
/// The size of a cached row besides its value: its key, its slot in the table and its place in the eviction order.
const OVERHEAD_BYTES: u64 = 80;
/// How many evicted keys a part remembers, to recognise them when they are read again. The number is small, because each of them
/// takes as much room as a cached row.
const NOTED: usize = 64;

/// The cache. The key of a cached row is the prefix and a number of eight bytes.
pub(super) struct RecentRows {
    prefix: &'static [u8],
    parts: Vec<Mutex<Part>>,
}

/// One part of the cache. It evicts the least used rows first.
struct Part {
    rows: Cache<u64, Box<[u8]>, Bytes>,
    /// Incremented when a change begins and when it ends.
    /// A value that was read before the last increment may be outdated and is not cached.
    changes: u64,
    /// Whether a change is in progress.
    changing: bool,
}

/// The result of a cache look-up.
pub(super) enum Recent {
    /// A hit, with the value.
    Known(Vec<u8>),
    /// A miss. The value that the tree returns now can be [kept](RecentRows::keep) under this number.
    Unknown(u64),
    /// Rows of this kind are not cached.
    Never,
}

impl RecentRows {
    /// Creates a cache for rows whose keys begin with this prefix.
    pub(super) fn new(prefix: &'static [u8]) -> Self {
        Self { prefix, parts: (0..1 << PART_BITS).map(|_| Mutex::new(Part::new())).collect() }
    }

    /// Looks up a row.
    pub(super) fn read(&self, key: &[u8]) -> Recent {
        let Some(id) = self.number(key) else { return Recent::Never };
        let part = self.part(id);
        match part.rows.get(&id) {
            Some(stored) => Recent::Known(stored.to_vec()),
            None => Recent::Unknown(part.changes),
        }
    }

    /// Caches the value that the tree returned after [`Self::read`] gave this number, unless rows changed since then.
    pub(super) fn keep(&self, key: &[u8], number: u64, stored: &[u8]) {
        let Some(id) = self.number(key) else { return };
        let mut part = self.part(id);
        if part.changes == number && !part.changing {
            part.rows.insert(id, stored.into());
        }
    }

    /// Removes rows that are about to change. Nothing is cached in their parts until [`Self::changed`].
    /// Only the one writer calls this method and [`Self::changed`].
    pub(super) fn change<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        for id in keys.filter_map(|key| self.number(key)) {
            let mut part = self.part(id);
            part.changing = true;
            part.changes += 1;
            part.rows.remove(&id);
        }
    }

    /// Ends a change: the tree now contains it.
    pub(super) fn changed<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        for id in keys.filter_map(|key| self.number(key)) {
            let mut part = self.part(id);
            part.changing = false;
            // A value that was read during the change may be the old one.
            part.changes += 1;
        }
    }

    fn number(&self, key: &[u8]) -> Option<u64> {
        Some(u64::from_be_bytes(key.strip_prefix(self.prefix)?.try_into().ok()?))
    }

    fn part(&self, id: u64) -> MutexGuard<'_, Part> {
        // Fibonacci hashing: the highest bits of the product are spread evenly, also for ids with a common pattern.
        let part = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - PART_BITS);
        // `PART_BITS` bits are always a valid index into `parts`.
        self.parts[usize::try_from(part).unwrap_or_default()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn new() -> Self {
        let rows = Cache::with_weighter(NOTED, MOST_BYTES >> PART_BITS, Bytes);
        Self { rows, changes: 0, changing: false }
    }
}

/// Weighs a cached row, in bytes.
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
        // A row that is read often stays in the cache, however many other rows are read.
        for n in 100_001..300_000 {
            ask(n);
            assert!(n % 16 != 0 || ask(1));
        }
        let weight: u64 = recent.parts.iter().map(|part| part.lock().unwrap().rows.weight()).sum();
        assert!(weight <= MOST_BYTES);
        assert!((1..300_000).any(|n| !ask(n)), "some made room");
    }
}
