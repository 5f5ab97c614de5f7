//! An engine in memory, for tests. It orders, commits and feeds like any other, but keeps nothing after it ends.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::super::feed::Feed;
use super::super::overlay::{Overlay, is_range};
use super::{Change, Engine, Fault, Question, Row, Rows, StoreFailure, Verdict};

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
    state: Mutex<State>,
    feed: Feed,
}

#[derive(Debug, Default)]
struct State {
    rows: MemoryRows,
    failure: Option<String>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self { state: Mutex::default(), feed: Feed::new(0, 0) }
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of another test must not hide the state that it left.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn working(&self) -> Result<MutexGuard<'_, State>, StoreFailure> {
        let state = self.lock();
        match &state.failure {
            Some(reason) => Err(StoreFailure::permanent(reason)),
            None => Ok(state),
        }
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

    async fn commit(&self, mut change: Change) -> Result<(), StoreFailure> {
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
        Ok(())
    }

    fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Two actor systems over one engine behave like two processes.
    fn is_shared(&self) -> bool {
        true
    }

    fn fail(&self, why: String) -> StoreFailure {
        self.lock().failure = Some(why.clone());
        StoreFailure::permanent(why)
    }
}
