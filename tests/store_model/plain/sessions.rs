//! Changes by an acting session, and changes of refresh tokens.

use super::State;
use doorward_actors::store::{
    EndOfSessions, EndSessionsRefusal, NOTICE_PAUSE, RefreshOutcome, RefreshRefusal, RefreshUse, Room, Seen, SignIn,
    StoreError, StoreFailure,
};
use doorward_actors::{
    Account, AccountId, Acting, AuditEvent, AuditRecord, Origin, RefreshVerdict, Role, Session, SessionId,
    SessionPolicy, Timestamp, WhichSessions,
};

impl State {
    /// Returns the account of a session that exists at the account's epoch.
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
                let family = family.ok_or_else(|| StoreFailure::permanent("no generation is left"))?;
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

    /// Notes the network in which a session continues. A network of which the owner could not be notified today stays unknown.
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

    /// Returns the last use of a session: the later of the stored and the seen one.
    fn last_use(&self, seen: &Seen, key: (AccountId, SessionId)) -> Timestamp {
        let seen = seen.uses.iter().filter(|touch| touch.session == key.1).map(|touch| touch.at);
        seen.chain([self.sessions[&key].last_active_at]).max().unwrap()
    }

    fn has_expired(&self, policy: &SessionPolicy, seen: &Seen, key: (AccountId, SessionId), now: Timestamp) -> bool {
        let used = Session { last_active_at: self.last_use(seen, key), ..self.sessions[&key].clone() };
        let stored = self.sessions[&key].last_active_at;
        let judged = seen.uses.iter().any(|touch| touch.session == key.1 && touch.at >= stored);
        (seen.expired.contains(&key.1) && judged) || !policy.is_alive(&used, now)
    }

    /// Ends the longest idle sessions, one at a time, while there are too many.
    pub(super) fn make_room(&mut self, newest: &Session, Room { policy, seen }: &Room) {
        let now = newest.created_at;
        loop {
            let of_account = self.sessions.values().filter(|other| {
                let key = (other.account, other.id);
                other.account == newest.account
                    && other.epoch == newest.epoch
                    && !self.has_expired(policy, seen, key, now)
            });
            let others: Vec<_> = of_account.filter(|other| other.id != newest.id).cloned().collect();
            let crowded = others.len() >= policy.max_per_account
                && !self.has_expired(policy, seen, (newest.account, newest.id), now);
            let idle = |other: &Session| (self.last_use(seen, (other.account, other.id)), other.created_at);
            // Of two equally idle sessions, the one with the greater id ends.
            let Some(evicted) = others.iter().rev().min_by_key(|other| idle(other)).filter(|_| crowded).cloned() else {
                return;
            };
            let used = self.last_use(seen, (evicted.account, evicted.id));
            self.end(evicted.account, evicted.id, Some(used), now);
            self.audit.push(by_itself(&evicted, AuditEvent::SessionEvicted, now));
        }
    }

    pub(super) fn end_sessions_of(&mut self, end: EndOfSessions) -> Result<usize, StoreError<EndSessionsRefusal>> {
        let EndOfSessions { account, which, acting, policy, seen, audit } = end;
        if !self.may_act(acting) {
            return Err(StoreError::Refused(EndSessionsRefusal));
        }
        let epoch = self.accounts.get(&account).map(|account| account.session_epoch);
        let named = |id: SessionId| match which {
            WhichSessions::One(one) => id == one,
            WhichSessions::AllBut(kept) => id != kept,
            WhichSessions::All => true,
        };
        let keys: Vec<_> = self.sessions.keys().filter(|key| key.0 == account && named(key.1)).copied().collect();
        let (mut told, mut expired) = (Vec::new(), Vec::new());
        for key in keys {
            let session = self.sessions[&key].clone();
            if Some(session.epoch) == epoch && !self.has_expired(&policy, &seen, key, audit.at) {
                told.push(AuditRecord { session: Some(session.id), ..audit.clone() });
            } else {
                expired.push(by_itself(&session, AuditEvent::SessionExpired, audit.at));
            }
            let used = self.last_use(&seen, key);
            self.end(account, key.1, Some(used), audit.at);
        }
        let lived = told.len();
        self.audit.extend(told);
        self.audit.extend(expired);
        Ok(lived)
    }
}

fn by_itself(session: &Session, event: AuditEvent, at: Timestamp) -> AuditRecord {
    AuditRecord { subject: Some(session.account), session: Some(session.id), ..AuditRecord::new(event, at) }
}
