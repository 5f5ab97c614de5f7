//! Registration, login and recovery: the flows of clients that are not logged in.

use std::sync::Arc;

use super::letters::Addressee;
use super::{AuditContext, Flows, MAX_ATTEMPTS};
use crate::ask::Unavailable;
use crate::domain::account::{Account, AccountChange, CredentialHash, NewAccount, NewRole, Role};
use crate::domain::audit::{AuditActorKind, AuditDetails, AuditEvent, AuditField, AuditRecord, AuditRefusal};
use crate::domain::email::Email;
use crate::domain::failures::ProtectedResource;
use crate::domain::mail::MailKind;
use crate::domain::password::OwnNames;
use crate::domain::secret::Secret;
use crate::domain::session::Origin;
use crate::hasher::Candidate;
use crate::session::{OpenError, Opened};
use crate::store::{AccountUpdate, CreateAccountRefusal, Effects, EndSessions, StoreError, UpdateAccountRefusal};
use crate::user::message::Creator;
use crate::user::{
    LOGIN_RESEND_PAUSE, LoggedIn, LoginAttempt, LoginError, RecoverError, RecoveryAttempt, RecoveryMode, RegisterError,
    Registered, Registration,
};

/// Returns the audit reason and the error for an account that the store did not create.
pub(crate) fn not_created(refusal: CreateAccountRefusal) -> (AuditRefusal, RegisterError) {
    match refusal {
        CreateAccountRefusal::EmailTaken => (AuditRefusal::EmailTaken, RegisterError::EmailTaken),
        CreateAccountRefusal::NicknameTaken => (AuditRefusal::NicknameTaken, RegisterError::NicknameTaken),
        CreateAccountRefusal::Revoked => (AuditRefusal::Revoked, RegisterError::Revoked),
    }
}

impl Flows {
    /// Creates an account.
    pub(crate) async fn register(
        &self,
        registration: Registration,
        by: Creator,
        origin: Origin,
    ) -> Result<Registered, RegisterError> {
        let Registration { email, nickname, password, passphrase, mut profile } = registration;
        let conceals = by == Creator::Owner && self.rules.enumeration_safe_registration;
        let context = match by {
            Creator::Owner => AuditContext::new(AuditEvent::Registered, AuditActorKind::Anonymous, origin),
            Creator::Admin(admin) => {
                AuditContext::new(AuditEvent::AccountCreated, AuditActorKind::Admin(admin.account), origin)
            }
        };
        let chooses_plan = profile.customer_account.as_ref().is_some_and(|plan| !plan.is_none());
        if by == Creator::Owner && chooses_plan && !self.rules.customer_account_self_service {
            let answer = RegisterError::CustomerAccountNotAllowed;
            return Err(context.refuse(self, AuditRefusal::CustomerAccountNotAllowed, answer));
        }
        let replaces_unverified = by == Creator::Owner && self.rules.require_email_verification;
        // Saves two hashes if the outcome is known and not secret; the commit decides.
        let holder = if conceals { None } else { self.store.account_by_email(email.key()).await? };
        if holder.is_some_and(|holder| holder.email_verified || !replaces_unverified) {
            return Err(context.refuse(self, AuditRefusal::EmailTaken, RegisterError::EmailTaken));
        }
        let candidate = Candidate { password, names: OwnNames::new(&email, Some(&nickname)) };
        let hashed = self.hasher.hash_both(candidate, passphrase.secret().clone()).await?;
        let weak = |weak| context.refuse(self, AuditRefusal::WeakPassword, RegisterError::Weak(weak));
        let (password_hash, passphrase_hash) = hashed.map_err(weak)?;
        let role = match by {
            Creator::Owner if self.rules.first_user_is_admin => NewRole::AdminIfFirst,
            Creator::Owner | Creator::Admin(_) => NewRole::Exactly(Role::User),
        };
        let created_at = self.clock.now();
        let locale = *profile.locale.get_or_insert(self.rules.default_locale);
        let mut effects = Effects::from(context.done(self));
        let addressee = Addressee { to: &email, nickname: nickname.as_str(), locale };
        self.ask_to_verify(&mut effects, addressee, &context.origin);
        if by != Creator::Owner {
            effects.count_no_client();
        }
        let account = NewAccount {
            email: email.clone(),
            nickname,
            password_hash,
            passphrase_hash,
            profile,
            created_at,
            acting: if let Creator::Admin(admin) = by { Some(admin) } else { None },
            role,
            replaces_unverified,
        };
        match self.store.create_account(account, effects).await {
            Ok(account) => {
                self.mailer.wake();
                if by == Creator::Owner && account.role == Role::Admin {
                    tracing::warn!(
                        account = account.id.get(),
                        "the first account of this data directory became its administrator"
                    );
                }
                Ok(if conceals { Registered::Concealed } else { Registered::Created(account) })
            }
            Err(StoreError::Refused(CreateAccountRefusal::EmailTaken)) if conceals => {
                context.refuse(self, AuditRefusal::EmailTaken, ());
                self.tell_owner(&email, &context).await?;
                Ok(Registered::Concealed)
            }
            Err(StoreError::Refused(refusal)) => {
                let (reason, answer) = not_created(refusal);
                Err(context.refuse(self, reason, answer))
            }
            Err(StoreError::Failed(failure)) => Err(failure.into()),
        }
    }

