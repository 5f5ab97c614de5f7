//! The writer under failures that no well-behaved change can cause.

use std::sync::mpsc;
use std::time::Duration;

use doorward_actors::ports::{Store as _, StoreError};
use doorward_actors::{AuditActorKind, AuditEvent, AuditRecord, Origin, Timestamp};

use super::codec::RecordError;
use super::staging::{Abort, Staging};
use super::{SledStore, StoreOptions};

const KEY: &[u8] = b"\xFFtest";

type Answer<R = ()> = Result<(), Abort<R>>;

fn store(dir: &tempfile::TempDir, write_deadline: Duration) -> SledStore {
    SledStore::open(dir.path(), StoreOptions { write_deadline, ..StoreOptions::default() }).unwrap()
}

fn write(value: &'static [u8]) -> impl FnOnce(&mut Staging<'_>) -> Answer + Send + 'static {
    move |staging| {
        staging.put_raw(KEY, value.to_vec());
        Ok(())
    }
}

fn stored(store: &SledStore) -> Option<Vec<u8>> {
    store.read(|tree| Ok(tree.get(KEY)?.map(|value| value.to_vec()))).unwrap()
}

fn record(request_id: String) -> AuditRecord {
    AuditRecord {
        at: Timestamp::from_millis(1),
        event: AuditEvent::Login,
        actor: AuditActorKind::System,
        subject: None,
        session: None,
        origin: Origin::new(None, None, Some(request_id)),
        refusal: None,
        details: None,
    }
}

/// A process that was frozen, as by a debugger, a container that is paused or a machine that is moved.
#[tokio::test]
async fn r03_a_process_that_was_frozen_during_a_write_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir, Duration::from_secs(10));
    let (go_on, wait) = mpsc::channel::<()>();
    let change = store.committer.change(move |staging: &mut Staging<'_>| {
        wait.recv().unwrap();
        write(b"after the pause")(staging)
    });
    let mut change = std::pin::pin!(change);
    assert!(futures_util::poll!(&mut change).is_pending());
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(5)).await;
    tokio::time::resume();
    assert!(futures_util::poll!(&mut change).is_pending());
    go_on.send(()).unwrap();
    change.await.unwrap();
    assert_eq!(stored(&store).unwrap(), b"after the pause");
}

#[tokio::test]
async fn a_panic_fails_the_store_for_good_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir, Duration::from_secs(10));
    let failed = store.failed();
    store.committer.change(write(b"before")).await.unwrap();
    let answer = store.committer.change(|_: &mut Staging<'_>| -> Answer { panic!("injected") }).await;
    assert!(matches!(answer, Err(StoreError::Failed(_))));
    assert_eq!(failed.await, "its writer panicked");
    assert_eq!(store.failed().await, "its writer panicked", "one who asks late learns it too");

    assert!(matches!(store.committer.change(write(b"after")).await, Err(StoreError::Failed(_))));
    assert!(store.probe().await.is_err());
    assert!(store.had_admin().await.is_err(), "a failed store does not answer reads either");
    drop(store);
    assert_eq!(stored(&self::store(&dir, Duration::from_secs(10))).unwrap(), b"before");
}

#[tokio::test]
async fn a_change_that_shares_a_group_with_a_panic_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir, Duration::from_secs(10));
    let (release, released) = mpsc::channel::<()>();
    // Holds the group open until the other two are in the queue behind it.
    let hold = move |_: &mut Staging<'_>| -> Answer {
        released.recv().unwrap();
        Ok(())
    };
    let queued = async {
        tokio::task::yield_now().await;
        release.send(()).unwrap();
    };
    let (first, written, panicked, ()) = tokio::join!(
        store.committer.change(hold),
        store.committer.change(write(b"lost")),
        store.committer.change(|_: &mut Staging<'_>| -> Answer { panic!("injected") }),
        queued,
    );
    for answer in [first, written, panicked] {
        assert!(matches!(answer, Err(StoreError::Failed(_))));
    }
    drop(store);
    assert_eq!(stored(&self::store(&dir, Duration::from_secs(10))), None);
}

#[tokio::test]
async fn a_write_past_its_deadline_fails_the_store_and_what_waits_behind_it_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir, Duration::from_millis(50));
    let (release, released) = mpsc::channel::<()>();
    let stuck = move |_: &mut Staging<'_>| -> Answer {
        // Ends, with an error, when the test lets go of the other side.
        let _ = released.recv();
        Ok(())
    };
    let (late, behind) = tokio::join!(store.committer.change(stuck), store.committer.change(write(b"late")));
    assert!(matches!(late, Err(StoreError::Failed(_))));
    assert!(matches!(behind, Err(StoreError::Failed(_))));
    assert!(store.failed().await.contains("took longer"));
    assert!(store.close().is_err(), "a stuck writer is left behind, not waited for");
    drop(release);
    drop(store);
}

