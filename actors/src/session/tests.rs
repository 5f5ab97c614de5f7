//! What a shard makes of news that reach it in another order than they happened.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::{ChangeError, Message, SessionActor, WhichSessions};
use crate::domain::account::{Account, AccountId, CredentialHash, CustomerAccount, NewAccount, NewRole, Role};
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRecord};
use crate::domain::email::Email;
use crate::domain::mail::Locale;
use crate::domain::nickname::Nickname;
use crate::domain::session::{Origin, Session, SessionId, SessionLabel, SessionPolicy};
use crate::health::Vitals;
use crate::ports::{Clock as _, ServiceStore as _, ShardOf, Store as _};
use crate::process::{Mailbox, Process as _};
use crate::testing::{ManualClock, MemoryStore};

const ONLY: ShardOf = ShardOf { index: 0, of: 1 };

fn audit(at: crate::domain::time::Timestamp) -> AuditRecord {
    AuditRecord {
        at,
        event: AuditEvent::Login,
        actor: AuditActorKind::System,
        subject: None,
        session: None,
        origin: Origin::default(),
        refusal: None,
        details: None,
    }
}

/// A store with one account and these sessions of it.
async fn store_with(sessions: &[SessionId], clock: &ManualClock) -> (Arc<MemoryStore>, Account) {
    let (store, now) = (Arc::new(MemoryStore::new()), clock.now());
    let new = NewAccount {
        email: Email::parse("ann@example.com").unwrap(),
        nickname: Nickname::parse("ann").unwrap(),
        password_hash: CredentialHash::from_phc(String::new()),
        passphrase_hash: CredentialHash::from_phc(String::new()),
        customer_account: CustomerAccount::none(),
        locale: Locale::En,
        created_at: now,
        role: NewRole::Exactly(Role::User),
        acting: None,
        replaces_unverified: false,
    };
    let account = store.create_account(new, audit(now).into()).await.unwrap();
    for id in sessions {
        let session = Session {
            id: *id,
            account: account.id,
            epoch: 0,
            created_at: now,
            authenticated_at: Some(now),
            expires_at: now.plus(Duration::from_hours(1)),
            last_active_at: now,
            address: None,
            user_agent: None,
            notified_at: None,
            label: None,
            remembered: false,
        };
        store.open_session(session, None, None, audit(now)).await.unwrap();
    }
    (store, account)
}

/// The only shard.
fn shard(store: Arc<MemoryStore>, clock: Arc<ManualClock>) -> SessionActor {
    let policy = SessionPolicy {
        idle_timeout: Duration::from_hours(1),
        remembered_idle_timeout: Duration::from_hours(1),
        lifetime: Duration::from_hours(1),
        access_lifetime: Duration::from_hours(1),
        refresh_grace: Duration::ZERO,
        max_per_account: 10_000,
    };
    SessionActor { shard: ONLY, policy, store, clock, commits: TaskTracker::new(), live: Arc::new(AtomicUsize::new(0)) }
}

fn forget(account: AccountId, epoch: u64, spared: Option<SessionId>) -> Message {
    Message::Forget { account, epoch, spared, reply: oneshot::channel().0 }
}

#[tokio::test]
async fn s38_a_session_that_two_changes_spared_lives_in_whatever_order_its_shard_hears_of_them() {
    let [kept, other] = [1, 2].map(|n| SessionId::from_bytes([n; 16]));
    for order in [[1, 2], [2, 1]] {
        let clock = Arc::new(ManualClock::new());
        let (store, account) = store_with(&[kept, other], &clock).await;
        let actor = shard(store, clock);
        let mut state = actor.start(&Mailbox::new(Vitals::new("shard"))).await.unwrap();
        for epoch in order {
            actor.handle(&mut state, forget(account.id, epoch, Some(kept))).await.unwrap();
        }
        for (session, epoch) in [(kept, Some(2)), (other, None)] {
            let (reply, answer) = oneshot::channel();
            let question = Message::Use { account: account.id, session, counts: true, reply };
            actor.handle(&mut state, question).await.unwrap();
            assert_eq!(answer.await.unwrap().map(|standing| standing.epoch), epoch, "{order:?}");
        }
    }
}

