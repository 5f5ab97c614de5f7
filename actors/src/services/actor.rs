use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::known::Known;
use super::table::Directory;
use super::{NEVER, Service};
use crate::domain::time::Timestamp;
use crate::leases::{Lease, Leases};
use crate::ports::Clock;
use crate::process::{Mailbox, Process, Reply, Timer, every};
use crate::store::{Store, StoreFailure};

/// How often uses are written: as exactly as they are noted.
const FLUSH_PERIOD: Duration = Duration::from_mins(1);
/// How often old revocations are looked for.
const PRUNE_PERIOD: Duration = Duration::from_mins(1);
/// How many revocations one commit removes, so that nobody else's write waits long.
const PRUNE_GROUP: usize = 512;
/// How much longer than the longest access token a revocation is kept: room for readers whose clock is behind.
const LEEWAY: Duration = Duration::from_mins(1);

pub(crate) enum Message {
    /// Write the uses since the last time. Sent by a timer.
    Flush,
    /// Remove revocations of tokens that are over by now. Sent by a timer, by the actor itself while there are more, and by
    /// tests, who are answered when there are none.
    Prune(Option<Reply<()>>),
}

/// Writes the uses of service tokens, and removes old revocations.
pub(crate) struct ServiceActor {
    pub(crate) directory: Arc<Directory>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    /// For how long an access token is good.
    pub(crate) token_lifetime: Duration,
    /// Since when how much of the log of revocations is known. It outlives a crash of the actor.
    pub(crate) known: Mutex<Known>,
    pub(crate) leases: Leases,
}

pub(crate) struct State {
    mailbox: Arc<Mailbox<Message>>,
    _timers: [Timer; 2],
}

impl Process for ServiceActor {
    type Message = Message;
    type State = State;

    async fn start(&self, mailbox: &Arc<Mailbox<Message>>) -> Result<State, String> {
        let failed = |failure: StoreFailure| failure.to_string();
        self.directory.read_anew(&self.store).await.map_err(failed)?;
        self.directory.set_built_in(self.store.built_in_last_used().await.map_err(failed)?);
        self.store.note_token_lifetime(self.token_lifetime).await.map_err(failed)?;
        self.known_up_to(self.keep().await.map_err(failed)?).await.map_err(failed)?;
        Ok(State {
            mailbox: Arc::clone(mailbox),
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

    /// Removes one group, and sends itself word if there may be more: whoever waits has their turn in between.
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

    /// How long a revocation is kept: longer than any access token lives, by any process over this store.
    async fn keep(&self) -> Result<Duration, StoreFailure> {
        Ok(self.store.longest_token_lifetime().await?.saturating_add(LEEWAY))
    }

    /// The number of the newest revocation that has been known for as long as one is kept, or for as long as a wall clock
    /// that steps is doubted. It may go if the wall clock says so too; 0 while that is not believed.
    async fn known_up_to(&self, keep: Duration) -> Result<u64, StoreFailure> {
        let last = self.store.revocation_span().await?.last;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.up_to(last, keep, self.clock.now(), self.clock.monotonic()))
    }
}
