//! The exchange of a refresh token for the next access token, and logout with a refresh token.

use super::{AuditContext, Flows};
use crate::ask::Unavailable;
use crate::domain::account::AccountId;
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRefusal};
use crate::domain::failures::ProtectedResource;
use crate::domain::mail::MailKind;
use crate::domain::refresh::{RefreshProof, RefreshToken};
use crate::domain::secret::Secret;
use crate::domain::session::Origin;
use crate::session::{AuthenticateError, Principal};
use crate::store::{Effects, RefreshOutcome, RefreshRefusal, RefreshUse, StoreError};
use crate::user::{RefreshError, Refreshed};

impl Flows {
    /// Exchanges a refresh token. Counts as a use of the session. All invalid tokens get the same answer.
    pub(crate) async fn refresh(&self, token: Secret, origin: Origin) -> Result<Refreshed, RefreshError> {
        let mut context = AuditContext::new(AuditEvent::Refresh, AuditActorKind::Anonymous, origin);
        let Some((token, proof)) = self.issued(token.expose()).await? else {
            return Err(self.never_issued(&context).await);
        };
        // The record names the account only now: a token that was never issued proves nothing about the account that it names.
        context = context.about(token.account).within(token.session);
        let dead =
            |context: &AuditContext| Err(context.refuse(self, AuditRefusal::BadRefreshToken, RefreshError::Dead));
        let Some(Principal { account, .. }) = self.whom(&token).await? else {
            return dead(&context);
        };
        let reused = AuditContext { event: AuditEvent::RefreshReused, ..context.clone() };
        let mut on_reuse = Effects::from(reused.done(self));
        on_reuse.mails.push(self.notice(MailKind::RefreshReused, &account, &context.origin));
        let used = RefreshUse {
            proof,
            successor: self.refresh_keys.successor(&token),
            now: self.clock.now(),
            // Another node may have replaced it, by its own clock.
            grace: self.sessions.policy().refresh_grace.saturating_add(self.clock_skew),
            origin: context.origin.clone(),
            sign_in: self.sign_in(&account, &context.origin),
            on_reuse,
        };
        let family = match self.store.rotate_refresh(used).await {
            Ok(RefreshOutcome::Honoured(family)) => family,
            Ok(RefreshOutcome::Reused) => {
                // The session has already ended in the store, so a shard that is down learns it when it restarts.
                self.sessions.catch_up(token.account).await;
                self.mailer.wake();
                tracing::warn!(
                    account = token.account.get(),
                    "a refresh token was used twice, and its session was ended"
                );
                return Err(RefreshError::Dead);
            }
            Err(StoreError::Refused(RefreshRefusal::Unknown | RefreshRefusal::Over)) => return dead(&context),
            Err(StoreError::Failed(failure)) => return Err(failure.into()),
        };
        // The signing secret was changed within the grace period of this token.
        let Some(successor) = self.refresh_keys.present(&family, &token) else {
            return dead(&context);
        };
        let opened = match self.sessions.renew(token.account, token.session).await {
            Ok(opened) => {
                self.mailer.wake();
                opened
            }
            // The session was ended in the meantime.
            Err(AuthenticateError::Dead) => return dead(&context),
            Err(AuthenticateError::Unavailable(unavailable)) => return Err(unavailable.into()),
        };
        Ok(Refreshed {
            account: opened.principal.account,
            access_token: opened.access_token,
            expires_in: opened.expires_in,
            refresh_token: successor.write(),
        })
    }

    /// Returns the principal of a refresh token that was issued to a live session, even if the token was replaced since.
    /// Its holder may end the session, as presenting a replaced token again would also do.
    pub(crate) async fn holder_of_refresh(&self, token: Secret, origin: Origin) -> Result<Principal, RefreshError> {
        let context = AuditContext::new(AuditEvent::Logout, AuditActorKind::Anonymous, origin);
        let Some((token, _)) = self.issued(token.expose()).await? else {
            return Err(self.never_issued(&context).await);
        };
        let dead = || context.refuse(self, AuditRefusal::BadRefreshToken, RefreshError::Dead);
        self.whom(&token).await?.ok_or_else(dead)
    }

    /// Counts a token that nobody was given against the address it came from. Only then: nobody may keep those out who share
    /// an address and have good ones.
    async fn never_issued(&self, context: &AuditContext) -> RefreshError {
        match self.limits.count(ProtectedResource::Refresh, None, context.origin.address).await {
            Err(failure) => failure.into(),
            Ok(Err(limited)) => context.refuse(self, AuditRefusal::TooManyAttempts, limited.into()),
            Ok(Ok(())) => context.refuse(self, AuditRefusal::BadRefreshToken, RefreshError::Dead),
        }
    }

    /// Returns the account of a refresh token, if the token was issued to a session that is still stored.
    pub(crate) async fn owner_of_refresh(&self, token: Secret) -> Result<Option<AccountId>, Unavailable> {
        Ok(self.issued(token.expose()).await?.map(|(token, _)| token.account))
    }

    /// Returns the principal of a token for a client that has already authenticated, whose guesses need not be counted.
    pub(crate) async fn look_at_refresh(&self, token: Secret) -> Result<Option<Principal>, Unavailable> {
        let Some((token, _)) = self.issued(token.expose()).await? else { return Ok(None) };
        self.whom(&token).await
    }

    /// Returns the principal of the session of a token, if the session is alive. Does not count as a use of it.
    async fn whom(&self, token: &RefreshToken) -> Result<Option<Principal>, Unavailable> {
        match self.sessions.look_at(token.account, token.session).await {
            Ok(principal) => Ok(Some(principal)),
            Err(AuthenticateError::Dead) => Ok(None),
            Err(AuthenticateError::Unavailable(unavailable)) => Err(unavailable),
        }
    }

    /// Parses a token and returns it with its proof for the store, if it was issued to a session that is still stored.
    async fn issued(&self, written: &str) -> Result<Option<(RefreshToken, RefreshProof)>, Unavailable> {
        let Some(token) = RefreshToken::parse(written) else { return Ok(None) };
        let family = self.store.refresh_family(token.account, token.session).await?;
        let proof = family.and_then(|family| self.refresh_keys.proof(&family, &token));
        Ok(proof.map(|proof| (token, proof)))
    }
}
