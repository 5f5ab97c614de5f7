use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::{Limiters, MAX_COUNTERS, RateLimiterHandle};
use crate::domain::failures::{FailureKey, Failures};
use crate::leases::{Lease, Leases};
use crate::process::{OwnMailbox, Process, Reply, Timer, every};
use crate::store::StoreFailure;

/// How often keys with their full quota are removed.
const PRUNE_PERIOD: Duration = Duration::from_mins(1);
/// The maximum number of counters in one commit, so that other writers do not wait for all of them.
const COMMIT_GROUP: usize = 512;

pub(crate) enum Message {
    /// Remove what no longer has an effect. Sent by a timer, and by tests, which get an answer when it is done.
    Prune(Option<Reply<()>>),
}

/// Removes old clients and counters from the limiter's memory and from the store.
pub(crate) struct RateLimiterActor {
    handle: RateLimiterHandle,
    leases: Leases,
    /// The removal under way. It runs outside the mailbox, so that a million counters delay nobody who asks how the actor is.
    work: TaskTracker,
    stopping: Arc<AtomicBool>,
}

impl Process for RateLimiterActor {
    type Message = Message;
    type State = Timer;

    async fn start(&self, mailbox: &OwnMailbox<Message>) -> Result<Timer, String> {
        self.heed_clock().await.map_err(|failure| failure.to_string())?;
        Ok(every(PRUNE_PERIOD, mailbox, || Message::Prune(None)))
    }

    async fn handle(&self, _: &mut Timer, Message::Prune(reply): Message) -> Result<(), String> {
        self.handle.limiters.forget();
        if reply.is_some() || self.work.is_empty() {
            let (handle, leases, stopping) = (self.handle.clone(), self.leases.clone(), Arc::clone(&self.stopping));
            self.work.spawn(async move {
                if let Err(failure) = prune(&handle.limiters, &leases, &stopping).await {
                    tracing::error!(%failure, "old counters of failed attempts could not be removed");
                }
                reply.map(|reply| reply.send(()));
            });
        }
        Ok(())
    }

    async fn stop(&self, _: &mut Timer) {
        self.stopping.store(true, Ordering::Release);
        for tasks in [&self.work, &self.handle.limiters.endings] {
            tasks.close();
            tasks.wait().await;
        }
    }
}

impl RateLimiterActor {
    pub(crate) fn new(handle: RateLimiterHandle, leases: Leases) -> Self {
        Self { handle, leases, work: TaskTracker::new(), stopping: Arc::default() }
    }

    /// Moves future times to the present: the wall clock may have been set back since the last start (R05).
    async fn heed_clock(&self) -> Result<(), StoreFailure> {
        let limiters = &self.handle.limiters;
        let (now, skew) = (limiters.now(), limiters.timing.clock_skew);
        let mut counters = limiters.store.failures().await?;
        limiters.rows.store(counters.len(), Ordering::Relaxed);
        let ahead: Vec<_> =
            counters.iter_mut().filter_map(|(key, of)| of.heed_clock(now, skew).then_some(*key)).collect();
        for group in ahead.chunks(COMMIT_GROUP) {
            limiters.store.heed_clock(group.to_vec(), now, skew).await?;
        }
        Ok(())
    }
}

/// Counts the counters, and where this process has the lease removes those that no longer have an effect. If there are nearly as
/// many as allowed, removes more, those with the fewest failures first.
async fn prune(limiters: &Limiters, leases: &Leases, stopping: &AtomicBool) -> Result<(), StoreFailure> {
    let (rules, now) = (limiters.rules, limiters.now());
    let mut counters = limiters.store.failures().await?;
    limiters.rows.store(counters.len(), Ordering::Relaxed);
    if !leases.hold(Lease::PruneFailures).await {
        return Ok(());
    }
    let highest = rules.account.allowance.max(rules.address.allowance);
    for most in 0..=highest {
        let excess = if most == 0 { usize::MAX } else { counters.len().saturating_sub(MAX_COUNTERS / 10 * 9) };
        if excess == 0 {
            break;
        }
        let goes = |(key, of): &mut (FailureKey, Failures)| of.is_at_most(most, rules.of(key), now);
        let gone: Vec<FailureKey> = counters.extract_if(.., goes).take(excess).map(|(key, _)| key).collect();
        for group in gone.chunks(COMMIT_GROUP) {
            if stopping.load(Ordering::Acquire) {
                return Ok(());
            }
            limiters.store.prune_failures(group.to_vec(), rules, most, now).await?;
        }
    }
    limiters.rows.store(counters.len(), Ordering::Relaxed);
    Ok(())
}
