//! What services need of the store: their tokens, and the log of what was revoked.

use std::time::Duration;

use async_trait::async_trait;
use doorward_actors::ports::{
    Acting, ChangeServiceTokenRefusal, CreateServiceTokenRefusal, ServiceStore, StoreError, StoreFailure,
};
use doorward_actors::{
    AuditRecord, NewServiceToken, Revocation, RevocationSpan, ServiceToken, ServiceTokenId, ServiceTokenRotation,
    Timestamp,
};
use tokio::sync::watch;

use super::{SledStore, changes, reads};

#[async_trait]
impl ServiceStore for SledStore {
    async fn service_tokens(&self) -> Result<Vec<ServiceToken>, StoreFailure> {
        self.scan(reads::services::service_tokens).await
    }

    async fn built_in_last_used(&self) -> Result<Option<Timestamp>, StoreFailure> {
        self.read(reads::services::built_in_last_used)
    }

    async fn create_service_token(
        &self,
        token: NewServiceToken,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<CreateServiceTokenRefusal>> {
        self.committer.change(move |staging| changes::create_service_token(staging, token, &audit)).await
    }

    async fn rotate_service_token(
        &self,
        id: ServiceTokenId,
        rotation: ServiceTokenRotation,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<ChangeServiceTokenRefusal>> {
        self.committer.change(move |staging| changes::rotate_service_token(staging, id, rotation, &audit)).await
    }

    async fn delete_service_token(
        &self,
        id: ServiceTokenId,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<ChangeServiceTokenRefusal>> {
        self.committer.change(move |staging| changes::delete_service_token(staging, id, acting, &audit)).await
    }

    async fn touch_service_tokens(&self, used: Vec<(ServiceTokenId, Timestamp)>) -> Result<(), StoreFailure> {
        self.note(move |staging| changes::touch_service_tokens(staging, &used)).await
    }

    async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreFailure> {
        self.scan(move |tree| reads::services::revocations(tree, after, limit)).await
    }

    async fn revocation_span(&self) -> Result<RevocationSpan, StoreFailure> {
        self.read(reads::services::revocation_span)
    }

    fn revocation_head(&self) -> watch::Receiver<u64> {
        self.revocation_head.subscribe()
    }

    async fn record_keys(&self, audit: Vec<AuditRecord>, replaced_at: Option<Timestamp>) -> Result<(), StoreFailure> {
        self.note(move |staging| changes::record_keys(staging, &audit, replaced_at)).await
    }

    async fn prune_revocations(&self, before: Timestamp, up_to: u64, limit: usize) -> Result<usize, StoreFailure> {
        self.note(move |staging| changes::prune_revocations(staging, before, up_to, limit)).await
    }

    async fn note_token_lifetime(&self, lifetime: Duration) -> Result<Duration, StoreFailure> {
        let millis = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let longest = self.note(move |staging| changes::note_token_lifetime(staging, millis)).await?;
        Ok(Duration::from_millis(longest))
    }
}
