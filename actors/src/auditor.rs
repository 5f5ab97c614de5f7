//! The audit log's own actor: it records what goes with no change of the store, such as a failed login, removes what is too
//! old or too much, and says in the log of the process how far the audit log goes.
//!
//! Nobody can fill the log with refusals: of those that cost their maker no hash, one of a kind is taken in a while, all of them
//! together fill at most half of what the log may take, and what is left out is counted (S75).
//!
//! Records of changes travel in the commit of the change itself and never pass here.

mod seldom;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::ask::Unavailable;
use crate::domain::account::AccountId;
use crate::domain::audit::{
    AuditActorKind, AuditDetails, AuditEvent, AuditPage, AuditPruning, AuditQuery, AuditRecord, AuditRefusal,
    AuditStatus, ServiceName,
};
use crate::domain::session::{Origin, SessionId};
use crate::domain::time::Timestamp;
use crate::leases::{Lease, Leases};
use crate::ports::Clock;
use crate::process::{Mailbox, Process, Reply, Timer, every};
use crate::session::Principal;
use crate::store::{Store, StoreFailure};
use crate::trust::Trust;
use seldom::{Seldom, Verdict};

/// How long the drain of the last records may take: a commit, which the store itself bounds at 10 s.
const DRAIN_DEADLINE: Duration = Duration::from_secs(12);
/// The most records that wait for a commit: about 300 bytes each, so at most some 5 MB. What is refused without a hash comes in
/// seldom and the others as fast as hashes are computed, so this is reached when the store hangs; then records are counted
/// instead.
const MAX_PENDING: usize = 16_384;
/// How many records go into one change: some 10 ms of the committer, behind which everybody's writes wait.
const COMMIT_GROUP: usize = 512;
/// How many different records of who is known are taken in ten minutes: what administrators read, and where they were kept out.
const KNOWN_IN_WINDOW: usize = 1024;
/// How many of strangers who were kept out.
const DENIED_IN_WINDOW: usize = 256;
/// How many of attempts that cost their maker no hash: at most some 150,000 a day, 60 MB, however many addresses there are.
const ATTEMPTS_IN_WINDOW: usize = 1024;
/// How often what is too old or too much is looked for.
const TEND_PERIOD: Duration = Duration::from_mins(10);
/// How often refusals that are not on record are counted in a record.
const COUNT_PERIOD: Duration = Duration::from_mins(1);
/// How often the head is logged.
const HEAD_PERIOD: Duration = Duration::from_hours(1);
/// How many records one commit removes. Each costs the committer a few microseconds, so that nobody else's write waits long.
const PRUNE_GROUP: usize = 512;

/// How long audit records are kept.
#[derive(Debug, Clone, Copy)]
pub struct AuditSettings {
    /// For how long.
    pub retention: Duration,
    /// How much they may take, with their index, in bytes.
    pub max_bytes: u64,
}

/// Who reads the log.
#[derive(Debug, Clone)]
pub enum AuditReader {
    /// An administrator, in a session.
    Admin {
        /// Their account.
        account: AccountId,
        /// The session.
        session: SessionId,
    },
    /// A service, by its name.
    Service(ServiceName),
}

impl From<&Principal> for AuditReader {
    fn from(admin: &Principal) -> Self {
        Self::Admin { account: admin.account.id, session: admin.session }
    }
}

/// The way to the audit log.
#[derive(Clone)]
pub struct AuditHandle {
    mailbox: Arc<Mailbox<Message>>,
    store: Store,
    clock: Arc<dyn Clock>,
}

pub(crate) enum Message {
    Append(AuditRecord),
    /// Append it unless one of its kind was taken a moment ago.
    AppendSeldom(AuditRecord),
    /// The commit under way is done; sent by its own task.
    Committed,
    /// Answered when everything before it is committed.
    Settle(Reply<()>),
    /// Remove what is too old or too much. Sent by a timer, and by tests, who are answered when it is done.
    Tend(Option<Reply<()>>),
    /// The removal under way is done; sent by its own task.
    Tended,
    /// Put on record how many refusals were left out. Sent by a timer.
    Count,
    /// Log the head. Sent by a timer.
    LogHead,
}

