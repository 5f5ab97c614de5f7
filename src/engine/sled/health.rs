//! Whether the store still works. It fails once and for good.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use doorward_actors::store::StoreFailure;
use tokio::sync::watch;

/// The health of one open store, shared by its callers and its committer.
pub(super) struct Health {
    /// The same as `reason` being set, cheap enough to look at before every read.
    failed: AtomicBool,
    /// Why the store failed, once it has.
    reason: watch::Sender<Option<String>>,
}

impl Health {
    /// A store that works.
    pub(super) fn new() -> Self {
        Self { failed: AtomicBool::new(false), reason: watch::Sender::new(None) }
    }

    /// Declares the store failed. The first reason stands; the engine's errors are sticky, so nothing takes this back.
    pub(super) fn fail(&self, reason: String) -> StoreFailure {
        let first = self.reason.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                tracing::error!(%reason, "the store failed and takes no more requests");
                *known = Some(reason);
            }
            first
        });
        if first {
            self.failed.store(true, Ordering::Release);
        }
        self.failure()
    }

    /// An error if the store failed.
    pub(super) fn check(&self) -> Result<(), StoreFailure> {
        if self.failed.load(Ordering::Acquire) { Err(self.failure()) } else { Ok(()) }
    }

    /// Whether the store failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Ends with the reason when the store fails; never ends if it does not.
    pub(super) fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let mut reason = self.reason.subscribe();
        async move {
            let known = match reason.wait_for(Option::is_some).await {
                Ok(known) => known.clone(),
                Err(_) => None,
            };
            match known {
                Some(reason) => reason,
                // The store was closed without ever failing.
                None => std::future::pending().await,
            }
        }
    }

    fn failure(&self) -> StoreFailure {
        StoreFailure::permanent(self.reason.borrow().as_deref().unwrap_or("it is closed"))
    }
}
