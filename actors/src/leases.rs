//! Work that one node does for all nodes: timers that prune, remove and rotate run on the node that holds their lease.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::domain::lease::LeaseClaim;
pub(crate) use crate::domain::lease::{LEASE_TIME, Lease};
use crate::ports::{Clock, Entropy};
use crate::store::Store;

/// The leases of this process. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Leases {
    store: Store,
    clock: Arc<dyn Clock>,
    holder: [u8; 16],
    /// The held leases. Each is renewed from the given time of the monotonic clock on, after half of its duration.
    /// So most looks cost no commit.
    held: Arc<Mutex<Vec<(Lease, Duration)>>>,
}

impl Leases {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, entropy: &dyn Entropy) -> Self {
        let mut holder = [0; 16];
        entropy.fill(&mut holder);
        Self { store, clock, holder, held: Arc::default() }
    }

    /// Takes or renews a lease for [`LEASE_TIME`]. Returns false while another process holds it, and while the store cannot tell.
    /// The work must be harmless if two processes do it at once, which happens if one of them stands still for longer than that.
    pub(crate) async fn hold(&self, lease: Lease) -> bool {
        if !self.store.is_shared() {
            return true;
        }
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let is_held = self.held().iter().any(|(held, renew_at)| *held == lease && monotonic < *renew_at);
        if is_held {
            return true;
        }
        let claim = LeaseClaim { holder: self.holder, until: now.plus(LEASE_TIME) };
        let taken = self.store.lease(lease, now, claim).await.unwrap_or_else(|failure| {
            tracing::error!(%failure, ?lease, "a lease could not be taken");
            false
        });
        let mut held = self.held();
        held.retain(|(held, _)| *held != lease);
        if taken {
            held.push((lease, monotonic.saturating_add(LEASE_TIME / 2)));
        }
        taken
    }

    /// Releases all leases, so that another process need not wait until they expire.
    pub(crate) async fn release(&self) {
        let held = std::mem::take(&mut *self.held());
        let now = self.clock.now();
        for (lease, _) in held {
            // If this fails, the lease expires by itself.
            let _ = self.store.lease(lease, now, LeaseClaim { holder: self.holder, until: now }).await;
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<(Lease, Duration)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