impl AuditHandle {
    pub(crate) fn new(mailbox: Arc<Mailbox<Message>>, store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { mailbox, store, clock }
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

    /// Puts on record that somebody was kept out. Does not wait, and takes one record of each client and reason in ten minutes,
    /// as anybody can cause them at will.
    pub fn denied(&self, whom: Option<&Principal>, refusal: AuditRefusal, origin: Origin) {
        let account = whom.map(|principal| principal.account.id);
        let record = AuditRecord {
            at: self.clock.now(),
            event: AuditEvent::AccessDenied,
            actor: account.map_or(AuditActorKind::Anonymous, AuditActorKind::Account),
            subject: account,
            session: whom.map(|principal| principal.session),
            origin,
            refusal: Some(refusal),
            details: None,
        };
        self.seldom(record);
    }

    /// Puts on record that a known service was kept out of what is not for it; one record in ten minutes. Does not wait.
    pub fn service_denied(&self, service: &ServiceName, origin: Origin) {
        let record = AuditRecord {
            at: self.clock.now(),
            event: AuditEvent::AccessDenied,
            actor: AuditActorKind::Service(service.clone()),
            subject: None,
            session: None,
            origin,
            refusal: Some(AuditRefusal::ScopeMissing),
            details: None,
        };
        self.seldom(record);
    }

    /// Puts on record that somebody read pages of the log: one record of each of them in ten minutes. Does not wait.
    pub fn was_read(&self, reader: &AuditReader, origin: Origin) {
        self.seldom(self.by_reader(reader, AuditEvent::AuditRead, origin));
    }

    /// Puts on record, durably, that somebody takes the log away or follows it.
    pub async fn is_taken(&self, reader: &AuditReader, event: AuditEvent, origin: Origin) -> Result<(), Unavailable> {
        Ok(self.store.append_audit(vec![self.by_reader(reader, event, origin)]).await?)
    }

    /// A page of the log.
    pub async fn page(&self, query: AuditQuery) -> Result<AuditPage, Unavailable> {
        Ok(self.store.audit_page(query).await?)
    }

    /// The log in short.
    pub async fn status(&self) -> Result<AuditStatus, Unavailable> {
        Ok(self.store.audit_status().await?)
    }

    /// The number of the newest durable record, as it grows.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.store.audit_head()
    }

    /// Removes what is too old or too much and waits until it is gone.
    #[cfg(feature = "testing")]
    pub(crate) async fn tend(&self) -> Result<(), crate::ask::AskError> {
        self.mailbox.ask(Duration::from_mins(1), |reply| Message::Tend(Some(reply))).await
    }

    /// Puts a refusal on its way to the log: by itself if it cost a hash, else unless one of its kind was taken a moment ago.
    pub(crate) fn refused(&self, record: AuditRecord) {
        if record.cost_a_hash() { self.record(record) } else { self.seldom(record) }
    }

    /// Puts a record on its way to the log unless one of its kind was taken a moment ago.
    pub(crate) fn seldom(&self, record: AuditRecord) {
        let event = record.event.as_str();
        if let Err(error) = self.mailbox.tell(Message::AppendSeldom(record)) {
            tracing::error!(%error, event, "an audit record was lost");
        }
    }

    fn by_reader(&self, reader: &AuditReader, event: AuditEvent, origin: Origin) -> AuditRecord {
        let (actor, session) = match reader {
            AuditReader::Admin { account, session } => (AuditActorKind::Admin(*account), Some(*session)),
            AuditReader::Service(name) => (AuditActorKind::Service(name.clone()), None),
        };
        AuditRecord { at: self.clock.now(), event, actor, subject: None, session, origin, refusal: None, details: None }
    }
}

/// Batches records: while one commit is under way the next ones gather, so that a burst costs few commits.
pub(crate) struct AuditActor {
    store: Store,
    clock: Arc<dyn Clock>,
    settings: AuditSettings,
    /// How many leading bits of an IPv6 address name one client.
    ipv6_prefix: u8,
    /// The commits under way, so that a stop can wait for them.
    commits: TaskTracker,
    /// Whether the wall clock may be believed. It outlives a crash of the actor.
    trust: Mutex<Trust>,
    leases: Leases,
    /// How many refusals are not on record since the last time they were counted there. It outlives a crash of the actor.
    left_out: Arc<AtomicU64>,
    /// Set when the actor stops: a removal under way then ends after its present commit.
    stopping: Arc<AtomicBool>,
}

pub(crate) struct State {
    pending: Vec<AuditRecord>,
    committing: bool,
    waiting: Vec<Reply<()>>,
    by_known: Seldom,
    denied: Seldom,
    attempts: Seldom,
    /// When refusals that were left out were last counted in a record, by the monotonic clock.
    counted_at: Duration,
    /// Those who wait for the removal under way; `None` when there is none.
    tending: Option<Vec<Reply<()>>>,
    mailbox: Arc<Mailbox<Message>>,
    _timers: [Timer; 3],
}

