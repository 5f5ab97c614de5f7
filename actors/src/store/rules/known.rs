//! From where accounts are logged in to.

use crate::domain::account::AccountId;
use crate::domain::time::Timestamp;
use std::net::IpAddr;

use super::super::codec;
use super::super::engine::Fault;
use super::super::layout;
use super::super::transaction::Transaction;

/// From how many addresses logins are remembered for one account: enough for a life with a telephone, and few enough to
/// be looked through at each login.
const MAX_KNOWN: usize = 32;

/// Notes a login; `true` if it is the first from this address, but not the first of all.
pub(super) fn note(tx: &mut Transaction<'_>, account: AccountId, from: IpAddr, at: Timestamp) -> Result<bool, Fault> {
    let key = layout::known(account, from);
    let before = tx.get::<Timestamp>(&key)?;
    let mut others = Vec::new();
    for (other, used) in tx.scan(&layout::all_known(account))? {
        if other != key {
            others.push((codec::decode::<Timestamp>(&used)?, other));
        }
    }
    // The clock may have been set back; the latest use stays the latest.
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
