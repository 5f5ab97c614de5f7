//! How often one client may ask: per address where nobody is logged in, per account where somebody is.
//!
//! The check itself is a look at governor's shared state behind the handle, with no mailbox on the way. The actor owns the
//! upkeep: governor never forgets a key by itself.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::domain::account::AccountId;
use crate::domain::session::network_of;
use crate::ports::Clock;
use crate::process::{Mailbox, Process, Timer, every};

/// How often keys that are back at their full allowance are forgotten.
const PRUNE_PERIOD: Duration = Duration::from_mins(1);

/// A number of requests within a time; the allowance grows back evenly over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateQuota {
    /// How many requests, all at once if the client likes.
    pub permits: NonZeroU32,
    /// The time in which that many come back.
    pub per: Duration,
}

/// The quotas of the established interface.
#[derive(Debug, Clone, Copy)]
pub struct RateLimits {
    /// Per client address, on public routes.
    pub public: RateQuota,
    /// Per account, on bearer routes.
    pub private: RateQuota,
}

/// The client has used up its allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    /// When the next request is allowed; at least a second.
    pub retry_after: Duration,
}

/// Governor's view of our monotonic clock.
#[derive(Clone)]
struct Monotonic(Arc<dyn Clock>);

impl governor::clock::Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

type Keyed<K> = RateLimiter<K, DashMapStateStore<K>, Monotonic, NoOpMiddleware<Duration>>;

/// Answers at once whether a request is allowed, and counts it if it is.
#[derive(Clone)]
pub struct RateLimiterHandle {
    limiters: Arc<Limiters>,
}

struct Limiters {
    clock: Monotonic,
    public: Keyed<IpAddr>,
    private: Keyed<AccountId>,
}

impl RateLimiterHandle {
    pub(crate) fn new(limits: RateLimits, clock: Arc<dyn Clock>) -> Self {
        let clock = Monotonic(clock);
        Self {
            limiters: Arc::new(Limiters {
                public: RateLimiter::dashmap_with_clock(quota(limits.public), clock.clone()),
                private: RateLimiter::dashmap_with_clock(quota(limits.private), clock.clone()),
                clock,
            }),
        }
    }

    /// Counts a request to a public route from this address.
    pub fn check_public(&self, client: IpAddr) -> Result<(), Limited> {
        self.limiters.public.check_key(&network_of(client)).map_err(|not_until| self.limited(&not_until))
    }

    /// Counts a request of this account to a bearer route.
    pub fn check_private(&self, account: AccountId) -> Result<(), Limited> {
        self.limiters.private.check_key(&account).map_err(|not_until| self.limited(&not_until))
    }

    fn limited(&self, not_until: &governor::NotUntil<Duration>) -> Limited {
        let wait = not_until.wait_time_from(self.limiters.clock.now());
        Limited { retry_after: wait.max(Duration::from_secs(1)) }
    }
}

fn quota(rate: RateQuota) -> Quota {
    // One permit comes back every per/permits; a rate so high that this is nothing counts as a nanosecond.
    let period = (rate.per / rate.permits.get()).max(Duration::from_nanos(1));
    // Only a period of zero has no quota.
    Quota::with_period(period).map_or(Quota::per_second(rate.permits), |quota| quota.allow_burst(rate.permits))
}

pub(crate) enum Message {
    /// Forget who has not asked lately. Sent by a timer.
    Prune,
}

/// Keeps the limiter's memory to the clients of the last while.
pub(crate) struct RateLimiterActor {
    pub(crate) handle: RateLimiterHandle,
}

impl Process for RateLimiterActor {
    type Message = Message;
    type State = Timer;

    async fn start(&self, mailbox: &Arc<Mailbox<Message>>) -> Result<Timer, String> {
        Ok(every(PRUNE_PERIOD, mailbox, || Message::Prune))
    }

    async fn handle(&self, _: &mut Timer, Message::Prune: Message) -> Result<(), String> {
        let limiters = &self.handle.limiters;
        limiters.public.retain_recent();
        limiters.public.shrink_to_fit();
        limiters.private.retain_recent();
        limiters.private.shrink_to_fit();
        Ok(())
    }
}
