//! Limits as administrators see them: lists the counters and clears them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{DOCS, PRIVATE, PUBLIC, RateLimiterHandle};
use crate::ask::{ActingError, Unavailable};
use crate::domain::account::{AccountId, Role};
use crate::domain::audit::AuditEvent;
use crate::domain::email::Email;
use crate::domain::failures::{FailureKey, FailureScope, Failures, ProtectedResource, SubjectKey};
use crate::domain::session::Origin;
use crate::session::Principal;
use crate::store::ClearedLimit;

/// The key of a counter. Its text is a path segment: `public-192.0.2.7`, `private-42`, `login-account-0f…`,
/// `login-address-192.0.2.7`, `login-known-0f…-192.0.2.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitKey {
    /// Requests of an address to public routes.
    Public(IpAddr),
    /// Requests of an account to bearer routes.
    Private(AccountId),
    /// Requests of an address to the documentation.
    Docs(IpAddr),
    /// Failed attempts.
    Failures(FailureKey),
}

/// The state of a counter.
#[derive(Debug, Clone, Copy)]
pub struct LimitView {
    /// The key of the counter.
    pub key: LimitKey,
    /// The account, if the counter is about one that exists.
    pub account: Option<AccountId>,
    /// The size of the quota: requests, or failed attempts until the first wait.
    pub quota: u32,
    /// How much of the quota is left.
    pub remaining: u32,
    /// How long the next request or attempt must wait. Zero if it is allowed now.
    pub wait: Duration,
}

/// A filter for the list of limits.
#[derive(Debug, Clone, Default)]
pub struct LimitFilter {
    /// Include only this policy: `public`, `private`, or a kind of failed attempts.
    pub policy: Option<String>,
    /// Include only counters of this account.
    pub account: Option<AccountId>,
    /// Include only counters of the account with this address, even if no such account exists.
    pub email: Option<Email>,
    /// Include only counters of this client.
    pub address: Option<IpAddr>,
    /// Include only counters that ask to wait.
    pub waiting: bool,
}

/// A page of limits.
#[derive(Debug, Clone)]
pub struct LimitViews {
    /// The limits in the order of their keys.
    pub limits: Vec<LimitView>,
    /// Whether more limits follow.
    pub more: bool,
}

impl LimitKey {
    /// Every policy.
    pub const POLICIES: [&'static str; 3 + ProtectedResource::ALL.len()] = {
        let mut policies = [PUBLIC; 3 + ProtectedResource::ALL.len()];
        policies[1] = PRIVATE;
        policies[2] = DOCS;
        let mut n = 0;
        while n < ProtectedResource::ALL.len() {
            policies[3 + n] = ProtectedResource::ALL[n].as_str();
            n += 1;
        }
        policies
    };

    /// Returns the policy of the counter.
    #[must_use]
    pub const fn policy(self) -> &'static str {
        match self {
            Self::Public(_) => PUBLIC,
            Self::Private(_) => PRIVATE,
            Self::Docs(_) => DOCS,
            Self::Failures(key) => key.kind.as_str(),
        }
    }

    /// Returns the client's address or network, if the counter is about one.
    #[must_use]
    pub const fn address(self) -> Option<IpAddr> {
        match self {
            Self::Public(address)
            | Self::Docs(address)
            | Self::Failures(FailureKey {
                scope: FailureScope::Address(address) | FailureScope::Known(_, address),
                ..
            }) => Some(address),
            _ => None,
        }
    }

    const fn subject(self) -> Option<SubjectKey> {
        match self {
            Self::Failures(FailureKey { scope: FailureScope::Account(of) | FailureScope::Known(of, _), .. }) => {
                Some(of)
            }
            _ => None,
        }
    }

    /// Parses the text of a key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (policy, rest) = text.split_once('-')?;
        let key = match policy {
            PUBLIC => Self::Public(rest.parse().ok()?),
            PRIVATE => Self::Private(AccountId::new(rest.parse().ok()?)?),
            DOCS => Self::Docs(rest.parse().ok()?),
            _ => {
                let kind = ProtectedResource::ALL.into_iter().find(|kind| kind.as_str() == policy)?;
                let (scope, rest) = rest.split_once('-')?;
                let scope = match scope {
                    "account" => FailureScope::Account(subject(rest)?),
                    "address" => FailureScope::Address(rest.parse().ok()?),
                    "known" => {
                        let (of, address) = rest.split_once('-')?;
                        FailureScope::Known(subject(of)?, address.parse().ok()?)
                    }
                    _ => return None,
                };
                Self::Failures(FailureKey { kind, scope })
            }
        };
        // Each key has exactly one spelling.
        (key.to_string() == text).then_some(key)
    }
}

