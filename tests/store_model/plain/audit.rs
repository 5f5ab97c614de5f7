//! The audit log as a list.

use doorward_actors::{
    AuditCheckpoint, AuditDetails, AuditHash, AuditHead, AuditOrder, AuditPage, AuditPruned, AuditPruning, AuditQuery,
    AuditRecord, AuditStart, AuditStatus, Timestamp,
};
use tokio::sync::watch;

/// The size of a record in this model. It stores no bytes, so any number will do.
const RECORD_BYTES: u64 = 200;

/// The records, the oldest first, and the number of removed ones before them. Without bytes there is no chain.
#[derive(Debug, Default)]
pub(super) struct Log {
    records: Vec<AuditRecord>,
    removed: u64,
    pruned_at: Option<Timestamp>,
    head: watch::Sender<u64>,
}

impl Log {
    pub(super) fn push(&mut self, record: AuditRecord) {
        self.extend([record]);
    }

    pub(super) fn extend(&mut self, records: impl IntoIterator<Item = AuditRecord>) {
        self.records.extend(records);
        let last = self.last();
        self.head.send_if_modified(|head| std::mem::replace(head, last) != last);
    }

    pub(super) fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    fn last(&self) -> u64 {
        self.removed + u64::try_from(self.records.len()).unwrap_or(u64::MAX)
    }

    fn numbered(&self) -> Vec<(u64, AuditRecord)> {
        (self.removed + 1..).zip(self.records.iter().cloned()).collect()
    }

    pub(super) fn newest(&self, limit: usize) -> Vec<(u64, AuditRecord)> {
        self.numbered().into_iter().rev().take(limit).collect()
    }

    pub(super) fn page(&self, query: &AuditQuery) -> AuditPage {
        let mut records = self.numbered();
        match query.order {
            AuditOrder::OldestFirst => {
                records.retain(|(sequence, _)| query.after.is_none_or(|after| *sequence > after));
            }
            AuditOrder::NewestFirst => {
                records.retain(|(sequence, _)| query.after.is_none_or(|after| *sequence < after));
                records.retain(|(_, record)| query.filter.subject.is_none() || record.subject == query.filter.subject);
                records.reverse();
            }
        }
        let mut page = AuditPage { entries: Vec::new(), last: query.after, more: false };
        for (looked_at, (sequence, record)) in records.into_iter().enumerate() {
            if looked_at == query.scan || page.entries.len() == query.limit {
                page.more = true;
                break;
            }
            page.last = Some(sequence);
            if query.filter.is_past(&record, query.order) {
                break;
            }
            if query.filter.admits(&record) {
                page.entries.push((sequence, record));
            }
        }
        page
    }

    pub(super) fn status(&self) -> AuditStatus {
        AuditStatus {
            head: AuditHead { sequence: self.last(), hash: AuditHash::GENESIS },
            checkpoint: AuditCheckpoint { first: self.removed + 1, before: AuditHash::GENESIS, at: self.pruned_at },
            bytes: self.bytes(),
            newest_at: self.records.last().map(|record| record.at),
        }
    }

    fn bytes(&self) -> u64 {
        RECORD_BYTES * u64::try_from(self.records.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn prune(&mut self, pruning: AuditPruning) -> AuditPruned {
        let all_but_newest = self.records.len().saturating_sub(1);
        let oldest = self.records.iter().take(all_but_newest.min(pruning.limit));
        let removed = pruning.count(self.bytes(), oldest.map(|record| (Some(record.at), RECORD_BYTES)));
        if removed > 0 {
            self.records.drain(..removed);
            self.removed += u64::try_from(removed).unwrap_or(u64::MAX);
            self.pruned_at = Some(pruning.now);
            let start = AuditStart { first: self.removed + 1, before: AuditHash::GENESIS };
            let details = Some(AuditDetails::Pruned(start));
            self.extend(pruning.record.map(|record| AuditRecord { details, ..record }));
        }
        AuditPruned { removed, more: removed == pruning.limit }
    }
}
