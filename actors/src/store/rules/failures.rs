//! Counters of failed attempts.

use super::super::layout;
use super::super::transaction::{Abort, Transaction};
use crate::domain::failures::{FailureKey, StoredFailures};

pub(crate) fn save_failures<R>(
    tx: &mut Transaction<'_>,
    changed: &[(FailureKey, Option<StoredFailures>)],
) -> Result<(), Abort<R>> {
    for (key, stored) in changed {
        let key = layout::failures(key);
        match stored {
            Some(stored) => tx.put(&key, stored)?,
            None => tx.remove(&key),
        }
    }
    Ok(())
}
