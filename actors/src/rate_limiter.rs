//! Rate limits: how often a client may ask, and how often anybody may be wrong.
//!
//! Requests are counted in this process: per client address where nobody is logged in, and per account where somebody is. Failed
//! attempts are counted in the store, per account and per address, so that all nodes share one allowance. An attempt is counted
//! before its hash is computed. The actor removes counters that have no effect any more.

mod actor;
mod attempt;
mod listing;
mod quota;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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
use crate::domain::failures::{FailureKey, FailureRule, FailureRules, FailureScope, Guarded, SubjectKey};
use crate::domain::network::ClientNetworks;
use crate::domain::outbox::{OTHERS_A_DAY, until_tomorrow};
use crate::domain::time::Timestamp;
use crate::ports::Clock;
use crate::store::{Store, StoreFailure};
use quota::{Keyed, Monotonic};

/// How long a client on the list of those refused is asked to wait.
const REFUSED_FOR: Duration = Duration::from_hours(1);
/// How long it takes until one failure of an account is forgotten: longer than the longest wait, so that somebody who goes
/// on guessing gets no more than one guess an hour.
const ACCOUNT_FORGETS: Duration = Duration::from_hours(2);
/// How long it takes until one failure of an address is forgotten: many people may share it, and waits must grow in spite of it.
const ADDRESS_FORGETS: Duration = Duration::from_mins(10);

/// How often a client address may read the documentation and its files in [`DOCS_PER`]: a view of the page takes nine requests.
const DOCS_PERMITS: NonZeroU32 = NonZeroU32::MIN.saturating_add(299);
const DOCS_PER: Duration = Duration::from_mins(10);
/// The maximum number of counters of failed attempts, of about 100 bytes each. Each costs its maker a password hash or a request
/// that counts, and one failure is forgotten within hours. Beyond it, new ones are shared with their neighbours.
const MAX_COUNTERS: usize = 1_000_000;
/// For how long the owner of an account is let in where they recovered it, whatever others failed at from there.
const RECOVERED_FOR: Duration = Duration::from_mins(10);

/// The limits.
#[derive(Debug, Clone)]
pub struct RateLimits {
    /// Requests per client address, on public routes.
    pub public: RateQuota,
    /// Requests per account, on bearer routes.
    pub private: RateQuota,
    /// How many failed attempts an account takes before it answers strangers with a growing wait, and as many again from each
    /// address that its owner logged in from (`LOGIN_FAILURES`), at least 1.
    pub account_failures: u32,
    /// How many failed attempts an address has over all accounts before it waits (`ADDRESS_FAILURES`), at least 1.
    pub address_failures: u32,
    /// Which addresses are one client, which are not counted, and which are refused.
    pub networks: ClientNetworks,
}

/// How much of an allowance is left, as `RateLimit` and `RateLimit-Policy` tell it (IETF draft on rate limit header fields).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Which allowance.
    pub policy: &'static str,
    /// How much it is in all.
    pub quota: u32,
    /// In which span of time it grows back.
    pub window: Duration,
    /// How much is left.
    pub remaining: u32,
    /// When all of it is back; where nothing is left, when some of it is.
    pub reset: Duration,
}

/// The client has used up its allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    /// When the next request is allowed; at least a second.
    pub retry_after: Duration,
    /// Of which allowance.
    pub standing: Standing,
}

impl Limited {
    /// There were too many mails about changes of address; the counts begin anew at midnight, UTC.
    pub(crate) fn of_mails(now: Timestamp) -> Self {
        Self::new(Guarded::Mail.as_str(), OTHERS_A_DAY, Duration::from_hours(24), until_tomorrow(now))
    }

    fn new(policy: &'static str, quota: u32, window: Duration, wait: Duration) -> Self {
        let retry_after = wait.max(Duration::from_secs(1));
        Self { retry_after, standing: Standing { policy, quota, window, remaining: 0, reset: retry_after } }
    }
}

/// Answers at once whether a request or an attempt is allowed, and counts it if it is.
#[derive(Clone)]
pub struct RateLimiterHandle {
    limiters: Arc<Limiters>,
}

