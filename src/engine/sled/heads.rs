//! Checks the heads of the engine's segments before the engine opens its file.
//!
//! The engine's file is a sequence of segments. Each segment begins with a head of 20 bytes: a checksum, the log sequence number of
//! the segment's first byte, and the number up to which the log was stable when the segment was begun. Recovery finds the log by
//! these heads. It begins its check of the newest part in the segment that contains the highest stable number.
//! If that segment is missing, recovery treats *everything* as lost.
//!
//! Older versions of this program let the engine write stable numbers before the bytes were durable (see `sync`). So a power cut
//! could leave a head without the segment that it calls stable. Nothing after the missing segment was ever acknowledged, because an
//! acknowledgement needed a sync of the whole file. So this module overwrites the later heads with zeros, and recovery finds
//! everything before them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The size of a segment, in bytes: the engine's default, which this program never changes.
pub(super) const SEGMENT_BYTES: u64 = 512 * 1024;
/// The size of a head, in bytes.
const HEAD_BYTES: usize = 20;
/// The engine combines both numbers of a head with this mask by XOR.
const MASK: i64 = i64::MAX;

/// The head of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    /// The log sequence number of the segment's first byte.
    first: u64,
    /// The number up to which the log was stable when the segment was begun; -1 if nothing was stable.
    stable: i64,
    /// The offset of the segment in the file, in bytes.
    place: u64,
}

impl Head {
    /// Parses a head. Returns `None` if its checksum is wrong, which is also the case for a free segment.
    fn parse(place: u64, bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let (checksum, numbers) = bytes.split_first_chunk()?;
        if crc32fast::hash(numbers) != u32::from_le_bytes(*checksum) ^ u32::MAX {
            return None;
        }
        let (first, stable) = numbers.split_first_chunk()?;
        let number = |bytes: &[u8; 8]| i64::from_le_bytes(*bytes) ^ MASK;
        Some(Self { first: u64::try_from(number(first)).ok()?, stable: number(stable.first_chunk()?), place })
    }
}

/// The result of a check of all heads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heads {
    /// The number of segments in use.
    pub(super) used: usize,
    /// The number of heads that were overwritten, because they call a missing segment stable.
    pub(super) blanked: usize,
}

