//! The audit log's own actor: it records what goes with no change of the store, such as a failed login.
//!
//! Records of changes travel in the commit of the change itself and never pass here.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::domain::audit::AuditRecord;
use crate::ports::Store;
use crate::process::{Mailbox, Process, Reply};

/// How long the drain of the last records may take: a commit, which the store itself bounds at 10 s.
const DRAIN_DEADLINE: Duration = Duration::from_secs(12);
/// The most records that wait for a commit: about 300 bytes each, so at most some 5 MB. Hashing bounds how fast failures come
/// in, so that this is reached only when the store hangs; then records are lost to the audit log and go to the log instead.
const MAX_PENDING: usize = 16_384;

/// The way to the audit log.
#[derive(Clone)]
pub struct AuditHandle {
    mailbox: Arc<Mailbox<Message>>,
}

pub(crate) enum Message {
    Append(AuditRecord),
    /// The commit under way is done; sent by its own task.
    Committed,
    /// Answered when everything before it is committed.
    Settle(Reply<()>),
}

impl AuditHandle {
    pub(crate) fn new(mailbox: Arc<Mailbox<Message>>) -> Self {
        Self { mailbox }
    }

    /// Puts a record on its way to the log; does not wait for it.
    pub(crate) fn record(&self, record: AuditRecord) {
        let event = record.event.as_str();
        if let Err(error) = self.mailbox.tell(Message::Append(record)) {
            tracing::error!(%error, event, "an audit record was lost");
        }
    }

    /// Waits until every record sent before is in the store.
    pub async fn settle(&self) {
        if let Err(error) = self.mailbox.ask(DRAIN_DEADLINE, Message::Settle).await {
            tracing::warn!(%error, "the audit log did not settle");
        }
    }
}

/// Batches records: while one commit is under way the next ones gather, so that a burst costs few commits.
pub(crate) struct AuditActor {
    pub(crate) store: Arc<dyn Store>,
    /// The commits under way, so that a stop can wait for them.
    pub(crate) commits: TaskTracker,
}

pub(crate) struct State {
    pending: Vec<AuditRecord>,
    committing: bool,
    waiting: Vec<Reply<()>>,
    mailbox: Arc<Mailbox<Message>>,
}

impl Process for AuditActor {
    type Message = Message;
    type State = State;

    async fn start(&self, mailbox: &Arc<Mailbox<Message>>) -> Result<State, String> {
        Ok(State { pending: Vec::new(), committing: false, waiting: Vec::new(), mailbox: Arc::clone(mailbox) })
    }

    async fn handle(&self, state: &mut State, message: Message) -> Result<(), String> {
        match message {
            Message::Append(record) if state.pending.len() < MAX_PENDING => state.pending.push(record),
            Message::Append(record) => {
                tracing::error!(event = record.event.as_str(), subject = ?record.subject, "an audit record was lost");
            }
            Message::Committed => state.committing = false,
            Message::Settle(reply) => state.waiting.push(reply),
        }
        if !state.committing && !state.pending.is_empty() {
            state.committing = true;
            let (store, mailbox) = (Arc::clone(&self.store), Arc::clone(&state.mailbox));
            let records = std::mem::take(&mut state.pending);
            self.commits.spawn(async move {
                commit(&*store, records).await;
                let _ = mailbox.tell(Message::Committed);
            });
        }
        if !state.committing && state.pending.is_empty() {
            for reply in state.waiting.drain(..) {
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    async fn stop(&self, state: &mut State) {
        self.commits.close();
        self.commits.wait().await;
        commit(&*self.store, std::mem::take(&mut state.pending)).await;
    }
}

async fn commit(store: &dyn Store, records: Vec<AuditRecord>) {
    if records.is_empty() {
        return;
    }
    let count = records.len();
    if let Err(failure) = store.append_audit(records).await {
        tracing::error!(%failure, count, "audit records were lost");
    }
}
