//! A shard keeps a copy of what the store has: what others change there shows at its very next answer.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::{Message, SessionActor, Standing};
use crate::ask::AskError;
use crate::domain::account::{Account, AccountChange, NewAccount};
use crate::domain::audit::{AuditEvent, AuditRecord};
use crate::domain::email::Email;
use crate::domain::nickname::Nickname;
use crate::domain::session::{Session, SessionId, SessionPolicy};
use crate::health::Vitals;
use crate::ports::Clock as _;
use crate::process::{Host, Mailbox};
use crate::store::{AccountUpdate, EndSessions, LastUse, ShardOf, Store};
use crate::testing::{ManualClock, MemoryEngine, memory_store};

const ONLY: ShardOf = ShardOf { index: 0, of: 1 };

fn audit(at: crate::domain::time::Timestamp) -> AuditRecord {
    AuditRecord::new(AuditEvent::Login, at)
}

/// A store with one account and these sessions of it.
async fn store_with(sessions: &[SessionId], clock: &ManualClock) -> (Store, Arc<MemoryEngine>, Account) {
    let ((store, engine), now) = (memory_store(), clock.now());
    let (email, nickname) = (Email::parse("ann@example.com").unwrap(), Nickname::parse("ann").unwrap());
    let new = NewAccount { created_at: now, ..NewAccount::sample(email, nickname) };
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
        store.open_session(session, None, None, None, audit(now)).await.unwrap();
    }
    (store, engine, account)
}

/// The only shard, running.
struct Running {
    mailbox: Arc<Mailbox<Message>>,
    store: Store,
    account: Account,
    clock: Arc<ManualClock>,
    actor: ractor::ActorCell,
}

impl Running {
    async fn over(store: Store, account: Account, clock: Arc<ManualClock>) -> Self {
        let policy = SessionPolicy {
            idle_timeout: Duration::from_mins(30),
            remembered_idle_timeout: Duration::from_hours(1),
            lifetime: Duration::from_hours(1),
            access_lifetime: Duration::from_hours(1),
            refresh_grace: Duration::ZERO,
            max_per_account: 10_000,
        };
        let (commits, live) = (TaskTracker::new(), Arc::new(AtomicUsize::new(0)));
        let time = Arc::clone(&clock);
        let actor = SessionActor { shard: ONLY, policy, store: store.clone(), clock: time.clone(), commits, live };
        let mailbox = Mailbox::new(Vitals::new("shard"));
        let host = Host::new(Arc::new(actor), Arc::clone(&mailbox), time);
        let (actor, _) = ractor::Actor::spawn(None, host, ()).await.unwrap();
        Self { mailbox, store, account, clock, actor: actor.get_cell() }
    }

    async fn with(sessions: &[SessionId]) -> (Self, Arc<MemoryEngine>) {
        let clock = Arc::new(ManualClock::new());
        let (store, engine, account) = store_with(sessions, &clock).await;
        (Self::over(store, account, clock).await, engine)
    }

    async fn uses(&self, session: SessionId) -> Result<Option<Standing>, AskError> {
        let account = self.account.id;
        let question = |reply| Message::Use { account, session, counts: true, reply };
        self.mailbox.ask(Duration::from_secs(10), question).await
    }

    async fn lives(&self, session: SessionId) -> bool {
        self.uses(session).await.unwrap().is_some()
    }

    async fn settle(&self) {
        self.mailbox.ask(Duration::from_secs(10), |reply| Message::Settle { reply }).await.unwrap();
    }

    fn touch(&self, session: SessionId) -> LastUse {
        LastUse { account: self.account.id, session, at: self.clock.now() }
    }

    async fn is_stored(&self, session: SessionId) -> bool {
        self.store.session(self.account.id, session).await.unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.actor.kill();
    }
}

#[tokio::test]
async fn s38_a_session_that_a_new_password_kept_lives_on_at_once_and_the_others_do_not() {
    let [kept, other] = [1, 2].map(|n| SessionId::from_bytes([n; 16]));
    let (shard, _) = Running::with(&[kept, other]).await;
    for epoch in [1, 2] {
        let update = AccountUpdate {
            id: shard.account.id,
            acting: None,
            expected_revision: None,
            change: AccountChange::default(),
            ends: EndSessions::AllBut(kept),
            redeems: None,
            revokes_tokens: false,
        };
        shard.store.update_account(update, audit(shard.clock.now()).into()).await.unwrap();
        let standing = shard.uses(kept).await.unwrap().unwrap();
        assert_eq!((standing.epoch, standing.login), (epoch, None));
        assert!(!shard.lives(other).await);
    }
}

#[tokio::test]
async fn s37_a_session_that_somebody_else_ended_is_dead_at_the_next_check() {
    let [one, other] = [1, 2].map(|n| SessionId::from_bytes([n; 16]));
    let (shard, _) = Running::with(&[one, other]).await;
    assert!(shard.lives(one).await && shard.lives(other).await);
    let now = shard.clock.now();
    shard.store.end_sessions(vec![shard.touch(one)], now, vec![audit(now)]).await.unwrap();
    assert!(!shard.lives(one).await && shard.lives(other).await);
}

