//! What makes it show when a record of the log is changed or missing: each carries the hash of the one before.

use std::fmt;

use super::AuditRecord;
use crate::domain::time::Timestamp;

/// The SHA-256 hash of one record of the log and, through it, of all records before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHash([u8; 32]);

impl AuditHash {
    /// What the first record of all carries: there is none before it.
    pub const GENESIS: Self = Self([0; 32]);

    /// A hash from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, as the store keeps them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits.
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

/// How far the log goes: its newest record. Written as `SEQUENCE:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// The number of the newest record; 0 when there never was one.
    pub sequence: u64,
    /// Its hash.
    pub hash: AuditHash,
}

impl AuditHead {
    /// The head of a log without records.
    pub const GENESIS: Self = Self { sequence: 0, hash: AuditHash::GENESIS };

    /// Reads `SEQUENCE:HASH`.
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

/// Where a log begins. Written as `FIRST:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditStart {
    /// The number of its oldest record, or of the first one to come.
    pub first: u64,
    /// The hash of the record before it.
    pub before: AuditHash,
}

impl AuditStart {
    /// Reads `FIRST:HASH`.
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
    /// Where a log begins from which nothing was removed.
    pub const GENESIS: Self = Self { first: 1, before: AuditHash::GENESIS, at: None };

    /// The same without its time.
    #[must_use]
    pub const fn start(&self) -> AuditStart {
        AuditStart { first: self.first, before: self.before }
    }
}

/// The log in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditStatus {
    /// Its newest record.
    pub head: AuditHead,
    /// Where its kept part begins.
    pub checkpoint: AuditCheckpoint,
    /// How much the kept records and their index take, keys and values, in bytes.
    pub bytes: u64,
    /// When its newest record was made.
    pub newest_at: Option<Timestamp>,
}

/// Which of the oldest records to remove. The newest record always stays.
#[derive(Debug, Clone)]
pub struct AuditPruning {
    /// Those made before this time; `None` removes none for their age.
    pub before: Option<Timestamp>,
    /// The time now. A record from later than that has a time that cannot be right, and goes with those after it.
    pub now: Timestamp,
    /// So many that the rest takes at most this much, in bytes.
    pub max_bytes: u64,
    /// How many at most.
    pub limit: usize,
    /// What is put on record if any are removed; where the log begins then is added to it.
    pub record: Option<AuditRecord>,
}

/// A log that is too large is pruned by this part more than it must, so that it is not pruned record by record.
const MARGIN: u64 = 64;

/// What a pruning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPruned {
    /// How many records went.
    pub removed: usize,
    /// Whether there may be more to remove.
    pub more: bool,
}

impl AuditPruning {
    /// To which size a log is pruned that takes more than `max_bytes`.
    #[must_use]
    pub const fn with_margin(max_bytes: u64) -> u64 {
        max_bytes - max_bytes / MARGIN
    }

    /// How many records to remove, counted from the oldest. Each is given by when it was made (`None` if that cannot be read)
    /// and how many bytes it takes; there are at most [`limit`](Self::limit) of them. `bytes` is what all kept records take.
    #[must_use]
    pub fn count(&self, bytes: u64, records: impl IntoIterator<Item = (Option<Timestamp>, u64)>) -> usize {
        let (mut count, mut left) = (0, bytes);
        for (passed, (at, size)) in (1..).zip(records) {
            if left > self.max_bytes {
                count = passed;
            } else {
                match (self.before, at) {
                    (Some(before), Some(at)) if at < before => count = passed,
                    // Its time tells nothing, so the records after it decide.
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
