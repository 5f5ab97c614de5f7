//! The log of revocations, written in the commit of the change that it reports.

use std::time::Duration;

use super::super::codec;
use super::super::engine::Fault;
use super::super::layout;
use super::super::transaction::{Abort, Transaction};
use super::audit::append_all;
use super::next;
use crate::domain::audit::AuditRecord;
use crate::domain::revocation::{Revocation, Revoked};
use crate::domain::time::Timestamp;

/// Appends a revocation to the log.
pub(super) fn note(tx: &mut Transaction<'_>, revocation: &Revocation) -> Result<(), Fault> {
    let number = next(tx, layout::LAST_REVOCATION)?;
    tx.put(&layout::revocation(number), revocation)
}

pub(crate) fn record_keys<R>(
    tx: &mut Transaction<'_>,
    audit: &[AuditRecord],
    replaced_at: Option<Timestamp>,
) -> Result<(), Abort<R>> {
    append_all(tx, audit)?;
    if let Some(at) = replaced_at {
        note(tx, &Revocation { at, account: None, what: Revoked::KeysReplaced })?;
    }
    Ok(())
}

pub(crate) fn prune_revocations<R>(
    tx: &mut Transaction<'_>,
    now: Timestamp,
    leeway: Duration,
    up_to: u64,
    limit: usize,
) -> Result<usize, Abort<R>> {
    let (gone, last) = (tx.counter(layout::REVOCATIONS_GONE)?, tx.counter(layout::LAST_REVOCATION)?);
    // Read it in this commit: another process may just have begun to issue tokens that live longer.
    let longest = Duration::from_millis(tx.counter(layout::LONGEST_TOKEN_LIFETIME)?);
    let before = now.minus(longest.saturating_add(leeway));
    let mut removed = 0;
    for number in (gone + 1..=last.min(up_to)).take(limit) {
        let key = layout::revocation(number);
        let value = tx.get_raw(&key)?.unwrap_or_default();
        // A record that was damaged from outside must still be removed in its turn.
        if codec::decode::<Revocation>(&value).is_ok_and(|revocation| revocation.at >= before) {
            break;
        }
        tx.remove(&key);
        tx.put(layout::REVOCATIONS_GONE, &number)?;
        removed += 1;
    }
    Ok(removed)
}

/// Raises the longest lifetime that access tokens ever had, in milliseconds, and returns it.
pub(crate) fn note_token_lifetime<R>(tx: &mut Transaction<'_>, millis: u64) -> Result<u64, Abort<R>> {
    let longest = tx.counter(layout::LONGEST_TOKEN_LIFETIME)?;
    if millis > longest {
        tx.put(layout::LONGEST_TOKEN_LIFETIME, &millis)?;
    }
    Ok(longest.max(millis))
}
