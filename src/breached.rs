//! The operator's list of breached passwords: the sorted SHA-1 lines that Have I Been Pwned publishes. The file is searched in place.
//!
//! A line is 40 hexadecimal digits, optionally a colon and a count, and a line end (`\n` or `\r\n`). The file may be far larger than
//! memory. It is read at offsets (`pread`) and not mapped: if the file is truncated or the disk fails, one look-up returns an error.
//! With a memory map, the process would end (ADR 016).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use doorward_actors::Secret;
use doorward_actors::ports::{BreachedListFailure, BreachedPasswords};

/// The number of hexadecimal digits of a SHA-1.
const DIGITS: usize = 40;
/// The maximum length of a line with its end, in bytes: the digits, a colon, a count of 20 digits, and two bytes of line end.
const MAX_LINE: usize = 64;
/// The binary search ends when the remaining range is at most this many bytes. That range is then read line by line.
const BLOCK: usize = 4096;
/// The maximum size of a file that is checked line by line when it is opened, in bytes.
const CHECKED_WHOLE: u64 = 1 << 20;
/// How many lines of a larger file are checked, about.
const SAMPLES: u64 = 256;

/// A hash as it is written in the list, in upper case.
type Digits = [u8; DIGITS];

/// An open list.
#[derive(Debug)]
pub struct BreachedList {
    file: File,
    /// The size of the file when it was opened, in bytes.
    size: u64,
}

/// Why a file is not a list of breached passwords. The texts continue a sentence that begins with the name of the setting.
#[derive(Debug, thiserror::Error)]
pub enum BreachedListError {
    /// The file cannot be opened or read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The path is a directory, a device or a pipe.
    #[error("is not a file")]
    NotAFile,
    /// The file is empty.
    #[error("is empty")]
    Empty,
    /// The file contains something else.
    #[error(
        "is no list of SHA-1 hashes: the line at byte {at} is not 40 hexadecimal digits, perhaps with a colon and a count"
    )]
    Malformed {
        /// The offset of the line, in bytes.
        at: u64,
    },
    /// The lines are in another order, as in the lists that are sorted by count.
    #[error("is not sorted by hash: the line at byte {at} is out of order")]
    Unsorted {
        /// The offset of the line, in bytes.
        at: u64,
    },
}

impl BreachedList {
    /// Opens a list and checks it. Checks each line of a small file.
    /// Of a large file, checks the first line, the last one and some hundred in between.
    pub fn open(path: &Path) -> Result<Self, BreachedListError> {
        // Opening a pipe would block until a process opens its other end.
        if !std::fs::metadata(path)?.is_file() {
            return Err(BreachedListError::NotAFile);
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        if size == 0 {
            return Err(BreachedListError::Empty);
        }
        let list = Self { file, size };
        let mut before: Option<Digits> = None;
        let mut at = 0;
        let step = if size <= CHECKED_WHOLE { 0 } else { size / SAMPLES };
        // The last sample is the last line.
        let last_place = size.saturating_sub(MAX_LINE as u64);
        while at < size {
            let (digits, next) = list.line_at(at)?;
            if before.is_some_and(|before| before > digits) {
                return Err(BreachedListError::Unsorted { at });
            }
            before = Some(digits);
            let wanted = if step == 0 || at >= last_place { next } else { (at + step).min(last_place).max(next) };
            at = if wanted == next { next } else { list.line_after(wanted)? };
        }
        Ok(list)
    }

    /// Returns whether a hash is in the list. Does a binary search over the bytes of the file, then reads the lines of the last range.
    fn find(&self, wanted: &Digits) -> Result<bool, BreachedListError> {
        // Each of them is the start of a line or the end of the file. If the hash is in the list, its line starts between them.
        let (mut low, mut high) = (0, self.size);
        while high - low > BLOCK as u64 {
            let at = self.line_after(low + (high - low) / 2)?;
            let (digits, next) = self.line_at(at)?;
            match digits.cmp(wanted) {
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Less => low = next,
                std::cmp::Ordering::Greater => high = at,
            }
        }
        while low < high {
            let (digits, next) = self.line_at(low)?;
            if digits == *wanted {
                return Ok(true);
            }
            low = next;
        }
        Ok(false)
    }

    /// Returns the hash of the line that starts at this offset, and the offset of the next line.
    fn line_at(&self, at: u64) -> Result<(Digits, u64), BreachedListError> {
        let mut buffer = [0; MAX_LINE];
        let read = self.read(at, &mut buffer)?;
        parse(read).map(|(digits, length)| (digits, at + length)).ok_or(BreachedListError::Malformed { at })
    }

    /// Returns the offset of the first line that starts after this offset, or the size of the file if there is none.
    fn line_after(&self, at: u64) -> Result<u64, BreachedListError> {
        let mut buffer = [0; MAX_LINE];
        let read = self.read(at, &mut buffer)?;
        match read.iter().position(|byte| *byte == b'\n') {
            Some(end) => Ok(at + end as u64 + 1),
            // The last line may lack a line end.
            None if at + read.len() as u64 == self.size => Ok(self.size),
            None => Err(BreachedListError::Malformed { at }),
        }
    }

    /// Reads up to the end of the file, but at most a full buffer.
    fn read<'a>(&self, at: u64, buffer: &'a mut [u8]) -> Result<&'a [u8], BreachedListError> {
        let there = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let part = &mut buffer[..there];
        self.file.read_exact_at(part, at)?;
        Ok(part)
    }
}

