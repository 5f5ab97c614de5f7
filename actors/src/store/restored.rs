//! What becomes of the rows of a backup before a server may start with them.

use super::engine::{Fault, View};
use super::migrations::Progress;
use super::transaction::{Abort, Transaction};
use super::{layout, rules};
use crate::domain::audit::{AuditEvent, AuditRecord};
use crate::domain::time::Timestamp;

/// The maximum number of revocations or sessions that one step removes.
const AT_ONCE: usize = 512;
/// How many numbers of revocations each millisecond gets. A log that begins at the number of the present has higher numbers than any
/// log before it, unless more revocations than these were made in each millisecond.
const NUMBERS_A_MILLI: u64 = 1000;

/// How to prepare restored rows.
#[derive(Debug, Clone, Copy)]
pub struct Restoration {
    /// The number after which the log of revocations begins.
    epoch: u64,
    at: Timestamp,
}

impl Restoration {
    /// Decides, from the rows of a backup, how to prepare them at this time.
    pub fn of(view: &dyn super::engine::Rows, at: Timestamp) -> Result<Self, Fault> {
        let last = super::reads::counter(view, layout::LAST_REVOCATION)?;
        let now = u64::try_from(at.as_millis()).unwrap_or(0).saturating_mul(NUMBERS_A_MILLI);
        Ok(Self { epoch: now.max(last.saturating_add(1)), at })
    }

    /// Makes one step. The caller applies what it wrote and calls it again until it returns [`Done`](Progress::Done).
    ///
    /// Ends all sessions, because the backup does not know which of them ended after it. Each end is in the log of revocations. That log
    /// begins anew, at a number above all that were ever given, so that each reader learns that its cursor is gone.
    pub fn step(&self, view: &mut dyn View) -> Result<Progress, Fault> {
        let tx = &mut Transaction::new(view, u64::MAX);
        if tx.counter(layout::REVOCATIONS_GONE)? < self.epoch {
            return self.forget_revocations(tx);
        }
        if rules::end_restored(tx, self.at, AT_ONCE)? { Ok(Progress::More) } else { Ok(Progress::Done) }
    }

    fn forget_revocations(&self, tx: &mut Transaction<'_>) -> Result<Progress, Fault> {
        let keys = tx.keys(&layout::revocation(0), &layout::revocation(u64::MAX), AT_ONCE)?;
        if keys.is_empty() {
            tx.put(layout::REVOCATIONS_GONE, &self.epoch)?;
            tx.put(layout::LAST_REVOCATION, &self.epoch)?;
        }
        for key in keys {
            tx.remove(&key);
        }
        Ok(Progress::More)
    }
}

/// Ends the first-user rule if there are accounts: nobody becomes their administrator by registering first.
pub fn end_first_user_rule(view: &mut dyn View) -> Result<(), Fault> {
    let tx = &mut Transaction::new(view, u64::MAX);
    if tx.counter(layout::ACCOUNTS)? > 0 { rules::end_first_user_rule(tx) } else { Ok(()) }
}

/// Writes the audit record that a backup was made or restored.
pub fn record(view: &mut dyn View, event: AuditEvent, at: Timestamp) -> Result<(), Fault> {
    let record = [AuditRecord::new(event, at)];
    let appended: Result<(), Abort<()>> = rules::append_audit(&mut Transaction::new(view, u64::MAX), &record);
    match appended {
        Err(Abort::Fault(fault)) => Err(fault),
        Ok(()) | Err(Abort::Refused(())) => Ok(()),
    }
}
