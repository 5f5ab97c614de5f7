//! Exports: all rows as they were after one commit, while later commits go on.
//!
//! The engine has no snapshots. So while an export is open, the writer saves the old value of each row that it is about to change and
//! that the export has not passed yet. Only the first change of a row since the export began is saved. The export reads the tree in
//! pieces, puts the saved values in the place of what it found, and drops them as it passes.
//!
//! The order of the steps makes a piece right, whatever is committed while it is read. A commit saves old values before it changes
//! the tree. The export reads the tree first, and takes the saved values and moves on in one step after it. So each change that it
//! may have seen is saved by then. Neither waits for the disk of the other.
//!
//! The memory of an export is bounded by what changes ahead of it, and by [`MOST_SAVED`].

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use async_trait::async_trait;
use doorward_actors::store::StoreFailure;
use doorward_actors::store::engine::{Export, FailureKind, Fault, Row, Rows, piece};

use super::health::Health;
use super::{Open, Tree, failed, read};

/// The maximum size of the values saved for one export, in bytes. Beyond it the export ends with an error: its reader is too slow.
const MOST_SAVED: usize = 64 * 1024 * 1024;
/// What a saved value takes besides its key and value, in bytes, roughly.
const SAVED_OVERHEAD: usize = 64;

/// Rows as they were. `None` was absent.
type Before = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The open exports of an engine.
#[derive(Default)]
pub(super) struct Exports {
    /// Held by the writer from before it saves old values until the group is durable, and while an export opens.
    /// So an export begins between two commits.
    commit: Mutex<()>,
    open: Mutex<BTreeMap<u64, Position>>,
}

/// How far an export is, and the rows ahead of it that have changed since it began.
struct Position {
    /// The export has returned everything before this bound.
    from: Bound<Vec<u8>>,
    /// The old values. `None` after there were too many.
    before: Option<Before>,
    bytes: usize,
}

impl Position {
    fn start() -> Self {
        Self { from: Bound::Unbounded, before: Some(Before::new()), bytes: 0 }
    }

    fn is_ahead(&self, key: &[u8]) -> bool {
        match &self.from {
            Bound::Excluded(last) => key > last.as_slice(),
            Bound::Included(next) => key >= next.as_slice(),
            Bound::Unbounded => true,
        }
    }

    /// Returns whether the old value of a row is to be saved before the row changes.
    fn wants(&self, key: &[u8]) -> bool {
        self.is_ahead(key) && self.before.as_ref().is_some_and(|before| !before.contains_key(key))
    }

    fn save(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        let Some(before) = &mut self.before else { return };
        self.bytes += size(key, value.as_deref());
        before.insert(key.to_vec(), value);
        if self.bytes > MOST_SAVED {
            self.before = None;
        }
    }

