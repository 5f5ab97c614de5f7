//! Registration, login and recovery: what somebody does who is not logged in.

use std::sync::Arc;

use super::{Flows, MAX_ATTEMPTS, Story};
use crate::ask::Unavailable;
use crate::domain::account::{Account, AccountChange, CredentialHash, CustomerAccount, NewAccount, NewRole, Role};
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRefusal};
use crate::domain::secret::Secret;
use crate::domain::session::Origin;
use crate::ports::{AccountUpdate, CreateAccountRefusal, EndSessions, StoreError, UpdateAccountRefusal};
use crate::session::OpenError;
use crate::user::message::Creator;
use crate::user::{LoggedIn, LoginAttempt, LoginError, RecoverError, RecoveryAttempt, RegisterError, Registration};

impl Flows {
    /// Makes an account.
    pub(crate) async fn register(
        &self,
        registration: Registration,
        by: Creator,
        origin: Origin,
    ) -> Result<Account, RegisterError> {
        let Registration { email, nickname, password, passphrase, customer_account } = registration;
        let story = match by {
            Creator::Owner => Story::new(AuditEvent::Registered, AuditActorKind::Anonymous, origin),
            Creator::Admin(admin) => Story::new(AuditEvent::AccountCreated, AuditActorKind::Admin(admin), origin),
            Creator::Operator => Story::new(AuditEvent::AccountCreated, AuditActorKind::System, origin),
        };
        let customer_account = customer_account.unwrap_or_else(CustomerAccount::none);
        if by == Creator::Owner && !customer_account.is_none() && !self.rules.customer_account_self_service {
            let answer = RegisterError::CustomerAccountNotAllowed;
            return Err(story.refuse(self, AuditRefusal::CustomerAccountNotAllowed, answer));
        }
        if let Err(weak) = self.rules.password_policy.check(&password, &email, Some(&nickname)) {
            return Err(story.refuse(self, AuditRefusal::WeakPassword, RegisterError::Weak(weak)));
        }
        // Spares two hashes where the outcome is clear; the commit decides.
        if self.store.account_by_email(email.key()).await?.is_some() {
            return Err(story.refuse(self, AuditRefusal::EmailTaken, RegisterError::EmailTaken));
        }
        let password_hash = self.hasher.hash(password.secret().clone()).await?;
        let passphrase_hash = self.hasher.hash(passphrase.secret().clone()).await?;
        let role = match by {
            Creator::Owner if self.rules.first_user_is_admin => NewRole::AdminIfFirst,
            Creator::Owner | Creator::Admin(_) => NewRole::Exactly(Role::User),
            Creator::Operator => NewRole::Exactly(Role::Admin),
        };
        let created_at = self.clock.now();
        let account =
            NewAccount { email, nickname, password_hash, passphrase_hash, customer_account, created_at, role };
        match self.store.create_account(account, story.done(self)).await {
            Ok(account) => {
                if by == Creator::Owner && account.role == Role::Admin {
                    tracing::warn!(account = %account.id, "the first account of this data directory became its administrator");
                }
                Ok(account)
            }
            Err(StoreError::Refused(CreateAccountRefusal::EmailTaken)) => {
                Err(story.refuse(self, AuditRefusal::EmailTaken, RegisterError::EmailTaken))
            }
            Err(StoreError::Refused(CreateAccountRefusal::NicknameTaken)) => {
                Err(story.refuse(self, AuditRefusal::NicknameTaken, RegisterError::NicknameTaken))
            }
            Err(StoreError::Failed(failure)) => Err(failure.into()),
        }
    }

    /// Opens a session for whoever knows the password. Exactly one hash is computed on every path that answers.
    pub(crate) async fn login(&self, attempt: LoginAttempt, origin: Origin) -> Result<LoggedIn, LoginError> {
        let LoginAttempt { email, password } = attempt;
        let story = Story::new(AuditEvent::Login, AuditActorKind::Anonymous, origin.clone());
        let Some(account) = self.store.account_by_email(email.key()).await? else {
            self.hasher.verify_nobody(password.secret().clone()).await?;
            return Err(story.refuse(self, AuditRefusal::UnknownAccount, LoginError::Incorrect));
        };
        let story = story.about(account.id);
        let verdict = self.hasher.verify(password.secret().clone(), account.password_hash.clone()).await?;
        if !verdict.matches {
            return Err(story.refuse(self, AuditRefusal::WrongPassword, LoginError::Incorrect));
        }
        if account.locked {
            return Err(story.refuse(self, AuditRefusal::Locked, LoginError::Incorrect));
        }
        let opened = match self.sessions.open(&account, origin.clone()).await {
            Ok(opened) => opened,
            // It was locked, deleted or given another password while this one was checked.
            Err(OpenError::Refused) => return Err(story.refuse(self, AuditRefusal::Conflict, LoginError::Incorrect)),
            Err(OpenError::Unavailable(unavailable)) => return Err(LoginError::Unavailable(unavailable)),
        };
        if verdict.outdated {
            self.renew_hash(&account, password.secret().clone(), origin);
        }
        Ok(LoggedIn { account, access_token: opened.access_token, expires_in: opened.expires_in })
    }

