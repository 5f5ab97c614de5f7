//! The flows that use a mailbox: verifying an address, changing it, choosing a new password.

use std::sync::Arc;
use std::time::Duration;

use super::letters::Addressee;
use super::{AuditContext, Flows, MAX_ATTEMPTS};
use crate::ask::Unavailable;
use crate::domain::account::{Account, AccountChange, CredentialHash};
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRefusal};
use crate::domain::email::Email;
use crate::domain::failures::ProtectedResource;
use crate::domain::mail::MailKind;
use crate::domain::one_time::{NewToken, TokenHash, TokenPurpose};
use crate::domain::password::{OwnNames, Password};
use crate::domain::secret::Secret;
use crate::domain::session::Origin;
use crate::domain::time::Timestamp;
use crate::hasher::Candidate;
use crate::leases::Lease;
use crate::rate_limiter::{Attempt, Limited, Target};
use crate::store::{
    AccountUpdate, Effects, EndSessions, RecordRefusal, Redemption, StoreError, StoreFailure, StoredToken,
    UpdateAccountRefusal,
};
use crate::user::{
    ConfirmError, Confirmed, MailedRecovery, MailedRecoveryError, REPEAT_WITHIN, RESEND_PAUSE, RecoveryMode,
};

/// The maximum number of unverified accounts that one run removes; the next run follows soon.
const REMOVE_AT_ONCE: usize = 100;

/// A valid token and its account.
struct Presented {
    account: Account,
    /// The address of the account once the token is used.
    address: Email,
    /// The revision of the account with which the token was issued.
    revision: u64,
    redemption: Redemption,
}

impl Flows {
    /// Sends the verification mail again if the address has an unverified account.
    /// The answer is given before any look-up, so it reveals nothing (S12).
    pub(crate) fn resend_verification(self: Arc<Self>, email: Email, origin: Origin) {
        let flows = Arc::clone(&self);
        self.after_answer(async move {
            let sent = flows.send_verification(&email, origin).await;
            if let Err(failure) = sent {
                tracing::error!(%failure, "a verification mail could not be queued");
            }
        });
    }

    async fn send_verification(&self, email: &Email, origin: Origin) -> Result<(), StoreFailure> {
        let context = AuditContext::new(AuditEvent::VerificationSent, AuditActorKind::Anonymous, origin.clone());
        let Some(account) = self.store.account_by_email(email.key()).await? else {
            context.refuse(self, AuditRefusal::UnknownAccount, ());
            return Ok(());
        };
        let context = context.about(account.id);
        if account.email_verified || account.locked {
            let why = if account.locked { AuditRefusal::Locked } else { AuditRefusal::AlreadyVerified };
            context.refuse(self, why, ());
        } else if !self.verify_again(&account, RESEND_PAUSE, origin).await? {
            context.refuse(self, AuditRefusal::TooSoon, ());
        }
        Ok(())
    }

    /// Queues another verification mail; returns false if the last one was sent within the pause.
    pub(super) async fn verify_again(
        &self,
        account: &Account,
        pause: Duration,
        origin: Origin,
    ) -> Result<bool, StoreFailure> {
        if !self.may_mail_again(account, TokenPurpose::VerifyAddress, pause).await? {
            return Ok(false);
        }
        let context =
            AuditContext::new(AuditEvent::VerificationSent, AuditActorKind::Anonymous, origin).about(account.id);
        let mut effects = Effects::from(context.done(self));
        self.ask_to_verify(&mut effects, Addressee::owner(account), &context.origin);
        if !self.queue(account, effects).await? {
            context.refuse(self, AuditRefusal::TooManyMails, ());
        }
        Ok(true)
    }

    /// Sends a mail for choosing a new password if the address has an account.
    /// As with [`Self::resend_verification`], the answer is given first.
    pub(crate) fn request_recovery(self: Arc<Self>, email: Email, origin: Origin) {
        let flows = Arc::clone(&self);
        self.after_answer(async move {
            if let Err(failure) = flows.send_reset(&email, origin).await {
                tracing::error!(%failure, "a recovery mail could not be queued");
            }
        });
    }