/// Both ask for the end of sessions that are dead in memory: what was not committed is tried again, and is never taken for done.
#[tokio::test]
async fn s37_whoever_asks_for_the_end_of_all_sessions_is_answered_when_all_are_over_for_good() {
    let [own, other] = [1, 2].map(|n| SessionId::from_bytes([n; 16]));
    for which in [WhichSessions::All, WhichSessions::AllBut(own), WhichSessions::One(other)] {
        let clock = Arc::new(ManualClock::new());
        let (store, account) = store_with(&[own, other], &clock).await;
        let actor = shard(Arc::clone(&store), Arc::clone(&clock));
        let mut state = actor.start(&Mailbox::new(Vitals::new("shard"))).await.unwrap();
        let mut end = async |which| {
            let (reply, answer) = oneshot::channel();
            let audit = audit(clock.now());
            actor
                .handle(&mut state, Message::End { account: account.id, which, by: None, audit, reply })
                .await
                .unwrap();
            answer.await.unwrap()
        };
        store.fail("a test");
        for _ in 0..40 {
            end(WhichSessions::One(other)).await.unwrap_err();
        }
        store.heal();
        clock.advance(Duration::from_mins(1));
        end(which).await.unwrap();
        assert_eq!(store.session(account.id, other).await.unwrap(), None, "{which:?}");
        let (_, revoked) = store.revocations(0, 9).await.unwrap().remove(0);
        assert_eq!(revoked.at, clock.now(), "it ended when it ended for good, not when it was last used");
    }
}

#[tokio::test]
async fn s37_nothing_is_ended_and_nothing_named_in_the_name_of_a_session_that_is_over() {
    let [own, other] = [1, 2].map(|n| SessionId::from_bytes([n; 16]));
    let clock = Arc::new(ManualClock::new());
    let (store, account) = store_with(&[own, other], &clock).await;
    let actor = shard(Arc::clone(&store), Arc::clone(&clock));
    let mut state = actor.start(&Mailbox::new(Vitals::new("shard"))).await.unwrap();
    let (account, audit) = (account.id, audit(clock.now()));
    let mut end = async |which, by| {
        let (reply, answer) = oneshot::channel();
        let question = Message::End { account, which, by, audit: audit.clone(), reply };
        actor.handle(&mut state, question).await.unwrap();
        answer.await.unwrap()
    };
    assert_eq!(end(WhichSessions::One(own), Some(own)).await.unwrap(), 1);
    for which in [WhichSessions::AllBut(own), WhichSessions::One(other), WhichSessions::All] {
        assert!(matches!(end(which, Some(own)).await, Err(ChangeError::Revoked)), "{which:?}");
    }
    let (reply, answer) = oneshot::channel();
    let label = SessionLabel::parse("a name").ok();
    let question = Message::Label { account, session: other, by: own, label, audit, reply };
    actor.handle(&mut state, question).await.unwrap();
    assert!(matches!(answer.await.unwrap(), Err(ChangeError::Revoked)));
    assert_eq!(store.session(account, other).await.unwrap().unwrap().label, None);
}

#[tokio::test]
async fn uses_are_written_in_turns_and_all_of_them_at_a_stop() {
    let clock = Arc::new(ManualClock::new());
    let name = |n: u16| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        SessionId::from_bytes(bytes)
    };
    let names: Vec<_> = (0..5000).map(name).collect();
    let (store, account) = store_with(&names, &clock).await;
    let actor = shard(Arc::clone(&store), Arc::clone(&clock));
    let mut state = actor.start(&Mailbox::new(Vitals::new("shard"))).await.unwrap();
    clock.advance(Duration::from_mins(1));
    let used = clock.now();
    for session in &names {
        let question =
            Message::Use { account: account.id, session: *session, counts: true, reply: oneshot::channel().0 };
        actor.handle(&mut state, question).await.unwrap();
    }
    let written = async || -> Vec<SessionId> {
        let stored = store.sessions(ONLY).await.unwrap();
        let mut written: Vec<_> =
            stored.iter().filter(|session| session.last_active_at == used).map(|s| s.id).collect();
        written.sort();
        written
    };
    assert_eq!(written().await, []);
    actor.handle(&mut state, Message::Flush).await.unwrap();
    actor.handle(&mut state, Message::Settle { reply: oneshot::channel().0 }).await.unwrap();
    assert_eq!(written().await, names[..4096], "who waits for longest comes first");
    actor.stop(&mut state).await;
    assert_eq!(written().await, names);
}
