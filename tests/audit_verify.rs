//! `doorward audit verify` of the built program, on data directories that were tampered with.
#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::fs;
use std::path::Path;
use std::process::Command;

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::{
    AccountId, AuditActorKind, AuditDetails, AuditEvent, AuditPruning, AuditRecord, Origin, Timestamp,
};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Held by each test. A program that one test starts inherits the open files of the others until it runs, and with them
/// the lock of a data directory.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The number of records in the logs of these tests.
const RECORDS: u64 = 40;

fn record(number: u64) -> AuditRecord {
    AuditRecord {
        actor: AuditActorKind::Anonymous,
        subject: AccountId::new(number % 3),
        origin: Origin::new(Some([192, 0, 2, 1].into()), Some("agent"), Some(format!("request-{number}"))),
        ..AuditRecord::new(AuditEvent::Login, Timestamp::from_millis(i64::try_from(number).unwrap()))
    }
}

/// Appends records with these numbers and returns the head after them.
async fn append(data_dir: &Path, numbers: std::ops::RangeInclusive<u64>) -> String {
    let store = SledEngine::open(data_dir, SledOptions::default()).unwrap().into_store(u64::MAX);
    store.append_audit(numbers.map(record).collect()).await.unwrap();
    store.audit_status().await.unwrap().head.to_string()
}

/// Creates a data directory with a log and returns it with its head.
async fn log() -> (TempDir, String) {
    let dir = TempDir::new().unwrap();
    let head = append(dir.path(), 1..=RECORDS).await;
    (dir, head)
}

/// Changes the database as a person with a database editor would.
fn tamper(data_dir: &Path, work: impl FnOnce(&sled::Db)) {
    let engine = loop {
        match sled::open(data_dir.join("db")) {
            Err(sled::Error::Io(error)) if error.to_string().contains("lock") => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    work(&engine);
    engine.flush().unwrap();
}

fn key(number: u64) -> Vec<u8> {
    [&[0x30][..], &number.to_be_bytes()].concat()
}

fn verify(data_dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.args(["audit", "verify"]).args(arguments).env_clear().env("DATA_DIR", data_dir);
    let output = command.current_dir(std::env::temp_dir()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout) + &text(output.stderr))
}

#[track_caller]
fn assert_broken(data_dir: &Path, arguments: &[&str], what: &str) {
    let (code, text) = verify(data_dir, arguments);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(what), "{text}");
}

#[tokio::test]
async fn s70_a_whole_log_is_whole_and_its_head_is_printed() {
    let _alone = ALONE.lock().await;
    let (dir, head) = log().await;
    for arguments in [&[][..], &["--head", &head]] {
        let (code, text) = verify(dir.path(), arguments);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("40 records fit together.\n"), "{text}");
        assert!(text.contains(&format!("Head: {head}\n")), "{text}");
    }
    let later = append(dir.path(), 41..=60).await;
    let (code, text) = verify(dir.path(), &["--head", &head]);
    assert!(code == Some(0) && text.contains(&later), "a log that went on leads on from its earlier head: {text}");
    let empty = TempDir::new().unwrap();
    drop(SledEngine::open(empty.path(), SledOptions::default()).unwrap().into_store(u64::MAX));
    assert_eq!(verify(empty.path(), &[]).0, Some(0));
}

type Work = fn(&sled::Db);

#[tokio::test]
async fn s70_every_way_to_work_on_the_log_is_found() {
    let _alone = ALONE.lock().await;
    let cases: &[(&str, Work)] = &[
        ("between record 20 and record 21", |db| {
            let mut value = db.get(key(20)).unwrap().unwrap().to_vec();
            let at = value.len() - 2;
            value[at] ^= 1;
            db.insert(key(20), value).unwrap();
        }),
        ("record 20 cannot be read", |db| drop(db.insert(key(20), b"").unwrap())),
        ("record 20 is missing", |db| drop(db.remove(key(20)).unwrap())),
        ("record 1 is missing", |db| drop(db.remove(key(1)).unwrap())),
        ("between record 19 and record 20", |db| {
            let (a, b) = (db.get(key(20)).unwrap().unwrap(), db.get(key(21)).unwrap().unwrap());
            db.insert(key(20), b).unwrap();
            db.insert(key(21), a).unwrap();
        }),
        ("between record 19 and record 20", |db| {
            // One record is removed and the later ones are moved up.
            for number in 20..RECORDS {
                let next = db.get(key(number + 1)).unwrap().unwrap();
                db.insert(key(number), next).unwrap();
            }
            db.remove(key(RECORDS)).unwrap();
        }),
        ("record 40, the newest, is not the one", |db| {
            let mut value = db.get(key(40)).unwrap().unwrap().to_vec();
            let at = value.len() - 2;
            value[at] ^= 1;
            db.insert(key(40), value).unwrap();
        }),
        ("the log ends with record 39 and should end with record 40", |db| drop(db.remove(key(40)).unwrap())),
        ("the log ends with record 41 and should end with record 40", |db| {
            let hash = hash(40, &db.get(key(40)).unwrap().unwrap());
            // This record has no subject, so it needs no entry in the index.
            let like = db.get(key(39)).unwrap().unwrap();
            db.insert(key(41), [&[2][..], &hash, &like[33..]].concat()).unwrap();
        }),
        ("there is a record 0 outside the kept part", |db| drop(db.insert(key(0), b"x").unwrap())),
        ("record 40 is missing in the index of its account", |db| {
            db.remove([&[0x31, 0, 0, 0, 0, 0, 0, 0, 1][..], &(!40_u64).to_be_bytes()].concat()).unwrap();
        }),
    ];
    for (what, work) in cases {
        let (dir, _) = log().await;
        tamper(dir.path(), work);
        assert_broken(dir.path(), &[], what);
    }
}

