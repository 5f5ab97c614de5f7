use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::message::{Message, Standing};
use crate::domain::account::AccountId;
use crate::domain::audit::{AuditEvent, AuditRecord};
use crate::domain::session::{Deadlines, LoginTime, Now, Session, SessionId, SessionPolicy};
use crate::domain::time::Timestamp;
use crate::ports::Clock;
use crate::process::{Mailbox, Process, Reply, Timer, every};
use crate::store::layout::Touched;
use crate::store::{Seen, ShardOf, Store, StoreFailure, Touch};

/// How often uses are written. A crash loses at most this much idle progress and the time of one commit: less than 5 s, unless
/// more sessions are in use than [`FLUSH_MOST`] takes.
const FLUSH_PERIOD: Duration = Duration::from_secs(2);
/// How many uses all shards together write at once: what costs the committer a few percent of a core. Where more sessions are
/// used in that time, each waits its turn, and a crash loses more of its idle progress: 50 s where 100,000 are in use (ADR 035).
const FLUSH_MOST: usize = 4096;
/// How often ended sessions are looked for. An idle session is refused from its first moment on; this only frees its memory
/// and puts its end on record.
const SWEEP_PERIOD: Duration = Duration::from_secs(15);
/// How many uses or ends of sessions go into one commit. Each costs the committer a look-up of a few microseconds, so that a group holds other
/// writers up for a few milliseconds.
const COMMIT_GROUP: usize = 1024;
/// How far the stored last use of a session may be behind its last use before it would expire by what is stored: more than a write
/// waits for its turn. A use that comes later is written before it is answered, so that no other process takes the session for
/// idle. Sessions that expire sooner than twice this have half their time.
const WRITE_MARGIN: Duration = Duration::from_mins(1);

/// One shard: a copy of the sessions of its accounts, with uses that are not written yet. It outlives its incarnations; what
/// they own is [`State`].
pub(crate) struct SessionActor {
    pub(crate) shard: ShardOf,
    pub(crate) policy: SessionPolicy,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    /// The reads and commits under way. They run outside the mailbox, so that no token check waits for the disk.
    pub(crate) commits: TaskTracker,
    /// How many sessions live in this shard, for the health report.
    pub(crate) live: Arc<AtomicUsize>,
}

/// The name of a session.
type Name = (AccountId, SessionId);

/// What one incarnation owns.
pub(crate) struct State {
    accounts: HashMap<AccountId, Vec<Live>>,
    /// How much of the feed was read.
    position: u64,
    /// The sessions that the store is being asked for, and who waits for that.
    reading: HashMap<Name, Pending>,
    /// Who waits until no session of an account is being read.
    catching_up: Vec<(AccountId, Reply<()>)>,
    /// The sessions whose last use is not written, the one that waits for longest first; each stands here once.
    dirty: VecDeque<Name>,
    /// A flush is under way; the next one waits its turn, so that times are written in order.
    flushing: Arc<AtomicBool>,
    /// The sessions that were found expired and whose end is not durable yet, with the last use that this was judged by. A clock that
    /// is set back must not revive them; a later use by another process does.
    expired: HashMap<Name, Timestamp>,
    mailbox: Arc<Mailbox<Message>>,
    _timers: [Timer; 2],
}

/// A session that is in memory.
struct Live {
    session: Session,
    /// `authenticated_at` of the session, by both clocks.
    login: Option<LoginTime>,
    deadlines: Deadlines,
    /// The last use that was given to the store.
    written: Timestamp,
    /// Whether it stands in [`State::dirty`].
    dirty: bool,
    /// The last commit that changed it, or may have.
    touched: u64,
    /// It has to be read before it is used: it was changed since it was read, or just then.
    stale: bool,
}

/// What the store said of a session.
pub(crate) struct Reading {
    name: Name,
    stored: Result<Option<Session>, StoreFailure>,
}

/// Who waits for a session to be read.
#[derive(Default)]
struct Pending {
    /// The last commit that changed it, or may have.
    touched: u64,
    /// The last commit that was durable before the store was asked.
    settled: u64,
    waiting: Vec<(bool, Reply<Option<Standing>>)>,
    /// Who came while a commit was under way that what is read may not show. They wait for another reading.
    late: Vec<(bool, Reply<Option<Standing>>)>,
}

