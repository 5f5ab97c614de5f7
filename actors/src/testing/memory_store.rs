//! A store in memory, written as plainly as the contract of [`Store`] can be: it counts and searches where the real one
//! keeps counters and indexes, so that the two can be compared.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::account::{Account, AccountId, NewAccount, NewRole, Role};
use crate::domain::audit::AuditRecord;
use crate::domain::email::EmailKey;
use crate::domain::session::{Session, SessionId};
use crate::domain::time::Timestamp;
use crate::ports::{
    AccountUpdate, CreateAccountRefusal, DeleteAccountRefusal, EndSessions, ListedAccount, OpenSessionRefusal, Page,
    ShardOf, Store, StoreError, StoreFailure, Touch, UpdateAccountRefusal,
};

/// A store that keeps everything in memory, for tests of what is built on one. It can be [made to fail](Self::fail).
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accounts: BTreeMap<AccountId, Account>,
    sessions: BTreeMap<(AccountId, SessionId), Session>,
    last_activity: BTreeMap<AccountId, Timestamp>,
    audit: Vec<AuditRecord>,
    accounts_ever: u64,
    had_admin: bool,
    failure: Option<String>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on every call fails for this reason, until [`heal`](Self::heal).
    pub fn fail(&self, reason: &str) {
        self.lock().failure = Some(reason.to_owned());
    }

    /// Ends what [`fail`](Self::fail) began. The real store never heals without a restart.
    pub fn heal(&self) {
        self.lock().failure = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere is no reason to hide what it left behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn working(&self) -> Result<MutexGuard<'_, State>, StoreFailure> {
        let state = self.lock();
        match &state.failure {
            Some(reason) => Err(StoreFailure(reason.clone())),
            None => Ok(state),
        }
    }
}

impl State {
    fn listed(&self, account: &Account) -> ListedAccount {
        ListedAccount { account: account.clone(), last_active_at: self.last_activity.get(&account.id).copied() }
    }

    fn is_only_active_admin(&self, account: &Account) -> bool {
        let mut admins = self.accounts.values().filter(|other| other.is_active_admin());
        admins.next().is_some_and(|admin| admin.id == account.id) && admins.next().is_none()
    }

    fn has_email(&self, key: &EmailKey, but: Option<AccountId>) -> bool {
        self.accounts.values().any(|other| Some(other.id) != but && other.email.key() == key)
    }

    fn has_nickname(&self, key: &crate::NicknameKey, but: Option<AccountId>) -> bool {
        self.accounts.values().any(|other| Some(other.id) != but && other.nickname.key() == key)
    }

    /// Ends a session if it exists; what is kept is the later of its stored use and `at`.
    fn end(&mut self, account: AccountId, session: SessionId, at: Option<Timestamp>) {
        let Some(ended) = self.sessions.remove(&(account, session)) else {
            return;
        };
        let last = at.map_or(ended.last_active_at, |at| at.max(ended.last_active_at));
        let activity = self.last_activity.entry(account).or_insert(last);
        *activity = last.max(*activity);
    }

