//! One-time tokens, and accounts that replace unverified ones.

use std::sync::Arc;

use doorward_actors::Acting;
use doorward_actors::store::LastUse;
use doorward_actors::store::{
    AccountUpdate, CreateAccountRefusal, Effects, EndSessions, Page, Redemption, Store, StoreError,
    UpdateAccountRefusal, UsedToken,
};
use doorward_actors::{
    Account, AccountChange, EmailKey, MailKind, NewAccount, NewRole, NewToken, Role, TokenHash, TokenPurpose, Undoable,
};

use crate::rules::{ADMIN, USER, create, open_engine, update};
use crate::{at, audit, email, french, id, issue, mail, mails, new_account, open, session, token};

const RESET: TokenPurpose = TokenPurpose::ResetPassword;
const VERIFY: TokenPurpose = TokenPurpose::VerifyAddress;

fn hash(byte: u8) -> TokenHash {
    TokenHash::from_bytes([byte; 32])
}

fn ann() -> EmailKey {
    email("ann").key().clone()
}

/// A change that a token permits.
fn redeem(account: u64, byte: u8, purpose: TokenPurpose, address: EmailKey, now: i64) -> AccountUpdate {
    let redeems = Some(Redemption { hash: hash(byte), purpose, address, now: at(now) });
    AccountUpdate { redeems, ..update(account, AccountChange::default(), EndSessions::None) }
}

fn is_bad<T>(answer: &Result<T, StoreError<UpdateAccountRefusal>>) -> bool {
    matches!(answer, Err(StoreError::Refused(UpdateAccountRefusal::BadToken)))
}

/// The tokens that an account has, by their hashes.
async fn tokens_of(store: &Store, account: u64) -> Vec<TokenHash> {
    let mut hashes = Vec::new();
    for purpose in TokenPurpose::ALL {
        if let Some(stored) = store.token_of(id(account), purpose).await.unwrap() {
            assert_eq!((stored.account, stored.token.purpose), (id(account), purpose));
            assert_eq!(store.one_time_token(&stored.token.hash).await.unwrap().as_ref(), Some(&stored));
            hashes.push(stored.token.hash);
        }
    }
    hashes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s25_fifty_uses_of_one_token_at_once_succeed_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    create(&store, "ann", USER).await;
    store.record(id(1), issue(vec![token(1, RESET)])).await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..50 {
        let store = Arc::clone(&store);
        callers.spawn(async move { store.update_account(redeem(1, 1, RESET, ann(), 5), audit(n).into()).await });
    }
    let answers = callers.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(answers.iter().filter(|answer| is_bad(answer)).count(), 49);
    assert_eq!(store.account(id(1)).await.unwrap().unwrap().revision, 1);
    assert_eq!(store.recent_audit(100).await.unwrap().len(), 2, "of its making and of the one change");
    assert!(tokens_of(&store, 1).await.is_empty());
}

