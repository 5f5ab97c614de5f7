use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::revocation_ages::RevocationAges;
use super::table::Directory;
use super::{NEVER, Service};
use crate::domain::time::Timestamp;
use crate::leases::{Lease, Leases};
use crate::ports::Clock;
use crate::process::{OwnMailbox, Process, Reply, Timer, every};
use crate::store::{Store, StoreFailure};

/// How often uses are written. This matches the precision with which they are noted.
const FLUSH_PERIOD: Duration = Duration::from_mins(1);
/// How often old revocations are removed.
const PRUNE_PERIOD: Duration = Duration::from_mins(1);
/// The maximum number of revocations that one commit removes, so that other writers do not wait long.
const PRUNE_GROUP: usize = 512;
/// How much longer than the longest access token a revocation is kept, for readers whose clock is behind.
const LEEWAY: Duration = Duration::from_mins(1);

pub(crate) enum Message {
    /// Write the uses since the last flush. Sent by a timer.
    Flush,
    /// Remove revocations of expired tokens. Sent by a timer, by the actor itself while there are more, and by tests,
    /// which get an answer when there are none left.
    Prune(Option<Reply<()>>),
}

/// Writes the uses of service tokens, and removes old revocations.
pub(crate) struct ServiceActor {
    pub(crate) directory: Arc<Directory>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    /// The lifetime of an access token.
    pub(crate) token_lifetime: Duration,
    /// How much of the log of revocations has been known since when. It outlives a crash of the actor.
    pub(crate) known: Mutex<RevocationAges>,
    pub(crate) leases: Leases,
}

pub(crate) struct State {
    mailbox: OwnMailbox<Message>,
    _timers: [Timer; 2],
}

impl Process for ServiceActor {
    type Message = Message;
    type State = State;

    async fn start(&self, mailbox: &OwnMailbox<Message>) -> Result<State, String> {
        let failed = |failure: StoreFailure| failure.to_string();
        self.directory.read_anew(&self.store).await.map_err(failed)?;
        self.directory.set_built_in(self.store.built_in_last_used().await.map_err(failed)?);
        self.store.note_token_lifetime(self.token_lifetime).await.map_err(failed)?;
        self.known_up_to(self.keep().await.map_err(failed)?).await.map_err(failed)?;
        Ok(State {
            mailbox: mailbox.clone(),
            _timers: [
                every(FLUSH_PERIOD, mailbox, || Message::Flush),
                every(PRUNE_PERIOD, mailbox, || Message::Prune(None)),
            ],
        })
    }

    async fn handle(&self, state: &mut State, message: Message) -> Result<(), String> {
        match message {
            Message::Flush => self.flush().await,
            Message::Prune(reply) => self.prune(state, reply).await,
        }
        Ok(())
    }

    async fn stop(&self, _: &mut State) {
        self.flush().await;
    }
}

impl ServiceActor {
    async fn flush(&self) {
        let unwritten = |service: &Arc<Service>| {
            let used = service.last_used.load(Ordering::Relaxed);
            (used != NEVER && used != service.stored.load(Ordering::Relaxed)).then(|| (Arc::clone(service), used))
        };
        let changed: Vec<_> = self.directory.services().iter().filter_map(unwritten).collect();
        if changed.is_empty() {
            return;
        }
        let used = changed.iter().map(|(service, used)| (service.token.id, Timestamp::from_millis(*used))).collect();
        match self.store.touch_service_tokens(used).await {
            Ok(()) => changed.iter().for_each(|(service, used)| service.stored.store(*used, Ordering::Relaxed)),
            Err(failure) => tracing::error!(%failure, "uses of service tokens could not be recorded"),
        }
    }

    /// Removes one group. If there may be more, sends itself another message, so that other messages have their turn in between.
    async fn prune(&self, state: &State, reply: Option<Reply<()>>) {
        let pruned = if self.leases.hold(Lease::PruneRevocations).await { self.prune_group().await } else { Ok(0) };
        match pruned {
            Ok(PRUNE_GROUP) => {
                let _ = state.mailbox.tell(Message::Prune(reply));
                return;
            }
            Ok(_) => {}
            Err(failure) => tracing::error!(%failure, "old revocations could not be removed"),
        }
        reply.map(|reply| reply.send(()));
    }

    async fn prune_group(&self) -> Result<usize, StoreFailure> {
        let keep = self.keep().await?;
        let up_to = self.known_up_to(keep).await?;
        self.store.prune_revocations(self.clock.now(), LEEWAY, up_to, PRUNE_GROUP).await
    }

    /// Returns how long a revocation is kept: longer than the access tokens of any process over this store live.
    async fn keep(&self) -> Result<Duration, StoreFailure> {
        Ok(self.store.longest_token_lifetime().await?.saturating_add(LEEWAY))
    }

    /// Returns the number of the newest revocation that this process has known for as long as revocations are kept,
    /// or for as long as a wall clock that stepped is doubted. It may be removed if the wall clock agrees.
    /// Returns 0 while the wall clock is not believed.
    async fn known_up_to(&self, keep: Duration) -> Result<u64, StoreFailure> {
        let last = self.store.revocation_span().await?.last;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.up_to(last, keep, self.clock.now(), self.clock.monotonic()))
    }
}
