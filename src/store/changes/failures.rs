//! Counters of failed attempts.

use doorward_actors::{FailureKey, StoredFailures};

use super::super::keys;
use super::super::staging::{Abort, Staging};

pub(in crate::store) fn save_failures<R>(
    staging: &mut Staging<'_>,
    changed: &[(FailureKey, Option<StoredFailures>)],
) -> Result<(), Abort<R>> {
    for (key, stored) in changed {
        let key = keys::failures(key);
        match stored {
            Some(stored) => staging.put(&key, stored)?,
            None => staging.remove(&key),
        }
    }
    Ok(())
}
