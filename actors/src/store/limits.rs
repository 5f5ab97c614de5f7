//! The store's methods for counters of failed attempts.

use std::time::Duration;

use super::{
    ActingRefusal, AttemptOutcome, AttemptRefusal, ClearedLimit, CountedAttempt, NewAttempt, Store, StoreError,
    StoreFailure, layout, reads, rules,
};
use crate::domain::audit::AuditRecord;
use crate::domain::failures::{FailureKey, FailureRules, Failures};
use crate::domain::session::Acting;
use crate::domain::time::Timestamp;

impl Store {
    /// Returns all counters of failed attempts, unsorted. Some may no longer have an effect.
    pub async fn failures(&self) -> Result<Vec<(FailureKey, Failures)>, StoreFailure> {
        self.ask(reads::failures).await
    }

    /// Returns a counter of failed attempts.
    pub async fn failures_in(&self, key: &FailureKey) -> Result<Option<Failures>, StoreFailure> {
        self.get(&layout::failures(key)).await
    }

    /// Counts an attempt in each of its counters, or in none of them. The outcome of an attempt under way must be reported by
    /// [`end_attempt`](Self::end_attempt) within that time.
    /// Otherwise the attempt counts as failed.
    pub async fn begin_attempt(&self, attempt: NewAttempt) -> Result<Vec<CountedAttempt>, StoreError<AttemptRefusal>> {
        self.make(move |tx| rules::begin_attempt(tx, &attempt), true).await
    }

    /// Stores how attempts ended. Returns how many counters were removed because they had become empty.
    pub async fn end_attempt(
        &self,
        counted: Vec<(CountedAttempt, AttemptOutcome)>,
        now: Timestamp,
    ) -> Result<usize, StoreFailure> {
        self.note_soon(move |tx| rules::end_attempt(tx, &counted, now)).await
    }

    /// Forgets the failures in counters, except attempts under way.
    pub async fn forget_failures(&self, keys: Vec<FailureKey>, now: Timestamp) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::forget_failures(tx, &keys, now)).await
    }

    /// Clears a limit on behalf of an administrator. Returns false and records nothing if the store has no such counter.
    /// The account that the limit is about becomes the subject of the audit record.
    pub async fn clear_limit(
        &self,
        limit: ClearedLimit,
        now: Timestamp,
        acting: Acting,
        audit: AuditRecord,
    ) -> Result<bool, StoreError<ActingRefusal>> {
        self.change(move |tx| rules::clear_limit(tx, &limit, now, acting, &audit)).await
    }

    /// Moves future times in these counters to the present ([`Failures::heed_clock`]).
    pub async fn heed_clock(&self, keys: Vec<FailureKey>, now: Timestamp, skew: Duration) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::heed_clock(tx, &keys, now, skew)).await
    }

    /// Removes those of the counters that count at most `most` failures and ask no one to wait. Returns how many were removed.
    pub async fn prune_failures(
        &self,
        keys: Vec<FailureKey>,
        rules: FailureRules,
        most: u32,
        now: Timestamp,
    ) -> Result<usize, StoreFailure> {
        self.note(move |tx| rules::prune_failures(tx, &keys, &rules, most, now)).await
    }
}
