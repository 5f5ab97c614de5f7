//! The rule that writes a batch of imported accounts.

use super::super::engine::Fault;
use super::super::layout;
use super::super::reads::import::{hash_forms, standing};
use super::super::requests::{ImportBatch, ImportRefusal};
use super::super::transaction::{Abort, Transaction};
use super::{append, count_admin, end_first_user_rule, is_reserved, next};
use crate::domain::account::{Account, AccountId, AccountOrigin};
use crate::domain::audit::{AuditDetails, AuditRecord};
use crate::domain::email::EmailKey;
use crate::domain::hash_form::{HashCount, HashForm};
use crate::domain::import::{ImportOutcome, ImportedAccount, MAX_HASH_FORMS, NumberStanding};
use crate::domain::nickname::Nickname;
use crate::store::codec::RecordError;

/// Writes the accounts of a batch that can be written, and tells what became of each, in their order.
/// If none can be written, nothing is.
pub(crate) fn import_accounts(
    tx: &mut Transaction<'_>,
    batch: &ImportBatch,
) -> Result<Vec<ImportOutcome>, Abort<ImportRefusal>> {
    let mut outcomes = Vec::with_capacity(batch.accounts.len());
    let mut created: u64 = 0;
    // Before the numbers of this batch are reserved, an earlier registration still shows as such.
    for account in &batch.accounts {
        if let Some(id) = account.id
            && standing(tx.rows(), id)? == NumberStanding::Taken
        {
            return Err(Abort::Refused(ImportRefusal::NumberTaken(id)));
        }
    }
    for account in &batch.accounts {
        let outcome = import(tx, account, batch)?;
        created += u64::from(matches!(outcome, ImportOutcome::Created { .. }));
        outcomes.push(outcome);
    }
    if created == 0 {
        return Ok(outcomes);
    }
    let accounts = tx.counter(layout::ACCOUNTS)?.saturating_add(created);
    tx.put(layout::ACCOUNTS, &accounts)?;
    // The first-user rule is for a new directory. Nobody who registers now came first.
    end_first_user_rule(tx)?;
    append(tx, &AuditRecord { details: Some(AuditDetails::Counted(created)), ..batch.audit.clone() })?;
    Ok(outcomes)
}

fn import(
    tx: &mut Transaction<'_>,
    new: &ImportedAccount,
    batch: &ImportBatch,
) -> Result<ImportOutcome, Abort<ImportRefusal>> {
    if let Some(outcome) = known(tx, new)? {
        return Ok(outcome);
    }
    let email = layout::email(new.email.key());
    if let Some(by) = tx.get(&email)? {
        return Ok(ImportOutcome::EmailTaken { by: Some(by) });
    }
    if is_reserved(tx, new.email.key(), None, batch.audit.at)? {
        return Ok(ImportOutcome::EmailTaken { by: None });
    }
    reserve_numbers(tx, batch.last_number)?;
    let id = match new.id {
        Some(id) => id,
        None => AccountId::new(next(tx, layout::LAST_ACCOUNT_ID)?)
            .ok_or(RecordError::Unreadable { kind: "counter", why: "account number zero" })?,
    };
    let nickname = free_nickname(tx, &new.nickname, id)?;
    let renamed = (nickname.key() != new.nickname.key()).then(|| nickname.clone());
    let account = account(new, id, nickname);
    tx.put(&email, &id)?;
    tx.put(&layout::nickname(account.nickname.key()), &id)?;
    tx.put(&layout::account(id), &account)?;
    count_admin(tx, None, Some(&account))?;
    if let Some(form) = account.password_hash.as_ref().and_then(HashForm::of) {
        count_form(tx, &form)?;
    }
    Ok(ImportOutcome::Created { id, renamed })
}

/// Returns the outcome for an account that was imported earlier; `None` for another one.
fn known(tx: &Transaction<'_>, new: &ImportedAccount) -> Result<Option<ImportOutcome>, Abort<ImportRefusal>> {
    let Some(id) = new.id else {
        // Without a number, its address tells.
        return Ok(match holder(tx, new.email.key())? {
            Some(holder) if holder.origin == AccountOrigin::Import => {
                Some(ImportOutcome::LeftAlone { same_email: true })
            }
            _ => None,
        });
    };
    match standing(tx.rows(), id)? {
        NumberStanding::Free => Ok(None),
        NumberStanding::Taken => Err(Abort::Refused(ImportRefusal::NumberTaken(id))),
        NumberStanding::Deleted => Ok(Some(ImportOutcome::DeletedSince)),
        NumberStanding::Imported => {
            let now = tx.get::<Account>(&layout::account(id))?;
            let same_email = now.is_some_and(|now| now.email.key() == new.email.key());
            Ok(Some(ImportOutcome::LeftAlone { same_email }))
        }
    }
}

fn holder(tx: &Transaction<'_>, email: &EmailKey) -> Result<Option<Account>, Fault> {
    let Some(id) = tx.get::<AccountId>(&layout::email(email))? else { return Ok(None) };
    tx.get(&layout::account(id))
}

fn account(new: &ImportedAccount, id: AccountId, nickname: Nickname) -> Account {
    let mut account = Account {
        password_hash: new.password_hash.clone(),
        passphrase_hash: new.passphrase_hash.clone(),
        origin: AccountOrigin::Import,
        locked: new.locked,
        email_verified: new.email_verified,
        ..Account::new(id, new.email.clone(), nickname, new.role, new.created_at)
    };
    new.profile.apply(&mut account);
    account
}

/// Keeps the numbers of the whole import from being given to others, so that an import that was interrupted can continue.
fn reserve_numbers(tx: &mut Transaction<'_>, last: Option<AccountId>) -> Result<(), Fault> {
    let Some(last) = last else { return Ok(()) };
    let given = tx.counter(layout::LAST_ACCOUNT_ID)?;
    if last.get() <= given {
        return Ok(());
    }
    let first =
        AccountId::new(given + 1).ok_or(RecordError::Unstorable { kind: "counter", why: "it is at its end" })?;
    tx.put(&layout::import_numbers(last), &first)?;
    tx.put(layout::LAST_ACCOUNT_ID, &last.get())
}

/// Returns the name, or the name with a suffix if another account has it: the number of the account, and more until it is free.
fn free_nickname(tx: &Transaction<'_>, wanted: &Nickname, id: AccountId) -> Result<Nickname, Fault> {
    let mut name = wanted.clone();
    let mut more: u64 = 1;
    while tx.has(&layout::nickname(name.key()))? {
        let suffix = if more == 1 { format!("-{id}") } else { format!("-{id}-{more}") };
        name =
            wanted.with_suffix(&suffix).ok_or(RecordError::Unstorable { kind: "nickname", why: "it has no suffix" })?;
        more += 1;
    }
    Ok(name)
}

fn count_form(tx: &mut Transaction<'_>, form: &HashForm) -> Result<(), Abort<ImportRefusal>> {
    let key = layout::hash_count(form);
    let count = match tx.get::<HashCount>(&key)? {
        Some(count) => HashCount { now: count.now.saturating_add(1), ever: count.ever.saturating_add(1) },
        None if hash_forms(tx.rows())?.foreign.len() >= MAX_HASH_FORMS => {
            return Err(Abort::Refused(ImportRefusal::TooManyHashForms));
        }
        None => HashCount { now: 1, ever: 1 },
    };
    Ok(tx.put(&key, &count)?)
}
