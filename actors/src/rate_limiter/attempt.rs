//! One attempt that is under way.

use std::future::Future;
use std::sync::Arc;

use super::failures::Counted;
use super::{Limited, Limiters};
use crate::ask::Unavailable;
use crate::domain::account::AccountId;
use crate::domain::failures::FailureKey;

/// An attempt that counts as failed until it is known to have succeeded. Dropping it leaves it counted.
#[must_use = "an attempt counts as failed until it is said to have succeeded"]
pub(crate) struct Attempt {
    limiters: Arc<Limiters>,
    by_account: Option<Counted>,
    by_address: Option<Counted>,
}

impl Attempt {
    /// Counts an attempt in both counters, or in none.
    pub(super) fn begin(
        limiters: Arc<Limiters>,
        by_account: Option<FailureKey>,
        by_address: Option<FailureKey>,
        account: Option<AccountId>,
    ) -> Result<Self, Limited> {
        let failures = &limiters.failures;
        let by_address = by_address.map(|key| failures.attempt(key, None)).transpose()?;
        let by_account = match by_account.map(|key| failures.attempt(key, account)).transpose() {
            Ok(counted) => counted,
            Err(limited) => {
                if let Some(counted) = by_address {
                    failures.take_back(counted);
                }
                return Err(limited);
            }
        };
        Ok(Self { limiters, by_account, by_address })
    }

    /// It was right. The account starts anew; the address gets only this one attempt back, as whoever guesses at others'
    /// accounts may have one of their own.
    pub(crate) fn succeeded(self) {
        let failures = &self.limiters.failures;
        if let Some(counted) = self.by_account {
            failures.start_anew(counted);
        }
        if let Some(counted) = self.by_address {
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
