//! Simulates two shards, the feed and a store, with messages that are delayed, lost and delivered in any order.
//!
//! A seed chooses each step. After each step two properties must hold.
//! No caller is told that a session is live after its end was acknowledged.
//! No session ends for being idle if a caller was told that it is live.
//! The test also removes each protection alone and must then find a violation.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::event::{Context, Effect, Event, Failed, Name, Reading};
use super::state::State;
use crate::domain::account::AccountId;
use crate::domain::session::{Now, Session, SessionId, SessionPolicy};
use crate::domain::time::Timestamp;
use crate::ports::Entropy as _;
use crate::store::feed::{Begun, Feed};
use crate::store::{LastUse, ShardOf, layout};
use crate::testing::SeededEntropy;

const STEPS: usize = 100_000;
const IDLE: Duration = Duration::from_mins(5);
/// The maximum difference between the clocks of the two processes.
const SKEW: Duration = Duration::from_secs(2);
/// The longest time until a write is durable. The shards assume less than their margin of a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
const ACCOUNTS: u64 = 3;

/// A protection that can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protection {
    /// Shards are told what others changed.
    Feed,
    /// An idle session is ended only if the store knows of no later use.
    ConditionalEnd,
    /// No session is opened if all sessions of its account were ended since its owner was checked.
    Epoch,
    /// A read that began before a commit was durable is not used after it.
    FreshRead,
}

/// A change that waits for its commit.
enum Change {
    Open { by: usize, session: Session },
    Logout(Name),
    EndAll(AccountId),
    LastUse { by: usize, touches: Vec<LastUse> },
    TouchAndAsk { by: usize, touch: LastUse, asker: usize },
    EndIdle { by: usize, sessions: Vec<Session>, alive: Vec<Name> },
}

/// Something that happens at a shard later.
enum Later {
    Event(Event<usize, usize>),
    /// The store is asked when this message is delivered, one session after the other.
    Read {
        left: Vec<Name>,
        found: Vec<Reading>,
    },
}

struct Node {
    state: State<usize, usize>,
    /// How far its wall clock is ahead, in milliseconds. May be negative.
    ahead: i64,
    /// The waiting messages, each with the time since which it waits.
    inbox: Vec<(Duration, Later)>,
}

/// A question to a shard.
struct Ask {
    name: Name,
    counts: bool,
    /// Whether the end of the session was acknowledged before the question.
    is_over: bool,
    answered: bool,
    asked: Duration,
}

struct World {
    without: Option<Protection>,
    random: SeededEntropy,
    time: Duration,
    rows: BTreeMap<Name, Session>,
    epochs: HashMap<AccountId, u64>,
    feed: Feed,
    waiting: VecDeque<(Duration, Change)>,
    /// The commit under way, whether its rows are visible, and its change.
    committing: Option<(Option<Begun>, bool, Change)>,
    nodes: Vec<Node>,
    asks: Vec<Ask>,
    /// The sessions that were opened, and whether their end was acknowledged.
    opened: Vec<(Name, bool)>,
    /// When a caller last asked that was told that the session is live and in use.
    told_alive: HashMap<Name, Duration>,
    next_session: u64,
    wrong: Option<String>,
}

fn policy() -> SessionPolicy {
    SessionPolicy {
        idle_timeout: IDLE,
        remembered_idle_timeout: IDLE,
        lifetime: Duration::from_hours(1000),
        access_lifetime: Duration::from_hours(1),
        refresh_grace: Duration::ZERO,
        max_per_account: 1000,
    }
}

impl World {
    fn new(seed: u64, without: Option<Protection>) -> Self {
        let shard = ShardOf { index: 0, of: 1 };
        let node = |ahead: i64| {
            let now = Now { wall: Timestamp::from_millis(ahead), monotonic: Duration::ZERO };
            Node { state: State::new(shard, policy(), 0, Vec::new(), now), ahead, inbox: Vec::new() }
        };
        Self {
            without,
            random: SeededEntropy::new(seed),
            time: Duration::ZERO,
            rows: BTreeMap::new(),
            epochs: (1..=ACCOUNTS).map(|n| (AccountId::new(n).unwrap(), 0)).collect(),
            feed: Feed::new(0, 0),
            waiting: VecDeque::new(),
            committing: None,
            nodes: vec![node(0), node(i64::try_from(SKEW.as_millis()).unwrap())],
            asks: Vec::new(),
            opened: Vec::new(),
            told_alive: HashMap::new(),
            next_session: 0,
            wrong: None,
        }
    }

    fn is_without(&self, protection: Protection) -> bool {
        self.without == Some(protection)
    }

    fn chance(&mut self, of: usize) -> usize {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        usize::try_from(u64::from_be_bytes(bytes) % of as u64).unwrap()
    }

