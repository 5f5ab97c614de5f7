//! What a group of changes is about to write: an overlay over the tree.

use std::collections::BTreeMap;
use std::ops::Bound;

use doorward_actors::AccountId;

use super::codec::{self, Record, RecordError};
use super::keys;

/// What went wrong while a change was worked out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// One record could not be read or written. This change fails; the store goes on.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The engine failed, and with it the store, for good.
    #[error("the engine failed: {0}")]
    Engine(#[from] sled::Error),
}

/// What a change ends with when it is not made.
#[derive(Debug)]
pub(super) enum Abort<R> {
    /// A rule refused it.
    Refused(R),
    /// It could not be worked out.
    Fault(Fault),
}

impl<R, F: Into<Fault>> From<F> for Abort<R> {
    fn from(fault: F) -> Self {
        Self::Fault(fault.into())
    }
}

/// A key and its value.
pub(super) type Row = (Vec<u8>, Vec<u8>);
type Overlay = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A view of the tree as it will be after this group: a change reads what the changes before it wrote, and what it
/// writes itself counts only once it is [kept](Self::keep).
pub(super) struct Staging<'a> {
    tree: &'a sled::Tree,
    /// What the changes of this group wrote so far; `None` removes.
    group: Overlay,
    /// What the current change wrote so far.
    change: Overlay,
    /// The size of `group`, keys and values, in bytes; a row written twice counts twice.
    bytes: usize,
    /// How much the audit log may take, in bytes: each change that makes it larger removes its oldest records.
    audit_max_bytes: u64,
}

impl<'a> Staging<'a> {
    /// An empty view over a tree, with no bound on the audit log.
    pub(super) fn new(tree: &'a sled::Tree) -> Self {
        Self { tree, group: Overlay::new(), change: Overlay::new(), bytes: 0, audit_max_bytes: u64::MAX }
    }

    /// The same with a bound on the audit log.
    pub(super) fn with_audit_bound(self, audit_max_bytes: u64) -> Self {
        Self { audit_max_bytes, ..self }
    }

    /// How much the audit log may take, in bytes.
    pub(super) fn audit_max_bytes(&self) -> u64 {
        self.audit_max_bytes
    }

    /// Makes what the current change wrote a part of the group.
    pub(super) fn keep(&mut self) {
        for (key, value) in std::mem::take(&mut self.change) {
            self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            self.group.insert(key, value);
        }
    }

    /// Forgets what the current change wrote.
    pub(super) fn discard(&mut self) {
        self.change.clear();
    }

    /// Writes what was put so far and begins anew. For migrations alone: what comes after it is another batch, so a kill may
    /// come between the two.
    pub(super) fn write_out(&mut self) -> Result<(), Fault> {
        self.keep();
        let written = std::mem::replace(self, Self::new(self.tree).with_audit_bound(self.audit_max_bytes));
        if let Some(batch) = written.into_batch() {
            self.tree.apply_batch(batch)?;
        }
        Ok(())
    }

    /// How much the kept changes will write, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The accounts that the kept changes write or remove.
    pub(super) fn accounts(&self) -> Vec<AccountId> {
        let rows = self.group.range::<[u8], _>((Bound::Included(keys::ALL_ACCOUNTS), Bound::Unbounded));
        let rows = rows.take_while(|(key, _)| key.starts_with(keys::ALL_ACCOUNTS));
        rows.filter_map(|(key, _)| keys::id_of_account(key)).collect()
    }

    /// The kept changes as one batch; `None` if there is nothing to write.
    pub(super) fn into_batch(self) -> Option<sled::Batch> {
        if self.group.is_empty() {
            return None;
        }
        let mut batch = sled::Batch::default();
        for (key, value) in self.group {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        Some(batch)
    }

    /// The bytes under a key.
    pub(super) fn get_raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        if let Some(staged) = self.change.get(key).or_else(|| self.group.get(key)) {
            return Ok(staged.clone());
        }
        Ok(self.tree.get(key)?.map(|value| value.to_vec()))
    }

