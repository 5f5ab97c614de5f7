//! An overlay over the rows of an engine with the pending writes of a group of changes.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::engine::{Fault, Row, Rows, View};

/// Rows to write, by key. `None` removes.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A view of the rows as they will be after this group. A change reads what the changes before it wrote.
/// Its own writes join the group only when they are [kept](Self::keep).
pub struct Overlay<'a> {
    base: &'a dyn Rows,
    /// The writes of the kept changes of this group. `None` removes.
    group: Writes,
    /// The writes of the current change.
    change: Writes,
    /// The size of `group`, keys and values, in bytes. A row that is written twice counts twice.
    bytes: usize,
}

impl<'a> Overlay<'a> {
    /// Creates an empty overlay.
    pub fn new(base: &'a dyn Rows) -> Self {
        Self { base, group: Writes::new(), change: Writes::new(), bytes: 0 }
    }

    /// Creates an overlay with the [writes](Self::into_writes) of an earlier one.
    #[must_use]
    pub fn resume(base: &'a dyn Rows, writes: Writes) -> Self {
        Self { group: writes, ..Self::new(base) }
    }

    /// Adds the writes of the current change to the group.
    pub fn keep(&mut self) {
        for (key, value) in std::mem::take(&mut self.change) {
            self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            self.group.insert(key, value);
        }
    }

    /// Discards the writes of the current change.
    pub fn discard(&mut self) {
        self.change.clear();
    }

    /// Returns the size of the writes of the kept changes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the writes of the kept changes, in the order of the keys. `None` removes.
    #[must_use]
    pub fn into_writes(self) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        self.group
    }

    fn written(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.change.get(key).or_else(|| self.group.get(key))
    }
}

/// Returns whether a range is valid: `BTreeMap` panics if it ends before it begins.
pub(super) fn is_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Excluded(from), Bound::Excluded(to)) => from < to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from <= to,
        _ => true,
    }
}

impl Rows for Overlay<'_> {
    fn get_raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        match self.written(key) {
            Some(written) => Ok(written.clone()),
            None => self.base.get_raw(key),
        }
    }

    fn has(&self, key: &[u8]) -> Result<bool, Fault> {
        match self.written(key) {
            Some(written) => Ok(written.is_some()),
            None => self.base.has(key),
        }
    }

    fn range_raw(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, Fault> {
        if !is_range(from, to) {
            return Ok(Vec::new());
        }
        let mut written: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
        for writes in [&self.group, &self.change] {
            written.extend(writes.range::<[u8], _>((from, to)).map(|(key, value)| (key.as_slice(), value.as_deref())));
        }
        // Fetch as many additional rows as may be removed or replaced, so that enough remain.
        let rows = self.base.range_raw(from, to, limit.saturating_add(written.len()))?;
        if written.is_empty() {
            return Ok(rows);
        }
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = rows.into_iter().collect();
        for (key, value) in written {
            match value {
                Some(value) => merged.insert(key.to_vec(), value.to_vec()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().take(limit).collect())
    }
}

impl View for Overlay<'_> {
    fn put_raw(&mut self, key: &[u8], value: Vec<u8>) {
        self.change.insert(key.to_vec(), Some(value));
    }

    fn remove(&mut self, key: &[u8]) {
        self.change.insert(key.to_vec(), None);
    }

    fn as_rows(&self) -> &dyn Rows {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::memory::MemoryRows;
    use super::*;

    fn rows(rows: &[(&[u8], &[u8])]) -> MemoryRows {
        rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }

    fn scan(overlay: &Overlay<'_>, from: &[u8], limit: usize) -> Vec<Row> {
        overlay.range_raw(Bound::Included(from), Bound::Excluded(b"b"), limit).unwrap()
    }

    #[test]
    fn a_change_sees_kept_changes_and_nothing_of_discarded_ones() {
        let base = rows(&[(b"a1", b"stored"), (b"a2", b"stored")]);
        let mut overlay = Overlay::new(&base);
        overlay.put_raw(b"a3", b"kept".to_vec());
        overlay.remove(b"a1");
        overlay.keep();
        overlay.put_raw(b"a2", b"discarded".to_vec());
        overlay.put_raw(b"a1", b"discarded".to_vec());
        assert_eq!(overlay.get_raw(b"a2").unwrap().unwrap(), b"discarded");
        overlay.discard();
        overlay.put_raw(b"b1", b"current".to_vec());
        let both = [(b"a2".to_vec(), b"stored".to_vec()), (b"a3".to_vec(), b"kept".to_vec())];
        assert_eq!(scan(&overlay, b"a", usize::MAX), both);
        assert_eq!(scan(&overlay, b"a", 1), both[..1]);
        assert_eq!(scan(&overlay, b"a3", 9), both[1..]);
        assert_eq!(scan(&overlay, b"c", 9), []);
        assert!(!overlay.has(b"a1").unwrap());
        assert!(overlay.has(b"b1").unwrap());

        let writes = overlay.into_writes();
        assert_eq!(writes.get(b"a1".as_slice()), Some(&None));
        assert!(!writes.contains_key(b"b1".as_slice()), "a change that was not kept is not written");
        assert_eq!(writes.get(b"a3".as_slice()), Some(&Some(b"kept".to_vec())));
    }

    #[test]
    fn a_limit_counts_the_rows_that_are_left() {
        let base = rows(&[(b"a1", b"1"), (b"a2", b"2"), (b"a3", b"3"), (b"a4", b"4")]);
        let mut overlay = Overlay::new(&base);
        overlay.remove(b"a1");
        overlay.remove(b"a3");
        overlay.put_raw(b"a9", b"9".to_vec());
        let numbers = |limit| scan(&overlay, b"a", limit).into_iter().map(|(_, value)| value[0]).collect::<Vec<_>>();
        assert_eq!(numbers(1), b"2");
        assert_eq!(numbers(2), b"24");
        assert_eq!(numbers(3), b"249");
    }

    #[test]
    fn nothing_kept_is_nothing_to_write() {
        let base = MemoryRows::default();
        let mut overlay = Overlay::new(&base);
        overlay.put_raw(b"a", b"x".to_vec());
        overlay.discard();
        assert_eq!(overlay.bytes(), 0);
        assert!(overlay.into_writes().is_empty());
    }
}
