//! The revocations for services that verify tokens themselves: sessions that ended before their tokens expired, and accounts whose
//! tokens contain outdated claims.

use aws_lc_rs::digest;

use super::account::{AccountId, Role};
use super::session::SessionId;
use super::time::Timestamp;

/// An event that invalidates tokens or makes their claims outdated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// When it happened.
    pub at: Timestamp,
    /// The account whose tokens are affected; `None` with [`Revoked::KeysReplaced`], which affects all accounts.
    pub account: Option<AccountId>,
    /// The kind of event.
    pub what: Revoked,
}

/// The kind of event. Each session that ends is listed individually, so the session id (`sid`) alone tells whether a token is revoked.
/// The other kinds tell more about the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// This session ended, for any reason.
    Session(SessionId),
    /// The account was locked.
    AccountLocked,
    /// The account was deleted.
    AccountDeleted,
    /// The account has this role now; earlier tokens contain another one.
    Role(Role),
    /// All keys that were published before, and all tokens that they signed, are invalid.
    KeysReplaced,
}

impl Revocation {
    /// Returns a hash that identifies this revocation together with its number, even after a backup was restored and numbers are
    /// assigned again.
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
    /// Returns the kind as text.
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

/// The kept part of the log of revocations. The numbers have no gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationSpan {
    /// The number before the oldest kept one. A reader that has seen this number has missed nothing.
    pub before: u64,
    /// The number of the newest one; 0 if there never was one.
    pub last: u64,
}

/// Why the revocations after a number cannot be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorError {
    /// Some of them were removed, or the number now belongs to another revocation.
    TooOld,
    /// The number has not been assigned yet.
    Future,
}

impl RevocationSpan {
    /// Checks that all revocations after this number can be listed.
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