/// The hash that docs/audit.md defines.
fn hash(number: u64, value: &[u8]) -> Vec<u8> {
    let bytes = [&number.to_be_bytes(), value].concat();
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes).as_ref().to_vec()
}

#[tokio::test]
async fn s70_a_head_that_was_noted_elsewhere_shows_what_the_log_alone_cannot() {
    let _alone = ALONE.lock().await;
    // The newest records are removed together with everything that refers to them.
    let (dir, head) = log().await;
    let early = TempDir::new().unwrap();
    append(early.path(), 1..=30).await;
    assert_eq!(verify(early.path(), &[]).0, Some(0), "by itself it is a log like any other");
    assert_broken(early.path(), &["--head", &head], "record 40 was the head once and is missing");
    // The whole log is written again, with another first record.
    let rewritten = TempDir::new().unwrap();
    append(rewritten.path(), 2..=RECORDS + 1).await;
    assert_eq!(verify(rewritten.path(), &[]).0, Some(0));
    assert_broken(rewritten.path(), &["--head", &head], "record 40 is not the one that was the head then");
    drop(dir);
}

#[tokio::test]
async fn s70_the_head_that_is_logged_at_a_stop_is_the_head_of_the_log() {
    let _alone = ALONE.lock().await;
    let dir = TempDir::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .args(["admin", "create", "--email", "ann@example.com", "--nickname", "ann"])
        .env_clear()
        .envs([("LOG_FORMAT", "json"), ("DOORWARD_ADMIN_PASSWORD", "quiet-lamp-under-blue-stairs")])
        .env("DOORWARD_ADMIN_PASSPHRASE", "My first car was green")
        .env("DATA_DIR", dir.path())
        .current_dir(dir.path())
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    let heads: Vec<serde_json::Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line["message"] == "audit head")
        .collect();
    let zeros = "0".repeat(64);
    assert_eq!(heads[0]["head"], format!("0:{zeros}"), "at the start: {log}");
    let last = heads.last().unwrap()["head"].as_str().unwrap();
    assert!(last.starts_with("1:") && !last.ends_with(&zeros), "at the stop: {log}");
    let (code, text) = verify(dir.path(), &["--head", last]);
    assert!(code == Some(0) && text.contains(last), "{text}");
}

#[tokio::test]
async fn a_pruned_log_is_whole_and_working_on_it_is_still_found() {
    let _alone = ALONE.lock().await;
    let (dir, head) = log().await;
    let store = SledEngine::open(dir.path(), SledOptions::default()).unwrap().into_store(u64::MAX);
    let (before, now) = (Some(Timestamp::from_millis(21)), Timestamp::from_millis(50));
    let pruning = AuditPruning { before, now, max_bytes: u64::MAX, limit: 100, record: Some(removal(41)) };
    assert_eq!(store.prune_audit(pruning).await.unwrap().removed, 20);
    drop(store);
    let (code, text) = verify(dir.path(), &["--head", &head]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("begins with record 21; older ones were removed, last at 1970-01-01T00:00:00.050Z"),
        "{text}"
    );
    let zeros = "0".repeat(64);
    let (code, text) = verify(dir.path(), &["--head", &format!("19:{zeros}")]);
    assert!(code == Some(2) && text.contains("cannot be told"), "{text}");
    assert_broken(dir.path(), &["--head", &format!("20:{zeros}")], "record 20 is not the one");
    tamper(dir.path(), |db| drop(db.remove(key(21)).unwrap()));
    assert_broken(dir.path(), &[], "record 21 is missing");
}

/// The record of a removal of old records.
fn removal(number: u64) -> AuditRecord {
    AuditRecord { event: AuditEvent::AuditPruned, actor: AuditActorKind::System, subject: None, ..record(number) }
}

