//! What `doorward import` and a running server say to each other, in lines of JSON, over the control socket.
//!
//! The command reads the file and hashes passphrases; the server looks accounts up and writes them. Both are the same program, and the
//! server takes commands of its own user and the superuser alone.

use doorward_actors::{
    AccountId, CredentialHash, Email, ImportOutcome, ImportedAccount, Nickname, NumberStanding, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::ndjson::{AccountLine, to_import};

/// The maximum number of accounts that a running server writes in one commit: some 3 ms, for which other changes wait.
pub(super) const SERVER_BATCH: usize = 128;
/// The maximum length of a line, in bytes: a batch of accounts with the longest values has about 400,000.
pub(super) const MAX_LINE: u64 = 4 * 1024 * 1024;

/// What the command asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Ask {
    /// What is known of these account numbers?
    Numbers { numbers: Vec<AccountNumber> },
    /// Which foreign forms of password hashes are there?
    HashForms,
    /// Was there ever an administrator?
    HadAdmin,
    /// Which of these accounts are not known, so that their passphrases have to be hashed?
    Unknown { accounts: Vec<(Option<AccountNumber>, String)> },
    /// Write these accounts in one commit.
    Write { accounts: Vec<AccountLine>, last_number: Option<AccountNumber> },
}

/// What the server answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub(super) enum Told {
    Numbers {
        standings: Vec<Standing>,
    },
    HashForms {
        forms: Vec<String>,
    },
    HadAdmin {
        had_admin: bool,
    },
    Unknown {
        unknown: Vec<bool>,
    },
    Written {
        outcomes: Vec<Outcome>,
    },
    /// It could not be done. Nothing was written by this request.
    Failed {
        why: String,
    },
}

/// The number of an account. 0 is none.
pub(super) type AccountNumber = u64;

/// [`NumberStanding`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    Free,
    Imported,
    Deleted,
    Taken,
}

impl From<NumberStanding> for Standing {
    fn from(standing: NumberStanding) -> Self {
        match standing {
            NumberStanding::Free => Self::Free,
            NumberStanding::Imported => Self::Imported,
            NumberStanding::Deleted => Self::Deleted,
            NumberStanding::Taken => Self::Taken,
        }
    }
}

impl From<Standing> for NumberStanding {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Free => Self::Free,
            Standing::Imported => Self::Imported,
            Standing::Deleted => Self::Deleted,
            Standing::Taken => Self::Taken,
        }
    }
}

/// [`ImportOutcome`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum Outcome {
    Created { id: AccountNumber, renamed: Option<String> },
    LeftAlone { same_email: bool },
    DeletedSince,
    EmailTaken { by: Option<AccountNumber> },
}

impl From<ImportOutcome> for Outcome {
    fn from(outcome: ImportOutcome) -> Self {
        match outcome {
            ImportOutcome::Created { id, renamed } => {
                Self::Created { id: id.get(), renamed: renamed.map(|name| name.as_str().to_owned()) }
            }
            ImportOutcome::LeftAlone { same_email } => Self::LeftAlone { same_email },
            ImportOutcome::DeletedSince => Self::DeletedSince,
            ImportOutcome::EmailTaken { by } => Self::EmailTaken { by: by.map(AccountId::get) },
        }
    }
}

impl Outcome {
    /// Reads an outcome; `None` if it is none.
    pub(super) fn read(self) -> Option<ImportOutcome> {
        Some(match self {
            Self::Created { id, renamed } => ImportOutcome::Created {
                id: AccountId::new(id)?,
                renamed: match renamed {
                    Some(name) => Some(Nickname::parse(&name).ok()?),
                    None => None,
                },
            },
            Self::LeftAlone { same_email } => ImportOutcome::LeftAlone { same_email },
            Self::DeletedSince => ImportOutcome::DeletedSince,
            Self::EmailTaken { by } => ImportOutcome::EmailTaken { by: by.and_then(AccountId::new) },
        })
    }
}

/// Reads an account that the command sent; `None` if it is none.
pub(super) fn account(mut line: AccountLine, now: Timestamp) -> Option<ImportedAccount> {
    // The command made this hash at the cost of its settings, which may be higher than what a file may have.
    let passphrase = line.take_passphrase_hash().map(CredentialHash::from_phc);
    let account = to_import(line, now)?;
    Some(ImportedAccount { passphrase_hash: passphrase, ..account })
}

/// Describes an account by which the server finds it.
pub(super) fn named(account: &ImportedAccount) -> (Option<AccountNumber>, String) {
    (account.id.map(AccountId::get), account.email.as_str().to_owned())
}

/// Reads an address that the command sent; `None` if it is none.
pub(super) fn email(text: &str) -> Option<Email> {
    Email::parse(text).ok()
}
