//! The audit log, written: each record chained to the one before, and the oldest removed.

use doorward_actors::{AccountId, AuditCheckpoint, AuditDetails, AuditHead, AuditPruned, AuditPruning, AuditRecord};

use super::super::codec::{self, Chained, LogEnd, RecordError};
use super::super::staging::{Abort, Fault, Staging};
use super::super::{audit, keys};

/// How many records the step to layout 4 writes at once: some 150 KB.
const MIGRATION_GROUP: u64 = 512;

pub(in crate::store) fn append_audit<R>(staging: &mut Staging<'_>, records: &[AuditRecord]) -> Result<(), Abort<R>> {
    Ok(append_all(staging, records)?)
}

pub(super) fn append_all(staging: &mut Staging<'_>, records: &[AuditRecord]) -> Result<(), Fault> {
    records.iter().try_for_each(|record| append(staging, record))
}

pub(super) fn append(staging: &mut Staging<'_>, record: &AuditRecord) -> Result<(), Fault> {
    let end = end(staging)?;
    let end = write(staging, end, &Chained { previous: end.head.hash, record: record.clone() })?;
    staging.put(keys::LAST_AUDIT_SEQUENCE, &end.head.sequence)
}

fn end(staging: &Staging<'_>) -> Result<LogEnd, Fault> {
    Ok(staging.get(keys::AUDIT_END)?.unwrap_or(LogEnd::GENESIS))
}

/// Puts a record behind the end of the log; the answer is its new end.
fn write(staging: &mut Staging<'_>, end: LogEnd, chained: &Chained) -> Result<LogEnd, Fault> {
    write_value(staging, end, codec::encode(chained)?, chained.record.subject)
}

fn write_value(
    staging: &mut Staging<'_>,
    end: LogEnd,
    value: Vec<u8>,
    subject: Option<AccountId>,
) -> Result<LogEnd, Fault> {
    let sequence = end.head.sequence.checked_add(1);
    let sequence = sequence.ok_or(RecordError::Unstorable { kind: "counter", why: "it is at its end" })?;
    let head = AuditHead { sequence, hash: audit::hash(sequence, &value) };
    let bytes = end.bytes.saturating_add(audit::size(&value, subject));
    staging.put_raw(&keys::audit(sequence), value);
    if let Some(subject) = subject {
        staging.put_raw(&keys::audit_of(subject, sequence), Vec::new());
    }
    let end = LogEnd { head, bytes };
    staging.put(keys::AUDIT_END, &end)?;
    Ok(end)
}

pub(in crate::store) fn prune_audit<R>(
    staging: &mut Staging<'_>,
    pruning: &AuditPruning,
) -> Result<AuditPruned, Abort<R>> {
    let mut end = end(staging)?;
    let checkpoint = staging.get(keys::AUDIT_CHECKPOINT)?.unwrap_or(AuditCheckpoint::GENESIS);
    let mut oldest = Vec::new();
    for sequence in (checkpoint.first..end.head.sequence).take(pruning.limit) {
        let value = staging.get_raw(&keys::audit(sequence))?.unwrap_or_default();
        // One that was damaged from outside must go in its turn all the same.
        let record = codec::decode::<Chained>(&value).ok().map(|chained| chained.record);
        let subject = record.as_ref().and_then(|record| record.subject);
        oldest.push((sequence, subject, record.map(|record| record.at), audit::size(&value, subject)));
    }
    let removed = pruning.count(end.bytes, oldest.iter().map(|(_, _, at, size)| (*at, *size)));
    oldest.truncate(removed);
    let Some((last, ..)) = oldest.last().copied() else {
        return Ok(AuditPruned { removed: 0, more: false });
    };
    // Of what is stored, not of what the next record says: so that a record changed before it went still shows.
    let before = audit::hash(last, &staging.get_raw(&keys::audit(last))?.unwrap_or_default());
    for (sequence, subject, _, size) in oldest {
        staging.remove(&keys::audit(sequence));
        if let Some(subject) = subject {
            staging.remove(&keys::audit_of(subject, sequence));
        }
        end.bytes = end.bytes.saturating_sub(size);
    }
    staging.put(keys::AUDIT_END, &end)?;
    let checkpoint = AuditCheckpoint { first: last + 1, before, at: Some(pruning.now) };
    staging.put(keys::AUDIT_CHECKPOINT, &checkpoint)?;
    if let Some(record) = &pruning.record {
        let details = Some(AuditDetails::Pruned(checkpoint.start()));
        append(staging, &AuditRecord { details, ..record.clone() })?;
    }
    Ok(AuditPruned { removed, more: removed == pruning.limit })
}

/// Chains the records of layout 2 and enters them in the index. It is written in groups, so that its memory is bounded; a kill
/// between two of them leaves a tree that a program of layout 2 still opens and that this goes on with. What cannot be read, or
/// is not there, is chained as it is: one record must not keep the service from starting.
pub(in crate::store) fn chain_unchained(staging: &mut Staging<'_>) -> Result<(), Fault> {
    let mut end = end(staging)?;
    let last = staging.counter(keys::LAST_AUDIT_SEQUENCE)?;
    while end.head.sequence < last {
        let sequence = end.head.sequence + 1;
        let value = staging.get_raw(&keys::audit(sequence))?.unwrap_or_default();
        end = match codec::chain(&value, end.head.hash) {
            Ok(chained) => write(staging, end, &chained)?,
            Err(error) => {
                tracing::error!(sequence, %error, "an old audit record is put aside as it is, in its place");
                write_value(staging, end, codec::put_aside(&value, end.head.hash), None)?
            }
        };
        if end.head.sequence.is_multiple_of(MIGRATION_GROUP) {
            staging.write_out()?;
        }
    }
    Ok(())
}