#[tokio::test]
async fn s26_s27_a_token_that_does_not_permit_a_change_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", USER).await;
    create(&store, "bob", USER).await;
    store.record(id(1), issue(vec![token(1, RESET), token(2, VERIFY)])).await.unwrap();
    store.record(id(1), issue(vec![token(3, RESET)])).await.unwrap();
    assert_eq!(store.one_time_token(&hash(1)).await.unwrap(), None, "it was replaced");
    assert_eq!(tokens_of(&store, 1).await, [hash(2), hash(3)]);

    let before = (store.recent_audit(100).await.unwrap(), store.accounts(Page { skip: 0, limit: 9 }).await.unwrap());
    for (what, bad) in [
        ("unknown", redeem(1, 9, RESET, ann(), 5)),
        ("replaced", redeem(1, 1, RESET, ann(), 5)),
        ("over", redeem(1, 3, RESET, ann(), 1000)),
        ("of another account", redeem(2, 3, RESET, ann(), 5)),
        ("of another purpose", redeem(1, 3, VERIFY, ann(), 5)),
        ("of another address", redeem(1, 3, RESET, email("bob").key().clone(), 5)),
    ] {
        // A stale change with a bad token is answered with the bad token:
        // without a token, a client learns nothing about the account.
        for expected_revision in [None, Some(7)] {
            let bad = AccountUpdate { expected_revision, revokes_tokens: true, ends: EndSessions::All, ..bad.clone() };
            let effects = Effects {
                mails: vec![mail(MailKind::PasswordChanged, 5)],
                tokens: vec![token(4, VERIFY)],
                settles_from: Some(0),
                ..audit(1).into()
            };
            assert!(is_bad(&store.update_account(bad, effects).await), "{what}");
        }
    }
    let stale = AccountUpdate { expected_revision: Some(7), ..redeem(1, 3, RESET, ann(), 5) };
    let stale = store.update_account(stale, audit(1).into()).await;
    assert!(matches!(stale, Err(StoreError::Refused(UpdateAccountRefusal::Stale))));
    let unknown = store.update_account(redeem(5, 3, RESET, ann(), 5), audit(1).into()).await;
    assert!(matches!(unknown, Err(StoreError::Refused(UpdateAccountRefusal::Unknown))));

    let after = (store.recent_audit(100).await.unwrap(), store.accounts(Page { skip: 0, limit: 9 }).await.unwrap());
    assert_eq!(before, after);
    assert!(store.mails(None, 9).await.unwrap().is_empty());
    assert_eq!(tokens_of(&store, 1).await, [hash(2), hash(3)], "a refusal uses up no token");
    store.update_account(redeem(1, 3, RESET, ann(), 999), audit(1).into()).await.unwrap();
    assert_eq!(tokens_of(&store, 1).await, [hash(2)]);
    assert!(is_bad(&store.update_account(redeem(1, 3, RESET, ann(), 5), audit(1).into()).await), "used");
}

#[tokio::test]
async fn a_change_revokes_what_there_was_and_then_issues() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", USER).await;
    create(&store, "bob", USER).await;
    let all = TokenPurpose::ALL.into_iter().zip(1..).map(|(purpose, hash)| token(hash, purpose)).collect();
    assert_eq!(TokenPurpose::ALL[0], VERIFY);
    store.record(id(1), issue(all)).await.unwrap();
    store.record(id(2), issue(vec![token(8, RESET)])).await.unwrap();
    let revokes = AccountUpdate { revokes_tokens: true, ..redeem(1, 2, RESET, ann(), 5) };
    store.update_account(revokes, issue(vec![token(9, RESET)])).await.unwrap();
    drop(store);
    let store = open(dir.path());
    // The token that verifies the address stays because it concerns no credential. A token that undoes a change is not replaced.
    assert_eq!(tokens_of(&store, 1).await, [hash(1), hash(9)]);
    assert!(store.one_time_token(&hash(5)).await.unwrap().is_some());
    assert_eq!(tokens_of(&store, 2).await, [hash(8)], "another account keeps its own");
    drop(store);
    let engine = open_engine(dir.path());
    for (kind, count) in [(0x40, 4), (0x41, 3), (0x42, 1)] {
        assert_eq!(engine.scan_prefix([kind]).count(), count, "of kind {kind:x}");
    }
}

