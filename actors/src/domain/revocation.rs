//! What services that check tokens themselves have to hear of: sessions that ended before their tokens did, and accounts whose
//! tokens say something that is no longer so.

use aws_lc_rs::digest;

use super::account::{AccountId, Role};
use super::session::SessionId;
use super::time::Timestamp;

/// Something that makes tokens worthless, or wrong in what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// When it happened.
    pub at: Timestamp,
    /// Whose tokens it concerns; `None` with [`Revoked::KeysReplaced`], which concerns everybody's.
    pub account: Option<AccountId>,
    /// What happened.
    pub what: Revoked,
}

/// What happened. An account's sessions are named one by one whenever they end, so that the id of the session (`sid`) alone says
/// whether a token is dead; the other kinds say more about the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// This session ended, whatever ended it.
    Session(SessionId),
    /// The account was locked.
    AccountLocked,
    /// The account was deleted.
    AccountDeleted,
    /// The account has this role now; a token issued before names another.
    Role(Role),
    /// Every key that was published before is worthless, and so is what it signed.
    KeysReplaced,
}

impl Revocation {
    /// A few bits of what this is and no other one: with its number, they name it across a restore of a backup, after which
    /// numbers are given again.
    #[must_use]
    pub fn mark(&self) -> u32 {
        let mut told = digest::Context::new(&digest::SHA256);
        told.update(&self.at.as_millis().to_be_bytes());
        told.update(&self.account.map_or(0, AccountId::get).to_be_bytes());
        told.update(self.what.as_str().as_bytes());
        match &self.what {
            Revoked::Session(session) => told.update(session.as_bytes()),
            Revoked::Role(role) => told.update(role.as_str().as_bytes()),
            Revoked::AccountLocked | Revoked::AccountDeleted | Revoked::KeysReplaced => {}
        }
        told.finish().as_ref().iter().take(4).fold(0, |mark, byte| mark << 8 | u32::from(*byte))
    }
}

impl Revoked {
    /// The kind as it is written.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Session(_) => "session_ended",
            Self::AccountLocked => "account_locked",
            Self::AccountDeleted => "account_deleted",
            Self::Role(_) => "role_changed",
            Self::KeysReplaced => "keys_replaced",
        }
    }
}

/// What is kept of the log of revocations. Numbers have no gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationSpan {
    /// The number before the oldest one that is kept: whoever has seen this one misses nothing.
    pub before: u64,
    /// The number of the newest one; 0 if there never was one.
    pub last: u64,
}

/// Why revocations after a number cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorError {
    /// Some of them are gone, or the number is another one's now.
    TooOld,
    /// There is no such number yet.
    Future,
}

impl RevocationSpan {
    /// Whether what came after this number can be told.
    pub fn check(self, after: u64) -> Result<(), CursorError> {
        if after > self.last {
            Err(CursorError::Future)
        } else if after < self.before {
            Err(CursorError::TooOld)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_from_before_the_oldest_to_the_newest() {
        let span = RevocationSpan { before: 3, last: 5 };
        assert_eq!(span.check(2), Err(CursorError::TooOld));
        assert_eq!((span.check(3), span.check(5)), (Ok(()), Ok(())));
        assert_eq!(span.check(6), Err(CursorError::Future));
        assert_eq!(RevocationSpan { before: 0, last: 0 }.check(0), Ok(()));
    }
}
