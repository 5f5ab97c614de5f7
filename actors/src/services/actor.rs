use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::known::Known;
use super::table::Directory;
use super::{NEVER, Service};
use crate::domain::audit::AuditRecord;
use crate::domain::service_token::{NewServiceToken, ServiceToken, ServiceTokenId, ServiceTokenRotation};
use crate::domain::time::Timestamp;
use crate::ports::{
    Acting, ChangeServiceTokenRefusal, Clock, CreateServiceTokenRefusal, Store, StoreError, StoreFailure,
};
use crate::process::{Mailbox, Process, Reply, Timer, every};

/// How often uses are written: as exactly as they are noted.
const FLUSH_PERIOD: Duration = Duration::from_mins(1);
/// How often old revocations are looked for.
const PRUNE_PERIOD: Duration = Duration::from_mins(1);
/// How many revocations one commit removes, so that nobody else's write waits long.
const PRUNE_GROUP: usize = 512;
/// How much longer than the longest access token a revocation is kept: room for readers whose clock is behind.
const LEEWAY: Duration = Duration::from_mins(1);

pub(crate) enum Message {
    /// Make this token.
    Create {
        token: NewServiceToken,
        audit: AuditRecord,
        reply: Reply<Result<ServiceToken, StoreError<CreateServiceTokenRefusal>>>,
    },
    /// Give it another secret.
    Rotate {
        id: ServiceTokenId,
        rotation: ServiceTokenRotation,
        audit: AuditRecord,
        reply: Reply<Result<ServiceToken, StoreError<ChangeServiceTokenRefusal>>>,
    },
    /// Revoke it.
    Revoke {
        id: ServiceTokenId,
        acting: Acting,
        audit: AuditRecord,
        reply: Reply<Result<(), StoreError<ChangeServiceTokenRefusal>>>,
    },
    /// Write the uses since the last time. Sent by a timer.
    Flush,
    /// Remove revocations of tokens that are over by now. Sent by a timer, by the actor itself while there are more, and by
    /// tests, who are answered when there are none.
    Prune(Option<Reply<()>>),
}

/// Changes service tokens one at a time. Its commits run in tasks that it waits for: they outlive a crash, and its next
/// incarnation waits for them before it reads the store, so that it sees all that was or will be acknowledged.
pub(crate) struct ServiceActor {
    pub(crate) directory: Arc<Directory>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    /// For how long an access token is good.
    pub(crate) token_lifetime: Duration,
    /// Since when how much of the log of revocations is known. It outlives a crash of the actor.
    pub(crate) known: Mutex<Known>,
    pub(crate) commits: TaskTracker,
}

pub(crate) struct State {
    /// How long a revocation is kept.
    keep: Duration,
    mailbox: Arc<Mailbox<Message>>,
    _timers: [Timer; 2],
}

impl Process for ServiceActor {
    type Message = Message;
    type State = State;

    async fn start(&self, mailbox: &Arc<Mailbox<Message>>) -> Result<State, String> {
        self.commits.close();
        self.commits.wait().await;
        self.commits.reopen();
        let failed = |failure: StoreFailure| failure.to_string();
        self.directory.replace_all(self.store.service_tokens().await.map_err(failed)?);
        self.directory.set_built_in(self.store.built_in_last_used().await.map_err(failed)?);
        let longest = self.store.note_token_lifetime(self.token_lifetime).await.map_err(failed)?;
        let keep = longest.saturating_add(LEEWAY);
        self.known_up_to(keep).await.map_err(failed)?;
        Ok(State {
            keep,
            mailbox: Arc::clone(mailbox),
            _timers: [
                every(FLUSH_PERIOD, mailbox, || Message::Flush),
                every(PRUNE_PERIOD, mailbox, || Message::Prune(None)),
            ],
        })
    }

    async fn handle(&self, state: &mut State, message: Message) -> Result<(), String> {
        match message {
            Message::Create { token, audit, reply } => {
                // Whoever asked has given up; a token whose secret nobody gets helps no one.
                if reply.is_closed() {
                    return Ok(());
                }
                let store = Arc::clone(&self.store);
                let made = self.commit(async move { store.create_service_token(token, audit).await }).await?;
                if let Ok(token) = &made {
                    self.directory.put(token.clone());
                }
                let _ = reply.send(made);
            }
            Message::Rotate { id, rotation, audit, reply } => {
                if reply.is_closed() {
                    return Ok(());
                }
                let store = Arc::clone(&self.store);
                let made = self.commit(async move { store.rotate_service_token(id, rotation, audit).await }).await?;
                if let Ok(token) = &made {
                    self.directory.put(token.clone());
                }
                let _ = reply.send(made);
            }
            Message::Revoke { id, acting, audit, reply } => {
                let store = Arc::clone(&self.store);
                let acting = Some(acting);
                let done = self.commit(async move { store.delete_service_token(id, acting, audit).await }).await?;
                // Before the answer. Should the commit have failed, the token is dead for as long as this process lives.
                if !matches!(done, Err(StoreError::Refused(_))) {
                    self.directory.remove(id);
                }
                let _ = reply.send(done);
            }
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
    /// Runs a commit to its end, even if this incarnation does not live to see it.
    async fn commit<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, String> {
        self.commits.spawn(work).await.map_err(|error| error.to_string())
    }

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
        let pruned = match self.known_up_to(state.keep).await {
            Ok(up_to) => self.store.prune_revocations(self.clock.now().minus(state.keep), up_to, PRUNE_GROUP).await,
            Err(failure) => Err(failure),
        };
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

    /// The number of the newest revocation that has been known for as long as one is kept, or for as long as a wall clock
    /// that steps is doubted. It may go if the wall clock says so too; 0 while that is not believed.
    async fn known_up_to(&self, keep: Duration) -> Result<u64, StoreFailure> {
        let last = self.store.revocation_span().await?.last;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.up_to(last, keep, self.clock.now(), self.clock.monotonic()))
    }
}