    async fn send_reset(&self, email: &Email, origin: Origin) -> Result<(), StoreFailure> {
        let context = AuditContext::new(AuditEvent::RecoveryRequested, AuditActorKind::Anonymous, origin);
        let Some(account) = self.store.account_by_email(email.key()).await? else {
            context.refuse(self, AuditRefusal::UnknownAccount, ());
            return Ok(());
        };
        let context = context.about(account.id);
        if account.locked {
            context.refuse(self, AuditRefusal::Locked, ());
            return Ok(());
        }
        // The owner of a mailbox can claim an account that was never verified, or whose password was made unusable by an undo.
        let claims = !account.email_verified || account.password_hash.is_none();
        if self.rules.recovery_mode == RecoveryMode::Passphrase && !claims {
            context.refuse(self, AuditRefusal::NotOffered, ());
            return Ok(());
        }
        if !self.may_mail_again(&account, TokenPurpose::ResetPassword, RESEND_PAUSE).await? {
            context.refuse(self, AuditRefusal::TooSoon, ());
            return Ok(());
        }
        let mut effects = Effects::from(context.done(self));
        self.offer_reset(&mut effects, &account, &context.origin);
        if !self.queue(&account, effects).await? {
            context.refuse(self, AuditRefusal::TooManyMails, ());
        }
        Ok(())
    }

    /// Replaces the password for a client with a valid link from a mail, and with the passphrase if both are required.
    pub(crate) async fn recover_by_mail(
        &self,
        recovery: MailedRecovery,
        origin: Origin,
    ) -> Result<(), MailedRecoveryError> {
        let MailedRecovery { token, new_password, passphrase } = recovery;
        let context = AuditContext::new(AuditEvent::Recovered, AuditActorKind::Anonymous, origin);
        let mut hashed: Option<(CredentialHash, Option<CredentialHash>)> = None;
        let mut attempt = Some(self.token_attempt(&context).await??);
        for _ in 0..MAX_ATTEMPTS {
            let found = self.presented(token.expose(), &[TokenPurpose::ResetPassword]).await?;
            let Some(Presented { account, redemption, .. }) = found else {
                return Err(context.refuse(self, AuditRefusal::BadToken, MailedRecoveryError::BadToken));
            };
            attempt.take().into_iter().for_each(Attempt::succeeded);
            let context = context.clone().about(account.id);
            let names = OwnNames::new(&account.email, Some(&account.nickname));
            let candidate = Candidate { password: new_password.clone(), names };
            let weak = |weak| context.refuse(self, AuditRefusal::WeakPassword, MailedRecoveryError::Weak(weak));
            let needs_passphrase = asks_for_passphrase(&account, self.rules.recovery_mode);
            if needs_passphrase {
                let passphrase = passphrase.as_ref().ok_or(MailedRecoveryError::PassphraseNeeded)?;
                let email = account.email.key();
                let mut attempt =
                    self.attempt(ProtectedResource::Passphrase, email, Some(&account), &context).await??;
                let (shown, against) = (passphrase.secret().clone(), account.passphrase_hash.clone());
                let verify = self.hasher.verify_passphrase(candidate.clone(), shown, against);
                let verdict = match attempt.spare(verify).await? {
                    Ok(verdict) => verdict,
                    Err(reason) => {
                        attempt.withdraw();
                        return Err(weak(reason));
                    }
                };
                if !verdict.matches {
                    return Err(context.refuse(self, AuditRefusal::WrongPassphrase, MailedRecoveryError::NoMatch));
                }
                attempt.succeeded();
            }
            // The passphrase may have been set by an attacker, so it is kept only if it was presented just now (S32, S74).
            let new_passphrase = passphrase.as_ref().filter(|_| !needs_passphrase);
            let (password_hash, passphrase_hash) = match &hashed {
                Some(hashed) if hashed.1.is_some() == new_passphrase.is_some() => hashed.clone(),
                _ => {
                    let both = match new_passphrase {
                        Some(new) => {
                            let both = self.hasher.hash_both(candidate, new.secret().clone()).await?;
                            both.map(|(password, passphrase)| (password, Some(passphrase)))
                        }
                        None => self.hasher.hash_new(candidate).await?.map(|password| (password, None)),
                    };
                    hashed.insert(both.map_err(weak)?).clone()
                }
            };
            let mut told = vec![self.notice(MailKind::RecoveryUsed, &account, &context.origin)];
            if passphrase_hash.is_some() {
                told.push(self.notice(MailKind::PassphraseChanged, &account, &context.origin));
            }
            let change = AccountChange {
                password_hash: Some(Some(password_hash)),
                passphrase_hash: (!needs_passphrase).then_some(passphrase_hash),
                email_verified: Some(true),
                pending_email: Some(None),
                ..AccountChange::default()
            };
            let mut effects = Effects::from(context.done(self));
            self.tell_with_undo(&mut effects, &account, told);
            if matches!(change.passphrase_hash, Some(None)) {
                self.ask_for_passphrase(&mut effects, Addressee::owner(&account), &context.origin);
            }
            // Everything set before is void, so the earlier undo tokens are revoked.
            // They are kept if the account was moved to this address by a change that can still be undone.
            effects.settles_from = account.reserved_at(redemption.now).is_none().then_some(0);
            effects.networks = Some(self.only_network(&context.origin));
            let update = AccountUpdate {
                id: account.id,
                acting: None,
                expected_revision: Some(account.revision),
                change,
                ends: EndSessions::All,
                redeems: Some(redemption),
                revokes_tokens: true,
            };
            match self.store.update_account(update, effects).await {
                Ok(after) => {
                    self.sessions.catch_up(after.id).await;
                    self.limits.start_anew(after.email.key(), context.origin.address).await;
                    self.mailer.wake();
                    return Ok(());
                }
                Err(StoreError::Failed(failure)) => return Err(failure.into()),
                // If the token was used in the meantime, the next round does not find it.
                Err(StoreError::Refused(_)) => {}
            }
        }
        Err(MailedRecoveryError::Unavailable(Unavailable::default()))
    }

