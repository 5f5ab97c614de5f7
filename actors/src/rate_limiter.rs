//! Rate limits for requests and for failed attempts.
//!
//! This process counts requests: per client address without a login, and per account with one.
//! The store counts failed attempts per account and per address, so that all nodes share one quota.
//! An attempt is counted before its hash is computed. The actor removes counters that no longer have an effect.

mod actor;
mod attempt;
mod listing;
mod quota;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

#[cfg(feature = "testing")]
pub(crate) use actor::Message;
pub(crate) use actor::RateLimiterActor;
pub(crate) use attempt::Attempt;
use attempt::{Counters, MAX_WAITING};
pub use listing::{LimitFilter, LimitKey, LimitView, LimitViews};
pub use quota::RateQuota;

use crate::ask::Unavailable;
use crate::domain::account::AccountId;
use crate::domain::email::EmailKey;
use crate::domain::failures::{FailureKey, FailureRule, FailureRules, FailureScope, ProtectedResource, SubjectKey};
use crate::domain::network::ClientNetworks;
use crate::domain::outbox::{OTHERS_A_DAY, until_tomorrow};
use crate::domain::time::Timestamp;
use crate::health::LimiterHealth;
use crate::ports::Clock;
use crate::store::{Store, StoreFailure};
use quota::{Keyed, Monotonic};

/// The `Retry-After` for a client on the list of refused networks.
const REFUSED_FOR: Duration = Duration::from_hours(1);
/// How long it takes to forget one failure of an account. It exceeds the longest wait, so that persistent guessing gets at most one
/// guess an hour.
const ACCOUNT_FORGETS: Duration = Duration::from_hours(2);
/// How long it takes to forget one failure of an address. Many people may share an address, and waits must still grow.
const ADDRESS_FORGETS: Duration = Duration::from_mins(10);

/// The maximum number of requests per client address for the documentation and its files in [`DOCS_PER`].
/// A view of the page takes nine requests.
const DOCS_PERMITS: NonZeroU32 = NonZeroU32::MIN.saturating_add(299);
const DOCS_PER: Duration = Duration::from_mins(10);
/// The maximum number of counters of failed attempts, of about 100 bytes each.
/// Creating one costs the client a password hash or a request that counts, and one failure is forgotten within hours.
/// Beyond the maximum, a new counter is shared with its neighbours.
const MAX_COUNTERS: usize = 1_000_000;
/// How long after a recovery the account's owner may attempt logins from the same network despite failures of other accounts there.
const RECOVERED_FOR: Duration = Duration::from_mins(10);

/// The limits.
#[derive(Debug, Clone)]
pub struct RateLimits {
    /// Requests per client address, on public routes.
    pub public: RateQuota,
    /// Requests per account, on bearer routes.
    pub private: RateQuota,
    /// How many failed attempts an account allows before it delays unknown clients with growing waits,
    /// and as many again for each address from which its owner has logged in (`LOGIN_FAILURES`). At least 1.
    pub account_failures: u32,
    /// How many failed attempts an address has over all accounts before it waits (`ADDRESS_FAILURES`), at least 1.
    pub address_failures: u32,
    /// Which addresses form one client, which are not counted, and which are refused.
    pub networks: ClientNetworks,
}

/// The state of a quota, as the `RateLimit` and `RateLimit-Policy` header fields report it (IETF draft on rate limit header
/// fields).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The name of the quota.
    pub policy: &'static str,
    /// The size of the quota.
    pub quota: u32,
    /// The time in which the whole quota grows back.
    pub window: Duration,
    /// How much of the quota is left.
    pub remaining: u32,
    /// When the whole quota is back. If nothing is left, when some of it is back.
    pub reset: Duration,
}

/// The client has used up its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    /// When the next request is allowed, at least a second.
    pub retry_after: Duration,
    /// The state of the quota.
    pub standing: Standing,
}

