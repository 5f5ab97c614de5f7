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

/// How often a change is decided anew because a command line changed the ring meanwhile.
const MAX_ATTEMPTS: usize = 3;

/// Why the keys could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Where they are kept.
    #[error(transparent)]
    Vault(#[from] KeyVaultFailure),
    /// Somebody else changed them at the same time.
    #[error("the ring of keys changes all the time")]
    Contended,
    /// A key cannot be made.
    #[error(transparent)]
    Bad(#[from] BadKey),
    /// They cannot be put to use.
    #[error(transparent)]
    Unusable(#[from] TokenKeyError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

impl From<KeysError> for Unavailable {
    fn from(error: KeysError) -> Self {
        tracing::error!(%error, "the signing keys could not be changed");
        Self::default()
    }
}

/// Holds the ring between its files and its use. Everything that changes it passes here, one after the other.
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

/// What whoever has the turn knows of the looks before.
#[derive(Default)]
struct Turn {
    /// Since when, by the clock that never jumps, something is planned for too late a time.
    too_late_since: Option<Duration>,
}

impl KeyKeeper {
    /// Reads the ring, or makes the first one, and lets the algorithm of the settings sign.
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
                "tokens of an earlier SECRET_KEY are not accepted: SECRET_KEY_PREVIOUS is not that one"
            );
        }
        let tokens = Arc::new(AccessTokens::new(&settings, keys));
        Ok(Self { settings, vault, store, clock, audit, leases, tokens, turn: Mutex::default() })
    }

    pub(crate) fn tokens(&self) -> &Arc<AccessTokens> {
        &self.tokens
    }

    /// Takes up what was changed beside us, removes keys whose tokens are over, makes a new one if it is time, and puts on
    /// record what is not. A failure is logged; the next look tries again.
    pub(crate) async fn look(&self) {
        let mut turn = self.turn.lock().await;
        if let Err(error) = self.tend(&mut turn).await {
            tracing::error!(%error, "the signing keys could not be looked after");
        }
    }

    /// Makes a new key for an administrator.
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
            // Where too much waits to be put on record, the ring does not note it.
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
            // Should it fail, the next look puts on record what it can.
            let events = [event];
            if self.record(vec![record], &events).await.is_ok() {
                self.forget(&events).await;
            }
            return made.ok_or_else(|| Unavailable::default().into());
        }
        Err(KeysError::Contended.into())
    }

    /// Puts a rotation on record that was refused (S70).
    async fn refused(&self, record: AuditRecord, reason: AuditRefusal) {
        self.audit.refused(AuditRecord { refusal: Some(reason), ..record });
        self.audit.settle().await;
    }

    /// Whether this is still the session of an administrator. The ring is written in no commit of the store, so this is asked
    /// right before it is: rotations wait for each other, and a key takes its time to be made.
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
                // The next look sees what the other one wrote.
                Err(Retry::Stale) => return Ok(()),
                Err(Retry::Failed(error)) => return Err(error),
            }
        }
        let mut ring = self.ring();
        // A command line knows the lifetime of tokens from its own settings at best.
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
                // The next look sees what the other one wrote.
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

    /// Whether something is planned for too late, and has been for a while. The clock may be behind as well: one that is soon put right, as
    /// that of a machine that starts in 1970, is to change no key.
    fn is_too_late_for_long(&self, turn: &mut Turn, now: Timestamp) -> bool {
        if self.ring().put_right(now).is_none() {
            turn.too_late_since = None;
            return false;
        }
        let monotonic = self.clock.monotonic();
        monotonic.saturating_sub(*turn.too_late_since.get_or_insert(monotonic)) >= PUBLISHED_AHEAD
    }

    /// Brings forward what was planned by a clock that was ahead: otherwise no key would take over, and none be made, before that
    /// time has come.
    async fn put_right(&self, now: Timestamp) -> Result<(), Retry> {
        let mut ring = self.ring();
        let Some(planned) = ring.put_right(now) else { return Ok(()) };
        self.write(ring, None).await?;
        tracing::warn!(
            planned = planned.to_rfc3339(),
            "the clock was ahead when a signing key was to take over: it does so in a quarter of an hour"
        );
        Ok(())
    }

    /// Takes up a ring that somebody else wrote.
    async fn take_up_changes(&self) -> Result<(), KeysError> {
        let vault = Arc::clone(&self.vault);
        if blocking(move || vault.revision()).await? == Some(self.ring().revision) {
            return Ok(());
        }
        let vault = Arc::clone(&self.vault);
        let stored = blocking(move || vault.load()).await?;
        let stored = stored.ok_or_else(|| KeyVaultFailure("the ring of keys is gone".to_owned()))?;
        self.take_up(stored.ring, stored.pairs)?;
        tracing::info!("the signing keys were changed beside this server and are taken up");
        Ok(())
    }

    /// Writes a changed ring and takes it up.
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

    /// Puts events on record, and into the log of revocations that keys were replaced: by then, the new ones are published.
    async fn record(&self, records: Vec<AuditRecord>, events: &[KeyEvent]) -> Result<(), StoreFailure> {
        let replaced = events.iter().filter(|event| event.kind == KeyEventKind::Replaced);
        self.store.record_keys(records, replaced.map(|event| event.at).max()).await
    }

    /// Strikes off what is on record now.
    async fn forget(&self, recorded: &[KeyEvent]) {
        let mut ring = self.ring();
        ring.unrecorded.retain(|event| !recorded.contains(event));
        // It is put on record once more then, which is better than never.
        if let Err(Retry::Failed(error)) = self.write(ring, None).await {
            tracing::warn!(%error, "what is on record of the signing keys could not be noted");
        }
    }
}

/// What came of writing a ring.
enum Retry {
    /// Somebody else wrote one meanwhile.
    Stale,
    Failed(KeysError),
}

impl<E: Into<KeysError>> From<E> for Retry {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Brings the ring that is written in line with the settings.
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
    // Keys that are over go at the first look, and the record of it with them.
    if changed || is_new {
        stored.pairs.extend(new.clone());
        stored.ring = replace(vault, stored.ring, new).await?;
        let named = &stored.ring.keys;
        stored.pairs.retain(|pair| named.iter().any(|key| key.id == *pair.id()));
    }
    Ok(stored)
}

/// The ring of a data directory that has none. If it was in use before there were rings, tokens may be about that were signed with
/// one of its secrets, by whatever algorithm: these are accepted for as long as one lives. Such tokens are of a session; accounts
/// alone can have been made at the command line, before the first start.
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

/// Makes a key pair on a thread that may take its time.
async fn make(algorithm: SigningAlgorithm) -> Result<SigningKey, KeysError> {
    blocking(move || SigningKey::generate(algorithm)).await
}

/// Writes a ring; the answer is the ring as it is written.
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

/// Runs what may block.
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
        at: event.at,
        event: match event.kind {
            KeyEventKind::Rotated => AuditEvent::KeyRotated,
            KeyEventKind::Removed => AuditEvent::KeyRemoved,
            KeyEventKind::Replaced => AuditEvent::KeyReplaced,
            KeyEventKind::Switched => AuditEvent::KeySwitched,
        },
        actor: event.by.map_or(AuditActorKind::System, AuditActorKind::Admin),
        subject: None,
        session: None,
        origin: Origin::default(),
        refusal: None,
        details: None,
    }
}