#[tokio::test]
async fn a_session_that_somebody_else_opened_is_found() {
    let [one, opened] = [1, 2].map(|n| SessionId::from_bytes([n; 16]));
    let (shard, _) = Running::with(&[one]).await;
    assert!(!shard.lives(opened).await);
    let stored = shard.store.session(shard.account.id, one).await.unwrap().unwrap();
    let now = shard.clock.now();
    shard.store.open_session(Session { id: opened, ..stored }, None, None, None, audit(now)).await.unwrap();
    assert!(shard.lives(opened).await);
}

/// The other process writes a use that comes late in the time of a session before it answers it.
#[tokio::test]
async fn a_session_that_somebody_else_uses_is_not_ended_for_being_idle() {
    let one = SessionId::from_bytes([1; 16]);
    let (shard, _) = Running::with(&[one]).await;
    shard.clock.advance(Duration::from_mins(29));
    shard.store.touch_sessions(vec![shard.touch(one)]).await.unwrap();
    shard.clock.advance(Duration::from_mins(10));
    shard.mailbox.tell(Message::Sweep).unwrap();
    shard.settle().await;
    assert!(shard.is_stored(one).await && shard.lives(one).await);
    shard.clock.advance(Duration::from_mins(31));
    shard.mailbox.tell(Message::Sweep).unwrap();
    shard.settle().await;
    assert!(!shard.is_stored(one).await && !shard.lives(one).await);
}

/// This shard found it expired before it knew of that use, and could not store the end.
#[tokio::test]
async fn a_session_that_somebody_else_used_is_alive_though_it_was_found_expired_here() {
    let one = SessionId::from_bytes([1; 16]);
    let (shard, engine) = Running::with(&[one]).await;
    shard.clock.advance(Duration::from_mins(20));
    let touch = shard.touch(one);
    shard.clock.advance(Duration::from_mins(11));
    engine.break_down("the end cannot be stored");
    shard.mailbox.tell(Message::Sweep).unwrap();
    shard.settle().await;
    engine.heal();
    assert!(!shard.lives(one).await);
    shard.store.touch_sessions(vec![touch]).await.unwrap();
    assert!(shard.lives(one).await);
}

#[tokio::test]
async fn a_use_late_in_the_time_of_a_session_is_stored_before_it_is_answered() {
    let one = SessionId::from_bytes([1; 16]);
    let (shard, engine) = Running::with(&[one]).await;
    let stored = async || shard.store.session(shard.account.id, one).await.unwrap().unwrap().last_active_at;
    shard.clock.advance(Duration::from_mins(20));
    assert!(shard.lives(one).await);
    let before = stored().await;
    assert!(before < shard.clock.now(), "an early use is written behind");
    shard.clock.advance(Duration::from_secs(9 * 60 + 30));
    assert!(shard.lives(one).await);
    assert_eq!(stored().await, shard.clock.now());
    shard.clock.advance(Duration::from_secs(29 * 60 + 30));
    engine.break_down("a test");
    assert!(shard.uses(one).await.is_err(), "what could not be stored is not answered");
}

/// S52: what cannot be found out is never taken for valid, nor for invalid.
#[tokio::test]
async fn s52_a_session_that_somebody_changed_has_no_answer_while_the_store_is_down() {
    let one = SessionId::from_bytes([1; 16]);
    let (shard, engine) = Running::with(&[one]).await;
    let now = shard.clock.now();
    let acting = None;
    shard.store.label_session(shard.account.id, one, None, acting, audit(now)).await.unwrap();
    engine.break_down("a test");
    assert!(shard.uses(one).await.is_err());
    engine.heal();
    assert!(shard.lives(one).await);
}

#[tokio::test]
async fn r05_no_clock_that_is_set_back_revives_an_expired_session() {
    let one = SessionId::from_bytes([1; 16]);
    let (shard, engine) = Running::with(&[one]).await;
    shard.clock.advance(Duration::from_mins(31));
    engine.break_down("its end cannot be stored");
    shard.mailbox.tell(Message::Sweep).unwrap();
    shard.settle().await;
    engine.heal();
    shard.clock.set_back(Duration::from_mins(20));
    assert!(shard.is_stored(one).await && !shard.lives(one).await);
}

#[tokio::test]
async fn uses_are_written_in_turns_and_all_of_them_at_a_stop() {
    let name = |n: u16| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        SessionId::from_bytes(bytes)
    };
    let names: Vec<_> = (0..5000).map(name).collect();
    let (shard, _) = Running::with(&names).await;
    shard.clock.advance(Duration::from_mins(1));
    let used = shard.clock.now();
    for session in &names {
        assert!(shard.lives(*session).await);
    }
    let written = async || -> Vec<SessionId> {
        let stored = shard.store.sessions(ONLY).await.unwrap();
        let mut written: Vec<_> =
            stored.iter().filter(|session| session.last_active_at == used).map(|s| s.id).collect();
        written.sort();
        written
    };
    shard.mailbox.tell(Message::Flush).unwrap();
    shard.settle().await;
    assert_eq!(written().await, names[..4096], "the use that waits for longest comes first");
    shard.actor.drain().unwrap();
    while shard.actor.get_status() != ractor::ActorStatus::Stopped {
        tokio::task::yield_now().await;
    }
    assert_eq!(written().await, names);
}