/// Checks every head in an engine directory and overwrites those that would make recovery lose good data.
/// Returns `None` if there is no data file.
pub(super) fn check(engine_dir: &Path) -> io::Result<Option<Heads>> {
    let file = match OpenOptions::new().read(true).write(true).open(engine_dir.join("db")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let from = snapshot_at(engine_dir)?;
    let (mut heads, used) = read(&file, from)?;
    let mut blanked = 0;
    while let Some(after) = missing(&heads, from) {
        for head in heads.split_off(&after).into_values() {
            file.write_all_at(&[0; HEAD_BYTES], head.place)?;
            blanked += 1;
        }
    }
    if blanked > 0 {
        file.sync_all()?;
    }
    Ok(Some(Heads { used: used - blanked, blanked }))
}

/// Reads the heads of the segments from this number on, by that number, and the number of segments in use in the whole file.
fn read(file: &File, from: u64) -> io::Result<(BTreeMap<u64, Head>, usize)> {
    let (mut heads, mut used) = (BTreeMap::new(), 0);
    let length = file.metadata()?.len();
    let mut place = 0;
    while place + HEAD_BYTES as u64 <= length {
        let mut bytes = [0; HEAD_BYTES];
        file.read_exact_at(&mut bytes, place)?;
        if let Some(head) = Head::parse(place, &bytes) {
            used += 1;
            if head.first >= from {
                heads.insert(head.first, head);
            }
        }
        place += SEGMENT_BYTES;
    }
    Ok((heads, used))
}

/// Returns the number of the segment that is called stable but is missing, if there are later segments.
fn missing(heads: &BTreeMap<u64, Head>, from: u64) -> Option<u64> {
    let stable = heads.values().filter_map(|head| u64::try_from(head.stable).ok()).fold(from, u64::max);
    let wanted = stable / SEGMENT_BYTES * SEGMENT_BYTES;
    let later = heads.range(wanted + 1..).next().is_some();
    (later && !heads.contains_key(&wanted)).then_some(wanted)
}

/// Returns the number of the segment in which the engine's newest snapshot ends; 0 without a snapshot.
/// The engine reads no earlier segment.
fn snapshot_at(engine_dir: &Path) -> io::Result<u64> {
    let mut newest = 0;
    for entry in std::fs::read_dir(engine_dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("snap."));
        if let Some(number) = number.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            newest = newest.max(number);
        }
    }
    Ok(newest / SEGMENT_BYTES * SEGMENT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = SEGMENT_BYTES;

    fn bytes(first: u64, stable: i64) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[4..12].copy_from_slice(&(i64::try_from(first).unwrap() ^ MASK).to_le_bytes());
        bytes[12..].copy_from_slice(&(stable ^ MASK).to_le_bytes());
        let checksum = crc32fast::hash(&bytes[4..]) ^ u32::MAX;
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Checks a file with these segments, each given as its number and the number up to which it calls the log stable.
    /// Returns the result and the segments that are left.
    fn left_of(segments: &[Option<(u64, i64)>], snapshot: Option<u64>) -> (Heads, Vec<Option<u64>>) {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("db")).unwrap();
        file.set_len(S * segments.len() as u64).unwrap();
        for (place, segment) in (0..).zip(segments) {
            if let Some((number, stable)) = segment {
                file.write_all_at(&bytes(number * S, *stable), place * S).unwrap();
            }
        }
        if let Some(number) = snapshot {
            std::fs::write(dir.path().join(format!("snap.{number:016X}")), "").unwrap();
        }
        let heads = check(dir.path()).unwrap().unwrap();
        let file = File::open(dir.path().join("db")).unwrap();
        let mut left = vec![None; segments.len()];
        for head in read(&file, 0).unwrap().0.into_values() {
            left[usize::try_from(head.place / S).unwrap()] = Some(head.first / S);
        }
        (heads, left)
    }

    fn s(number: u64) -> i64 {
        i64::try_from(number * S).unwrap()
    }

    #[test]
    fn r14_0c_heads_after_a_missing_stable_segment_are_blanked_and_no_others() {
        let whole = [Some((0, -1)), Some((1, s(1) - 1)), Some((2, s(2) - 1)), Some((3, s(2) + 9))];
        assert_eq!(left_of(&whole, None), (Heads { used: 4, blanked: 0 }, vec![Some(0), Some(1), Some(2), Some(3)]));
        // Segment 2 is called stable and is missing.
        let lost = [Some((0, -1)), Some((1, s(1) - 1)), None, Some((3, s(2) + 9)), Some((4, s(2) + 9))];
        assert_eq!(left_of(&lost, None), (Heads { used: 2, blanked: 2 }, vec![Some(0), Some(1), None, None, None]));
        // A remaining head can call another missing segment stable.
        let twice = [Some((0, -1)), None, Some((2, s(1) + 1)), None, Some((4, s(3) + 1))];
        assert_eq!(left_of(&twice, None), (Heads { used: 1, blanked: 2 }, vec![Some(0), None, None, None, None]));
        // Segments are reused. Their order in the file is not their order in the log, and freed ones are missing for good.
        let reused = [Some((9, s(8) + 5)), Some((7, s(7) - 1)), None, Some((8, s(7) + 1))];
        assert_eq!(left_of(&reused, None), (Heads { used: 3, blanked: 0 }, vec![Some(9), Some(7), None, Some(8)]));
        // If the newest segment is missing, or begins after the stable part, that is an ordinary torn write.
        let torn = [Some((0, -1)), Some((1, s(0) + 5)), None, Some((3, s(1) + 5))];
        assert_eq!(left_of(&torn, None).0, Heads { used: 3, blanked: 0 });
    }

    #[test]
    fn r14_0c_a_snapshot_stands_for_the_segments_before_it() {
        // Recovery begins in segment 2, where the snapshot ends, so segment 1 does not matter.
        let kept = [Some((0, -1)), None, Some((2, s(1) + 5)), Some((3, s(2) + 5))];
        assert_eq!(left_of(&kept, Some(2 * S + 77)).0, Heads { used: 3, blanked: 0 });
        let lost = [Some((0, -1)), Some((1, 5)), None, Some((3, s(1) + 5))];
        assert_eq!(
            left_of(&lost, Some(2 * S + 77)),
            (Heads { used: 2, blanked: 1 }, vec![Some(0), Some(1), None, None])
        );
        assert_eq!(left_of(&[Some((0, -1)), Some((1, 5))], Some(2 * S)).0, Heads { used: 2, blanked: 0 });
    }

    #[test]
    fn r14_0c_a_head_is_read_as_the_engine_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::open(dir.path()).unwrap();
        for n in 0_u64..1200 {
            db.insert(n.to_be_bytes(), vec![7; 1024]).unwrap();
        }
        db.flush().unwrap();
        let heads = check(dir.path()).unwrap().unwrap();
        assert!(heads.used >= 3, "{heads:?}");
        assert_eq!(heads.blanked, 0);
        assert_eq!(check(&dir.path().join("blobs")).unwrap(), None);
    }
}
