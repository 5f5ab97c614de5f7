//! An attempt that is under way.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Limited, Limiters};
use crate::ask::Unavailable;
use crate::domain::account::AccountId;
use crate::domain::failures::{FailureKey, FailureScope, MustWait};
use crate::store::{AttemptOutcome, AttemptRefusal, CountedAttempt, NewAttempt, StoreError, StoreFailure};

/// The maximum number of attempts that wait for the outcome of earlier ones. It is half the places of logins,
/// so that guesses at one account do not block other logins. Further attempts are refused at once.
pub(super) const MAX_WAITING: usize = 128;
/// How often a waiting attempt reads its counters again. Outcomes of this process wake it earlier, outcomes of other nodes do not.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// An attempt that counts as failed until it is known to have succeeded. Dropping it leaves it counted.
#[must_use = "an attempt counts as failed until it is said to have succeeded"]
pub(crate) struct Attempt {
    limiters: Arc<Limiters>,
    counted: Vec<CountedAttempt>,
}

/// The counters of an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counters {
    pub(super) by_account: Option<FailureKey>,
    pub(super) by_address: Option<FailureKey>,
    /// The account, if it exists.
    pub(super) account: Option<AccountId>,
}

impl Counters {
    fn all(self) -> impl Iterator<Item = (FailureKey, Option<AccountId>)> {
        let by_address = self.by_address.map(|key| (key, None));
        by_address.into_iter().chain(self.by_account.map(|key| (key, self.account)))
    }
}

impl Attempt {
    /// Counts an attempt in both counters, or in none. While attempts under way use up what is left, it waits for their outcome,
    /// for at most the time that an attempt may take.
    pub(super) async fn begin(
        limiters: Arc<Limiters>,
        counters: Counters,
    ) -> Result<Result<Self, Limited>, StoreFailure> {
        let deadline = Instant::now() + limiters.timing.lasts;
        let mut outcomes = limiters.outcomes.subscribe();
        let mut place = None;
        loop {
            outcomes.mark_unchanged();
            let refused = match count(&limiters, counters, true).await? {
                Ok(counted) => return Ok(Ok(Self { limiters, counted })),
                Err(refused) => refused,
            };
            let limited = limiters.limited(refused);
            let left = deadline.saturating_duration_since(Instant::now());
            if !refused.must_wait.for_others || left.is_zero() {
                return Ok(Err(limited));
            }
            if place.is_none() {
                let Ok(taken) = Arc::clone(&limiters.waiting).try_acquire_owned() else { return Ok(Err(limited)) };
                place = Some(taken);
            }
            // In both cases the counters are read again.
            let _ = timeout(left.min(LOOK_AGAIN), outcomes.changed()).await;
        }
    }

    /// Counts an attempt that has already failed.
    pub(super) async fn failed(limiters: &Limiters, counters: Counters) -> Result<Result<(), Limited>, StoreFailure> {
        let counted = count(limiters, counters, false).await?;
        Ok(counted.map(drop).map_err(|refused| limiters.limited(refused)))
    }

    /// Ends the attempt as successful. The account's counter starts again. The address gets back only this attempt,
    /// because an attacker who guesses at other accounts may own one too.
    pub(crate) fn succeeded(mut self) {
        self.end(|key| match key.scope {
            FailureScope::Address(_) => AttemptOutcome::TakenBack,
            FailureScope::Account(_) | FailureScope::Known(..) => AttemptOutcome::Succeeded,
        });
    }

    /// Takes back an attempt that was not made.
    pub(crate) fn withdraw(mut self) {
        self.end(|_| AttemptOutcome::TakenBack);
    }

    /// Runs work of the attempt. If the work fails because the service is unavailable, the attempt is taken back.
    pub(crate) async fn spare<T>(
        &mut self,
        work: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        let outcome = work.await;
        if outcome.is_err() {
            self.end(|_| AttemptOutcome::TakenBack);
        }
        outcome
    }

    /// Stores the outcome. The caller does not wait for it. Until it is stored, the attempt is under way for all others,
    /// and they wait for it.
    fn end(&mut self, outcome: impl Fn(&FailureKey) -> AttemptOutcome) {
        let counted = std::mem::take(&mut self.counted);
        if counted.is_empty() {
            return;
        }
        let outcomes = counted.into_iter().map(|counted| (counted, outcome(&counted.key))).collect();
        let limiters = Arc::clone(&self.limiters);
        let ended = async move {
            match limiters.store.end_attempt(outcomes, limiters.now()).await {
                Ok(removed) => drop(
                    limiters
                        .rows
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |rows| Some(rows.saturating_sub(removed))),
                ),
                // The attempt then counts as failed.
                Err(failure) => tracing::error!(%failure, "the outcome of an attempt could not be stored"),
            }
            limiters.outcomes.send_replace(());
        };
        self.limiters.endings.spawn_on(ended, &self.limiters.runtime);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.end(|_| AttemptOutcome::Failed);
    }
}

/// Counts an attempt in all its counters, or returns the one that refuses it.
async fn count(
    limiters: &Limiters,
    counters: Counters,
    is_under_way: bool,
) -> Result<Result<Vec<CountedAttempt>, AttemptRefusal>, StoreFailure> {
    let under_way = is_under_way.then_some(limiters.timing.lasts);
    let (now, clock_skew, rules) = (limiters.now(), limiters.timing.clock_skew, limiters.current().rules);
    // A guess beyond the quota costs no commit.
    for (key, _) in counters.all() {
        let Some(mut failures) = limiters.store.failures_in(&key).await? else { continue };
        if !failures.heed_clock(now, clock_skew)
            && let Err(must_wait) = failures.attempt(rules.of(&key), now, under_way)
        {
            return Ok(Err(AttemptRefusal { key, must_wait }));
        }
    }
    let full = limiters.is_full();
    let counters = counters.all().collect();
    let attempt = NewAttempt { counters, rules, now, clock_skew, under_way, full };
    let counted = match limiters.store.begin_attempt(attempt).await {
        Ok(counted) => counted,
        Err(StoreError::Refused(refused)) => return Ok(Err(refused)),
        Err(StoreError::Failed(failure)) => return Err(failure),
    };
    let begun = counted.iter().filter(|counted| counted.is_new).count();
    limiters.rows.fetch_add(begun, Ordering::Relaxed);
    Ok(Ok(counted))
}

impl Limiters {
    fn limited(&self, AttemptRefusal { key, must_wait }: AttemptRefusal) -> Limited {
        let rule = self.current().rules.of(&key);
        let MustWait { wait, .. } = must_wait;
        Limited::new(key.kind.as_str(), rule.allowance, rule.forget.saturating_mul(rule.allowance), wait)
    }
}