fn subject(hex: &str) -> Option<SubjectKey> {
    if hex.len() != 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(hex, 16).ok().map(|bits| SubjectKey::from_bytes(bits.to_be_bytes()))
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |of: SubjectKey| u128::from_be_bytes(*of.as_bytes());
        match self {
            Self::Public(address) => write!(f, "{PUBLIC}-{address}"),
            Self::Private(account) => write!(f, "{PRIVATE}-{account}"),
            Self::Docs(address) => write!(f, "{DOCS}-{address}"),
            Self::Failures(FailureKey { kind, scope }) => match scope {
                FailureScope::Account(of) => write!(f, "{}-account-{:032x}", kind.as_str(), hex(*of)),
                FailureScope::Address(address) => write!(f, "{}-address-{address}", kind.as_str()),
                FailureScope::Known(of, address) => write!(f, "{}-known-{:032x}-{address}", kind.as_str(), hex(*of)),
            },
        }
    }
}

impl RateLimiterHandle {
    /// Returns the limits after this key that match, in the order of their keys. Searches all limits on a thread that may block.
    pub async fn list(
        &self,
        filter: LimitFilter,
        after: Option<LimitKey>,
        limit: usize,
    ) -> Result<LimitViews, Unavailable> {
        let (handle, failures) = (self.clone(), self.limiters.store.failures().await?);
        tokio::task::spawn_blocking(move || handle.look(&filter, after, limit, failures))
            .await
            .map_err(|_| Unavailable::default())
    }

    fn look(
        &self,
        filter: &LimitFilter,
        after: Option<LimitKey>,
        limit: usize,
        failures: Vec<(FailureKey, Failures)>,
    ) -> LimitViews {
        let (limiters, current) = (&*self.limiters, self.limiters.current());
        let wanted = Wanted {
            filter,
            subject: filter.email.as_ref().map(|email| SubjectKey::of(email.key())),
            network: filter.address.map(|address| limiters.current().networks.of(address)),
        };
        // Collect one more than asked for, to know whether more follow.
        let mut page = Page { after, room: limit.saturating_add(1), kept: BTreeMap::new() };
        let view = |key, account, standing: super::Standing| LimitView {
            key,
            account,
            quota: standing.quota,
            remaining: standing.remaining,
            wait: if standing.remaining == 0 { standing.window / standing.quota.max(1) } else { Duration::ZERO },
        };
        current.public.visit(|address, standing| page.offer(&wanted, view(LimitKey::Public(address), None, standing)));
        limiters.docs.visit(|address, standing| page.offer(&wanted, view(LimitKey::Docs(address), None, standing)));
        current
            .private
            .visit(|account, standing| page.offer(&wanted, view(LimitKey::Private(account), Some(account), standing)));
        let now = limiters.now();
        for (key, mut failures) in failures {
            failures.heed_clock(now, limiters.timing.clock_skew);
            let rule = current.rules.of(&key);
            if failures.is_forgotten(rule, now) {
                continue;
            }
            page.offer(
                &wanted,
                LimitView {
                    key: LimitKey::Failures(key),
                    account: failures.account,
                    quota: rule.allowance,
                    remaining: rule.allowance.saturating_sub(failures.count(rule, now)),
                    wait: failures.wait(rule, now),
                },
            );
        }
        let mut limits: Vec<_> = page.kept.into_values().collect();
        let more = limits.len() > limit;
        limits.truncate(limit);
        LimitViews { limits, more }
    }

