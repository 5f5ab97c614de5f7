//! The changes of accounts by owners and administrators.

use std::time::Duration;

use zeroize::Zeroizing;

use super::letters::Addressee;
use super::{AuditContext, Flows, MAX_ATTEMPTS};
use crate::ask::Unavailable;
use crate::domain::account::{Account, AccountChange, AccountId, CredentialHash, Role};
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRefusal};
use crate::domain::failures::ProtectedResource;
use crate::domain::mail::MailKind;
use crate::domain::password::{OwnNames, Password};
use crate::domain::refresh::RefreshFamily;
use crate::domain::secret::Secret;
use crate::domain::session::Acting;
use crate::domain::session::{Now, Origin};
use crate::hasher::Candidate;
use crate::rate_limiter::Limited;
use crate::session::{AuthenticateError, Principal};
use crate::store::{
    AccountUpdate, ActingRefusal, DeleteAccountRefusal, Effects, EndSessions, PersonalData, StoreError,
    UpdateAccountRefusal,
};
use crate::user::{AdminChange, DeleteError, OwnChange, OwnChanged, ProofError, UpdateError};

/// The maximum number of commits that an owner's change tries because the account changed in the meantime.
/// This exceeds the number of requests that an owner has running by mistake. A further try costs only a commit, as hashes are kept.
const MAX_OWN_COMMITS: usize = 32;

