//! What is done by way of a mailbox: verifying an address, changing it, choosing a new password.

use std::sync::Arc;
use std::time::Duration;

use super::letters::Addressee;
use super::{Flows, MAX_ATTEMPTS, Story};
use crate::ask::Unavailable;
use crate::domain::account::{Account, AccountChange, CredentialHash};
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRefusal};
use crate::domain::email::{Email, EmailKey};
use crate::domain::failures::Guarded;
use crate::domain::mail::MailKind;
use crate::domain::one_time::{TokenHash, TokenPurpose, TokenSeed};
use crate::domain::password::OwnNames;
use crate::domain::secret::Secret;
use crate::domain::session::Origin;
use crate::domain::time::Timestamp;
use crate::hasher::Candidate;
use crate::ports::{
    AccountUpdate, Effects, EndSessions, Redemption, StoreError, StoreFailure, StoredToken, UpdateAccountRefusal,
};
use crate::rate_limiter::{Attempt, Limited, Target};
use crate::user::{
    ConfirmError, Confirmed, MailedRecovery, MailedRecoveryError, RESEND_PAUSE, RecoveryMode, RequestRecoveryError,
};

/// How many unverified accounts are removed at one look; there is another look soon.
const REMOVE_AT_ONCE: usize = 100;

/// A token that is good, and the account it is for.
struct Presented {
    account: Account,
    redemption: Redemption,
}

