//! A data directory of an older layout can be opened and read.

use doorward::engine::sled::{OpenError, SledEngine, SledOptions};
use doorward_actors::store::chain::verify::{AuditBreak, AuditFinding};
use doorward_actors::store::{AccountUpdate, EndSessions, ShardOf};
use doorward_actors::{
    Account, AccountChange, AccountOrigin, AuditFilter, AuditOrder, AuditQuery, AuditRefusal, CredentialHash,
    CustomerAccount, Email, Locale, Nickname, Role, Session, SessionLabel, TokenPurpose,
};

use crate::rules::open_engine;
use crate::{at, audit, french, id, issue, open, token};

/// What a version wrote for one registered administrator. The second version added two fields to accounts:
/// no pending address, English.
fn older_version(data_dir: &std::path::Path, version: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let added: &[u8] = if version == 1 { &[] } else { &[0, 1] };
    let account = [
        &[version, 1][..],
        b"\x0fAnn@example.com",
        b"\x03Ann",
        b"\x02$a",
        b"\x02$b",
        b"\x04none",
        &[1, 0, 1],
        &[2, 0, 3],
        added,
    ]
    .concat();
    let numbered = |kind: u8| vec![kind, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut rows = vec![
        (vec![1, 0], vec![0, 0, 0, version]),
        (numbered(0x10), account),
        (b"\x11ann@example.com".to_vec(), vec![1, 1]),
        (b"\x12ann".to_vec(), vec![1, 1]),
        (numbered(0x22), vec![1, 4]),
    ];
    rows.extend([1, 3, 4, 5].map(|counter| (vec![1, counter], vec![1, 1])));
    write(data_dir, &rows);
    rows
}

fn write(data_dir: &std::path::Path, rows: &[(Vec<u8>, Vec<u8>)]) {
    std::fs::create_dir_all(data_dir).unwrap();
    let engine = open_engine(data_dir);
    for (key, value) in rows {
        engine.insert(key, value.as_slice()).unwrap();
    }
    engine.flush().unwrap();
}

/// An audit log of layout 2: records without hashes, every third of them about account 7.
fn unchained(records: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let numbered = |number: u64| [&[0x30][..], &number.to_be_bytes()].concat();
    let record = |number: u64| {
        let subject: &[u8] = if number.is_multiple_of(3) { &[1, 7] } else { &[0] };
        // A login at one millisecond, without an actor, refused because of a wrong password.
        (numbered(number), [&[1, 2, 5, 0], subject, &[0, 0, 0, 0, 1, 2]].concat())
    };
    let mut rows: Vec<_> = (1..=records).map(record).collect();
    let last = [&[1, 0xfb][..], &u16::try_from(records).unwrap().to_le_bytes()].concat();
    rows.extend([(vec![1, 0], vec![0, 0, 0, 2]), (vec![1, 2], last)]);
    rows
}

#[tokio::test]
async fn an_audit_log_of_the_second_version_is_chained_and_indexed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &unchained(1500));
    let error = SledEngine::verify_audit(dir.path(), SledOptions::default(), None).unwrap_err();
    assert!(matches!(error, OpenError::Older { found: 2, known: 6 }), "{error}");
    let store = open(dir.path());
    let status = store.audit_status().await.unwrap();
    assert_eq!((status.head.sequence, status.newest_at), (1500, Some(at(1))));
    let query = AuditQuery {
        filter: AuditFilter { subject: Some(id(7)), ..AuditFilter::default() },
        order: AuditOrder::NewestFirst,
        after: None,
        limit: 1000,
        scan: 1000,
    };
    let page = store.audit_page(query).await.unwrap();
    assert_eq!(page.entries.len(), 500);
    assert_eq!(page.entries[0].0, 1500);
    assert_eq!(page.entries[0].1.refusal, Some(AuditRefusal::WrongPassword));
    store.append_audit(vec![audit(1)]).await.unwrap();
    drop(store);
    let report = SledEngine::verify_audit(dir.path(), SledOptions::default(), Some(status.head)).unwrap();
    assert!(matches!(report.finding, AuditFinding::Whole(head) if head.sequence == 1501), "{report:?}");
}