    fn now(&self, node: usize) -> Now {
        let millis = i64::try_from(self.time.as_millis()).unwrap() + self.nodes[node].ahead;
        Now { wall: Timestamp::from_millis(millis), monotonic: self.time }
    }

    fn happens(&mut self, node: usize, event: Event<usize, usize>) {
        let settled = if self.is_without(Protection::FreshRead) { u64::MAX } else { self.feed.settled() };
        let context = Context { now: self.now(node), settled };
        let position = self.nodes[node].state.position();
        if !self.is_without(Protection::Feed) && self.feed.position() != position {
            let news = self.feed.after(position);
            let effects = self.nodes[node].state.handle(Event::Feed(news), context);
            self.carry_out(node, effects);
        }
        let effects = self.nodes[node].state.handle(event, context);
        self.carry_out(node, effects);
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect<usize, usize>>) {
        for effect in effects {
            let change = match effect {
                Effect::Answer(asker, standing) => {
                    self.answered(asker, standing.map(|standing| standing.epoch));
                    continue;
                }
                Effect::NoAnswer(_) | Effect::CaughtUp(_) => continue,
                Effect::Read(names) => {
                    self.send(node, Later::Read { left: names, found: Vec::new() });
                    continue;
                }
                Effect::Write(touches) => Change::LastUse { by: node, touches },
                Effect::WriteAndAsk(touch, asker) => Change::TouchAndAsk { by: node, touch, asker },
                Effect::End(sessions) => Change::EndIdle { by: node, sessions, alive: Vec::new() },
            };
            self.waiting.push_back((self.time, change));
        }
    }

    fn answered(&mut self, asker: usize, epoch: Option<u64>) {
        let ask = &mut self.asks[asker];
        assert!(!std::mem::replace(&mut ask.answered, true), "answered twice");
        let Some(epoch) = epoch else { return };
        // Callers do the same check: a session of an earlier epoch gives no access, whatever its shard answers.
        if epoch < self.epochs[&ask.name.0] {
            return;
        }
        if ask.is_over {
            self.wrong = Some(format!("{:?} is alive after its end was acknowledged", ask.name));
        }
        if ask.counts {
            let told = self.told_alive.entry(ask.name).or_default();
            *told = ask.asked.max(*told);
        }
    }

    /// Moves the commit one step on: it begins, its rows become visible, it is durable and acknowledged.
    fn commit(&mut self) {
        match self.committing.take() {
            None => {
                let Some((_, change)) = self.waiting.pop_front() else { return };
                if matches!(change, Change::LastUse { .. } | Change::EndIdle { .. }) && self.chance(50) == 0 {
                    return self.failed(change);
                }
                let keys = self.touched(&change);
                let rows = keys.iter().map(|key| (key.as_slice(), None));
                let begun = self.feed.begin(rows);
                self.committing = Some((Some(begun), false, change));
            }
            Some((begun, false, change)) => {
                let change = self.apply(change);
                self.committing = Some((begun, true, change));
            }
            Some((begun, true, change)) => {
                if let Some(begun) = begun {
                    self.feed.finish(begun);
                }
                self.acknowledge(change);
            }
        }
    }

    fn failed(&mut self, change: Change) {
        match change {
            Change::LastUse { by, touches } => self.later(by, Event::Written(touches, Err(Failed))),
            Change::EndIdle { by, sessions, .. } => self.later(by, Event::Ended(names(&sessions), Err(Failed))),
            _ => {}
        }
    }

    fn later(&mut self, node: usize, event: Event<usize, usize>) {
        self.send(node, Later::Event(event));
    }

    fn send(&mut self, node: usize, later: Later) {
        self.nodes[node].inbox.push((self.time, later));
    }

    /// Returns the rows of sessions that a change is about to write. The last use of a session has a row of its own,
    /// which the feed does not report.
    fn touched(&self, change: &Change) -> Vec<Vec<u8>> {
        let of =
            |names: Vec<Name>| names.into_iter().map(|(account, id)| layout::session(account, id).to_vec()).collect();
        match change {
            Change::Open { session, .. } => of(vec![(session.account, session.id)]),
            Change::Logout(name) => of(vec![*name]),
            Change::EndAll(account) => of(self.rows.keys().copied().filter(|(owner, _)| owner == account).collect()),
            Change::EndIdle { sessions, .. } => of(names(sessions)),
            Change::LastUse { .. } | Change::TouchAndAsk { .. } => Vec::new(),
        }
    }

