//! The counters of failed attempts against an account and an address. Each further failure makes the next wait longer, up to a limit.
//!
//! An attempt counts as failed from its admission on. The count is taken back if it succeeds or was never made.
//! So no more attempts than the allowance run at the same time, even if many arrive at once (S15).
//! An attempt that finds the allowance used up by running attempts waits for their outcome before it is refused.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::account::AccountId;
use super::email::EmailKey;
use super::time::Timestamp;

/// The first wait; it doubles with each further failure.
const FIRST_WAIT: Duration = Duration::from_mins(1);
/// The maximum wait (S19: no account is locked for ever).
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// After how many doublings the longest wait is reached; no more failures than this beyond the allowance are counted.
const DOUBLINGS: u32 = 6;

/// The kind of an attempt that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtectedResource {
    /// A password, at login.
    Login,
    /// A passphrase, at recovery.
    Passphrase,
    /// The current password, in a logged-in session.
    Reauthentication,
    /// A one-time token from a mail.
    OneTimeToken,
    /// A service token.
    ServiceToken,
    /// No secret: each request for a verification mail to an address counts, so that nobody's mailbox is flooded.
    Mail,
    /// A refresh token.
    Refresh,
    /// No secret: each request for a recovery mail to an address counts.
    /// They are counted apart from requests for verification mails, so that nobody can block one by requesting the other.
    RecoveryMail,
}

impl ProtectedResource {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Login,
        Self::Passphrase,
        Self::Reauthentication,
        Self::OneTimeToken,
        Self::ServiceToken,
        Self::Mail,
        Self::Refresh,
        Self::RecoveryMail,
    ];

    /// Returns the kind as it is written in keys and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Passphrase => "passphrase",
            Self::Reauthentication => "reauthentication",
            Self::OneTimeToken => "one_time_token",
            Self::ServiceToken => "service_token",
            Self::Mail => "mail",
            Self::Refresh => "refresh",
            Self::RecoveryMail => "recovery_mail",
        }
    }

    /// Returns the number under which the kind is stored. It is never reused for another kind.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Login => 1,
            Self::Passphrase => 2,
            Self::Reauthentication => 3,
            Self::OneTimeToken => 4,
            Self::ServiceToken => 5,
            Self::Mail => 6,
            Self::Refresh => 7,
            Self::RecoveryMail => 8,
        }
    }

    /// Returns the kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// The account that attempts are about, existing or not: 128 bits of the hash of its address's key (S13, S16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKey([u8; 16]);

impl SubjectKey {
    /// Returns the key of the account with this address.
    #[must_use]
    pub fn of(email: &EmailKey) -> Self {
        let hash = digest(&SHA256, email.as_str().as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_ref()[..16]);
        Self(key)
    }

    /// Makes a key from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, as the store keeps them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The subject of a failure counter: an account, an address, or an account from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureScope {
    /// An account, for all clients from which its owner never logged in.
    Account(SubjectKey),
    /// An address, for all accounts.
    Address(IpAddr),
    /// An account, for an address from which its owner has logged in before.
    Known(SubjectKey, IpAddr),
}

/// A counter of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureKey {
    /// What was attempted.
    pub kind: ProtectedResource,
    /// What it is counted against.
    pub scope: FailureScope,
}

/// How many failures are free and how soon one is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureRule {
    /// From which failure on the next attempt has to wait, at least 1.
    pub allowance: u32,
    /// How long it takes to forget one failure.
    pub forget: Duration,
}

/// The rules for the two kinds of counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureRules {
    /// For counters of an account.
    pub account: FailureRule,
    /// For counters of a client address over all accounts.
    pub address: FailureRule,
}

impl FailureRules {
    /// Returns the rule that applies to a counter.
    #[must_use]
    pub const fn of(&self, key: &FailureKey) -> FailureRule {
        match key.scope {
            FailureScope::Address(_) => self.address,
            FailureScope::Account(_) | FailureScope::Known(..) => self.account,
        }
    }
}

