//! What owners and administrators do to an account.

use super::{Flows, MAX_ATTEMPTS, Story};
use crate::ask::Unavailable;
use crate::domain::account::{Account, AccountChange, AccountId};
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRefusal};
use crate::domain::password::Password;
use crate::domain::session::Origin;
use crate::ports::{AccountUpdate, DeleteAccountRefusal, EndSessions, StoreError, UpdateAccountRefusal};
use crate::session::Principal;
use crate::user::{AdminChange, DeleteError, OwnChange, UpdateError};

/// What came of one attempt to commit.
enum Attempt<T> {
    Done(T),
    /// The account changed since it was read: decide anew.
    Stale,
}

impl Flows {
    /// Changes the principal's own account.
    pub(crate) async fn update_own(
        &self,
        principal: &Principal,
        change: OwnChange,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<Account, UpdateError> {
        let story = own_story(AuditEvent::AccountUpdated, principal, origin);
        let sensitive = change.email.is_some() || change.password.is_some() || change.passphrase.is_some();
        let mut account = principal.account.clone();
        let mut hashed: Option<AccountChange> = None;
        for _ in 0..MAX_ATTEMPTS {
            let plan_changes = change.customer_account.as_ref().is_some_and(|plan| *plan != account.customer_account);
            if plan_changes && !self.rules.customer_account_self_service {
                return Err(UpdateError::CustomerAccountNotAllowed);
            }
            if sensitive && !self.reauthenticated(principal, &account, current_password.as_ref()).await? {
                let answer = UpdateError::ReauthenticationNeeded;
                return Err(story.refuse(self, AuditRefusal::ReauthenticationNeeded, answer));
            }
            let prepared = match hashed.take() {
                Some(prepared) => prepared,
                None => self.prepare(&change, &account, &story).await?,
            };
            let ends = match &prepared.password_hash {
                Some(_) => EndSessions::AllBut(principal.session),
                None => EndSessions::None,
            };
            let update = AccountUpdate {
                id: account.id,
                expected_revision: Some(account.revision),
                change: prepared.clone(),
                ends,
            };
            match self.commit(update, &story).await? {
                Attempt::Done(after) => {
                    if ends != EndSessions::None {
                        self.sessions.forget(after.id, Some((principal.session, after.session_epoch))).await;
                    }
                    return Ok(after);
                }
                Attempt::Stale => {
                    hashed = Some(prepared);
                    account = self.store.account(account.id).await?.ok_or(UpdateError::Unknown)?;
                }
            }
        }
        Err(UpdateError::Unavailable(Unavailable::default()))
    }

    /// Deletes the principal's own account.
    pub(crate) async fn delete_own(
        &self,
        principal: &Principal,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<(), DeleteError> {
        let story = own_story(AuditEvent::AccountDeleted, principal, origin);
        let mut account = principal.account.clone();
        for _ in 0..MAX_ATTEMPTS {
            if !self.reauthenticated(principal, &account, current_password.as_ref()).await? {
                let answer = DeleteError::ReauthenticationNeeded;
                return Err(story.refuse(self, AuditRefusal::ReauthenticationNeeded, answer));
            }
            match self.delete(account.id, Some(account.revision), &story).await? {
                Attempt::Done(()) => return Ok(()),
                Attempt::Stale => account = self.store.account(account.id).await?.ok_or(DeleteError::Unknown)?,
            }
        }
        Err(DeleteError::Unavailable(Unavailable::default()))
    }

    /// Changes any account on behalf of an administrator.
    pub(crate) async fn update_by_admin(
        &self,
        admin: AccountId,
        id: AccountId,
        change: AdminChange,
        origin: Origin,
    ) -> Result<(), UpdateError> {
        let story = Story::new(AuditEvent::AccountUpdated, AuditActorKind::Admin(admin), origin).about(id);
        let account = self.store.account(id).await?.ok_or(UpdateError::Unknown)?;
        let mut prepared = self.prepare(&change.own, &account, &story).await?;
        prepared.role = change.role;
        prepared.locked = change.locked;
        let ends = if prepared.password_hash.is_some() || prepared.locked == Some(true) {
            EndSessions::All
        } else {
            EndSessions::None
        };
        // An administrator's word does not depend on how the account was, so no revision is expected.
        match self.commit(AccountUpdate { id, expected_revision: None, change: prepared, ends }, &story).await? {
            Attempt::Done(after) => {
                if ends != EndSessions::None {
                    self.sessions.forget(after.id, None).await;
                }
                Ok(())
            }
            Attempt::Stale => Err(UpdateError::Unavailable(Unavailable::default())),
        }
    }

    /// Deletes any account but the administrator's own.
    pub(crate) async fn delete_by_admin(
        &self,
        admin: AccountId,
        id: AccountId,
        origin: Origin,
    ) -> Result<(), DeleteError> {
        let story = Story::new(AuditEvent::AccountDeleted, AuditActorKind::Admin(admin), origin).about(id);
        if admin == id {
            return Err(story.refuse(self, AuditRefusal::OwnAccount, DeleteError::OwnAccount));
        }
        match self.delete(id, None, &story).await? {
            Attempt::Done(()) => Ok(()),
            Attempt::Stale => Err(DeleteError::Unavailable(Unavailable::default())),
        }
    }

    /// Whether the principal showed the password: now, or (when none came along) in a login recent enough. A password that came along
    /// has to be right, however fresh the login.
    async fn reauthenticated(
        &self,
        principal: &Principal,
        account: &Account,
        current_password: Option<&Password>,
    ) -> Result<bool, Unavailable> {
        match current_password {
            Some(password) => {
                let verdict = self.hasher.verify(password.secret().clone(), account.password_hash.clone()).await?;
                Ok(verdict.matches)
            }
            None => Ok(self.clock.now().since(principal.authenticated_at) <= self.rules.reauth_window),
        }
    }

    /// Checks and hashes what is asked for, judged against the names the account will have.
    async fn prepare(
        &self,
        change: &OwnChange,
        account: &Account,
        story: &Story,
    ) -> Result<AccountChange, UpdateError> {
        let mut prepared = AccountChange {
            email: change.email.clone(),
            nickname: change.nickname.clone(),
            customer_account: change.customer_account.clone(),
            ..AccountChange::default()
        };
        if let Some(password) = &change.password {
            let email = change.email.as_ref().unwrap_or(&account.email);
            let nickname = change.nickname.as_ref().unwrap_or(&account.nickname);
            if let Err(weak) = self.rules.password_policy.check(password, email, Some(nickname)) {
                return Err(story.refuse(self, AuditRefusal::WeakPassword, UpdateError::Weak(weak)));
            }
            prepared.password_hash = Some(self.hasher.hash(password.secret().clone()).await?);
        }
        if let Some(passphrase) = &change.passphrase {
            prepared.passphrase_hash = Some(self.hasher.hash(passphrase.secret().clone()).await?);
        }
        Ok(prepared)
    }

    async fn commit(&self, update: AccountUpdate, story: &Story) -> Result<Attempt<Account>, UpdateError> {
        let refused = match self.store.update_account(update, story.done(self)).await {
            Ok(after) => return Ok(Attempt::Done(after)),
            Err(StoreError::Failed(failure)) => return Err(failure.into()),
            Err(StoreError::Refused(refused)) => refused,
        };
        Err(match refused {
            UpdateAccountRefusal::Stale => return Ok(Attempt::Stale),
            UpdateAccountRefusal::Unknown => UpdateError::Unknown,
            UpdateAccountRefusal::EmailTaken => story.refuse(self, AuditRefusal::EmailTaken, UpdateError::EmailTaken),
            UpdateAccountRefusal::NicknameTaken => {
                story.refuse(self, AuditRefusal::NicknameTaken, UpdateError::NicknameTaken)
            }
            UpdateAccountRefusal::LastAdmin => story.refuse(self, AuditRefusal::LastAdmin, UpdateError::LastAdmin),
        })
    }

    async fn delete(
        &self,
        id: AccountId,
        expected_revision: Option<u64>,
        story: &Story,
    ) -> Result<Attempt<()>, DeleteError> {
        match self.store.delete_account(id, expected_revision, story.done(self)).await {
            Ok(()) => {
                self.sessions.forget(id, None).await;
                Ok(Attempt::Done(()))
            }
            Err(StoreError::Refused(DeleteAccountRefusal::Stale)) => Ok(Attempt::Stale),
            Err(StoreError::Refused(DeleteAccountRefusal::Unknown)) => Err(DeleteError::Unknown),
            Err(StoreError::Refused(DeleteAccountRefusal::LastAdmin)) => {
                Err(story.refuse(self, AuditRefusal::LastAdmin, DeleteError::LastAdmin))
            }
            Err(StoreError::Failed(failure)) => Err(failure.into()),
        }
    }
}

fn own_story(event: AuditEvent, principal: &Principal, origin: Origin) -> Story {
    let account = principal.account.id;
    Story::new(event, AuditActorKind::Account(account), origin).about(account).within(principal.session)
}
