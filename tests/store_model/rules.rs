//! What the store on disk must guarantee beyond its model: races, restarts, locks and permissions.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use doorward::engine::sled::{OpenError, SledEngine, SledOptions};
use doorward_actors::store::{
    AccountUpdate, CreateAccountRefusal, DeleteAccountRefusal, Effects, EndSessions, LastUse, OpenSessionRefusal, Page,
    ShardOf, Store, StoreError, UpdateAccountRefusal,
};
use doorward_actors::{Account, AccountChange, MailKind, MailOutcome, NewRole, Revoked, Role, SessionId, TokenPurpose};

use crate::{at, audit, id, mail, mail_id, new_account, open, session, settle, sign_in, token};

const ALL: ShardOf = ShardOf { index: 0, of: 1 };
pub(crate) const ADMIN: NewRole = NewRole::Exactly(Role::Admin);
pub(crate) const USER: NewRole = NewRole::Exactly(Role::User);

pub(crate) async fn create(store: &Store, name: &str, role: NewRole) -> Account {
    store.create_account(new_account(name, role), audit(0).into()).await.unwrap()
}

pub(crate) fn update(account: u64, change: AccountChange, ends: EndSessions) -> AccountUpdate {
    AccountUpdate {
        id: id(account),
        acting: None,
        expected_revision: None,
        change,
        ends,
        redeems: None,
        revokes_tokens: false,
    }
}

fn demote(account: u64) -> AccountUpdate {
    update(account, AccountChange { role: Some(Role::User), ..AccountChange::default() }, EndSessions::None)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_second_open_is_refused_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let error = SledEngine::open(dir.path(), SledOptions::default()).err().unwrap();
    assert!(matches!(error, OpenError::InUse { .. }));
    let message = error.to_string();
    assert!(message.contains("in use by another doorward process"), "{message}");
    assert!(message.contains(dir.path().to_str().unwrap()), "{message}");
    drop(first);
    open(dir.path());
}

#[tokio::test]
async fn r02_what_a_kill_during_an_open_leaves_behind_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    // A start that was cut off before there was any data: an engine's parameters, half written.
    std::fs::create_dir(dir.path().join("db")).unwrap();
    std::fs::write(dir.path().join("db/conf"), [0xFF; 12]).unwrap();
    let store = open(dir.path());
    create(&store, "ann", USER).await;
    drop(store);

    let leftover = dir.path().join("db/snap.0000000000000000.generating");
    std::fs::write(&leftover, b"half a snapshot").unwrap();
    let store = open(dir.path());
    assert!(!leftover.exists());
    assert!(store.account(id(1)).await.unwrap().is_some());
}

#[test]
fn a_layout_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let set = |layout: u32| {
        let db = open_engine(dir.path());
        db.insert([1, 0], &layout.to_be_bytes()).unwrap().unwrap()
    };
    assert_eq!(set(7), [0, 0, 0, 6], "the layout is where the test thinks it is");
    for _ in 0..2 {
        let error = SledEngine::open(dir.path(), SledOptions::default()).err().unwrap();
        assert!(matches!(error, OpenError::Newer { found: 7, known: 6 }), "{error}");
        assert!(error.to_string().contains("newer version"), "{error}");
    }
    assert_eq!(set(6), [0, 0, 0, 7]);
    open(dir.path());
}

/// Opens the engine of a store that is closed. Its threads may still be closing their files.
pub(crate) fn open_engine(data_dir: &Path) -> sled::Db {
    loop {
        match sled::open(data_dir.join("db")) {
            Err(sled::Error::Io(error)) if error.to_string().contains("lock") => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
}

#[test]
fn everything_in_a_data_directory_is_its_owners_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("nested/data");
    let _store = open(&dir);
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("db")), 0o700);
    assert_eq!(mode(&dir.join("lock")), 0o600);

    // A directory that the operator created stays as it is, but the content is protected.
    let given = parent.path().join("given");
    std::fs::create_dir(&given).unwrap();
    std::fs::set_permissions(&given, std::fs::Permissions::from_mode(0o755)).unwrap();
    let _store = open(&given);
    assert_eq!(mode(&given), 0o755);
    assert_eq!(mode(&given.join("db")), 0o700);
}

#[test]
fn a_data_directory_that_cannot_be_one_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = SledEngine::open(&file, SledOptions::default()).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn s60_a_number_is_never_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", USER).await;
    create(&store, "bob", USER).await;
    store.delete_account(id(2), None, None, audit(1).into()).await.unwrap();
    store.delete_account(id(1), None, None, audit(1).into()).await.unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(create(&store, "ann", USER).await.id, id(3));
}

