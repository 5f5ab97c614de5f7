//! What services need of the store: their tokens, and the log of what was revoked.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Acting, StoreError, StoreFailure};
use crate::domain::audit::AuditRecord;
use crate::domain::revocation::{Revocation, RevocationSpan};
use crate::domain::service_token::{NewServiceToken, ServiceToken, ServiceTokenId, ServiceTokenRotation};
use crate::domain::time::Timestamp;

/// How many service tokens there may be besides the one of the settings.
pub const MAX_SERVICE_TOKENS: usize = 256;

/// Why a service token was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateServiceTokenRefusal {
    /// Another one has this name.
    NameTaken,
    /// There are [`MAX_SERVICE_TOKENS`] already.
    TooMany,
    /// The session in whose name it was to be made does not stand any more.
    Revoked,
}

/// Why a service token was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeServiceTokenRefusal {
    /// There is no such token.
    Unknown,
    /// The session in whose name it was to be changed does not stand any more.
    Revoked,
}

/// The part of the store that services need. What holds for [`Store`](super::Store) holds here.
#[async_trait]
pub trait ServiceStore: Send + Sync + 'static {
    /// All service tokens, by number, with their last stored use.
    async fn service_tokens(&self) -> Result<Vec<ServiceToken>, StoreFailure>;

    /// When the token of the settings was last used, as far as that is stored.
    async fn built_in_last_used(&self) -> Result<Option<Timestamp>, StoreFailure>;

    /// Makes a service token and gives it the next number.
    async fn create_service_token(
        &self,
        token: NewServiceToken,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<CreateServiceTokenRefusal>>;

    /// Gives a service token another secret; the present one becomes the replaced one.
    async fn rotate_service_token(
        &self,
        id: ServiceTokenId,
        rotation: ServiceTokenRotation,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<ChangeServiceTokenRefusal>>;

    /// Deletes a service token.
    async fn delete_service_token(
        &self,
        id: ServiceTokenId,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<ChangeServiceTokenRefusal>>;

    /// Notes the last use of service tokens, that of the settings among them; unknown ones and older times than the stored one
    /// are passed over.
    async fn touch_service_tokens(&self, used: Vec<(ServiceTokenId, Timestamp)>) -> Result<(), StoreFailure>;

    /// What was revoked after this number, by number, at most `limit`. What was removed is passed over.
    async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreFailure>;

    /// Which revocations are kept.
    async fn revocation_span(&self) -> Result<RevocationSpan, StoreFailure>;

    /// The number of the newest revocation that is durable, as it grows. 0 when there never was one.
    fn revocation_head(&self) -> watch::Receiver<u64>;

    /// Puts on record what happened to the signing keys. If all of them were replaced, at this time, the log of revocations says
    /// so in the same commit.
    async fn record_keys(&self, audit: Vec<AuditRecord>, replaced_at: Option<Timestamp>) -> Result<(), StoreFailure>;

    /// Removes the oldest revocations, those from before a time and up to a number, at most `limit`; the answer is how many
    /// went. The first one that is not from before that time ends it.
    async fn prune_revocations(&self, before: Timestamp, up_to: u64, limit: usize) -> Result<usize, StoreFailure>;

    /// Notes for how long access tokens are good from now on. The answer is the longest time that was ever noted: for so long
    /// there may be tokens that were issued under it.
    async fn note_token_lifetime(&self, lifetime: Duration) -> Result<Duration, StoreFailure>;
}
