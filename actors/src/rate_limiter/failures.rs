//! The counters of failed attempts of this process, and which of them have yet to be stored.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::watch;

use super::Limited;
use super::quota::Key as _;
use crate::domain::account::AccountId;
use crate::domain::failures::{FailureKey, FailureRule, FailureScope, Failures, Moment, StoredFailures, SubjectKey};
use crate::ports::Clock;

/// How many counters there are at most, of about 100 bytes each. Each costs whoever makes it a password hash or a request that
/// counts, and one failure is forgotten within the hour. Beyond it, new ones are shared until there is room again.
const MAX_COUNTERS: usize = 1_000_000;

/// How many counters are written at a time at most, so that nobody waits for a storm of guesses to be written.
pub(super) const WRITE_AT_ONCE: usize = 8192;
/// From how many failures on a counter is written. One alone is worth less than its row: a restart gives back one guess.
const WORTH_WRITING: u32 = 2;

/// A counter with what goes with it: 32 bytes, as there may be a million of them.
#[derive(Debug, Clone, Copy)]
struct Counter {
    last: Moment,
    forgotten_at: Moment,
    account: Option<AccountId>,
    count: u32,
    /// Whether it stands in [`FailureCounters::changed`].
    changed: bool,
    /// Whether the store has, or may have, a row of it.
    stored: bool,
}

impl Counter {
    fn new(failures: Failures, account: Option<AccountId>, stored: bool) -> Self {
        let (count, last, forgotten_at) = failures.parts();
        Self { last, forgotten_at, account, count, changed: false, stored }
    }

    fn failures(&self) -> Failures {
        Failures::from_parts(self.count, self.last, self.forgotten_at)
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut Failures) -> R) -> R {
        let mut failures = self.failures();
        let outcome = change(&mut failures);
        (self.count, self.last, self.forgotten_at) = failures.parts();
        outcome
    }
}

/// Where an attempt was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    key: FailureKey,
    /// Whether others are counted there, too, because there are too many counters.
    shared: bool,
}

/// The attempts that are counted in one counter and whose outcome is not known yet.
struct UnderWay {
    count: u32,
    /// Sends when one of them turns out to be no failure; closed when the last one has its outcome.
    outcomes: watch::Sender<()>,
}

/// An attempt is not let in.
#[derive(Debug)]
pub(super) struct Busy {
    pub(super) limited: Limited,
    /// When to ask again: set while an attempt under way may still turn out to be no failure.
    pub(super) outcomes: Option<watch::Receiver<()>>,
}

/// A counter as it is shown.
pub(super) struct CounterView {
    pub(super) key: FailureKey,
    pub(super) account: Option<AccountId>,
    pub(super) count: u32,
    pub(super) allowance: u32,
    pub(super) wait: Duration,
}

pub(super) struct FailureCounters {
    account: FailureRule,
    address: FailureRule,
    clock: Arc<dyn Clock>,
    counters: DashMap<FailureKey, Counter>,
    /// Locked after the entry of `counters` where both are needed.
    under_way: DashMap<FailureKey, UnderWay>,
    len: AtomicUsize,
    /// The counters that differ from what is stored, in the order in which they began to; each stands here once.
    changed: Mutex<VecDeque<FailureKey>>,
    /// How many counters there are at most.
    most: usize,
    /// Whether what was stored before this process began is in here.
    pub(super) loaded: AtomicBool,
}

impl FailureCounters {
    pub(super) fn new(account: FailureRule, address: FailureRule, clock: Arc<dyn Clock>) -> Self {
        Self {
            account,
            address,
            clock,
            counters: DashMap::new(),
            under_way: DashMap::new(),
            len: AtomicUsize::new(0),
            changed: Mutex::default(),
            most: MAX_COUNTERS,
            loaded: AtomicBool::new(false),
        }
    }

    /// Lets an attempt in and counts it as failed until it is taken back; the answer is the counter that it counts in. Its
    /// outcome is to be told by [`failed`](Self::failed), [`take_back`](Self::take_back) or [`start_anew`](Self::start_anew).
    pub(super) fn attempt(&self, key: FailureKey, account: Option<AccountId>) -> Result<Counted, Busy> {
        let rule = self.rule(key);
        let now = self.now();
        let shared = self.len() >= self.most && !self.counters.contains_key(&key);
        let (key, account) = if shared { (coarser(key), None) } else { (key, account) };
        let mut entry = match self.counters.entry(key) {
            Entry::Occupied(occupied) => occupied.into_ref(),
            Entry::Vacant(vacant) => {
                self.len.fetch_add(1, Ordering::Relaxed);
                vacant.insert(Counter::new(Failures::NONE, account, false))
            }
        };
        let counter = entry.value_mut();
        counter.account = account.or(counter.account);
        if let Err(wait) = counter.change(|failures| failures.attempt(rule, now)) {
            let window = rule.forget.saturating_mul(rule.allowance);
            let limited = Limited::new(key.kind.as_str(), rule.allowance, window, wait);
            let outcomes = self.under_way.get(&key).map(|under_way| under_way.outcomes.subscribe());
            return Err(Busy { limited, outcomes });
        }
        let begun = || UnderWay { count: 0, outcomes: watch::Sender::new(()) };
        self.under_way.entry(key).or_insert_with(begun).count += 1;
        self.note_change(key, counter);
        Ok(Counted { key, shared })
    }

