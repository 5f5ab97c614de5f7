//! The hash chain of the audit log: each record carries the hash of the one before, so that a changed or missing record is detected.

use std::fmt;

use super::AuditRecord;
use crate::domain::time::Timestamp;

/// The SHA-256 hash of a record of the log, which includes the hash of the record before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHash([u8; 32]);

impl AuditHash {
    /// The predecessor hash of the very first record.
    pub const GENESIS: Self = Self([0; 32]);

    /// Makes a hash from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, as the store keeps them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The newest record of the log. Written as `SEQUENCE:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// The number of the newest record; 0 if there never was one.
    pub sequence: u64,
    /// Its hash.
    pub hash: AuditHash,
}

impl AuditHead {
    /// The head of a log without records.
    pub const GENESIS: Self = Self { sequence: 0, hash: AuditHash::GENESIS };

    /// Parses `SEQUENCE:HASH`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (sequence, hash) = text.split_once(':')?;
        let digits = !sequence.is_empty() && sequence.bytes().all(|b| b.is_ascii_digit());
        Some(Self { sequence: sequence.parse().ok().filter(|_| digits)?, hash: AuditHash::parse(hash)? })
    }
}

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

/// The start of a log. Written as `FIRST:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditStart {
    /// The number of its oldest record, or of the first one to come.
    pub first: u64,
    /// The hash of the record before it.
    pub before: AuditHash,
}

impl AuditStart {
    /// Parses `FIRST:HASH`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let AuditHead { sequence, hash } = AuditHead::parse(text)?;
        (sequence != 0).then_some(Self { first: sequence, before: hash })
    }
}

impl fmt::Display for AuditStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.first, self.before)
    }
}

/// Where the kept part of the log begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCheckpoint {
    /// The number of the oldest record that is kept, or of the first one to come.
    pub first: u64,
    /// The hash of the record before it.
    pub before: AuditHash,
    /// When records were last removed; `None` if they never were.
    pub at: Option<Timestamp>,
}

impl AuditCheckpoint {
    /// The start of a log from which nothing was removed.
    pub const GENESIS: Self = Self { first: 1, before: AuditHash::GENESIS, at: None };

    /// Returns the start without the time.
    #[must_use]
    pub const fn start(&self) -> AuditStart {
        AuditStart { first: self.first, before: self.before }
    }
}

/// A summary of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditStatus {
    /// Its newest record.
    pub head: AuditHead,
    /// Where its kept part begins.
    pub checkpoint: AuditCheckpoint,
    /// The size of the kept records and their index, keys and values, in bytes.
    pub bytes: u64,
    /// When its newest record was written.
    pub newest_at: Option<Timestamp>,
}

/// A request to remove the oldest records. The newest record always stays.
#[derive(Debug, Clone)]
pub struct AuditPruning {
    /// Removes records that are older than this; `None` removes none for their age.
    pub before: Option<Timestamp>,
    /// The current time. A record with a later time has a wrong time; the records after it decide whether it is removed.
    pub now: Timestamp,
    /// Removes records until the rest takes at most this many bytes.
    pub max_bytes: u64,
    /// The maximum number of records to remove.
    pub limit: usize,
    /// The record to append if any are removed. The new start of the log is added to it.
    pub record: Option<AuditRecord>,
}

/// A log that is too large is pruned by 1/`MARGIN` more than necessary, so that it is not pruned for each new record.
const MARGIN: u64 = 64;

/// The outcome of a pruning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPruned {
    /// The number of removed records.
    pub removed: usize,
    /// Whether there may be more to remove.
    pub more: bool,
}

impl AuditPruning {
    /// Returns the size to which a log is pruned when it exceeds `max_bytes`.
    #[must_use]
    pub const fn with_margin(max_bytes: u64) -> u64 {
        max_bytes - max_bytes / MARGIN
    }

    /// Returns how many records to remove, counted from the oldest.
    /// Each record is given as its time (`None` if that cannot be read) and its size in bytes.
    /// There are at most [`limit`](Self::limit) of them. `bytes` is the size of all kept records.
    #[must_use]
    pub fn count(&self, bytes: u64, records: impl IntoIterator<Item = (Option<Timestamp>, u64)>) -> usize {
        let (mut count, mut left) = (0, bytes);
        for (passed, (at, size)) in (1..).zip(records) {
            if left > self.max_bytes {
                count = passed;
            } else {
                match (self.before, at) {
                    (Some(before), Some(at)) if at < before => count = passed,
                    // Its time is unusable, so the records after it decide.
                    (Some(_), at) if at.is_none_or(|at| at > self.now) => {}
                    _ => break,
                }
            }
            left = left.saturating_sub(size);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_and_nothing_else_does() {
        let head = AuditHead { sequence: 300, hash: AuditHash::from_bytes([0xA5; 32]) };
        assert_eq!(head.to_string(), format!("300:{}", "a5".repeat(32)));
        assert_eq!(AuditHead::parse(&head.to_string()), Some(head));
        assert_eq!(AuditHead::parse(&head.to_string().to_uppercase()), Some(head));
        let hash = "a5".repeat(32);
        for bad in ["", "300", ":", &format!(":{hash}"), &format!("+1:{hash}"), &format!("1:{hash}0"), "1:é"] {
            assert_eq!(AuditHead::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_start_reads_back_and_no_log_begins_with_nothing() {
        let start = AuditStart { first: 21, before: AuditHash::from_bytes([0xA5; 32]) };
        assert_eq!(AuditStart::parse(&start.to_string()), Some(start));
        assert_eq!(AuditStart::parse(&AuditHead::GENESIS.to_string()), None);
    }

    fn pruning(before: Option<i64>, max_bytes: u64) -> AuditPruning {
        let before = before.map(Timestamp::from_millis);
        AuditPruning { before, now: Timestamp::from_millis(100), max_bytes, limit: 9, record: None }
    }

    fn count(pruning: &AuditPruning, times: &[Option<i64>]) -> usize {
        let records = times.iter().map(|at| (at.map(Timestamp::from_millis), 10));
        pruning.count(10 * u64::try_from(times.len()).unwrap(), records)
    }

    #[test]
    fn the_old_go_from_the_oldest_on() {
        let old = pruning(Some(50), u64::MAX);
        assert_eq!(count(&old, &[Some(10), Some(49), Some(50), Some(10)]), 2);
        assert_eq!(count(&old, &[Some(60), Some(10)]), 0, "a younger one keeps those after it");
        assert_eq!(count(&pruning(None, u64::MAX), &[Some(10)]), 0);
        assert_eq!(count(&old, &[]), 0);
    }

    #[test]
    fn a_time_that_cannot_be_right_neither_goes_alone_nor_keeps_others() {
        let old = pruning(Some(50), u64::MAX);
        assert_eq!(count(&old, &[Some(10), Some(101), None, Some(20), Some(60)]), 4);
        assert_eq!(count(&old, &[Some(10), Some(101), None, Some(60)]), 1);
        assert_eq!(count(&old, &[Some(101), Some(101)]), 0);
    }

    #[test]
    fn what_is_too_much_goes_whatever_its_age() {
        assert_eq!(count(&pruning(None, 25), &[Some(90); 5]), 3);
        assert_eq!(count(&pruning(None, 50), &[Some(90); 5]), 0);
        assert_eq!(count(&pruning(Some(50), 30), &[Some(101), Some(90), Some(10), Some(90), Some(90)]), 3);
    }
}
