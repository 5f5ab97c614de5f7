//! Quotas of requests: governor's algorithm over a table of our own, which can be searched and has an upper bound.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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
use crate::health::QuotaHealth;
use crate::ports::Clock;

/// The maximum number of keys with a quota of their own, of about 100 bytes each.
/// Beyond it, a new key shares a quota with its neighbours until some are removed.
const MAX_KEYS: usize = 1_000_000;

/// A number of requests in a period. The quota grows back evenly over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateQuota {
    /// The number of requests, which a client may make all at once.
    pub permits: NonZeroU32,
    /// The period in which that many grow back.
    pub per: Duration,
}

/// Adapts our monotonic clock to governor.
#[derive(Clone)]
pub(super) struct Monotonic(pub(super) Arc<dyn Clock>);

impl governor::clock::Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

/// The table of one quota. Each value is the time at which the whole quota is back, in nanoseconds since the start.
struct Table<K> {
    states: DashMap<K, InMemoryState>,
    /// The number of entries. Counting them would visit every part of the table.
    len: AtomicUsize,
}

/// A table that the limiter and its clean-up share.
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

/// Returns when the whole quota is back, in nanoseconds since the start. 0 if it was never used.
fn full_at(state: &InMemoryState) -> u64 {
    // Read the state through a measurement that is refused, so that it stays unchanged.
    let seen = state.measure_and_replace(&NotKeyed::NonKey, Err::<((), Nanos), _>);
    seen.err().flatten().map_or(0, Nanos::as_u64)
}

/// A key by which requests are counted.
pub(super) trait Key: Eq + Hash + Copy + Send + Sync + 'static {
    /// Returns the key that stands for this one and its neighbours when there are too many.
    fn coarser(self) -> Self;
}

impl Key for AccountId {
    /// Only a logged-in client has one, so there are never too many.
    fn coarser(self) -> Self {
        self
    }
}

impl Key for IpAddr {
    fn coarser(self) -> Self {
        coarser(self)
    }
}

/// One quota for each key.
pub(super) struct Keyed<K: Key> {
    policy: &'static str,
    rate: RateQuota,
    /// The time until one more request is allowed.
    period: Duration,
    clock: Monotonic,
    started: Duration,
    limiter: RateLimiter<K, Shared<K>, Monotonic, StateInformationMiddleware>,
    table: Arc<Table<K>>,
    refused: AtomicU64,
}

impl<K: Key> Keyed<K> {
    pub(super) fn new(policy: &'static str, rate: RateQuota, clock: Monotonic) -> Self {
        // One permit comes back every per/permits. If the rate is so high that this rounds to zero, it counts as a nanosecond.
        let period = (rate.per / rate.permits.get()).max(Duration::from_nanos(1));
        // `with_period` returns `None` only for a period of zero.
        let quota =
            Quota::with_period(period).map_or(Quota::per_second(rate.permits), |quota| quota.allow_burst(rate.permits));
        let table = Arc::new(Table { states: DashMap::new(), len: AtomicUsize::new(0) });
        let started = clock.now();
        let limiter = RateLimiter::new(quota, Shared(Arc::clone(&table)), clock.clone());
        Self { policy, rate, period, clock, started, limiter, table, refused: AtomicU64::new(0) }
    }

    /// Returns this quota if it has that rate already, else one that has counted no requests yet: times of another rate mean nothing
    /// to it. The count of refusals goes on.
    pub(super) fn at_rate(this: &Arc<Self>, rate: RateQuota) -> Arc<Self> {
        if this.rate == rate {
            return Arc::clone(this);
        }
        let mut fresh = Self::new(this.policy, rate, this.clock.clone());
        *fresh.refused.get_mut() = this.refused.load(Ordering::Relaxed);
        Arc::new(fresh)
    }

    /// Counts a request and returns the state of the quota after it.
    pub(super) fn check(&self, key: K) -> Result<Standing, Limited> {
        let crowded = self.len() >= MAX_KEYS && !self.table.states.contains_key(&key);
        let key = if crowded { key.coarser() } else { key };
        match self.limiter.check_key(&key) {
            Ok(snapshot) => Ok(self.standing(snapshot.remaining_burst_capacity())),
            Err(not_until) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
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

    /// Returns whether anything is counted for a key.
    pub(super) fn has(&self, key: K) -> bool {
        self.table.states.contains_key(&key)
    }

    /// Gives a key its whole quota back.
    pub(super) fn forget(&self, key: K) {
        if self.table.states.remove(&key).is_some() {
            self.table.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Removes the keys that have their whole quota again.
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

    /// Returns what this quota reports.
    pub(super) fn health(&self) -> QuotaHealth {
        QuotaHealth { policy: self.policy, keys: self.len(), refused: self.refused.load(Ordering::Relaxed) }
    }

    /// Returns the number of keys in the table.
    pub(super) fn len(&self) -> usize {
        self.table.len.load(Ordering::Relaxed)
    }

    /// Visits every key that has used some of its quota, with the state of that quota.
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