    /// Returns whether a password is the one that was recently chosen with a link.
    /// This is checked and counted like a login, and only while the password is that of the account.
    /// So the holder of a used link learns no more than `/login` tells anyone.
    pub(crate) async fn repeats_recovery(
        &self,
        token: Secret,
        password: Password,
        origin: Origin,
    ) -> Result<bool, MailedRecoveryError> {
        let bad = Err(MailedRecoveryError::BadToken);
        let Some(hash) = TokenHash::of(token.expose()) else { return bad };
        let Some(used) = self.store.used_token(&hash).await? else { return bad };
        if used.purpose != TokenPurpose::ResetPassword || !is_recent(used.at, self.clock.now()) {
            return bad;
        }
        let found = self.store.account(used.account).await?;
        let Some(account) = found.filter(|account| !account.locked && account.password_revision == used.revision)
        else {
            return bad;
        };
        let context = AuditContext::new(AuditEvent::Recovered, AuditActorKind::Anonymous, origin).about(account.id);
        let mut attempt =
            self.attempt(ProtectedResource::Login, account.email.key(), Some(&account), &context).await??;
        let verify = async {
            let against = self.password_of(account.email.key(), Some(&account)).await?;
            self.hasher.verify(password.secret().clone(), against).await
        };
        if !attempt.spare(verify).await?.matches {
            return Ok(context.refuse(self, AuditRefusal::WrongPassword, false));
        }
        // Nobody logged in, so failures are not forgotten.
        attempt.withdraw();
        Ok(true)
    }

    /// Marks an address as verified by its owner: the present address of the account or the pending one.
    pub(crate) async fn confirm_email(&self, token: Secret, origin: Origin) -> Result<Confirmed, ConfirmError> {
        let purposes = [TokenPurpose::VerifyAddress, TokenPurpose::ConfirmAddress];
        let stranger = AuditContext::new(AuditEvent::EmailVerified, AuditActorKind::Anonymous, origin.clone());
        let mut attempt = Some(self.token_attempt(&stranger).await??);
        for _ in 0..MAX_ATTEMPTS {
            let Some(presented) = self.presented(token.expose(), &purposes).await? else { break };
            let Presented { account, redemption, .. } = presented;
            attempt.take().into_iter().for_each(Attempt::succeeded);
            let verifies = redemption.purpose == TokenPurpose::VerifyAddress;
            let event = if verifies { AuditEvent::EmailVerified } else { AuditEvent::EmailChanged };
            let context =
                AuditContext::new(event, AuditActorKind::Account(account.id), origin.clone()).about(account.id);
            let mut effects = Effects::from(context.done(self));
            let mut change = AccountChange { email_verified: Some(true), ..AccountChange::default() };
            if !verifies {
                change.email.clone_from(&account.pending_email);
                change.undoable = Some(self.undoable());
                change.pending_email = Some(None);
                let mut notice = self.notice(MailKind::AddressChanged, &account, &origin);
                notice.new_address.clone_from(&account.pending_email);
                self.tell_with_undo(&mut effects, &account, vec![notice]);
            }
            let update = AccountUpdate {
                id: account.id,
                acting: None,
                expected_revision: Some(account.revision),
                change,
                ends: EndSessions::None,
                redeems: Some(redemption),
                // Tokens that were sent to the old address are not valid for the new one.
                revokes_tokens: !verifies,
            };
            match self.store.update_account(update, effects).await {
                Ok(_) => {
                    self.mailer.wake();
                    return Ok(if verifies { Confirmed::AddressVerified } else { Confirmed::AddressChanged });
                }
                Err(StoreError::Failed(failure)) => return Err(failure.into()),
                Err(StoreError::Refused(UpdateAccountRefusal::EmailTaken)) => {
                    return Err(context.refuse(self, AuditRefusal::EmailTaken, ConfirmError::EmailTaken));
                }
                Err(StoreError::Refused(_)) => {}
            }
        }
        Err(stranger.refuse(self, AuditRefusal::BadToken, ConfirmError::BadToken))
    }