#[tokio::test]
async fn f21_of_each_purpose_the_last_use_is_kept_until_the_account_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", USER).await;
    create(&store, "bob", USER).await;
    for byte in 1..=3 {
        store.record(id(1), issue(vec![token(byte, RESET)])).await.unwrap();
        assert_eq!(store.used_token(&hash(byte)).await.unwrap(), None);
        let after = store.update_account(redeem(1, byte, RESET, ann(), 5), audit(1).into()).await.unwrap();
        let used = store.used_token(&hash(byte)).await.unwrap().unwrap();
        let expected =
            UsedToken { hash: hash(byte), account: id(1), revision: after.revision, purpose: RESET, at: at(5) };
        assert_eq!(used, expected);
        assert!(is_bad(&store.update_account(redeem(1, byte, RESET, ann(), 5), audit(1).into()).await));
        assert_eq!(store.used_token(&hash(byte - 1)).await.unwrap(), None, "this one took its place");
    }
    store.record(id(1), issue(vec![token(4, VERIFY), token(5, TokenPurpose::Undo)])).await.unwrap();
    store.update_account(redeem(1, 4, VERIFY, ann(), 5), audit(1).into()).await.unwrap();
    store.record(id(1), issue(vec![token(6, RESET)])).await.unwrap();
    // Invalidating tokens keeps the record of their use.
    let effects = Effects { settles_from: Some(0), ..audit(1).into() };
    let ends_all = AccountUpdate { revokes_tokens: true, ..redeem(1, 5, TokenPurpose::Undo, ann(), 5) };
    store.update_account(ends_all, effects).await.unwrap();
    drop(store);
    let store = open(dir.path());
    for (byte, is_kept) in [(3, true), (4, true), (5, true), (6, false)] {
        assert_eq!(store.used_token(&hash(byte)).await.unwrap().is_some(), is_kept, "{byte}");
    }
    store.delete_account(id(1), None, None, audit(5).into()).await.unwrap();
    drop(store);
    let engine = open_engine(dir.path());
    for kind in [0x44, 0x45] {
        assert_eq!(engine.scan_prefix([kind]).count(), 0, "of kind {kind:x}");
    }
}

#[tokio::test]
async fn s24_the_store_holds_no_token_that_opens_anything() {
    let written = "A".repeat(43);
    let hash = TokenHash::of(&written).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", USER).await;
    let effects = Effects {
        tokens: vec![NewToken { hash, ..token(1, RESET) }],
        mails: vec![mail(MailKind::ResetPassword, 5)],
        ..Effects::default()
    };
    store.record(id(1), effects).await.unwrap();
    assert!(store.one_time_token(&hash).await.unwrap().is_some());
    drop(store);
    let engine = open_engine(dir.path());
    let rows: Vec<Vec<u8>> =
        engine.iter().map(|row| row.map(|(key, value)| [&key[..], &value].concat())).collect::<Result<_, _>>().unwrap();
    let holds = |part: &[u8]| rows.iter().any(|row| row.windows(part.len()).any(|window| window == part));
    assert!(holds(hash.as_bytes()) && holds(&[9; 32]), "hash and seed");
    assert!(!holds(written.as_bytes()));
}

fn replacing(name: &str, nickname: &str) -> NewAccount {
    NewAccount { email: email(name), replaces_unverified: true, ..new_account(nickname, USER) }
}

