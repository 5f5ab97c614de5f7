//! Queries of imports.

use std::ops::Bound;

use super::super::engine::{Fault, Rows};
use super::super::{codec, layout};
use super::{counter, get, walk, walk_prefix};
use crate::domain::account::{Account, AccountId, AccountOrigin};
use crate::domain::hash_form::HashForms;
use crate::domain::import::NumberStanding;

/// Returns what is known of a number that an import wants to use.
///
/// A number up to the last one that was given, of which nothing is known, belonged to an account that was deleted. The exception are
/// the numbers that an import took and did not use, because their accounts were refused: a later import may bring those.
pub(crate) fn standing(rows: &dyn Rows, id: AccountId) -> Result<NumberStanding, Fault> {
    if let Some(account) = get::<Account>(rows, &layout::account(id))? {
        let imported = account.origin == AccountOrigin::Import;
        return Ok(if imported { NumberStanding::Imported } else { NumberStanding::Taken });
    }
    if rows.has(&layout::import_deleted(id))? {
        return Ok(NumberStanding::Deleted);
    }
    if id.get() > counter(rows, layout::LAST_ACCOUNT_ID)? {
        return Ok(NumberStanding::Free);
    }
    let from = layout::import_numbers(id);
    let next = rows.range_raw(Bound::Included(&from), Bound::Excluded(layout::IMPORT_NUMBERS_END), 1)?;
    let first = next.first().map(|(_, first)| codec::decode::<AccountId>(first)).transpose()?;
    Ok(if first.is_some_and(|first| first <= id) { NumberStanding::Free } else { NumberStanding::Taken })
}

/// Returns at most `limit` accounts with numbers after this one, by number.
pub(crate) fn accounts_after(rows: &dyn Rows, after: Option<AccountId>, limit: usize) -> Result<Vec<Account>, Fault> {
    let from = after.map_or(Bound::Included(layout::ALL_ACCOUNTS.to_vec()), |after| {
        Bound::Excluded(layout::account(after).to_vec())
    });
    let found = walk(rows, from, Bound::Excluded(layout::ACCOUNTS_END.to_vec())).take(limit);
    found.map(|row| Ok(codec::decode(&row?.1)?)).collect()
}

/// Returns how many accounts have which foreign form of a password hash.
pub(crate) fn hash_forms(rows: &dyn Rows) -> Result<HashForms, Fault> {
    let mut forms = HashForms { accounts: counter(rows, layout::ACCOUNTS)?, foreign: Vec::new() };
    for row in walk_prefix(rows, layout::ALL_HASH_COUNTS) {
        let (key, value) = row?;
        if let (Some(form), Ok(count)) = (layout::form_of_hash_count(&key), codec::decode(&value)) {
            forms.foreign.push((form, count));
        } else {
            tracing::error!("a stored count of password hashes cannot be read and is skipped");
        }
    }
    Ok(forms)
}
