//! One attempt that is under way.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::failures::{Busy, Counted};
use super::{Limited, Limiters};
use crate::ask::Unavailable;
use crate::domain::account::AccountId;
use crate::domain::failures::FailureKey;

/// How many attempts wait at most for the outcome of those before them: half the places of logins, so that nobody who guesses
/// at one account keeps others from logging in. Further ones are refused at once.
pub(super) const MAX_WAITING: usize = 128;
/// How long an attempt waits at most: a hash is computed or refused before.
const PATIENCE: Duration = Duration::from_secs(10);

/// An attempt that counts as failed until it is known to have succeeded. Dropping it leaves it counted.
#[must_use = "an attempt counts as failed until it is said to have succeeded"]
pub(crate) struct Attempt {
    limiters: Arc<Limiters>,
    by_account: Option<Counted>,
    by_address: Option<Counted>,
}

/// What an attempt is counted by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counters {
    pub(super) by_account: Option<FailureKey>,
    pub(super) by_address: Option<FailureKey>,
    /// The account, if it exists.
    pub(super) account: Option<AccountId>,
}

impl Attempt {
    /// Counts an attempt in both counters, or in none. While attempts that are under way use up what is left, it waits for their
    /// outcome, within bounds: they are no failures yet.
    pub(super) async fn begin(limiters: Arc<Limiters>, counters: Counters) -> Result<Self, Limited> {
        let deadline = Instant::now() + PATIENCE;
        let mut place = None;
        loop {
            let Busy { limited, outcomes } = match Self::at_once(Arc::clone(&limiters), counters) {
                Ok(attempt) => return Ok(attempt),
                Err(busy) => busy,
            };
            let Some(mut outcomes) = outcomes else { return Err(limited) };
            if place.is_none() {
                place = Some(limiters.waiting.try_acquire().map_err(|_| limited)?);
            }
            // Closed when the last of them has its outcome, which is news as well.
            if timeout_at(deadline, outcomes.changed()).await.is_err() {
                return Err(limited);
            }
        }
    }

    /// The same without waiting.
    pub(super) fn at_once(limiters: Arc<Limiters>, counters: Counters) -> Result<Self, Busy> {
        let Counters { by_account, by_address, account } = counters;
        let failures = &limiters.failures;
        let by_address = by_address.map(|key| failures.attempt(key, None)).transpose()?;
        let by_account = match by_account.map(|key| failures.attempt(key, account)).transpose() {
            Ok(counted) => counted,
            Err(busy) => {
                if let Some(counted) = by_address {
                    failures.take_back(counted);
                }
                return Err(busy);
            }
        };
        Ok(Self { limiters, by_account, by_address })
    }

    /// It was right. The account starts anew; the address gets only this one attempt back, as whoever guesses at others'
    /// accounts may have one of their own.
    pub(crate) fn succeeded(mut self) {
        let failures = &self.limiters.failures;
        if let Some(counted) = self.by_account.take() {
            failures.start_anew(counted);
        }
        if let Some(counted) = self.by_address.take() {
            failures.take_back(counted);
        }
    }

    /// It was not made after all.
    pub(crate) fn withdraw(mut self) {
        self.give_back();
    }

    fn give_back(&mut self) {
        let failures = &self.limiters.failures;
        for counted in [self.by_account.take(), self.by_address.take()].into_iter().flatten() {
            failures.take_back(counted);
        }
    }

    /// Takes part of the attempt: should it come to nothing because we were too busy, it was none.
    pub(crate) async fn spare<T>(
        &mut self,
        work: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        let outcome = work.await;
        if outcome.is_err() {
            self.give_back();
        }
        outcome
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        for counted in [self.by_account, self.by_address].into_iter().flatten() {
            self.limiters.failures.failed(counted);
        }
    }
}
