//! The log of revocations, as services read it that check tokens themselves.
//!
//! It is written in the commit of the change itself, by the store. Nothing of it passes an actor; the one of the service tokens
//! removes what no token outlives.

use tokio::sync::watch;

use crate::ask::Unavailable;
use crate::domain::revocation::{CursorError, Revocation};
use crate::store::Store;

/// The way to the log of revocations.
#[derive(Clone)]
pub struct RevocationHandle {
    store: Store,
}

/// Some of what was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationPage {
    /// What was revoked, with its numbers, by number.
    pub revocations: Vec<(u64, Revocation)>,
    /// The number after which it goes on.
    pub last: u64,
}

impl RevocationHandle {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The number of the newest durable revocation.
    pub async fn last(&self) -> Result<u64, Unavailable> {
        self.store.revocation_span().await?;
        // One that a crash may still take back is nobody's yet: its number would be another one's then.
        Ok(*self.head().borrow())
    }

    /// The number before the oldest revocation that is kept. From there on the log names every session that ended before
    /// its tokens did.
    pub async fn start(&self) -> Result<u64, Unavailable> {
        Ok(self.store.revocation_span().await?.before)
    }

    /// What was revoked after a number, at most `limit`.
    pub async fn after(&self, after: u64, limit: usize) -> Result<Result<RevocationPage, CursorError>, Unavailable> {
        // One that a crash may still take back, and its number with it, is nobody's yet.
        let durable = *self.head().borrow();
        let mut revocations = self.store.revocations(after, limit).await?;
        // Looked at afterwards: what was removed meanwhile must show as a gap.
        let span = self.store.revocation_span().await?;
        if let Err(error) = span.check(after) {
            return Ok(Err(error));
        }
        revocations.retain(|(number, _)| *number <= durable);
        let last = revocations.last().map_or(after, |(number, _)| *number);
        Ok(Ok(RevocationPage { revocations, last }))
    }

    /// The [mark](Revocation::mark) of the revocation of this number; `None` if it is not kept, or not there yet.
    pub async fn mark(&self, number: u64) -> Result<Option<u32>, Unavailable> {
        let Some(before) = number.checked_sub(1) else { return Ok(None) };
        let found = self.store.revocations(before, 1).await?;
        let found = found.first().filter(|(found, _)| *found == number);
        Ok(found.map(|(_, revocation)| revocation.mark()))
    }

    /// The number of the newest durable revocation, as it grows.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.store.revocation_head()
    }
}
