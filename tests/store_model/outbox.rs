//! The outbox, and the notices of sign-ins that go through it.

use std::net::IpAddr;

use doorward::store::SledStore;
use doorward_actors::ports::{Store, StoreError, UnknownAccount};
use doorward_actors::testing::MemoryStore;
use doorward_actors::{AccountId, MailId, MailKind, MailOutcome, MailState, Session};

use crate::rules::{USER, create, open_engine};
use crate::{at, audit, id, mail, mail_id, mails, new_account, open, session, sign_in};

const CHANGED: MailKind = MailKind::PasswordChanged;

async fn due(store: &dyn Store, now: i64) -> Vec<u64> {
    store.due_mails(at(now), 99).await.unwrap().into_iter().map(|mail| mail.id.get()).collect()
}

async fn all(store: &dyn Store) -> Vec<u64> {
    store.mails(None, 99).await.unwrap().into_iter().map(|mail| mail.id.get()).collect()
}

fn retry(millis: i64) -> MailOutcome {
    MailOutcome::Retry { at: at(millis), error: "later".to_owned() }
}

fn dead(millis: i64) -> MailOutcome {
    MailOutcome::Dead { at: at(millis), error: "never".to_owned() }
}

async fn with_mails(dir: &std::path::Path, written_at: &[i64]) -> SledStore {
    let store = open(dir);
    create(&store, "ann", USER).await;
    store.record(id(1), mails(written_at.iter().map(|at| mail(CHANGED, *at)).collect())).await.unwrap();
    store
}

#[tokio::test]
async fn mails_are_due_in_the_order_of_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_mails(dir.path(), &[300, -5, 20, 300, -7]).await;
    assert_eq!(due(&store, 299).await, [5, 2, 3]);
    assert_eq!(due(&store, 300).await, [5, 2, 3, 1, 4]);
    assert_eq!(due(&store, -6).await, [5]);
    assert_eq!(store.due_mails(at(300), 2).await.unwrap().len(), 2);
    assert_eq!(all(&store).await, [1, 2, 3, 4, 5]);
    let after: Vec<MailId> = store.mails(Some(mail_id(2)), 2).await.unwrap().iter().map(|mail| mail.id).collect();
    assert_eq!(after, [mail_id(3), mail_id(4)]);
    assert!(store.mails(Some(mail_id(u64::MAX)), 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_mail_that_failed_is_due_again_and_a_dead_one_only_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_mails(dir.path(), &[10, 11, 12]).await;
    store.settle_mail(mail_id(1), retry(50)).await.unwrap();
    store.settle_mail(mail_id(2), dead(40)).await.unwrap();
    store.settle_mail(mail_id(3), MailOutcome::Sent).await.unwrap();
    store.settle_mail(mail_id(3), retry(1)).await.unwrap();
    drop(store);
    let store = open(dir.path());
    assert!(due(&store, 49).await.is_empty());
    assert_eq!(due(&store, 1_000_000).await, [1]);
    assert_eq!(all(&store).await, [1, 2], "what was sent is gone, and what comes after it is passed over");
    let stored = store.mails(None, 9).await.unwrap();
    assert_eq!((stored[0].attempts, stored[0].state), (1, MailState::Queued));
    assert_eq!((stored[1].attempts, stored[1].state, stored[1].next_attempt_at), (1, MailState::Dead, at(40)));
    assert_eq!(stored[1].last_error.as_deref(), Some("never"));

    let noted = store.recent_audit(99).await.unwrap().len();
    assert!(store.retry_mail(mail_id(2), at(30), audit(1)).await.unwrap());
    assert_eq!(due(&store, 30).await, [2]);
    assert_eq!(store.mails(None, 9).await.unwrap()[1].attempts, 0);
    assert!(store.delete_mail(mail_id(1), audit(1)).await.unwrap());
    assert_eq!(store.recent_audit(99).await.unwrap().len(), noted + 2);
    for gone in [1, 3, 9] {
        assert!(!store.retry_mail(mail_id(gone), at(1), audit(1)).await.unwrap());
        assert!(!store.delete_mail(mail_id(gone), audit(1)).await.unwrap());
    }
    assert_eq!(store.recent_audit(99).await.unwrap().len(), noted + 2, "what was not done is not on record");
    store.settle_mail(mail_id(2), MailOutcome::Sent).await.unwrap();
    drop(store);
    let left =
        open_engine(dir.path()).iter().keys().map(|key| key.unwrap()[0]).filter(|kind| (0x50..0x60).contains(kind));
    assert_eq!(left.count(), 0, "no entry of an index is left behind");
}

#[tokio::test]
async fn s60_a_deletion_takes_the_mails_but_for_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_mails(dir.path(), &[10, 11]).await;
    create(&store, "bob", USER).await;
    store.record(id(2), mails(vec![mail(CHANGED, 12)])).await.unwrap();
    store.delete_account(id(1), None, None, mails(vec![mail(MailKind::AccountDeleted, 13)])).await.unwrap();
    assert_eq!(all(&store).await, [3, 4]);
    assert_eq!(due(&store, 99).await, [3, 4]);
    assert_eq!(store.mails(Some(mail_id(3)), 9).await.unwrap()[0].account, None);
    let refused = store.record(id(1), mails(vec![mail(CHANGED, 14)])).await;
    assert!(matches!(refused, Err(StoreError::Refused(UnknownAccount))));
    store.delete_account(id(2), None, None, mails(vec![])).await.unwrap();
    assert_eq!(all(&store).await, [4]);
}

