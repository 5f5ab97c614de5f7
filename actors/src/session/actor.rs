use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::ending::Ending;
use super::message::{ChangeError, Message, Presence, Standing};
use crate::domain::account::AccountId;
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRecord};
use crate::domain::refresh::RefreshFamily;
use crate::domain::session::{Deadlines, LoginTime, Now, Origin, Session, SessionId, SessionPolicy};
use crate::domain::time::Timestamp;
use crate::ports::{Clock, OpenSessionRefusal, ShardOf, SignIn, Store, StoreError, Touch, UnknownSession};
use crate::process::{Mailbox, Process, Reply, Timer, every};

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

/// One shard. It outlives its incarnations; what they own is [`State`].
pub(crate) struct SessionActor {
    pub(crate) shard: ShardOf,
    pub(crate) policy: SessionPolicy,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The commits under way. They run outside the mailbox, so that no token check waits for the disk, and they outlive a
    /// crash: a new incarnation waits for them before it reads the store, so it sees all that was or will be acknowledged.
    pub(crate) commits: TaskTracker,
    /// How many sessions live in this shard, for the health report.
    pub(crate) live: Arc<AtomicUsize>,
}

/// What one incarnation owns.
pub(crate) struct State {
    accounts: HashMap<AccountId, Vec<Live>>,
    /// The sessions whose last use is not written, the one that waits for longest first; each stands here once.
    dirty: VecDeque<(AccountId, SessionId)>,
    /// A flush is under way; the next one waits its turn, so that times are written in order.
    flushing: Arc<AtomicBool>,
    /// The sessions that are not in `accounts` any more and whose end is not durable yet.
    ending: Ending,
    mailbox: Arc<Mailbox<Message>>,
    _timers: [Timer; 2],
}

impl State {
    /// A session that is in memory.
    fn held(&mut self, account: AccountId, session: SessionId) -> Option<&mut Live> {
        self.accounts.get_mut(&account)?.iter_mut().find(|live| live.session.id == session)
    }
}

struct Live {
    session: Session,
    /// `authenticated_at` of the session, by both clocks.
    login: Option<LoginTime>,
    deadlines: Deadlines,
    /// Whether it stands in [`State::dirty`].
    dirty: bool,
}

impl Process for SessionActor {
    type Message = Message;
    type State = State;

    async fn start(&self, mailbox: &Arc<Mailbox<Message>>) -> Result<State, String> {
        self.settle().await;
        let stored = self.store.sessions(self.shard).await.map_err(|failure| failure.to_string())?;
        let now = self.now();
        let mut state = State {
            accounts: HashMap::new(),
            dirty: VecDeque::new(),
            flushing: Arc::new(AtomicBool::new(false)),
            ending: Ending::default(),
            mailbox: Arc::clone(mailbox),
            _timers: [every(FLUSH_PERIOD, mailbox, || Message::Flush), every(SWEEP_PERIOD, mailbox, || Message::Sweep)],
        };
        self.live.store(0, Ordering::Relaxed);
        let (alive, over): (Vec<_>, Vec<_>) =
            stored.into_iter().partition(|session| self.policy.may_revive(session, now.wall));
        for session in alive {
            self.take_in(&mut state, session, now);
        }
        // A kill may have come between a login and the end of the session that made room for it.
        let crowded = |(account, sessions): (&AccountId, &Vec<Live>)| {
            (sessions.len() > self.policy.max_per_account).then_some(*account)
        };
        for account in state.accounts.iter().filter_map(crowded).collect::<Vec<_>>() {
            self.make_room(&mut state, account, None, now.wall);
        }
        self.end_in_store(&state, over, AuditEvent::SessionExpired, now.wall);
        Ok(state)
    }

