//! What is done in the name of a session, and with its refresh tokens.

use super::State;
use crate::domain::account::{Account, AccountId, Role};
use crate::domain::refresh::RefreshVerdict;
use crate::domain::session::{Origin, SessionId};
use crate::domain::time::Timestamp;
use crate::ports::{
    Acting, NOTICE_PAUSE, RefreshOutcome, RefreshRefusal, RefreshUse, SignIn, StoreError, StoreFailure,
};

impl State {
    /// Whether a session is there and its account is open to it.
    fn stands(&self, account: AccountId, session: SessionId) -> Option<&Account> {
        let epoch = self.sessions.get(&(account, session))?.epoch;
        self.accounts.get(&account).filter(|account| !account.locked && account.session_epoch == epoch)
    }

    pub(super) fn may_act(&self, acting: Option<Acting>) -> bool {
        acting.is_none_or(|acting| {
            let account = self.stands(acting.account, acting.session);
            account.is_some_and(|account| {
                (acting.role == Role::User || account.role == Role::Admin)
                    && acting.proven_at.unwrap_or(account.session_epoch) == account.session_epoch
            })
        })
    }

    pub(super) fn rotate_refresh(&mut self, used: RefreshUse) -> Result<RefreshOutcome, StoreError<RefreshRefusal>> {
        let RefreshUse { proof, successor, now, grace, origin, sign_in, on_reuse } = used;
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
                self.note_place(account, session, origin, sign_in, now);
                Ok(RefreshOutcome::Honoured(family))
            }
            RefreshVerdict::Recent { .. } | RefreshVerdict::Unknown => {
                self.note_place(account, session, origin, sign_in, now);
                Ok(RefreshOutcome::Honoured(family))
            }
        }
    }

    /// Notes from where a session goes on. A network that the owner could not be told of today stays unknown.
    fn note_place(
        &mut self,
        account: AccountId,
        session: SessionId,
        origin: Origin,
        sign_in: Option<SignIn>,
        now: Timestamp,
    ) {
        let Some(mut moved) = self.sessions.get(&(account, session)).cloned() else { return };
        let elsewhere = moved.address != origin.address;
        (moved.address, moved.user_agent) = (origin.address, origin.user_agent);
        if let Some(sign_in) = sign_in {
            let quiet = moved.notified_at.is_some_and(|at| now.since(at).max(at.since(now)) < NOTICE_PAUSE);
            let is_known = self.known.contains_key(&(account, sign_in.from));
            let noted = (is_known && elsewhere) || (!is_known && !quiet);
            if noted && self.note_sign_in(account, now, sign_in) {
                moved.notified_at = Some(now);
            }
        }
        self.sessions.insert((account, session), moved);
    }
}