impl Process for AuditActor {
    type Message = Message;
    type State = State;

    async fn start(&self, mailbox: &Arc<Mailbox<Message>>) -> Result<State, String> {
        let status = self.store.audit_status().await.map_err(|failure| failure.to_string())?;
        self.believes_the_clock(status.newest_at);
        tell_head(&status);
        Ok(State {
            pending: Vec::new(),
            committing: false,
            waiting: Vec::new(),
            by_known: Seldom::new(KNOWN_IN_WINDOW, self.ipv6_prefix),
            denied: Seldom::new(DENIED_IN_WINDOW, self.ipv6_prefix),
            attempts: Seldom::new(ATTEMPTS_IN_WINDOW, self.ipv6_prefix),
            counted_at: self.clock.monotonic(),
            tending: None,
            mailbox: Arc::clone(mailbox),
            _timers: [
                every(TEND_PERIOD, mailbox, || Message::Tend(None)),
                every(COUNT_PERIOD, mailbox, || Message::Count),
                every(HEAD_PERIOD, mailbox, || Message::LogHead),
            ],
        })
    }

    async fn handle(&self, state: &mut State, message: Message) -> Result<(), String> {
        match message {
            Message::Append(record) => self.take(state, record),
            Message::AppendSeldom(record) => {
                // Strangers must not use up what is there for those who are known, nor those who guess what is there for
                // those who are kept out.
                let seldom = match (record.session, record.event) {
                    (Some(_), _) => &mut state.by_known,
                    (None, AuditEvent::AccessDenied) => &mut state.denied,
                    (None, _) => &mut state.attempts,
                };
                match seldom.judge(&record, self.clock.monotonic()) {
                    Verdict::Taken => self.take(state, record),
                    Verdict::Known => {}
                    Verdict::LeftOut => self.leave_out(1),
                }
            }
            Message::Committed => state.committing = false,
            Message::Settle(reply) => state.waiting.push(reply),
            Message::Tend(reply) => self.tend(state, reply),
            Message::Tended => {
                for reply in state.tending.take().into_iter().flatten() {
                    let _ = reply.send(());
                }
            }
            Message::Count => {}
            Message::LogHead => log_head(&self.store).await,
        }
        self.count(state);
        if !state.committing && !state.pending.is_empty() {
            state.committing = true;
            let (committer, mailbox) = (self.committer(), Arc::clone(&state.mailbox));
            let records = std::mem::take(&mut state.pending);
            self.commits.spawn(async move {
                committer.commit(records).await;
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
        self.stopping.store(true, Ordering::Release);
        self.commits.close();
        self.commits.wait().await;
        let committer = self.committer();
        committer.commit(std::mem::take(&mut state.pending)).await;
        committer.commit(self.counted().into_iter().collect()).await;
        log_head(&self.store).await;
    }
}

impl AuditActor {
    pub(crate) fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        settings: AuditSettings,
        ipv6_prefix: u8,
        leases: Leases,
    ) -> Self {
        let (commits, trust) = (TaskTracker::new(), Mutex::default());
        let (left_out, stopping) = (Arc::default(), Arc::default());
        Self { store, clock, settings, ipv6_prefix, commits, trust, leases, left_out, stopping }
    }

    fn take(&self, state: &mut State, record: AuditRecord) {
        if state.pending.len() < MAX_PENDING {
            state.pending.push(record);
        } else {
            self.leave_out(1);
        }
    }

    fn leave_out(&self, count: u64) {
        self.left_out.fetch_add(count, Ordering::Relaxed);
    }

    /// Puts on record how many refusals were left out, once a minute.
    fn count(&self, state: &mut State) {
        let now = self.clock.monotonic();
        if now.saturating_sub(state.counted_at) >= COUNT_PERIOD
            && let Some(record) = self.counted()
        {
            state.counted_at = now;
            state.pending.push(record);
        }
    }

    /// The record of how many refusals were left out since the last one; `None` if none were.
    fn counted(&self) -> Option<AuditRecord> {
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out == 0 {
            return None;
        }
        tracing::warn!(
            left_out,
            "too many refusals for the audit log; they are counted there, and not on record one by one"
        );
        let details = Some(AuditDetails::Counted(left_out));
        Some(AuditRecord { details, ..of_system(AuditEvent::RefusalsCounted, self.clock.now()) })
    }

    fn committer(&self) -> Committer {
        let most_refused = self.settings.max_bytes / 2;
        Committer { store: self.store.clone(), left_out: Arc::clone(&self.left_out), most_refused }
    }

    /// Begins to remove what is too old or too much, unless that is under way.
    fn tend(&self, state: &mut State, reply: Option<Reply<()>>) {
        let under_way = state.tending.is_some();
        state.tending.get_or_insert_default().extend(reply);
        if under_way {
            return;
        }
        let now = self.clock.now();
        let before = self.believes_the_clock(None).then(|| now.minus(self.settings.retention));
        let (store, mailbox, leases) = (self.store.clone(), Arc::clone(&state.mailbox), self.leases.clone());
        let (max_bytes, stopping) = (self.settings.max_bytes, Arc::clone(&self.stopping));
        self.commits.spawn(async move {
            if !leases.hold(Lease::PruneAudit).await {
                let _ = mailbox.tell(Message::Tended);
                return;
            }
            match prune(&store, now, before, max_bytes, &stopping).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "old audit records were removed"),
                Err(failure) => tracing::error!(%failure, "old audit records could not be removed"),
            }
            let _ = mailbox.tell(Message::Tended);
        });
    }

