//! The addresses from which accounts are logged in to.

use crate::domain::account::AccountId;
use crate::domain::time::Timestamp;
use std::net::IpAddr;

use super::super::codec;
use super::super::engine::Fault;
use super::super::layout;
use super::super::transaction::Transaction;

/// The maximum number of addresses remembered for one account. It is enough for years of use with a mobile phone,
/// and small enough to search at each login.
const MAX_KNOWN: usize = 32;

/// Stores a login. Returns `true` if it is the first from this address, but not the first of all.
pub(super) fn note(tx: &mut Transaction<'_>, account: AccountId, from: IpAddr, at: Timestamp) -> Result<bool, Fault> {
    let key = layout::known(account, from);
    let before = tx.get::<Timestamp>(&key)?;
    let mut others = Vec::new();
    for (other, used) in tx.scan(&layout::all_known(account))? {
        if other != key {
            others.push((codec::decode::<Timestamp>(&used)?, other));
        }
    }
    // The clock may have been set back. The latest time is kept.
    tx.put(&key, &before.map_or(at, |before| before.max(at)))?;
    let first_from_there = before.is_none() && !others.is_empty();
    others.sort_unstable();
    for (_, oldest) in others.iter().take((others.len() + 1).saturating_sub(MAX_KNOWN)) {
        tx.remove(oldest);
    }
    Ok(first_from_there)
}

pub(super) fn forget_all(tx: &mut Transaction<'_>, account: AccountId) -> Result<(), Fault> {
    for (key, _) in tx.scan(&layout::all_known(account))? {
        tx.remove(&key);
    }
    Ok(())
}
