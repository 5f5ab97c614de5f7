//! Service tokens: which service a token belongs to, and what the service may do.
//!
//! A check reads a table behind the handle and needs no mailbox and no store, unless the feed reports a change.
//! Every change is durable in the store before it is answered. So after a revocation was acknowledged,
//! no later request passes with the token.

mod actor;
mod revocation_ages;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub(crate) use actor::{Message, ServiceActor};
use table::Directory;

#[cfg(feature = "testing")]
use crate::ask::AskError;
use crate::ask::Unavailable;
use crate::auditor::AuditHandle;
use crate::domain::account::Role;
use crate::domain::audit::{AuditEvent, AuditRecord, AuditRefusal, ServiceName};
use crate::domain::secret::{Secret, SecretDigest};
use crate::domain::service_token::{
    self, NewServiceToken, ServiceScope, ServiceScopes, ServiceToken, ServiceTokenId, ServiceTokenRotation,
};
use crate::domain::session::Origin;
use crate::domain::time::Timestamp;
use crate::ports::{Clock, Entropy};
use crate::process::Mailbox;
use crate::session::Principal;
use crate::store::{ChangeServiceTokenRefusal, CreateServiceTokenRefusal, Store, StoreError};

/// The maximum time of a removal of old revocations: a commit, which the store itself bounds at 10 s.
#[cfg(feature = "testing")]
const COMMIT_DEADLINE: Duration = Duration::from_secs(12);
/// The precision of the last use. A finer one would only cause more writes.
const USE_GRAIN_MILLIS: i64 = 60_000;
/// Marks a token that was never used.
const NEVER: i64 = i64::MIN;

/// A service whose token was presented, or whose token is in the table.
#[derive(Debug)]
pub struct Service {
    token: ServiceToken,
    /// When the token was last used, in milliseconds.
    last_used: AtomicI64,
    /// The last use that is stored, in milliseconds.
    stored: AtomicI64,
}

impl Service {
    fn new(token: ServiceToken) -> Self {
        let used = token.last_used_at.map_or(NEVER, Timestamp::as_millis);
        Self { token, last_used: AtomicI64::new(used), stored: AtomicI64::new(used) }
    }

    /// Returns the number of its token.
    #[must_use]
    pub fn id(&self) -> ServiceTokenId {
        self.token.id
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        &self.token.name
    }

    /// Returns whether the service has this scope.
    #[must_use]
    pub fn may(&self, scope: ServiceScope) -> bool {
        self.token.scopes.contains(scope)
    }

    /// Returns its token, with the last use known now.
    #[must_use]
    pub fn token(&self) -> ServiceToken {
        let used = self.last_used.load(Ordering::Relaxed);
        ServiceToken { last_used_at: (used != NEVER).then(|| Timestamp::from_millis(used)), ..self.token.clone() }
    }

    /// Notes a use, to the minute. The hot path writes once a minute and otherwise only reads.
    fn was_used(&self, now: Timestamp) {
        let now = now.as_millis();
        if now.saturating_sub(self.last_used.load(Ordering::Relaxed)) >= USE_GRAIN_MILLIS {
            self.last_used.store(now, Ordering::Relaxed);
        }
    }
}

/// The handle of the service tokens.
#[derive(Clone)]
pub struct ServiceHandle {
    #[cfg(feature = "testing")]
    mailbox: Arc<Mailbox<Message>>,
    store: Store,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    audit: AuditHandle,
}

/// A service token with its secret, which is shown only this once.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: ServiceToken,
    /// Its secret.
    pub secret: Secret,
}

/// Why a service token was not created.
#[derive(Debug)]
pub enum CreateTokenError {
    /// Another token has this name, or the token of the settings has it.
    NameTaken,
    /// The maximum number of tokens exists already.
    TooMany,
    /// The token would expire at once.
    Over,
    /// The administrator's session has ended in the meantime, or lost its role.
    Revoked,
    /// The change failed, or its outcome is unknown.
    Unavailable(Unavailable),
}

/// Why the secret of a service token was not replaced.
#[derive(Debug)]
pub enum RotateTokenError {
    /// There is no token with this number.
    Unknown,
    /// The token has expired.
    Over,
    /// The administrator's session has ended in the meantime, or lost its role.
    Revoked,
    /// The change failed, or its outcome is unknown.
    Unavailable(Unavailable),
}