struct Limiters {
    clock: Arc<dyn Clock>,
    networks: ClientNetworks,
    public: Keyed<IpAddr>,
    docs: Keyed<IpAddr>,
    private: Keyed<AccountId>,
    store: Store,
    rules: FailureRules,
    /// The wall clock when this began, and the monotonic clock then: a wall clock that is set while the process runs moves no wait.
    began: (Timestamp, Duration),
    /// By how much the clocks of nodes may differ.
    clock_skew: Duration,
    /// How many counters of failed attempts there are. Other nodes' count from the last look on.
    rows: AtomicUsize,
    /// Tells that an attempt of this process ended.
    outcomes: watch::Sender<()>,
    /// The commits that note how attempts ended.
    endings: TaskTracker,
    runtime: Handle,
    /// Room for attempts that wait for the outcome of others.
    waiting: Arc<Semaphore>,
    /// Which accounts were recovered lately, from which network, and when. Each entry cost its maker two hashes.
    recovered: DashMap<(SubjectKey, IpAddr), Duration>,
}

impl Limiters {
    /// Whether the account was recovered from this network a moment ago.
    fn was_recovered(&self, subject: SubjectKey, network: IpAddr) -> bool {
        let at = self.recovered.get(&(subject, network)).map(|at| *at);
        at.is_some_and(|at| self.clock.monotonic().saturating_sub(at) < RECOVERED_FOR)
    }

    /// The time that failed attempts are counted by.
    fn now(&self) -> Timestamp {
        let (wall, monotonic) = self.began;
        wall.plus(self.clock.monotonic().saturating_sub(monotonic))
    }

    /// Whether a new counter must be shared with its neighbours.
    fn is_full(&self) -> bool {
        self.rows.load(Ordering::Relaxed) >= MAX_COUNTERS
    }

    /// Forgets what this process knows and has no effect any more.
    fn forget(&self) {
        self.public.prune();
        self.docs.prune();
        self.private.prune();
        let now = self.clock.monotonic();
        self.recovered.retain(|_, at| now.saturating_sub(*at) < RECOVERED_FOR);
    }
}

/// Which allowance of requests was used up, or none.
const PUBLIC: &str = "public";
const DOCS: &str = "docs";
const PRIVATE: &str = "private";
const DENIED: &str = "denied";

impl RateLimiterHandle {
    pub(crate) fn new(limits: RateLimits, clock_skew: Duration, clock: &Arc<dyn Clock>, store: Store) -> Self {
        let monotonic = Monotonic(Arc::clone(clock));
        let account = FailureRule { allowance: limits.account_failures.max(1), forget: ACCOUNT_FORGETS };
        let address = FailureRule { allowance: limits.address_failures.max(1), forget: ADDRESS_FORGETS };
        Self {
            limiters: Arc::new(Limiters {
                clock: Arc::clone(clock),
                networks: limits.networks,
                public: Keyed::new(PUBLIC, limits.public, monotonic.clone()),
                docs: Keyed::new(DOCS, RateQuota { permits: DOCS_PERMITS, per: DOCS_PER }, monotonic.clone()),
                private: Keyed::new(PRIVATE, limits.private, monotonic),
                store,
                rules: FailureRules { account, address },
                began: (clock.now(), clock.monotonic()),
                clock_skew,
                rows: AtomicUsize::new(0),
                outcomes: watch::Sender::new(()),
                endings: TaskTracker::new(),
                runtime: Handle::current(),
                waiting: Arc::new(Semaphore::new(MAX_WAITING)),
                recovered: DashMap::new(),
            }),
        }
    }

    /// Counts a request to a public route from this address; says how the allowance stands, if the address is counted.
    pub fn check_public(&self, client: IpAddr) -> Result<Option<Standing>, Limited> {
        self.check_client(&self.limiters.public, client)
    }

    /// The same of a request to the documentation, which uses up nothing but its own allowance.
    pub fn check_docs(&self, client: IpAddr) -> Result<Option<Standing>, Limited> {
        self.check_client(&self.limiters.docs, client)
    }

    fn check_client(&self, keyed: &Keyed<IpAddr>, client: IpAddr) -> Result<Option<Standing>, Limited> {
        let networks = &self.limiters.networks;
        if networks.allows(client) {
            return Ok(None);
        }
        keyed.check(networks.of(client)).map(Some)
    }

