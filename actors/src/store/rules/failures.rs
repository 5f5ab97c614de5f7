//! Counters of failed attempts, shared by all nodes.

use std::time::Duration;

use super::super::engine::Fault;
use super::super::layout;
use super::super::requests::{ActingRefusal, AttemptOutcome, AttemptRefusal, ClearedLimit, CountedAttempt, NewAttempt};
use super::super::transaction::{Abort, Transaction};
use super::audit::append;
use super::sessions::may_act;
use crate::domain::audit::AuditRecord;
use crate::domain::failures::{FailureKey, FailureRules, FailureScope, Failures, SubjectKey};
use crate::domain::network::coarser;
use crate::domain::session::Acting;
use crate::domain::time::Timestamp;

/// Counts an attempt in each of its counters, or in none.
pub(crate) fn begin_attempt(
    tx: &mut Transaction<'_>,
    attempt: &NewAttempt,
) -> Result<Vec<CountedAttempt>, Abort<AttemptRefusal>> {
    let NewAttempt { now, under_way, .. } = *attempt;
    let mut counted = Vec::with_capacity(attempt.counters.len());
    for &(key, account) in &attempt.counters {
        let rule = attempt.rules.of(&key);
        let shared = attempt.full && !tx.has(&layout::failures(&key))?;
        let (key, account) = if shared { (shared_with(key), None) } else { (key, account) };
        let row = layout::failures(&key);
        let stored = tx.get::<Failures>(&row)?;
        let mut failures = stored.unwrap_or(Failures::none(now));
        // A refusal discards it: the clock of this node may be the one that is wrong.
        failures.heed_clock(now, attempt.clock_skew);
        failures.account = account.or(failures.account);
        let refused = |must_wait| Abort::Refused(AttemptRefusal { key, must_wait });
        failures.attempt(rule, now, under_way).map_err(refused)?;
        tx.put(&row, &failures)?;
        counted.push(CountedAttempt { key, shared, is_new: stored.is_none() });
    }
    Ok(counted)
}

/// Stores how attempts ended. Returns how many counters became empty and were removed.
/// A missing counter was cleared in the meantime.
pub(crate) fn end_attempt<R>(
    tx: &mut Transaction<'_>,
    counted: &[(CountedAttempt, AttemptOutcome)],
    now: Timestamp,
) -> Result<usize, Abort<R>> {
    let mut removed = 0;
    for (CountedAttempt { key, shared, .. }, outcome) in counted {
        let row = layout::failures(key);
        let Some(mut failures) = tx.get::<Failures>(&row)? else { continue };
        match outcome {
            AttemptOutcome::Failed => failures.failed(),
            AttemptOutcome::TakenBack => failures.take_back(),
            // A shared counter also counts other subjects. Their failures stay.
            AttemptOutcome::Succeeded if *shared => failures.take_back(),
            AttemptOutcome::Succeeded => {
                failures.take_back();
                failures.forget(now);
            }
        }
        put(tx, &row, &failures)?;
        removed += usize::from(failures.count == 0);
    }
    Ok(removed)
}

/// Forgets the failures in counters.
pub(crate) fn forget_failures<R>(
    tx: &mut Transaction<'_>,
    keys: &[FailureKey],
    now: Timestamp,
) -> Result<(), Abort<R>> {
    for key in keys {
        forget(tx, key, now)?;
    }
    Ok(())
}

/// Records that an administrator cleared a limit, and clears it if the store keeps it. Returns whether there was one.
pub(crate) fn clear_limit(
    tx: &mut Transaction<'_>,
    limit: &ClearedLimit,
    now: Timestamp,
    acting: Acting,
    audit: &AuditRecord,
) -> Result<bool, Abort<ActingRefusal>> {
    if !may_act(tx, Some(acting))? {
        return Err(Abort::Refused(ActingRefusal));
    }
    let subject = match limit {
        ClearedLimit::InMemory(subject) => *subject,
        ClearedLimit::Failures(key) => match forget(tx, key, now)? {
            Some(failures) => failures.account,
            None => return Ok(false),
        },
    };
    append(tx, &AuditRecord { subject, ..audit.clone() })?;
    Ok(true)
}

/// Forgets the failures in a counter. Returns the counter as it was.
fn forget(tx: &mut Transaction<'_>, key: &FailureKey, now: Timestamp) -> Result<Option<Failures>, Fault> {
    let row = layout::failures(key);
    let before = match tx.get::<Failures>(&row) {
        // Otherwise nobody could ever clear it, and every attempt would fail.
        Err(Fault::Record(error)) => {
            tracing::error!(%error, "a counter of failed attempts that cannot be read is removed");
            tx.remove(&row);
            return Ok(Some(Failures::none(now)));
        }
        before => before?,
    };
    if let Some(mut failures) = before {
        failures.forget(now);
        put(tx, &row, &failures)?;
    }
    Ok(before)
}

pub(crate) fn heed_clock<R>(
    tx: &mut Transaction<'_>,
    keys: &[FailureKey],
    now: Timestamp,
    skew: Duration,
) -> Result<(), Abort<R>> {
    for key in keys {
        let row = layout::failures(key);
        if let Some(mut failures) = tx.get::<Failures>(&row)?
            && failures.heed_clock(now, skew)
        {
            tx.put(&row, &failures)?;
        }
    }
    Ok(())
}

/// Removes those of the counters that count at most `most` failures and ask no one to wait. Returns how many were removed.
pub(crate) fn prune_failures<R>(
    tx: &mut Transaction<'_>,
    keys: &[FailureKey],
    rules: &FailureRules,
    most: u32,
    now: Timestamp,
) -> Result<usize, Abort<R>> {
    let mut removed = 0;
    for key in keys {
        let (row, rule) = (layout::failures(key), rules.of(key));
        if tx.get::<Failures>(&row)?.is_some_and(|failures| failures.is_at_most(most, rule, now)) {
            tx.remove(&row);
            removed += 1;
        }
    }
    Ok(removed)
}

/// Writes a counter, or removes it if it counts nothing.
fn put(tx: &mut Transaction<'_>, row: &[u8], failures: &Failures) -> Result<(), Fault> {
    if failures.count == 0 {
        tx.remove(row);
        return Ok(());
    }
    tx.put(row, failures)
}

/// Returns the counter that stands for this one and its neighbours when there are too many.
fn shared_with(key: FailureKey) -> FailureKey {
    let subject = |subject: SubjectKey| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&subject.as_bytes()[..2]);
        SubjectKey::from_bytes(bytes)
    };
    let scope = match key.scope {
        FailureScope::Account(of) => FailureScope::Account(subject(of)),
        FailureScope::Address(address) => FailureScope::Address(coarser(address)),
        FailureScope::Known(of, address) => FailureScope::Known(subject(of), coarser(address)),
    };
    FailureKey { scope, ..key }
}