#[tokio::test]
async fn an_old_audit_record_that_cannot_be_read_stops_no_start_and_is_kept_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = unchained(1500);
    let unreadable = [1, 2, 250, 0, 0, 0, 0, 0, 0];
    old[6].1 = unreadable.to_vec();
    old[8].1 = Vec::new();
    write(dir.path(), &old);
    // Record 1200, which is about account 7, is missing.
    open_engine(dir.path()).remove(&old[1199].0).unwrap();
    let store = open(dir.path());
    let head = store.audit_status().await.unwrap().head;
    assert_eq!(head.sequence, 1500);
    let read: Vec<u64> = store.recent_audit(2000).await.unwrap().iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(read.len(), 1497);
    assert!([7, 9, 1200].iter().all(|missing| !read.contains(missing)));
    store.append_audit(vec![audit(1)]).await.unwrap();
    drop(store);
    let verify = || SledEngine::verify_audit(dir.path(), SledOptions::default(), Some(head)).unwrap();
    let report = verify();
    assert!(matches!(report.finding, AuditFinding::Whole(head) if head.sequence == 1501), "{report:?}");
    assert_eq!(report.put_aside, (3, vec![7, 9, 1200]));
    let engine = open_engine(dir.path());
    let kept = engine.get(&old[6].0).unwrap().unwrap();
    assert!(kept.ends_with(&unreadable), "to the byte");
    // A change of a record that was put aside is found too.
    let mut changed = kept.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    engine.insert(&old[6].0, changed).unwrap();
    engine.flush().unwrap();
    drop(engine);
    let broken = AuditBreak::Unchained { before: 7, record: 8 };
    assert_eq!(verify().finding, AuditFinding::Broken(broken));
}

#[tokio::test]
async fn r02_a_chaining_that_was_cut_short_goes_on() {
    let whole = tempfile::tempdir().unwrap();
    write(whole.path(), &unchained(1500));
    let expected = open(whole.path()).audit_status().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &unchained(1500));
    drop(open(dir.path()));
    {
        // The state that a kill after the first group leaves: the rest is unchained, and the layout number is the old one.
        // A program of that layout has appended records since.
        let (engine, old) = (open_engine(dir.path()), unchained(1500));
        let end_of_the_first_group = end_after(512);
        for (key, value) in &old {
            let number = (key[0] == 0x30).then(|| u64::from_be_bytes(key[1..].try_into().unwrap()));
            if number.is_none_or(|number| number > 512) {
                engine.insert(key, value.as_slice()).unwrap();
            }
            if let Some(number) = number.filter(|number| *number > 512 && number.is_multiple_of(3)) {
                engine.remove([&[0x31, 0, 0, 0, 0, 0, 0, 0, 7][..], &(!number).to_be_bytes()].concat()).unwrap();
            }
        }
        engine.insert([1, 8], end_of_the_first_group).unwrap();
        engine.flush().unwrap();
    }
    assert_eq!(open(dir.path()).audit_status().await.unwrap(), expected);
    let report = SledEngine::verify_audit(dir.path(), SledOptions::default(), Some(expected.head)).unwrap();
    assert_eq!(report.finding, AuditFinding::Whole(expected.head));
}

/// Returns the end of the log after this many records are chained.
fn end_after(records: u64) -> sled::IVec {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &unchained(records));
    drop(open(dir.path()));
    open_engine(dir.path()).get([1, 8]).unwrap().unwrap()
}

#[tokio::test]
async fn a_directory_of_the_first_version_opens_and_goes_on() {
    opens_and_goes_on(1).await;
}

#[tokio::test]
async fn a_directory_of_the_second_version_opens_and_goes_on() {
    opens_and_goes_on(2).await;
}