    /// Counts a request of this account to a bearer route.
    pub fn check_private(&self, account: AccountId) -> Result<Standing, Limited> {
        self.limiters.private.check(account)
    }

    /// Whether this address is refused altogether.
    pub fn check_denied(&self, client: IpAddr) -> Result<(), Limited> {
        if self.limiters.networks.denies(client) {
            return Err(Limited::new(DENIED, 0, REFUSED_FOR, REFUSED_FOR));
        }
        Ok(())
    }

    /// Counts a wrong guess at something that is no account's, by the address alone. What is guessed is too long to be found; the
    /// count keeps guesses from costing us.
    pub async fn count_failure(&self, kind: Guarded, client: IpAddr) -> Result<Result<(), Limited>, Unavailable> {
        Ok(self.count(kind, None, Some(client)).await?)
    }

    /// Counts something that is a failure, or is not let in.
    pub(crate) async fn count(
        &self,
        kind: Guarded,
        target: Option<Target<'_>>,
        client: Option<IpAddr>,
    ) -> Result<Result<(), Limited>, StoreFailure> {
        let counters = self.counters(kind, target, client);
        Attempt::failed(&self.limiters, counters).await
    }

    /// Lets an attempt in that has yet to show whether it succeeds, and counts it as failed until then. Waits, within bounds,
    /// while attempts before it use up the allowance whose outcome is not known yet.
    pub(crate) async fn attempt(
        &self,
        kind: Guarded,
        target: Option<Target<'_>>,
        client: Option<IpAddr>,
    ) -> Result<Result<Attempt, Limited>, StoreFailure> {
        let counters = self.counters(kind, target, client);
        Attempt::begin(Arc::clone(&self.limiters), counters).await
    }

    fn counters(&self, kind: Guarded, target: Option<Target<'_>>, client: Option<IpAddr>) -> Counters {
        let limiters = &*self.limiters;
        let network = client.map(|client| limiters.networks.of(client));
        let counted = client.and_then(|client| self.counted(client));
        let account = target.as_ref().and_then(|target| target.account);
        let subject = target.as_ref().map(|target| SubjectKey::of(target.email));
        let let_in = matches!(kind, Guarded::Login | Guarded::Reauthentication)
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

    /// The owner has shown who they are and chosen a new password: forgets what strangers failed at the account, and what was
    /// failed at it from where they are. For a while, no failure at other accounts keeps them out there (S76).
    pub(crate) async fn start_anew(&self, email: &EmailKey, client: Option<IpAddr>) {
        let limiters = &*self.limiters;
        let subject = SubjectKey::of(email);
        let network = client.map(|client| limiters.networks.of(client));
        let scopes = [Some(FailureScope::Account(subject)), network.map(|from| FailureScope::Known(subject, from))];
        let kinds = [Guarded::Login, Guarded::Passphrase, Guarded::Reauthentication];
        let keys = kinds.into_iter().flat_map(|kind| scopes.iter().flatten().map(move |scope| (kind, *scope)));
        let keys = keys.map(|(kind, scope)| FailureKey { kind, scope }).collect();
        if limiters.store.forget_failures(keys, limiters.now()).await.is_err() {
            tracing::error!("failed attempts could not be forgotten after a recovery");
        }
        limiters.outcomes.send_replace(());
        if let Some(network) = network {
            limiters.recovered.insert((subject, network), limiters.clock.monotonic());
        }
    }

    /// What a client is counted by; `None` for one that is not counted.
    #[must_use]
    pub(crate) fn counted(&self, client: IpAddr) -> Option<IpAddr> {
        let networks = &self.limiters.networks;
        (!networks.allows(client)).then(|| networks.of(client))
    }

    /// What stands for a client.
    #[must_use]
    pub(crate) fn network_of(&self, client: IpAddr) -> IpAddr {
        self.limiters.networks.of(client)
    }
}

/// The account that an attempt is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// Its address, whether there is such an account or not.
    pub(crate) email: &'a EmailKey,
    /// The account, if there is one.
    pub(crate) account: Option<AccountId>,
    /// Whether its owner logged in from the client's network before.
    pub(crate) known: bool,
}