    /// Clears a counter on behalf of an administrator. Returns false if there was nothing to clear.
    ///
    /// # Errors
    /// [`ActingError::Revoked`] if the administrator's session has ended or lost its role.
    pub async fn clear(&self, admin: &Principal, key: LimitKey, origin: Origin) -> Result<bool, ActingError> {
        let limiters = &*self.limiters;
        let limit = match key {
            LimitKey::Failures(key) => ClearedLimit::Failures(key),
            LimitKey::Private(account) => ClearedLimit::InMemory(Some(account)),
            LimitKey::Public(_) | LimitKey::Docs(_) => ClearedLimit::InMemory(None),
        };
        let there = match key {
            LimitKey::Public(address) => limiters.current().public.has(address),
            LimitKey::Private(account) => limiters.current().private.has(account),
            LimitKey::Docs(address) => limiters.docs.has(address),
            LimitKey::Failures(_) => true,
        };
        if !there {
            return Ok(false);
        }
        let (acting, now) = (admin.acting(Role::Admin), limiters.clock.now());
        let record = admin.record_as_admin(AuditEvent::LimitCleared, now, origin);
        let cleared = limiters.store.clear_limit(limit, limiters.now(), acting, record).await?;
        match key {
            LimitKey::Public(address) => limiters.current().public.forget(address),
            LimitKey::Private(account) => limiters.current().private.forget(account),
            LimitKey::Docs(address) => limiters.docs.forget(address),
            LimitKey::Failures(_) => limiters.outcomes.send_replace(()),
        }
        Ok(cleared)
    }

    /// Returns the number of clients and counters in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        let (limiters, current) = (&*self.limiters, self.limiters.current());
        current.public.len() + limiters.docs.len() + current.private.len() + limiters.rows.load(Ordering::Relaxed)
    }

    /// Returns whether no client is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A filter, prepared for comparison.
struct Wanted<'a> {
    filter: &'a LimitFilter,
    subject: Option<SubjectKey>,
    network: Option<IpAddr>,
}

impl Wanted<'_> {
    fn matches(&self, view: &LimitView) -> bool {
        let filter = self.filter;
        filter.policy.as_ref().is_none_or(|policy| policy == view.key.policy())
            && filter.account.is_none_or(|account| view.account == Some(account))
            && self.subject.is_none_or(|subject| view.key.subject() == Some(subject))
            && self.network.is_none_or(|network| view.key.address() == Some(network))
            && (!filter.waiting || !view.wait.is_zero())
    }
}

/// Collects the first keys after a given one, as many as there is room for.
struct Page {
    after: Option<LimitKey>,
    room: usize,
    kept: BTreeMap<LimitKey, LimitView>,
}

impl Page {
    fn offer(&mut self, wanted: &Wanted<'_>, view: LimitView) {
        if self.after.is_some_and(|after| view.key <= after) || !wanted.matches(&view) {
            return;
        }
        self.kept.insert(view.key, view);
        if self.kept.len() > self.room {
            self.kept.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_spelling() {
        let subject = SubjectKey::of(Email::parse("ann@example.com").unwrap().key());
        let address: IpAddr = "2001:db8::".parse().unwrap();
        let failures = |scope| LimitKey::Failures(FailureKey { kind: ProtectedResource::OneTimeToken, scope });
        for key in [
            LimitKey::Public(address),
            LimitKey::Public("192.0.2.7".parse().unwrap()),
            LimitKey::Private(AccountId::new(42).unwrap()),
            LimitKey::Docs(address),
            failures(FailureScope::Account(subject)),
            failures(FailureScope::Address(address)),
            failures(FailureScope::Known(subject, address)),
        ] {
            assert_eq!(LimitKey::parse(&key.to_string()), Some(key), "{key}");
        }
        for other in [
            "",
            "public",
            "public-",
            "public-x",
            "private-0",
            "private-042",
            "login-account-ff",
            "public-2001:DB8::",
            "x-1",
        ] {
            assert_eq!(LimitKey::parse(other), None, "{other}");
        }
    }
}