    /// Opens a session if the password is right. Computes exactly one hash on every path that answers.
    pub(crate) async fn login(self: Arc<Self>, attempt: LoginAttempt, origin: Origin) -> Result<LoggedIn, LoginError> {
        let LoginAttempt { email, password, remember } = attempt;
        let context = AuditContext::new(AuditEvent::Login, AuditActorKind::Anonymous, origin.clone());
        let found = self.store.account_by_email(email.key()).await?;
        let context = found.iter().fold(context, |context, account| context.about(account.id));
        let mut attempt = self.attempt(ProtectedResource::Login, email.key(), found.as_ref(), &context).await??;
        let verify = async {
            let against = self.password_of(email.key(), found.as_ref()).await?;
            self.hasher.verify(password.secret().clone(), against).await
        };
        let verdict = attempt.spare(verify).await?;
        let Some(account) = found else {
            return Err(context.refuse(&self, AuditRefusal::UnknownAccount, LoginError::Incorrect));
        };
        if !verdict.matches {
            return Err(context.refuse(&self, AuditRefusal::WrongPassword, LoginError::Incorrect));
        }
        if account.locked {
            return Err(context.refuse(&self, AuditRefusal::Locked, LoginError::Incorrect));
        }
        if self.rules.require_email_verification && account.awaits_verification() {
            // This was no failed attempt: the password is right.
            attempt.withdraw();
            // This happens after the answer, whose duration would otherwise reveal that the password is right.
            let flows = Arc::clone(&self);
            self.after_answer(async move {
                if let Err(failure) = flows.verify_again(&account, LOGIN_RESEND_PAUSE, origin).await {
                    tracing::error!(%failure, "a verification mail could not be queued");
                }
            });
            return Err(context.refuse(&self, AuditRefusal::Unverified, LoginError::Incorrect));
        }
        attempt.succeeded();
        let account = if verdict.breached { self.mark_compromised(account, &context).await? } else { account };
        let sign_in = self.sign_in(&account, &origin);
        let opened = self.sessions.open(&account, remember, origin.clone(), sign_in, &self.refresh_keys).await;
        let opened = match opened {
            Ok(opened) => opened,
            // The account was locked, deleted or given another password during the check.
            Err(OpenError::Refused) => {
                return Err(context.refuse(&self, AuditRefusal::Conflict, LoginError::Incorrect));
            }
            Err(OpenError::Unavailable(unavailable)) => return Err(LoginError::Unavailable(unavailable)),
        };
        self.mailer.wake();
        if verdict.outdated {
            self.renew_hash(&account, password.secret().clone(), origin);
        }
        let Opened { account, access_token, expires_in, refresh_token } = opened;
        Ok(LoggedIn { account, access_token, expires_in, refresh_token })
    }

    /// Marks an account whose presented password is on the list of breached passwords, and records that once.
    /// Returns the account in its new state.
    async fn mark_compromised(&self, shown: Account, context: &AuditContext) -> Result<Account, Unavailable> {
        let mut account = shown;
        for _ in 0..MAX_ATTEMPTS {
            if account.password_compromised {
                break;
            }
            let update = AccountUpdate {
                id: account.id,
                acting: None,
                expected_revision: Some(account.revision),
                change: AccountChange { password_compromised: Some(true), ..AccountChange::default() },
                ends: EndSessions::None,
                redeems: None,
                revokes_tokens: false,
            };
            let actor = AuditActorKind::Account(account.id);
            let found = AuditContext { event: AuditEvent::PasswordCompromised, actor, ..context.clone() };
            match self.store.update_account(update, found.done(self).into()).await {
                Ok(after) => return Ok(after),
                Err(StoreError::Failed(failure)) => return Err(failure.into()),
                Err(StoreError::Refused(_)) => {}
            }
            // The account changed in the meantime. If it has another password now, the presented one is not its password any more.
            // The store decides whether a session may still be opened, by the state of the account when the password was checked.
            match self.store.account(account.id).await? {
                Some(now)
                    if now.password_hash == account.password_hash && now.session_epoch == account.session_epoch =>
                {
                    account = now;
                }
                _ => break,
            }
        }
        Ok(account)
    }

    /// Notifies the owner of an address that somebody tried to register it.
    async fn tell_owner(&self, email: &Email, context: &AuditContext) -> Result<(), RegisterError> {
        if let Some(owner) = self.store.account_by_email(email.key()).await? {
            let mails = vec![self.notice(MailKind::AddressInUse, &owner, &context.origin)];
            if !self.queue(&owner, Effects { mails, ..Effects::default() }).await? {
                context.refuse(self, AuditRefusal::TooManyMails, ());
            }
        }
        Ok(())
    }

