//! Accounts that come from another system.

use super::account::{AccountId, CredentialHash, ProfileChange, Role};
use super::email::Email;
use super::nickname::Nickname;
use super::time::Timestamp;

/// The maximum number of forms of foreign password hashes in one data directory. Each has a row, and a login reads all of them.
pub const MAX_HASH_FORMS: usize = 64;

/// An account of another system, checked and ready to be written.
#[derive(Debug, Clone)]
pub struct ImportedAccount {
    /// The number that it keeps; `None` if it gets the next one.
    pub id: Option<AccountId>,
    /// Its address.
    pub email: Email,
    /// The name that it had. If another account has this name, the rule adds a suffix.
    pub nickname: Nickname,
    /// The hash of its password; `None` if it has no usable one.
    pub password_hash: Option<CredentialHash>,
    /// The hash of its recovery passphrase; `None` if it has no usable one.
    pub passphrase_hash: Option<CredentialHash>,
    /// Its role.
    pub role: Role,
    /// Whether it is locked.
    pub locked: bool,
    /// Whether its address counts as verified.
    pub email_verified: bool,
    /// Its customer plan and the language of its mails.
    pub profile: ProfileChange,
    /// When it was created; the time of the import if that is not known.
    pub created_at: Timestamp,
}

/// What the store knows of an account number that an import wants to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberStanding {
    /// No account has or had it.
    Free,
    /// An account that was imported earlier has it.
    Imported,
    /// An account that was imported earlier had it and was deleted since.
    Deleted,
    /// An account that was not imported has it or had it. A number is never given twice.
    Taken,
}

/// What became of one account of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportOutcome {
    /// It was created.
    Created {
        /// Its number.
        id: AccountId,
        /// Its name, if another account had the one that it should have.
        renamed: Option<Nickname>,
    },
    /// It was imported earlier and left alone, whatever changed since.
    LeftAlone {
        /// Whether its address is still the one of the import.
        same_email: bool,
    },
    /// It was imported earlier and deleted since, so it was not created again.
    DeletedSince,
    /// Another account has its address or can go back to it, so it was not created.
    EmailTaken {
        /// That account, if it has the address now.
        by: Option<AccountId>,
    },
}
