//! How many mails one account, one address or one client may cause, and how long given-up ones are kept (S75).
//!
//! Each kind of mail is counted apart, so nobody keeps somebody from one mail by asking for another. A mail that somebody asks
//! for is counted by the account, by the address that it goes to and by the client. A notice is counted by its account alone,
//! as no stranger causes one; while nobody has verified the address, by the address as well, and apart from those of verified
//! accounts: who registered somebody else's address uses up nothing that its owner needs later.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{MailId, NewMail};
use crate::domain::account::AccountId;
use crate::domain::failures::SubjectKey;
use crate::domain::mail::MailKind;
use crate::domain::time::Timestamp;

/// How long a mail may wait before the life of its link begins all the same: as long as a mail is tried, as the default 56
/// attempts (`MAIL_MAX_ATTEMPTS`) take about two days.
pub const HANDOVER_WITHIN: Duration = Duration::from_hours(48);

/// How many links to verify or recover an account go to one account and one address in a day: one each half hour. The growing
/// wait between requests allows fewer, so nobody who keeps to that is held up by this.
const LINKS_A_DAY: u64 = 48;
/// How many mails of any other kind go to one account and one address in a day: more than an owner causes who moves from network to
/// network all day, and with 11 such kinds at most 110 notices in a mailbox.
pub(crate) const OTHERS_A_DAY: u32 = 10;
/// How many mails of one kind one client asks for in a day: an office, or a gateway of a carrier, with a thousand new people.
const CLIENT_A_DAY: u64 = 1000;
/// How many mails of one kind wait for one account or address. A newer link withdraws the one before it, so an account has one.
const WAITING: u64 = 5;
/// How many mails of one kind that one client asked for wait: ten clients leave 2,000 in the way, which a mail server that takes
/// 20 a second works off in 100 seconds.
const CLIENT_WAITING: u64 = 200;

/// How many given-up mails are kept, of at most 4 KiB each: 4 MiB.
pub const MAX_GIVEN_UP: usize = 1000;
/// How many are left when there were more, so that a flood of them is not looked through once for each.
const LEFT_OF_GIVEN_UP: usize = 900;
/// How long a given-up mail is kept.
const KEPT_GIVEN_UP: Duration = Duration::from_hours(30 * 24);

/// The length of a day, in milliseconds.
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// The day of a time, in UTC, counted from 1970.
#[must_use]
pub const fn day_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(DAY_MILLIS)
}

/// How long it takes until the counts of mails begin anew.
pub(crate) fn until_tomorrow(now: Timestamp) -> Duration {
    let left = DAY_MILLIS - now.as_millis().rem_euclid(DAY_MILLIS);
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}

/// By what mails are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MailScope {
    /// The account that they belong to.
    Account(AccountId),
    /// The address that they go to.
    Target(SubjectKey),
    /// The client that asked for them.
    Client(IpAddr),
}

/// One count of mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MailCount {
    /// Which mails.
    pub kind: MailKind,
    /// Whether they are notices to an address that nobody verified.
    pub unverified: bool,
    /// Whose.
    pub scope: MailScope,
}

/// A count with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailBound {
    /// What is counted.
    pub count: MailCount,
    /// How many there are in a day.
    pub a_day: u64,
    /// How many wait at a time; `None` where the bound of a day is enough.
    pub waiting: Option<u64>,
}

impl NewMail {
    /// What this mail of an account is counted by, and how many of its kind there may be. `verified` says whether the account's
    /// address is known to be its owner's.
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

    /// Whether its link is over before it is sent, and it is worth nothing without.
    pub(crate) fn is_pointless(&self, now: Timestamp) -> bool {
        let wait = if self.token.is_some() { HANDOVER_WITHIN } else { Duration::ZERO };
        let end = self.valid_for.map(|ttl| self.written_at.plus(wait).plus(ttl));
        self.kind.is_only_a_link() && end.is_some_and(|end| now >= end)
    }
}

/// A given-up mail, as far as it matters for how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// Which.
    pub id: MailId,
    /// When it was last tried.
    pub at: Timestamp,
    /// The client that caused it.
    pub network: Option<IpAddr>,
}

/// Which given-up mails are no longer kept: those that are too old, and the oldest ones of the client with the most of them while
/// there are too many, so that nobody displaces what others have there.
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
    // The newest first, so that the oldest is taken from the end.
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