fn refused(answer: Result<Account, StoreError<CreateAccountRefusal>>) -> CreateAccountRefusal {
    match answer {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unverified_account_gives_way_with_everything_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", USER).await;
    create(&store, "bob", USER).await;
    store.record(id(1), issue(vec![token(1, VERIFY)])).await.unwrap();
    store.record(id(1), mails(vec![mail(MailKind::VerifyAddress, 5)])).await.unwrap();

    // An account with a name that is taken is refused, and the account that it would have replaced stays unchanged.
    assert_eq!(
        refused(store.create_account(replacing("ann", "bob"), audit(1).into()).await),
        CreateAccountRefusal::NicknameTaken
    );
    assert_eq!(
        refused(store.create_account(new_account("ann", USER), audit(1).into()).await),
        CreateAccountRefusal::EmailTaken
    );
    assert_eq!(tokens_of(&store, 1).await, [hash(1)]);

    let effects = Effects { tokens: vec![token(2, VERIFY)], ..audit(1).into() };
    let new = store.create_account(replacing("ann", "ann"), effects).await.unwrap();
    assert_eq!((new.id, new.role), (id(3), Role::User));
    assert_eq!(store.account(id(1)).await.unwrap(), None);
    assert_eq!(store.account_by_email(&ann()).await.unwrap(), Some(new));
    assert_eq!(store.one_time_token(&hash(1)).await.unwrap(), None);
    assert_eq!(tokens_of(&store, 3).await, [hash(2)]);
    assert!(store.mails(None, 9).await.unwrap().is_empty());
    // The account counter was kept: both can be deleted, and so can the very last account.
    store.delete_account(id(2), None, None, audit(1).into()).await.unwrap();
    store.delete_account(id(3), None, None, Effects::default()).await.unwrap();
    drop(store);
    assert_eq!(open_engine(dir.path()).get([1, 4]).unwrap().unwrap(), [1, 0]);
}

#[tokio::test]
async fn an_account_that_somebody_logged_in_to_neither_gives_way_nor_is_found_unverified() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "live", USER).await;
    create(&store, "idle", USER).await;
    for number in [1, 2] {
        store.open_session(session(number, 1, 0, 5), None, None, None, audit(1)).await.unwrap();
    }
    let ended = LastUse { account: id(2), session: session(2, 1, 0, 5).id, at: at(6) };
    store.end_sessions(vec![ended], at(6), Vec::new()).await.unwrap();
    for name in ["live", "idle"] {
        let answer = store.create_account(replacing(name, "new"), audit(1).into()).await;
        assert_eq!(refused(answer), CreateAccountRefusal::EmailTaken, "{name}");
    }
    assert!(store.unverified_before(at(1_000), 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn who_is_verified_or_an_administrator_does_not_give_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "root", ADMIN).await;
    create(&store, "ann", NewRole::AdminIfFirst).await;
    create(&store, "locked", ADMIN).await;
    let verified = AccountChange { email_verified: Some(true), ..AccountChange::default() };
    store.update_account(update(2, verified, EndSessions::None), audit(1).into()).await.unwrap();
    let locked = AccountChange { locked: Some(true), ..AccountChange::default() };
    store.update_account(update(3, locked, EndSessions::All), audit(1).into()).await.unwrap();
    for name in ["root", "ann", "locked"] {
        let answer = store.create_account(replacing(name, "new"), audit(1).into()).await;
        assert_eq!(refused(answer), CreateAccountRefusal::EmailTaken, "{name}");
    }
    assert_eq!(store.accounts(Page { skip: 0, limit: 9 }).await.unwrap().len(), 3);
}

#[tokio::test]
async fn the_unverified_are_found_by_their_age() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (name, made) in [("a", 30), ("b", 10), ("c", 20), ("d", 10)] {
        let new = NewAccount { created_at: at(made), ..new_account(name, USER) };
        store.create_account(new, audit(0).into()).await.unwrap();
    }
    let verified = AccountChange { email_verified: Some(true), ..AccountChange::default() };
    store.update_account(update(2, verified, EndSessions::None), audit(1).into()).await.unwrap();
    assert_eq!(store.unverified_before(at(30), 9).await.unwrap(), [id(3), id(4)]);
    assert_eq!(store.unverified_before(at(31), 2).await.unwrap(), [id(1), id(3)]);
    assert!(store.unverified_before(at(10), 9).await.unwrap().is_empty());
    assert!(store.unverified_before(at(99), 0).await.unwrap().is_empty());
}

/// Changes the address from `ann`, which can be undone until 500.
fn moves(account: u64, to: &str) -> AccountUpdate {
    let undoable = Some(Undoable { at: at(1), until: at(500) });
    update(account, AccountChange { email: Some(email(to)), undoable, ..AccountChange::default() }, EndSessions::None)
}