impl Limited {
    /// Creates the refusal for too many mails about changes of address. The counts start again at midnight, UTC.
    pub(crate) fn of_mails(now: Timestamp) -> Self {
        Self::new(ProtectedResource::Mail.as_str(), OTHERS_A_DAY, Duration::from_hours(24), until_tomorrow(now))
    }

    fn new(policy: &'static str, quota: u32, window: Duration, wait: Duration) -> Self {
        let retry_after = wait.max(Duration::from_secs(1));
        Self { retry_after, standing: Standing { policy, quota, window, remaining: 0, reset: retry_after } }
    }
}

/// Decides whether a request or an attempt is allowed, and counts it if it is. Answers without a mailbox.
#[derive(Clone)]
pub struct RateLimiterHandle {
    limiters: Arc<Limiters>,
}

/// How attempts and clocks are timed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptTiming {
    /// How long the outcome of an attempt may take. Then it counts as failed, as its process must have ended.
    pub(crate) lasts: Duration,
    /// The maximum difference of the clocks of nodes.
    pub(crate) clock_skew: Duration,
}

/// How much longer than a hash an attempt may take: its commits.
pub(crate) const AFTER_HASH: Duration = Duration::from_secs(5);

struct Limiters {
    clock: Arc<dyn Clock>,
    /// The limits of the operator, which a reload replaces.
    current: ArcSwap<Current>,
    docs: Keyed<IpAddr>,
    store: Store,
    /// The wall clock at the start, and the monotonic clock then. Setting the wall clock while the process runs changes no wait.
    began: (Timestamp, Duration),
    timing: AttemptTiming,
    /// The number of counters of failed attempts. Counters that other nodes add are included at the next look.
    rows: AtomicUsize,
    /// Signals that an attempt of this process ended.
    outcomes: watch::Sender<()>,
    /// The commits that store how attempts ended.
    endings: TaskTracker,
    runtime: Handle,
    /// The places for attempts that wait for the outcome of others.
    waiting: Arc<Semaphore>,
    /// The accounts that were recovered recently, each with its network and time. Creating an entry costs the client two hashes.
    recovered: DashMap<(SubjectKey, IpAddr), Duration>,
}

/// The limits in force, with the counters of the quotas that they set.
struct Current {
    networks: ClientNetworks,
    public: Arc<Keyed<IpAddr>>,
    private: Arc<Keyed<AccountId>>,
    rules: FailureRules,
}

impl Limiters {
    /// Returns the limits in force.
    fn current(&self) -> Guard<Arc<Current>> {
        self.current.load()
    }

    /// Returns whether the account was recovered from this network recently.
    fn was_recovered(&self, subject: SubjectKey, network: IpAddr) -> bool {
        let at = self.recovered.get(&(subject, network)).map(|at| *at);
        at.is_some_and(|at| self.clock.monotonic().saturating_sub(at) < RECOVERED_FOR)
    }

    /// Returns the time by which failed attempts are counted.
    fn now(&self) -> Timestamp {
        let (wall, monotonic) = self.began;
        wall.plus(self.clock.monotonic().saturating_sub(monotonic))
    }

    /// Returns whether a new counter must be shared with its neighbours.
    fn is_full(&self) -> bool {
        self.rows.load(Ordering::Relaxed) >= MAX_COUNTERS
    }

    /// Removes what this process remembers and no longer has an effect.
    fn forget(&self) {
        let current = self.current();
        current.public.prune();
        self.docs.prune();
        current.private.prune();
        let now = self.clock.monotonic();
        self.recovered.retain(|_, at| now.saturating_sub(*at) < RECOVERED_FOR);
    }
}

/// The names of the quotas of requests.
const PUBLIC: &str = "public";
const DOCS: &str = "docs";
const PRIVATE: &str = "private";
const DENIED: &str = "denied";

