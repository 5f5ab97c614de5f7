//! An engine that reads from another one and keeps its writes in memory, to find out what a change would do.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use doorward_actors::EngineHealth;
use doorward_actors::store::StoreFailure;
use doorward_actors::store::engine::{Change, Engine, Export, Fault, Question, Rows, Verdict};
use doorward_actors::store::feed::Feed;
use doorward_actors::store::overlay::{Overlay, Writes};

/// Rows of another engine, with changes that nobody else sees and that end with it.
pub struct DryRun {
    base: Arc<dyn Engine>,
    writes: Arc<Mutex<Writes>>,
}

impl DryRun {
    /// Creates an engine over the rows of another one.
    pub fn over(base: Arc<dyn Engine>) -> Self {
        Self { base, writes: Arc::default() }
    }
}

/// Shows the rows of the base with the writes so far, and keeps what is written.
fn with_writes<T>(
    base: &dyn Rows,
    writes: &Mutex<Writes>,
    work: impl FnOnce(&mut Overlay<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let mut writes = writes.lock().unwrap_or_else(PoisonError::into_inner);
    let mut overlay = Overlay::resume(base, std::mem::take(&mut *writes));
    let outcome = work(&mut overlay);
    *writes = overlay.into_writes();
    outcome
}

#[async_trait]
impl Engine for DryRun {
    async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFailure> {
        let written = self.writes.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        match written {
            Some(written) => Ok(written),
            None => self.base.get(key).await,
        }
    }

    async fn ask(&self, mut question: Question) -> Result<(), StoreFailure> {
        let writes = Arc::clone(&self.writes);
        let ask = move |base: &dyn Rows| with_writes(base, &writes, |overlay| question(overlay));
        self.base.ask(Box::new(ask)).await
    }

    async fn commit(&self, mut change: Change) -> Result<(), StoreFailure> {
        let writes = Arc::clone(&self.writes);
        let mut commit = move |overlay: &mut Overlay<'_>| {
            match change(overlay)? {
                Verdict::Keep => overlay.keep(),
                Verdict::Discard => overlay.discard(),
            }
            Ok(())
        };
        let ask = move |base: &dyn Rows| with_writes(base, &writes, &mut commit);
        self.base.ask(Box::new(ask)).await
    }

    /// Fails: nobody backs up what was never written.
    async fn export(&self) -> Result<Box<dyn Export>, StoreFailure> {
        Err(StoreFailure::permanent("a dry run cannot be exported"))
    }

    fn feed(&self) -> &Feed {
        self.base.feed()
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn health(&self) -> EngineHealth {
        self.base.health()
    }

    fn fail(&self, why: String) -> StoreFailure {
        self.base.fail(why)
    }
}

#[cfg(test)]
mod tests {
    use doorward_actors::store::engine::memory::MemoryEngine;

    use super::*;

    async fn put(engine: &dyn Engine, key: &'static [u8], verdict: Verdict) {
        let change = move |view: &mut dyn doorward_actors::store::engine::View| {
            view.put_raw(key, b"value".to_vec());
            Ok(verdict)
        };
        engine.commit(Box::new(change)).await.unwrap();
    }

    #[tokio::test]
    async fn a_dry_run_sees_its_own_writes_and_its_base_does_not() {
        let base: Arc<dyn Engine> = Arc::new(MemoryEngine::default());
        put(&*base, b"before", Verdict::Keep).await;
        let dry = DryRun::over(Arc::clone(&base));
        put(&dry, b"kept", Verdict::Keep).await;
        put(&dry, b"discarded", Verdict::Discard).await;
        assert!(dry.get(b"before").await.unwrap().is_some());
        assert!(dry.get(b"kept").await.unwrap().is_some());
        assert!(dry.get(b"discarded").await.unwrap().is_none());
        let seen = |rows: &dyn Rows| {
            let all = rows.range_raw(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded, 9)?;
            assert_eq!(all.len(), 2);
            Ok(())
        };
        dry.ask(Box::new(seen)).await.unwrap();
        assert!(base.get(b"kept").await.unwrap().is_none());
    }
}
