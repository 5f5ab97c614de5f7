use std::sync::{Mutex, PoisonError};

use crate::domain::token::{KeyRing, SigningKey};
use crate::ports::{KeyVault, KeyVaultFailure, ReplaceKeysError, StoredKeys};

/// A key vault in memory. Two systems that share one are like a command line beside a running server.
#[derive(Debug, Default)]
pub struct MemoryKeys {
    stored: Mutex<Option<StoredKeys>>,
}

impl KeyVault for MemoryKeys {
    fn load(&self) -> Result<Option<StoredKeys>, KeyVaultFailure> {
        Ok(self.stored.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn revision(&self) -> Result<Option<u64>, KeyVaultFailure> {
        Ok(self.stored.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|stored| stored.ring.revision))
    }

    fn replace(&self, ring: &KeyRing, new: Option<&SigningKey>) -> Result<(), ReplaceKeysError> {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if stored.as_ref().map_or(0, |stored| stored.ring.revision) != ring.revision {
            return Err(ReplaceKeysError::Stale);
        }
        let mut pairs = stored.take().map_or_else(Vec::new, |stored| stored.pairs);
        pairs.extend(new.cloned());
        pairs.retain(|pair| ring.keys.iter().any(|key| key.id == *pair.id()));
        *stored = Some(StoredKeys { ring: KeyRing { revision: ring.revision + 1, ..ring.clone() }, pairs });
        Ok(())
    }
}
