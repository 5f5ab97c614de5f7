//! Leases: each lets one node do work alone for all nodes.

use super::super::layout;
use super::super::transaction::{Abort, Transaction};
use crate::domain::lease::{Lease, LeaseClaim};
use crate::domain::time::Timestamp;

pub(crate) fn lease<R>(
    tx: &mut Transaction<'_>,
    lease: Lease,
    now: Timestamp,
    claim: &LeaseClaim,
) -> Result<bool, Abort<R>> {
    let row = layout::lease(lease);
    let held = tx.get::<LeaseClaim>(&row)?;
    if held.is_some_and(|held| held.keeps_out(claim, now)) {
        return Ok(false);
    }
    tx.put(&row, claim)?;
    Ok(true)
}
