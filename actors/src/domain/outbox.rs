//! The outbox: records of mails to be sent. Each is written in the same commit as the event that it reports.

mod bounds;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

pub use bounds::{GivenUp, HANDOVER_WITHIN, MAX_GIVEN_UP, MailBound, MailCount, MailScope, day_of, no_longer_kept};
pub(crate) use bounds::{OTHERS_A_DAY, until_tomorrow};

use super::account::AccountId;
use super::email::Email;
use super::mail::{Locale, MailKind};
use super::one_time::{TokenHash, TokenSeed};
use super::time::Timestamp;

/// The pause after the first failed attempt.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// The maximum length of a stored reason for a failure, in bytes.
const MAX_ERROR_BYTES: usize = 300;

/// The number of a mail: positive, increasing, never assigned twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailId(u64);

impl MailId {
    /// Returns the id with this number; `None` for zero.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A mail that is to be queued. Its first attempt is due at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMail {
    /// The recipient.
    pub to: Email,
    /// The subject.
    pub kind: MailKind,
    /// The language.
    pub locale: Locale,
    /// The name with which the mail addresses the owner.
    pub nickname: String,
    /// The seed of the token of its link, for the kinds that have one.
    pub seed: Option<TokenSeed>,
    /// The hash by which that token is found. Its lifetime begins when the mail is handed over.
    /// `None` for mails of older versions, whose tokens live from the request on.
    pub token: Option<TokenHash>,
    /// How long its link is valid.
    pub valid_for: Option<Duration>,
    /// The new address of the account.
    pub new_address: Option<Email>,
    /// The client address from which it was done.
    pub client_address: Option<IpAddr>,
    /// The client that it is counted against and takes turns as: its address, or its IPv6 network.
    /// `None` if no client is counted: for the operator, administrators, and clients on the list of uncounted ones.
    pub network: Option<IpAddr>,
    /// The user agent with which it was done.
    pub user_agent: Option<String>,
    /// When it was written, which is when the reported event happened.
    pub written_at: Timestamp,
    /// A part of `Message-ID` that is the same in each attempt, so that duplicates can be recognised.
    pub message_key: [u8; 16],
}

/// Whether a mail will be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailState {
    /// It will be tried again.
    Queued,
    /// It is tried again only if an administrator requests it: it cannot be delivered, or had the maximum number of attempts.
    Dead,
}

/// A mail as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedMail {
    /// Its number.
    pub id: MailId,
    /// The account with which it is deleted; `None` for a mail that outlives its account.
    pub account: Option<AccountId>,
    /// The mail.
    pub mail: NewMail,
    /// Whether it will be tried again.
    pub state: MailState,
    /// The number of attempts so far.
    pub attempts: u32,
    /// When it is due; for a dead mail, when it was last tried.
    pub next_attempt_at: Timestamp,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

impl QueuedMail {
    /// Returns whether it is to be sent now.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.state == MailState::Queued && self.next_attempt_at <= now
    }
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailOutcome {
    /// The next mail server accepted it: the record is removed, and the lifetime of its link begins.
    Sent {
        /// When it was accepted.
        at: Timestamp,
    },
    /// It failed and is tried again at `at`.
    Retry {
        /// When the next attempt is due.
        at: Timestamp,
        /// Why it failed.
        error: String,
    },
    /// It failed and is not tried again.
    Dead {
        /// When it failed.
        at: Timestamp,
        /// Why it failed.
        error: String,
    },
}

/// Returns the pause after this number of failed attempts: 10 s, doubling up to one hour.
/// It varies by a fifth either way, so that a burst of mails does not come back as a burst. `spread` is any random number.
pub(crate) fn pause_after(attempts: u32, spread: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    // From 800 to 1200 thousandths.
    pause * (800 + spread % 401) / 1000
}

/// Cuts a reason to a length that can be kept and replaces control characters by spaces, because it may quote a mail server.
pub(crate) fn tidy_error(error: &str) -> String {
    let mut kept = String::new();
    for c in error.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if kept.len() + c.len_utf8() > MAX_ERROR_BYTES {
            break;
        }
        kept.push(c);
    }
    kept
}

/// Replaces each word of a text that contains an `@`. A mail server may quote the recipient, whom a report must not name.
pub(crate) fn without_addresses(text: &str) -> String {
    let words = text.split(' ').map(|word| if word.contains('@') { "(address)" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_ten_seconds_to_an_hour() {
        let middle = |attempts| pause_after(attempts, 200);
        assert_eq!(middle(1), Duration::from_secs(10));
        assert_eq!(middle(2), Duration::from_secs(20));
        assert_eq!(middle(9), Duration::from_secs(2560));
        assert_eq!(middle(10), Duration::from_hours(1));
        assert_eq!(middle(u32::MAX), Duration::from_hours(1));
        assert_eq!(pause_after(1, 0), Duration::from_secs(8));
        assert_eq!(pause_after(1, 400), Duration::from_secs(12));
        assert_eq!(pause_after(1, u32::MAX), pause_after(1, u32::MAX % 401));
    }

    #[test]
    fn a_report_names_no_recipient() {
        let told = without_addresses("550 5.1.1 <ann@example.com>: Recipient rejected (see ann@example.com)");
        assert_eq!(told, "550 5.1.1 (address) Recipient rejected (see (address)");
    }

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(tidy_error("550\r\nno\u{1b}[31m"), "550  no [31m");
        assert_eq!(tidy_error(&"é".repeat(500)).len(), MAX_ERROR_BYTES);
    }
}
