//! The log of revocations, for services that check tokens themselves.
//!
//! The store writes it in the commit of the change. No actor is involved, except that the actor of the service tokens removes
//! revocations that are older than any token.

use tokio::sync::watch;

use crate::ask::Unavailable;
use crate::domain::revocation::{CursorError, Revocation};
use crate::store::Store;

/// The handle of the log of revocations.
#[derive(Clone)]
pub struct RevocationHandle {
    store: Store,
}

/// A page of the log of revocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationPage {
    /// The revocations with their numbers, in the order of the numbers.
    pub revocations: Vec<(u64, Revocation)>,
    /// The number after which the next page begins.
    pub last: u64,
}

impl RevocationHandle {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Returns the number of the newest durable revocation.
    pub async fn last(&self) -> Result<u64, Unavailable> {
        self.store.revocation_span().await?;
        // A crash may still lose a revocation that is not durable. Its number would then be given to another one.
        Ok(*self.head().borrow())
    }

    /// Returns the number before the oldest revocation that is kept. After it, the log names every session that ended before its
    /// tokens expired.
    pub async fn start(&self) -> Result<u64, Unavailable> {
        Ok(self.store.revocation_span().await?.before)
    }

    /// Returns at most `limit` revocations after a number.
    pub async fn after(&self, after: u64, limit: usize) -> Result<Result<RevocationPage, CursorError>, Unavailable> {
        // A crash may still lose a revocation that is not durable, and its number with it.
        let durable = *self.head().borrow();
        let mut revocations = self.store.revocations(after, limit).await?;
        // Read the span afterwards, so that a removal in the meantime shows as a gap.
        let span = self.store.revocation_span().await?;
        if let Err(error) = span.check(after) {
            return Ok(Err(error));
        }
        revocations.retain(|(number, _)| *number <= durable);
        let last = revocations.last().map_or(after, |(number, _)| *number);
        Ok(Ok(RevocationPage { revocations, last }))
    }

    /// Returns the [mark](Revocation::mark) of the revocation with this number. `None` if it was removed or does not exist yet.
    pub async fn mark(&self, number: u64) -> Result<Option<u32>, Unavailable> {
        let Some(before) = number.checked_sub(1) else { return Ok(None) };
        let found = self.store.revocations(before, 1).await?;
        let found = found.first().filter(|(found, _)| *found == number);
        Ok(found.map(|(_, revocation)| revocation.mark()))
    }

    /// Returns a watch on the number of the newest durable revocation.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.store.revocation_head()
    }
}