    /// Takes the next piece. `found` are the next rows of the tree, and `whole` says whether they are all that follow.
    /// Returns `None` if too much changed. The export moves on past the rows that are returned.
    fn pass(&mut self, found: Vec<Row>, whole: bool) -> Option<(Vec<Row>, bool)> {
        let before = self.before.as_mut()?;
        let last = found.last().map(|(key, _)| key.clone()).filter(|_| !whole);
        let mut rows: BTreeMap<_, _> = found.into_iter().collect();
        let within = match &last {
            Some(last) => Bound::Included(last.as_slice()),
            None => Bound::Unbounded,
        };
        for (key, value) in before.range::<[u8], _>((Bound::Unbounded, within)) {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        // Rows that were removed since come back, so that there may be more than one piece of them.
        let total = rows.len();
        let Ok(rows) = piece(rows.into_iter().map(Ok::<_, std::convert::Infallible>));
        let cut = rows.len() < total;
        let passed = if cut { rows.last().map(|(key, _)| key.clone()) } else { last };
        let end = passed.is_none();
        if let Some(passed) = passed {
            let mut ahead = before.split_off(passed.as_slice());
            // The row of the bound itself has been passed too.
            before.extend(ahead.remove_entry(&passed));
            let gone = std::mem::replace(before, ahead);
            self.bytes -= gone.iter().map(|(key, value)| size(key, value.as_deref())).sum::<usize>();
            self.from = Bound::Excluded(passed);
        }
        Some((rows, end))
    }
}

fn size(key: &[u8], value: Option<&[u8]>) -> usize {
    key.len() + value.map_or(0, <[u8]>::len) + SAVED_OVERHEAD
}

impl Exports {
    /// Saves the old values of rows that the writer is about to change. No export opens until the returned guard is dropped.
    pub(super) fn save<'a>(
        &self,
        tree: &Tree<'_>,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Result<MutexGuard<'_, ()>, Fault> {
        let commit = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = self.open();
        if open.is_empty() {
            return Ok(commit);
        }
        for key in keys {
            let mut wanting = open.values_mut().filter(|export| export.wants(key)).peekable();
            if wanting.peek().is_some() {
                let old = tree.get_raw(key)?;
                wanting.for_each(|export| export.save(key, old.clone()));
            }
        }
        Ok(commit)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Position>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine's parts that an export needs.
#[derive(Clone)]
struct Source {
    open: Arc<RwLock<Option<Open>>>,
    health: Arc<Health>,
    exports: Arc<Exports>,
}

/// An open export of a sled tree.
struct SledExport {
    source: Source,
    id: u64,
    ended: bool,
}

impl Drop for SledExport {
    fn drop(&mut self) {
        self.source.exports.open().remove(&self.id);
    }
}

/// Opens an export. Blocks until the commit under way is durable.
pub(super) fn open(
    open: Arc<RwLock<Option<Open>>>,
    health: Arc<Health>,
    exports: Arc<Exports>,
) -> Result<Box<dyn Export>, StoreFailure> {
    let source = Source { open, health, exports };
    let id = {
        let _between_commits = source.exports.commit.lock().unwrap_or_else(PoisonError::into_inner);
        // A group that was not flushed yet is in the export, so it must not be lost.
        read(&source.open, &source.health, |tree| tree.0.flush().map(drop).map_err(|error| failed(&error)))?;
        let mut exports = source.exports.open();
        let id = exports.last_key_value().map_or(0, |(last, _)| last + 1);
        exports.insert(id, Position::start());
        id
    };
    Ok(Box::new(SledExport { source, id, ended: false }))
}

impl Source {
    /// Returns the next rows of an export, and whether they are the last.
    fn next(&self, id: u64) -> Result<(Vec<Row>, bool), StoreFailure> {
        loop {
            let from = self.exports.open().get(&id).map(|export| export.from.clone());
            let from = from.ok_or_else(|| StoreFailure::permanent("the export is closed"))?;
            let (found, whole) = read(&self.open, &self.health, |tree| {
                let mut rows = tree.0.range::<Vec<u8>, _>((from, Bound::Unbounded));
                let rows_of_piece = rows.by_ref().map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())));
                let found = piece(rows_of_piece).map_err(|error| failed(&error))?;
                let whole = rows.next().transpose().map_err(|error| failed(&error))?.is_none();
                Ok((found, whole))
            })?;
            let passed = self.exports.open().get_mut(&id).and_then(|export| export.pass(found, whole));
            let (rows, end) = passed.ok_or_else(|| StoreFailure {
                kind: FailureKind::Transient,
                why: "the export was given up: too much changed while it was read".to_owned(),
            })?;
            if end || !rows.is_empty() {
                return Ok((rows, end));
            }
        }
    }
}

#[async_trait]
impl Export for SledExport {
    async fn next(&mut self) -> Result<Vec<Row>, StoreFailure> {
        self.source.health.check()?;
        if self.ended {
            return Ok(Vec::new());
        }
        let (source, id) = (self.source.clone(), self.id);
        let piece = tokio::task::spawn_blocking(move || source.next(id)).await;
        let (rows, end) = piece.unwrap_or_else(|_| Err(StoreFailure::permanent("a read was cut short")))?;
        if end {
            self.ended = true;
            self.source.exports.open().remove(&self.id);
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Row {
        (name.as_bytes().to_vec(), b"stored".to_vec())
    }

    #[test]
    fn what_was_passed_is_forgotten_and_no_longer_saved() {
        let mut export = Position::start();
        for name in ["a", "b", "c"] {
            assert!(export.wants(name.as_bytes()));
            export.save(name.as_bytes(), Some(b"old".to_vec()));
            assert!(!export.wants(name.as_bytes()), "the second change of a row saves nothing");
        }
        let (rows, end) = export.pass(vec![row("b")], false).unwrap();
        assert_eq!(rows, [(b"a".to_vec(), b"old".to_vec()), (b"b".to_vec(), b"old".to_vec())]);
        assert!(!end);
        assert_eq!(export.bytes, size(b"c", Some(b"old")));
        assert!(!export.wants(b"b"));
        assert!(export.wants(b"bb"));
    }

    #[test]
    fn an_export_that_would_need_too_much_memory_is_given_up() {
        let mut export = Position::start();
        let value = vec![0; 4096];
        for number in 0.. {
            if export.before.is_none() {
                break;
            }
            assert!(number * value.len() <= MOST_SAVED);
            export.save(&number.to_be_bytes(), Some(value.clone()));
        }
        assert!(!export.wants(b"x"));
        assert!(export.pass(vec![row("a")], false).is_none());
    }
}