#[tokio::test]
async fn s60_a_deletion_takes_everything_along_and_frees_the_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ann = create(&store, "ann", USER).await;
    store.open_session(session(1, 1, 0, 5), None, Some(sign_in([192, 0, 2, 1])), None, audit(1)).await.unwrap();
    store.open_session(session(1, 2, 0, 6), None, Some(sign_in([9_u8; 16])), None, audit(1)).await.unwrap();
    let effects = Effects {
        mails: vec![mail(MailKind::VerifyAddress, 5), mail(MailKind::PasswordChanged, 5)],
        tokens: TokenPurpose::ALL.into_iter().zip(1..).map(|(purpose, hash)| token(hash, purpose)).collect(),
        ..Effects::default()
    };
    store.record(id(1), effects).await.unwrap();
    settle(&store, mail_id(2), MailOutcome::Dead { at: at(6), error: "no".to_owned() }).await.unwrap();
    let first = LastUse { account: id(1), session: SessionId::from_bytes([1; 16]), at: at(7) };
    store.end_sessions(vec![first], at(7), vec![]).await.unwrap();
    store.touch_sessions(vec![LastUse { session: SessionId::from_bytes([2; 16]), at: at(8), ..first }]).await.unwrap();
    store.delete_account(id(1), Some(0), None, audit(2).into()).await.unwrap();
    drop(store);

    // Only the counters, the day's counts of mails, the audit log and the log of revocations remain.
    let left: Vec<u8> = open_engine(dir.path()).iter().keys().map(|key| key.unwrap()[0]).collect();
    assert!(left.iter().all(|kind| [0x01, 0x30, 0x31, 0x54, 0x72].contains(kind)), "{left:x?}");
    let store = open(dir.path());
    assert_eq!(store.account_by_email(ann.email.key()).await.unwrap(), None);
    create(&store, "ann", USER).await;
}

#[tokio::test]
async fn s58_the_last_admin_stays_and_the_very_last_account_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", NewRole::AdminIfFirst).await;
    assert_eq!(create(&store, "bob", NewRole::AdminIfFirst).await.role, Role::User);
    let lock = AccountChange { locked: Some(true), ..AccountChange::default() };
    for change in [demote(1), update(1, lock, EndSessions::All)] {
        let refused = store.update_account(change, audit(1).into()).await;
        assert!(matches!(refused, Err(StoreError::Refused(UpdateAccountRefusal::LastAdmin))));
    }
    let refused = store.delete_account(id(1), None, None, audit(1).into()).await;
    assert!(matches!(refused, Err(StoreError::Refused(DeleteAccountRefusal::LastAdmin))));

    store.delete_account(id(2), None, None, audit(1).into()).await.unwrap();
    store.delete_account(id(1), None, None, audit(1).into()).await.unwrap();
    drop(store);
    let store = open(dir.path());
    assert!(store.had_admin().await.unwrap(), "what once had an administrator is not new again");
    assert_eq!(create(&store, "eve", NewRole::AdminIfFirst).await.role, Role::User);
}

