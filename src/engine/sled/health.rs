//! Whether the store still works. A failure is final.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use doorward_actors::store::StoreFailure;
use tokio::sync::watch;

/// The health of one open store, shared by its callers and its committer.
pub(super) struct Health {
    /// `true` if `reason` is set. Reading it is cheap enough to do before every read of the store.
    failed: AtomicBool,
    /// Why the store failed; `None` while it works.
    reason: watch::Sender<Option<String>>,
}

impl Health {
    /// Creates the health of a store that works.
    pub(super) fn new() -> Self {
        Self { failed: AtomicBool::new(false), reason: watch::Sender::new(None) }
    }

    /// Declares the store failed. Keeps the first reason. The engine's errors are permanent, so nothing resets this.
    pub(super) fn fail(&self, reason: String) -> StoreFailure {
        let first = self.reason.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                tracing::error!(%reason, "the store failed and accepts no more requests");
                *known = Some(reason);
            }
            first
        });
        if first {
            self.failed.store(true, Ordering::Release);
        }
        self.failure()
    }

    /// Returns an error if the store failed.
    pub(super) fn check(&self) -> Result<(), StoreFailure> {
        if self.failed.load(Ordering::Acquire) { Err(self.failure()) } else { Ok(()) }
    }

    /// Returns why the store failed; `None` while it works.
    pub(super) fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    /// Returns whether the store failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Completes with the reason when the store fails. Never completes if it does not.
    pub(super) fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let mut reason = self.reason.subscribe();
        async move {
            let known = match reason.wait_for(Option::is_some).await {
                Ok(known) => known.clone(),
                Err(_) => None,
            };
            match known {
                Some(reason) => reason,
                // The store was closed without a failure.
                None => std::future::pending().await,
            }
        }
    }

    fn failure(&self) -> StoreFailure {
        StoreFailure::permanent(self.reason.borrow().as_deref().unwrap_or("it is closed"))
    }
}
