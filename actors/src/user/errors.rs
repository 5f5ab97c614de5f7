//! Why accounts were not made, changed, recovered or opened.

use std::time::Duration;

use super::RefreshError;
use crate::ask::Unavailable;
use crate::domain::password::WeakPassword;
use crate::rate_limiter::Limited;

/// Why an account was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterError {
    /// The session in whose name it was to be done was ended meanwhile, or lost its role.
    Revoked,
    /// The password is not good enough.
    Weak(WeakPassword),
    /// Another account has this address.
    EmailTaken,
    /// Another account has this nickname.
    NicknameTaken,
    /// Owners do not choose their own customer plan here.
    CustomerAccountNotAllowed,
    /// It could not be done just now.
    Unavailable(Unavailable),
}

/// Why a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginError {
    /// No such account, another password, a locked account, or an unverified one where verification is required: the same to
    /// whoever asks (S10).
    Incorrect,
    /// There were too many failed attempts before it; whether this one would have succeeded was not looked at.
    Limited(Limited),
    /// It could not be found out just now.
    Unavailable(Unavailable),
}

/// Why a link from a mail did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfirmError {
    /// The token is unknown, used, replaced, over or for something else: the same to whoever asks.
    BadToken,
    /// Another account took the address meanwhile.
    EmailTaken,
    /// There were too many failed attempts before it; whether this one would have succeeded was not looked at.
    Limited(Limited),
    /// It could not be done just now.
    Unavailable(Unavailable),
}

/// Why a recovery by mail failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailedRecoveryError {
    /// The token is not good.
    BadToken,
    /// The passphrase is wrong. The token stays good.
    NoMatch,
    /// The passphrase is asked for as well, and did not come along.
    PassphraseNeeded,
    /// The new password is not good enough. The token stays good.
    Weak(WeakPassword),
    /// There were too many failed attempts before it; whether this one would have succeeded was not looked at.
    Limited(Limited),
    /// It could not be done just now.
    Unavailable(Unavailable),
}

/// Why a recovery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoverError {
    /// Recovery by the passphrase alone is not offered here.
    NotOffered,
    /// No such account, another passphrase, or a locked account: the same to whoever asks (S12).
    NoMatch,
    /// The new password is not good enough.
    Weak(WeakPassword),
    /// There were too many failed attempts before it; whether this one would have succeeded was not looked at.
    Limited(Limited),
    /// It could not be done just now.
    Unavailable(Unavailable),
}

/// Why an account was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateError {
    /// There is no such account.
    Unknown,
    /// The session in whose name it was to be done was ended meanwhile, or lost its role.
    Revoked,
    /// The new password is not good enough.
    Weak(WeakPassword),
    /// Another account has this address.
    EmailTaken,
    /// Another account has this nickname.
    NicknameTaken,
    /// Owners do not choose their own customer plan here.
    CustomerAccountNotAllowed,
    /// The change needs the current password or a login at most this old, and neither is there (S05, S77).
    ReauthenticationNeeded(Duration),
    /// No unlocked administrator would be left (S58).
    LastAdmin,
    /// There were too many failed attempts before it; whether this one would have succeeded was not looked at.
    Limited(Limited),
    /// It could not be done just now.
    Unavailable(Unavailable),
}

/// Why an account was not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteError {
    /// There is no such account.
    Unknown,
    /// The session in whose name it was to be done was ended meanwhile, or lost its role.
    Revoked,
    /// Administrators delete their own account as its owners, not as administrators.
    OwnAccount,
    /// Deletion needs the current password or a login at most this old, and neither is there (S05, S77).
    ReauthenticationNeeded(Duration),
    /// No unlocked administrator would be left while other accounts exist (S58).
    LastAdmin,
    /// There were too many failed attempts before it; whether this one would have succeeded was not looked at.
    Limited(Limited),
    /// It could not be done just now.
    Unavailable(Unavailable),
}

/// Why an administrator may not do something sensitive just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofError {
    /// It needs the current password or a login at most this old, and neither is there (S77).
    ReauthenticationNeeded(Duration),
    /// There were too many failed attempts before it; whether this one would have succeeded was not looked at.
    Limited(Limited),
    /// It could not be found out just now.
    Unavailable(Unavailable),
}

impl From<ProofError> for UpdateError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::ReauthenticationNeeded(within) => Self::ReauthenticationNeeded(within),
            ProofError::Limited(limited) => Self::Limited(limited),
            ProofError::Unavailable(unavailable) => Self::Unavailable(unavailable),
        }
    }
}

impl From<ProofError> for DeleteError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::ReauthenticationNeeded(within) => Self::ReauthenticationNeeded(within),
            ProofError::Limited(limited) => Self::Limited(limited),
            ProofError::Unavailable(unavailable) => Self::Unavailable(unavailable),
        }
    }
}

/// Gives each refusal a conversion from what makes any question fail.
macro_rules! unavailable {
    ($($error:ident),+) => {$(
        impl<E: Into<Unavailable>> From<E> for $error {
            fn from(error: E) -> Self {
                Self::Unavailable(error.into())
            }
        }
    )+};
}
/// Gives each refusal a conversion from an attempt that was not let in.
macro_rules! limited {
    ($($error:ident),+) => {$(
        impl From<Limited> for $error {
            fn from(limited: Limited) -> Self {
                Self::Limited(limited)
            }
        }
    )+};
}
limited!(
    LoginError,
    RefreshError,
    RecoverError,
    UpdateError,
    DeleteError,
    ProofError,
    ConfirmError,
    MailedRecoveryError
);

unavailable!(
    RegisterError,
    LoginError,
    RefreshError,
    RecoverError,
    UpdateError,
    DeleteError,
    ProofError,
    ConfirmError,
    MailedRecoveryError
);
