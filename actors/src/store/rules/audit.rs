//! The rules that write the audit log: they chain each record to the one before, and remove the oldest ones.

use super::super::codec::{self, Chained, LogEnd, RecordError, Refusals};
use super::super::engine::Fault;
use super::super::requests::ActingRefusal;
use super::super::transaction::{Abort, Transaction};
use super::super::{chain, layout};
use super::sessions::may_act;
use crate::domain::account::AccountId;
use crate::domain::audit::{
    AuditCheckpoint, AuditDetails, AuditEvent, AuditHead, AuditPruned, AuditPruning, AuditRecord,
};
use crate::domain::session::Acting;

/// The maximum number of records that the migration to layout 4 writes at once: about 150 KB.
const MIGRATION_GROUP: usize = 512;
/// The maximum number of oldest records that a change removes if it makes the log too large. This takes the committer about 5 ms.
const REMOVED_AT_ONCE: usize = 512;

pub(crate) fn append_audit<R>(tx: &mut Transaction<'_>, records: &[AuditRecord]) -> Result<(), Abort<R>> {
    Ok(append_all(tx, records)?)
}

/// Appends a record if its session may act.
pub(crate) fn append_audit_as(
    tx: &mut Transaction<'_>,
    acting: Acting,
    record: &AuditRecord,
) -> Result<(), Abort<ActingRefusal>> {
    if !may_act(tx, Some(acting))? {
        return Err(Abort::Refused(ActingRefusal));
    }
    Ok(append(tx, record)?)
}

pub(super) fn append_all(tx: &mut Transaction<'_>, records: &[AuditRecord]) -> Result<(), Fault> {
    records.iter().try_for_each(|record| append(tx, record))
}

/// Appends records, but omits refusals while the kept refusals take more than `most_refused` bytes. Returns how many were omitted.
pub(crate) fn append_audit_within<R>(
    tx: &mut Transaction<'_>,
    records: &[AuditRecord],
    most_refused: u64,
) -> Result<u64, Abort<R>> {
    let mut left_out = 0;
    for record in records {
        left_out += u64::from(!append_within(tx, record, most_refused)?);
    }
    Ok(left_out)
}

pub(super) fn append(tx: &mut Transaction<'_>, record: &AuditRecord) -> Result<(), Fault> {
    append_within(tx, record, u64::MAX).map(drop)
}

/// Appends a record and keeps the log within its maximum size. Returns false for a refusal that has no room.
fn append_within(tx: &mut Transaction<'_>, record: &AuditRecord, most_refused: u64) -> Result<bool, Fault> {
    let before = end(tx)?;
    let mut refusals = refusals(tx, &before)?;
    let value = codec::encode(&Chained { previous: before.head.hash, record: record.clone() })?;
    if record.refusal.is_some() {
        refusals.bytes = refusals.bytes.saturating_add(chain::size(&value, record.subject));
        if refusals.bytes > most_refused {
            return Ok(false);
        }
    }
    let end = write_value(tx, before, value, record.subject)?;
    refusals.upto = end.head.sequence;
    tx.put(layout::AUDIT_REFUSALS, &refusals)?;
    tx.put(layout::LAST_AUDIT_SEQUENCE, &end.head.sequence)?;
    let max_bytes = tx.audit_max_bytes();
    // The record of a removal is small. What is removed with it is larger.
    if end.bytes > max_bytes && record.event != AuditEvent::AuditPruned {
        let removal = AuditRecord::new(AuditEvent::AuditPruned, record.at);
        let max_bytes = AuditPruning::with_margin(max_bytes);
        let (before, now) = (None, record.at);
        prune(tx, &AuditPruning { before, now, max_bytes, limit: REMOVED_AT_ONCE, record: Some(removal) })?;
    }
    Ok(true)
}

/// Returns the size of the kept refusals, as far as they were counted.
fn refusals(tx: &Transaction<'_>, end: &LogEnd) -> Result<Refusals, Fault> {
    let upto = end.head.sequence;
    let counted: Option<Refusals> = tx.get(layout::AUDIT_REFUSALS)?;
    Ok(counted.filter(|counted| counted.upto == upto).unwrap_or(Refusals { bytes: 0, from: upto + 1, upto }))
}

fn end(tx: &Transaction<'_>) -> Result<LogEnd, Fault> {
    Ok(tx.get(layout::AUDIT_END)?.unwrap_or(LogEnd::GENESIS))
}

