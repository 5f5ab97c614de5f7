//! An engine in memory, for tests. It orders, commits and feeds like any other, but keeps nothing after it ends.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::super::feed::Feed;
use super::super::overlay::{Overlay, is_range};
use super::{Change, Engine, Export, Fault, Question, Row, Rows, StoreFailure, Verdict, piece};
use crate::health::{DiskHealth, EngineHealth, Sizes, Times};

/// The rows of a [`MemoryEngine`].
pub type MemoryRows = BTreeMap<Vec<u8>, Vec<u8>>;

impl Rows for MemoryRows {
    fn get_raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.get(key).cloned())
    }

    fn range_raw(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, Fault> {
        if !is_range(from, to) {
            return Ok(Vec::new());
        }
        let rows = self.range::<[u8], _>((from, to)).take(limit);
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// Rows in memory. It can be [made to fail](Self::break_down).
#[derive(Debug)]
pub struct MemoryEngine {
    state: Arc<Mutex<State>>,
    feed: Feed,
    /// Whether changes are not answered.
    held: watch::Sender<bool>,
    /// A commit in memory takes no time that would be worth measuring.
    commits: Times,
    groups: Sizes,
}

/// A copy of all rows.
struct MemoryExport {
    rows: btree_map::IntoIter<Vec<u8>, Vec<u8>>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    rows: MemoryRows,
    failure: Option<String>,
    free_disk: Option<u64>,
    is_alone: bool,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        let (commits, groups) = (Times::of_times(), Sizes::of_sizes());
        Self { state: Arc::default(), feed: Feed::new(0, 0), held: watch::Sender::new(false), commits, groups }
    }
}

impl MemoryEngine {
    /// Makes every call fail for this reason until [`heal`](Self::heal).
    pub fn break_down(&self, reason: &str) {
        self.lock().failure = Some(reason.to_owned());
    }

    /// Ends the failure that [`break_down`](Self::break_down) began. A real engine may need a restart.
    pub fn heal(&self) {
        self.lock().failure = None;
    }

    /// With `true`, changes can be read but are not answered, as while a disk makes them durable. With `false`, they are answered.
    pub fn hold_answers(&self, holds: bool) {
        self.held.send_replace(holds);
    }

    /// Says from now on that no other process has the rows open.
    pub fn keep_others_out(&self) {
        self.lock().is_alone = true;
    }

    /// Makes the engine report a disk with this much free space, in bytes.
    pub fn set_free_disk(&self, bytes: u64) {
        self.lock().free_disk = Some(bytes);
    }

    fn apply(&self, mut change: Change) -> Result<(), StoreFailure> {
        let mut state = self.working()?;
        let mut overlay = Overlay::new(&state.rows);
        if change(&mut overlay).map_err(StoreFailure::permanent)? == Verdict::Discard {
            return Ok(());
        }
        overlay.keep();
        let writes = overlay.into_writes();
        if writes.is_empty() {
            return Ok(());
        }
        // No one reads in the meantime.
        let begun = self.feed.begin(writes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())));
        for (key, value) in &writes {
            match value {
                Some(value) => state.rows.insert(key.clone(), value.clone()),
                None => state.rows.remove(key),
            };
        }
        self.feed.finish(begun);
        self.commits.count(0);
        self.groups.count(1);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn working(&self) -> Result<MutexGuard<'_, State>, StoreFailure> {
        working(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic of another test must not hide the state that it left.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn working(state: &Mutex<State>) -> Result<MutexGuard<'_, State>, StoreFailure> {
    let state = lock(state);
    match &state.failure {
        Some(reason) => Err(StoreFailure::permanent(reason)),
        None => Ok(state),
    }
}

#[async_trait]
impl Export for MemoryExport {
    async fn next(&mut self) -> Result<Vec<Row>, StoreFailure> {
        drop(working(&self.state)?);
        piece(self.rows.by_ref().map(Ok))
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFailure> {
        Ok(self.working()?.rows.get(key).cloned())
    }

    async fn ask(&self, mut question: Question) -> Result<(), StoreFailure> {
        question(&self.working()?.rows).map_err(StoreFailure::permanent)
    }

    async fn commit(&self, change: Change) -> Result<(), StoreFailure> {
        self.apply(change)?;
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        Ok(())
    }

    async fn export(&self) -> Result<Box<dyn Export>, StoreFailure> {
        let rows = self.working()?.rows.clone();
        Ok(Box::new(MemoryExport { rows: rows.into_iter(), state: Arc::clone(&self.state) }))
    }

    fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Two actor systems over one engine behave like two processes.
    fn is_shared(&self) -> bool {
        !self.lock().is_alone
    }

    fn health(&self) -> EngineHealth {
        let state = self.lock();
        EngineHealth {
            failure: state.failure.clone(),
            commits: self.commits.read(),
            groups: self.groups.read(),
            waiting: 0,
            last_sync: None,
            disk: state.free_disk.map(|free_bytes| DiskHealth { used_bytes: None, free_bytes }),
        }
    }

    fn fail(&self, why: String) -> StoreFailure {
        self.lock().failure = Some(why.clone());
        StoreFailure::permanent(why)
    }
}