    fn end_all_but(&mut self, account: AccountId, kept: Option<SessionId>) {
        let ended: Vec<SessionId> = self
            .sessions
            .keys()
            .filter(|(owner, id)| *owner == account && Some(*id) != kept)
            .map(|(_, id)| *id)
            .collect();
        for session in ended {
            self.end(account, session, None);
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreFailure> {
        Ok(self.working()?.accounts.get(&id).cloned())
    }

    async fn account_by_email(&self, key: &EmailKey) -> Result<Option<Account>, StoreFailure> {
        Ok(self.working()?.accounts.values().find(|account| account.email.key() == key).cloned())
    }

    async fn accounts(&self, page: Page) -> Result<Vec<ListedAccount>, StoreFailure> {
        let state = self.working()?;
        let skip = usize::try_from(page.skip).unwrap_or(usize::MAX);
        Ok(state.accounts.values().skip(skip).take(page.limit).map(|account| state.listed(account)).collect())
    }

    async fn listed_account(&self, id: AccountId) -> Result<Option<ListedAccount>, StoreFailure> {
        let state = self.working()?;
        Ok(state.accounts.get(&id).map(|account| state.listed(account)))
    }

    async fn had_admin(&self) -> Result<bool, StoreFailure> {
        Ok(self.working()?.had_admin)
    }

    async fn sessions(&self, shard: ShardOf) -> Result<Vec<Session>, StoreFailure> {
        let state = self.working()?;
        Ok(state.sessions.values().filter(|session| shard.owns(session.account)).cloned().collect())
    }

    async fn session(&self, account: AccountId, id: SessionId) -> Result<Option<Session>, StoreFailure> {
        Ok(self.working()?.sessions.get(&(account, id)).cloned())
    }

    async fn recent_audit(&self, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreFailure> {
        let state = self.working()?;
        Ok((1..).zip(state.audit.iter().cloned()).collect::<Vec<_>>().into_iter().rev().take(limit).collect())
    }

    async fn create_account(
        &self,
        new: NewAccount,
        audit: AuditRecord,
    ) -> Result<Account, StoreError<CreateAccountRefusal>> {
        let mut state = self.working()?;
        if state.has_email(new.email.key(), None) {
            return Err(StoreError::Refused(CreateAccountRefusal::EmailTaken));
        }
        if state.has_nickname(new.nickname.key(), None) {
            return Err(StoreError::Refused(CreateAccountRefusal::NicknameTaken));
        }
        state.accounts_ever += 1;
        let id = AccountId::new(state.accounts_ever).ok_or_else(|| StoreFailure("no number is left".to_owned()))?;
        let role = match new.role {
            NewRole::Exactly(role) => role,
            NewRole::AdminIfFirst if state.had_admin => Role::User,
            NewRole::AdminIfFirst => Role::Admin,
        };
        let account = Account {
            id,
            email: new.email,
            nickname: new.nickname,
            password_hash: new.password_hash,
            passphrase_hash: new.passphrase_hash,
            customer_account: new.customer_account,
            role,
            locked: false,
            email_verified: false,
            created_at: new.created_at,
            session_epoch: 0,
            revision: 0,
        };
        state.had_admin |= role == Role::Admin;
        state.accounts.insert(id, account.clone());
        state.audit.push(AuditRecord { subject: Some(id), ..audit });
        Ok(account)
    }

    async fn update_account(
        &self,
        update: AccountUpdate,
        audit: AuditRecord,
    ) -> Result<Account, StoreError<UpdateAccountRefusal>> {
        let mut state = self.working()?;
        let refused = |refusal| Err(StoreError::Refused(refusal));
        let Some(before) = state.accounts.get(&update.id).cloned() else {
            return refused(UpdateAccountRefusal::Unknown);
        };
        if update.expected_revision.unwrap_or(before.revision) != before.revision {
            return refused(UpdateAccountRefusal::Stale);
        }
        let after = update.change.apply(&before, update.ends != EndSessions::None);
        if state.has_email(after.email.key(), Some(after.id)) {
            return refused(UpdateAccountRefusal::EmailTaken);
        }
        if state.has_nickname(after.nickname.key(), Some(after.id)) {
            return refused(UpdateAccountRefusal::NicknameTaken);
        }
        if state.is_only_active_admin(&before) && !after.is_active_admin() {
            return refused(UpdateAccountRefusal::LastAdmin);
        }
        match update.ends {
            EndSessions::None => {}
            EndSessions::All => state.end_all_but(after.id, None),
            EndSessions::AllBut(kept) => {
                state.end_all_but(after.id, Some(kept));
                if let Some(session) = state.sessions.get_mut(&(after.id, kept)) {
                    session.epoch = after.session_epoch;
                }
            }
        }
        state.had_admin |= after.role == Role::Admin;
        state.accounts.insert(after.id, after.clone());
        state.audit.push(audit);
        Ok(after)
    }

    async fn delete_account(
        &self,
        id: AccountId,
        expected_revision: Option<u64>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<DeleteAccountRefusal>> {
        let mut state = self.working()?;
        let refused = |refusal| Err(StoreError::Refused(refusal));
        let Some(account) = state.accounts.get(&id) else {
            return refused(DeleteAccountRefusal::Unknown);
        };
        if expected_revision.unwrap_or(account.revision) != account.revision {
            return refused(DeleteAccountRefusal::Stale);
        }
        if state.is_only_active_admin(account) && state.accounts.len() > 1 {
            return refused(DeleteAccountRefusal::LastAdmin);
        }
        state.accounts.remove(&id);
        state.sessions.retain(|(owner, _), _| *owner != id);
        state.last_activity.remove(&id);
        state.audit.push(audit);
        Ok(())
    }

    async fn open_session(&self, session: Session, audit: AuditRecord) -> Result<(), StoreError<OpenSessionRefusal>> {
        let mut state = self.working()?;
        let open_to = |account: &Account| !account.locked && account.session_epoch == session.epoch;
        if !state.accounts.get(&session.account).is_some_and(open_to) {
            return Err(StoreError::Refused(OpenSessionRefusal));
        }
        state.sessions.insert((session.account, session.id), session);
        state.audit.push(audit);
        Ok(())
    }

    async fn end_sessions(&self, ended: Vec<Touch>, audit: Vec<AuditRecord>) -> Result<(), StoreFailure> {
        let mut state = self.working()?;
        for touch in ended {
            state.end(touch.account, touch.session, Some(touch.at));
        }
        state.audit.extend(audit);
        Ok(())
    }

    async fn touch_sessions(&self, touches: Vec<Touch>) -> Result<(), StoreFailure> {
        let mut state = self.working()?;
        for touch in touches {
            if let Some(session) = state.sessions.get_mut(&(touch.account, touch.session)) {
                session.last_active_at = session.last_active_at.max(touch.at);
            }
        }
        Ok(())
    }

    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreFailure> {
        self.working()?.audit.extend(records);
        Ok(())
    }

    async fn probe(&self) -> Result<(), StoreFailure> {
        self.working().map(drop)
    }
}