    fn apply(&mut self, mut change: Change) -> Change {
        match &mut change {
            Change::Open { session, .. } => {
                if self.is_without(Protection::Epoch) || session.epoch == self.epochs[&session.account] {
                    // Without the check, a session survives the end of all sessions if its login was decided before it.
                    let epoch =
                        if self.is_without(Protection::Epoch) { self.epochs[&session.account] } else { session.epoch };
                    self.rows.insert((session.account, session.id), Session { epoch, ..session.clone() });
                }
            }
            Change::Logout(name) => drop(self.rows.remove(name)),
            Change::EndAll(account) => {
                let account = *account;
                self.rows.retain(|(owner, _), _| *owner != account);
                *self.epochs.entry(account).or_default() += 1;
            }
            Change::LastUse { touches, .. } => touches.iter().for_each(|touch| self.touch(touch)),
            Change::TouchAndAsk { touch, .. } => self.touch(touch),
            Change::EndIdle { sessions, alive, .. } => {
                for session in sessions.iter() {
                    let name = (session.account, session.id);
                    let Some(stored) = self.rows.get(&name) else { continue };
                    if stored.last_active_at > session.last_active_at && !self.is_without(Protection::ConditionalEnd) {
                        alive.push(name);
                        continue;
                    }
                    self.rows.remove(&name);
                    let told = self.told_alive.get(&name).copied();
                    if told.is_some_and(|told| self.time.saturating_sub(told) + SKEW * 2 < IDLE) {
                        self.wrong = Some(format!("{name:?} was ended for being idle though it was in use"));
                    }
                    self.opened.iter_mut().filter(|(opened, _)| *opened == name).for_each(|(_, over)| *over = true);
                }
            }
        }
        change
    }

    fn touch(&mut self, touch: &LastUse) {
        if let Some(stored) = self.rows.get_mut(&(touch.account, touch.session)) {
            stored.last_active_at = stored.last_active_at.max(touch.at);
        }
    }

    fn acknowledge(&mut self, change: Change) {
        match change {
            Change::Open { by, session } => {
                let name = (session.account, session.id);
                if self.rows.contains_key(&name) {
                    // An end of all sessions that came in between was meant to end this one too.
                    let is_over = session.epoch < self.epochs[&session.account];
                    self.opened.push((name, is_over));
                    self.later(by, Event::Opened(session));
                }
            }
            Change::Logout(name) => {
                self.opened.iter_mut().filter(|(opened, _)| *opened == name).for_each(|(_, over)| *over = true);
            }
            Change::EndAll(account) => {
                let of_account = self.opened.iter_mut().filter(|((owner, _), _)| *owner == account);
                of_account.for_each(|(_, over)| *over = true);
            }
            Change::LastUse { by, touches } => self.later(by, Event::Written(touches, Ok(()))),
            Change::TouchAndAsk { by, touch, asker } => {
                self.later(by, Event::Durable(touch, asker));
            }
            Change::EndIdle { by, sessions, alive } => self.later(by, Event::Ended(names(&sessions), Ok(alive))),
        }
    }

    /// Delivers one of the messages that wait for a shard, or lets the store answer one of its questions.
    fn deliver(&mut self, node: usize) {
        let waiting = self.nodes[node].inbox.len();
        if waiting == 0 {
            return;
        }
        let which = self.chance(waiting);
        self.take_up(node, which);
    }

    fn take_up(&mut self, node: usize, which: usize) {
        let (since, later) = self.nodes[node].inbox.swap_remove(which);
        match later {
            Later::Event(event) => self.happens(node, event),
            Later::Read { mut left, mut found } => match left.pop() {
                Some(name) => {
                    let stored = if self.chance(50) == 0 { Err(Failed) } else { Ok(self.rows.get(&name).cloned()) };
                    found.push(Reading { name, stored });
                    self.nodes[node].inbox.push((since, Later::Read { left, found }));
                }
                None => self.happens(node, Event::Read(found)),
            },
        }
    }

    fn ask(&mut self, node: usize, name: Name, is_over: bool, counts: bool) {
        self.asks.push(Ask { name, counts, is_over, answered: false, asked: self.time });
        self.happens(node, Event::Use(name, counts, self.asks.len() - 1));
    }

    /// Lets time pass, in steps so short that no write waits too long.
    fn pass(&mut self, mut time: Duration) {
        while !time.is_zero() {
            let step = time.min(Duration::from_secs(2));
            (self.time, time) = (self.time + step, time.saturating_sub(step));
            for node in 0..self.nodes.len() {
                self.happens(node, Event::Flush(1000));
            }
            let oldest = |world: &Self| world.waiting.front().map(|(since, _)| world.time.saturating_sub(*since));
            while oldest(self).is_some_and(|waited| waited > LONGEST_WAIT) || self.committing.is_some() {
                self.commit();
            }
            for node in 0..self.nodes.len() {
                let time = self.time;
                let late = |(since, _): &(Duration, Later)| time.saturating_sub(*since) > LONGEST_WAIT;
                while let Some(which) = self.nodes[node].inbox.iter().position(late) {
                    self.take_up(node, which);
                }
            }
        }
    }