impl Flows {
    /// Sends the verification mail again, if there is an account to verify. The answer comes before anything is looked up, so
    /// it tells nothing (S12).
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
        let story = Story::new(AuditEvent::VerificationSent, AuditActorKind::Anonymous, origin.clone());
        let Some(account) = self.store.account_by_email(email.key()).await? else {
            story.refuse(self, AuditRefusal::UnknownAccount, ());
            return Ok(());
        };
        let story = story.about(account.id);
        if account.email_verified || account.locked {
            let why = if account.locked { AuditRefusal::Locked } else { AuditRefusal::AlreadyVerified };
            story.refuse(self, why, ());
        } else if !self.verify_again(&account, RESEND_PAUSE, origin).await? {
            story.refuse(self, AuditRefusal::TooSoon, ());
        }
        Ok(())
    }

    /// Queues another verification mail; false if the last one was sent within the pause.
    pub(super) async fn verify_again(
        &self,
        account: &Account,
        pause: Duration,
        origin: Origin,
    ) -> Result<bool, StoreFailure> {
        if !self.may_mail_again(account, TokenPurpose::VerifyAddress, pause).await? {
            return Ok(false);
        }
        let story = Story::new(AuditEvent::VerificationSent, AuditActorKind::Anonymous, origin).about(account.id);
        let mut effects = Effects::from(story.done(self));
        self.ask_to_verify(&mut effects, Addressee::owner(account), &story.origin);
        self.queue(account, effects).await?;
        Ok(true)
    }

    /// Sends a mail by which a new password is chosen, if there is an account for it. As with [`Self::resend_verification`] the
    /// answer comes first.
    pub(crate) fn request_recovery(self: Arc<Self>, email: Email, origin: Origin) -> Result<(), RequestRecoveryError> {
        if self.rules.recovery_mode == RecoveryMode::Passphrase {
            return Err(RequestRecoveryError::NotOffered);
        }
        let flows = Arc::clone(&self);
        self.after_answer(async move {
            if let Err(failure) = flows.send_reset(&email, origin).await {
                tracing::error!(%failure, "a recovery mail could not be queued");
            }
        });
        Ok(())
    }

    async fn send_reset(&self, email: &Email, origin: Origin) -> Result<(), StoreFailure> {
        let story = Story::new(AuditEvent::RecoveryRequested, AuditActorKind::Anonymous, origin);
        let Some(account) = self.store.account_by_email(email.key()).await? else {
            story.refuse(self, AuditRefusal::UnknownAccount, ());
            return Ok(());
        };
        let story = story.about(account.id);
        if account.locked {
            story.refuse(self, AuditRefusal::Locked, ());
            return Ok(());
        }
        if !self.may_mail_again(&account, TokenPurpose::ResetPassword, RESEND_PAUSE).await? {
            story.refuse(self, AuditRefusal::TooSoon, ());
            return Ok(());
        }
        let mut effects = Effects::from(story.done(self));
        self.offer_reset(&mut effects, &account, &story.origin);
        self.queue(&account, effects).await
    }

    /// Replaces the password for whoever can read the owner's mail (and knows the passphrase, where both are asked for).
    pub(crate) async fn recover_by_mail(
        &self,
        recovery: MailedRecovery,
        origin: Origin,
    ) -> Result<(), MailedRecoveryError> {
        let MailedRecovery { token, new_password, passphrase } = recovery;
        if self.rules.recovery_mode == RecoveryMode::Passphrase {
            return Err(MailedRecoveryError::NotOffered);
        }
        let story = Story::new(AuditEvent::Recovered, AuditActorKind::Anonymous, origin);
        let mut hashed: Option<(CredentialHash, Option<CredentialHash>)> = None;
        let mut attempt = Some(self.token_attempt(&story)?);
        for _ in 0..MAX_ATTEMPTS {
            let found = self.presented(token.expose(), &[TokenPurpose::ResetPassword]).await?;
            let Some(Presented { account, redemption }) = found.filter(|found| !found.account.locked) else {
                return Err(story.refuse(self, AuditRefusal::BadToken, MailedRecoveryError::BadToken));
            };
            attempt.take().into_iter().for_each(Attempt::succeeded);
            let story = story.clone().about(account.id);
            let names = OwnNames::new(&account.email, Some(&account.nickname));
            let candidate = Candidate { password: new_password.clone(), names };
            let weak = |weak| story.refuse(self, AuditRefusal::WeakPassword, MailedRecoveryError::Weak(weak));
            if self.rules.recovery_mode == RecoveryMode::EmailAndPassphrase {
                let passphrase = passphrase.as_ref().ok_or(MailedRecoveryError::PassphraseNeeded)?;
                let email = account.email.key();
                let mut attempt = self.attempt(Guarded::Passphrase, email, Some(&account), &story).await??;
                let (shown, against) = (passphrase.secret().clone(), Some(account.passphrase_hash.clone()));
                let verify = self.hasher.verify_passphrase(candidate.clone(), shown, against);
                let verdict = match attempt.spare(verify).await? {
                    Ok(verdict) => verdict,
                    Err(reason) => {
                        attempt.withdraw();
                        return Err(weak(reason));
                    }
                };
                if !verdict.matches {
                    return Err(story.refuse(self, AuditRefusal::WrongPassphrase, MailedRecoveryError::NoMatch));
                }
                attempt.succeeded();
            }
            // Whoever registered an address that was never verified may not be its owner: nothing they chose stays (S32).
            let stranger = !account.email_verified;
            let (password_hash, passphrase_hash) = if let Some(hashed) = &hashed {
                hashed.clone()
            } else {
                let both = if stranger {
                    let both = self.hasher.hash_both(candidate, self.nobodys_secret()).await?;
                    both.map(|(password, passphrase)| (password, Some(passphrase)))
                } else {
                    self.hasher.hash_new(candidate).await?.map(|password| (password, None))
                };
                hashed.insert(both.map_err(weak)?).clone()
            };
            let change = AccountChange {
                password_hash: Some(password_hash),
                passphrase_hash,
                email_verified: Some(true),
                pending_email: Some(None),
                ..AccountChange::default()
            };
            let mut effects = Effects::from(story.done(self));
            effects.mails.push(self.notice(MailKind::RecoveryUsed, &account, &story.origin));
            effects.networks = Some(self.only_network(&story.origin));
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
                    self.sessions.forget(after.id, after.session_epoch, None).await;
                    self.limits.start_anew(after.email.key());
                    self.mailer.wake();
                    return Ok(());
                }
                Err(StoreError::Failed(failure)) => return Err(failure.into()),
                // A token used meanwhile is found to be gone at the next turn.
                Err(StoreError::Refused(_)) => {}
            }
        }
        Err(MailedRecoveryError::Unavailable(Unavailable::default()))
    }

    /// Takes an address as its owner's: the account's own, or the new one it is to have.
    pub(crate) async fn confirm_email(&self, token: Secret, origin: Origin) -> Result<Confirmed, ConfirmError> {
        let purposes = [TokenPurpose::VerifyAddress, TokenPurpose::ConfirmAddress];
        let stranger = Story::new(AuditEvent::EmailVerified, AuditActorKind::Anonymous, origin.clone());
        let mut attempt = Some(self.token_attempt(&stranger)?);
        for _ in 0..MAX_ATTEMPTS {
            let Some(presented) = self.presented(token.expose(), &purposes).await? else { break };
            let Presented { account, redemption } = presented;
            attempt.take().into_iter().for_each(Attempt::succeeded);
            let verifies = redemption.purpose == TokenPurpose::VerifyAddress;
            let event = if verifies { AuditEvent::EmailVerified } else { AuditEvent::EmailChanged };
            let story = Story::new(event, AuditActorKind::Account(account.id), origin.clone()).about(account.id);
            let mut effects = Effects::from(story.done(self));
            let mut change = AccountChange { email_verified: Some(true), ..AccountChange::default() };
            if !verifies {
                change.email.clone_from(&account.pending_email);
                change.pending_email = Some(None);
                let mut notice = self.notice(MailKind::AddressChanged, &account, &origin);
                notice.new_address.clone_from(&account.pending_email);
                effects.mails.push(notice);
            }
            let update = AccountUpdate {
                id: account.id,
                acting: None,
                expected_revision: Some(account.revision),
                change,
                ends: EndSessions::None,
                redeems: Some(redemption),
                // Tokens that went to the old address are worth nothing at the new one.
                revokes_tokens: !verifies,
            };
            match self.store.update_account(update, effects).await {
                Ok(_) => {
                    self.mailer.wake();
                    return Ok(if verifies { Confirmed::AddressVerified } else { Confirmed::AddressChanged });
                }
                Err(StoreError::Failed(failure)) => return Err(failure.into()),
                Err(StoreError::Refused(UpdateAccountRefusal::EmailTaken)) => {
                    return Err(story.refuse(self, AuditRefusal::EmailTaken, ConfirmError::EmailTaken));
                }
                Err(StoreError::Refused(_)) => {}
            }
        }
        Err(stranger.refuse(self, AuditRefusal::BadToken, ConfirmError::BadToken))
    }

    /// Drops a pending change of address, on the word of whoever reads mail at the present one.
    pub(crate) async fn cancel_email_change(&self, token: Secret, origin: Origin) -> Result<(), ConfirmError> {
        let stranger = Story::new(AuditEvent::EmailChangeCancelled, AuditActorKind::Anonymous, origin.clone());
        let mut attempt = Some(self.token_attempt(&stranger)?);
        for _ in 0..MAX_ATTEMPTS {
            let found = self.presented(token.expose(), &[TokenPurpose::CancelAddressChange]).await?;
            let Some(Presented { account, redemption }) = found else { break };
            attempt.take().into_iter().for_each(Attempt::succeeded);
            let owner = AuditActorKind::Account(account.id);
            let story = Story::new(AuditEvent::EmailChangeCancelled, owner, origin.clone()).about(account.id);
            let update = AccountUpdate {
                id: account.id,
                acting: None,
                expected_revision: Some(account.revision),
                change: AccountChange { pending_email: Some(None), ..AccountChange::default() },
                ends: EndSessions::None,
                redeems: Some(redemption),
                revokes_tokens: false,
            };
            match self.store.update_account(update, story.done(self).into()).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Failed(failure)) => return Err(failure.into()),
                Err(StoreError::Refused(_)) => {}
            }
        }
        Err(stranger.refuse(self, AuditRefusal::BadToken, ConfirmError::BadToken))
    }

    /// Deletes accounts whose address was not verified in time.
    pub(crate) async fn remove_unverified(&self) {
        let now = self.clock.now().as_millis();
        let ttl = i64::try_from(self.rules.unverified_ttl.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp::from_millis(now.saturating_sub(ttl));
        let found = self.store.unverified_before(before, REMOVE_AT_ONCE).await;
        for id in found.unwrap_or_default() {
            let Ok(Some(account)) = self.store.account(id).await else { continue };
            // An administrator who cannot log in is the operator's business.
            if account.email_verified || account.is_active_admin() {
                continue;
            }
            let story = Story::new(AuditEvent::UnverifiedRemoved, AuditActorKind::System, Origin::default()).about(id);
            if self.store.delete_account(id, Some(account.revision), None, story.done(self).into()).await.is_ok() {
                self.sessions.forget(id, u64::MAX, None).await;
            }
        }
    }

    /// Lets a token in that has yet to show whether it is good.
    fn token_attempt(&self, story: &Story) -> Result<Attempt, Limited> {
        let attempt = self.limits.attempt(Guarded::OneTimeToken, None, story.origin.address);
        attempt.map_err(|limited| story.refuse(self, AuditRefusal::TooManyAttempts, limited))
    }

    /// What a presented token is good for, if it is good for one of these purposes. The store checks it again when it is used up.
    async fn presented(&self, token: &str, purposes: &[TokenPurpose]) -> Result<Option<Presented>, StoreFailure> {
        let Some(hash) = TokenHash::of(token) else { return Ok(None) };
        let Some(StoredToken { account, token }) = self.store.one_time_token(&hash).await? else { return Ok(None) };
        let now = self.clock.now();
        let is_over = now >= token.expires_at || self.links.is_over(&hash, self.clock.monotonic());
        if !purposes.contains(&token.purpose) || is_over {
            return Ok(None);
        }
        let Some(account) = self.store.account(account).await? else { return Ok(None) };
        if address_of(&account, token.purpose) != Some(&token.address) {
            return Ok(None);
        }
        let redemption = Redemption { hash, purpose: token.purpose, address: token.address, now };
        Ok(Some(Presented { account, redemption }))
    }

    /// Whether the last mail of this purpose is long enough ago, and there were not too many of all purposes: whoever knows an
    /// address must not be able to flood it. A mail that may be sent counts.
    async fn may_mail_again(
        &self,
        account: &Account,
        purpose: TokenPurpose,
        pause: Duration,
    ) -> Result<bool, StoreFailure> {
        let last = self.store.token_of(account.id, purpose).await?;
        // One that was issued in what is now the future was issued before the clock was set back (R05).
        let now = self.clock.now();
        let lately = |issued_at: Timestamp| issued_at <= now && now.since(issued_at) < pause;
        if last.is_some_and(|last| lately(last.token.issued_at)) {
            return Ok(false);
        }
        // By the account alone: that the requests come from many places makes them no fewer.
        let target = Target { email: account.email.key(), account: Some(account.id), known: false };
        Ok(self.limits.attempt(Guarded::Mail, Some(target), None).is_ok())
    }

    async fn queue(&self, account: &Account, effects: Effects) -> Result<(), StoreFailure> {
        match self.store.record(account.id, effects).await {
            // Deleted meanwhile: there is nobody to write to.
            Ok(()) | Err(StoreError::Refused(_)) => {
                self.mailer.wake();
                Ok(())
            }
            Err(StoreError::Failed(failure)) => Err(failure),
        }
    }

    /// A secret that nobody knows.
    fn nobodys_secret(&self) -> Secret {
        let mut bytes = [0; 32];
        self.entropy.fill(&mut bytes);
        self.key.token(TokenPurpose::ResetPassword, &TokenSeed::from_bytes(bytes))
    }
}

/// The address that a token of this purpose has to be about for the account as it is now.
pub(crate) fn address_of(account: &Account, purpose: TokenPurpose) -> Option<&EmailKey> {
    match purpose {
        TokenPurpose::VerifyAddress if account.email_verified => None,
        TokenPurpose::VerifyAddress | TokenPurpose::ResetPassword => Some(account.email.key()),
        TokenPurpose::ConfirmAddress | TokenPurpose::CancelAddressChange => {
            account.pending_email.as_ref().map(Email::key)
        }
    }
}
