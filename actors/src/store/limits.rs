//! The store's face for counters of failed attempts.

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
    /// All counters of failed attempts, in no order. Some may have no effect any more.
    pub async fn failures(&self) -> Result<Vec<(FailureKey, Failures)>, StoreFailure> {
        self.ask(reads::failures).await
    }

    /// One counter of failed attempts.
    pub async fn failures_in(&self, key: &FailureKey) -> Result<Option<Failures>, StoreFailure> {
        self.get(&layout::failures(key)).await
    }

    /// Counts an attempt in each of its counters, or in none of them. The outcome of one that is under way is reported by
    /// [`end_attempt`](Self::end_attempt) within [`ATTEMPT_LASTS`](crate::domain::failures::ATTEMPT_LASTS); else it has failed.
    pub async fn begin_attempt(
        &self,
        attempt: NewAttempt,
    ) -> Result<Result<Vec<CountedAttempt>, AttemptRefusal>, StoreFailure> {
        self.note(move |tx| rules::begin_attempt(tx, &attempt)).await
    }

    /// Notes how attempts ended; the answer is how many counters were removed because they count nothing any more.
    pub async fn end_attempt(
        &self,
        counted: Vec<(CountedAttempt, AttemptOutcome)>,
        now: Timestamp,
    ) -> Result<usize, StoreFailure> {
        self.note(move |tx| rules::end_attempt(tx, &counted, now)).await
    }

    /// Forgets the failures in counters, but for attempts under way.
    pub async fn forget_failures(&self, keys: Vec<FailureKey>, now: Timestamp) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::forget_failures(tx, &keys, now)).await
    }

    /// Clears a limit on behalf of an administrator; false if the store has no such counter, and then nothing is put on record.
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

    /// Moves times of the future in these counters to the present ([`Failures::heed_clock`]).
    pub async fn heed_clock(&self, keys: Vec<FailureKey>, now: Timestamp, skew: Duration) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::heed_clock(tx, &keys, now, skew)).await
    }

    /// Removes those of the counters that count at most `most` failures and make nobody wait; the answer is how many.
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
