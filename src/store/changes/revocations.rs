//! The log of revocations, written in the commit of what it tells of.

use doorward_actors::{AuditRecord, Revocation, Revoked, Timestamp};

use super::super::codec;
use super::super::keys;
use super::super::staging::{Abort, Fault, Staging};
use super::audit::append_all;
use super::next;

/// Puts a revocation behind the end of the log.
pub(super) fn note(staging: &mut Staging<'_>, revocation: &Revocation) -> Result<(), Fault> {
    let number = next(staging, keys::LAST_REVOCATION)?;
    staging.put(&keys::revocation(number), revocation)
}

pub(in crate::store) fn record_keys<R>(
    staging: &mut Staging<'_>,
    audit: &[AuditRecord],
    replaced_at: Option<Timestamp>,
) -> Result<(), Abort<R>> {
    append_all(staging, audit)?;
    if let Some(at) = replaced_at {
        note(staging, &Revocation { at, account: None, what: Revoked::KeysReplaced })?;
    }
    Ok(())
}

pub(in crate::store) fn prune_revocations<R>(
    staging: &mut Staging<'_>,
    before: Timestamp,
    up_to: u64,
    limit: usize,
) -> Result<usize, Abort<R>> {
    let (gone, last) = (staging.counter(keys::REVOCATIONS_GONE)?, staging.counter(keys::LAST_REVOCATION)?);
    let mut removed = 0;
    for number in (gone + 1..=last.min(up_to)).take(limit) {
        let key = keys::revocation(number);
        let value = staging.get_raw(&key)?.unwrap_or_default();
        // One that was damaged from outside must go in its turn all the same.
        if codec::decode::<Revocation>(&value).is_ok_and(|revocation| revocation.at >= before) {
            break;
        }
        staging.remove(&key);
        staging.put(keys::REVOCATIONS_GONE, &number)?;
        removed += 1;
    }
    Ok(removed)
}

/// Raises the longest time for which access tokens were ever good, in milliseconds; the answer is that.
pub(in crate::store) fn note_token_lifetime<R>(staging: &mut Staging<'_>, millis: u64) -> Result<u64, Abort<R>> {
    let longest = staging.counter(keys::LONGEST_TOKEN_LIFETIME)?;
    if millis > longest {
        staging.put(keys::LONGEST_TOKEN_LIFETIME, &millis)?;
    }
    Ok(longest.max(millis))
}
