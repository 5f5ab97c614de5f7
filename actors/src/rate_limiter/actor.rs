use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::RateLimiterHandle;
use super::failures::WRITE_AT_ONCE;
#[cfg(feature = "testing")]
use crate::process::Reply;
use crate::process::{Mailbox, Process, Timer, every};
use crate::store::Store;

/// How often keys that are back at their full allowance are forgotten.
const PRUNE_PERIOD: Duration = Duration::from_mins(1);
/// How often counters are written: a crash loses the failures of this long and of one commit.
const FLUSH_PERIOD: Duration = Duration::from_secs(2);
/// How many counters go into one commit, so that nobody else's write waits for all of them.
const COMMIT_GROUP: usize = 1024;

pub(crate) enum Message {
    /// Forget what is over. Sent by a timer.
    Prune,
    /// Write what changed. Sent by a timer.
    Flush,
    /// Answered when everything before it is done.
    #[cfg(feature = "testing")]
    Settle(Reply<()>),
}

/// Keeps the limiter's memory to the clients of the last while, and its failures in the store.
pub(crate) struct RateLimiterActor {
    pub(crate) handle: RateLimiterHandle,
    pub(crate) store: Store,
}

impl Process for RateLimiterActor {
    type Message = Message;
    type State = [Timer; 2];

    async fn start(&self, mailbox: &Arc<Mailbox<Message>>) -> Result<[Timer; 2], String> {
        let failures = &self.handle.limiters.failures;
        // The counters outlive a crash of this actor, as they belong to the handle.
        if !failures.loaded.load(Ordering::Acquire) {
            failures.load(self.store.failures().await.map_err(|failure| failure.to_string())?);
        }
        Ok([every(PRUNE_PERIOD, mailbox, || Message::Prune), every(FLUSH_PERIOD, mailbox, || Message::Flush)])
    }

    async fn handle(&self, _: &mut [Timer; 2], message: Message) -> Result<(), String> {
        match message {
            Message::Prune => self.handle.limiters.prune(),
            Message::Flush => self.flush(WRITE_AT_ONCE).await,
            #[cfg(feature = "testing")]
            Message::Settle(reply) => drop(reply.send(())),
        }
        Ok(())
    }

    async fn stop(&self, _: &mut [Timer; 2]) {
        self.flush(usize::MAX).await;
    }
}

impl RateLimiterActor {
    async fn flush(&self, limit: usize) {
        let failures = &self.handle.limiters.failures;
        let changed = failures.take_changed(limit);
        for group in changed.chunks(COMMIT_GROUP) {
            if let Err(failure) = self.store.save_failures(group.to_vec()).await {
                tracing::error!(%failure, "failed attempts could not be recorded");
                failures.give_back(group.iter().map(|(key, _)| *key));
            }
        }
    }
}
