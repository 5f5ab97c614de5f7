//! Mail quotas: how many mails one account, address or client may cause, and how long given-up mails are kept (S75).
//!
//! Each kind of mail is counted separately, so that nobody can block one kind by requesting another.
//! A requested mail counts against the account, the address it goes to, and the client.
//! A notice counts only against its account, because no stranger can cause one.
//! While the address is unverified, a notice also counts against the address, separately from the notices of verified accounts.
//! Somebody who registers another person's address therefore uses up nothing that its owner needs later.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{MailId, NewMail};
use crate::domain::account::AccountId;
use crate::domain::failures::SubjectKey;
use crate::domain::mail::MailKind;
use crate::domain::time::Timestamp;

/// The maximum time that a mail may wait before the lifetime of its link begins anyway: as long as a mail is tried.
/// The default 56 attempts (`MAIL_MAX_ATTEMPTS`) take about two days.
pub const HANDOVER_WITHIN: Duration = Duration::from_hours(48);

/// How many links for verification or recovery go to one account and to one address per day: one every half hour.
/// The growing wait between requests allows fewer, so this delays nobody who observes that wait.
const LINKS_A_DAY: u64 = 48;
/// How many mails of any other kind go to one account and to one address per day.
/// This is more than an owner causes who changes networks all day. With 11 such kinds, a mailbox gets at most 110 notices a day.
pub(crate) const OTHERS_A_DAY: u32 = 10;
/// How many mails of one kind one client may request per day: enough for an office, or a carrier's gateway, with 1,000 new users.
const CLIENT_A_DAY: u64 = 1000;
/// How many mails of one kind may wait for one account or address. A newer link withdraws the earlier one, so an account has one.
const WAITING: u64 = 5;
/// How many mails of one kind requested by one client may wait.
/// Ten clients delay others by 2,000 mails, which a mail server that takes 20 a second processes in 100 seconds.
const CLIENT_WAITING: u64 = 200;

/// The maximum number of given-up mails that are kept. Each takes at most 4 KiB, together 4 MiB.
pub const MAX_GIVEN_UP: usize = 1000;
/// The number to which the given-up mails are reduced once there are too many, so that a flood of them does not cause a scan for each.
const LEFT_OF_GIVEN_UP: usize = 900;
/// How long a given-up mail is kept.
const KEPT_GIVEN_UP: Duration = Duration::from_hours(30 * 24);

/// The length of a day, in milliseconds.
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// Returns the day of a time in UTC, counted from 1970.
#[must_use]
pub const fn day_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(DAY_MILLIS)
}

/// Returns the time until the daily counts start again.
pub(crate) fn until_tomorrow(now: Timestamp) -> Duration {
    let left = DAY_MILLIS - now.as_millis().rem_euclid(DAY_MILLIS);
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}

/// The subject of a mail count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MailScope {
    /// The account that the mails belong to.
    Account(AccountId),
    /// The address that the mails go to.
    Target(SubjectKey),
    /// The client that requested the mails.
    Client(IpAddr),
}

/// A count of mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MailCount {
    /// The kind of the mails.
    pub kind: MailKind,
    /// Whether they are notices to an unverified address.
    pub unverified: bool,
    /// The account, address or client.
    pub scope: MailScope,
}

/// A count with its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailBound {
    /// What is counted.
    pub count: MailCount,
    /// The maximum number per day.
    pub a_day: u64,
    /// The maximum number that may wait at the same time; `None` if the daily limit is enough.
    pub waiting: Option<u64>,
}

impl NewMail {
    /// Returns the counts of this mail with their limits.
    /// `verified` says whether the account's address is known to belong to its owner.
    #[must_use]
    pub fn bounds(&self, account: Option<AccountId>, verified: bool) -> Vec<MailBound> {
        let kind = self.kind;
        let asked_for = kind.is_asked_for();
        let unverified = !asked_for && !verified;
        let a_day = match kind {
            MailKind::VerifyAddress | MailKind::ResetPassword => LINKS_A_DAY,
            _ => OTHERS_A_DAY.into(),
        };
        let bound = |scope, a_day, waiting: u64| MailBound {
            count: MailCount { kind, unverified, scope },
            a_day,
            waiting: asked_for.then_some(waiting),
        };
        let target = (asked_for || unverified).then(|| MailScope::Target(SubjectKey::of(self.to.key())));
        let client = self.network.filter(|_| asked_for).map(MailScope::Client);
        let account = account.map(MailScope::Account);
        let owner = account.into_iter().chain(target).map(|scope| bound(scope, a_day, WAITING));
        owner.chain(client.map(|scope| bound(scope, CLIENT_A_DAY, CLIENT_WAITING))).collect()
    }

