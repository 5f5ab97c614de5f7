//! Tests of what only the audit log on disk has: a chain and a size.

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::store::Store;
use doorward_actors::store::chain::verify::AuditFinding;
use doorward_actors::{AuditEvent, AuditHead, AuditPruning, AuditRecord, AuditRefusal};

use crate::rules::open_engine;
use crate::{at, audit, id, open};

async fn append(store: &Store, marks: std::ops::Range<i64>) {
    let about = |mark: i64| AuditRecord { subject: (mark % 2 == 0).then(|| id(7)), ..audit(mark) };
    store.append_audit(marks.map(about).collect()).await.unwrap();
}

fn pruning(max_bytes: u64) -> AuditPruning {
    AuditPruning { before: None, now: at(1), max_bytes, limit: 1000, record: Some(removal()) }
}

fn removal() -> AuditRecord {
    AuditRecord { event: AuditEvent::AuditPruned, ..audit(1) }
}

/// Returns the actual size of the log's rows.
fn counted(data_dir: &std::path::Path) -> u64 {
    let engine = open_engine(data_dir);
    let rows = engine.scan_prefix([0x30]).chain(engine.scan_prefix([0x31]));
    rows.map(|row| row.map(|(key, value)| u64::try_from(key.len() + value.len()).unwrap()).unwrap()).sum()
}

#[tokio::test]
async fn the_log_is_pruned_to_its_size_and_stays_verifiable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, 1..400).await;
    let full = store.audit_status().await.unwrap();
    let head = full.head;
    let pruned = store.prune_audit(pruning(full.bytes / 2)).await.unwrap();
    assert!((180..220).contains(&pruned.removed) && !pruned.more, "{pruned:?}");
    let left = store.audit_status().await.unwrap();
    assert!(left.bytes <= full.bytes / 2 + 200, "the record of the pruning comes on top: {left:?}");
    assert_eq!(left.checkpoint.first, u64::try_from(pruned.removed).unwrap() + 1);
    assert_eq!(left.head.sequence, head.sequence + 1);
    drop(store);
    assert_eq!(counted(dir.path()), left.bytes);
    let report = SledEngine::verify_audit(dir.path(), SledOptions::default(), Some(head)).unwrap();
    assert_eq!(report.finding, AuditFinding::Whole(left.head));
    assert_eq!(report.checkpoint, left.checkpoint);

    // The newest record stays under any limit, because the chain continues from it.
    let store = open(dir.path());
    assert!(store.prune_audit(pruning(0)).await.unwrap().removed > 100);
    let left = store.audit_status().await.unwrap();
    assert_eq!(left.checkpoint.first, left.head.sequence - 1);
    assert_eq!(store.recent_audit(10).await.unwrap().len(), 2);
    drop(store);
    let compare = |head| SledEngine::verify_audit(dir.path(), SledOptions::default(), Some(head)).unwrap().finding;
    assert_eq!(compare(head), AuditFinding::Whole(left.head), "the record right before the kept part is known");
    let older = AuditHead { sequence: head.sequence - 1, ..head };
    assert_eq!(compare(older), AuditFinding::TooOld(left.head), "one that is pruned proves nothing");
}

#[tokio::test]
async fn a_group_of_a_pruning_is_bounded_and_a_damaged_record_does_not_stop_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, 1..30).await;
    drop(store);
    open_engine(dir.path()).insert([0x30, 0, 0, 0, 0, 0, 0, 0, 5], b"x").unwrap();
    let store = open(dir.path());
    let old = AuditPruning { before: Some(at(21)), now: at(99), max_bytes: u64::MAX, limit: 8, record: None };
    let mut removed = Vec::new();
    loop {
        let pruned = store.prune_audit(old.clone()).await.unwrap();
        removed.push(pruned.removed);
        if !pruned.more {
            break;
        }
    }
    assert_eq!(removed, [8, 8, 4]);
    assert_eq!(store.recent_audit(99).await.unwrap().last().unwrap().0, 21);
}

#[tokio::test]
async fn the_head_that_is_told_is_durable_and_grows() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut head = store.audit_head();
    assert_eq!(*head.borrow_and_update(), 0);
    append(&store, 1..4).await;
    assert!(head.has_changed().unwrap());
    assert_eq!(*head.borrow_and_update(), 3);
    store.probe().await.unwrap();
    assert!(!head.has_changed().unwrap(), "nothing was appended");
    drop((store, head));
    assert_eq!(*open(dir.path()).audit_head().borrow(), 3);
}

#[tokio::test]
async fn d13_a_bounded_log_never_exceeds_its_size_and_stays_verifiable() {
    let dir = tempfile::tempdir().unwrap();
    let max_bytes = 32 * 1024;
    let store = SledEngine::open(dir.path(), SledOptions::default()).unwrap().into_store(max_bytes);
    for group in 0..40 {
        append(&store, group * 20 + 1..group * 20 + 21).await;
        assert!(store.audit_status().await.unwrap().bytes <= max_bytes);
    }
    let left = store.audit_status().await.unwrap();
    assert!(left.checkpoint.first > 400, "{left:?}");
    drop(store);
    assert_eq!(counted(dir.path()), left.bytes);
    let report = SledEngine::verify_audit(dir.path(), SledOptions::default(), None).unwrap();
    assert_eq!(report.finding, AuditFinding::Whole(left.head));
}

#[tokio::test]
async fn d13_refusals_have_a_bound_of_their_own_that_pruning_gives_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, 1..30).await;
    let before = store.audit_status().await.unwrap();
    let refused = |mark: i64| AuditRecord { refusal: Some(AuditRefusal::WrongPassword), ..audit(mark) };
    let most = 4096;
    let left_out = store.append_audit_within((1..200).map(refused).collect(), most).await.unwrap();
    let full = store.audit_status().await.unwrap();
    let kept = full.head.sequence - before.head.sequence;
    assert!(kept > 10 && full.bytes - before.bytes <= most, "{full:?}");
    assert_eq!(left_out, 199 - kept);
    // This limit does not apply to records that are no refusals. A refusal that another change appends is counted.
    assert_eq!(store.append_audit_within((1..50).map(audit).collect(), most).await.unwrap(), 0);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.append_audit_within(vec![refused(1)], most).await.unwrap(), 1, "it outlives a restart");
    // Removing half of the refusals makes room.
    let gone = before.head.sequence + kept / 2;
    let old = AuditPruning { limit: usize::try_from(gone).unwrap(), ..pruning(0) };
    store.prune_audit(old).await.unwrap();
    let left_out = store.append_audit_within((1..200).map(refused).collect(), most).await.unwrap();
    let room = 199 - left_out;
    assert!((kept / 2).abs_diff(room) <= 1, "{room} of {kept}");
}
