//! Queries of the audit log.

use std::ops::Bound;

use super::super::codec::{self, Chained, LogEnd};
use super::super::engine::{Fault, Rows};
use super::super::layout;
use super::{counter, get, walk};
use crate::domain::account::AccountId;
use crate::domain::audit::{AuditCheckpoint, AuditOrder, AuditPage, AuditQuery, AuditRecord, AuditStatus};
use crate::domain::time::Timestamp;

/// Returns the end of the log.
pub(crate) fn end(rows: &dyn Rows) -> Result<LogEnd, Fault> {
    Ok(get(rows, layout::AUDIT_END)?.unwrap_or(LogEnd::GENESIS))
}

/// Returns the start of the kept part of the log.
pub(crate) fn checkpoint(rows: &dyn Rows) -> Result<AuditCheckpoint, Fault> {
    Ok(get(rows, layout::AUDIT_CHECKPOINT)?.unwrap_or(AuditCheckpoint::GENESIS))
}

pub(crate) fn status(rows: &dyn Rows) -> Result<AuditStatus, Fault> {
    let LogEnd { head, bytes } = end(rows)?;
    let newest_at = newest_at(rows, head.sequence)?;
    Ok(AuditStatus { head, checkpoint: checkpoint(rows)?, bytes, newest_at })
}

fn newest_at(rows: &dyn Rows, sequence: u64) -> Result<Option<Timestamp>, Fault> {
    Ok(record(rows, sequence)?.map(|record| record.at))
}

/// Returns the newest records, newest first.
pub(crate) fn recent(rows: &dyn Rows, limit: usize) -> Result<Vec<(u64, AuditRecord)>, Fault> {
    // The numbers have no gaps, so look-ups are enough, and the engine's less tested backward iteration is not needed.
    let (first, last) = (checkpoint(rows)?.first, counter(rows, layout::LAST_AUDIT_SEQUENCE)?);
    let mut records = Vec::new();
    for sequence in (first..=last).rev() {
        if records.len() == limit {
            break;
        }
        records.extend(record(rows, sequence)?.map(|record| (sequence, record)));
    }
    Ok(records)
}

/// Returns a page of the log. Records that are pruned in the meantime are skipped.
pub(crate) fn page(rows: &dyn Rows, query: &AuditQuery) -> Result<AuditPage, Fault> {
    let (first, last) = (checkpoint(rows)?.first, counter(rows, layout::LAST_AUDIT_SEQUENCE)?);
    match (query.order, query.filter.subject) {
        (AuditOrder::NewestFirst, Some(subject)) => gather(query, of_subject(rows, subject, query.after)),
        (AuditOrder::NewestFirst, None) => {
            let last = query.after.map_or(last, |after| last.min(after.saturating_sub(1)));
            gather(query, (first..=last).rev().map(|sequence| Ok((sequence, record(rows, sequence)?))))
        }
        (AuditOrder::OldestFirst, _) => {
            let first = query.after.map_or(first, |after| first.max(after.saturating_add(1)));
            if first > last {
                return gather(query, std::iter::empty());
            }
            let (first, last) = (layout::audit(first), layout::audit(last));
            let rows = walk(rows, Bound::Included(first.to_vec()), Bound::Included(last.to_vec()));
            gather(
                query,
                rows.map(|row| {
                    let (key, value) = row?;
                    let sequence = layout::sequence_of_audit(&key).unwrap_or(0);
                    Ok((sequence, readable(sequence, &value)))
                }),
            )
        }
    }
}

/// Iterates over the records about a subject, newest first.
fn of_subject(
    rows: &dyn Rows,
    subject: AccountId,
    after: Option<u64>,
) -> impl Iterator<Item = Result<(u64, Option<AuditRecord>), Fault>> {
    let (from, to) = layout::audit_of_before(subject, after);
    walk(rows, Bound::Included(from.to_vec()), Bound::Included(to.to_vec())).map(move |entry| {
        let (key, _) = entry?;
        let sequence = layout::sequence_of_audit_of(&key).unwrap_or(0);
        Ok((sequence, record(rows, sequence)?))
    })
}

/// Examines records in order until the page is full or the limit of the scan is reached.
fn gather(
    query: &AuditQuery,
    records: impl Iterator<Item = Result<(u64, Option<AuditRecord>), Fault>>,
) -> Result<AuditPage, Fault> {
    let mut page = AuditPage { entries: Vec::new(), last: query.after, more: false };
    for (looked_at, row) in records.enumerate() {
        if looked_at >= query.scan || page.entries.len() >= query.limit {
            page.more = true;
            break;
        }
        let (sequence, record) = row?;
        page.last = Some(sequence);
        let Some(record) = record else { continue };
        if query.filter.is_past(&record, query.order) {
            break;
        }
        if query.filter.admits(&record) {
            page.entries.push((sequence, record));
        }
    }
    Ok(page)
}

/// Returns a record; `None` if it does not exist or is unreadable.
fn record(rows: &dyn Rows, sequence: u64) -> Result<Option<AuditRecord>, Fault> {
    Ok(rows.get_raw(&layout::audit(sequence))?.and_then(|value| readable(sequence, &value)))
}

fn readable(sequence: u64, value: &[u8]) -> Option<AuditRecord> {
    match codec::decode::<Chained>(value) {
        Ok(chained) => Some(chained.record),
        // This was already logged when the record was put aside.
        Err(_) if codec::put_aside_after(value).is_some() => None,
        Err(error) => {
            tracing::error!(%error, sequence, "an audit record cannot be read and is skipped");
            None
        }
    }
}