impl RateLimiterHandle {
    pub(crate) fn new(limits: RateLimits, timing: AttemptTiming, clock: &Arc<dyn Clock>, store: Store) -> Self {
        let monotonic = Monotonic(Arc::clone(clock));
        let current = Current {
            rules: rules_of(&limits),
            networks: limits.networks,
            public: Arc::new(Keyed::new(PUBLIC, limits.public, monotonic.clone())),
            private: Arc::new(Keyed::new(PRIVATE, limits.private, monotonic.clone())),
        };
        Self {
            limiters: Arc::new(Limiters {
                clock: Arc::clone(clock),
                current: ArcSwap::from_pointee(current),
                docs: Keyed::new(DOCS, RateQuota { permits: DOCS_PERMITS, per: DOCS_PER }, monotonic),
                store,
                began: (clock.now(), clock.monotonic()),
                timing,
                rows: AtomicUsize::new(0),
                outcomes: watch::Sender::new(()),
                endings: TaskTracker::new(),
                runtime: Handle::current(),
                waiting: Arc::new(Semaphore::new(MAX_WAITING)),
                recovered: DashMap::new(),
            }),
        }
    }

    /// Replaces the limits. A quota that changes begins with no requests counted. Failed attempts stay counted. The length of the IPv6
    /// prefix stays: counters are kept under it.
    pub fn replace(&self, limits: RateLimits) {
        let current = self.limiters.current();
        let ipv6_prefix = current.networks.ipv6_prefix;
        self.limiters.current.store(Arc::new(Current {
            rules: rules_of(&limits),
            networks: ClientNetworks { ipv6_prefix, ..limits.networks },
            public: Keyed::at_rate(&current.public, limits.public),
            private: Keyed::at_rate(&current.private, limits.private),
        }));
        // Attempts that wait for others under way may now be allowed.
        self.limiters.outcomes.send_replace(());
    }

    /// Counts a request to a public route from this address. Returns the state of the quota if the address is counted.
    pub fn check_public(&self, client: IpAddr) -> Result<Option<Standing>, Limited> {
        self.check_client(&self.limiters.current().public, client)
    }

    /// Counts a request to the documentation, which has a quota of its own.
    pub fn check_docs(&self, client: IpAddr) -> Result<Option<Standing>, Limited> {
        self.check_client(&self.limiters.docs, client)
    }

    fn check_client(&self, keyed: &Keyed<IpAddr>, client: IpAddr) -> Result<Option<Standing>, Limited> {
        let networks = &self.limiters.current().networks;
        if networks.allows(client) {
            return Ok(None);
        }
        keyed.check(networks.of(client)).map(Some)
    }

    /// Counts a request of this account to a bearer route.
    pub fn check_private(&self, account: AccountId) -> Result<Standing, Limited> {
        self.limiters.current().private.check(account)
    }

    /// Fails if this address is on the list of refused networks.
    pub fn check_denied(&self, client: IpAddr) -> Result<(), Limited> {
        if self.limiters.current().networks.denies(client) {
            return Err(Limited::new(DENIED, 0, REFUSED_FOR, REFUSED_FOR));
        }
        Ok(())
    }

    /// Returns the health report of the rate limiter.
    pub(crate) fn health(&self) -> LimiterHealth {
        let Limiters { docs, rows, .. } = &*self.limiters;
        let current = self.limiters.current();
        let quotas = [current.public.health(), docs.health(), current.private.health()];
        LimiterHealth { quotas, failures: rows.load(Ordering::Relaxed) }
    }

    /// Counts a wrong guess of a secret that belongs to no account, by address only. The secret is too long to be guessed.
    /// The count limits the load of guesses.
    pub async fn count_failure(
        &self,
        kind: ProtectedResource,
        client: IpAddr,
    ) -> Result<Result<(), Limited>, Unavailable> {
        Ok(self.count(kind, None, Some(client)).await?)
    }

    /// Counts an attempt that has already failed, or refuses it.
    pub(crate) async fn count(
        &self,
        kind: ProtectedResource,
        target: Option<Target<'_>>,
        client: Option<IpAddr>,
    ) -> Result<Result<(), Limited>, StoreFailure> {
        let counters = self.counters(kind, target, client);
        Attempt::failed(&self.limiters, counters).await
    }