/// Removes the oldest records and moves the checkpoint at which the log begins, as a regular removal does.
fn behead(db: &sled::Db, first: u64) {
    let oldest = db.scan_prefix([0x30]).keys().map(Result::unwrap);
    let gone: Vec<_> = oldest.filter(|found| **found < *key(first)).collect();
    let before = hash(first - 1, &db.get(gone.last().unwrap()).unwrap().unwrap());
    for key in gone {
        db.remove(key).unwrap();
    }
    // Encoded in bincode, with a time of one millisecond.
    db.insert([1, 9], [&[1, u8::try_from(first).unwrap()][..], &before, &[1, 2]].concat()).unwrap();
}

#[tokio::test]
async fn s70_the_oldest_records_cannot_be_removed_without_a_record_of_it() {
    let _alone = ALONE.lock().await;
    let (dir, _) = log().await;
    tamper(dir.path(), |db| behead(db, 11));
    assert_broken(dir.path(), &[], "begins with record 11, and no record of it says that older ones were removed");

    let (dir, _) = log().await;
    let store = SledEngine::open(dir.path(), SledOptions::default()).unwrap().into_store(u64::MAX);
    let (before, now) = (Some(Timestamp::from_millis(21)), Timestamp::from_millis(50));
    let pruning = AuditPruning { before, now, max_bytes: u64::MAX, limit: 100, record: Some(removal(41)) };
    store.prune_audit(pruning).await.unwrap();
    drop(store);
    tamper(dir.path(), |db| behead(db, 31));
    let what = "begins with record 31, and by its own record 41 it should begin with record 21";
    assert_broken(dir.path(), &[], what);
}

#[tokio::test]
async fn s70_where_a_log_began_can_be_noted_and_compared_with() {
    let _alone = ALONE.lock().await;
    let (dir, _) = log().await;
    let zeros = "0".repeat(64);
    for noted in ["1", &format!("1:{zeros}")] {
        assert_eq!(verify(dir.path(), &["--first", noted]).0, Some(0), "{noted}");
    }
    for noted in ["2", &format!("1:{}", "1".repeat(64))] {
        assert_broken(dir.path(), &["--first", noted], "not the beginning that was noted");
    }
    for bad in ["", "0", "x", "+1", "1:", &format!("0:{zeros}")] {
        assert_eq!(verify(dir.path(), &["--first", bad]).0, Some(2), "{bad}");
    }
    // An attacker removes the oldest records and also writes a record of the removal.
    tamper(dir.path(), |db| behead(db, 21));
    let store = SledEngine::open(dir.path(), SledOptions::default()).unwrap().into_store(u64::MAX);
    let start = store.audit_status().await.unwrap().checkpoint.start();
    assert_eq!(start.first, 21);
    let forged = AuditRecord { details: Some(AuditDetails::Pruned(start)), ..removal(41) };
    store.append_audit(vec![forged]).await.unwrap();
    drop(store);
    assert_eq!(verify(dir.path(), &[]).0, Some(0), "by itself it is a log like any other");
    assert_broken(dir.path(), &["--first", "1"], "not the beginning that was noted, record 1");
    assert_eq!(verify(dir.path(), &["--first", &start.to_string()]).0, Some(0));
}

#[tokio::test]
async fn the_beginning_that_an_older_version_left_is_taken_on_trust_and_that_is_said() {
    let _alone = ALONE.lock().await;
    let (dir, _) = log().await;
    append(dir.path(), 41..=41).await;
    tamper(dir.path(), |db| behead(db, 21));
    let store = SledEngine::open(dir.path(), SledOptions::default()).unwrap().into_store(u64::MAX);
    store.append_audit(vec![removal(42)]).await.unwrap();
    drop(store);
    let (code, text) = verify(dir.path(), &[]);
    assert!(code == Some(0) && text.contains("is taken on trust until the next removal"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_checked_is_neither_whole_nor_broken() {
    let _alone = ALONE.lock().await;
    let (dir, _) = log().await;
    let store = SledEngine::open(dir.path(), SledOptions::default()).unwrap().into_store(u64::MAX);
    let (code, text) = verify(dir.path(), &[]);
    assert!(code == Some(2) && text.contains("in use by another doorward process"), "{text}");
    drop(store);
    let missing = dir.path().join("elsewhere");
    let (code, text) = verify(&missing, &[]);
    assert!(code == Some(2) && text.contains("there is no database"), "{text}");
    assert!(!fs::exists(&missing).unwrap(), "nothing is made");
    for bad in ["", "40", "x:y", &format!("40:{}", "g".repeat(64))] {
        assert_eq!(verify(dir.path(), &["--head", bad]).0, Some(2), "{bad}");
    }
}
