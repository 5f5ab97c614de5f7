//! The pure state of a session shard: it takes events and returns effects, and does no input or output.
//!
//! It is a cache of the store. A session that is not in memory, or that other processes may have changed,
//! is read before the shard answers for it. The feed tells what others changed.
//! An idle session ends only if the store knows of no later use.
//!
//! `R` is the caller that asks about a session. `C` is the caller that waits until the feed was read.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::event::{Context, Effect, Event, Failed, Name, Reading, Standing};
use crate::domain::account::AccountId;
use crate::domain::session::{Deadlines, LoginTime, Now, Session, SessionPolicy};
use crate::domain::time::Timestamp;
use crate::store::feed::{Behind, Touches};
use crate::store::layout::Touched;
use crate::store::{LastUse, Seen, ShardOf};

/// A use of a session is written before it is answered if the session would expire within this time by its stored last use.
/// Otherwise another process might take it for idle. The time is longer than a write waits for its turn.
/// If the idle time-out is less than twice this, half of the time-out applies.
const WRITE_MARGIN: Duration = Duration::from_mins(1);

/// A session that is in memory.
struct Live {
    session: Session,
    /// `authenticated_at` of the session, on the wall clock and the monotonic clock.
    login: Option<LoginTime>,
    deadlines: Deadlines,
    /// The last use that is stored.
    written: Timestamp,
    /// Whether the session is in [`State::dirty`].
    dirty: bool,
    /// The last commit that changed the session, or may have.
    touched: u64,
    /// Whether the session must be read before its next use: it was changed after it was read, or during the read.
    stale: bool,
}

/// The callers that wait for a session to be read.
struct Pending<R> {
    /// The last commit that changed the session, or may have.
    touched: u64,
    /// The last commit that was durable before the store was asked.
    settled: u64,
    waiting: Vec<(bool, R)>,
    /// Callers that came during a commit that the read may not show. They wait for another read.
    late: Vec<(bool, R)>,
}

impl<R> Pending<R> {
    fn new(touched: u64, waiting: Vec<(bool, R)>) -> Self {
        Self { touched, settled: 0, waiting, late: Vec::new() }
    }
}

/// An expired session whose end is not durable yet. A clock that is set back must not revive it.
/// A later use by another process does.
struct Expired<R> {
    session: Session,
    /// Whether the store is ending it.
    ending: bool,
    /// The callers that wait for the store's answer.
    waiting: Vec<(bool, R)>,
}

pub(super) struct State<R, C> {
    shard: ShardOf,
    policy: SessionPolicy,
    accounts: HashMap<AccountId, Vec<Live>>,
    /// The number of sessions in memory.
    live: usize,
    /// The last commit of the feed that was read.
    position: u64,
    /// The sessions that the store is being asked for.
    reading: HashMap<Name, Pending<R>>,
    /// The callers that wait until no session of an account is being read.
    catching_up: Vec<(AccountId, C)>,
    /// The sessions whose last use is not written yet, the longest waiting first. Each occurs once.
    dirty: VecDeque<Name>,
    /// Whether uses are being written. The next ones wait, so that times are written in order.
    writing: bool,
    expired: HashMap<Name, Expired<R>>,
}

type Effects<R, C> = Vec<Effect<R, C>>;

impl<R, C> State<R, C> {
    /// Creates a shard with these sessions, which were read after the feed was at `position`.
    pub(super) fn new(shard: ShardOf, policy: SessionPolicy, position: u64, stored: Vec<Session>, now: Now) -> Self {
        let mut state = Self {
            shard,
            policy,
            accounts: HashMap::new(),
            live: 0,
            position,
            reading: HashMap::new(),
            catching_up: Vec::new(),
            dirty: VecDeque::new(),
            writing: false,
            expired: HashMap::new(),
        };
        for session in stored {
            if policy.may_revive(&session, now.wall) {
                state.take_in(session, now);
            } else {
                // The first sweep ends it.
                let name = (session.account, session.id);
                state.expired.insert(name, Expired { session, ending: false, waiting: Vec::new() });
            }
        }
        state
    }

