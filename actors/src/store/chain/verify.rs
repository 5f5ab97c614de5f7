//! The verification of the audit log: a walk over all of it, one record at a time.

use super::super::codec::{self, Chained, LogEnd};
use super::super::engine::{Fault, Rows};
use super::super::{layout, reads};
use crate::domain::account::AccountId;
use crate::domain::audit::{AuditCheckpoint, AuditDetails, AuditEvent, AuditHash, AuditHead, AuditStart};

/// The result of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditReport {
    /// The start of the kept part.
    pub checkpoint: AuditCheckpoint,
    /// The number of records that were verified before the end or before the first fault.
    pub records: u64,
    /// The records among them that could not be read when the log was first chained, and are kept as they were: their number, and the
    /// sequence numbers of the first ones.
    pub put_aside: (u64, Vec<u64>),
    /// Whether a record of the log confirms its start. A log that only older versions pruned has no such record.
    pub start_is_on_record: bool,
    /// The finding.
    pub finding: AuditFinding,
}

impl AuditReport {
    /// Returns whether the log begins with this record and, if given, with this hash of the record before.
    #[must_use]
    pub fn begins_with(&self, first: u64, before: Option<AuditHash>) -> bool {
        self.checkpoint.first == first && before.is_none_or(|before| self.checkpoint.before == before)
    }
}

/// The maximum number of put-aside records that are named.
const NAMED: usize = 20;

/// The finding of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditFinding {
    /// Every record fits the one before, and the last one is the head.
    Whole(AuditHead),
    /// The log is broken; this is the first fault.
    Broken(AuditBreak),
    /// Every record fits, but the head to compare with was pruned since, so it proves nothing.
    TooOld(AuditHead),
}

/// A fault of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuditBreak {
    /// A record is missing.
    #[error("record {0} is missing")]
    Missing(u64),
    /// There is a record outside the kept part.
    #[error("there is a record {0} outside the kept part of the log")]
    Foreign(u64),
    /// A record cannot be read.
    #[error("record {0} cannot be read: it was changed")]
    Unreadable(u64),
    /// A record does not have the hash of the one before.
    #[error("the chain breaks between record {before} and record {record}: one of them was changed, replaced or moved")]
    Unchained {
        /// The last record that fits those before it.
        before: u64,
        /// The record after it.
        record: u64,
    },
    /// A record is missing in the index of its account, so it is not shown to the account's owner.
    #[error("record {0} is missing in the index of its account")]
    Unindexed(u64),
    /// The log does not begin where its last record of a removal says.
    #[error(
        "the log begins with record {found}, and by its own record {record} it should begin with record {expected}: the \
        oldest records were removed, or others put in their place"
    )]
    Start {
        /// The record with which the log begins.
        found: u64,
        /// The record with which it should begin.
        expected: u64,
        /// The record that says so.
        record: u64,
    },
    /// The log does not begin with its first record, and no record reports a removal.
    #[error("the log begins with record {0}, and no record of it says that older ones were removed")]
    Beheaded(u64),
    /// The log does not end where the store says.
    #[error(
        "the log ends with record {found} and should end with record {expected}: the newest records were removed or replaced"
    )]
    Cut {
        /// The last record found.
        found: u64,
        /// The last record according to the store.
        expected: u64,
    },
    /// The newest record is not the one with which the log ended.
    #[error("record {0}, the newest, is not the one that the log ended with: it was changed")]
    Head(u64),
    /// A head that was logged before is not in the log.
    #[error("record {0} is not the one that was the head then: the log was rewritten")]
    NotThatHead(u64),
    /// A head that was logged before lies beyond the end of the log.
    #[error("record {0} was the head once and is missing: the log was cut off or replaced by an older one")]
    BeyondEnd(u64),
}

/// Walks over the log in constant memory. `expected` is a head that was noted elsewhere.
pub fn walk(rows: &dyn Rows, expected: Option<AuditHead>) -> Result<AuditReport, Fault> {
    let checkpoint = reads::audit::checkpoint(rows)?;
    let mut walk = Walk::new(&checkpoint, expected);
    let mut records = 0;
    let mut broken = walk.compare().err();
    for row in reads::walk_prefix(rows, layout::ALL_AUDIT) {
        if broken.is_some() {
            break;
        }
        let (key, value) = row?;
        match walk.step(rows, &key, &value)? {
            Ok(()) => records += 1,
            Err(found) => broken = Some(found),
        }
    }
    let mut end = match broken {
        Some(broken) => Err(broken),
        None => walk.end(&reads::audit::end(rows)?, reads::counter(rows, layout::LAST_AUDIT_SEQUENCE)?),
    };
    if end.is_ok() {
        end = walk.begins_rightly();
    }
    let finding = match end {
        Err(broken) => AuditFinding::Broken(broken),
        Ok(()) => match walk.expected.filter(|_| !walk.seen_expected) {
            Some(expected) if expected.sequence < checkpoint.first => AuditFinding::TooOld(walk.last),
            Some(expected) => AuditFinding::Broken(AuditBreak::BeyondEnd(expected.sequence)),
            None => AuditFinding::Whole(walk.last),
        },
    };
    let start_is_on_record = checkpoint.at.is_none() || matches!(walk.pruned, Some((_, Some(_))));
    Ok(AuditReport { checkpoint, records, put_aside: walk.put_aside, start_is_on_record, finding })
}