    /// Undoes the changes to an account since a mail was written, for a reader of that mailbox (S74).
    /// No earlier secret is restored: the owner chooses a new password with the mail that this flow queues.
    pub(crate) async fn undo(&self, token: Secret, origin: Origin) -> Result<(), ConfirmError> {
        let purposes = [TokenPurpose::Undo, TokenPurpose::CancelAddressChange];
        let stranger = AuditContext::new(AuditEvent::EmailChangeCancelled, AuditActorKind::Anonymous, origin.clone());
        let mut attempt = Some(self.token_attempt(&stranger).await??);
        for _ in 0..MAX_ATTEMPTS {
            let Some(presented) = self.presented(token.expose(), &purposes).await? else { break };
            attempt.take().into_iter().for_each(Attempt::succeeded);
            let Presented { account, address: email, revision, redemption } = presented;
            let moved = email.key() != account.email.key();
            let reserved = account.reserved_at(redemption.now).filter(|_| moved);
            let verified = reserved.map_or(account.email_verified, |reserved| reserved.verified);
            let change = AccountChange {
                email: moved.then_some(email),
                email_verified: Some(verified),
                pending_email: Some(None),
                password_hash: (account.password_revision >= revision).then_some(None),
                passphrase_hash: (account.passphrase_revision >= revision).then_some(None),
                ..AccountChange::default()
            };
            let restored = change.apply(&account, true);
            let event = if moved || account.pending_email.is_some() {
                AuditEvent::EmailChangeCancelled
            } else {
                AuditEvent::AccountUpdated
            };
            let context =
                AuditContext::new(event, AuditActorKind::Account(account.id), origin.clone()).about(account.id);
            let mut effects = Effects::from(context.changed(self, &change, &account));
            if moved {
                let mut notice = self.notice(MailKind::AddressChanged, &account, &origin);
                notice.new_address = Some(restored.email.clone());
                effects.mails.push(notice);
            }
            self.offer_reset(&mut effects, &restored, &origin);
            effects.settles_from = Some(revision);
            let update = AccountUpdate {
                id: account.id,
                acting: None,
                expected_revision: Some(account.revision),
                change,
                ends: EndSessions::All,
                redeems: Some(redemption),
                revokes_tokens: true,
            };
            match self.store.update_account(update, effects).await {
                Ok(after) => {
                    self.sessions.catch_up(after.id).await;
                    self.mailer.wake();
                    return Ok(());
                }
                Err(StoreError::Failed(failure)) => return Err(failure.into()),
                Err(StoreError::Refused(_)) => {}
            }
        }
        Err(stranger.refuse(self, AuditRefusal::BadToken, ConfirmError::BadToken))
    }