/// A counter of failed attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    /// The number of failures when the last one was counted. Attempts under way are among them.
    pub count: u32,
    /// When the last attempt was admitted that has not succeeded. The next wait begins then. `None` after a success.
    pub last_at: Option<Timestamp>,
    /// When forgetting began. It moves by whole failures, so that later attempts do not delay it.
    pub forgotten_from: Timestamp,
    /// How many of the attempts are under way: their outcome is not known yet.
    pub under_way: u32,
    /// When attempts under way count as failed because their process must have ended.
    pub under_way_until: Timestamp,
    /// The account, if there is one.
    pub account: Option<AccountId>,
}

/// Why an attempt is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MustWait {
    /// How long the counter asks to wait.
    pub wait: Duration,
    /// Whether attempts under way may still turn out to be no failures, and make room.
    pub for_others: bool,
}

impl Failures {
    /// A counter without failures.
    #[must_use]
    pub const fn none(now: Timestamp) -> Self {
        Self { count: 0, last_at: None, forgotten_from: now, under_way: 0, under_way_until: now, account: None }
    }

    /// Admits an attempt and counts it as failed, or says how long to wait. The outcome of an attempt that is `under_way` is
    /// reported within that time.
    pub fn attempt(&mut self, rule: FailureRule, now: Timestamp, under_way: Option<Duration>) -> Result<(), MustWait> {
        let wait = self.wait(rule, now);
        if !wait.is_zero() {
            return Err(MustWait { wait, for_others: self.under_way_at(now) > 0 });
        }
        let left = self.count(rule, now);
        self.forgotten_from =
            if left == 0 { now } else { self.forgotten_from.plus(rule.forget.saturating_mul(self.count - left)) };
        self.count = (left + 1).min(rule.allowance.saturating_add(DOUBLINGS));
        self.last_at = Some(now);
        self.under_way = self.under_way_at(now);
        if let Some(lasts) = under_way {
            self.under_way += 1;
            self.under_way_until = self.under_way_until.max(now.plus(lasts));
        }
        Ok(())
    }