    /// Whether something may be deleted for its age now.
    fn believes_the_clock(&self, newest: Option<Timestamp>) -> bool {
        let mut trust = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        trust.believes(self.clock.now(), self.clock.monotonic(), newest)
    }
}

/// Logs what `doorward audit verify --head` compares with; it must reach a place that whoever edits the data directory does not
/// reach. So everything that appends to the log does so when it begins and when it ends.
pub(crate) async fn log_head(store: &Store) {
    match store.audit_status().await {
        Ok(status) => tell_head(&status),
        Err(failure) => tracing::error!(%failure, "the head of the audit log could not be read"),
    }
}

fn tell_head(status: &AuditStatus) {
    tracing::info!(head = %status.head, first = status.checkpoint.first, bytes = status.bytes, "audit head");
}

/// A record of what Doorward itself did.
fn of_system(event: AuditEvent, at: Timestamp) -> AuditRecord {
    AuditRecord {
        at,
        event,
        actor: AuditActorKind::System,
        subject: None,
        session: None,
        origin: Origin::default(),
        refusal: None,
        details: None,
    }
}

/// Removes what is too old or too much, a group at a time; the answer is how many records went.
async fn prune(
    store: &Store,
    now: Timestamp,
    before: Option<Timestamp>,
    max_bytes: u64,
    stopping: &AtomicBool,
) -> Result<usize, StoreFailure> {
    let is_too_large = store.audit_status().await?.bytes > max_bytes;
    let max_bytes = if is_too_large { AuditPruning::with_margin(max_bytes) } else { max_bytes };
    let record = of_system(AuditEvent::AuditPruned, now);
    let mut removed = 0;
    loop {
        let pruning = AuditPruning { before, now, max_bytes, limit: PRUNE_GROUP, record: Some(record.clone()) };
        let pruned = store.prune_audit(pruning).await?;
        removed += pruned.removed;
        if !pruned.more || stopping.load(Ordering::Acquire) {
            return Ok(removed);
        }
    }
}

/// Writes what waited.
struct Committer {
    store: Store,
    left_out: Arc<AtomicU64>,
    /// How much refusals may take of the log, in bytes.
    most_refused: u64,
}

impl Committer {
    async fn commit(&self, records: Vec<AuditRecord>) {
        for group in groups(records) {
            let count = group.len();
            match self.store.append_audit_within(group, self.most_refused).await {
                Ok(left_out) => drop(self.left_out.fetch_add(left_out, Ordering::Relaxed)),
                Err(failure) => tracing::error!(%failure, count, "audit records were lost"),
            }
        }
    }
}

/// The same records in the same order, for changes of a bounded size.
fn groups(records: Vec<AuditRecord>) -> impl Iterator<Item = Vec<AuditRecord>> {
    let mut records = records.into_iter();
    std::iter::from_fn(move || {
        let group: Vec<_> = records.by_ref().take(COMMIT_GROUP).collect();
        (!group.is_empty()).then_some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_is_written_in_order_and_in_bounded_changes() {
        let record = |number: i64| AuditRecord {
            at: Timestamp::from_millis(number),
            event: AuditEvent::Login,
            actor: AuditActorKind::Anonymous,
            subject: None,
            session: None,
            origin: Origin::default(),
            refusal: None,
            details: None,
        };
        let records: Vec<_> = (0..1100).map(record).collect();
        let split: Vec<_> = groups(records.clone()).collect();
        assert_eq!(split.iter().map(Vec::len).collect::<Vec<_>>(), [512, 512, 76]);
        assert_eq!(split.concat(), records);
        assert_eq!(groups(Vec::new()).count(), 0);
    }
}