    /// Deletes accounts whose address was not verified in time.
    pub(crate) async fn remove_unverified(&self) {
        if !self.leases.hold(Lease::RemoveUnverified).await {
            return;
        }
        let now = self.clock.now().as_millis();
        let ttl = i64::try_from(self.rules.unverified_ttl.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp::from_millis(now.saturating_sub(ttl));
        let found = self.store.unverified_before(before, REMOVE_AT_ONCE).await;
        for id in found.unwrap_or_default() {
            let Ok(Some(account)) = self.store.account(id).await else { continue };
            // Only the operator removes an administrator who cannot log in.
            if !account.awaits_verification() || account.is_active_admin() {
                continue;
            }
            let context =
                AuditContext::new(AuditEvent::UnverifiedRemoved, AuditActorKind::System, Origin::default()).about(id);
            if self.store.delete_account(id, Some(account.revision), None, context.done(self).into()).await.is_ok() {
                self.sessions.catch_up(id).await;
            }
        }
    }

    /// Lets a token in that has yet to show whether it is good.
    async fn token_attempt(&self, context: &AuditContext) -> Result<Result<Attempt, Limited>, StoreFailure> {
        let attempt = self.limits.attempt(ProtectedResource::OneTimeToken, None, context.origin.address).await?;
        Ok(attempt.map_err(|limited| context.refuse(self, AuditRefusal::TooManyAttempts, limited)))
    }

    /// Looks up a presented token, if it is valid for one of these purposes. The store checks it again on redemption.
    async fn presented(&self, token: &str, purposes: &[TokenPurpose]) -> Result<Option<Presented>, StoreFailure> {
        let Some(hash) = TokenHash::of(token) else { return Ok(None) };
        let Some(StoredToken { account, revision, token }) = self.store.one_time_token(&hash).await? else {
            return Ok(None);
        };
        // Another node may have written when the token ends, by its own clock.
        let now = self.clock.now().minus(self.clock_skew);
        let is_over = now >= token.expires_at || self.links.is_over(&hash, self.clock.monotonic());
        if !purposes.contains(&token.purpose) || is_over {
            return Ok(None);
        }
        let Some(account) = self.store.account(account).await? else { return Ok(None) };
        let Some(address) = address_of(&account, &token, now).cloned() else { return Ok(None) };
        let redemption = Redemption { hash, purpose: token.purpose, address: token.address, now };
        Ok(Some(Presented { account, address, revision, redemption }))
    }

    /// Returns whether another mail of this purpose may be sent: the last one is older than the pause, and there were not too many.
    /// So nobody can flood an address that they know. A mail that may be sent counts.
    async fn may_mail_again(
        &self,
        account: &Account,
        purpose: TokenPurpose,
        pause: Duration,
    ) -> Result<bool, StoreFailure> {
        let last = self.store.token_of(account.id, purpose).await?;
        // A token issued in the future was issued before the clock was set back (R05).
        let now = self.clock.now();
        let lately = |issued_at: Timestamp| issued_at <= now && now.since(issued_at) < pause;
        if last.is_some_and(|last| lately(last.token.issued_at)) {
            return Ok(false);
        }
        // Counted by the account alone, because requests from many addresses are just as many mails.
        let target = Target { email: account.email.key(), account: Some(account.id), known: false };
        let kind = if purpose == TokenPurpose::ResetPassword {
            ProtectedResource::RecoveryMail
        } else {
            ProtectedResource::Mail
        };
        Ok(self.limits.count(kind, Some(target), None).await?.is_ok())
    }

    /// Queues mails that belong to no change; returns false if there were too many.
    pub(super) async fn queue(&self, account: &Account, effects: Effects) -> Result<bool, StoreFailure> {
        match self.store.record(account.id, effects).await {
            Err(StoreError::Refused(RecordRefusal::TooManyMails)) => Ok(false),
            // The account was deleted in the meantime, so there is no recipient.
            Ok(()) | Err(StoreError::Refused(RecordRefusal::UnknownAccount)) => {
                self.mailer.wake();
                Ok(true)
            }
            Err(StoreError::Failed(failure)) => Err(failure),
        }
    }
}

/// Returns whether a link was used within [`REPEAT_WITHIN`]. A use in the future does not count: the clock was set back.
pub(crate) fn is_recent(used_at: Timestamp, now: Timestamp) -> bool {
    used_at <= now && now.since(used_at) < REPEAT_WITHIN
}

/// Returns the address that the account has once a token is used, if the token is valid for the account in its present state.
/// No token is valid for a locked account.
pub(crate) fn address_of<'a>(account: &'a Account, token: &NewToken, now: Timestamp) -> Option<&'a Email> {
    let is_meant = |email: &&Email| *email.key() == token.address;
    let (present, pending) = (Some(&account.email), account.pending_email.as_ref());
    match token.purpose {
        _ if account.locked => None,
        TokenPurpose::VerifyAddress if account.email_verified => None,
        TokenPurpose::VerifyAddress | TokenPurpose::ResetPassword => present.filter(is_meant),
        TokenPurpose::ConfirmAddress => pending.filter(is_meant),
        // Links of earlier versions are about the pending address that they remove.
        TokenPurpose::CancelAddressChange => pending.filter(is_meant).and(present),
        TokenPurpose::Undo => {
            let reserved = account.reserved_at(now).map(|reserved| &reserved.email);
            present.filter(is_meant).or(reserved.filter(is_meant))
        }
    }
}

/// Returns whether a recovery of this account by mail requires its passphrase.
/// If the account was never verified, the owner of the mailbox does not know the passphrase; if it was made unusable, nobody does.
pub(crate) fn asks_for_passphrase(account: &Account, mode: RecoveryMode) -> bool {
    mode == RecoveryMode::EmailAndPassphrase && account.email_verified && account.passphrase_hash.is_some()
}