#[tokio::test]
async fn a_refused_change_writes_nothing_and_a_later_one_of_its_group_does() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir, Duration::from_secs(10));
    let refuse = |staging: &mut Staging<'_>| -> Answer<&'static str> {
        staging.put_raw(KEY, b"refused".to_vec());
        Err(Abort::Refused("no"))
    };
    let seen = |staging: &mut Staging<'_>| -> Result<bool, Abort<()>> { Ok(staging.has(KEY)?) };
    let (refused, seen, written) = tokio::join!(
        store.committer.change(refuse),
        store.committer.change(seen),
        store.committer.change(write(b"written"))
    );
    assert!(matches!(refused, Err(StoreError::Refused("no"))));
    assert!(!seen.unwrap());
    written.unwrap();
    assert_eq!(stored(&store).unwrap(), b"written");
}

#[tokio::test]
async fn a_record_that_cannot_be_stored_or_read_fails_its_call_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir, Duration::from_secs(10));
    store.append_audit(vec![record("r".repeat(5000))]).await.unwrap_err();
    assert!(store.recent_audit(10).await.unwrap().is_empty());

    let damage = |staging: &mut Staging<'_>| -> Answer {
        staging.put_raw(super::keys::HAD_ADMIN, b"damaged".to_vec());
        Ok(())
    };
    store.committer.change(damage).await.unwrap();
    assert!(store.had_admin().await.unwrap_err().0.contains("not readable"));
    let unreadable =
        |_: &mut Staging<'_>| -> Answer { Err(RecordError::Unreadable { kind: "test", why: "a test" }.into()) };
    assert!(matches!(store.committer.change(unreadable).await, Err(StoreError::Failed(_))));
    store.append_audit(vec![record("r".to_owned())]).await.unwrap();
    store.probe().await.unwrap();
}

#[tokio::test]
async fn a_closed_store_refuses_and_its_directory_opens_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(&dir, Duration::from_secs(10));
    first.committer.change(write(b"kept")).await.unwrap();
    first.close().unwrap();
    assert!(matches!(first.committer.change(write(b"late")).await, Err(StoreError::Failed(_))));
    assert!(first.had_admin().await.is_err());
    let second = store(&dir, Duration::from_secs(10));
    assert_eq!(stored(&second).unwrap(), b"kept");
    first.close().unwrap();
}

#[tokio::test]
async fn changes_that_wait_are_made_before_the_store_closes() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(store(&dir, Duration::from_secs(10)));
    let (release, released) = mpsc::channel::<()>();
    let hold = move |_: &mut Staging<'_>| -> Answer {
        released.recv().unwrap();
        Ok(())
    };
    let close = async {
        tokio::task::yield_now().await;
        let closing = std::sync::Arc::clone(&store);
        let closed = tokio::task::spawn_blocking(move || closing.close());
        release.send(()).unwrap();
        closed.await.unwrap()
    };
    let (first, written, closed) =
        tokio::join!(store.committer.change(hold), store.committer.change(write(b"queued")), close);
    first.unwrap();
    written.unwrap();
    closed.unwrap();
    drop(store);
    assert_eq!(stored(&self::store(&dir, Duration::from_secs(10))).unwrap(), b"queued");
}

#[tokio::test]
async fn r14_0b_commits_are_noted_outside_the_engine_as_time_passes_and_at_a_stop() {
    let noted = |dir: &tempfile::TempDir| std::fs::read_to_string(dir.path().join("witness.json")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store =
        SledStore::open(dir.path(), StoreOptions { witness_every: Duration::ZERO, ..StoreOptions::default() }).unwrap();
    assert_eq!(noted(&dir), r#"{"version":1,"commits":1}"#);
    store.probe().await.unwrap();
    store.probe().await.unwrap();
    // The second was taken up after the first was noted.
    assert_ne!(noted(&dir), r#"{"version":1,"commits":1}"#);
    store.close().unwrap();
    assert_eq!(noted(&dir), r#"{"version":1,"commits":3}"#);

    let store = SledStore::open(dir.path(), StoreOptions::default()).unwrap();
    store.probe().await.unwrap();
    assert_eq!(noted(&dir), r#"{"version":1,"commits":4}"#, "the start");
    drop(store);
    assert_eq!(noted(&dir), r#"{"version":1,"commits":5}"#);
}