    /// Has a counter written soon, if it is worth it.
    fn note_change(&self, key: FailureKey, counter: &mut Counter) {
        let worth = counter.stored || counter.count >= WORTH_WRITING;
        if worth && !std::mem::replace(&mut counter.changed, true) {
            self.mark(key);
        }
    }

    /// An attempt failed, as it was counted.
    pub(super) fn failed(&self, Counted { key, .. }: Counted) {
        self.leave(key, false);
    }

    /// Takes an attempt back: it succeeded, or was never made.
    pub(super) fn take_back(&self, Counted { key, .. }: Counted) {
        if let Some(mut counter) = self.counters.get_mut(&key) {
            counter.change(Failures::take_back);
            self.note_change(key, &mut counter);
        }
        self.leave(key, true);
    }

    /// Forgets what was failed before an attempt that succeeded. What others failed is not forgotten with it.
    pub(super) fn start_anew(&self, counted: Counted) {
        if counted.shared {
            self.take_back(counted);
        } else {
            self.forget_all_but(counted.key, |under_way| under_way.saturating_sub(1));
            self.leave(counted.key, true);
        }
    }

    /// Forgets all failures of a counter; false if there was none. Attempts under way stay counted until their outcome is known.
    pub(super) fn forget(&self, key: FailureKey) -> bool {
        let forgotten = self.forget_all_but(key, |under_way| under_way);
        if let Some(under_way) = self.under_way.get(&key) {
            under_way.outcomes.send_replace(());
        }
        forgotten
    }

    /// Leaves so many of the attempts counted, by how many are under way.
    fn forget_all_but(&self, key: FailureKey, left: impl FnOnce(u32) -> u32) -> bool {
        let Entry::Occupied(mut entry) = self.counters.entry(key) else { return false };
        let left = left(self.under_way.get(&key).map_or(0, |under_way| under_way.count));
        if left > 0 {
            let now = self.now();
            let counter = entry.get_mut();
            (counter.count, counter.last, counter.forgotten_at) = Failures::under_way(left, now).parts();
            self.note_change(key, counter);
            return true;
        }
        let counter = entry.remove();
        self.len.fetch_sub(1, Ordering::Relaxed);
        if counter.stored && !counter.changed {
            self.mark(key);
        }
        true
    }

    /// An attempt has its outcome. `tell` if it makes room for another.
    fn leave(&self, key: FailureKey, tell: bool) {
        let Entry::Occupied(mut entry) = self.under_way.entry(key) else { return };
        let under_way = entry.get_mut();
        under_way.count = under_way.count.saturating_sub(1);
        if under_way.count == 0 {
            entry.remove();
        } else if tell {
            under_way.outcomes.send_replace(());
        }
    }

    /// The account that a counter is about, if it exists.
    pub(super) fn account_of(&self, key: FailureKey) -> Option<AccountId> {
        self.counters.get(&key)?.account
    }