    /// Returns whether the mail is useless by now, because it consists only of a link that has expired.
    pub(crate) fn is_pointless(&self, now: Timestamp) -> bool {
        let wait = if self.token.is_some() { HANDOVER_WITHIN } else { Duration::ZERO };
        let end = self.valid_for.map(|ttl| self.written_at.plus(wait).plus(ttl));
        self.kind.is_only_a_link() && end.is_some_and(|end| now >= end)
    }
}

/// The properties of a given-up mail that decide how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// The id of the mail.
    pub id: MailId,
    /// When it was last tried.
    pub at: Timestamp,
    /// The client that caused it.
    pub network: Option<IpAddr>,
}

/// Returns the given-up mails that are to be removed: those that are too old and, while there are too many, the oldest ones of the
/// client that has the most. So no client displaces the mails of others.
#[must_use]
pub fn no_longer_kept(mut given_up: Vec<GivenUp>, now: Timestamp) -> Vec<MailId> {
    given_up.sort_by_key(|mail| (mail.at, mail.id));
    let is_old = |mail: &GivenUp| mail.at <= now && now.since(mail.at) >= KEPT_GIVEN_UP;
    let (old, kept): (Vec<_>, Vec<_>) = given_up.into_iter().partition(is_old);
    let mut gone: Vec<MailId> = old.into_iter().map(|mail| mail.id).collect();
    if kept.len() <= MAX_GIVEN_UP {
        return gone;
    }
    let mut excess = kept.len() - LEFT_OF_GIVEN_UP;
    // Newest first, so that `pop` takes the oldest.
    let mut of_clients: BTreeMap<Option<IpAddr>, Vec<MailId>> = BTreeMap::new();
    for mail in kept.iter().rev() {
        of_clients.entry(mail.network).or_default().push(mail.id);
    }
    while excess > 0 {
        let most = of_clients.values_mut().max_by_key(|mails| mails.len());
        gone.extend(most.and_then(Vec::pop));
        excess -= 1;
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_up(id: usize, at: i64, client: u8) -> GivenUp {
        let id = MailId::new(id as u64 + 1).unwrap();
        GivenUp { id, at: Timestamp::from_millis(at), network: Some([192, 0, 2, client].into()) }
    }

    #[test]
    fn d12_given_up_mails_are_kept_for_a_month() {
        let month = i64::try_from(KEPT_GIVEN_UP.as_millis()).unwrap();
        let mails = vec![given_up(0, 0, 1), given_up(1, 1, 1), given_up(2, month + 9, 1)];
        let gone = no_longer_kept(mails, Timestamp::from_millis(month));
        assert_eq!(gone, [MailId::new(1).unwrap()], "one of the future is kept: the clock was set back");
    }

    #[test]
    fn d12_a_client_with_many_given_up_mails_displaces_nobody_elses() {
        let mut mails: Vec<GivenUp> = (0..10).map(|n| given_up(n, 0, 1)).collect();
        mails.extend((10..=MAX_GIVEN_UP).map(|n| given_up(n, 1, 2)));
        let at = Timestamp::from_millis(2);
        assert!(no_longer_kept(mails[1..].to_vec(), at).is_empty());
        let gone = no_longer_kept(mails.clone(), at);
        assert_eq!(gone.len(), MAX_GIVEN_UP + 1 - LEFT_OF_GIVEN_UP);
        let expected: Vec<MailId> = mails[10..10 + gone.len()].iter().map(|mail| mail.id).collect();
        assert_eq!(gone, expected, "the oldest ones of the client with the most");
    }

    #[test]
    fn a_day_ends_at_midnight() {
        let at = Timestamp::from_millis;
        assert_eq!([at(-1), at(0), at(DAY_MILLIS - 1), at(DAY_MILLIS)].map(day_of), [-1, 0, 0, 1]);
        assert_eq!(until_tomorrow(at(-1)), Duration::from_millis(1));
        assert_eq!(until_tomorrow(at(0)), Duration::from_hours(24));
    }
}