/// A walk over the log, record by record.
#[derive(Debug)]
pub(in crate::store) struct Walk {
    checkpoint: AuditCheckpoint,
    expected: Option<AuditHead>,
    seen_expected: bool,
    /// The last verified record.
    last: AuditHead,
    /// The newest record of a removal and, if it says so, the start of the log after that removal.
    pruned: Option<(u64, Option<AuditStart>)>,
    /// As [`AuditReport::put_aside`].
    put_aside: (u64, Vec<u64>),
}

type Step = Result<(), AuditBreak>;

impl Walk {
    /// Begins before the first kept record. `expected` is a head that was noted elsewhere.
    pub(in crate::store) fn new(checkpoint: &AuditCheckpoint, expected: Option<AuditHead>) -> Self {
        Self {
            checkpoint: *checkpoint,
            expected,
            seen_expected: false,
            last: AuditHead { sequence: checkpoint.first - 1, hash: checkpoint.before },
            pruned: None,
            put_aside: (0, Vec::new()),
        }
    }

    /// Returns the last verified record.
    pub(in crate::store) fn last(&self) -> AuditHead {
        self.last
    }

    /// Verifies one record and its entry in the index. The outer result is about the storage.
    fn step(&mut self, rows: &dyn Rows, key: &[u8], value: &[u8]) -> Result<Step, Fault> {
        let sequence = layout::sequence_of_audit(key).unwrap_or(0);
        Ok(match self.link(sequence, value) {
            Ok(Some(subject)) if !rows.has(&layout::audit_of(subject, sequence))? => {
                Err(AuditBreak::Unindexed(sequence))
            }
            Ok(_) => self.compare(),
            Err(broken) => Err(broken),
        })
    }

    /// Verifies one record, without the index. Returns the account that it is about.
    pub(in crate::store) fn link(&mut self, sequence: u64, value: &[u8]) -> Result<Option<AccountId>, AuditBreak> {
        let wanted = self.last.sequence + 1;
        if sequence < self.checkpoint.first {
            return Err(AuditBreak::Foreign(sequence));
        }
        if sequence != wanted {
            return Err(AuditBreak::Missing(wanted));
        }
        let (previous, record) = match (codec::decode(value), codec::put_aside_after(value)) {
            (Ok(Chained { previous, record }), _) => (previous, Some(record)),
            (Err(_), Some(previous)) => (previous, None),
            (Err(_), None) => return Err(AuditBreak::Unreadable(sequence)),
        };
        if previous != self.last.hash {
            return Err(AuditBreak::Unchained { before: self.last.sequence, record: sequence });
        }
        match &record {
            None => {
                self.put_aside.0 += 1;
                if self.put_aside.1.len() < NAMED {
                    self.put_aside.1.push(sequence);
                }
            }
            Some(record) if record.event == AuditEvent::AuditPruned => {
                let start = match record.details {
                    Some(AuditDetails::Pruned(start)) => Some(start),
                    _ => None,
                };
                self.pruned = Some((sequence, start));
            }
            Some(_) => {}
        }
        self.last = AuditHead { sequence, hash: super::hash(sequence, value) };
        Ok(record.and_then(|record| record.subject))
    }

    /// Compares the last verified record with the noted head, if it has the same number.
    fn compare(&mut self) -> Step {
        match self.expected.filter(|expected| expected.sequence == self.last.sequence) {
            Some(expected) if expected.hash != self.last.hash => Err(AuditBreak::NotThatHead(expected.sequence)),
            Some(_) => {
                self.seen_expected = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Compares the start of the log with its last record of a removal.
    pub(in crate::store) fn begins_rightly(&self) -> Step {
        let (checkpoint, found) = (&self.checkpoint, self.checkpoint.first);
        match self.pruned {
            Some((record, Some(start))) if start != checkpoint.start() => {
                Err(AuditBreak::Start { found, expected: start.first, record })
            }
            None if checkpoint.start() != AuditCheckpoint::GENESIS.start() => Err(AuditBreak::Beheaded(found)),
            _ => Ok(()),
        }
    }

    /// Compares the end of the log with the one that the store keeps, and with the last number that the store counts.
    pub(in crate::store) fn end(&self, stored: &LogEnd, counted: u64) -> Step {
        let head = stored.head;
        if head.sequence != self.last.sequence || counted != self.last.sequence {
            Err(AuditBreak::Cut { found: self.last.sequence, expected: head.sequence.max(counted) })
        } else if head.hash != self.last.hash {
            Err(AuditBreak::Head(head.sequence))
        } else {
            Ok(())
        }
    }
}