impl State {
    /// Whether a stored session was found expired, and nobody used it since.
    fn has_expired(&self, stored: &Session) -> bool {
        self.expired.get(&(stored.account, stored.id)).is_some_and(|used| stored.last_active_at <= *used)
    }

    /// Answers those for whose accounts nothing is being read.
    fn tell_caught_up(&mut self) {
        let is_read = |account: AccountId| !self.reading.keys().any(|(owner, _)| *owner == account);
        for (_, reply) in self.catching_up.extract_if(.., |(account, _)| is_read(*account)) {
            let _ = reply.send(());
        }
    }

    /// A session that is in memory.
    fn held(&mut self, (account, session): Name) -> Option<&mut Live> {
        self.accounts.get_mut(&account)?.iter_mut().find(|live| live.session.id == session)
    }
}

impl Process for SessionActor {
    type Message = Message;
    type State = State;

    async fn start(&self, mailbox: &Arc<Mailbox<Message>>) -> Result<State, String> {
        self.settle().await;
        // Before the sessions are read: what changes meanwhile, or is just being changed, is told again.
        let position = self.store.feed().settled();
        let stored = self.store.sessions(self.shard).await.map_err(|failure| failure.to_string())?;
        let now = self.now();
        let mut state = State {
            accounts: HashMap::new(),
            position,
            reading: HashMap::new(),
            catching_up: Vec::new(),
            dirty: VecDeque::new(),
            flushing: Arc::new(AtomicBool::new(false)),
            expired: HashMap::new(),
            mailbox: Arc::clone(mailbox),
            _timers: [every(FLUSH_PERIOD, mailbox, || Message::Flush), every(SWEEP_PERIOD, mailbox, || Message::Sweep)],
        };
        self.live.store(0, Ordering::Relaxed);
        let (alive, over): (Vec<_>, Vec<_>) =
            stored.into_iter().partition(|session| self.policy.may_revive(session, now.wall));
        for session in alive {
            self.take_in(&mut state, session, now);
        }
        self.expire(&mut state, &over, now.wall);
        Ok(state)
    }

