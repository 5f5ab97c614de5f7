//! Tests of the writer under failures that a correct change cannot cause.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use doorward_actors::store::engine::{Change, Engine as _, Fault, Verdict, View};
use doorward_actors::store::{RecordError, Store, layout};
use doorward_actors::{AuditEvent, AuditRecord, Origin, Timestamp};

use super::{SledEngine, SledOptions};

const KEY: &[u8] = b"\xFFtest";

type Answer = Result<Verdict, Fault>;

fn engine(dir: &tempfile::TempDir, write_deadline: Duration) -> Arc<SledEngine> {
    Arc::new(SledEngine::open(dir.path(), SledOptions { write_deadline, ..SledOptions::default() }).unwrap())
}

fn store(engine: &Arc<SledEngine>) -> Store {
    Store::new(Arc::clone(engine) as Arc<_>, u64::MAX)
}

fn change(run: impl FnMut(&mut dyn View) -> Answer + Send + 'static) -> Change {
    Box::new(run)
}

fn write(value: &'static [u8]) -> Change {
    change(move |view| {
        view.put_raw(KEY, value.to_vec());
        Ok(Verdict::Keep)
    })
}

async fn stored(engine: &SledEngine) -> Option<Vec<u8>> {
    engine.get(KEY).await.unwrap()
}

fn record(request_id: String) -> AuditRecord {
    AuditRecord {
        origin: Origin::new(None, None, Some(request_id)),
        ..AuditRecord::new(AuditEvent::Login, Timestamp::from_millis(1))
    }
}

/// A process can be frozen by a debugger, by a paused container or by the migration of its machine.
#[tokio::test]
async fn r03_a_process_that_was_frozen_during_a_write_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir, Duration::from_secs(10));
    let (go_on, wait) = mpsc::channel::<()>();
    let made = engine.commit(change(move |view| {
        wait.recv().unwrap();
        write(b"after the pause")(view)
    }));
    let mut change = std::pin::pin!(made);
    assert!(futures_util::poll!(&mut change).is_pending());
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(5)).await;
    tokio::time::resume();
    assert!(futures_util::poll!(&mut change).is_pending());
    go_on.send(()).unwrap();
    change.await.unwrap();
    assert_eq!(stored(&engine).await.unwrap(), b"after the pause");
}

#[tokio::test]
async fn a_panic_fails_the_store_for_good_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir, Duration::from_secs(10));
    let failed = engine.failed();
    engine.commit(write(b"before")).await.unwrap();
    let answer = engine.commit(change(|_| panic!("injected"))).await;
    assert!(answer.is_err());
    assert_eq!(failed.await, "its writer panicked");
    assert_eq!(engine.failed().await, "its writer panicked", "one who asks late learns it too");

    assert!(engine.commit(write(b"after")).await.is_err());
    assert!(store(&engine).probe().await.is_err());
    assert!(engine.get(KEY).await.is_err(), "a failed engine does not answer reads either");
    drop(engine);
    assert_eq!(stored(&self::engine(&dir, Duration::from_secs(10))).await.unwrap(), b"before");
}

#[tokio::test]
async fn a_change_that_shares_a_group_with_a_panic_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir, Duration::from_secs(10));
    let (release, released) = mpsc::channel::<()>();
    // Keeps the group open until the other two changes are in the queue.
    let hold = change(move |_| {
        released.recv().unwrap();
        Ok(Verdict::Keep)
    });
    let queued = async {
        tokio::task::yield_now().await;
        release.send(()).unwrap();
    };
    let (first, written, panicked, ()) = tokio::join!(
        engine.commit(hold),
        engine.commit(write(b"lost")),
        engine.commit(change(|_| panic!("injected"))),
        queued,
    );
    for answer in [first, written, panicked] {
        assert!(answer.is_err());
    }
    drop(engine);
    assert_eq!(stored(&self::engine(&dir, Duration::from_secs(10))).await, None);
}

#[tokio::test]
async fn a_write_past_its_deadline_fails_the_store_and_what_waits_behind_it_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir, Duration::from_millis(50));
    let (release, released) = mpsc::channel::<()>();
    let stuck = change(move |_| {
        // Returns an error when the test drops the other side.
        let _ = released.recv();
        Ok(Verdict::Keep)
    });
    let (late, behind) = tokio::join!(engine.commit(stuck), engine.commit(write(b"late")));
    assert!(late.is_err());
    assert!(behind.is_err());
    assert!(engine.failed().await.contains("took longer"));
    assert!(engine.close().is_err(), "a stuck writer is left behind, not waited for");
    drop(release);
    drop(engine);
}

