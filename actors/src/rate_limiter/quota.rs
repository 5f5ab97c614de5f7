//! Allowances of requests: governor's algorithm over a table of our own, which can be looked through and has an upper bound.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use governor::clock::Clock as _;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use super::{Limited, Standing};
use crate::domain::account::AccountId;
use crate::domain::network::coarser;
use crate::ports::Clock;

/// How many clients are told apart at once; further ones share an allowance with their neighbours until some are forgotten.
/// About 100 bytes each.
const MAX_KEYS: usize = 1_000_000;

/// A number of requests within a time; the allowance grows back evenly over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateQuota {
    /// How many requests, all at once if the client likes.
    pub permits: NonZeroU32,
    /// The time in which that many come back.
    pub per: Duration,
}

/// Governor's view of our monotonic clock.
#[derive(Clone)]
pub(super) struct Monotonic(pub(super) Arc<dyn Clock>);

impl governor::clock::Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

/// The table of one allowance. Each value is the time at which the whole allowance will be back, in nanoseconds since the start.
struct Table<K> {
    states: DashMap<K, InMemoryState>,
    /// How many there are; counting them would visit every part of the table.
    len: AtomicUsize,
}

/// A table that the limiter and its upkeep share.
struct Shared<K>(Arc<Table<K>>);

impl<K: Key> StateStore for Shared<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Table { states, len } = &*self.0;
        if let Some(state) = states.get(key) {
            return state.measure_and_replace(&NotKeyed::NonKey, f);
        }
        let state = match states.entry(*key) {
            Entry::Occupied(occupied) => occupied.into_ref(),
            Entry::Vacant(vacant) => {
                len.fetch_add(1, Ordering::Relaxed);
                vacant.insert(InMemoryState::default())
            }
        };
        state.measure_and_replace(&NotKeyed::NonKey, f)
    }
}

/// When the whole allowance will be back, in nanoseconds since the start; 0 if it was never used.
fn full_at(state: &InMemoryState) -> u64 {
    // Looked at through a measurement that is refused, which changes nothing.
    let seen = state.measure_and_replace(&NotKeyed::NonKey, Err::<((), Nanos), _>);
    seen.err().flatten().map_or(0, Nanos::as_u64)
}

/// By what requests are counted.
pub(super) trait Key: Eq + Hash + Copy + Send + Sync + 'static {
    /// Which key stands for this one and its neighbours when there are too many.
    fn coarser(self) -> Self;
}

impl Key for AccountId {
    /// Only who is logged in has one, so there are never too many.
    fn coarser(self) -> Self {
        self
    }
}

impl Key for IpAddr {
    fn coarser(self) -> Self {
        coarser(self)
    }
}

/// One allowance for each key.
pub(super) struct Keyed<K: Key> {
    policy: &'static str,
    rate: RateQuota,
    /// How long it takes until one request is allowed again.
    period: Duration,
    clock: Monotonic,
    started: Duration,
    limiter: RateLimiter<K, Shared<K>, Monotonic, StateInformationMiddleware>,
    table: Arc<Table<K>>,
}

impl<K: Key> Keyed<K> {
    pub(super) fn new(policy: &'static str, rate: RateQuota, clock: Monotonic) -> Self {
        // One permit comes back every per/permits; a rate so high that this is nothing counts as a nanosecond.
        let period = (rate.per / rate.permits.get()).max(Duration::from_nanos(1));
        // Only a period of zero has no quota.
        let quota =
            Quota::with_period(period).map_or(Quota::per_second(rate.permits), |quota| quota.allow_burst(rate.permits));
        let table = Arc::new(Table { states: DashMap::new(), len: AtomicUsize::new(0) });
        let started = clock.now();
        let limiter = RateLimiter::new(quota, Shared(Arc::clone(&table)), clock.clone());
        Self { policy, rate, period, clock, started, limiter, table }
    }

    /// Counts a request and says how the allowance stands after it.
    pub(super) fn check(&self, key: K) -> Result<Standing, Limited> {
        let crowded = self.len() >= MAX_KEYS && !self.table.states.contains_key(&key);
        let key = if crowded { key.coarser() } else { key };
        match self.limiter.check_key(&key) {
            Ok(snapshot) => Ok(self.standing(snapshot.remaining_burst_capacity())),
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                Err(Limited::new(self.policy, self.rate.permits.get(), self.rate.per, wait))
            }
        }
    }

    fn standing(&self, remaining: u32) -> Standing {
        let quota = self.rate.permits.get();
        let reset = self.period.saturating_mul(quota.saturating_sub(remaining));
        Standing { policy: self.policy, quota, window: self.rate.per, remaining, reset }
    }

    /// Whether anything is counted by a key.
    pub(super) fn has(&self, key: K) -> bool {
        self.table.states.contains_key(&key)
    }

    /// Gives a key its whole allowance back.
    pub(super) fn forget(&self, key: K) {
        if self.table.states.remove(&key).is_some() {
            self.table.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets who has the whole allowance again.
    pub(super) fn prune(&self) {
        let now = self.now();
        let Table { states, len } = &*self.table;
        states.retain(|_, state| {
            let used = full_at(state) > now;
            if !used {
                len.fetch_sub(1, Ordering::Relaxed);
            }
            used
        });
        states.shrink_to_fit();
    }

    /// How many keys are told apart.
    pub(super) fn len(&self) -> usize {
        self.table.len.load(Ordering::Relaxed)
    }

    /// Shows every key that used some of its allowance, and how it stands.
    pub(super) fn visit(&self, mut show: impl FnMut(K, Standing)) {
        let now = self.now();
        let period = u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX).max(1);
        for entry in &self.table.states {
            let used = full_at(entry.value()).saturating_sub(now).div_ceil(period);
            if used > 0 {
                let used = u32::try_from(used).unwrap_or(u32::MAX);
                show(*entry.key(), self.standing(self.rate.permits.get().saturating_sub(used)));
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().saturating_sub(self.started).as_nanos()).unwrap_or(u64::MAX)
    }
}
