//! The outbox, and the sign-in notices that go through it.

use std::net::IpAddr;

use doorward_actors::store::{Effects, RecordRefusal, SignIn, Store, StoreError};
use doorward_actors::{
    AccountId, AuditEvent, MAX_GIVEN_UP, MailId, MailKind, MailOutcome, MailState, NewMail, Session, TokenHash,
    TokenPurpose,
};

use crate::rules::{USER, create, open_engine};
use crate::{at, audit, email, id, mail, mail_id, mails, memory, new_account, open, session, settle, sign_in, token};

const CHANGED: MailKind = MailKind::PasswordChanged;

async fn due(store: &Store, now: i64) -> Vec<u64> {
    store.due_mails(at(now), 99).await.unwrap().into_iter().map(|mail| mail.id.get()).collect()
}

async fn all(store: &Store) -> Vec<u64> {
    store.mails(None, 99).await.unwrap().into_iter().map(|mail| mail.id.get()).collect()
}

fn retry(millis: i64) -> MailOutcome {
    MailOutcome::Retry { at: at(millis), error: "later".to_owned() }
}

fn dead(millis: i64) -> MailOutcome {
    MailOutcome::Dead { at: at(millis), error: "never".to_owned() }
}

async fn with_mails(dir: &std::path::Path, written_at: &[i64]) -> Store {
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
    settle(&store, mail_id(1), retry(50)).await.unwrap();
    settle(&store, mail_id(2), dead(40)).await.unwrap();
    settle(&store, mail_id(3), MailOutcome::Sent { at: at(9) }).await.unwrap();
    settle(&store, mail_id(3), retry(1)).await.unwrap();
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
    assert!(store.retry_mail(mail_id(2), at(30), None, audit(1)).await.unwrap());
    assert_eq!(due(&store, 30).await, [2]);
    assert_eq!(store.mails(None, 9).await.unwrap()[1].attempts, 0);
    assert!(store.delete_mail(mail_id(1), None, audit(1)).await.unwrap());
    assert_eq!(store.recent_audit(99).await.unwrap().len(), noted + 2);
    for gone in [1, 3, 9] {
        assert!(!store.retry_mail(mail_id(gone), at(1), None, audit(1)).await.unwrap());
        assert!(!store.delete_mail(mail_id(gone), None, audit(1)).await.unwrap());
    }
    assert_eq!(store.recent_audit(99).await.unwrap().len(), noted + 2, "what was not done is not on record");
    settle(&store, mail_id(2), MailOutcome::Sent { at: at(9) }).await.unwrap();
    drop(store);
    // The counts of the day, 54, stay.
    let kinds = open_engine(dir.path()).iter().keys().map(|key| key.unwrap()[0]);
    let left = kinds.filter(|kind| (0x50..0x60).contains(kind) && *kind != 0x54);
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
    assert!(matches!(refused, Err(StoreError::Refused(RecordRefusal::UnknownAccount))));
    store.delete_account(id(2), None, None, mails(vec![])).await.unwrap();
    assert_eq!(all(&store).await, [4]);
}

#[tokio::test]
async fn the_number_of_a_mail_is_never_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_mails(dir.path(), &[10, 11]).await;
    settle(&store, mail_id(2), MailOutcome::Sent { at: at(9) }).await.unwrap();
    store.delete_mail(mail_id(1), None, audit(1)).await.unwrap();
    drop(store);
    let store = open(dir.path());
    store.record(id(1), mails(vec![mail(CHANGED, 12)])).await.unwrap();
    assert_eq!(all(&store).await, [3]);
}

/// Each login is on a day of its own, so that no notice exceeds a limit.
async fn log_in(store: &Store, account: AccountId, from: IpAddr, when: i64) {
    let session = Session { created_at: at(when), ..session(account.get(), 1, 0, when) };
    let notice = mail(MailKind::NewSignIn, when * 24 * 60 * 60 * 1000);
    store.open_session(session, None, Some(SignIn { from, notice }), None, audit(1)).await.unwrap();
}