    /// Returns the number of sessions in memory.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Returns the last commit of the feed that was read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn handle(&mut self, event: Event<R, C>, context: Context) -> Effects<R, C> {
        let (now, mut effects) = (context.now, Vec::new());
        match event {
            Event::Feed(news) => self.heed(news, context, &mut effects),
            Event::Use(name, counts, asker) => self.use_session(name, counts, asker, context, &mut effects),
            Event::Read(readings) => self.took(readings, context, &mut effects),
            Event::Opened(session) => {
                let name = (session.account, session.id);
                if self.held(name).is_none() {
                    self.take_in(session, now);
                    // The session may have been ended or changed since its commit.
                    let position = self.position;
                    self.held(name).into_iter().for_each(|live| (live.touched, live.stale) = (position, true));
                }
            }
            Event::CatchUp(account, waiting) => {
                self.catching_up.push((account, waiting));
                self.read_stale(account, context, &mut effects);
                self.tell_caught_up(&mut effects);
            }
            Event::Ended(names, outcome) => self.ended(names, &outcome, context, &mut effects),
            Event::Durable(touch, asker) => {
                let name = (touch.account, touch.session);
                self.held(name).into_iter().for_each(|live| live.written = live.written.max(touch.at));
                self.use_session(name, false, asker, context, &mut effects);
            }
            Event::Written(touches, outcome) => self.written(&touches, outcome),
            Event::Sweep => self.sweep(now, &mut effects),
            Event::Flush(most) => self.flush(most, &mut effects),
        }
        effects
    }

    /// Returns what is known here of the sessions of an account, for a commit that ends some of them.
    pub(super) fn seen(&mut self, account: AccountId, now: Now) -> (Seen, Effects<R, C>) {
        let policy = self.policy;
        let expired = self.remove(account, |live| !is_alive(&policy, live, now));
        let held = self.accounts.get(&account).into_iter().flatten();
        let uses = held.map(|live| touch(&live.session)).chain(expired.iter().map(touch)).collect();
        let seen = Seen { uses, expired: expired.iter().map(|session| session.id).collect() };
        let mut effects = Vec::new();
        self.expire(expired, &mut effects);
        (seen, effects)
    }

    /// Returns those of these stored sessions that are live, with their last use.
    pub(super) fn living(&mut self, stored: Vec<Session>, now: Now) -> Vec<Session> {
        stored.into_iter().filter_map(|stored| self.living_one(stored, now)).collect()
    }

    fn living_one(&mut self, stored: Session, now: Now) -> Option<Session> {
        if self.has_expired(&stored) {
            return None;
        }
        let policy = self.policy;
        match self.held((stored.account, stored.id)) {
            Some(live) => {
                let last_active_at = live.session.last_active_at.max(stored.last_active_at);
                let used_elsewhere = stored.last_active_at > live.session.last_active_at;
                let session = Session { last_active_at, ..stored };
                let holds = used_elsewhere || live.deadlines.hold(now);
                (holds && policy.is_alive(&session, now.wall)).then_some(session)
            }
            None => Some(stored).filter(|stored| policy.may_revive(stored, now.wall)),
        }
    }

    /// Returns whether a stored session was found expired and has not been used since.
    fn has_expired(&self, stored: &Session) -> bool {
        let expired = self.expired.get(&(stored.account, stored.id));
        expired.is_some_and(|expired| stored.last_active_at <= expired.session.last_active_at)
    }

    /// Returns a session that is in memory.
    fn held(&mut self, (account, session): Name) -> Option<&mut Live> {
        self.accounts.get_mut(&account)?.iter_mut().find(|live| live.session.id == session)
    }

    /// Reads the feed: marks changed sessions as stale and asks the store for them. That read also removes ended ones.
    fn heed(&mut self, news: Result<(u64, Vec<Touches>), Behind>, context: Context, effects: &mut Effects<R, C>) {
        let commits = match news {
            Ok((position, commits)) => {
                let first = std::mem::replace(&mut self.position, position) + 1;
                (first..).zip(commits)
            }
            Err(Behind { position }) => {
                // Any session may have changed. Each is read at its next use.
                for live in self.accounts.values_mut().flatten() {
                    (live.touched, live.stale) = (position, true);
                }
                self.reading.values_mut().for_each(|pending| pending.touched = position);
                self.position = position;
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
                let is_held = self.held(name).map(|live| (live.touched, live.stale) = (number, true)).is_some();
                if let Some(pending) = self.reading.get_mut(&name) {
                    pending.touched = number;
                } else if is_held {
                    self.reading.insert(name, Pending::new(number, Vec::new()));
                    to_read.push(name);
                }
            }
        }
        self.read(to_read, context, effects);
    }

    /// Asks the store for sessions that are in [`State::reading`].
    fn read(&mut self, names: Vec<Name>, context: Context, effects: &mut Effects<R, C>) {
        if names.is_empty() {
            return;
        }
        for name in &names {
            if let Some(pending) = self.reading.get_mut(name) {
                pending.settled = context.settled;
            }
        }
        effects.push(Effect::Read(names));
    }

    /// Handles the store's answers.
    fn took(&mut self, readings: Vec<Reading>, context: Context, effects: &mut Effects<R, C>) {
        let mut again = Vec::new();
        for Reading { name, stored } in readings {
            let Some(Pending { touched, settled, waiting, late }) = self.reading.remove(&name) else { continue };
            match stored {
                Ok(stored) => {
                    self.renew(name, stored, context.now, effects);
                    if let Some(live) = self.held(name) {
                        // A commit that was under way may be visible to the next reader. From then on,
                        // no answer may come from this older read.
                        (live.touched, live.stale) = (touched, settled < touched);
                    }
                    for (counts, asker) in waiting {
                        self.answer(name, counts, asker, context.now, effects);
                    }
                }
                // A stale session stays stale.
                Err(Failed) => effects.extend(waiting.into_iter().map(|(_, asker)| Effect::NoAnswer(asker))),
            }
            if !late.is_empty() {
                self.reading.insert(name, Pending::new(touched, late));
                again.push(name);
            }
        }
        self.read(again, context, effects);
        self.tell_caught_up(effects);
    }

    /// Updates a session in memory to its stored state.
    fn renew(&mut self, name: Name, stored: Option<Session>, now: Now, effects: &mut Effects<R, C>) {
        let Some(stored) = stored.filter(|stored| !self.has_expired(stored)) else {
            self.remove(name.0, |live| live.session.id == name.1);
            return;
        };
        let policy = self.policy;
        let Some(live) = self.held(name) else {
            if policy.may_revive(&stored, now.wall) {
                self.take_in(stored, now);
            } else if !policy.is_alive(&stored, now.wall) {
                self.expire(vec![stored], effects);
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

    /// Answers whether a session is live. Reads the store first if the session is not in memory, is stale or has expired.
    fn use_session(&mut self, name: Name, counts: bool, asker: R, context: Context, effects: &mut Effects<R, C>) {
        let policy = self.policy;
        if let Some(pending) = self.reading.get_mut(&name) {
            // The read may have begun before a commit that was acknowledged since.
            let is_late = pending.settled < pending.touched;
            if is_late { &mut pending.late } else { &mut pending.waiting }.push((counts, asker));
            return;
        }
        if self.held(name).is_some_and(|live| !live.stale && is_alive(&policy, live, context.now)) {
            self.answer(name, counts, asker, context.now, effects);
            return;
        }
        // A session that is not in memory may have been opened elsewhere, and one that is idle here may have been used elsewhere.
        // For a session that is not in memory, any commit under way may be changing it.
        let position = self.position;
        let touched = self.held(name).map_or(position, |live| live.touched);
        self.reading.insert(name, Pending::new(touched, vec![(counts, asker)]));
        self.read(vec![name], context, effects);
    }

    /// Answers whether a session is live, from memory.
    fn answer(&mut self, name: Name, counts: bool, asker: R, now: Now, effects: &mut Effects<R, C>) {
        let policy = self.policy;
        if self.held(name).is_some_and(|live| !is_alive(&policy, live, now)) {
            // End it now, not at the next sweep: a clock that is set back must not revive it.
            let over = self.remove(name.0, |live| live.session.id == name.1);
            self.expire(over, effects);
        }
        let Some(live) = self.held(name) else {
            // Another process may just have used it, so the store decides.
            match self.expired.get_mut(&name).filter(|expired| expired.ending) {
                Some(expired) => expired.waiting.push((counts, asker)),
                None => effects.push(Effect::Answer(asker, None)),
            }
            return;
        };
        if counts {
            live.deadlines.restart_idle(&live.session, &policy, now);
        }
        let standing = Standing {
            epoch: live.session.epoch,
            login: live.login,
            expires_at: policy.ends_at(&live.session),
            idle_expires_at: now.wall.plus(live.deadlines.idle_left(now)),
        };
        if counts {
            live.session.last_active_at = live.session.last_active_at.max(now.wall);
            let idle = policy.idle_timeout_of(&live.session);
            // This applies even if the same use is being written for another caller, because it is not durable yet.
            if now.wall.since(live.written) > idle.saturating_sub(WRITE_MARGIN.min(idle / 2)) {
                effects.push(Effect::WriteAndAsk(touch(&live.session), asker));
                return;
            }
            if live.session.last_active_at > live.written && !std::mem::replace(&mut live.dirty, true) {
                self.dirty.push_back(name);
            }
        }
        effects.push(Effect::Answer(asker, Some(standing)));
    }

    /// Adds a stored session to memory. A session that is already there stays as it is.
    fn take_in(&mut self, session: Session, now: Now) {
        let sessions = self.accounts.entry(session.account).or_default();
        if sessions.iter().all(|live| live.session.id != session.id) {
            // Most accounts have one or two sessions, and there are many accounts.
            if sessions.len() < 4 {
                sessions.reserve_exact(1);
            }
            let deadlines = Deadlines::of(&session, &self.policy, now);
            let login = session.authenticated_at.map(|at| LoginTime::of(at, now));
            let written = session.last_active_at;
            let touched = self.position;
            sessions.push(Live { session, login, deadlines, written, dirty: false, touched, stale: false });
            self.live += 1;
        }
    }

    /// Removes the matching sessions of an account from memory.
    fn remove(&mut self, account: AccountId, matches: impl Fn(&Live) -> bool) -> Vec<Session> {
        let Some(sessions) = self.accounts.get_mut(&account) else { return Vec::new() };
        let removed: Vec<Session> = sessions.extract_if(.., |live| matches(live)).map(|live| live.session).collect();
        if sessions.is_empty() {
            self.accounts.remove(&account);
        }
        self.live -= removed.len();
        removed
    }

    fn sweep(&mut self, now: Now, effects: &mut Effects<R, C>) {
        let policy = self.policy;
        // Retry the sessions whose end could not be stored.
        let failed = self.expired.extract_if(|_, expired| !expired.ending);
        let mut over: Vec<Session> = failed.map(|(_, expired)| expired.session).collect();
        let again = over.len();
        self.accounts.retain(|_, sessions| {
            over.extend(sessions.extract_if(.., |live| !is_alive(&policy, live, now)).map(|live| live.session));
            !sessions.is_empty()
        });
        self.live -= over.len() - again;
        self.expire(over, effects);
    }

    /// Asks the store to end expired sessions, which are no longer in memory. If the process ends before that,
    /// the next start finds them expired again.
    fn expire(&mut self, sessions: Vec<Session>, effects: &mut Effects<R, C>) {
        if sessions.is_empty() {
            return;
        }
        for session in &sessions {
            let name = (session.account, session.id);
            let waiting = self.expired.remove(&name).map_or_else(Vec::new, |before| before.waiting);
            self.expired.insert(name, Expired { session: session.clone(), ending: true, waiting });
        }
        effects.push(Effect::End(sessions));
    }

    /// Handles the store's answer to [`Effect::End`]: it ended sessions, knows of later uses, or failed.
    fn ended(
        &mut self,
        names: Vec<Name>,
        outcome: &Result<Vec<Name>, Failed>,
        context: Context,
        effects: &mut Effects<R, C>,
    ) {
        let mut to_read = Vec::new();
        for name in names {
            let Some(expired) = self.expired.get_mut(&name) else { continue };
            let waiting = std::mem::take(&mut expired.waiting);
            let Ok(alive) = outcome else {
                expired.ending = false;
                effects.extend(waiting.into_iter().map(|(_, asker)| Effect::NoAnswer(asker)));
                continue;
            };
            self.expired.remove(&name);
            if !alive.contains(&name) {
                effects.extend(waiting.into_iter().map(|(_, asker)| Effect::Answer(asker, None)));
            } else if !waiting.is_empty() {
                match self.reading.entry(name) {
                    Entry::Occupied(pending) => pending.into_mut().late.extend(waiting),
                    Entry::Vacant(vacant) => {
                        vacant.insert(Pending::new(self.position, waiting));
                        to_read.push(name);
                    }
                }
            }
        }
        self.read(to_read, context, effects);
    }

    /// Asks the store to write at most `most` uses.
    fn flush(&mut self, most: usize, effects: &mut Effects<R, C>) {
        if self.dirty.is_empty() || self.writing {
            return;
        }
        let most = most.min(self.dirty.len());
        let mut touches = Vec::with_capacity(most);
        for name in self.dirty.drain(..most).collect::<Vec<_>>() {
            if let Some(live) = self.held(name) {
                live.dirty = false;
                touches.push(touch(&live.session));
            }
        }
        if !touches.is_empty() {
            self.writing = true;
            effects.push(Effect::Write(touches));
        }
    }

    /// Handles the result of a write of uses. Failed ones are written again.
    fn written(&mut self, touches: &[LastUse], outcome: Result<(), Failed>) {
        self.writing = false;
        for touch in touches {
            let name = (touch.account, touch.session);
            let Some(live) = self.held(name) else { continue };
            match outcome {
                Ok(()) => live.written = live.written.max(touch.at),
                Err(Failed) if !std::mem::replace(&mut live.dirty, true) => self.dirty.push_back(name),
                Err(Failed) => {}
            }
        }
    }

    /// Reads the sessions of an account that were read while a commit that changed them was under way.
    fn read_stale(&mut self, account: AccountId, context: Context, effects: &mut Effects<R, C>) {
        let held = self.accounts.get(&account).into_iter().flatten().filter(|live| live.stale);
        let stale: Vec<_> = held.map(|live| ((account, live.session.id), live.touched)).collect();
        let mut names = Vec::new();
        for (name, touched) in stale {
            if let Entry::Vacant(vacant) = self.reading.entry(name) {
                vacant.insert(Pending::new(touched, Vec::new()));
                names.push(name);
            }
        }
        self.read(names, context, effects);
    }

    /// Answers the callers whose accounts have no read under way.
    fn tell_caught_up(&mut self, effects: &mut Effects<R, C>) {
        let is_read = |account: AccountId| !self.reading.keys().any(|(owner, _)| *owner == account);
        let caught_up = self.catching_up.extract_if(.., |(account, _)| is_read(*account));
        effects.extend(caught_up.map(|(_, waiting)| Effect::CaughtUp(waiting)));
    }
}

fn is_alive(policy: &SessionPolicy, live: &Live, now: Now) -> bool {
    policy.is_alive(&live.session, now.wall) && live.deadlines.hold(now)
}

/// Returns the last use of a session, as the store takes it.
pub(super) fn touch(session: &Session) -> LastUse {
    LastUse { account: session.account, session: session.id, at: session.last_active_at }
}
