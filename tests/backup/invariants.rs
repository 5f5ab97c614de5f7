//! Backups with right checksums whose rows do not fit each other.

use std::collections::BTreeMap;

use doorward::backup::check::{Checked, Nowhere, PassError, Sink, pass};
use doorward::backup::format::End;
use doorward::backup::writer::Writer;
use doorward_actors::AuditHead;
use doorward_actors::store::engine::Row;

use crate::fixture::{ACCOUNTS, alone, backup, fill_without_administrator, filled, run, write};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keeps the rows of a backup.
#[derive(Default)]
struct Kept(Rows);

impl Sink for Kept {
    type Error = std::convert::Infallible;

    fn file(&mut self, _: &str, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn rows(&mut self, rows: &[Row]) -> Result<(), Self::Error> {
        self.0.extend(rows.iter().cloned());
        Ok(())
    }
}

/// Writes a backup of other rows, with right checksums and counts.
fn rewritten(checked: &Checked, rows: impl IntoIterator<Item = Row>, head: AuditHead) -> Vec<u8> {
    let rows: Vec<Row> = rows.into_iter().collect();
    let mut writer = Writer::begin(Vec::new(), &checked.header).unwrap();
    writer.rows(&rows).unwrap();
    let end = End::new(rows.len() as u64, checked.contents.commits, head);
    writer.finish(&end).unwrap().0
}

/// Returns why a backup is refused, if it is.
fn refusal(bytes: &[u8]) -> Option<String> {
    match pass(bytes, [2; 32], &mut Nowhere) {
        Ok(_) => None,
        Err(PassError::Refused(refusal)) => Some(refusal.to_string()),
        Err(PassError::Sink(never)) => match never {},
    }
}

/// A counter or an account number up to 250, as the store writes it.
fn number(number: u64) -> Vec<u8> {
    vec![1, u8::try_from(number).unwrap()]
}

/// Kinds of rows that may be missing: counts of mails, uses, sessions, service tokens, and what has a meaning only where it is there.
const MAY_BE_MISSING: [u8; 13] = [0x20, 0x21, 0x22, 0x23, 0x24, 0x53, 0x54, 0x55, 0x56, 0x60, 0x70, 0x71, 0x80];
/// The same for counters: the probe, what refusals take, the longest lifetime, the number of commits, which the end repeats.
const MAY_BE_ZERO: [u8; 4] = [0x06, 0x12, 0x0D, 0x10];

/// Returns rows that break one thing each, and how.
fn broken(good: &Rows) -> Vec<(String, Rows)> {
    let mut broken = Vec::new();
    let mut with = |how: String, change: &dyn Fn(&mut Rows)| {
        let mut rows = good.clone();
        change(&mut rows);
        assert_ne!(&rows, good, "{how}");
        broken.push((how, rows));
    };
    for (key, value) in good {
        let counter = key[0] == 1;
        if !(MAY_BE_MISSING.contains(&key[0]) || counter && MAY_BE_ZERO.contains(&key[1])) {
            with(format!("without {key:02X?}"), &|rows| drop(rows.remove(key)));
        }
        if matches!(key[0], 0x11 | 0x12) {
            let other = if value[1] == 1 { 2 } else { 1 };
            with(format!("{key:02X?} of another account"), &|rows| drop(rows.insert(key.clone(), number(other))));
            with(format!("{key:02X?} of no account"), &|rows| drop(rows.insert(key.clone(), number(99))));
        }
        if matches!(key[0], 0x20 | 0x21 | 0x22 | 0x23 | 0x24 | 0x31 | 0x41 | 0x52) {
            let mut of_nobody = key.clone();
            of_nobody[1..9].copy_from_slice(&99_u64.to_be_bytes());
            with(format!("{key:02X?} of no account"), &|rows| {
                let value = rows.remove(key).unwrap();
                rows.insert(of_nobody.clone(), value);
            });
        }
        if counter && matches!(key[1], 0x03 | 0x04) {
            for wrong in [0, value[1] - 1, value[1] + 1] {
                with(format!("counter {key:02X?} at {wrong}"), &|rows| {
                    rows.insert(key.clone(), number(wrong.into()));
                });
            }
        }
        if counter && matches!(key[1], 0x01 | 0x02 | 0x07 | 0x0A | 0x0B) {
            with(format!("counter {key:02X?} too low"), &|rows| drop(rows.insert(key.clone(), number(0))));
        }
        let request = value.windows(8).position(|part| part == b"request-");
        if let Some(at) = request.filter(|_| key[0] == 0x30) {
            with(format!("{key:02X?} changed"), &|rows| rows.get_mut(key).unwrap()[at] = b'R');
        }
    }
    with("a row of no kind".to_owned(), &|rows| drop(rows.insert(vec![0x7F, 1], vec![1])));
    with("an entry of an index too many".to_owned(), &|rows| {
        rows.insert(b"\x11nobody@example.com".to_vec(), number(1));
    });
    with("a damaged session".to_owned(), &|rows| {
        let session = rows.iter_mut().find(|(key, _)| key[0] == 0x20).unwrap();
        session.1.pop();
    });
    with("two accounts with one address".to_owned(), &|rows| {
        rename(rows, 4, b"user04@example.com", b"user03@example.com");
        rows.remove(b"\x11user04@example.com".as_slice());
    });
    with("two accounts with one nickname".to_owned(), &|rows| {
        rename(rows, 4, b"\x06user04", b"\x06user03");
        rows.remove(b"\x12user04".as_slice());
    });
    with("a newer layout".to_owned(), &|rows| drop(rows.insert(vec![1, 0], 7_u32.to_be_bytes().to_vec())));
    broken
}

/// Puts other bytes of the same length into the record of an account.
fn rename(rows: &mut Rows, account: u64, from: &[u8], to: &[u8]) {
    let record = rows.get_mut([&[0x10], &account.to_be_bytes()[..]].concat().as_slice()).unwrap();
    let at = record.windows(from.len()).position(|part| part == from).unwrap();
    record[at..at + to.len()].copy_from_slice(to);
}

#[tokio::test]
async fn r16_backups_with_right_checksums_and_wrong_rows_are_refused() {
    let _alone = alone().await;
    let dir = filled().await;
    let bytes = backup(dir.path());
    let mut kept = Kept::default();
    let checked = pass(bytes.as_slice(), [2; 32], &mut kept).unwrap();
    assert_eq!(checked.contents.accounts, ACCOUNTS);
    let head = checked.contents.audit_head;
    assert_eq!(refusal(&rewritten(&checked, kept.0.clone(), head)), None, "what is rewritten as it was is good");
    let broken = broken(&kept.0);
    assert!(broken.len() >= 100, "{}", broken.len());
    for (number, (how, rows)) in broken.iter().enumerate() {
        let bytes = rewritten(&checked, rows.clone(), head);
        let why = refusal(&bytes).unwrap_or_else(|| panic!("accepted: {how}"));
        assert!(!why.contains("damaged"), "{how}: {why}");
        if number % 40 == 0 {
            write(dir.path(), "bad.dw", &bytes);
            run(dir.path(), "new", &["restore", "--from", "bad.dw"]).refused(&why);
            assert!(!dir.path().join("new").exists());
        }
    }
    let mut unsorted: Vec<Row> = kept.0.clone().into_iter().collect();
    unsorted.swap(20, 21);
    assert!(refusal(&rewritten(&checked, unsorted, head)).unwrap().contains("does not come after"));
    let other = AuditHead { sequence: head.sequence + 1, ..head };
    assert!(refusal(&rewritten(&checked, kept.0, other)).unwrap().contains("the counts or the audit head differ"));
}

#[tokio::test]
async fn accounts_that_nobody_can_administer_are_restored_only_on_request() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    fill_without_administrator(&dir.path().join("data")).await;
    let made = run(dir.path(), "data", &["backup", "--to", "backup.dw"]);
    assert!(made.err.contains("no account can administer the others"), "{}", made.err);
    made.done();
    let why = "none of its accounts is an administrator who is not locked";
    run(dir.path(), "data", &["verify-backup", "backup.dw"]).refused(why);
    run(dir.path(), "new", &["restore", "--from", "backup.dw"]).refused(why);
    assert!(!dir.path().join("new").exists());
    run(dir.path(), "data", &["verify-backup", "backup.dw", "--without-administrator"]).done();
    run(dir.path(), "new", &["restore", "--from", "backup.dw", "--without-administrator"]).done();
}

#[tokio::test]
async fn a_counter_that_leaves_no_room_for_the_next_numbers_is_refused() {
    let _alone = alone().await;
    let dir = filled().await;
    let mut kept = Kept::default();
    let checked = pass(backup(dir.path()).as_slice(), [2; 32], &mut kept).unwrap();
    // The numbers of accounts, audit records, mails, service tokens and revocations, the probe, the lifetime of tokens and the commits.
    for counter in [0x01, 0x02, 0x06, 0x07, 0x0A, 0x0B, 0x0D, 0x10] {
        let mut rows = kept.0.clone();
        rows.insert(vec![1, counter], [&[1, 253][..], &u64::MAX.to_le_bytes()].concat());
        let bytes = rewritten(&checked, rows, checked.contents.audit_head);
        let why = refusal(&bytes).unwrap_or_else(|| panic!("accepted: {counter:02X}"));
        assert!(why.contains("higher than any store counts"), "{counter:02X}: {why}");
    }
}