    async fn handle(&self, state: &mut State, message: Message) -> Result<(), String> {
        let now = self.now();
        match message {
            Message::Use { account, session, counts, reply } => {
                let _ = reply.send(self.use_session(state, account, session, counts, now));
            }
            Message::Open { session, family, sign_in, audit, reply } => {
                self.open(state, session, family, sign_in, audit, reply);
            }
            Message::Opened(session) => self.opened(state, session, now),
            Message::End { account, which, by, audit, reply } => {
                if by.is_some_and(|by| self.living(state, account, by, now).is_none()) {
                    let _ = reply.send(Err(ChangeError::Revoked));
                    return Ok(());
                }
                // What is over by the clock goes with them: it must not live again should the clock be set back.
                let over =
                    self.remove(state, account, |live| which.include(live.session.id) && !self.is_alive(live, now));
                let ended = self.remove(state, account, |live| which.include(live.session.id));
                let told = ended.iter().map(|ended| AuditRecord { session: Some(ended.id), ..audit.clone() });
                let expired = over.iter().map(|over| by_itself(over, AuditEvent::SessionExpired, now.wall));
                let audit = told.chain(expired).collect();
                // Those too whose end is under way for another reason: this is answered once it is durable.
                let mut touches = state.ending.of(account, which);
                touches.extend(ended.iter().chain(&over).map(touch));
                state.ending.begin(&touches);
                let (store, ending) = (Arc::clone(&self.store), state.ending.clone());
                self.commits.spawn(async move {
                    let outcome = store.end_sessions(touches.clone(), now.wall, audit).await;
                    if outcome.is_ok() {
                        ending.done(&touches);
                    }
                    let _ = reply.send(outcome.map(|()| ended.len()).map_err(Into::into));
                });
            }
            Message::Moved { account, session, address, user_agent } => {
                if let Some(live) = state.held(account, session) {
                    (live.session.address, live.session.user_agent) = (address, user_agent);
                }
            }
            Message::Drop { account, session, reply } => {
                self.remove(state, account, |live| live.session.id == session);
                let _ = reply.send(());
            }
            Message::List { account, epoch, reply } => {
                let _ = reply.send(self.list(state, account, epoch, now));
            }
            Message::Label { account, session, by, label, audit, reply } => {
                if self.living(state, account, by, now).is_none() {
                    let _ = reply.send(Err(ChangeError::Revoked));
                    return Ok(());
                }
                let Some(live) = self.living(state, account, session, now) else {
                    let _ = reply.send(Ok(None));
                    return Ok(());
                };
                let labelled = Session { label: label.clone(), ..live.session.clone() };
                let (store, mailbox) = (Arc::clone(&self.store), Arc::clone(&state.mailbox));
                self.commits.spawn(async move {
                    let outcome = match store.label_session(account, session, label.clone(), audit).await {
                        Ok(()) => {
                            let _ = mailbox.tell(Message::Labelled { account, session, label });
                            Ok(Some(labelled))
                        }
                        Err(StoreError::Refused(UnknownSession)) => Ok(None),
                        Err(StoreError::Failed(failure)) => Err(failure.into()),
                    };
                    let _ = reply.send(outcome);
                });
            }
            Message::Labelled { account, session, label } => {
                if let Some(live) = state.held(account, session) {
                    live.session.label = label;
                }
            }
            Message::Forget { account, epoch, spared, reply } => {
                self.forget(state, account, epoch, spared);
                let _ = reply.send(());
            }
            Message::Presence { accounts, reply } => {
                let _ = reply.send(self.presence(state, accounts, now));
            }
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

/// What the store is told of a session that ends.
fn touch(session: &Session) -> Touch {
    Touch { account: session.account, session: session.id, at: session.last_active_at }
}

/// The record of the end of a session that nobody asked for.
pub(super) fn by_itself(session: &Session, event: AuditEvent, at: Timestamp) -> AuditRecord {
    AuditRecord {
        at,
        event,
        actor: AuditActorKind::System,
        subject: Some(session.account),
        session: Some(session.id),
        origin: Origin::default(),
        refusal: None,
        details: None,
    }
}

impl SessionActor {
    /// Opens a session: durable first, then live, then answered.
    fn open(
        &self,
        state: &State,
        session: Session,
        family: Box<RefreshFamily>,
        sign_in: Option<Box<SignIn>>,
        audit: AuditRecord,
        reply: Reply<Result<(), StoreError<OpenSessionRefusal>>>,
    ) {
        // The caller has given up; opening a session that nobody gets the token of helps no one.
        if reply.is_closed() {
            return;
        }
        let (store, mailbox) = (Arc::clone(&self.store), Arc::clone(&state.mailbox));
        self.commits.spawn(async move {
            let sign_in = sign_in.map(|sign_in| *sign_in);
            let outcome = store.open_session(session.clone(), Some(*family), sign_in, audit).await;
            if outcome.is_ok() {
                // A shard that is down just now reads the session from the store when it starts again.
                let _ = mailbox.tell(Message::Opened(session));
            }
            let _ = reply.send(outcome);
        });
    }

    /// Waits until no commit is under way.
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

    /// This session of an account, if it lives.
    fn living<'a>(&self, state: &'a State, account: AccountId, id: SessionId, now: Now) -> Option<&'a Live> {
        let mut sessions = state.accounts.get(&account).into_iter().flatten();
        sessions.find(|live| live.session.id == id && self.is_alive(live, now))
    }

    fn use_session(
        &self,
        state: &mut State,
        account: AccountId,
        id: SessionId,
        counts: bool,
        now: Now,
    ) -> Option<Standing> {
        let live = state.accounts.get_mut(&account)?.iter_mut().find(|live| live.session.id == id)?;
        if !self.is_alive(live, now) {
            // Ended here and now, not at the next sweep: a clock that is set back must not revive it.
            let over = self.remove(state, account, |live| live.session.id == id);
            self.end_in_store(state, over, AuditEvent::SessionExpired, now.wall);
            return None;
        }
        if counts {
            live.deadlines.restart_idle(&live.session, &self.policy, now);
        }
        if counts && now.wall > live.session.last_active_at {
            live.session.last_active_at = now.wall;
            if !live.dirty {
                live.dirty = true;
                state.dirty.push_back((account, id));
            }
        }
        Some(Standing {
            epoch: live.session.epoch,
            login: live.login,
            expires_at: self.policy.ends_at(&live.session),
            idle_expires_at: now.wall.plus(live.deadlines.idle_left(now)),
        })
    }

    /// Makes a session live that was just committed, and room for it.
    fn opened(&self, state: &mut State, session: Session, now: Now) {
        let (account, newest) = (session.account, session.id);
        self.take_in(state, session, now);
        self.make_room(state, account, Some(newest), now.wall);
    }

    /// Makes a committed session live. One that is live already (read from the store at a restart) stays as it is.
    fn take_in(&self, state: &mut State, session: Session, now: Now) {
        let sessions = state.accounts.entry(session.account).or_default();
        if sessions.iter().all(|live| live.session.id != session.id) {
            // Most accounts have one or two, and there are many accounts.
            if sessions.len() < 4 {
                sessions.reserve_exact(1);
            }
            let deadlines = Deadlines::of(&session, &self.policy, now);
            let login = session.authenticated_at.map(|at| LoginTime::of(at, now));
            sessions.push(Live { session, login, deadlines, dirty: false });
            self.live.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the sessions that were idle for longest until the account has no more than its cap (S42). The one just opened
    /// stays, though others were used while it was being committed.
    fn make_room(&self, state: &mut State, account: AccountId, newest: Option<SessionId>, now: Timestamp) {
        let Some(sessions) = state.accounts.get_mut(&account) else { return };
        if sessions.len() <= self.policy.max_per_account {
            return;
        }
        let rank = |session: &Session| (Some(session.id) == newest, session.last_active_at, session.created_at);
        sessions.sort_by_key(|live| std::cmp::Reverse(rank(&live.session)));
        let evicted = sessions.split_off(self.policy.max_per_account);
        self.live.fetch_sub(evicted.len(), Ordering::Relaxed);
        self.end_in_store(state, evicted.into_iter().map(|live| live.session), AuditEvent::SessionEvicted, now);
    }

    /// Takes the matching sessions of an account out of memory: from here on they are dead.
    fn remove(&self, state: &mut State, account: AccountId, matches: impl Fn(&Live) -> bool) -> Vec<Session> {
        let Some(sessions) = state.accounts.get_mut(&account) else { return Vec::new() };
        let removed: Vec<Session> = sessions.extract_if(.., |live| matches(live)).map(|live| live.session).collect();
        if sessions.is_empty() {
            state.accounts.remove(&account);
        }
        self.live.fetch_sub(removed.len(), Ordering::Relaxed);
        removed
    }

    /// The live sessions of an account at this epoch.
    fn list(&self, state: &State, account: AccountId, epoch: u64, now: Now) -> Vec<Session> {
        let alive = |live: &&Live| live.session.epoch == epoch && self.is_alive(live, now);
        let sessions = state.accounts.get(&account).into_iter().flatten().filter(alive);
        sessions.map(|live| live.session.clone()).collect()
    }

    /// Takes the sessions of an account out that a change ended which raised its epoch to this.
    fn forget(&self, state: &mut State, account: AccountId, epoch: u64, spared: Option<SessionId>) {
        // Its commit found the spared one alive, as a new password was set in its name. What an earlier change says of it may
        // come later than this.
        if let Some(live) = spared.and_then(|spared| state.held(account, spared)) {
            live.session.epoch = live.session.epoch.max(epoch);
            (live.session.authenticated_at, live.login) = (None, None);
        }
        // One opened after the change is at its epoch already.
        self.remove(state, account, |live| live.session.epoch < epoch);
    }

    fn presence(&self, state: &State, accounts: Vec<(AccountId, u64)>, now: Now) -> Vec<(AccountId, Presence)> {
        let present = |(account, epoch): (AccountId, u64)| {
            let alive = |live: &&Live| live.session.epoch == epoch && self.is_alive(live, now);
            let mut last_active_at = None;
            let live = state.accounts.get(&account)?.iter().filter(alive).inspect(|live| {
                last_active_at = last_active_at.max(Some(live.session.last_active_at));
            });
            let live = live.count();
            last_active_at.map(|last_active_at| (account, Presence { live, last_active_at }))
        };
        accounts.into_iter().filter_map(present).collect()
    }

    fn sweep(&self, state: &mut State, now: Now) {
        let mut over = Vec::new();
        state.accounts.retain(|_, sessions| {
            over.extend(sessions.extract_if(.., |live| !self.is_alive(live, now)).map(|live| live.session));
            !sessions.is_empty()
        });
        self.live.fetch_sub(over.len(), Ordering::Relaxed);
        self.end_in_store(state, over, AuditEvent::SessionExpired, now.wall);
    }

    /// Ends sessions in the store that are dead in memory already. Nobody waits for it: should it be lost with the process,
    /// they are found over at the next start.
    fn end_in_store(
        &self,
        state: &State,
        sessions: impl IntoIterator<Item = Session>,
        event: AuditEvent,
        now: Timestamp,
    ) {
        let ended: Vec<_> =
            sessions.into_iter().map(|session| (touch(&session), by_itself(&session, event, now))).collect();
        if ended.is_empty() {
            return;
        }
        let (store, ending) = (Arc::clone(&self.store), state.ending.clone());
        ending.begin(&ended.iter().map(|(touch, _)| *touch).collect::<Vec<_>>());
        self.commits.spawn(async move {
            // After a long stop all sessions are over at once: in groups, so that nobody else's write waits for all of them.
            for group in ended.chunks(COMMIT_GROUP) {
                let (touches, audit): (Vec<_>, _) = group.iter().cloned().unzip();
                if let Err(failure) = store.end_sessions(touches.clone(), now, audit).await {
                    tracing::error!(%failure, "ended sessions could not be recorded");
                    break;
                }
                ending.done(&touches);
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
                touches.push(Touch { account, session: id, at: live.session.last_active_at });
            }
        }
        let (store, flushing) = (Arc::clone(&self.store), Arc::clone(&state.flushing));
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
