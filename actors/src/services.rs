//! Service tokens: which service is who, and what it may do.
//!
//! A check is a look at a table behind the handle, with no mailbox and no store on the way. The actor owns the table: it changes
//! it one message at a time, after the store has made the change durable and before it answers. So whoever revokes a token and was
//! answered knows that no later request passes with it.

mod actor;
mod known;
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
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRecord, AuditRefusal, ServiceName};
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

/// How long a removal of old revocations may take: a commit, which the store itself bounds at 10 s.
#[cfg(feature = "testing")]
const COMMIT_DEADLINE: Duration = Duration::from_secs(12);
/// How exactly the last use is known. A finer one would only write more.
const USE_GRAIN_MILLIS: i64 = 60_000;
/// Stands for a token that was never used.
const NEVER: i64 = i64::MIN;

/// A service that showed its token, or one that could.
#[derive(Debug)]
pub struct Service {
    token: ServiceToken,
    /// When it was last used, in milliseconds.
    last_used: AtomicI64,
    /// The last use that is stored.
    stored: AtomicI64,
}

impl Service {
    fn new(token: ServiceToken) -> Self {
        let used = token.last_used_at.map_or(NEVER, Timestamp::as_millis);
        Self { token, last_used: AtomicI64::new(used), stored: AtomicI64::new(used) }
    }

    /// The number of its token.
    #[must_use]
    pub fn id(&self) -> ServiceTokenId {
        self.token.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        &self.token.name
    }

    /// Whether it may do this.
    #[must_use]
    pub fn may(&self, scope: ServiceScope) -> bool {
        self.token.scopes.contains(scope)
    }

    /// Its token as it is now.
    #[must_use]
    pub fn token(&self) -> ServiceToken {
        let used = self.last_used.load(Ordering::Relaxed);
        ServiceToken { last_used_at: (used != NEVER).then(|| Timestamp::from_millis(used)), ..self.token.clone() }
    }

    /// Notes a use, to the minute: the hot path writes once a minute and only reads otherwise.
    fn was_used(&self, now: Timestamp) {
        let now = now.as_millis();
        if now.saturating_sub(self.last_used.load(Ordering::Relaxed)) >= USE_GRAIN_MILLIS {
            self.last_used.store(now, Ordering::Relaxed);
        }
    }
}

/// The way to the service tokens.
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

/// A service token with its secret, which is shown this once.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: ServiceToken,
    /// Its secret.
    pub secret: Secret,
}

/// Why a service token was not made.
#[derive(Debug)]
pub enum CreateTokenError {
    /// Another one has this name, or it is the one of the settings.
    NameTaken,
    /// There are as many as there may be.
    TooMany,
    /// It would be over at once.
    Over,
    /// The session of the administrator was ended meanwhile, or lost its role.
    Revoked,
    /// It could not be done, or nobody knows whether it was.
    Unavailable(Unavailable),
}

/// Why a service token got no other secret.
#[derive(Debug)]
pub enum RotateTokenError {
    /// There is none with this number.
    Unknown,
    /// It is over.
    Over,
    /// The session of the administrator was ended meanwhile, or lost its role.
    Revoked,
    /// It could not be done, or nobody knows whether it was.
    Unavailable(Unavailable),
}

/// Why a service token was not revoked.
#[derive(Debug)]
pub enum RevokeTokenError {
    /// There is none with this number.
    Unknown,
    /// The session of the administrator was ended meanwhile, or lost its role.
    Revoked,
    /// It could not be done, or nobody knows whether it was.
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

    /// From now on the secret of this digest is the one of the settings (`SERVICE_TOKEN`). Only the first call counts.
    pub fn admit_built_in(&self, digest: SecretDigest) {
        self.directory.admit_built_in(digest);
    }

    /// The service that has this secret, unless its token has expired; a use of it.
    pub async fn find(&self, secret: &[u8]) -> Result<Option<Arc<Service>>, Unavailable> {
        self.find_digest(&SecretDigest::of(secret)).await
    }

    /// The same for a service that is remembered by the hash of its secret.
    pub async fn find_digest(&self, digest: &SecretDigest) -> Result<Option<Arc<Service>>, Unavailable> {
        if !self.directory.is_built_in(digest) {
            self.catch_up().await?;
        }
        let now = self.clock.now();
        let service = self.directory.find(digest, now);
        Ok(service.inspect(|service| service.was_used(now)))
    }

    /// All service tokens by number, the one of the settings first.
    pub async fn list(&self) -> Result<Vec<ServiceToken>, Unavailable> {
        self.catch_up().await?;
        Ok(self.directory.list())
    }

    /// Reads the service tokens again if the feed says that one of them changed.
    async fn catch_up(&self) -> Result<(), Unavailable> {
        Ok(self.directory.catch_up(&self.store).await?)
    }

    /// Makes a service token. The administrator proved who they are ([`prove`](crate::UserHandle::prove)).
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

    /// Gives a service token another secret. The present one works for `overlap` longer, and not beyond the end of the token.
    /// The administrator proved who they are.
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

    /// Revokes a service token. No request that begins after this passes with it. The administrator proved who they are.
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

    /// Writes uses and removes old revocations, now; otherwise timers do it.
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
        AuditRecord {
            at: self.clock.now(),
            event,
            actor: AuditActorKind::Admin(admin.account.id),
            subject: None,
            session: Some(admin.session),
            origin,
            refusal: None,
            details: None,
        }
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