    /// Ends a process and starts it again. Questions to it get no answer, and what it has not written is lost.
    fn restart(&mut self, node: usize) {
        // An orderly stop writes uses too.
        self.happens(node, Event::Written(Vec::new(), Ok(())));
        self.happens(node, Event::Flush(usize::MAX));
        while self.committing.is_some() || !self.waiting.is_empty() {
            self.commit();
        }
        let stored = self.rows.values().cloned().collect();
        let (position, now) = (self.feed.settled(), self.now(node));
        let state = State::new(ShardOf { index: 0, of: 1 }, policy(), position, stored, now);
        self.nodes[node].state = state;
        self.nodes[node].inbox.clear();
    }

    fn step(&mut self) {
        let node = self.chance(2);
        match self.chance(100) {
            0..30 => self.deliver(node),
            30..60 => self.commit(),
            60..85 if !self.opened.is_empty() => {
                // Mostly choose one of the newest, because old ones have ended.
                let back = self.chance(self.opened.len().min(6));
                let (name, is_over) = self.opened[self.opened.len() - 1 - back];
                let counts = self.chance(4) != 0;
                self.ask(node, name, is_over, counts);
            }
            85..88 => self.open(node),
            88..90 if !self.opened.is_empty() => {
                let back = self.chance(self.opened.len().min(6));
                let (name, _) = self.opened[self.opened.len() - 1 - back];
                self.waiting.push_back((self.time, Change::Logout(name)));
            }
            90 => {
                let account = AccountId::new(1 + self.chance(3) as u64).unwrap();
                self.waiting.push_back((self.time, Change::EndAll(account)));
            }
            91..93 => self.happens(node, Event::Sweep),
            93..95 => self.happens(node, Event::Flush(1000)),
            95..99 => {
                let longest = if self.chance(4) == 0 { 400 } else { 10 };
                let seconds = self.chance(longest) as u64;
                self.pass(Duration::from_secs(seconds));
            }
            99 if self.chance(20) == 0 => self.restart(node),
            _ => {}
        }
    }

    fn open(&mut self, node: usize) {
        let account = AccountId::new(1 + self.chance(3) as u64).unwrap();
        self.next_session += 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&self.next_session.to_be_bytes());
        let now = self.now(node).wall;
        let session = Session {
            id: SessionId::from_bytes(id),
            account,
            epoch: self.epochs[&account],
            created_at: now,
            authenticated_at: Some(now),
            expires_at: now.plus(policy().lifetime),
            last_active_at: now,
            address: None,
            user_agent: None,
            notified_at: None,
            label: None,
            remembered: false,
        };
        self.waiting.push_back((self.time, Change::Open { by: node, session }));
    }

    /// Finishes everything that is under way, and asks both shards about every session.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.commit();
            self.deliver(0);
            self.deliver(1);
        }
        let first = self.asks.len();
        for (name, is_over) in self.opened.clone() {
            for node in 0..2 {
                self.ask(node, name, is_over, false);
                for _ in 0..400 {
                    self.commit();
                    self.deliver(node);
                }
            }
        }
        assert!(self.asks[first..].iter().filter(|ask| !ask.answered).count() * 10 < self.asks.len() - first + 10);
    }
}

fn names(sessions: &[Session]) -> Vec<Name> {
    sessions.iter().map(|session| (session.account, session.id)).collect()
}

/// Runs the steps. Returns the violation, if any, and the number of steps before it.
fn run(seed: u64, without: Option<Protection>, steps: usize) -> Option<(usize, String)> {
    let mut world = World::new(seed, without);
    for step in 0..steps {
        world.step();
        if world.opened.len() > 64 {
            world.opened.drain(..32);
        }
        if let Some(wrong) = world.wrong.take() {
            return Some((step, wrong));
        }
    }
    let alive = world.told_alive.len();
    assert!(alive > steps / 1000, "the steps reach little: {alive} sessions were told alive");
    world.settle();
    world.wrong.take().map(|wrong| (steps, wrong))
}

#[test]
fn s37_nobody_is_told_alive_after_an_end_and_nothing_alive_is_ended() {
    for seed in 0..4 {
        assert_eq!(run(seed, None, STEPS), None, "seed {seed}");
    }
}

/// A protection whose removal causes no violation is not tested.
#[test]
fn each_protection_is_missed_when_it_is_taken_out() {
    for protection in [Protection::Feed, Protection::ConditionalEnd, Protection::Epoch, Protection::FreshRead] {
        let caught = (0..8).any(|seed| run_until_wrong(seed, Some(protection)));
        assert!(caught, "nobody misses {protection:?}");
    }
}

fn run_until_wrong(seed: u64, without: Option<Protection>) -> bool {
    let mut world = World::new(seed, without);
    (0..STEPS).any(|_| {
        world.step();
        if world.opened.len() > 64 {
            world.opened.drain(..32);
        }
        world.wrong.is_some()
    })
}
