//! The operator's import of accounts into a data directory that no server has open.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::OperatorPorts;
use crate::ask::Unavailable;
use crate::auditor::log_head;
use crate::domain::account::{AccountId, CredentialHash};
use crate::domain::audit::{AuditEvent, AuditRecord};
use crate::domain::hash_form::HashForms;
use crate::domain::import::{ImportOutcome, ImportedAccount, NumberStanding};
use crate::domain::passphrase::Passphrase;
use crate::domain::password::PasswordPolicy;
use crate::domain::time::Timestamp;
use crate::hasher::{HasherHandle, HasherSettings, HasherStartError};
use crate::store::{ImportBatch, ImportRefusal, StoreError, StoreFailure};

/// The number of accounts of one commit. With about 500 bytes an account, a commit is as large as the largest group of the server.
pub const IMPORT_BATCH: usize = 512;
/// How long a passphrase may wait for its hash. Nobody else hashes, so it waits only for the others of its batch.
const HASH_DEADLINE: Duration = Duration::from_hours(1);

/// An account to import, with its passphrase as the other system had it.
#[derive(Debug, Clone)]
pub struct AccountToImport {
    /// The account. Its `passphrase_hash` is replaced if there is a passphrase.
    pub account: ImportedAccount,
    /// The passphrase, to be hashed; `None` if the account has none, or a hash of it.
    pub passphrase: Option<Passphrase>,
}

/// Why a batch was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A rule refuses it; nothing of the batch was written.
    #[error(transparent)]
    Refused(ImportRefusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// A passphrase could not be hashed.
    #[error("a passphrase could not be hashed")]
    Hasher,
}

impl From<Unavailable> for ImportError {
    fn from(_: Unavailable) -> Self {
        Self::Hasher
    }
}

/// Imports accounts. The hashing threads end when it is dropped.
pub struct Importer {
    ports: OperatorPorts,
    hasher: HasherHandle,
    at_once: usize,
}

impl Importer {
    /// Starts one hashing thread for each core, because no login waits meanwhile.
    ///
    /// # Errors
    /// The threads could not be started.
    pub fn start(ports: OperatorPorts, hasher: HasherSettings) -> Result<Self, HasherStartError> {
        let threads = available_parallelism().map_or(1, NonZeroUsize::get);
        let hasher = HasherSettings { threads, queue: IMPORT_BATCH, deadline: HASH_DEADLINE, ..hasher };
        let (clock, entropy) = (Arc::clone(&ports.clock), Arc::clone(&ports.entropy));
        // No password is judged: those of an import are in use.
        let policy = PasswordPolicy { min_score: 0 };
        let hasher = HasherHandle::start(hasher, policy, None, clock, entropy)?;
        Ok(Self { ports, hasher, at_once: 2 * threads })
    }

    /// Returns the time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// Returns what is known here of each of these numbers, in their order.
    pub async fn number_standings(&self, ids: Vec<AccountId>) -> Result<Vec<NumberStanding>, StoreFailure> {
        self.ports.store.number_standings(ids).await
    }

    /// Returns which foreign forms of password hashes there are here.
    pub async fn hash_forms(&self) -> Result<HashForms, StoreFailure> {
        self.ports.store.hash_forms().await
    }

    /// Returns whether an active administrator can log in, or one may still come from the first-user rule.
    pub async fn had_admin(&self) -> Result<bool, StoreFailure> {
        self.ports.store.had_admin().await
    }

    /// Writes the number and hash of the newest audit record to the log, as every command does before and after its changes.
    pub async fn log_audit_head(&self) {
        log_head(&self.ports.store).await;
    }

    /// Imports some accounts in one commit: at most [`IMPORT_BATCH`]. Returns what became of each, in their order.
    /// `last_number` is the highest number in the whole import.
    pub async fn import(
        &self,
        accounts: Vec<AccountToImport>,
        last_number: Option<AccountId>,
    ) -> Result<Vec<ImportOutcome>, ImportError> {
        let accounts = self.hash_passphrases(accounts).await?;
        let audit = AuditRecord::new(AuditEvent::AccountsImported, self.ports.clock.now());
        match self.ports.store.import_accounts(ImportBatch { accounts, last_number, audit }).await {
            Ok(outcomes) => Ok(outcomes),
            Err(StoreError::Refused(refusal)) => Err(ImportError::Refused(refusal)),
            Err(StoreError::Failed(failure)) => Err(failure.into()),
        }
    }

    /// Hashes the passphrases of the accounts that will be created. The others need none.
    pub async fn hash_passphrases(&self, accounts: Vec<AccountToImport>) -> Result<Vec<ImportedAccount>, ImportError> {
        let hashed = stream::iter(accounts).map(async |AccountToImport { account, passphrase }| {
            let hash = match passphrase {
                Some(passphrase) if self.will_be_created(&account).await? => {
                    Some(self.hasher.hash(passphrase.secret().clone()).await?)
                }
                _ => None,
            };
            let passphrase_hash: Option<CredentialHash> = hash.or_else(|| account.passphrase_hash.clone());
            Ok(ImportedAccount { passphrase_hash, ..account })
        });
        hashed.buffered(self.at_once).try_collect().await
    }

    /// Returns whether neither the number nor the address is taken. Only saves hashes; the commit decides.
    async fn will_be_created(&self, account: &ImportedAccount) -> Result<bool, StoreFailure> {
        let standing = match account.id {
            Some(id) => self.ports.store.number_standings(vec![id]).await?.first().copied(),
            None => None,
        };
        Ok(standing.is_none_or(|standing| standing == NumberStanding::Free)
            && self.ports.store.account_by_email(account.email.key()).await?.is_none())
    }
}
