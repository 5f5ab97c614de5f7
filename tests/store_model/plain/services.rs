//! Service tokens and revocations as lists.

use doorward_actors::{
    Account, AccountId, Acting, AuditRecord, NewServiceToken, ReplacedSecret, Revocation, RevocationSpan, Revoked,
    ServiceToken, ServiceTokenId, ServiceTokenRotation, SessionId, Timestamp,
};
use std::time::Duration;

use crate::subject::ServiceSubject;
use async_trait::async_trait;
use tokio::sync::watch;

use super::Model;
use doorward_actors::store::{
    ChangeServiceTokenRefusal, CreateServiceTokenRefusal, MAX_SERVICE_TOKENS, StoreError, StoreFailure,
};

#[derive(Debug, Default)]
pub(super) struct Services {
    tokens: Vec<ServiceToken>,
    tokens_ever: u64,
    built_in_used: Option<Timestamp>,
    revocations: Vec<Revocation>,
    removed: u64,
    lifetime: Duration,
    head: watch::Sender<u64>,
}

impl Services {
    pub(super) fn ended(&mut self, account: AccountId, session: SessionId, at: Timestamp) {
        self.note(account, Revoked::Session(session), at);
    }

    pub(super) fn deleted(&mut self, account: AccountId, at: Timestamp) {
        self.note(account, Revoked::AccountDeleted, at);
    }

    pub(super) fn changed(&mut self, before: &Account, after: &Account, at: Timestamp) {
        if after.locked && !before.locked {
            self.note(after.id, Revoked::AccountLocked, at);
        }
        if after.role != before.role {
            self.note(after.id, Revoked::Role(after.role), at);
        }
    }

    fn note(&mut self, account: impl Into<Option<AccountId>>, what: Revoked, at: Timestamp) {
        self.revocations.push(Revocation { at, account: account.into(), what });
        let last = self.last();
        self.head.send_replace(last);
    }

    fn last(&self) -> u64 {
        self.removed + u64::try_from(self.revocations.len()).unwrap_or(u64::MAX)
    }
}

/// Returns the time of a change, taken from its audit records.
pub(super) fn time_of(audit: &[AuditRecord]) -> Timestamp {
    audit.first().map_or(Timestamp::from_millis(0), |record| record.at)
}

#[async_trait]
impl ServiceSubject for Model {
    async fn service_tokens(&self) -> Result<Vec<ServiceToken>, StoreFailure> {
        Ok(self.working()?.services.tokens.clone())
    }

    async fn built_in_last_used(&self) -> Result<Option<Timestamp>, StoreFailure> {
        Ok(self.working()?.services.built_in_used)
    }

    async fn create_service_token(
        &self,
        new: NewServiceToken,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<CreateServiceTokenRefusal>> {
        let mut state = self.working()?;
        if !state.may_act(new.acting) {
            return Err(StoreError::Refused(CreateServiceTokenRefusal::Revoked));
        }
        let services = &mut state.services;
        if services.tokens.iter().any(|token| token.name == new.name) {
            return Err(StoreError::Refused(CreateServiceTokenRefusal::NameTaken));
        }
        if services.tokens.len() >= MAX_SERVICE_TOKENS {
            return Err(StoreError::Refused(CreateServiceTokenRefusal::TooMany));
        }
        services.tokens_ever += 1;
        let token = ServiceToken {
            id: ServiceTokenId::new(services.tokens_ever),
            name: new.name,
            scopes: new.scopes,
            digest: new.digest,
            replaced: None,
            created_at: new.created_at,
            expires_at: new.expires_at,
            last_used_at: None,
        };
        services.tokens.push(token.clone());
        state.audit.push(audit);
        Ok(token)
    }

    async fn rotate_service_token(
        &self,
        id: ServiceTokenId,
        rotation: ServiceTokenRotation,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<ChangeServiceTokenRefusal>> {
        let mut state = self.working()?;
        if !state.may_act(rotation.acting) {
            return Err(StoreError::Refused(ChangeServiceTokenRefusal::Revoked));
        }
        let Some(token) = state.services.tokens.iter_mut().find(|token| token.id == id) else {
            return Err(StoreError::Refused(ChangeServiceTokenRefusal::Unknown));
        };
        token.replaced = Some(ReplacedSecret { digest: token.digest, until: rotation.until });
        token.digest = rotation.digest;
        let token = token.clone();
        state.audit.push(audit);
        Ok(token)
    }

    async fn delete_service_token(
        &self,
        id: ServiceTokenId,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<ChangeServiceTokenRefusal>> {
        let mut state = self.working()?;
        if !state.may_act(acting) {
            return Err(StoreError::Refused(ChangeServiceTokenRefusal::Revoked));
        }
        let Some(n) = state.services.tokens.iter().position(|token| token.id == id) else {
            return Err(StoreError::Refused(ChangeServiceTokenRefusal::Unknown));
        };
        state.services.tokens.remove(n);
        state.audit.push(audit);
        Ok(())
    }

    async fn touch_service_tokens(&self, used: Vec<(ServiceTokenId, Timestamp)>) -> Result<(), StoreFailure> {
        let mut state = self.working()?;
        for (id, at) in used {
            let services = &mut state.services;
            let known = if id == ServiceTokenId::BUILT_IN {
                Some(&mut services.built_in_used)
            } else {
                services.tokens.iter_mut().find(|token| token.id == id).map(|token| &mut token.last_used_at)
            };
            if let Some(known) = known {
                *known = (*known).max(Some(at));
            }
        }
        Ok(())
    }

    async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreFailure> {
        let state = self.working()?;
        let services = &state.services;
        let numbered = (services.removed + 1..).zip(services.revocations.iter().copied());
        Ok(numbered.filter(|(number, _)| *number > after).take(limit).collect())
    }

    async fn revocation_span(&self) -> Result<RevocationSpan, StoreFailure> {
        let state = self.working()?;
        Ok(RevocationSpan { before: state.services.removed, last: state.services.last() })
    }

    fn revocation_head(&self) -> watch::Receiver<u64> {
        self.lock().services.head.subscribe()
    }

    async fn record_keys(&self, audit: Vec<AuditRecord>, replaced_at: Option<Timestamp>) -> Result<(), StoreFailure> {
        let mut state = self.working()?;
        state.audit.extend(audit);
        if let Some(at) = replaced_at {
            state.services.note(None, Revoked::KeysReplaced, at);
        }
        Ok(())
    }

    async fn prune_revocations(
        &self,
        now: Timestamp,
        leeway: Duration,
        up_to: u64,
        limit: usize,
    ) -> Result<usize, StoreFailure> {
        let mut state = self.working()?;
        let services = &mut state.services;
        let before = now.minus(services.lifetime + leeway);
        let known = usize::try_from(up_to.saturating_sub(services.removed)).unwrap_or(usize::MAX);
        let limit = limit.min(known);
        let old = services.revocations.iter().take(limit).take_while(|revocation| revocation.at < before).count();
        services.revocations.drain(..old);
        services.removed += u64::try_from(old).unwrap_or(0);
        Ok(old)
    }

    async fn note_token_lifetime(&self, lifetime: Duration) -> Result<Duration, StoreFailure> {
        let mut state = self.working()?;
        state.services.lifetime = state.services.lifetime.max(lifetime);
        Ok(state.services.lifetime)
    }
}