#[tokio::test]
async fn a_notice_is_for_a_new_address_but_not_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for name in ["ann", "bob"] {
        create(&store, name, USER).await;
    }
    let home = IpAddr::from([192, 0, 2, 1]);
    // As an IPv6 address, the same bytes are a different address.
    let away = IpAddr::from([192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (account, from, notices) in [(1, home, 0), (1, home, 0), (2, away, 0), (1, away, 1), (1, away, 1), (2, home, 2)]
    {
        log_in(&store, id(account), from, 5).await;
        assert_eq!(all(&store).await.len(), notices, "account {account} from {from}");
    }
    let notices = store.mails(None, 9).await.unwrap();
    assert!(notices.iter().all(|notice| notice.mail.kind == MailKind::NewSignIn));
    assert_eq!([notices[0].account, notices[1].account], [Some(id(1)), Some(id(2))]);

    let late = store.open_session(session(1, 2, 9, 5), None, Some(sign_in([9, 9, 9, 9])), None, audit(1)).await;
    assert!(late.is_err());
    store.open_session(session(1, 2, 0, 5), None, None, None, audit(1)).await.unwrap();
    assert_eq!(all(&store).await.len(), 2, "a login that is refused, or that is of no known origin, is told to nobody");
}

#[tokio::test]
async fn the_thirty_third_address_makes_the_oldest_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, memory) = (open(dir.path()), memory());
    for store in [&disk, &memory] {
        store.create_account(new_account("ann", USER), audit(0).into()).await.unwrap();
        let from = |n: u8| IpAddr::from([198, 51, 100, n]);
        for n in 0..32 {
            log_in(store, id(1), from(n), 10 + i64::from(n)).await;
        }
        assert_eq!(all(store).await.len(), 31);
        // The first address is used again, so the second is the oldest.
        log_in(store, id(1), from(0), 100).await;
        log_in(store, id(1), from(32), 101).await;
        assert_eq!(all(store).await.len(), 32);
        log_in(store, id(1), from(0), 102).await;
        log_in(store, id(1), from(2), 103).await;
        assert_eq!(all(store).await.len(), 32, "these are remembered");
        log_in(store, id(1), from(1), 104).await;
        assert_eq!(all(store).await.len(), 33, "this one was forgotten");
        // After a clock was set back, a use gets no older than it was known to be, and the newest one stays.
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

const DAY: i64 = 24 * 60 * 60 * 1000;

/// Returns whether a mail of this account is queued.
async fn goes(store: &Store, account: u64, mail: NewMail) -> bool {
    match store.record(id(account), mails(vec![mail])).await {
        Ok(()) => true,
        Err(StoreError::Refused(RecordRefusal::TooManyMails)) => false,
        Err(other) => panic!("{other}"),
    }
}

async fn both_with_people(dir: &std::path::Path) -> (Store, Store) {
    let (disk, memory) = (open(dir), memory());
    for store in [&disk, &memory] {
        for name in ["ann", "bob", "cyd"] {
            store.create_account(new_account(name, USER), audit(0).into()).await.unwrap();
        }
    }
    (disk, memory)
}

#[tokio::test]
async fn d12_mails_are_counted_by_account_by_address_and_by_client() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, memory) = both_with_people(dir.path()).await;
    let to = |name: &str, kind, day: i64| NewMail { to: email(name), ..mail(kind, day * DAY) };
    let recovery = MailKind::ResetPassword;
    for store in [&disk, &memory] {
        // Five mails may wait for one account and address. Two accounts share an address here.
        for account in [1, 2, 1, 2, 1] {
            assert!(goes(store, account, to("one", recovery, 1)).await);
        }
        assert!(!goes(store, 2, to("one", recovery, 1)).await, "the address has five");
        assert!(!goes(store, 2, to("one", recovery, 2)).await, "on any day");
        assert!(goes(store, 2, to("one", MailKind::VerifyAddress, 1)).await, "another kind is counted apart");
        // A sent or given-up mail does not wait.
        let sent = store.mails(None, 1).await.unwrap()[0].id;
        settle(store, sent, MailOutcome::Sent { at: at(9) }).await.unwrap();
        assert!(goes(store, 2, to("one", recovery, 1)).await);
        for (name, fits) in [("two", true), ("three", true), ("four", true), ("five", false)] {
            assert_eq!(goes(store, 1, to(name, recovery, 1)).await, fits, "the account has five at {name}");
        }
        // An account gets at most ten notices of a kind a day, no matter how many of them were sent.
        for number in 0..12 {
            assert_eq!(goes(store, 3, to("cyd", CHANGED, 1)).await, number < 10, "{number}");
            let newest = store.mails(None, 99).await.unwrap().pop().unwrap();
            if newest.mail.kind == CHANGED {
                settle(store, newest.id, MailOutcome::Sent { at: at(9) }).await.unwrap();
            }
        }
        assert!(goes(store, 3, to("cyd", MailKind::RecoveryUsed, 1)).await);
        assert!(goes(store, 3, to("cyd", CHANGED, 2)).await);
    }
    assert_eq!(disk.mails(None, 999).await.unwrap(), memory.mails(None, 999).await.unwrap());
}