/// Why a service token was not revoked.
#[derive(Debug)]
pub enum RevokeTokenError {
    /// There is no token with this number.
    Unknown,
    /// The administrator's session has ended in the meantime, or lost its role.
    Revoked,
    /// The change failed, or its outcome is unknown.
    Unavailable(Unavailable),
}

impl ServiceHandle {
    pub(crate) fn new(
        mailbox: Arc<Mailbox<Message>>,
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        audit: AuditHandle,
    ) -> Self {
        let directory = Arc::new(Directory::new());
        // Only tests ask the actor for anything.
        #[cfg(not(feature = "testing"))]
        drop(mailbox);
        Self {
            #[cfg(feature = "testing")]
            mailbox,
            store,
            directory,
            clock,
            entropy,
            audit,
        }
    }

    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Accepts the secret with this digest as the one of the settings (`SERVICE_TOKEN`) from now on.
    /// Only the first call has an effect.
    pub fn admit_built_in(&self, digest: SecretDigest) {
        self.directory.admit_built_in(digest);
    }

    /// Returns the service with this secret and counts a use of it. `None` if there is none or its token has expired.
    pub async fn find(&self, secret: &[u8]) -> Result<Option<Arc<Service>>, Unavailable> {
        self.find_digest(&SecretDigest::of(secret)).await
    }

    /// Like [`find`](Self::find), by the hash of the secret.
    pub async fn find_digest(&self, digest: &SecretDigest) -> Result<Option<Arc<Service>>, Unavailable> {
        if !self.directory.is_built_in(digest) {
            self.catch_up().await?;
        }
        let now = self.clock.now();
        let service = self.directory.find(digest, now);
        Ok(service.inspect(|service| service.was_used(now)))
    }

    /// Returns all service tokens by number, the one of the settings first.
    pub async fn list(&self) -> Result<Vec<ServiceToken>, Unavailable> {
        self.catch_up().await?;
        Ok(self.directory.list())
    }

    /// Reads the service tokens again if the feed says that one of them changed.
    async fn catch_up(&self) -> Result<(), Unavailable> {
        Ok(self.directory.catch_up(&self.store).await?)
    }

    /// Creates a service token. The administrator has already proved their identity ([`prove`](crate::UserHandle::prove)).
    pub async fn create(
        &self,
        admin: &Principal,
        name: ServiceName,
        scopes: ServiceScopes,
        expires_at: Option<Timestamp>,
        origin: Origin,
    ) -> Result<IssuedToken, CreateTokenError> {
        let now = self.clock.now();
        let record = self.record(AuditEvent::ServiceTokenCreated, admin, origin);
        if expires_at.is_some_and(|end| end <= now) {
            self.refused(record, AuditRefusal::TokenOver).await;
            return Err(CreateTokenError::Over);
        }
        if ServiceToken::is_reserved(&name) {
            self.refused(record, AuditRefusal::NameTaken).await;
            return Err(CreateTokenError::NameTaken);
        }
        let (secret, digest) = self.secret();
        let acting = Some(admin.acting_proven(Role::Admin));
        let token = NewServiceToken { acting, name, scopes, digest, created_at: now, expires_at };
        let audit = record.clone();
        match self.store.create_service_token(token, audit).await {
            Ok(token) => {
                tracing::info!(service_token = token.id.get(), name = token.name.as_str(), "a service token was made");
                Ok(IssuedToken { token, secret })
            }
            Err(StoreError::Refused(refusal)) => {
                let (error, reason) = match refusal {
                    CreateServiceTokenRefusal::NameTaken => (CreateTokenError::NameTaken, AuditRefusal::NameTaken),
                    CreateServiceTokenRefusal::TooMany => (CreateTokenError::TooMany, AuditRefusal::TooManyTokens),
                    CreateServiceTokenRefusal::Revoked => (CreateTokenError::Revoked, AuditRefusal::Revoked),
                };
                self.refused(record, reason).await;
                Err(error)
            }
            Err(StoreError::Failed(failure)) => Err(CreateTokenError::Unavailable(failure.into())),
        }
    }