#[tokio::test]
async fn s58_two_admins_who_demote_each_other_at_once_leave_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", ADMIN).await;
    create(&store, "bob", ADMIN).await;
    // Both are in the queue before either is answered, so they share a group.
    let (one, two) = tokio::join!(
        store.update_account(demote(1), audit(1).into()),
        store.update_account(demote(2), audit(2).into())
    );
    assert_eq!([&one, &two].iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(
        [one, two].iter().any(|answer| matches!(answer, Err(StoreError::Refused(UpdateAccountRefusal::LastAdmin))))
    );
    let accounts = store.accounts(Page { skip: 0, limit: 10 }).await.unwrap();
    assert_eq!(accounts.iter().filter(|listed| listed.account.is_active_admin()).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_registrations_of_one_address_make_one_account() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..64 {
        let store = Arc::clone(&store);
        let mut new = new_account("ann", NewRole::AdminIfFirst);
        new.nickname = doorward_actors::Nickname::parse(&format!("ann{n}")).unwrap();
        callers.spawn(async move { store.create_account(new, audit(n).into()).await });
    }
    let answers = callers.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let taken =
        |answer: &&Result<Account, _>| matches!(answer, Err(StoreError::Refused(CreateAccountRefusal::EmailTaken)));
    assert_eq!(answers.iter().filter(taken).count(), 63);
    assert_eq!(store.accounts(Page { skip: 0, limit: 100 }).await.unwrap().len(), 1);
    assert_eq!(store.recent_audit(100).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_refused_change_writes_nothing_its_audit_records_included() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", ADMIN).await;
    create(&store, "bob", USER).await;
    store.open_session(session(2, 1, 0, 5), None, None, None, audit(0)).await.unwrap();
    let before = (store.recent_audit(100).await.unwrap(), store.accounts(Page { skip: 0, limit: 9 }).await.unwrap());

    let taken = AccountChange { email: Some(new_account("ann", USER).email), ..AccountChange::default() };
    store.update_account(update(2, taken, EndSessions::All), audit(1).into()).await.unwrap_err();
    store.update_account(demote(1), audit(1).into()).await.unwrap_err();
    store.update_account(AccountUpdate { expected_revision: Some(7), ..demote(2) }, audit(1).into()).await.unwrap_err();
    store.delete_account(id(1), None, None, audit(1).into()).await.unwrap_err();
    store.create_account(new_account("ann", USER), audit(1).into()).await.unwrap_err();
    store.open_session(session(2, 2, 1, 5), None, None, None, audit(1)).await.unwrap_err();

    let after = (store.recent_audit(100).await.unwrap(), store.accounts(Page { skip: 0, limit: 9 }).await.unwrap());
    assert_eq!(before, after);
    assert_eq!(store.sessions(ALL).await.unwrap(), [session(2, 1, 0, 5)]);
    assert_eq!(create(&store, "cyd", USER).await.id, id(3), "a refusal uses up no number");
}

#[tokio::test]
async fn s38_ending_all_sessions_leaves_none_behind_and_lets_no_older_login_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", USER).await;
    for name in [1, 2, 3] {
        store.open_session(session(1, name, 0, 10 * i64::from(name)), None, None, None, audit(0)).await.unwrap();
    }
    let kept = SessionId::from_bytes([2; 16]);
    store.touch_sessions(vec![LastUse { account: id(1), session: kept, at: at(25) }]).await.unwrap();
    let ends = update(1, AccountChange::default(), EndSessions::AllBut(kept));
    assert_eq!(store.update_account(ends, audit(1).into()).await.unwrap().session_epoch, 1);

    let expected =
        doorward_actors::Session { epoch: 1, authenticated_at: None, last_active_at: at(25), ..session(1, 2, 0, 20) };
    assert_eq!(store.sessions(ALL).await.unwrap(), [expected]);
    assert_eq!(store.listed_account(id(1)).await.unwrap().unwrap().last_active_at, Some(at(30)));
    // A login whose password was checked before the change comes too late.
    let late = store.open_session(session(1, 4, 0, 40), None, None, None, audit(1)).await;
    assert!(matches!(late, Err(StoreError::Refused(OpenSessionRefusal))));
    let lock = AccountChange { locked: Some(true), ..AccountChange::default() };
    store.update_account(update(1, lock, EndSessions::All), audit(1).into()).await.unwrap();
    assert!(store.sessions(ALL).await.unwrap().is_empty());
    let locked = store.open_session(session(1, 5, 2, 40), None, None, None, audit(1)).await;
    assert!(matches!(locked, Err(StoreError::Refused(OpenSessionRefusal))));
}

#[tokio::test]
async fn s38_a_session_that_cannot_be_read_stands_in_no_lock_s_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", USER).await;
    for number in [1, 2] {
        store.open_session(session(1, number, 0, 10), None, None, None, audit(0)).await.unwrap();
    }
    drop(store);
    let row = [&[0x20, 0, 0, 0, 0, 0, 0, 0, 1][..], &[1; 16]].concat();
    assert!(open_engine(dir.path()).insert(row, b"x").unwrap().is_some());
    let store = open(dir.path());
    let lock = AccountChange { locked: Some(true), ..AccountChange::default() };
    store.update_account(update(1, lock, EndSessions::All), audit(1).into()).await.unwrap();
    assert!(store.sessions(ALL).await.unwrap().is_empty());
    assert_eq!(store.session(id(1), SessionId::from_bytes([1; 16])).await.unwrap(), None, "nothing of it is left");
    let ended =
        store.revocations(0, 9).await.unwrap().into_iter().filter_map(|(_, revocation)| match revocation.what {
            Revoked::Session(session) => Some(session),
            _ => None,
        });
    assert_eq!(ended.collect::<Vec<_>>(), [1, 2].map(|n| SessionId::from_bytes([n; 16])));
}

#[tokio::test]
async fn a_touch_never_goes_back_and_never_revives_a_session() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", USER).await;
    store.open_session(session(1, 1, 0, 10), None, None, None, audit(0)).await.unwrap();
    let touch = |millis| vec![LastUse { account: id(1), session: SessionId::from_bytes([1; 16]), at: at(millis) }];
    for (touched, seen) in [(5, 10), (20, 20), (15, 20)] {
        store.touch_sessions(touch(touched)).await.unwrap();
        assert_eq!(store.sessions(ALL).await.unwrap()[0].last_active_at, at(seen), "touched at {touched}");
    }
    // If a later session had the same id, it would not inherit the last use of the earlier one.
    store.open_session(session(1, 1, 0, 11), None, None, None, audit(0)).await.unwrap();
    assert_eq!(store.session(id(1), SessionId::from_bytes([1; 16])).await.unwrap(), Some(session(1, 1, 0, 11)));
    store.touch_sessions(touch(20)).await.unwrap();

    store.end_sessions(touch(12), at(12), vec![]).await.unwrap();
    store.touch_sessions(touch(99)).await.unwrap();
    store.end_sessions(touch(99), at(99), vec![]).await.unwrap();
    assert!(store.sessions(ALL).await.unwrap().is_empty());
    assert_eq!(store.listed_account(id(1)).await.unwrap().unwrap().last_active_at, Some(at(20)));
}

#[tokio::test]
async fn every_probe_writes_something_new() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for _ in 0..3 {
        store.probe().await.unwrap();
    }
    drop(store);
    assert_eq!(open_engine(dir.path()).get([1, 6]).unwrap().unwrap(), [1, 3]);
}
