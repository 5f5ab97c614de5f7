//! The exchange of a refresh token for the next access token, and logging out with one.

use super::{Flows, Story};
use crate::ask::Unavailable;
use crate::domain::account::AccountId;
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRefusal};
use crate::domain::failures::Guarded;
use crate::domain::mail::MailKind;
use crate::domain::refresh::{RefreshProof, RefreshToken};
use crate::domain::secret::Secret;
use crate::domain::session::Origin;
use crate::session::{AuthenticateError, Principal};
use crate::store::{Effects, RefreshOutcome, RefreshRefusal, RefreshUse, StoreError};
use crate::user::{RefreshError, Refreshed};

impl Flows {
    /// Exchanges a refresh token. It counts as a use of the session. Whatever is wrong with it is one answer.
    pub(crate) async fn refresh(&self, token: Secret, origin: Origin) -> Result<Refreshed, RefreshError> {
        let mut story = Story::new(AuditEvent::Refresh, AuditActorKind::Anonymous, origin);
        let Some((token, proof)) = self.issued(token.expose()).await? else {
            return Err(self.never_issued(&story).await);
        };
        // Only now: what merely names an account is nobody's business but the one's who sent it.
        story = story.about(token.account).within(token.session);
        let dead = |story: &Story| Err(story.refuse(self, AuditRefusal::BadRefreshToken, RefreshError::Dead));
        let Some(Principal { account, .. }) = self.whom(&token).await? else {
            return dead(&story);
        };
        let reused = Story { event: AuditEvent::RefreshReused, ..story.clone() };
        let mut on_reuse = Effects::from(reused.done(self));
        on_reuse.mails.push(self.notice(MailKind::RefreshReused, &account, &story.origin));
        let used = RefreshUse {
            proof,
            successor: self.refresh_keys.successor(&token),
            now: self.clock.now(),
            // Another node may have replaced it, by its own clock.
            grace: self.sessions.policy().refresh_grace.saturating_add(self.clock_skew),
            origin: story.origin.clone(),
            sign_in: self.sign_in(&account, &story.origin),
            on_reuse,
        };
        let family = match self.store.rotate_refresh(used).await {
            Ok(RefreshOutcome::Honoured(family)) => family,
            Ok(RefreshOutcome::Reused) => {
                // Dead in the store already, so that a shard which is down learns it when it starts again.
                self.sessions.catch_up(token.account).await;
                self.mailer.wake();
                tracing::warn!(
                    account = token.account.get(),
                    "a refresh token was used twice, and its session was ended"
                );
                return Err(RefreshError::Dead);
            }
            Err(StoreError::Refused(RefreshRefusal::Unknown | RefreshRefusal::Over)) => return dead(&story),
            Err(StoreError::Failed(failure)) => return Err(failure.into()),
        };
        // The signing secret was changed in the seconds since this token was replaced.
        let Some(successor) = self.refresh_keys.present(&family, &token) else {
            return dead(&story);
        };
        let opened = match self.sessions.renew(token.account, token.session).await {
            Ok(opened) => {
                self.mailer.wake();
                opened
            }
            // It was ended meanwhile.
            Err(AuthenticateError::Dead) => return dead(&story),
            Err(AuthenticateError::Unavailable(unavailable)) => return Err(unavailable.into()),
        };
        Ok(Refreshed {
            account: opened.principal.account,
            access_token: opened.access_token,
            expires_in: opened.expires_in,
            refresh_token: successor.write(),
        })
    }

    /// Whose session a refresh token belongs to, if it was issued to one that lives, whether it was replaced since or not: who
    /// has it may end the session, which is what its second use would do as well.
    pub(crate) async fn holder_of_refresh(&self, token: Secret, origin: Origin) -> Result<Principal, RefreshError> {
        let story = Story::new(AuditEvent::Logout, AuditActorKind::Anonymous, origin);
        let Some((token, _)) = self.issued(token.expose()).await? else {
            return Err(self.never_issued(&story).await);
        };
        let dead = || story.refuse(self, AuditRefusal::BadRefreshToken, RefreshError::Dead);
        self.whom(&token).await?.ok_or_else(dead)
    }

    /// Counts a token that nobody was given against the address it came from. Only then: nobody may keep those out who share
    /// an address and have good ones.
    async fn never_issued(&self, story: &Story) -> RefreshError {
        match self.limits.count(Guarded::Refresh, None, story.origin.address).await {
            Err(failure) => failure.into(),
            Ok(Err(limited)) => story.refuse(self, AuditRefusal::TooManyAttempts, limited.into()),
            Ok(Ok(())) => story.refuse(self, AuditRefusal::BadRefreshToken, RefreshError::Dead),
        }
    }

    /// Whose account a refresh token belongs to, if it was issued to a session that is still stored.
    pub(crate) async fn owner_of_refresh(&self, token: Secret) -> Result<Option<AccountId>, Unavailable> {
        Ok(self.issued(token.expose()).await?.map(|(token, _)| token.account))
    }

    /// The same for somebody who said who they are already, and whose guesses nobody has to count.
    pub(crate) async fn look_at_refresh(&self, token: Secret) -> Result<Option<Principal>, Unavailable> {
        let Some((token, _)) = self.issued(token.expose()).await? else { return Ok(None) };
        self.whom(&token).await
    }

    /// Whom the session of a token speaks for, if it lives; no use of it.
    async fn whom(&self, token: &RefreshToken) -> Result<Option<Principal>, Unavailable> {
        match self.sessions.look_at(token.account, token.session).await {
            Ok(principal) => Ok(Some(principal)),
            Err(AuthenticateError::Dead) => Ok(None),
            Err(AuthenticateError::Unavailable(unavailable)) => Err(unavailable),
        }
    }

    /// A written token, if it was ever issued to a session that is still stored, and what the store is shown of it.
    async fn issued(&self, written: &str) -> Result<Option<(RefreshToken, RefreshProof)>, Unavailable> {
        let Some(token) = RefreshToken::parse(written) else { return Ok(None) };
        let family = self.store.refresh_family(token.account, token.session).await?;
        let proof = family.and_then(|family| self.refresh_keys.proof(&family, &token));
        Ok(proof.map(|proof| (token, proof)))
    }
}