    /// Replaces the secret of a service token. The current secret works for `overlap` longer, but not beyond the token's expiry.
    /// The administrator has already proved their identity.
    pub async fn rotate(
        &self,
        admin: &Principal,
        id: ServiceTokenId,
        overlap: Duration,
        origin: Origin,
    ) -> Result<IssuedToken, RotateTokenError> {
        let now = self.clock.now();
        let record = self.record(AuditEvent::ServiceTokenRotated, admin, origin);
        let Some(present) = self.list().await?.into_iter().find(|token| token.id == id) else {
            self.refused(record, AuditRefusal::UnknownServiceToken).await;
            return Err(RotateTokenError::Unknown);
        };
        if !present.is_current(now) {
            self.refused(record, AuditRefusal::TokenOver).await;
            return Err(RotateTokenError::Over);
        }
        let (secret, digest) = self.secret();
        let until = now.plus(overlap.min(service_token::MAX_OVERLAP));
        let until = present.expires_at.map_or(until, |end| end.min(until));
        let rotation = ServiceTokenRotation { acting: Some(admin.acting_proven(Role::Admin)), digest, until };
        let audit = record.clone();
        match self.store.rotate_service_token(id, rotation, audit).await {
            Ok(token) => {
                tracing::info!(service_token = id.get(), name = token.name.as_str(), "a service token was rotated");
                Ok(IssuedToken { token, secret })
            }
            Err(StoreError::Refused(ChangeServiceTokenRefusal::Unknown)) => {
                self.refused(record, AuditRefusal::UnknownServiceToken).await;
                Err(RotateTokenError::Unknown)
            }
            Err(StoreError::Refused(ChangeServiceTokenRefusal::Revoked)) => {
                self.refused(record, AuditRefusal::Revoked).await;
                Err(RotateTokenError::Revoked)
            }
            Err(StoreError::Failed(failure)) => Err(RotateTokenError::Unavailable(failure.into())),
        }
    }

    /// Revokes a service token. No request that begins after the return passes with it.
    /// The administrator has already proved their identity.
    pub async fn revoke(&self, admin: &Principal, id: ServiceTokenId, origin: Origin) -> Result<(), RevokeTokenError> {
        let record = self.record(AuditEvent::ServiceTokenRevoked, admin, origin);
        let (acting, audit) = (admin.acting_proven(Role::Admin), record.clone());
        match self.store.delete_service_token(id, Some(acting), audit).await {
            Ok(()) => {
                tracing::info!(service_token = id.get(), "a service token was revoked");
                Ok(())
            }
            Err(StoreError::Refused(ChangeServiceTokenRefusal::Unknown)) => {
                self.refused(record, AuditRefusal::UnknownServiceToken).await;
                Err(RevokeTokenError::Unknown)
            }
            Err(StoreError::Refused(ChangeServiceTokenRefusal::Revoked)) => {
                self.refused(record, AuditRefusal::Revoked).await;
                Err(RevokeTokenError::Revoked)
            }
            Err(StoreError::Failed(failure)) => Err(RevokeTokenError::Unavailable(failure.into())),
        }
    }

    /// Writes uses and removes old revocations now. Otherwise timers do it.
    #[cfg(feature = "testing")]
    pub(crate) async fn tend(&self) -> Result<(), AskError> {
        self.mailbox.tell(Message::Flush)?;
        self.mailbox.ask(COMMIT_DEADLINE, |reply| Message::Prune(Some(reply))).await
    }

    fn secret(&self) -> (Secret, SecretDigest) {
        let mut random = zeroize::Zeroizing::new([0; 32]);
        self.entropy.fill(&mut *random);
        let secret = service_token::make_secret(&random);
        let digest = SecretDigest::of(secret.expose().as_bytes());
        (secret, digest)
    }

    async fn refused(&self, record: AuditRecord, reason: AuditRefusal) {
        self.audit.refused(AuditRecord { refusal: Some(reason), ..record });
        self.audit.settle().await;
    }

    fn record(&self, event: AuditEvent, admin: &Principal, origin: Origin) -> AuditRecord {
        admin.record_as_admin(event, self.clock.now(), origin)
    }
}

impl From<Unavailable> for CreateTokenError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<Unavailable> for RotateTokenError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<Unavailable> for RevokeTokenError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}
