//! What is done in the name of a session, and with its refresh tokens.

use super::State;
use crate::domain::account::{Account, AccountId, Role};
use crate::domain::refresh::RefreshVerdict;
use crate::domain::session::SessionId;
use crate::ports::{Acting, RefreshOutcome, RefreshRefusal, RefreshUse, StoreError, StoreFailure};

impl State {
    /// Whether a session is there and its account is open to it.
    fn stands(&self, account: AccountId, session: SessionId) -> Option<&Account> {
        let epoch = self.sessions.get(&(account, session))?.epoch;
        self.accounts.get(&account).filter(|account| !account.locked && account.session_epoch == epoch)
    }

    pub(super) fn may_act(&self, acting: Option<Acting>) -> bool {
        acting.is_none_or(|acting| {
            let account = self.stands(acting.account, acting.session);
            account.is_some_and(|account| acting.role == Role::User || account.role == Role::Admin)
        })
    }

    pub(super) fn rotate_refresh(&mut self, used: RefreshUse) -> Result<RefreshOutcome, StoreError<RefreshRefusal>> {
        let RefreshUse { proof, successor, now, grace, on_reuse } = used;
        let (account, session) = (proof.account, proof.session);
        let Some(family) = self.families.get(&(account, session)).cloned() else {
            return Err(StoreError::Refused(RefreshRefusal::Unknown));
        };
        let verdict = family.judge(&proof, now, grace);
        if verdict == RefreshVerdict::Unknown {
            return Err(StoreError::Refused(RefreshRefusal::Unknown));
        }
        if self.stands(account, session).is_none() {
            return Err(StoreError::Refused(RefreshRefusal::Over));
        }
        match verdict {
            RefreshVerdict::Reused => {
                self.end(account, session, None, now);
                self.affect(account, on_reuse);
                Ok(RefreshOutcome::Reused)
            }
            RefreshVerdict::Current => {
                let family = family.renewed(successor, now, grace);
                let family = family.ok_or_else(|| StoreFailure("no generation is left".to_owned()))?;
                self.families.insert((account, session), family.clone());
                Ok(RefreshOutcome::Honoured(family))
            }
            RefreshVerdict::Recent { .. } | RefreshVerdict::Unknown => Ok(RefreshOutcome::Honoured(family)),
        }
    }
}
