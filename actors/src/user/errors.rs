//! The reasons why a request of accounts was refused.

use std::time::Duration;

use super::RefreshError;
use crate::ask::Unavailable;
use crate::domain::password::WeakPassword;
use crate::rate_limiter::Limited;

/// Why an account was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterError {
    /// The acting session was ended in the meantime, or its account lost the role.
    Revoked,
    /// The password is not good enough.
    Weak(WeakPassword),
    /// Another account has this address.
    EmailTaken,
    /// Another account has this nickname.
    NicknameTaken,
    /// Owners may not choose their own customer plan here.
    CustomerAccountNotAllowed,
    /// It could not be done now; the client may try again.
    Unavailable(Unavailable),
}

/// Why a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginError {
    /// The account does not exist, the password is wrong, the account is locked, or it is unverified where verification is required.
    /// The client is not told which (S10).
    Incorrect,
    /// There were too many failed attempts before this one, which was therefore not checked.
    Limited(Limited),
    /// It could not be checked now; the client may try again.
    Unavailable(Unavailable),
}

/// Why a link from a mail did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfirmError {
    /// The token is unknown, used, replaced, expired or for another purpose. The client is not told which.
    BadToken,
    /// Another account took the address in the meantime.
    EmailTaken,
    /// There were too many failed attempts before this one, which was therefore not checked.
    Limited(Limited),
    /// It could not be done now; the client may try again.
    Unavailable(Unavailable),
}

/// Why a recovery by mail failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailedRecoveryError {
    /// The token is not valid.
    BadToken,
    /// The passphrase is wrong. The token stays valid.
    NoMatch,
    /// The recovery also requires the passphrase, and the request had none.
    PassphraseNeeded,
    /// The new password is not good enough. The token stays valid.
    Weak(WeakPassword),
    /// There were too many failed attempts before this one, which was therefore not checked.
    Limited(Limited),
    /// It could not be done now; the client may try again.
    Unavailable(Unavailable),
}

/// Why a recovery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoverError {
    /// Recovery by the passphrase alone is not offered here.
    NotOffered,
    /// The account does not exist, the passphrase is wrong, or the account is locked. The client is not told which (S12).
    NoMatch,
    /// The new password is not good enough.
    Weak(WeakPassword),
    /// There were too many failed attempts before this one, which was therefore not checked.
    Limited(Limited),
    /// It could not be done now; the client may try again.
    Unavailable(Unavailable),
}

/// Why an account was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateError {
    /// The account does not exist.
    Unknown,
    /// The acting session was ended in the meantime, or its account lost the role.
    Revoked,
    /// The new password is not good enough.
    Weak(WeakPassword),
    /// Another account has this address.
    EmailTaken,
    /// Another account has this nickname.
    NicknameTaken,
    /// Owners may not choose their own customer plan here.
    CustomerAccountNotAllowed,
    /// The change requires the current password or a login at most this old; the request had neither (S05, S77).
    ReauthenticationNeeded(Duration),
    /// No unlocked administrator would be left (S58).
    LastAdmin,
    /// There were too many failed attempts before this one, which was therefore not checked.
    Limited(Limited),
    /// It could not be done now; the client may try again.
    Unavailable(Unavailable),
}

/// Why an account was not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteError {
    /// The account does not exist.
    Unknown,
    /// The acting session was ended in the meantime, or its account lost the role.
    Revoked,
    /// Administrators delete their own account as its owner, not as administrator.
    OwnAccount,
    /// The deletion requires the current password or a login at most this old; the request had neither (S05, S77).
    ReauthenticationNeeded(Duration),
    /// No unlocked administrator would be left while other accounts exist (S58).
    LastAdmin,
    /// There were too many failed attempts before this one, which was therefore not checked.
    Limited(Limited),
    /// It could not be done now; the client may try again.
    Unavailable(Unavailable),
}

/// Why an administrator may not do something sensitive now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofError {
    /// It requires the current password or a login at most this old; the request had neither (S77).
    ReauthenticationNeeded(Duration),
    /// There were too many failed attempts before this one, which was therefore not checked.
    Limited(Limited),
    /// It could not be checked now; the client may try again.
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

/// Converts each error that means "unavailable" into these error types.
macro_rules! unavailable {
    ($($error:ident),+) => {$(
        impl<E: Into<Unavailable>> From<E> for $error {
            fn from(error: E) -> Self {
                Self::Unavailable(error.into())
            }
        }
    )+};
}
/// Converts the refusal of an attempt by the rate limiter into these error types.
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
