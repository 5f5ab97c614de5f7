//! Mails that wait to be sent: records, written in the same commit as what they tell of.

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
/// The longest reason for a failure that is kept, in bytes.
const MAX_ERROR_BYTES: usize = 300;

/// The number of a mail: positive, given once, rising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailId(u64);

impl MailId {
    /// A mail number; `None` for zero.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number.
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

/// A mail about to be queued. Its first attempt is due at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMail {
    /// To whom.
    pub to: Email,
    /// What about.
    pub kind: MailKind,
    /// In which language.
    pub locale: Locale,
    /// How the owner is addressed.
    pub nickname: String,
    /// From what the token of its link is derived, for the kinds that have one.
    pub seed: Option<TokenSeed>,
    /// Under what that token is found: its life begins when the mail is handed over. `None` for mails of older versions, whose
    /// tokens live from the request on.
    pub token: Option<TokenHash>,
    /// How long its link is good for.
    pub valid_for: Option<Duration>,
    /// The new address of the account.
    pub new_address: Option<Email>,
    /// From where it was done.
    pub client_address: Option<IpAddr>,
    /// The client that it is counted against and takes turns as: its address, or its IPv6 network. `None` where nobody is
    /// counted: the operator, administrators, and clients on the list of those that are not counted.
    pub network: Option<IpAddr>,
    /// With what it was done.
    pub user_agent: Option<String>,
    /// When it was written, which is when what it tells of happened.
    pub written_at: Timestamp,
    /// The same at each attempt, so that a duplicate can be recognised: part of `Message-ID`.
    pub message_key: [u8; 16],
}

/// Whether a mail will be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailState {
    /// It will.
    Queued,
    /// Not unless an administrator says so: it cannot be delivered, or was tried often enough.
    Dead,
}

/// A mail as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedMail {
    /// Its number.
    pub id: MailId,
    /// The account it goes away with; `None` for one that outlives its account.
    pub account: Option<AccountId>,
    /// The mail.
    pub mail: NewMail,
    /// Whether it will be tried again.
    pub state: MailState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is due; of a dead one, when it was last tried.
    pub next_attempt_at: Timestamp,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

impl QueuedMail {
    /// Whether it is to be sent now.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.state == MailState::Queued && self.next_attempt_at <= now
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailOutcome {
    /// The next in line has it: the record goes, and the life of its link begins.
    Sent {
        /// When.
        at: Timestamp,
    },
    /// It failed and is tried again then.
    Retry {
        /// When.
        at: Timestamp,
        /// Why it failed.
        error: String,
    },
    /// It failed and is not tried again.
    Dead {
        /// When that was.
        at: Timestamp,
        /// Why it failed.
        error: String,
    },
}

/// How long to wait after so many failed attempts: ten seconds, doubling to an hour, spread by a fifth either way so that
/// a burst of mails does not come back as a burst. `spread` is any random number.
pub(crate) fn pause_after(attempts: u32, spread: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    // From 800 to 1200 thousandths.
    pause * (800 + spread % 401) / 1000
}

/// A reason short enough to keep and without control characters: it may hold what a mail server said.
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
    fn a_reason_is_one_short_line() {
        assert_eq!(tidy_error("550\r\nno\u{1b}[31m"), "550  no [31m");
        assert_eq!(tidy_error(&"é".repeat(500)).len(), MAX_ERROR_BYTES);
    }
}
