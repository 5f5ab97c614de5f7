//! From where accounts are logged in to.

use std::net::IpAddr;

use doorward_actors::{AccountId, Timestamp};

use super::super::codec;
use super::super::keys;
use super::super::staging::{Fault, Staging};

/// From how many addresses logins are remembered for one account: enough for a life with a telephone, and few enough to
/// be looked through at each login.
const MAX_KNOWN: usize = 32;

/// Notes a login; `true` if it is the first from this address, but not the first of all.
pub(super) fn note(staging: &mut Staging<'_>, account: AccountId, from: IpAddr, at: Timestamp) -> Result<bool, Fault> {
    let key = keys::known(account, from);
    let before = staging.get::<Timestamp>(&key)?;
    let mut others = Vec::new();
    for (other, used) in staging.scan(&keys::all_known(account))? {
        if other != key {
            others.push((codec::decode::<Timestamp>(&used)?, other));
        }
    }
    // The clock may have been set back; the latest use stays the latest.
    staging.put(&key, &before.map_or(at, |before| before.max(at)))?;
    let first_from_there = before.is_none() && !others.is_empty();
    others.sort_unstable();
    for (_, oldest) in others.iter().take((others.len() + 1).saturating_sub(MAX_KNOWN)) {
        staging.remove(oldest);
    }
    Ok(first_from_there)
}

pub(super) fn forget_all(staging: &mut Staging<'_>, account: AccountId) -> Result<(), Fault> {
    for (key, _) in staging.scan(&keys::all_known(account))? {
        staging.remove(&key);
    }
    Ok(())
}
