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
    /// The commit that ends these begins. Each stands here once, however many end it: an account has few sessions.
    pub(super) fn begin(&self, touches: &[Touch]) {
        let mut sessions = self.lock();
        for touch in touches {
            let of_account = sessions.entry(touch.account).or_default();
            if of_account.iter().all(|ending| ending.session != touch.session) {
                of_account.push(*touch);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::session::SessionId;
    use crate::domain::time::Timestamp;

    #[test]
    fn a_session_stands_here_once_however_many_end_it_and_until_one_of_them_is_done() {
        let (ending, account) = (Ending::default(), AccountId::new(1).unwrap());
        let touch = |n| Touch { account, session: SessionId::from_bytes([n; 16]), at: Timestamp::from_millis(0) };
        for _ in 0..40 {
            // As whoever ends all of them does.
            let mut all = ending.of(account, WhichSessions::All);
            all.extend([touch(1), touch(2)]);
            ending.begin(&all);
        }
        assert_eq!(ending.of(account, WhichSessions::All), [touch(1), touch(2)]);
        assert_eq!(ending.of(account, WhichSessions::AllBut(touch(1).session)), [touch(2)]);
        ending.done(&[touch(1)]);
        assert_eq!(ending.of(account, WhichSessions::All), [touch(2)]);
        ending.done(&[touch(1), touch(2)]);
        assert!(ending.lock().is_empty(), "nothing is left of an account");
    }
}