    /// Notes that an attempt failed.
    pub fn failed(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Takes back an attempt that succeeded or was not made.
    pub fn take_back(&mut self) {
        self.failed();
        self.count = self.count.saturating_sub(1);
        // It was admitted, so there was nothing to wait for, and there is nothing now.
        self.last_at = None;
    }

    /// Forgets all failures. Attempts under way stay counted until their outcome is known.
    pub fn forget(&mut self, now: Timestamp) {
        let under_way = self.under_way_at(now);
        let Self { account, under_way_until, .. } = *self;
        *self = Self { count: under_way, under_way, under_way_until, account, ..Self::none(now) };
    }

    /// Returns how long the next attempt must wait. Zero if it is allowed now.
    #[must_use]
    pub fn wait(&self, rule: FailureRule, now: Timestamp) -> Duration {
        let (Some(beyond), Some(last_at)) = (self.count.checked_sub(rule.allowance), self.last_at) else {
            return Duration::ZERO;
        };
        let wait = FIRST_WAIT.saturating_mul(1 << beyond.min(DOUBLINGS)).min(LONGEST_WAIT);
        wait.saturating_sub(now.since(last_at))
    }

    /// Returns the number of failures that are not forgotten yet.
    #[must_use]
    pub fn count(&self, rule: FailureRule, now: Timestamp) -> u32 {
        let forgotten = now.since(self.forgotten_from).as_millis() / rule.forget.as_millis().max(1);
        self.count.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }

    /// Returns whether the counter no longer has an effect.
    #[must_use]
    pub fn is_forgotten(&self, rule: FailureRule, now: Timestamp) -> bool {
        self.is_at_most(0, rule, now)
    }

    /// Returns whether the counter has at most `most` failures and asks no one to wait, so that it may be removed if there are too
    /// many.
    #[must_use]
    pub fn is_at_most(&self, most: u32, rule: FailureRule, now: Timestamp) -> bool {
        self.count(rule, now) <= most && self.wait(rule, now).is_zero() && self.under_way_at(now) == 0
    }

    /// Moves future times to the present, and returns whether there were any.
    /// A clock that was set back then makes no one wait longer than the counter asks (R05).
    /// Times within the clocks' allowed difference stay.
    pub fn heed_clock(&mut self, now: Timestamp, skew: Duration) -> bool {
        let latest = now.plus(skew);
        let ahead = self.last_at.is_some_and(|at| at > latest) || self.forgotten_from > latest;
        if ahead {
            self.last_at = self.last_at.map(|at| at.min(now));
            self.forgotten_from = self.forgotten_from.min(now);
            self.under_way_until = self.under_way_until.min(now);
        }
        ahead
    }

    fn under_way_at(&self, now: Timestamp) -> u32 {
        if now < self.under_way_until { self.under_way.min(self.count) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: FailureRule = FailureRule { allowance: 5, forget: Duration::from_hours(2) };
    const MINUTE: i64 = 60_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn none() -> Failures {
        Failures::none(at(0))
    }

    fn attempt(failures: &mut Failures, rule: FailureRule, now: i64) -> Result<(), Duration> {
        failures.attempt(rule, at(now), Some(Duration::from_secs(10))).map_err(|refused| refused.wait)
    }

    #[test]
    fn s19_waits_grow_to_an_hour_and_no_further() {
        let mut failures = none();
        let mut now = 0;
        for _ in 0..5 {
            assert_eq!(attempt(&mut failures, RULE, now), Ok(()));
        }
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let wait = Duration::from_mins(minutes);
            assert_eq!(attempt(&mut failures, RULE, now), Err(wait), "{minutes}");
            now += i64::try_from(wait.as_millis()).unwrap() - 1;
            assert_eq!(attempt(&mut failures, RULE, now), Err(Duration::from_millis(1)));
            now += 1;
            assert_eq!(attempt(&mut failures, RULE, now), Ok(()));
        }
    }

    #[test]
    fn failures_are_forgotten_one_by_one() {
        let mut failures = none();
        for _ in 0..4 {
            attempt(&mut failures, RULE, 0).unwrap();
        }
        assert_eq!(failures.count(RULE, at(119 * MINUTE)), 4);
        assert_eq!(failures.count(RULE, at(120 * MINUTE)), 3);
        assert!(!failures.is_forgotten(RULE, at(479 * MINUTE)));
        assert!(failures.is_forgotten(RULE, at(480 * MINUTE)));
    }

    #[test]
    fn s19_success_in_between_does_not_put_forgetting_off() {
        let rule = FailureRule { allowance: 50, forget: Duration::from_mins(10) };
        let mut failures = none();
        for _ in 0..49 {
            attempt(&mut failures, rule, 0).unwrap();
        }
        for half_minutes in 1..=240 {
            attempt(&mut failures, rule, half_minutes * MINUTE / 2).unwrap();
            failures.take_back();
        }
        assert_eq!(failures.count(rule, at(120 * MINUTE)), 49 - 12);
    }

    #[test]
    fn s22_an_address_that_goes_on_waits_longer_each_time() {
        let rule = FailureRule { allowance: 50, forget: Duration::from_mins(10) };
        let mut failures = none();
        let mut now = 0;
        for _ in 0..50 {
            attempt(&mut failures, rule, now).unwrap();
        }
        for minutes in [1, 2, 4] {
            assert_eq!(attempt(&mut failures, rule, now), Err(Duration::from_mins(minutes)));
            now += i64::try_from(minutes).unwrap() * MINUTE;
            attempt(&mut failures, rule, now).unwrap();
        }
    }

    #[test]
    fn an_attempt_that_was_not_made_is_not_waited_for() {
        let mut failures = none();
        for _ in 0..5 {
            attempt(&mut failures, RULE, 0).unwrap();
        }
        attempt(&mut failures, RULE, MINUTE).unwrap();
        failures.take_back();
        assert_eq!(failures.wait(RULE, at(MINUTE)), Duration::ZERO);
        assert_eq!(failures.count(RULE, at(MINUTE)), 5);
    }

    #[test]
    fn r05_a_clock_set_back_makes_nobody_wait_longer() {
        const DAY: i64 = 24 * 60 * MINUTE;
        let skew = Duration::from_secs(2);
        let mut failures = none();
        for _ in 0..5 {
            attempt(&mut failures, RULE, DAY).unwrap();
        }
        let mut set_back = failures;
        assert!(set_back.heed_clock(at(0), skew));
        assert_eq!(set_back.wait(RULE, at(MINUTE / 2)), Duration::from_secs(30));
        assert!(!set_back.heed_clock(at(MINUTE / 2), skew), "once is enough");
        let mut behind = failures;
        assert!(!behind.heed_clock(at(DAY - 2000), skew), "another node's clock may be ahead by this much");
        assert_eq!(behind, failures);
    }

    #[test]
    fn an_attempt_whose_process_ended_counts_as_failed() {
        let mut failures = none();
        for _ in 0..5 {
            attempt(&mut failures, RULE, 0).unwrap();
        }
        let refused = |failures: &mut Failures, now| {
            failures.attempt(RULE, at(now), Some(Duration::from_secs(10))).unwrap_err().for_others
        };
        assert!(refused(&mut failures, 9_999));
        assert!(!refused(&mut failures, 10_000));
    }

    #[test]
    fn a_success_forgets_no_attempt_that_is_under_way() {
        let mut failures = none();
        for _ in 0..5 {
            attempt(&mut failures, RULE, 0).unwrap();
        }
        failures.failed();
        failures.take_back();
        failures.forget(at(1));
        assert_eq!((failures.count, failures.under_way), (3, 3));
        assert_eq!(failures.wait(RULE, at(1)), Duration::ZERO);
    }

    #[test]
    fn kinds_have_distinct_numbers_that_read_back() {
        for kind in ProtectedResource::ALL {
            assert_eq!(ProtectedResource::from_number(kind.number()), Some(kind));
        }
        assert_eq!(ProtectedResource::from_number(0), None);
    }

    proptest! {
        /// For any sequence of attempts, failures and take-backs: the attempts that are running, or failed and not yet forgotten,
        /// never exceed the allowance plus one for each completed wait.
        #[test]
        fn s15_attempts_are_bounded(steps in prop::collection::vec((0_i64..5 * MINUTE, any::<bool>()), 1..200)) {
            let mut failures = none();
            let (mut now, mut first, mut failed) = (0, 0, 0_u32);
            for (pause, succeeds) in steps {
                now += pause;
                if attempt(&mut failures, RULE, now).is_ok() {
                    if succeeds {
                        failures.take_back();
                    } else {
                        failed += 1;
                    }
                }
                if failures.is_forgotten(RULE, at(now)) {
                    (first, failed) = (now, 0);
                }
            }
            let hours = u32::try_from((now - first) / (60 * MINUTE)).unwrap();
            prop_assert!(failed <= RULE.allowance + DOUBLINGS + 2 * hours + 1, "{failed} in {hours} h");
        }

        /// No wait exceeds an hour, for any history of the counter.
        #[test]
        fn s19_no_wait_is_longer_than_an_hour(steps in prop::collection::vec(0_i64..200 * MINUTE, 1..100)) {
            let mut failures = none();
            let mut now = 0;
            for pause in steps {
                now += pause;
                if let Err(wait) = attempt(&mut failures, RULE, now) {
                    prop_assert!(wait <= LONGEST_WAIT);
                }
            }
        }
    }
}
