use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::task::TaskTracker;

use super::event::{Context, Effect, Event, Failed, Name, Reading, Standing};
use super::message::Message;
use super::state::{State, touch};
use crate::domain::audit::{AuditEvent, AuditRecord};
use crate::domain::session::{Now, Session, SessionPolicy};
use crate::ports::Clock;
use crate::process::{OwnMailbox, Process, Reply, Timer, every};
use crate::store::{LastUse, ShardOf, Store, StoreFailure};

/// How often uses are written. A crash loses at most this much idle progress and the time of one commit:
/// less than 5 s, unless more sessions are in use than [`FLUSH_MOST`] allows.
const FLUSH_PERIOD: Duration = Duration::from_secs(2);
/// The maximum number of uses that all shards together write at once. Their writing costs the committer a few percent of a core.
/// If more sessions are used within a period, their writes wait longer, and a crash loses more idle progress:
/// 50 s with 100,000 sessions in use (ADR 035).
const FLUSH_MOST: usize = 4096;
/// How often expired sessions are removed. An idle session is refused as soon as it expires.
/// The removal only frees its memory and records its end.
const SWEEP_PERIOD: Duration = Duration::from_secs(15);
/// The maximum number of uses or ends of sessions in one commit. Each costs the committer a look-up of a few microseconds,
/// so a group delays other writers by a few milliseconds.
const COMMIT_GROUP: usize = 1024;

/// One shard: a copy of the sessions of its accounts, with uses that are not written yet. The actor outlives its incarnations.
/// [`Incarnation`] holds what one of them owns.
pub(crate) struct SessionActor {
    pub(crate) shard: ShardOf,
    pub(crate) policy: SessionPolicy,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    /// The reads and commits under way. They run outside the mailbox, so that no token check waits for the disk.
    pub(crate) commits: TaskTracker,
    /// The number of live sessions in this shard, for the health report.
    pub(crate) live: Arc<AtomicUsize>,
}

/// The state that one incarnation owns.
pub(crate) struct Incarnation {
    state: State<Asker, Reply<()>>,
    mailbox: OwnMailbox<Message>,
    _timers: [Timer; 2],
}

/// The caller that asks about a session.
type Asker = Reply<Option<Standing>>;
type Effects = Vec<Effect<Asker, Reply<()>>>;

impl Process for SessionActor {
    type Message = Message;
    type State = Incarnation;

    async fn start(&self, mailbox: &OwnMailbox<Message>) -> Result<Incarnation, String> {
        self.settle().await;
        // Take the position before reading the sessions, so that the feed repeats every change that is made meanwhile or under way.
        let position = self.store.feed().settled();
        let stored = self.store.sessions(self.shard).await.map_err(|failure| failure.to_string())?;
        let state = State::new(self.shard, self.policy, position, stored, self.now());
        let timers = [every(FLUSH_PERIOD, mailbox, || Message::Flush), every(SWEEP_PERIOD, mailbox, || Message::Sweep)];
        self.live.store(state.live(), Ordering::Relaxed);
        Ok(Incarnation { state, mailbox: mailbox.clone(), _timers: timers })
    }