    /// Replaces the hash of a password that was just presented by argon2id at the current cost (S06), after the login was answered.
    /// If that fails, the next login tries again.
    fn renew_hash(&self, account: &Account, password: Secret, origin: Origin) {
        let (id, revision) = (account.id, account.revision);
        let renewal = AuditContext::new(AuditEvent::AccountUpdated, AuditActorKind::System, origin).about(id);
        let details = Some(AuditDetails::Changed(vec![AuditField::Password]));
        let record = AuditRecord { details, ..renewal.done(self) };
        let (hasher, store) = (self.hasher.clone(), self.store.clone());
        self.background.spawn(async move {
            let Ok(hash) = hasher.renew(password).await else { return };
            let update = AccountUpdate {
                id,
                acting: None,
                expected_revision: Some(revision),
                change: AccountChange { renewed_hash: Some(hash), ..AccountChange::default() },
                ends: EndSessions::None,
                redeems: None,
                revokes_tokens: false,
            };
            if store.update_account(update, record.into()).await.is_err() {
                tracing::debug!(account = id.get(), "an outdated password hash was not renewed");
            }
        });
    }

    /// Replaces the password if the passphrase is right.
    pub(crate) async fn recover(&self, attempt: RecoveryAttempt, origin: Origin) -> Result<(), RecoverError> {
        let RecoveryAttempt { email, passphrase, new_password } = attempt;
        if !matches!(self.rules.recovery_mode, RecoveryMode::Passphrase | RecoveryMode::Either) {
            return Err(RecoverError::NotOffered);
        }
        let context = AuditContext::new(AuditEvent::Recovered, AuditActorKind::Anonymous, origin);
        let weak =
            |context: &AuditContext, weak| context.refuse(self, AuditRefusal::WeakPassword, RecoverError::Weak(weak));
        let mut new_hash: Option<CredentialHash> = None;
        for _ in 0..MAX_ATTEMPTS {
            let found = self.store.account_by_email(email.key()).await?;
            let context = found.iter().fold(context.clone(), |context, account| context.about(account.id));
            let mut attempt =
                self.attempt(ProtectedResource::Passphrase, email.key(), found.as_ref(), &context).await??;
            // Judged only by what the client sent: an answer that depended on the nickname would reveal that the account exists.
            let candidate = Candidate { password: new_password.clone(), names: OwnNames::new(&email, None) };
            let against = found.as_ref().and_then(|account| account.passphrase_hash.clone());
            let verify = self.hasher.verify_passphrase(candidate, passphrase.secret().clone(), against);
            let verdict = match attempt.spare(verify).await? {
                Ok(verdict) => verdict,
                Err(reason) => {
                    attempt.withdraw();
                    return Err(weak(&context, reason));
                }
            };
            let Some(account) = found else {
                return Err(context.refuse(self, AuditRefusal::UnknownAccount, RecoverError::NoMatch));
            };
            if !verdict.matches {
                return Err(context.refuse(self, AuditRefusal::WrongPassphrase, RecoverError::NoMatch));
            }
            if account.locked {
                return Err(context.refuse(self, AuditRefusal::Locked, RecoverError::NoMatch));
            }
            attempt.succeeded();
            // The passphrase was right, so the owner may be told that the password is too similar to the nickname.
            let hash = if let Some(hash) = &new_hash {
                hash.clone()
            } else {
                let names = OwnNames::new(&account.email, Some(&account.nickname));
                let candidate = Candidate { password: new_password.clone(), names };
                let hash = self.hasher.hash_new(candidate).await?;
                new_hash.insert(hash.map_err(|reason| weak(&context, reason))?).clone()
            };
            let update = AccountUpdate {
                id: account.id,
                acting: None,
                expected_revision: Some(account.revision),
                change: AccountChange {
                    password_hash: Some(Some(hash)),
                    pending_email: Some(None),
                    ..AccountChange::default()
                },
                ends: EndSessions::All,
                redeems: None,
                revokes_tokens: true,
            };
            let mut effects = Effects::from(context.done(self));
            let notice = self.notice(MailKind::RecoveryUsed, &account, &context.origin);
            self.tell_with_undo(&mut effects, &account, vec![notice]);
            effects.networks = Some(self.only_network(&context.origin));
            match self.store.update_account(update, effects).await {
                Ok(after) => {
                    self.sessions.catch_up(after.id).await;
                    self.limits.start_anew(after.email.key(), context.origin.address).await;
                    self.mailer.wake();
                    return Ok(());
                }
                Err(StoreError::Refused(UpdateAccountRefusal::Stale | UpdateAccountRefusal::Unknown)) => {}
                // A change of the password alone causes no name conflict and removes no administrator.
                Err(StoreError::Refused(_)) => break,
                Err(StoreError::Failed(failure)) => return Err(failure.into()),
            }
        }
        Err(RecoverError::Unavailable(Unavailable::default()))
    }
}
