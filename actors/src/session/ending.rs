//! Sessions that are dead here and not yet in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::list::WhichSessions;
use crate::domain::account::AccountId;
use crate::ports::Touch;

/// The sessions of a shard whose end is under way.
///
/// Whoever asks for the end of all sessions is answered when all of them are dead for good. Those that somebody else is just
/// ending are not in memory any more, and a kill before that commit would revive them: so they are ended once more. What could not be
/// committed stays here, for whoever asks again.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    sessions: Arc<Mutex<HashMap<AccountId, Vec<Touch>>>>,
}

impl Ending {
    /// The commit that ends these begins.
    pub(super) fn begin(&self, touches: &[Touch]) {
        let mut sessions = self.lock();
        for touch in touches {
            sessions.entry(touch.account).or_default().push(*touch);
        }
    }

    /// Their end is durable.
    pub(super) fn done(&self, touches: &[Touch]) {
        let mut sessions = self.lock();
        for touch in touches {
            let Some(of_account) = sessions.get_mut(&touch.account) else { continue };
            of_account.retain(|ending| ending.session != touch.session);
            if of_account.is_empty() {
                sessions.remove(&touch.account);
            }
        }
    }

    /// Those of an account whose end is not known to be durable.
    pub(super) fn of(&self, account: AccountId, which: WhichSessions) -> Vec<Touch> {
        let sessions = self.lock();
        let of_account = sessions.get(&account).into_iter().flatten();
        of_account.filter(|ending| which.include(ending.session)).copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, Vec<Touch>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
