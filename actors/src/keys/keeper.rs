use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::{KeyView, RotateError};
use crate::ask::Unavailable;
use crate::auditor::AuditHandle;
use crate::domain::account::{Account, Role};
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRecord, AuditRefusal};
use crate::domain::session::Acting;
use crate::domain::session::Origin;
use crate::domain::time::Timestamp;
use crate::domain::token::{
    AccessTokens, BadKey, KeyEvent, KeyEventKind, KeyId, KeyRing, PUBLISHED_AHEAD, RotateRefusal, SigningAlgorithm,
    SigningKey, TokenKeyError, TokenKeys, TokenSettings,
};
use crate::leases::{Lease, Leases};
use crate::ports::{Clock, KeyVault, KeyVaultFailure, ReplaceKeysError, StoredKeys};
use crate::store::{ShardOf, Store, StoreFailure};

/// How often a change is tried if a command line changes the ring in the meantime.
const MAX_ATTEMPTS: usize = 3;

/// Why the keys could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] KeyVaultFailure),
    /// Another process changed the ring at the same time, several times.
    #[error("other processes changed the ring of keys at every attempt")]
    Contended,
    /// A key could not be created.
    #[error(transparent)]
    Bad(#[from] BadKey),
    /// The keys could not be put to use.
    #[error(transparent)]
    Unusable(#[from] TokenKeyError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

impl From<KeysError> for Unavailable {
    fn from(error: KeysError) -> Self {
        tracing::error!(%error, "the signing keys could not be changed");
        Self::default()
    }
}

/// Keeps the ring in memory in step with its files. It makes all changes of the ring, one at a time.
pub(crate) struct KeyKeeper {
    settings: TokenSettings,
    vault: Arc<dyn KeyVault>,
    store: Store,
    clock: Arc<dyn Clock>,
    audit: AuditHandle,
    leases: Leases,
    tokens: Arc<AccessTokens>,
    turn: Mutex<Turn>,
}

/// What earlier looks found, for the holder of the lock.
#[derive(Default)]
struct Turn {
    /// Since when, on the monotonic clock, the ring plans something too far in the future.
    too_late_since: Option<Duration>,
}

impl KeyKeeper {
    /// Reads the ring, or creates the first one, and lets the algorithm of the settings sign.
    pub(crate) async fn open(
        settings: TokenSettings,
        vault: Arc<dyn KeyVault>,
        store: Store,
        clock: Arc<dyn Clock>,
        audit: AuditHandle,
        leases: Leases,
    ) -> Result<Self, KeysError> {
        let mut attempts = 0;
        let stored = loop {
            match settle(&settings, &vault, &store, &*clock).await {
                Ok(stored) => break stored,
                Err(Retry::Stale) if attempts < MAX_ATTEMPTS => attempts += 1,
                Err(Retry::Stale) => return Err(KeysError::Contended),
                Err(Retry::Failed(error)) => return Err(error),
            }
        };
        for key in &stored.ring.keys {
            tracing::info!(kid = %key.id, algorithm = %key.algorithm, state = key.state(clock.now()).as_str(), "a signing key");
        }
        let keys = TokenKeys::new(&settings, stored.ring, stored.pairs, 0)?;
        for key in keys.ring.keys.iter().filter(|key| !keys.is_at_hand(key)) {
            tracing::warn!(
                algorithm = %key.algorithm,
                "tokens of an earlier SECRET_KEY are not accepted: SECRET_KEY_PREVIOUS is not set to it"
            );
        }
        let tokens = Arc::new(AccessTokens::new(&settings, keys));
        Ok(Self { settings, vault, store, clock, audit, leases, tokens, turn: Mutex::default() })
    }

    pub(crate) fn tokens(&self) -> &Arc<AccessTokens> {
        &self.tokens
    }

    /// Loads changes by other processes, removes keys whose tokens have expired, creates a key if one is due,
    /// and records events that are not recorded yet. A failure is logged, and the next look tries again.
    pub(crate) async fn look(&self) {
        let mut turn = self.turn.lock().await;
        if let Err(error) = self.tend(&mut turn).await {
            tracing::error!(%error, "the check of the signing keys failed");
        }
    }

    /// Creates a key for an administrator.
    pub(crate) async fn rotate(
        &self,
        compromised: bool,
        acting: Acting,
        origin: Origin,
    ) -> Result<KeyView, RotateError> {
        let by = acting.account;
        let _turn = self.turn.lock().await;
        for _ in 0..MAX_ATTEMPTS {
            self.take_up_changes().await?;
            let now = self.clock.now();
            match self.put_right(now).await {
                Ok(()) => {}
                Err(Retry::Stale) => continue,
                Err(Retry::Failed(error)) => return Err(error.into()),
            }
            let mut ring = self.ring();
            if let Some(next) = ring.next(now).filter(|_| !compromised) {
                return Ok(KeyView::of(next, now, true));
            }
            // If too many events wait to be recorded, the ring does not store this one.
            let kind = if compromised { KeyEventKind::Replaced } else { KeyEventKind::Rotated };
            let event = KeyEvent { kind, at: now, by: Some(by) };
            let record = AuditRecord { session: Some(acting.session), origin: origin.clone(), ..record_of(&event) };
            let allowed = if compromised { ring.may_replace(now) } else { ring.may_rotate(now) };
            let algorithm = match allowed {
                Ok(algorithm) => algorithm,
                Err(refusal) => {
                    self.refused(record, reason_of(refusal)).await;
                    return Err(RotateError::Refused(refusal));
                }
            };
            let key = make(algorithm).await?;
            let lifetime = self.settings.lifetime;
            if compromised {
                ring.replace(key.id().clone(), algorithm, lifetime, now, Some(by));
            } else {
                ring.rotate(key.id().clone(), algorithm, lifetime, now, Some(by));
            }
            let made = ring.keys.last().map(|made| KeyView::of(made, now, true));
            if !self.may_act(acting).await? {
                self.refused(record, AuditRefusal::Revoked).await;
                return Err(RotateError::Revoked);
            }
            match self.write(ring, Some(key)).await {
                Ok(()) => {}
                Err(Retry::Stale) => continue,
                Err(Retry::Failed(error)) => return Err(error.into()),
            }
            // If this fails, the next look records what it can.
            let events = [event];
            if self.record(vec![record], &events).await.is_ok() {
                self.forget(&events).await;
            }
            return made.ok_or_else(|| Unavailable::default().into());
        }
        Err(KeysError::Contended.into())
    }

    /// Records a refused rotation (S70).
    async fn refused(&self, record: AuditRecord, reason: AuditRefusal) {
        self.audit.refused(AuditRecord { refusal: Some(reason), ..record });
        self.audit.settle().await;
    }

    /// Returns whether this is still the session of an administrator. No commit of the store writes the ring,
    /// so this check comes right before the write. It must, because rotations wait for each other,
    /// and the creation of a key takes time.
    async fn may_act(&self, acting: Acting) -> Result<bool, StoreFailure> {
        let Acting { account: by, session, proven_at, .. } = acting;
        let (session, account) = (self.store.session(by, session).await?, self.store.account(by).await?);
        let stands = |account: &Account| {
            let epoch = session.as_ref().map(|session| session.epoch);
            let proven = proven_at.is_none_or(|epoch| epoch == account.session_epoch);
            account.role == Role::Admin && !account.locked && epoch == Some(account.session_epoch) && proven
        };
        Ok(account.as_ref().is_some_and(stands))
    }

    fn ring(&self) -> KeyRing {
        self.tokens.keys().ring.clone()
    }

    async fn tend(&self, turn: &mut Turn) -> Result<(), KeysError> {
        self.take_up_changes().await?;
        let now = self.clock.now();
        if self.is_too_late_for_long(turn, now) {
            match self.put_right(now).await {
                Ok(()) => {}
                // The next look reads what the other process wrote.
                Err(Retry::Stale) => return Ok(()),
                Err(Retry::Failed(error)) => return Err(error),
            }
        }
        let mut ring = self.ring();
        // A command line knows the lifetime of tokens only from its own settings, if at all.
        let mut changed = ring.note_lifetime(self.settings.lifetime, now);
        changed |= ring.prune(now);
        let mut new = None;
        let is_due = self.settings.rotation.is_some_and(|rotation| ring.is_due(rotation, now));
        if is_due && self.leases.hold(Lease::RotateKeys).await {
            match ring.may_rotate(now) {
                Ok(algorithm) => {
                    let key = make(algorithm).await?;
                    ring.rotate(key.id().clone(), algorithm, self.settings.lifetime, now, None);
                    tracing::info!(kid = %key.id(), %algorithm, "a new signing key is published and signs soon");
                    new = Some(key);
                    changed = true;
                }
                Err(refusal) => tracing::warn!(%refusal, "no new signing key was made"),
            }
        }
        if changed {
            match self.write(ring, new).await {
                Ok(()) => {}
                // The next look reads what the other process wrote.
                Err(Retry::Stale) => return Ok(()),
                Err(Retry::Failed(error)) => return Err(error),
            }
        }
        let unrecorded = self.ring().unrecorded;
        if !unrecorded.is_empty() {
            self.record(unrecorded.iter().map(record_of).collect(), &unrecorded).await?;
            self.forget(&unrecorded).await;
        }
        Ok(())
    }

    /// Returns whether the ring has planned something too far in the future for a while. The clock may also be behind.
    /// If it is soon corrected, like that of a machine that starts in 1970, no key must change.
    fn is_too_late_for_long(&self, turn: &mut Turn, now: Timestamp) -> bool {
        if self.ring().put_right(now).is_none() {
            turn.too_late_since = None;
            return false;
        }
        let monotonic = self.clock.monotonic();
        monotonic.saturating_sub(*turn.too_late_since.get_or_insert(monotonic)) >= PUBLISHED_AHEAD
    }

    /// Moves forward what a clock that was ahead has planned. Otherwise no key would take over, and none would be created,
    /// until that time.
    async fn put_right(&self, now: Timestamp) -> Result<(), Retry> {
        let mut ring = self.ring();
        let Some(planned) = ring.put_right(now) else { return Ok(()) };
        self.write(ring, None).await?;
        tracing::warn!(
            planned = planned.to_rfc3339(),
            "the clock was ahead when the start of a signing key was planned; the key now signs in a quarter of an hour"
        );
        Ok(())
    }

    /// Loads a ring that another process wrote.
    async fn take_up_changes(&self) -> Result<(), KeysError> {
        let vault = Arc::clone(&self.vault);
        if blocking(move || vault.revision()).await? == Some(self.ring().revision) {
            return Ok(());
        }
        let vault = Arc::clone(&self.vault);
        let stored = blocking(move || vault.load()).await?;
        let stored = stored.ok_or_else(|| KeyVaultFailure("the ring of keys is gone".to_owned()))?;
        self.take_up(stored.ring, stored.pairs)?;
        tracing::info!("another process changed the signing keys, and this server loaded them");
        Ok(())
    }

    /// Writes a changed ring and puts it to use.
    async fn write(&self, ring: KeyRing, new: Option<SigningKey>) -> Result<(), Retry> {
        let mut pairs = self.tokens.keys().pairs.clone();
        pairs.extend(new.clone());
        let ring = replace(&self.vault, ring, new).await?;
        pairs.retain(|pair| ring.keys.iter().any(|key| key.id == *pair.id()));
        self.take_up(ring, pairs).map_err(Retry::Failed)
    }

    fn take_up(&self, ring: KeyRing, pairs: Vec<SigningKey>) -> Result<(), KeysError> {
        let generation = self.tokens.keys().generation + 1;
        self.tokens.take_up(TokenKeys::new(&self.settings, ring, pairs, generation)?);
        Ok(())
    }

    /// Records events in the audit log, and the replacement of keys also in the log of revocations.
    /// By then, the new keys are published.
    async fn record(&self, records: Vec<AuditRecord>, events: &[KeyEvent]) -> Result<(), StoreFailure> {
        let replaced = events.iter().filter(|event| event.kind == KeyEventKind::Replaced);
        self.store.record_keys(records, replaced.map(|event| event.at).max()).await
    }

    /// Removes recorded events from the ring.
    async fn forget(&self, recorded: &[KeyEvent]) {
        let mut ring = self.ring();
        ring.unrecorded.retain(|event| !recorded.contains(event));
        // The event is then recorded twice, which is better than never.
        if let Err(Retry::Failed(error)) = self.write(ring, None).await {
            tracing::warn!(%error, "recorded events of the signing keys could not be removed from the ring and will be recorded again");
        }
    }
}

/// Why a ring was not written.
enum Retry {
    /// Another process wrote it in the meantime.
    Stale,
    Failed(KeysError),
}

impl<E: Into<KeysError>> From<E> for Retry {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Brings the stored ring in line with the settings.
async fn settle(
    settings: &TokenSettings,
    vault: &Arc<dyn KeyVault>,
    store: &Store,
    clock: &dyn Clock,
) -> Result<StoredKeys, Retry> {
    let (now, lifetime, algorithm) = (clock.now(), settings.lifetime, settings.algorithm);
    let secret = algorithm.is_symmetric().then(|| KeyId::of_secret(&settings.secret));
    let reader = Arc::clone(vault);
    let stored = blocking(move || reader.load()).await?;
    let is_new = stored.is_none();
    let mut stored = match stored {
        Some(stored) => stored,
        None => StoredKeys { ring: first_ring(settings, store, clock).await?, pairs: Vec::new() },
    };
    let mut changed = stored.ring.note_lifetime(lifetime, now);
    let mut new = None;
    if !stored.ring.signs_with(algorithm, secret.as_ref(), now) {
        let id = match secret {
            Some(id) => id,
            None => new.insert(make(algorithm).await?).id().clone(),
        };
        stored.ring.switch(id, algorithm, lifetime, now);
        changed = true;
    }
    // Expired keys are removed at the first look, together with the record of it.
    if changed || is_new {
        stored.pairs.extend(new.clone());
        stored.ring = replace(vault, stored.ring, new).await?;
        let named = &stored.ring.keys;
        stored.pairs.retain(|pair| named.iter().any(|key| key.id == *pair.id()));
    }
    Ok(stored)
}

/// Creates the ring of a data directory that has none. If the directory was in use before there were rings,
/// clients may hold tokens that were signed with one of its secrets, by any algorithm.
/// These are accepted for as long as a token lives. Such tokens belong to a session.
/// Without sessions there may only be accounts that a command line created before the first start.
async fn first_ring(settings: &TokenSettings, store: &Store, clock: &dyn Clock) -> Result<KeyRing, StoreFailure> {
    let mut ring = KeyRing::default();
    if store.sessions(ShardOf { index: 0, of: 1 }).await?.is_empty() {
        return Ok(ring);
    }
    for secret in std::iter::once(&settings.secret).chain(&settings.previous_secret) {
        for algorithm in SigningAlgorithm::SYMMETRIC {
            ring.assume(KeyId::of_secret(secret), algorithm, settings.lifetime, clock.now());
        }
    }
    Ok(ring)
}

/// Creates a key pair on a thread that may block.
async fn make(algorithm: SigningAlgorithm) -> Result<SigningKey, KeysError> {
    blocking(move || SigningKey::generate(algorithm)).await
}

/// Writes a ring and returns it as written.
async fn replace(vault: &Arc<dyn KeyVault>, ring: KeyRing, new: Option<SigningKey>) -> Result<KeyRing, Retry> {
    let vault = Arc::clone(vault);
    let written = spawn_blocking(move || (vault.replace(&ring, new.as_ref()), ring)).await;
    match written {
        Ok((Ok(()), ring)) => Ok(KeyRing { revision: ring.revision + 1, ..ring }),
        Ok((Err(ReplaceKeysError::Stale), _)) => Err(Retry::Stale),
        Ok((Err(ReplaceKeysError::Failed(failure)), _)) => Err(failure.into()),
        Err(_) => Err(KeyVaultFailure("the writing of the keys was cut short".to_owned()).into()),
    }
}

/// Runs work that may block.
async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, KeysError>
where
    KeysError: From<E>,
{
    match spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(KeyVaultFailure("the reading of the keys was cut short".to_owned()).into()),
    }
}

fn reason_of(refusal: RotateRefusal) -> AuditRefusal {
    match refusal {
        RotateRefusal::Symmetric => AuditRefusal::SecretSigns,
        RotateRefusal::Full => AuditRefusal::TooManyKeys,
    }
}

fn record_of(event: &KeyEvent) -> AuditRecord {
    AuditRecord {
        actor: event.by.map_or(AuditActorKind::System, AuditActorKind::Admin),
        ..AuditRecord::new(
            match event.kind {
                KeyEventKind::Rotated => AuditEvent::KeyRotated,
                KeyEventKind::Removed => AuditEvent::KeyRemoved,
                KeyEventKind::Replaced => AuditEvent::KeyReplaced,
                KeyEventKind::Switched => AuditEvent::KeySwitched,
            },
            event.at,
        )
    }
}