    /// The record under a key.
    pub(super) fn get<R: Record>(&self, key: &[u8]) -> Result<Option<R>, Fault> {
        self.get_raw(key)?.map(|value| Ok(codec::decode(&value)?)).transpose()
    }

    /// A counter; 0 until it is first written.
    pub(super) fn counter(&self, key: &[u8]) -> Result<u64, Fault> {
        Ok(self.get(key)?.unwrap_or(0))
    }

    /// Whether there is a record under a key.
    pub(super) fn has(&self, key: &[u8]) -> Result<bool, Fault> {
        if let Some(staged) = self.change.get(key).or_else(|| self.group.get(key)) {
            return Ok(staged.is_some());
        }
        Ok(self.tree.contains_key(key)?)
    }

    /// The rows whose keys begin with `prefix`, in the order of their keys.
    pub(super) fn scan(&self, prefix: &[u8]) -> Result<Vec<Row>, Fault> {
        let mut rows = BTreeMap::new();
        for row in self.tree.scan_prefix(prefix) {
            let (key, value) = row?;
            rows.insert(key.to_vec(), value.to_vec());
        }
        for overlay in [&self.group, &self.change] {
            let from = (Bound::Included(prefix), Bound::Unbounded);
            for (key, value) in overlay.range::<[u8], _>(from).take_while(|(key, _)| key.starts_with(prefix)) {
                match value {
                    Some(value) => rows.insert(key.clone(), value.clone()),
                    None => rows.remove(key),
                };
            }
        }
        Ok(rows.into_iter().collect())
    }

    /// At most `limit` keys on the disk from `first` to before `end`, whatever was put or removed since.
    pub(super) fn stored_keys(&self, first: &[u8], end: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Fault> {
        let keys = self.tree.range(first..end).keys().take(limit);
        keys.map(|key| Ok(key?.to_vec())).collect()
    }

    /// Puts bytes under a key.
    pub(super) fn put_raw(&mut self, key: &[u8], value: Vec<u8>) {
        self.change.insert(key.to_vec(), Some(value));
    }

    /// Puts a record under a key.
    pub(super) fn put<R: Record>(&mut self, key: &[u8], record: &R) -> Result<(), Fault> {
        let value = codec::encode(record)?;
        self.put_raw(key, value);
        Ok(())
    }

    /// Removes what is under a key, if anything is.
    pub(super) fn remove(&mut self, key: &[u8]) {
        self.change.insert(key.to_vec(), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, sled::Db) {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::open(dir.path()).unwrap();
        (dir, db)
    }

    #[test]
    fn a_change_sees_kept_changes_and_nothing_of_discarded_ones() {
        let (_dir, db) = tree();
        db.insert(b"a1", b"stored").unwrap();
        db.insert(b"a2", b"stored").unwrap();
        let mut staging = Staging::new(&db);
        staging.put_raw(b"a3", b"kept".to_vec());
        staging.remove(b"a1");
        staging.keep();
        staging.put_raw(b"a2", b"discarded".to_vec());
        staging.put_raw(b"a1", b"discarded".to_vec());
        assert_eq!(staging.get_raw(b"a2").unwrap().unwrap(), b"discarded");
        staging.discard();
        staging.put_raw(b"b1", b"current".to_vec());
        let rows = staging.scan(b"a").unwrap();
        assert_eq!(rows, [(b"a2".to_vec(), b"stored".to_vec()), (b"a3".to_vec(), b"kept".to_vec())]);
        assert!(!staging.has(b"a1").unwrap());
        assert!(staging.has(b"b1").unwrap());

        db.apply_batch(staging.into_batch().unwrap()).unwrap();
        assert!(db.get(b"a1").unwrap().is_none());
        assert!(db.get(b"b1").unwrap().is_none(), "a change that was not kept is not written");
        assert_eq!(db.get(b"a3").unwrap().unwrap(), b"kept");
    }

    #[test]
    fn nothing_kept_is_no_batch() {
        let (_dir, db) = tree();
        let mut staging = Staging::new(&db);
        staging.put_raw(b"a", b"x".to_vec());
        staging.discard();
        assert_eq!(staging.bytes(), 0);
        assert!(staging.into_batch().is_none());
    }
}