    /// Admits an attempt whose outcome is not known yet, and counts it as failed until then.
    /// Waits, within bounds, while earlier attempts under way use up the quota.
    pub(crate) async fn attempt(
        &self,
        kind: ProtectedResource,
        target: Option<Target<'_>>,
        client: Option<IpAddr>,
    ) -> Result<Result<Attempt, Limited>, StoreFailure> {
        let counters = self.counters(kind, target, client);
        Attempt::begin(Arc::clone(&self.limiters), counters).await
    }

    fn counters(&self, kind: ProtectedResource, target: Option<Target<'_>>, client: Option<IpAddr>) -> Counters {
        let limiters = &*self.limiters;
        let network = client.map(|client| limiters.current().networks.of(client));
        let counted = client.and_then(|client| self.counted(client));
        let account = target.as_ref().and_then(|target| target.account);
        let subject = target.as_ref().map(|target| SubjectKey::of(target.email));
        let let_in = matches!(kind, ProtectedResource::Login | ProtectedResource::Reauthentication)
            && subject.zip(network).is_some_and(|(subject, network)| limiters.was_recovered(subject, network));
        let by_address = counted.filter(|_| !let_in);
        let by_address = by_address.map(|network| FailureKey { kind, scope: FailureScope::Address(network) });
        let by_account = subject.map(|subject| {
            let scope = match network {
                Some(network) if target.is_some_and(|target| target.known) => FailureScope::Known(subject, network),
                _ => FailureScope::Account(subject),
            };
            FailureKey { kind, scope }
        });
        Counters { by_account, by_address, account }
    }

    /// Resets the limits after the owner has authenticated and set a new password.
    /// Forgets the failures of unknown clients at the account, and the failures at it from the owner's network.
    /// For a while, failures at other accounts do not keep the owner out there (S76).
    pub(crate) async fn start_anew(&self, email: &EmailKey, client: Option<IpAddr>) {
        let limiters = &*self.limiters;
        let subject = SubjectKey::of(email);
        let network = client.map(|client| limiters.current().networks.of(client));
        let scopes = [Some(FailureScope::Account(subject)), network.map(|from| FailureScope::Known(subject, from))];
        let kinds = [ProtectedResource::Login, ProtectedResource::Passphrase, ProtectedResource::Reauthentication];
        let keys = kinds.into_iter().flat_map(|kind| scopes.iter().flatten().map(move |scope| (kind, *scope)));
        let keys = keys.map(|(kind, scope)| FailureKey { kind, scope }).collect();
        if limiters.store.forget_failures(keys, limiters.now()).await.is_err() {
            tracing::error!("counters of failed attempts could not be reset after a recovery");
        }
        limiters.outcomes.send_replace(());
        if let Some(network) = network {
            limiters.recovered.insert((subject, network), limiters.clock.monotonic());
        }
    }

    /// Returns the network by which a client is counted. `None` for a client that is not counted.
    #[must_use]
    pub(crate) fn counted(&self, client: IpAddr) -> Option<IpAddr> {
        let networks = &self.limiters.current().networks;
        (!networks.allows(client)).then(|| networks.of(client))
    }

    /// Returns the network that stands for a client.
    #[must_use]
    pub(crate) fn network_of(&self, client: IpAddr) -> IpAddr {
        self.limiters.current().networks.of(client)
    }
}

/// Returns the rules for failed attempts.
fn rules_of(limits: &RateLimits) -> FailureRules {
    FailureRules {
        account: FailureRule { allowance: limits.account_failures.max(1), forget: ACCOUNT_FORGETS },
        address: FailureRule { allowance: limits.address_failures.max(1), forget: ADDRESS_FORGETS },
    }
}

/// The account that an attempt is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// Its address, even if no such account exists.
    pub(crate) email: &'a EmailKey,
    /// The account, if it exists.
    pub(crate) account: Option<AccountId>,
    /// Whether its owner has logged in from the client's network before.
    pub(crate) known: bool,
}