async fn opens_and_goes_on(version: u8) {
    let dir = tempfile::tempdir().unwrap();
    let rows = older_version(dir.path(), version);
    let expected = Account {
        id: id(1),
        email: Email::parse("Ann@example.com").unwrap(),
        nickname: Nickname::parse("Ann").unwrap(),
        password_hash: Some(CredentialHash::from_phc("$a".to_owned())),
        password_revision: 0,
        passphrase_hash: Some(CredentialHash::from_phc("$b".to_owned())),
        passphrase_revision: 0,
        customer_account: CustomerAccount::none(),
        role: Role::Admin,
        origin: AccountOrigin::Owner,
        locked: false,
        email_verified: true,
        pending_email: None,
        reserved_email: None,
        locale: Locale::En,
        password_compromised: false,
        created_at: at(1),
        session_epoch: 0,
        revision: 3,
    };
    let store = open(dir.path());
    assert_eq!(store.account_by_email(expected.email.key()).await.unwrap(), Some(expected.clone()));
    assert_eq!(store.listed_account(id(1)).await.unwrap().unwrap().last_active_at, Some(at(2)));
    assert!(store.had_admin().await.unwrap());
    assert!(store.mails(None, 9).await.unwrap().is_empty());
    drop(store);
    {
        let engine = open_engine(dir.path());
        assert_eq!(engine.get([1, 0]).unwrap().unwrap(), [0, 0, 0, 6], "an older program would refuse it now");
        for (key, value) in &rows[1..] {
            assert_eq!(engine.get(key).unwrap().unwrap(), value.as_slice(), "the step to it changes no record");
        }
    }

    let store = open(dir.path());
    let change = AccountChange { profile: french(), ..AccountChange::default() };
    let update = AccountUpdate {
        id: id(1),
        acting: None,
        expected_revision: Some(3),
        change,
        ends: EndSessions::None,
        redeems: None,
        revokes_tokens: false,
    };
    store.update_account(update, issue(vec![token(1, TokenPurpose::VerifyAddress)])).await.unwrap();
    drop(store);
    let store = open(dir.path());
    let after = Account { locale: Locale::Fr, revision: 4, ..expected };
    assert_eq!(store.account(id(1)).await.unwrap(), Some(after));
    assert!(store.token_of(id(1), TokenPurpose::VerifyAddress).await.unwrap().is_some());
}

/// The migration to the fifth layout changes no record, and repeating it changes nothing.
#[tokio::test]
async fn sessions_of_the_first_version_stay_as_they_are_until_they_change() {
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/in-use-before-key-pairs/db");
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("db/blobs")).unwrap();
    for name in ["db", "conf"] {
        std::fs::copy(fixture.join(name), dir.path().join("db").join(name)).unwrap();
    }
    // Each start increments the count of commits, so that row is left out.
    let rows = || -> Vec<_> {
        open_engine(dir.path()).iter().map(Result::unwrap).filter(|(key, _)| key != &[0x01, 0x10]).collect()
    };
    let before = rows();
    let of_kind = |kind: u8| before.iter().filter(move |(key, _)| key[0] == kind);
    assert_eq!(before.iter().find(|(key, _)| key == &[1, 0]).unwrap().1, [0, 0, 0, 4]);
    assert_eq!(of_kind(0x20).count(), 3, "sessions");
    assert!(of_kind(0x20).all(|(_, value)| value[0] == 1), "of the first version");
    let counts = [0x10, 0x24, 0x30, 0x50].map(|kind| of_kind(kind).count());
    assert_eq!(counts, [3, 0, 13, 4], "accounts, refresh tokens, audit records and mails");
    for _ in 0..2 {
        let store = open(dir.path());
        let sessions = store.sessions(ShardOf { index: 0, of: 1 }).await.unwrap();
        assert_eq!(sessions.len(), 3);
        assert!(sessions.iter().all(|session| session.label.is_none() && !session.remembered));
        drop(store);
        let after = rows();
        assert_eq!(before.len(), after.len());
        let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert_eq!(changed.len(), 1, "{changed:?}");
        assert_eq!(*changed[0].1, (sled::IVec::from(&[1, 0]), sled::IVec::from(&[0, 0, 0, 6])));
    }
    // Labelling a session writes it in the new version. The others stay.
    let store = open(dir.path());
    let session = store.sessions(ShardOf { index: 0, of: 1 }).await.unwrap().remove(0);
    let label = Some(SessionLabel::parse("Phone").unwrap());
    store.label_session(session.account, session.id, label.clone(), None, audit(1)).await.unwrap();
    drop(store);
    let stored = open(dir.path()).session(session.account, session.id).await.unwrap();
    assert_eq!(stored, Some(Session { label, ..session }));
    let old = rows().iter().filter(|(key, value)| key[0] == 0x20 && value[0] == 1).count();
    assert_eq!(old, 2);
}