    async fn handle(&self, state: &mut State, message: Message) -> Result<(), String> {
        let now = self.now();
        self.catch_up(state);
        match message {
            Message::Use { account, session, counts, reply } => {
                self.use_session(state, (account, session), counts, reply, now);
            }
            Message::Read(readings) => self.took(state, readings, now),
            Message::Opened(session) => {
                let name = (session.account, session.id);
                if state.held(name).is_none() {
                    self.take_in(state, session, now);
                    // It may have been ended or changed since its commit.
                    let position = state.position;
                    state.held(name).into_iter().for_each(|live| (live.touched, live.stale) = (position, true));
                }
            }
            Message::Seen { account, reply } => {
                let expired = self.remove(state, account, |live| !self.is_alive(live, now));
                let seen = state.accounts.get(&account).into_iter().flatten();
                let seen = Seen {
                    uses: seen.map(|live| touch(&live.session)).chain(expired.iter().map(touch)).collect(),
                    expired: expired.iter().map(|session| session.id).collect(),
                };
                self.expire(state, &expired, now.wall);
                let _ = reply.send(seen);
            }
            Message::Living { stored, reply } => {
                let living = stored.into_iter().filter_map(|stored| self.living(state, stored, now)).collect();
                let _ = reply.send(living);
            }
            Message::CatchUp { account, reply } => {
                state.catching_up.push((account, reply));
                state.tell_caught_up();
            }
            Message::Ended(names) => names.iter().for_each(|name| {
                state.expired.remove(name);
            }),
            Message::Sweep => self.sweep(state, now),
            Message::Flush => self.flush(state, self.share()),
            #[cfg(feature = "testing")]
            Message::Settle { reply } => {
                self.settle().await;
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    async fn stop(&self, state: &mut State) {
        self.settle().await;
        self.flush(state, usize::MAX);
        self.settle().await;
    }
}

/// What the store is told of the last use of a session.
fn touch(session: &Session) -> Touch {
    Touch { account: session.account, session: session.id, at: session.last_active_at }
}

impl SessionActor {
    /// Waits until no read and no commit is under way.
    async fn settle(&self) {
        self.commits.close();
        self.commits.wait().await;
        self.commits.reopen();
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.now(), monotonic: self.clock.monotonic() }
    }

    fn is_alive(&self, live: &Live, now: Now) -> bool {
        self.policy.is_alive(&live.session, now.wall) && live.deadlines.hold(now)
    }

    /// Reads the feed: what others changed is read anew, and what they ended goes.
    fn catch_up(&self, state: &mut State) {
        if self.store.feed().position() == state.position {
            return;
        }
        let commits = match self.store.feed().after(state.position) {
            Ok((position, commits)) => {
                let first = std::mem::replace(&mut state.position, position) + 1;
                (first..).zip(commits)
            }
            Err(behind) => {
                // Any of them may have changed. Each is read when it is used next.
                let position = behind.position;
                for live in state.accounts.values_mut().flatten() {
                    (live.touched, live.stale) = (position, true);
                }
                state.reading.values_mut().for_each(|pending| pending.touched = position);
                state.position = position;
                return;
            }
        };
        let mut to_read = Vec::new();
        for (number, commit) in commits {
            for touched in commit.iter() {
                let Touched::Session(account, session) = *touched else { continue };
                let name = (account, session);
                if !self.shard.owns(account) {
                    continue;
                }
                let is_held = state.held(name).map(|live| (live.touched, live.stale) = (number, true)).is_some();
                if let Some(pending) = state.reading.get_mut(&name) {
                    pending.touched = number;
                } else if is_held {
                    state.reading.insert(name, Pending { touched: number, ..Pending::default() });
                    to_read.push(name);
                }
            }
        }
        self.read(state, to_read);
    }

    /// Asks the store for sessions that stand in [`State::reading`].
    fn read(&self, state: &mut State, names: Vec<Name>) {
        if names.is_empty() {
            return;
        }
        let settled = self.store.feed().settled();
        for name in &names {
            if let Some(pending) = state.reading.get_mut(name) {
                pending.settled = settled;
            }
        }
        let (store, mailbox) = (self.store.clone(), Arc::clone(&state.mailbox));
        self.commits.spawn(async move {
            let mut found = Vec::with_capacity(names.len());
            for (account, session) in names {
                found.push(Reading { name: (account, session), stored: store.session(account, session).await });
            }
            // An incarnation that is gone has nobody who waits.
            let _ = mailbox.tell(Message::Read(found));
        });
    }

    /// Takes in what the store said.
    fn took(&self, state: &mut State, readings: Vec<Reading>, now: Now) {
        let mut again = Vec::new();
        for Reading { name, stored } in readings {
            let Some(Pending { touched, settled, waiting, late }) = state.reading.remove(&name) else { continue };
            match stored {
                Ok(stored) => {
                    self.renew(state, name, stored, now);
                    if let Some(live) = state.held(name) {
                        // A commit that was under way may show at the next look, and then nobody may be told of what was before it.
                        (live.touched, live.stale) = (touched, settled < touched);
                    }
                    for (counts, reply) in waiting {
                        self.answer(state, name, counts, reply, now);
                    }
                }
                // Those who wait are told that there is no answer; what is stale stays so.
                Err(failure) => tracing::error!(%failure, "a session could not be read"),
            }
            if !late.is_empty() {
                state.reading.insert(name, Pending { touched, waiting: late, ..Pending::default() });
                again.push(name);
            }
        }
        self.read(state, again);
        state.tell_caught_up();
    }

    /// Makes a session in memory what the store says it is.
    fn renew(&self, state: &mut State, name: Name, stored: Option<Session>, now: Now) {
        let Some(stored) = stored.filter(|stored| !state.has_expired(stored)) else {
            self.remove(state, name.0, |live| live.session.id == name.1);
            return;
        };
        let policy = self.policy;
        let Some(live) = state.held(name) else {
            if policy.may_revive(&stored, now.wall) {
                self.take_in(state, stored, now);
            } else if !policy.is_alive(&stored, now.wall) {
                self.expire(state, &[stored], now.wall);
            }
            return;
        };
        live.written = live.written.max(stored.last_active_at);
        if stored.authenticated_at != live.session.authenticated_at {
            live.login = stored.authenticated_at.map(|at| LoginTime::of(at, now));
        }
        let used_elsewhere = stored.last_active_at > live.session.last_active_at;
        let last_active_at = stored.last_active_at.max(live.session.last_active_at);
        live.session = Session { last_active_at, ..stored };
        if used_elsewhere {
            live.deadlines.used_elsewhere(&live.session, &policy, now);
        }
    }

    /// Answers whether a session is alive, once its copy is good enough to tell.
    fn use_session(&self, state: &mut State, name: Name, counts: bool, reply: Reply<Option<Standing>>, now: Now) {
        if let Some(pending) = state.reading.get_mut(&name) {
            // What is being read may be of before a commit that was acknowledged since.
            let is_late = pending.settled < pending.touched;
            if is_late { &mut pending.late } else { &mut pending.waiting }.push((counts, reply));
            return;
        }
        if state.held(name).is_some_and(|live| !live.stale && self.is_alive(live, now)) {
            self.answer(state, name, counts, reply, now);
            return;
        }
        // One that is not here may have been opened elsewhere, and one that was idle here may have been used there. What is not here
        // may just be changed by any commit that is under way.
        let position = state.position;
        let touched = state.held(name).map_or(position, |live| live.touched);
        state.reading.insert(name, Pending { touched, waiting: vec![(counts, reply)], ..Pending::default() });
        self.read(state, vec![name]);
    }

    /// Answers whether a session is alive by what is known here.
    fn answer(&self, state: &mut State, name: Name, counts: bool, reply: Reply<Option<Standing>>, now: Now) {
        let policy = self.policy;
        let Some(live) = state.held(name) else {
            let _ = reply.send(None);
            return;
        };
        if !self.is_alive(live, now) {
            // Ended here and now, not at the next sweep: a clock that is set back must not revive it.
            let over = self.remove(state, name.0, |live| live.session.id == name.1);
            self.expire(state, &over, now.wall);
            let _ = reply.send(None);
            return;
        }
        if counts {
            live.deadlines.restart_idle(&live.session, &policy, now);
        }
        let standing = Standing {
            epoch: live.session.epoch,
            login: live.login,
            expires_at: policy.ends_at(&live.session),
            idle_expires_at: now.wall.plus(live.deadlines.idle_left(now)),
        };
        if counts && now.wall > live.session.last_active_at {
            live.session.last_active_at = now.wall;
            let idle = policy.idle_timeout_of(&live.session);
            if now.wall.since(live.written) > idle.saturating_sub(WRITE_MARGIN.min(idle / 2)) {
                live.written = now.wall;
                let touch = touch(&live.session);
                self.write_before(state, touch, reply);
                return;
            }
            if !live.dirty {
                live.dirty = true;
                state.dirty.push_back(name);
            }
        }
        let _ = reply.send(Some(standing));
    }

    /// Writes a use and asks once more, as the session may have been ended meanwhile.
    fn write_before(&self, state: &State, touch: Touch, reply: Reply<Option<Standing>>) {
        let (store, mailbox) = (self.store.clone(), Arc::clone(&state.mailbox));
        self.commits.spawn(async move {
            match store.touch_sessions(vec![touch]).await {
                Ok(()) => {
                    let Touch { account, session, .. } = touch;
                    let _ = mailbox.tell(Message::Use { account, session, counts: false, reply });
                }
                // The asker is told that there is no answer.
                Err(failure) => tracing::error!(%failure, "a use of a session could not be recorded"),
            }
        });
    }

    /// A stored session with its last use, if it is alive.
    fn living(&self, state: &mut State, stored: Session, now: Now) -> Option<Session> {
        let name = (stored.account, stored.id);
        if state.has_expired(&stored) {
            return None;
        }
        match state.held(name) {
            Some(live) => {
                let last_active_at = live.session.last_active_at.max(stored.last_active_at);
                let used_elsewhere = stored.last_active_at > live.session.last_active_at;
                let session = Session { last_active_at, ..stored };
                let holds = used_elsewhere || live.deadlines.hold(now);
                (holds && self.policy.is_alive(&session, now.wall)).then_some(session)
            }
            None => Some(stored).filter(|stored| self.policy.may_revive(stored, now.wall)),
        }
    }

    /// Makes a stored session live. One that is live already stays as it is.
    fn take_in(&self, state: &mut State, session: Session, now: Now) {
        let sessions = state.accounts.entry(session.account).or_default();
        if sessions.iter().all(|live| live.session.id != session.id) {
            // Most accounts have one or two, and there are many accounts.
            if sessions.len() < 4 {
                sessions.reserve_exact(1);
            }
            let deadlines = Deadlines::of(&session, &self.policy, now);
            let login = session.authenticated_at.map(|at| LoginTime::of(at, now));
            let written = session.last_active_at;
            let touched = state.position;
            sessions.push(Live { session, login, deadlines, written, dirty: false, touched, stale: false });
            self.live.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the matching sessions of an account out of memory.
    fn remove(&self, state: &mut State, account: AccountId, matches: impl Fn(&Live) -> bool) -> Vec<Session> {
        let Some(sessions) = state.accounts.get_mut(&account) else { return Vec::new() };
        let removed: Vec<Session> = sessions.extract_if(.., |live| matches(live)).map(|live| live.session).collect();
        if sessions.is_empty() {
            state.accounts.remove(&account);
        }
        self.live.fetch_sub(removed.len(), Ordering::Relaxed);
        removed
    }

    fn sweep(&self, state: &mut State, now: Now) {
        let mut over = Vec::new();
        state.accounts.retain(|_, sessions| {
            over.extend(sessions.extract_if(.., |live| !self.is_alive(live, now)).map(|live| live.session));
            !sessions.is_empty()
        });
        self.live.fetch_sub(over.len(), Ordering::Relaxed);
        self.expire(state, &over, now.wall);
    }

    /// Ends sessions in the store that expired and are not in memory any more. Nobody waits for it: should it be lost with the
    /// process, they are found expired at the next start.
    fn expire(&self, state: &mut State, sessions: &[Session], now: Timestamp) {
        if sessions.is_empty() {
            return;
        }
        state.expired.extend(sessions.iter().map(|session| ((session.account, session.id), session.last_active_at)));
        let ended: Vec<_> = sessions
            .iter()
            .map(|session| (touch(session), AuditRecord::of_session(session, AuditEvent::SessionExpired, now)))
            .collect();
        let (store, mailbox) = (self.store.clone(), Arc::clone(&state.mailbox));
        self.commits.spawn(async move {
            // After a long stop all sessions are over at once: in groups, so that nobody else's write waits for all of them.
            for group in ended.chunks(COMMIT_GROUP) {
                if let Err(failure) = store.end_idle(group.to_vec(), now).await {
                    tracing::error!(%failure, "expired sessions could not be recorded");
                    break;
                }
                let names = group.iter().map(|(touch, _)| (touch.account, touch.session)).collect();
                let _ = mailbox.tell(Message::Ended(names));
            }
        });
    }

    /// How many uses this shard writes at once: its part of what all of them may.
    fn share(&self) -> usize {
        // There are few shards.
        FLUSH_MOST.div_ceil(usize::try_from(self.shard.of).unwrap_or(FLUSH_MOST))
    }

    /// Writes at most so many uses.
    fn flush(&self, state: &mut State, most: usize) {
        if state.dirty.is_empty() || state.flushing.swap(true, Ordering::Acquire) {
            return;
        }
        let most = most.min(state.dirty.len());
        let mut touches = Vec::with_capacity(most);
        for (account, id) in state.dirty.drain(..most) {
            let sessions = state.accounts.get_mut(&account).into_iter().flatten();
            for live in sessions.filter(|live| live.session.id == id) {
                live.dirty = false;
                live.written = live.session.last_active_at;
                touches.push(touch(&live.session));
            }
        }
        let (store, flushing) = (self.store.clone(), Arc::clone(&state.flushing));
        self.commits.spawn(async move {
            for group in touches.chunks(COMMIT_GROUP) {
                if let Err(failure) = store.touch_sessions(group.to_vec()).await {
                    tracing::error!(%failure, "uses of sessions could not be recorded");
                    break;
                }
            }
            flushing.store(false, Ordering::Release);
        });
    }
}