    async fn handle(&self, own: &mut Incarnation, message: Message) -> Result<(), String> {
        let now = self.now();
        let position = own.state.position();
        if self.store.feed().position() != position {
            self.happened(own, Event::Feed(self.store.feed().after(position)), now);
        }
        match message {
            Message::Use { account, session, counts, reply } => {
                self.happened(own, Event::Use((account, session), counts, reply), now);
            }
            Message::Read(readings) => self.happened(own, Event::Read(readings), now),
            Message::Opened(session) => self.happened(own, Event::Opened(session), now),
            Message::Seen { account, reply } => {
                let (seen, effects) = own.state.seen(account, now);
                self.carry_out(own, effects);
                let _ = reply.send(seen);
            }
            Message::Living { stored, reply } => {
                let _ = reply.send(own.state.living(stored, now));
            }
            Message::CatchUp { account, reply } => self.happened(own, Event::CatchUp(account, reply), now),
            Message::Ended(names, outcome) => self.happened(own, Event::Ended(names, outcome), now),
            Message::Durable(touch, reply) => self.happened(own, Event::Durable(touch, reply), now),
            Message::Written(touches, outcome) => self.happened(own, Event::Written(touches, outcome), now),
            Message::Sweep => self.happened(own, Event::Sweep, now),
            Message::Flush => self.happened(own, Event::Flush(self.share()), now),
            #[cfg(feature = "testing")]
            Message::Settle { reply } => {
                self.settle().await;
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    async fn stop(&self, own: &mut Incarnation) {
        self.settle().await;
        // A write that just ended may still report to the mailbox, which is closed.
        self.happened(own, Event::Written(Vec::new(), Ok(())), self.now());
        self.happened(own, Event::Flush(usize::MAX), self.now());
        self.settle().await;
    }
}

impl SessionActor {
    /// Passes an event to the state and carries out its effects.
    fn happened(&self, own: &mut Incarnation, event: Event<Asker, Reply<()>>, now: Now) {
        let settled = self.store.feed().settled();
        let effects = own.state.handle(event, Context { now, settled });
        self.carry_out(own, effects);
    }

    fn carry_out(&self, own: &Incarnation, effects: Effects) {
        // Count before any caller is answered, because it may then ask how many sessions are live.
        self.live.store(own.state.live(), Ordering::Relaxed);
        for effect in effects {
            match effect {
                Effect::Answer(asker, standing) => drop(asker.send(standing)),
                // Dropping the sender tells the caller that there is no answer.
                Effect::NoAnswer(asker) => drop(asker),
                Effect::CaughtUp(waiting) => drop(waiting.send(())),
                Effect::Read(names) => self.read(own, names),
                Effect::Write(touches) => self.write(own, touches),
                Effect::WriteAndAsk(touch, asker) => self.write_and_ask(own, touch, asker),
                Effect::End(sessions) => self.end(own, sessions),
            }
        }
    }

    fn read(&self, own: &Incarnation, names: Vec<Name>) {
        let (store, mailbox) = (self.store.clone(), own.mailbox.clone());
        self.commits.spawn(async move {
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                let stored = done(store.session(name.0, name.1), "a session could not be read").await;
                found.push(Reading { name, stored });
            }
            // An incarnation that has ended has no callers.
            let _ = mailbox.tell(Message::Read(found));
        });
    }

    fn write(&self, own: &Incarnation, touches: Vec<LastUse>) {
        let (store, mailbox) = (self.store.clone(), own.mailbox.clone());
        self.commits.spawn(async move {
            let mut outcome = Ok(());
            for group in touches.chunks(COMMIT_GROUP) {
                outcome = done(store.touch_sessions(group.to_vec()), "uses of sessions could not be recorded").await;
                if outcome.is_err() {
                    break;
                }
            }
            let _ = mailbox.tell(Message::Written(touches, outcome));
        });
    }

    fn write_and_ask(&self, own: &Incarnation, touch: LastUse, reply: Asker) {
        let (store, mailbox) = (self.store.clone(), own.mailbox.clone());
        self.commits.spawn(async move {
            // After a failure the caller gets no answer.
            if done(store.touch_sessions(vec![touch]), "a use of a session could not be recorded").await.is_ok() {
                let _ = mailbox.tell(Message::Durable(touch, reply));
            }
        });
    }

    fn end(&self, own: &Incarnation, sessions: Vec<Session>) {
        let at = self.clock.now();
        let (store, mailbox) = (self.store.clone(), own.mailbox.clone());
        self.commits.spawn(async move {
            // After a long stop, all sessions may have expired at once. They end in groups, so that other writers do not wait for
            // all of them.
            for group in sessions.chunks(COMMIT_GROUP) {
                let record = |session| AuditRecord::of_session(session, AuditEvent::SessionExpired, at);
                let ended = group.iter().map(|session| (touch(session), record(session))).collect();
                let outcome = done(store.end_idle(ended, at), "expired sessions could not be recorded").await;
                let names = group.iter().map(|session| (session.account, session.id)).collect();
                let _ = mailbox.tell(Message::Ended(names, outcome));
            }
        });
    }

    /// Waits until no read or commit is under way.
    async fn settle(&self) {
        self.commits.close();
        self.commits.wait().await;
        self.commits.reopen();
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.now(), monotonic: self.clock.monotonic() }
    }

    /// Returns how many uses this shard writes at once: its share of the limit for all shards.
    fn share(&self) -> usize {
        // The number of shards is small, so it fits.
        FLUSH_MOST.div_ceil(usize::try_from(self.shard.of).unwrap_or(FLUSH_MOST))
    }
}

/// Waits for work of the store. A failure or a panic is logged, and the state is told that it failed, so that nothing waits for ever.
async fn done<T>(work: impl Future<Output = Result<T, StoreFailure>>, what: &'static str) -> Result<T, Failed> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => {
            tracing::error!(%failure, "{what}");
            Err(Failed)
        }
        Err(_) => {
            tracing::error!("{what}: the store panicked");
            Err(Failed)
        }
    }
}
