//! The table of services by secret: a copy of the store that all requests read without waiting.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::Service;
use crate::domain::secret::SecretDigest;
use crate::domain::service_token::{self, ServiceScopes, ServiceToken, ServiceTokenId};
use crate::domain::time::Timestamp;
use crate::store::feed::Feed;
use crate::store::layout::Touched;
use crate::store::{Store, StoreFailure};

/// The services by their secrets. The table outlives a crash of the actor.
pub(crate) struct Directory {
    built_in: ArcSwapOption<Service>,
    /// The hash of the secret of the settings. It is separate, so that it is compared in constant time.
    built_in_digest: OnceLock<SecretDigest>,
    table: ArcSwap<Table>,
    /// The last commit of the store's feed that is in the table.
    position: AtomicU64,
    /// Held while the tokens are read and the table is replaced, so that an older read never replaces a newer one.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Table {
    by_digest: HashMap<SecretDigest, Entry>,
    by_id: BTreeMap<ServiceTokenId, Arc<Service>>,
}

/// The service of a secret, and when the secret expires even though its token does not.
struct Entry {
    service: Arc<Service>,
    until: Option<Timestamp>,
}

impl Directory {
    pub(super) fn new() -> Self {
        Self {
            built_in: ArcSwapOption::empty(),
            built_in_digest: OnceLock::new(),
            table: ArcSwap::default(),
            position: AtomicU64::new(0),
            reading: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn admit_built_in(&self, digest: SecretDigest) {
        let _ = self.built_in_digest.set(digest);
        let last_used_at = self.built_in.load().as_ref().and_then(|service| service.token().last_used_at);
        self.set_built_in(last_used_at);
    }

    /// Sets the service of the settings, with the last use of its token, which the actor read from the store.
    pub(super) fn set_built_in(&self, last_used_at: Option<Timestamp>) {
        let Some(name) = service_token::built_in_name() else { return };
        let known = self.built_in.load().as_ref().and_then(|service| service.token().last_used_at);
        let digest = self.built_in_digest.get().copied().unwrap_or(SecretDigest::from_bytes([0; 32]));
        let token = ServiceToken {
            id: ServiceTokenId::BUILT_IN,
            name,
            scopes: ServiceScopes::BUILT_IN,
            digest,
            replaced: None,
            // The settings have no date, so their token has none either.
            created_at: Timestamp::from_millis(0),
            expires_at: None,
            last_used_at: last_used_at.max(known),
        };
        self.built_in.store(Some(Arc::new(Service::new(token))));
    }

    /// Returns whether a secret is that of the settings, which the store does not know.
    pub(super) fn is_built_in(&self, digest: &SecretDigest) -> bool {
        self.built_in_digest.get().is_some_and(|built_in| built_in.is(digest))
    }

    /// Returns whether no service token was changed since the table was made.
    fn is_current(&self, feed: &Feed) -> bool {
        let position = self.position.load(Ordering::Acquire);
        if feed.position() == position {
            return true;
        }
        match feed.after(position) {
            Ok((last, commits)) if commits.iter().all(|commit| !commit.contains(&Touched::ServiceTokens)) => {
                self.position.fetch_max(last, Ordering::AcqRel);
                true
            }
            _ => false,
        }
    }

    /// Reads the tokens again if the feed says that one of them changed.
    pub(super) async fn catch_up(&self, store: &Store) -> Result<(), StoreFailure> {
        if self.is_current(store.feed()) {
            return Ok(());
        }
        let _reading = self.reading.lock().await;
        // Another caller may have read them in the meantime.
        if self.is_current(store.feed()) { Ok(()) } else { self.read(store).await }
    }

    /// Reads the tokens, for the first time or after a crash.
    pub(super) async fn read_anew(&self, store: &Store) -> Result<(), StoreFailure> {
        let _reading = self.reading.lock().await;
        self.read(store).await
    }

    async fn read(&self, store: &Store) -> Result<(), StoreFailure> {
        // Take the position before the tokens are read. Changes that are made meanwhile or under way are then read again.
        let settled = store.feed().settled();
        self.replace_all(store.service_tokens().await?, settled);
        Ok(())
    }

    pub(super) fn find(&self, digest: &SecretDigest, now: Timestamp) -> Option<Arc<Service>> {
        if self.is_built_in(digest) {
            return self.built_in.load_full();
        }
        let table = self.table.load();
        let entry = table.by_digest.get(digest)?;
        let is_current = entry.service.token.is_current(now) && entry.until.is_none_or(|end| now < end);
        is_current.then(|| Arc::clone(&entry.service))
    }

    pub(super) fn list(&self) -> Vec<ServiceToken> {
        self.services().iter().map(|service| service.token()).collect()
    }

    /// Returns all services, that of the settings first.
    pub(super) fn services(&self) -> Vec<Arc<Service>> {
        let built_in = self.built_in_digest.get().and_then(|_| self.built_in.load_full());
        built_in.into_iter().chain(self.table.load().by_id.values().cloned()).collect()
    }

    /// Replaces all tokens with these, which were read after this position of the feed. Keeps the uses that are known.
    fn replace_all(&self, tokens: Vec<ServiceToken>, position: u64) {
        let known: HashMap<_, _> =
            self.table.load().by_id.iter().map(|(id, service)| (*id, service.token().last_used_at)).collect();
        let with_use = |token: ServiceToken| {
            let last_used_at = token.last_used_at.max(known.get(&token.id).copied().flatten());
            let stored = token.last_used_at.map_or(super::NEVER, Timestamp::as_millis);
            let service = Service::new(ServiceToken { last_used_at, ..token });
            service.stored.store(stored, Ordering::Relaxed);
            Arc::new(service)
        };
        self.set(tokens.into_iter().map(with_use).map(|service| (service.token.id, service)).collect());
        self.position.fetch_max(position, Ordering::AcqRel);
    }

    fn set(&self, by_id: BTreeMap<ServiceTokenId, Arc<Service>>) {
        let mut by_digest = HashMap::new();
        for service in by_id.values() {
            if let Some(replaced) = service.token.replaced {
                by_digest.insert(replaced.digest, Entry { service: Arc::clone(service), until: Some(replaced.until) });
            }
            by_digest.insert(service.token.digest, Entry { service: Arc::clone(service), until: None });
        }
        self.table.store(Arc::new(Table { by_digest, by_id }));
    }
}