#[tokio::test]
async fn d12_one_client_has_no_more_than_200_mails_of_a_kind_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let asked = |number: u64, client: u8| NewMail {
        to: email(&format!("person{number}")),
        network: Some([192, 0, 2, client].into()),
        ..mail(MailKind::VerifyAddress, 1)
    };
    for number in 1..=202 {
        let name = format!("person{number}");
        let mails = mails(vec![asked(number, if number == 202 { 2 } else { 1 })]);
        store.create_account(new_account(&name, USER), mails).await.unwrap();
    }
    let to: Vec<String> = all_mails(&store).await.iter().map(|mail| mail.mail.to.as_str().to_owned()).collect();
    assert_eq!(to.len(), 201);
    assert!(!to.contains(&"person201@example.com".to_owned()), "the account is made, and its mail withheld");
    assert!(to.contains(&"person202@example.com".to_owned()), "another client has its own");
    let withheld = store.recent_audit(999).await.unwrap();
    let withheld: Vec<_> = withheld.iter().filter(|(_, record)| record.event == AuditEvent::MailWithheld).collect();
    assert_eq!((withheld.len(), withheld[0].1.subject), (1, Some(id(201))));
}

async fn numbers(store: &Store) -> Vec<u64> {
    all_mails(store).await.iter().map(|mail| mail.id.get()).collect()
}

async fn all_mails(store: &Store) -> Vec<doorward_actors::QueuedMail> {
    store.mails(None, 9999).await.unwrap()
}

#[tokio::test]
async fn d12_a_replaced_token_withdraws_its_mail_and_a_withheld_mail_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, memory) = both_with_people(dir.path()).await;
    let hash = |n: u8| TokenHash::from_bytes([n; 32]);
    let purpose = TokenPurpose::ResetPassword;
    let linked = |n: u8, day: i64| Effects {
        mails: vec![NewMail { token: Some(hash(n)), ..mail(MailKind::ResetPassword, day * DAY) }],
        tokens: vec![token(n, purpose)],
        ..Effects::default()
    };
    for store in [&disk, &memory] {
        for n in 1..=48 {
            store.record(id(1), linked(n, 1)).await.unwrap();
            let waiting = all_mails(store).await;
            assert_eq!((waiting.len(), waiting[0].mail.token), (1, Some(hash(n))));
        }
        store.record(id(1), linked(49, 1)).await.unwrap_err();
        assert_eq!(store.token_of(id(1), purpose).await.unwrap().unwrap().token.hash, hash(48));
        assert_eq!(all_mails(store).await.len(), 1);
        // The lifetime of a link begins when its mail is handed over.
        let waiting = all_mails(store).await.pop().unwrap();
        let ttl = waiting.mail.valid_for.unwrap();
        settle(store, waiting.id, MailOutcome::Sent { at: at(-9_999_999) }).await.unwrap();
        let stored = store.one_time_token(&hash(48)).await.unwrap().unwrap();
        assert_eq!(stored.token.expires_at, at(-9_999_999).plus(ttl));
    }
}

#[tokio::test]
async fn d12_given_up_mails_are_bounded_in_number_and_age() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, memory) = both_with_people(dir.path()).await;
    let most = i64::try_from(MAX_GIVEN_UP).unwrap();
    for store in [&disk, &memory] {
        for n in 0..=most {
            let name = format!("name{n}");
            let given_up = NewMail {
                to: email(&name),
                network: (n > 0).then(|| [192, 0, 2, 1].into()),
                ..mail(CHANGED, n / 10 * DAY)
            };
            assert!(goes(store, 1, given_up).await, "{n}");
            let newest = store.mails(MailId::new(u64::try_from(n).unwrap()), 1).await.unwrap();
            settle(store, newest[0].id, dead(n)).await.unwrap();
        }
        let left = numbers(store).await;
        assert_eq!(left.len(), 900);
        assert_eq!(left[..2], [1, 103], "the oldest ones of the client with the most of them went");
        // Each day has one count of the account and one for each of ten addresses. Those of 29 days are old.
        let removed = store.prune_mails(at(30 * DAY + 103), 9999).await.unwrap();
        assert_eq!(removed, 29 * 11);
        assert_eq!(numbers(store).await[..2], [105, 106], "those of a month ago went");
        assert_eq!(store.prune_mails(at(40 * DAY), 4).await.unwrap(), 4);
        assert_eq!(store.prune_mails(at(40 * DAY), 9999).await.unwrap(), 10 * 11 - 4);
    }
    drop(disk);
    assert_eq!(open(dir.path()).mails(None, 9999).await.unwrap(), memory.mails(None, 9999).await.unwrap());
}