/// Appends a record to the log and returns the new end.
fn write_value(
    tx: &mut Transaction<'_>,
    end: LogEnd,
    value: Vec<u8>,
    subject: Option<AccountId>,
) -> Result<LogEnd, Fault> {
    let sequence = end.head.sequence.checked_add(1);
    let sequence = sequence.ok_or(RecordError::Unstorable { kind: "counter", why: "it is at its end" })?;
    let head = AuditHead { sequence, hash: chain::hash(sequence, &value) };
    let bytes = end.bytes.saturating_add(chain::size(&value, subject));
    tx.put_raw(&layout::audit(sequence), value);
    if let Some(subject) = subject {
        tx.put_raw(&layout::audit_of(subject, sequence), Vec::new());
    }
    let end = LogEnd { head, bytes };
    tx.put(layout::AUDIT_END, &end)?;
    Ok(end)
}

pub(crate) fn prune_audit<R>(tx: &mut Transaction<'_>, pruning: &AuditPruning) -> Result<AuditPruned, Abort<R>> {
    Ok(prune(tx, pruning)?)
}

fn prune(tx: &mut Transaction<'_>, pruning: &AuditPruning) -> Result<AuditPruned, Fault> {
    let mut end = end(tx)?;
    let mut refusals = refusals(tx, &end)?;
    let checkpoint = tx.get(layout::AUDIT_CHECKPOINT)?.unwrap_or(AuditCheckpoint::GENESIS);
    let mut oldest = Vec::new();
    for sequence in (checkpoint.first..end.head.sequence).take(pruning.limit) {
        let value = tx.get_raw(&layout::audit(sequence))?.unwrap_or_default();
        // A record that was damaged from outside must still be removed in its turn.
        let record = codec::decode::<Chained>(&value).ok().map(|chained| chained.record);
        let subject = record.as_ref().and_then(|record| record.subject);
        let counts = sequence >= refusals.from && record.as_ref().is_some_and(|record| record.refusal.is_some());
        oldest.push((sequence, subject, record.map(|record| record.at), chain::size(&value, subject), counts));
    }
    let removed = pruning.count(end.bytes, oldest.iter().map(|(_, _, at, size, _)| (*at, *size)));
    oldest.truncate(removed);
    let Some((last, ..)) = oldest.last().copied() else {
        return Ok(AuditPruned { removed: 0, more: false });
    };
    // Hash the stored record instead of taking the hash from the next one.
    // Then a change of the record before its removal still shows.
    let before = chain::hash(last, &tx.get_raw(&layout::audit(last))?.unwrap_or_default());
    for (sequence, subject, _, size, counts) in oldest {
        tx.remove(&layout::audit(sequence));
        if let Some(subject) = subject {
            tx.remove(&layout::audit_of(subject, sequence));
        }
        end.bytes = end.bytes.saturating_sub(size);
        refusals.bytes = refusals.bytes.saturating_sub(if counts { size } else { 0 });
    }
    tx.put(layout::AUDIT_REFUSALS, &refusals)?;
    tx.put(layout::AUDIT_END, &end)?;
    let checkpoint = AuditCheckpoint { first: last + 1, before, at: Some(pruning.now) };
    tx.put(layout::AUDIT_CHECKPOINT, &checkpoint)?;
    if let Some(record) = &pruning.record {
        let details = Some(AuditDetails::Pruned(checkpoint.start()));
        append(tx, &AuditRecord { details, ..record.clone() })?;
    }
    Ok(AuditPruned { removed, more: removed == pruning.limit })
}

/// Chains some of the records of layout 3 and adds them to the index. Returns whether there are more. The number is bounded, and so is the memory.
/// A record that is unreadable or missing is chained as it is: one record must not keep the service from starting.
pub(crate) fn chain_unchained(tx: &mut Transaction<'_>) -> Result<bool, Fault> {
    let mut end = end(tx)?;
    let last = tx.counter(layout::LAST_AUDIT_SEQUENCE)?;
    for _ in 0..MIGRATION_GROUP {
        if end.head.sequence >= last {
            return Ok(false);
        }
        let sequence = end.head.sequence + 1;
        let value = tx.get_raw(&layout::audit(sequence))?.unwrap_or_default();
        end = match codec::chain(&value, end.head.hash) {
            Ok(chained) => write_value(tx, end, codec::encode(&chained)?, chained.record.subject)?,
            Err(error) => {
                tracing::error!(sequence, %error, "an old audit record cannot be read and is kept in its place as it is");
                write_value(tx, end, codec::put_aside(&value, end.head.hash), None)?
            }
        };
    }
    Ok(true)
}