#[tokio::test]
async fn the_number_of_a_mail_is_never_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_mails(dir.path(), &[10, 11]).await;
    store.settle_mail(mail_id(2), MailOutcome::Sent).await.unwrap();
    store.delete_mail(mail_id(1), audit(1)).await.unwrap();
    drop(store);
    let store = open(dir.path());
    store.record(id(1), mails(vec![mail(CHANGED, 12)])).await.unwrap();
    assert_eq!(all(&store).await, [3]);
}

async fn log_in(store: &dyn Store, account: AccountId, from: IpAddr, when: i64) {
    let session = Session { created_at: at(when), ..session(account.get(), 1, 0, when) };
    store.open_session(session, None, Some(sign_in(from)), audit(1)).await.unwrap();
}

#[tokio::test]
async fn a_notice_is_for_a_new_address_but_not_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for name in ["ann", "bob"] {
        create(&store, name, USER).await;
    }
    let home = IpAddr::from([192, 0, 2, 1]);
    // The same bytes as an address of the newer protocol begin another address.
    let away = IpAddr::from([192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (account, from, notices) in [(1, home, 0), (1, home, 0), (2, away, 0), (1, away, 1), (1, away, 1), (2, home, 2)]
    {
        log_in(&store, id(account), from, 5).await;
        assert_eq!(all(&store).await.len(), notices, "account {account} from {from}");
    }
    let notices = store.mails(None, 9).await.unwrap();
    assert!(notices.iter().all(|notice| notice.mail.kind == MailKind::NewSignIn));
    assert_eq!([notices[0].account, notices[1].account], [Some(id(1)), Some(id(2))]);

    let late = store.open_session(session(1, 2, 9, 5), None, Some(sign_in([9, 9, 9, 9])), audit(1)).await;
    assert!(late.is_err());
    store.open_session(session(1, 2, 0, 5), None, None, audit(1)).await.unwrap();
    assert_eq!(all(&store).await.len(), 2, "a login that is refused, or that is of no known origin, is told to nobody");
}

#[tokio::test]
async fn the_thirty_third_address_makes_the_oldest_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, memory) = (open(dir.path()), MemoryStore::new());
    for store in [&disk as &dyn Store, &memory] {
        store.create_account(new_account("ann", USER), audit(0).into()).await.unwrap();
        let from = |n: u8| IpAddr::from([198, 51, 100, n]);
        for n in 0..32 {
            log_in(store, id(1), from(n), 10 + i64::from(n)).await;
        }
        assert_eq!(all(store).await.len(), 31);
        // The first is used again, so the second is the oldest.
        log_in(store, id(1), from(0), 100).await;
        log_in(store, id(1), from(32), 101).await;
        assert_eq!(all(store).await.len(), 32);
        log_in(store, id(1), from(0), 102).await;
        log_in(store, id(1), from(2), 103).await;
        assert_eq!(all(store).await.len(), 32, "these are remembered");
        log_in(store, id(1), from(1), 104).await;
        assert_eq!(all(store).await.len(), 33, "this one was forgotten");
        // A clock that was set back makes a use no older than it was known to be, and the newest one stays.
        log_in(store, id(1), from(2), 1).await;
        log_in(store, id(1), from(40), 2).await;
        log_in(store, id(1), from(40), 3).await;
        assert_eq!(all(store).await.len(), 34);
        log_in(store, id(1), from(2), 105).await;
        assert_eq!(all(store).await.len(), 34);
    }
    drop(disk);
    let known = open_engine(dir.path()).scan_prefix([0x23]).count();
    assert_eq!(known, 32);
}