    /// Takes in what a process before this one stored. What happened since this one began counts more.
    pub(super) fn load(&self, stored: Vec<(FailureKey, StoredFailures)>) {
        let (wall, now) = (self.clock.now(), self.now());
        for (key, stored) in stored {
            if let Entry::Vacant(vacant) = self.counters.entry(key) {
                let failures = Failures::restore(&stored, wall, now);
                vacant.insert(Counter::new(failures, stored.account, true));
                self.len.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.loaded.store(true, Ordering::Release);
    }

    /// Counters that changed, at most so many, those that wait for longest first, each as it is to be stored; `None` for one
    /// to be deleted.
    pub(super) fn take_changed(&self, limit: usize) -> Vec<(FailureKey, Option<StoredFailures>)> {
        let changed = {
            let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
            let most = limit.min(changed.len());
            let taken: Vec<_> = changed.drain(..most).collect();
            if changed.is_empty() {
                changed.shrink_to_fit();
            }
            taken
        };
        let (wall, now) = (self.clock.now(), self.now());
        let to_store = |key: FailureKey| {
            let stored = self.counters.get_mut(&key).map(|mut counter| {
                counter.changed = false;
                counter.stored = true;
                counter.failures().stored(counter.account, wall, now)
            });
            (key, stored.filter(|stored| stored.count >= WORTH_WRITING))
        };
        changed.into_iter().map(to_store).collect()
    }

    /// These are not stored after all, and wait for longest.
    pub(super) fn give_back(&self, keys: impl DoubleEndedIterator<Item = FailureKey>) {
        for key in keys.rev() {
            let waits = self.counters.get_mut(&key).is_some_and(|mut of| std::mem::replace(&mut of.changed, true));
            if !waits {
                self.changed.lock().unwrap_or_else(PoisonError::into_inner).push_front(key);
            }
        }
    }

    /// Drops the counters that nothing is left of, and more where there are nearly as many as there may be: those with the fewest
    /// failures first.
    pub(super) fn prune(&self) {
        let now = self.now();
        self.drop_where(|failures, rule| failures.is_forgotten(rule, now));
        let most = self.account.allowance.max(self.address.allowance);
        for count in 1..=most {
            let excess = Cell::new(self.len().saturating_sub(self.most / 10 * 9));
            if excess.get() == 0 {
                break;
            }
            self.drop_where(|failures, rule| {
                let drops =
                    excess.get() > 0 && failures.count(rule, now) <= count && failures.wait(rule, now).is_zero();
                excess.set(excess.get() - usize::from(drops));
                drops
            });
        }
        self.counters.shrink_to_fit();
    }

    fn drop_where(&self, drops: impl Fn(&Failures, FailureRule) -> bool) {
        let mut dropped: Vec<FailureKey> = Vec::new();
        self.counters.retain(|key, counter| {
            let drops = drops(&counter.failures(), self.rule(*key)) && !self.under_way.contains_key(key);
            if drops {
                self.len.fetch_sub(1, Ordering::Relaxed);
                if counter.stored && !counter.changed {
                    dropped.push(*key);
                }
            }
            !drops
        });
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).extend(dropped);
    }

    /// Shows every counter that something is left of.
    pub(super) fn visit(&self, mut show: impl FnMut(CounterView)) {
        let now = self.now();
        for entry in &self.counters {
            let (key, counter) = (*entry.key(), entry.value());
            let rule = self.rule(key);
            if !counter.failures().is_forgotten(rule, now) {
                show(CounterView {
                    key,
                    account: counter.account,
                    count: counter.failures().count(rule, now),
                    allowance: rule.allowance,
                    wait: counter.failures().wait(rule, now),
                });
            }
        }
    }

    /// How many counters there are.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn rule(&self, key: FailureKey) -> FailureRule {
        match key.scope {
            FailureScope::Address(_) => self.address,
            FailureScope::Account(_) | FailureScope::Known(..) => self.account,
        }
    }

    fn mark(&self, key: FailureKey) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).push_back(key);
    }

    fn now(&self) -> Moment {
        Moment::try_from(self.clock.monotonic().as_millis()).unwrap_or(Moment::MAX)
    }
}

/// The counter that stands for this one and its neighbours when there are too many.
fn coarser(key: FailureKey) -> FailureKey {
    let subject = |subject: SubjectKey| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&subject.as_bytes()[..2]);
        SubjectKey::from_bytes(bytes)
    };
    let scope = match key.scope {
        FailureScope::Account(of) => FailureScope::Account(subject(of)),
        FailureScope::Address(address) => FailureScope::Address(IpAddr::coarser(address)),
        FailureScope::Known(of, address) => FailureScope::Known(subject(of), IpAddr::coarser(address)),
    };
    FailureKey { scope, ..key }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::email::Email;
    use crate::domain::failures::Guarded;
    use crate::domain::time::Timestamp;

    /// A clock that stands still.
    #[derive(Debug)]
    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    const RULE: FailureRule = FailureRule { allowance: 5, forget: Duration::from_hours(1) };

    fn counters(most: usize) -> FailureCounters {
        FailureCounters { most, ..FailureCounters::new(RULE, RULE, Arc::new(Still)) }
    }

    fn login(email: &str) -> FailureKey {
        let subject = SubjectKey::of(Email::parse(email).unwrap().key());
        FailureKey { kind: Guarded::Login, scope: FailureScope::Account(subject) }
    }

    #[test]
    fn what_waits_for_longest_is_written_first() {
        let counters = counters(100);
        let keys: Vec<_> = (0..5).map(|n| login(&format!("user{n}@example.com"))).collect();
        for key in keys.iter().chain(&keys) {
            counters.attempt(*key, None).unwrap();
        }
        let written = |limit| counters.take_changed(limit).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(written(2), keys[..2]);
        counters.attempt(keys[0], None).unwrap();
        assert_eq!(written(2), keys[2..4]);
        counters.give_back(keys[2..4].iter().copied());
        assert_eq!(written(9), [keys[2], keys[3], keys[4], keys[0]]);
    }

    #[test]
    fn s19_a_success_forgives_nobody_else_where_a_counter_is_shared() {
        let counters = counters(1);
        let first = counters.attempt(login("first@example.com"), None).unwrap();
        // Both share a counter with whoever begins with the same bits, as there is no room for more.
        let mine = counters.attempt(login("mine@example.com"), None).unwrap();
        assert!(!first.shared && mine.shared);
        for _ in 0..3 {
            counters.attempt(login("mine@example.com"), None).unwrap();
        }
        counters.start_anew(mine);
        let of_the_shared = counters.counters.get(&mine.key).map(|counter| counter.count);
        assert_eq!(of_the_shared, Some(3), "its own attempt, and no other");
        counters.start_anew(first);
        assert!(!counters.counters.contains_key(&first.key));
    }

    #[test]
    fn r08_a_counter_is_small() {
        assert_eq!(size_of::<Counter>(), 32);
        assert!(size_of::<(FailureKey, Counter)>() <= 72);
    }
}