/// The outcome of one attempt to commit.
enum Attempt<T> {
    Done(T),
    /// The account changed since it was read: decide again.
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
    ) -> Result<OwnChanged, UpdateError> {
        let context = own_story(AuditEvent::AccountUpdated, principal, origin);
        let sensitive = change.is_sensitive();
        let mut account = principal.account.clone();
        let mut hashed: Option<AccountChange> = None;
        // The password hash that the current password matched. While the account still has it, the password is not checked again.
        let mut shown: Option<Option<CredentialHash>> = None;
        for _ in 0..MAX_OWN_COMMITS {
            let plan_changes =
                change.profile.customer_account.as_ref().is_some_and(|plan| *plan != account.customer_account);
            if plan_changes && !self.rules.customer_account_self_service {
                let answer = UpdateError::CustomerAccountNotAllowed;
                return Err(context.refuse(self, AuditRefusal::CustomerAccountNotAllowed, answer));
            }
            if sensitive && shown.as_ref() != Some(&account.password_hash) {
                let window = self.rules.reauth_window;
                self.reauthenticate(principal, &account, current_password.as_ref(), window, &context).await?;
            }
            shown = current_password.as_ref().map(|_| account.password_hash.clone());
            let prepared = match hashed.take() {
                Some(prepared) => prepared,
                None => self.prepare(&change, &account, &context).await?,
            };
            let ends = match &prepared.password_hash {
                Some(_) => EndSessions::AllBut(principal.session),
                None => EndSessions::None,
            };
            let (committed, mut effects, revokes_tokens) = self.as_owner(prepared.clone(), &account, &context).await?;
            // An attacker whom the new password is to keep out may hold the earlier refresh tokens (S74).
            let renewed = (ends != EndSessions::None).then(|| self.begin_refresh(principal));
            let (family, refresh_token) = renewed.unzip();
            effects.refresh = family;
            let update = AccountUpdate {
                id: account.id,
                acting: Some(principal.acting(Role::User)),
                expected_revision: Some(account.revision),
                change: committed,
                ends,
                redeems: None,
                revokes_tokens,
            };
            match self.commit(update, effects, &context).await? {
                Attempt::Done(after) => {
                    if ends != EndSessions::None {
                        self.sessions.catch_up(after.id).await;
                    }
                    return Ok(OwnChanged { account: after, refresh_token });
                }
                Attempt::Stale => {
                    hashed = Some(prepared);
                    account = self.store.account(account.id).await?.ok_or(UpdateError::Unknown)?;
                    // The other change may have ended this session; then nothing more is done in its name.
                    // A new password that was set in this session kept it.
                    if has_ended(principal, &account) && !self.lives_on(principal).await? {
                        return Err(context.refuse(self, AuditRefusal::Revoked, UpdateError::Revoked));
                    }
                }
            }
        }
        Err(UpdateError::Unavailable(Unavailable::default()))
    }

    /// Begins a new family of refresh tokens for the principal's session; returns it with its first token.
    fn begin_refresh(&self, principal: &Principal) -> (RefreshFamily, Secret) {
        let mut random = Zeroizing::new([0; 64]);
        self.entropy.fill(random.as_mut());
        let (family, token) = self.refresh_keys.begin(principal.account.id, principal.session, &random);
        (family, token.write())
    }

    /// Deletes the principal's own account.
    pub(crate) async fn delete_own(
        &self,
        principal: &Principal,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<(), DeleteError> {
        let context = own_story(AuditEvent::AccountDeleted, principal, origin);
        let mut account = principal.account.clone();
        for _ in 0..MAX_ATTEMPTS {
            let window = self.rules.reauth_window;
            self.reauthenticate(principal, &account, current_password.as_ref(), window, &context).await?;
            match self.delete(&account, Some(account.revision), principal.acting(Role::User), &context).await? {
                Attempt::Done(()) => return Ok(()),
                Attempt::Stale => account = self.store.account(account.id).await?.ok_or(DeleteError::Unknown)?,
            }
        }
        Err(DeleteError::Unavailable(Unavailable::default()))
    }

    /// Returns what is stored about the principal's own account, except its sessions and its audit records. The export is on record.
    /// `None` if the session ended in the meantime.
    pub(crate) async fn export_own(
        &self,
        principal: &Principal,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<Option<PersonalData>, ProofError> {
        let context = own_story(AuditEvent::AccountExported, principal, origin);
        let (account, window) = (&principal.account, self.rules.reauth_window);
        self.reauthenticate(principal, account, current_password.as_ref(), window, &context).await?;
        match self.store.append_audit_as(principal.acting_proven(Role::User), context.done(self)).await {
            Ok(()) => Ok(self.store.personal_data(account.id).await?),
            Err(StoreError::Refused(ActingRefusal)) => Ok(context.refuse(self, AuditRefusal::Revoked, None)),
            Err(StoreError::Failed(failure)) => Err(failure.into()),
        }
    }

    /// Verifies that an administrator may do something sensitive that does not change an account.
    pub(crate) async fn prove(
        &self,
        admin: Principal,
        event: AuditEvent,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<Principal, ProofError> {
        let context = AuditContext::new(event, AuditActorKind::Admin(admin.account.id), origin).within(admin.session);
        let window = self.rules.admin_reauth_window;
        self.reauthenticate(&admin, &admin.account, current_password.as_ref(), window, &context).await?;
        Ok(admin)
    }

    /// Changes any account on behalf of an administrator.
    /// A change that could give the account to somebody else requires proof of identity (S77).
    /// Changes to the administrator's own credentials follow the rules of owners (S05).
    pub(crate) async fn update_by_admin(
        &self,
        admin: &Principal,
        id: AccountId,
        change: AdminChange,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<(), UpdateError> {
        let context =
            AuditContext::new(AuditEvent::AccountUpdated, AuditActorKind::Admin(admin.account.id), origin).about(id);
        let Some(account) = self.store.account(id).await? else {
            return Err(context.refuse(self, AuditRefusal::UnknownAccount, UpdateError::Unknown));
        };
        let (sensitive, window) = if id == admin.account.id {
            (change.own.is_sensitive(), self.rules.reauth_window)
        } else {
            (change.is_sensitive(), self.rules.admin_reauth_window)
        };
        let acting = if sensitive {
            self.reauthenticate(admin, &admin.account, current_password.as_ref(), window, &context).await?;
            admin.acting_proven(Role::Admin)
        } else {
            admin.acting(Role::Admin)
        };
        let mut prepared = self.prepare(&change.own, &account, &context).await?;
        prepared.role = change.role;
        prepared.locked = change.locked;
        let (effects, revokes_tokens) = self.as_admin(&mut prepared, &account, &context);
        let ends = if prepared.password_hash.is_some() || prepared.locked == Some(true) {
            EndSessions::All
        } else {
            EndSessions::None
        };
        // An administrator's change does not depend on the previous state of the account, so no revision is expected.
        let update = AccountUpdate {
            id,
            acting: Some(acting),
            expected_revision: None,
            change: prepared,
            ends,
            redeems: None,
            revokes_tokens,
        };
        match self.commit(update, effects, &context).await? {
            Attempt::Done(after) => {
                if ends != EndSessions::None {
                    self.sessions.catch_up(after.id).await;
                }
                Ok(())
            }
            Attempt::Stale => Err(UpdateError::Unavailable(Unavailable::default())),
        }
    }

    /// Deletes any account but the administrator's own.
    pub(crate) async fn delete_by_admin(
        &self,
        admin: &Principal,
        id: AccountId,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<(), DeleteError> {
        let actor = AuditActorKind::Admin(admin.account.id);
        let context = AuditContext::new(AuditEvent::AccountDeleted, actor, origin).about(id);
        if admin.account.id == id {
            return Err(context.refuse(self, AuditRefusal::OwnAccount, DeleteError::OwnAccount));
        }
        let Some(account) = self.store.account(id).await? else {
            return Err(context.refuse(self, AuditRefusal::UnknownAccount, DeleteError::Unknown));
        };
        let window = self.rules.admin_reauth_window;
        self.reauthenticate(admin, &admin.account, current_password.as_ref(), window, &context).await?;
        match self.delete(&account, None, admin.acting_proven(Role::Admin), &context).await? {
            Attempt::Done(()) => Ok(()),
            Attempt::Stale => Err(DeleteError::Unavailable(Unavailable::default())),
        }
    }

    /// Passes if the principal presented the password: in this request or, if it has none, in a login within `window`.
    /// A password in the request must be right, however recent the login is.
    /// `account` may be newer than the principal's copy: if its sessions were ended in the meantime, no login counts as recent.
    /// Records a refusal in the audit log.
    async fn reauthenticate(
        &self,
        principal: &Principal,
        account: &Account,
        current_password: Option<&Password>,
        window: Duration,
        context: &AuditContext,
    ) -> Result<(), ProofError> {
        let refuse = |refusal| Err(context.refuse(self, refusal, ProofError::ReauthenticationNeeded(window)));
        if has_ended(principal, account) {
            return refuse(AuditRefusal::Conflict);
        }
        if let Some(password) = current_password {
            let email = account.email.key();
            let mut attempt =
                self.attempt(ProtectedResource::Reauthentication, email, Some(account), context).await??;
            let verify = async {
                let against = self.password_of(email, Some(account)).await?;
                self.hasher.verify(password.secret().clone(), against).await
            };
            if !attempt.spare(verify).await?.matches {
                return refuse(AuditRefusal::WrongPassword);
            }
            attempt.succeeded();
            return Ok(());
        }
        let now = Now { wall: self.clock.now(), monotonic: self.clock.monotonic() };
        let fresh = principal.login.is_some_and(|login| login.age(now) <= window);
        if fresh { Ok(()) } else { refuse(AuditRefusal::ReauthenticationNeeded) }
    }

    /// Returns whether the principal's session is alive now.
    async fn lives_on(&self, principal: &Principal) -> Result<bool, Unavailable> {
        match self.sessions.look_at(principal.account.id, principal.session).await {
            Ok(_) => Ok(true),
            Err(AuthenticateError::Dead) => Ok(false),
            Err(AuthenticateError::Unavailable(unavailable)) => Err(unavailable),
        }
    }

    /// Checks and hashes the requested values. The password is judged against the names that the account will have.
    async fn prepare(
        &self,
        change: &OwnChange,
        account: &Account,
        context: &AuditContext,
    ) -> Result<AccountChange, UpdateError> {
        let mut prepared = AccountChange {
            email: change.email.clone(),
            nickname: change.nickname.clone(),
            profile: change.profile.clone(),
            ..AccountChange::default()
        };
        if let Some(password) = &change.password {
            let email = change.email.as_ref().unwrap_or(&account.email);
            let nickname = change.nickname.as_ref().unwrap_or(&account.nickname);
            let candidate = Candidate { password: password.clone(), names: OwnNames::new(email, Some(nickname)) };
            let weak = |weak| context.refuse(self, AuditRefusal::WeakPassword, UpdateError::Weak(weak));
            if let Some(passphrase) = &change.passphrase {
                let hashed = self.hasher.hash_both(candidate, passphrase.secret().clone()).await?;
                let (password, passphrase) = hashed.map_err(weak)?;
                (prepared.password_hash, prepared.passphrase_hash) = (Some(Some(password)), Some(Some(passphrase)));
            } else {
                prepared.password_hash = Some(Some(self.hasher.hash_new(candidate).await?.map_err(weak)?));
            }
        } else if let Some(passphrase) = &change.passphrase {
            prepared.passphrase_hash = Some(Some(self.hasher.hash(passphrase.secret().clone()).await?));
        }
        Ok(prepared)
    }

    /// Completes an owner's change: a new address waits for its confirmation (S33), a new password cancels pending changes and
    /// revokes one-time tokens, and the owner is notified.
    async fn as_owner(
        &self,
        mut change: AccountChange,
        account: &Account,
        context: &AuditContext,
    ) -> Result<(AccountChange, Effects, bool), UpdateError> {
        let mut effects = Effects::default();
        let mut told = Vec::new();
        let revokes_tokens = change.password_hash.is_some();
        if change.password_hash.is_some() {
            change.pending_email = Some(None);
            told.push(self.notice(MailKind::PasswordChanged, account, &context.origin));
        }
        if change.passphrase_hash.is_some() {
            told.push(self.notice(MailKind::PassphraseChanged, account, &context.origin));
        }
        // Another spelling of the same address is the same mailbox.
        if change.email.as_ref().is_some_and(|new| new.key() == account.email.key()) {
            change.pending_email = Some(None);
        } else if let Some(new) = change.email.take() {
            if self.store.account_by_email(new.key()).await?.is_some() {
                return Err(context.refuse(self, AuditRefusal::EmailTaken, UpdateError::EmailTaken));
            }
            self.ask_to_confirm(&mut effects, account, &new, &context.origin);
            let mut notice = self.notice(MailKind::AddressChangePending, account, &context.origin);
            notice.new_address = Some(new.clone());
            told.push(notice);
            change.pending_email = Some(Some(new));
        }
        self.tell_with_undo(&mut effects, account, told);
        effects.audit.push(context.changed(self, &change, account));
        Ok((change, effects, revokes_tokens))
    }

    /// Completes an administrator's change: it takes effect at once, and the owner is notified at the old address.
    fn as_admin(&self, change: &mut AccountChange, account: &Account, context: &AuditContext) -> (Effects, bool) {
        let mut effects = Effects::default();
        let notice = |kind| self.notice(kind, account, &context.origin);
        let mut told = Vec::new();
        let moved = change.email.clone().filter(|new| new.key() != account.email.key());
        let addressee = Addressee { to: moved.as_ref().unwrap_or(&account.email), ..Addressee::owner(account) };
        let resets = change.password_hash.is_some();
        if resets {
            told.push(notice(MailKind::PasswordChanged));
        }
        if change.passphrase_hash.is_some() {
            told.push(notice(MailKind::PassphraseChanged));
        } else if resets {
            // The passphrase may have been chosen by an attacker from whom the account is taken back (S74).
            change.passphrase_hash = Some(None);
            self.ask_for_passphrase(&mut effects, addressee, &context.origin);
        }
        let locks = change.locked == Some(true);
        match change.locked {
            Some(true) if !account.locked => effects.mails.push(notice(MailKind::AccountLocked)),
            Some(false) if account.locked => effects.mails.push(notice(MailKind::AccountUnlocked)),
            _ => {}
        }
        if resets || locks || change.email.is_some() {
            change.pending_email = Some(None);
        }
        if let Some(new) = &moved {
            let mut notice = notice(MailKind::AddressChanged);
            notice.new_address = Some(new.clone());
            told.push(notice);
            self.ask_to_verify(&mut effects, addressee, &context.origin);
        }
        if moved.is_some() && resets {
            // Both together take the account away from the reader of the old address.
            effects.mails.extend(told);
            effects.settles_from = Some(0);
        } else {
            change.undoable = moved.is_some().then(|| self.undoable());
            self.tell_with_undo(&mut effects, account, told);
        }
        effects.count_no_client();
        effects.audit.push(context.changed(self, change, account));
        (effects, moved.is_some() || resets || locks)
    }

    async fn commit(
        &self,
        update: AccountUpdate,
        effects: Effects,
        context: &AuditContext,
    ) -> Result<Attempt<Account>, UpdateError> {
        let refused = match self.store.update_account(update, effects).await {
            Ok(after) => {
                self.mailer.wake();
                return Ok(Attempt::Done(after));
            }
            Err(StoreError::Failed(failure)) => return Err(failure.into()),
            Err(StoreError::Refused(refused)) => refused,
        };
        Err(match refused {
            // No token is redeemed here, so no token can be invalid.
            UpdateAccountRefusal::Stale | UpdateAccountRefusal::BadToken => return Ok(Attempt::Stale),
            UpdateAccountRefusal::Revoked => context.refuse(self, AuditRefusal::Revoked, UpdateError::Revoked),
            UpdateAccountRefusal::Unknown => UpdateError::Unknown,
            UpdateAccountRefusal::EmailTaken => context.refuse(self, AuditRefusal::EmailTaken, UpdateError::EmailTaken),
            UpdateAccountRefusal::NicknameTaken => {
                context.refuse(self, AuditRefusal::NicknameTaken, UpdateError::NicknameTaken)
            }
            UpdateAccountRefusal::LastAdmin => context.refuse(self, AuditRefusal::LastAdmin, UpdateError::LastAdmin),
            UpdateAccountRefusal::TooManyMails => {
                // The request costs its client nothing, so it must not fill the log.
                self.audit.seldom(context.told(self, Some(AuditRefusal::TooManyMails)));
                UpdateError::Limited(Limited::of_mails(self.clock.now()))
            }
        })
    }

    async fn delete(
        &self,
        account: &Account,
        expected_revision: Option<u64>,
        acting: Acting,
        context: &AuditContext,
    ) -> Result<Attempt<()>, DeleteError> {
        let id = account.id;
        let mut effects = Effects::from(context.done(self));
        effects.mails.push(self.notice(MailKind::AccountDeleted, account, &context.origin));
        match self.store.delete_account(id, expected_revision, Some(acting), effects).await {
            Ok(()) => {
                self.mailer.wake();
                // The id is never assigned again, so no later session can be affected.
                self.sessions.catch_up(id).await;
                Ok(Attempt::Done(()))
            }
            Err(StoreError::Refused(DeleteAccountRefusal::Stale)) => Ok(Attempt::Stale),
            Err(StoreError::Refused(DeleteAccountRefusal::Revoked)) => {
                Err(context.refuse(self, AuditRefusal::Revoked, DeleteError::Revoked))
            }
            Err(StoreError::Refused(DeleteAccountRefusal::Unknown)) => {
                Err(context.refuse(self, AuditRefusal::UnknownAccount, DeleteError::Unknown))
            }
            Err(StoreError::Refused(DeleteAccountRefusal::LastAdmin)) => {
                Err(context.refuse(self, AuditRefusal::LastAdmin, DeleteError::LastAdmin))
            }
            Err(StoreError::Failed(failure)) => Err(failure.into()),
        }
    }
}

/// Returns whether the account's sessions were ended since the principal's token was checked.
fn has_ended(principal: &Principal, account: &Account) -> bool {
    account.locked || account.session_epoch != principal.account.session_epoch
}

fn own_story(event: AuditEvent, principal: &Principal, origin: Origin) -> AuditContext {
    let account = principal.account.id;
    AuditContext::new(event, AuditActorKind::Account(account), origin).about(account).within(principal.session)
}