impl BreachedPasswords for BreachedList {
    fn contains(&self, password: &Secret) -> Result<bool, BreachedListFailure> {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.expose().as_bytes());
        self.find(&digits_of(hash.as_ref())).map_err(|error| BreachedListFailure(format!("it {error}")))
    }
}

/// Parses the line at the start of these bytes. Returns its hash and its length with the line end.
fn parse(bytes: &[u8]) -> Option<(Digits, u64)> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let line = &bytes[..end.unwrap_or(bytes.len())];
    // Without a line end this can only be the last line, and only if it is not longer than the longest line.
    if end.is_none() && bytes.len() == MAX_LINE {
        return None;
    }
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    let (digits, rest) = text.split_first_chunk::<DIGITS>()?;
    let counted = match rest {
        [] => true,
        [b':', count @ ..] => !count.is_empty() && count.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let length = (line.len() + usize::from(end.is_some())) as u64;
    (counted && digits.iter().all(u8::is_ascii_hexdigit))
        .then(|| (digits.map(|digit| digit.to_ascii_uppercase()), length))
}

/// Formats a hash as hexadecimal digits in upper case.
fn digits_of(hash: &[u8]) -> Digits {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut digits = [b'0'; DIGITS];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(hash) {
        pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    digits
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn opened(content: &[u8]) -> Result<BreachedList, String> {
        BreachedList::open(file(content).path()).map_err(|error| error.to_string())
    }

    fn contains(list: &BreachedList, password: &str) -> bool {
        list.contains(&Secret::new(password.to_owned())).unwrap()
    }

    fn sha1(password: &str) -> String {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        String::from_utf8(digits_of(hash.as_ref()).to_vec()).unwrap()
    }

    #[test]
    fn s04_the_published_form_is_read_with_either_line_end_with_and_without_counts() {
        // From the published list: the hash of "password".
        assert_eq!(sha1("password"), "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8");
        let mut hashes = ["password", "letmein", "тайна", " spaced "].map(sha1);
        hashes.sort();
        for (end, count) in [("\n", ""), ("\r\n", ":3861493"), ("\n", ":1"), ("\r\n", "")] {
            let lines: Vec<_> = hashes.iter().map(|hash| format!("{hash}{count}")).collect();
            for content in [lines.join(end), lines.join(end) + end, lines.join(end).to_lowercase()] {
                let list = opened(content.as_bytes()).unwrap();
                for known in ["password", "letmein", "тайна", " spaced "] {
                    assert!(contains(&list, known), "{known} in {content:?}");
                }
                for unknown in ["", "Password", "spaced", "password "] {
                    assert!(!contains(&list, unknown), "{unknown} in {content:?}");
                }
            }
        }
    }

    #[test]
    fn r13_what_is_no_such_list_is_refused_with_what_is_wrong() {
        let (one, two) = ("0".repeat(40), "F".repeat(40));
        for (content, why) in [
            (String::new(), "is empty"),
            (format!("{two}\n{one}\n"), "is not sorted by hash: the line at byte 41 is out of order"),
            ("password\nletmein\n".to_owned(), "is no list of SHA-1 hashes: the line at byte 0 "),
            (format!("{one}\n\n{two}\n"), "is no list of SHA-1 hashes: the line at byte 41 "),
            (format!("{one}\n{}\n", &two[1..]), "is no list of SHA-1 hashes: the line at byte 41 "),
            (format!("{one}0\n"), "is no list"),
            (format!("{one}:\n"), "is no list"),
            (format!("{one}:x\n"), "is no list"),
            (format!("{one}:{}\n", "1".repeat(60)), "is no list"),
            (format!("{}G\n", &one[1..]), "is no list"),
            ("0".repeat(10_000), "is no list"),
            (format!("\u{feff}{one}\n"), "is no list"),
            ("8846F7EAEE8FB117AD06BDD830B7586C:9\n".to_owned(), "is no list"),
        ] {
            let refused = opened(content.as_bytes()).unwrap_err();
            assert!(refused.starts_with(why), "{content:?}: {refused}");
        }
        let nowhere = BreachedList::open(Path::new("/does/not/exist")).unwrap_err();
        assert!(nowhere.to_string().starts_with("cannot be read: "), "{nowhere}");
        assert!(matches!(BreachedList::open(Path::new("/")), Err(BreachedListError::NotAFile)));
        assert!(matches!(BreachedList::open(Path::new("/dev/null")), Err(BreachedListError::NotAFile)));
    }

    #[test]
    fn a_large_list_is_searched_and_checked_in_samples() {
        // The list has 65,536 lines that differ in their first four digits, about 3 MB.
        let line = |n: u32| format!("{n:04X}{}:{n}\r\n", "5".repeat(36));
        let lines: Vec<String> = (0..0x10000).map(line).collect();
        let list = opened(lines.concat().as_bytes()).unwrap();
        for n in 0..0x10000_u32 {
            let mut digits = [b'5'; DIGITS];
            digits[..4].copy_from_slice(format!("{n:04X}").as_bytes());
            if n % 97 == 0 || !(100..=0xFF90).contains(&n) {
                assert!(list.find(&digits).unwrap(), "{n:04X}");
                digits[39] = b'6';
                assert!(!list.find(&digits).unwrap(), "after {n:04X}");
            }
        }
        let mut backwards = lines.clone();
        backwards.reverse();
        assert!(opened(backwards.concat().as_bytes()).unwrap_err().starts_with("is not sorted"));
        let mut cut = lines.concat().into_bytes();
        cut.truncate(cut.len() - 20);
        assert!(opened(&cut).unwrap_err().starts_with("is no list"), "the last line is always looked at");
    }

    #[test]
    fn a_list_that_is_cut_short_under_way_is_an_error_and_not_a_no() {
        let lines: Vec<String> = (0..0x1000).map(|n| format!("{n:04X}{}\n", "5".repeat(36))).collect();
        let file = file(lines.concat().as_bytes());
        let list = BreachedList::open(file.path()).unwrap();
        assert!(!contains(&list, "anything"));
        file.as_file().set_len(1000).unwrap();
        let failure = list.contains(&Secret::new("anything".to_owned())).unwrap_err();
        assert!(failure.to_string().starts_with("the list of breached passwords cannot be read: it "), "{failure}");
        let reopened = BreachedList::open(file.path()).unwrap_err();
        assert!(matches!(reopened, BreachedListError::Malformed { .. }), "{reopened}");
    }

    #[test]
    fn a_file_put_in_the_place_of_the_list_is_not_read_until_it_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list");
        std::fs::write(&path, sha1("old")).unwrap();
        let list = BreachedList::open(&path).unwrap();
        std::fs::write(directory.path().join("newer"), sha1("new")).unwrap();
        std::fs::rename(directory.path().join("newer"), &path).unwrap();
        assert!(contains(&list, "old") && !contains(&list, "new"));
        let list = BreachedList::open(&path).unwrap();
        assert!(contains(&list, "new") && !contains(&list, "old"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn exactly_what_is_in_a_list_is_found(
            hashes in prop::collection::btree_set("[0-9A-F]{40}", 1..400),
            others in prop::collection::vec("[0-9A-F]{40}", 0..40),
            counts in any::<bool>(), carriage_returns in any::<bool>(), ended in any::<bool>(),
        ) {
            let end = if carriage_returns { "\r\n" } else { "\n" };
            let of = |(n, hash): (usize, &String)| if counts { format!("{hash}:{}", n * n * 7) } else { hash.clone() };
            let lines: Vec<_> = hashes.iter().enumerate().map(of).collect();
            let content = lines.join(end) + if ended { end } else { "" };
            let list = opened(content.as_bytes()).unwrap();
            let wanted: BTreeSet<&String> = hashes.iter().chain(&others).collect();
            for hash in wanted {
                let digits: Digits = hash.as_bytes().try_into().unwrap();
                prop_assert_eq!(list.find(&digits).unwrap(), hashes.contains(hash), "{}", hash);
            }
        }
    }
}
