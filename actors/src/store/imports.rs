//! The store's methods for accounts of other systems.

use super::{ImportBatch, ImportRefusal, Store, StoreError, StoreFailure, reads, rules};
use crate::domain::account::{Account, AccountId};
use crate::domain::hash_form::HashForms;
use crate::domain::import::{ImportOutcome, NumberStanding};

impl Store {
    /// Returns what is known of each of these numbers, in their order.
    pub async fn number_standings(&self, ids: Vec<AccountId>) -> Result<Vec<NumberStanding>, StoreFailure> {
        self.ask(move |rows| ids.iter().map(|id| reads::import::standing(rows, *id)).collect()).await
    }

    /// Returns at most `limit` accounts with numbers after this one, by number.
    ///
    /// # Errors
    /// Also if one of them cannot be read: an export without it would look complete.
    pub async fn accounts_after(&self, after: Option<AccountId>, limit: usize) -> Result<Vec<Account>, StoreFailure> {
        self.ask(move |rows| reads::import::accounts_after(rows, after, limit)).await
    }

    /// Returns how many accounts have which foreign form of a password hash.
    pub async fn hash_forms(&self) -> Result<HashForms, StoreFailure> {
        self.ask(reads::import::hash_forms).await
    }

    /// Writes a batch of imported accounts in one commit and returns what became of each, in their order.
    ///
    /// An account that was imported earlier is left alone, so the same import may be repeated, also after it was interrupted.
    /// The first account that is created reserves all numbers of the import and ends the rule that the first user becomes an
    /// administrator. No mail is queued.
    pub async fn import_accounts(&self, batch: ImportBatch) -> Result<Vec<ImportOutcome>, StoreError<ImportRefusal>> {
        self.change(move |tx| rules::import_accounts(tx, &batch)).await
    }
}