#[tokio::test]
async fn a_refused_change_writes_nothing_and_a_later_one_of_its_group_does() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir, Duration::from_secs(10));
    let refuse = change(|view| {
        view.put_raw(KEY, b"refused".to_vec());
        Ok(Verdict::Discard)
    });
    let seen = change(|view| {
        assert!(!view.has(KEY)?);
        Ok(Verdict::Keep)
    });
    let (refused, seen, written) =
        tokio::join!(engine.commit(refuse), engine.commit(seen), engine.commit(write(b"written")));
    refused.unwrap();
    seen.unwrap();
    written.unwrap();
    assert_eq!(stored(&engine).await.unwrap(), b"written");
}

#[tokio::test]
async fn a_record_that_cannot_be_stored_or_read_fails_its_call_alone() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir, Duration::from_secs(10));
    let store = store(&engine);
    store.append_audit(vec![record("r".repeat(5000))]).await.unwrap_err();
    assert!(store.recent_audit(10).await.unwrap().is_empty());

    let damage = change(|view| {
        view.put_raw(layout::HAD_ADMIN, b"damaged".to_vec());
        Ok(Verdict::Keep)
    });
    engine.commit(damage).await.unwrap();
    assert!(store.had_admin().await.unwrap_err().why.contains("not readable"));
    let unreadable = change(|_| Err(RecordError::Unreadable { kind: "test", why: "a test" }.into()));
    assert!(engine.commit(unreadable).await.is_err());
    store.append_audit(vec![record("r".to_owned())]).await.unwrap();
    store.probe().await.unwrap();
}

#[tokio::test]
async fn a_closed_store_refuses_and_its_directory_opens_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = engine(&dir, Duration::from_secs(10));
    first.commit(write(b"kept")).await.unwrap();
    first.close().unwrap();
    assert!(first.commit(write(b"late")).await.is_err());
    assert!(first.get(KEY).await.is_err());
    let second = engine(&dir, Duration::from_secs(10));
    assert_eq!(stored(&second).await.unwrap(), b"kept");
    first.close().unwrap();
}

#[tokio::test]
async fn changes_that_wait_are_made_before_the_store_closes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir, Duration::from_secs(10));
    let (release, released) = mpsc::channel::<()>();
    let hold = change(move |_| {
        released.recv().unwrap();
        Ok(Verdict::Keep)
    });
    let close = async {
        tokio::task::yield_now().await;
        let closing = Arc::clone(&engine);
        let closed = tokio::task::spawn_blocking(move || closing.close());
        release.send(()).unwrap();
        closed.await.unwrap()
    };
    let (first, written, closed) = tokio::join!(engine.commit(hold), engine.commit(write(b"queued")), close);
    first.unwrap();
    written.unwrap();
    closed.unwrap();
    drop(engine);
    assert_eq!(stored(&self::engine(&dir, Duration::from_secs(10))).await.unwrap(), b"queued");
}

#[tokio::test]
async fn r14_0b_commits_are_noted_outside_the_engine_as_time_passes_and_at_a_stop() {
    let noted = |dir: &tempfile::TempDir| std::fs::read_to_string(dir.path().join("witness.json")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = SledOptions { witness_every: Duration::ZERO, ..SledOptions::default() };
    let engine = Arc::new(SledEngine::open(dir.path(), options).unwrap());
    let store = store(&engine);
    assert_eq!(noted(&dir), r#"{"version":1,"commits":1}"#);
    store.probe().await.unwrap();
    store.probe().await.unwrap();
    // The second probe was taken from the queue after the first one was noted.
    assert_ne!(noted(&dir), r#"{"version":1,"commits":1}"#);
    engine.close().unwrap();
    assert_eq!(noted(&dir), r#"{"version":1,"commits":3}"#);

    drop((store, engine));
    let store = SledEngine::open(dir.path(), SledOptions::default()).unwrap().into_store(u64::MAX);
    store.probe().await.unwrap();
    assert_eq!(noted(&dir), r#"{"version":1,"commits":4}"#, "the start");
    drop(store);
    assert_eq!(noted(&dir), r#"{"version":1,"commits":5}"#);
}