#[tokio::test]
async fn c08_an_old_address_stays_the_accounts_own_while_the_change_can_be_undone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", USER).await;
    create(&store, "bob", USER).await;
    let waits = AccountChange { pending_email: Some(Some(email("ann"))), ..AccountChange::default() };
    store.update_account(update(2, waits, EndSessions::None), audit(1).into()).await.unwrap();
    store.update_account(moves(1, "new"), audit(1).into()).await.unwrap();
    store.update_account(moves(1, "newer"), audit(2).into()).await.unwrap();
    // An account that had already asked for the address can make all other changes.
    let drops = AccountChange { pending_email: Some(None), ..AccountChange::default() };
    for change in [AccountChange { profile: french(), ..AccountChange::default() }, drops] {
        store.update_account(update(2, change, EndSessions::None), audit(3).into()).await.unwrap();
    }
    let reserved = store.account(id(1)).await.unwrap().unwrap().reserved_email.unwrap();
    assert_eq!((reserved.email, reserved.until), (email("ann"), at(500)), "the earliest wins");

    let registers = |now| NewAccount { created_at: at(now), ..new_account("ann", USER) };
    assert_eq!(refused(store.create_account(registers(499), audit(1).into()).await), CreateAccountRefusal::EmailTaken);
    for change in [
        AccountChange { email: Some(email("ann")), ..AccountChange::default() },
        AccountChange { pending_email: Some(Some(email("ann"))), ..AccountChange::default() },
    ] {
        let taken = store.update_account(update(2, change, EndSessions::None), audit(499).into()).await;
        assert!(matches!(taken, Err(StoreError::Refused(UpdateAccountRefusal::EmailTaken))), "{taken:?}");
    }
    // Only the old address is reserved. The one in between is free.
    store.create_account(new_account("new", USER), audit(1).into()).await.unwrap();
    let after = store.update_account(moves(1, "ann"), audit(3).into()).await.unwrap();
    assert_eq!(after.reserved_email, None, "the account has it again");
    store.update_account(moves(1, "far"), audit(4).into()).await.unwrap();
    store.update_account(moves(2, "ann"), audit(500).into()).await.unwrap();
    store.delete_account(id(1), None, None, audit(5).into()).await.unwrap();
    store.delete_account(id(2), None, None, audit(5).into()).await.unwrap();
    drop(store);
    assert_eq!(open_engine(dir.path()).scan_prefix([0x43]).count(), 0, "nothing is left behind");
}

#[tokio::test]
async fn c08_tokens_that_undo_are_not_replaced_and_bounded_in_number() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "ann", USER).await;
    let undo = |number| token(number, TokenPurpose::Undo);
    let nothing = || update(1, AccountChange::default(), EndSessions::None);
    for number in 1..=20 {
        store.update_account(nothing(), issue(vec![undo(number)])).await.unwrap();
    }
    let mut living = Vec::new();
    for number in 1..=20 {
        living.extend(store.one_time_token(&hash(number)).await.unwrap().map(|stored| (number, stored.revision)));
    }
    let earliest = (1..=15).map(|number| (number, u64::from(number)));
    assert_eq!(living, earliest.chain([(20, 20)]).collect::<Vec<_>>(), "the newest gives way");
    let settled = Effects { settles_from: Some(3), ..Effects::default() };
    store.update_account(nothing(), settled).await.unwrap();
    assert!(store.one_time_token(&hash(2)).await.unwrap().is_some());
    assert!(store.one_time_token(&hash(3)).await.unwrap().is_none());
    let late = NewToken { issued_at: at(1000), expires_at: at(2000), ..undo(30) };
    store.update_account(nothing(), issue(vec![late])).await.unwrap();
    drop(store);
    assert_eq!(open_engine(dir.path()).scan_prefix([0x42]).count(), 1, "those that are over go");
}

#[tokio::test]
async fn c09_an_account_that_an_administrator_made_does_not_give_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    create(&store, "root", ADMIN).await;
    store.open_session(session(1, 1, 0, 5), None, None, None, audit(1)).await.unwrap();
    let acting = Acting { account: id(1), session: session(1, 1, 0, 5).id, role: Role::Admin, proven_at: None };
    let made = NewAccount { acting: Some(acting), ..new_account("ann", USER) };
    store.create_account(made, audit(1).into()).await.unwrap();
    let answer = store.create_account(replacing("ann", "new"), audit(1).into()).await;
    assert_eq!(refused(answer), CreateAccountRefusal::EmailTaken);
}