    /// Replaces the hash of a password that was just shown by one of today's cost (S06), after the login was answered.
    /// Should it fail, the next login tries.
    fn renew_hash(&self, account: &Account, password: Secret, origin: Origin) {
        let (id, revision) = (account.id, account.revision);
        let record = Story::new(AuditEvent::AccountUpdated, AuditActorKind::System, origin).about(id).done(self);
        let (hasher, store) = (self.hasher.clone(), Arc::clone(&self.store));
        tokio::spawn(async move {
            let Ok(hash) = hasher.hash(password).await else { return };
            let update = AccountUpdate {
                id,
                expected_revision: Some(revision),
                change: AccountChange { password_hash: Some(hash), ..AccountChange::default() },
                ends: EndSessions::None,
            };
            if store.update_account(update, record).await.is_err() {
                tracing::debug!(account = %id, "an outdated password hash was not renewed");
            }
        });
    }

    /// Replaces the password for whoever knows the passphrase.
    pub(crate) async fn recover(&self, attempt: RecoveryAttempt, origin: Origin) -> Result<(), RecoverError> {
        let RecoveryAttempt { email, passphrase, new_password } = attempt;
        // Judged by what the client itself sent alone: an answer that knew the nickname would tell that the account exists.
        let story = Story::new(AuditEvent::Recovered, AuditActorKind::Anonymous, origin);
        if let Err(weak) = self.rules.password_policy.check(&new_password, &email, None) {
            return Err(story.refuse(self, AuditRefusal::WeakPassword, RecoverError::Weak(weak)));
        }
        let mut new_hash: Option<CredentialHash> = None;
        for _ in 0..MAX_ATTEMPTS {
            let Some(account) = self.store.account_by_email(email.key()).await? else {
                self.hasher.verify_nobody(passphrase.secret().clone()).await?;
                return Err(story.refuse(self, AuditRefusal::UnknownAccount, RecoverError::NoMatch));
            };
            let story = story.clone().about(account.id);
            let verdict = self.hasher.verify(passphrase.secret().clone(), account.passphrase_hash.clone()).await?;
            if !verdict.matches {
                return Err(story.refuse(self, AuditRefusal::WrongPassphrase, RecoverError::NoMatch));
            }
            if account.locked {
                return Err(story.refuse(self, AuditRefusal::Locked, RecoverError::NoMatch));
            }
            // Now that the passphrase was right, its owner may be told that the password is too close to the nickname.
            let policy = self.rules.password_policy;
            if let Err(weak) = policy.check(&new_password, &account.email, Some(&account.nickname)) {
                return Err(story.refuse(self, AuditRefusal::WeakPassword, RecoverError::Weak(weak)));
            }
            let hash = match &new_hash {
                Some(hash) => hash.clone(),
                None => new_hash.insert(self.hasher.hash(new_password.secret().clone()).await?).clone(),
            };
            let update = AccountUpdate {
                id: account.id,
                expected_revision: Some(account.revision),
                change: AccountChange { password_hash: Some(hash), ..AccountChange::default() },
                ends: EndSessions::All,
            };
            match self.store.update_account(update, story.done(self)).await {
                Ok(after) => {
                    self.sessions.forget(after.id, after.session_epoch, None).await;
                    return Ok(());
                }
                Err(StoreError::Refused(UpdateAccountRefusal::Stale | UpdateAccountRefusal::Unknown)) => {}
                // A new password alone collides with nothing and demotes nobody.
                Err(StoreError::Refused(_)) => break,
                Err(StoreError::Failed(failure)) => return Err(failure.into()),
            }
        }
        Err(RecoverError::Unavailable(Unavailable::default()))
    }
}
