//! The actor of the audit log. It writes records that belong to no change of the store, such as a failed login, removes records
//! that are too old or exceed the size limit, and logs the head of the audit log.
//!
//! Nobody can fill the log with refusals. A refusal that cost its client no hash is recorded once per kind and time window.
//! All refusals together take at most half of the log. Refusals that are left out are counted (S75).
//!
//! The record of a change is written in the commit of that change and never passes through this actor.

mod refusal_sampler;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::ask::Unavailable;
use crate::clock_check::ClockCheck;
use crate::domain::account::AccountId;
use crate::domain::audit::{
    AuditActorKind, AuditDetails, AuditEvent, AuditPage, AuditPruning, AuditQuery, AuditRecord, AuditRefusal,
    AuditStatus, ServiceName,
};
use crate::domain::session::{Origin, SessionId};
use crate::domain::time::Timestamp;
use crate::leases::{Lease, Leases};
use crate::ports::Clock;
use crate::process::{Mailbox, OwnMailbox, Process, Reply, Timer, every};
use crate::session::Principal;
use crate::store::{Store, StoreFailure};
use refusal_sampler::{RefusalSampler, Verdict};

/// How long the drain of the last records may take: one commit, which the store limits to 10 s.
const DRAIN_DEADLINE: Duration = Duration::from_secs(12);
/// The maximum number of records that wait for a commit. Each takes about 300 bytes, together some 5 MB.
/// Few refusals without a hash are taken, and the others arrive only as fast as hashes are computed.
/// So the limit is reached only while the store hangs. Records beyond the limit are only counted.
const MAX_PENDING: usize = 16_384;
/// The maximum number of records in one commit: some 10 ms of the committer, which all other writes wait for.
const COMMIT_GROUP: usize = 512;
/// The maximum number of different records per ten minutes in sessions: reads of the log and denied access.
const KNOWN_IN_WINDOW: usize = 1024;
/// The maximum number of different records of denied access per ten minutes without a session.
const DENIED_IN_WINDOW: usize = 256;
/// The maximum number of different records per ten minutes of attempts that cost no hash.
/// This is at most some 150,000 a day, or 60 MB, however many addresses there are.
const ATTEMPTS_IN_WINDOW: usize = 1024;
/// How often records that are too old or exceed the size limit are removed.
const TEND_PERIOD: Duration = Duration::from_mins(10);
/// How often the number of refusals that were left out is recorded.
const COUNT_PERIOD: Duration = Duration::from_mins(1);
/// How often the head is logged.
const HEAD_PERIOD: Duration = Duration::from_hours(1);
/// How many records one commit removes. Each takes the committer a few microseconds, so that other writes do not wait long.
const PRUNE_GROUP: usize = 512;

/// The limits of the audit log.
#[derive(Debug, Clone, Copy)]
pub struct AuditSettings {
    /// How long records are kept.
    pub retention: Duration,
    /// The maximum size of the records and their index, in bytes.
    pub max_bytes: u64,
}

/// A reader of the log.
#[derive(Debug, Clone)]
pub enum AuditReader {
    /// An administrator, in a session.
    Admin {
        /// Their account.
        account: AccountId,
        /// The session.
        session: SessionId,
    },
    /// A service, identified by its name.
    Service(ServiceName),
}

impl From<&Principal> for AuditReader {
    fn from(admin: &Principal) -> Self {
        Self::Admin { account: admin.account.id, session: admin.session }
    }
}

/// The handle of the auditor.
#[derive(Clone)]
pub struct AuditHandle {
    mailbox: Arc<Mailbox<Message>>,
    store: Store,
    clock: Arc<dyn Clock>,
}

pub(crate) enum Message {
    Append(AuditRecord),
    /// Append it unless one of its kind was written recently.
    AppendSampled(AuditRecord),
    /// The running commit is done. Sent by its own task.
    Committed,
    /// Answered when every record before it is committed.
    Settle(Reply<()>),
    /// Remove records that are too old or exceed the size limit. Sent by a timer, and by tests, which get a reply when it is done.
    Tend(Option<Reply<()>>),
    /// The running removal is done. Sent by its own task.
    Tended,
    /// Record the number of refusals that were left out. Sent by a timer.
    Count,
    /// Log the head. Sent by a timer.
    LogHead,
}

impl AuditHandle {
    pub(crate) fn new(mailbox: Arc<Mailbox<Message>>, store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { mailbox, store, clock }
    }

    /// Sends a record to the log, without waiting for it.
    pub(crate) fn record(&self, record: AuditRecord) {
        let event = record.event.as_str();
        if let Err(error) = self.mailbox.tell(Message::Append(record)) {
            tracing::error!(%error, event, "an audit record was lost");
        }
    }

    /// Waits until every record that was sent before is in the store.
    pub async fn settle(&self) {
        if let Err(error) = self.mailbox.ask(DRAIN_DEADLINE, Message::Settle).await {
            tracing::warn!(%error, "the audit log did not confirm its pending records");
        }
    }

    /// Records that a client was denied access, without waiting.
    /// Writes at most one record per client and reason in ten minutes, because anybody can cause them at will.
    pub fn denied(&self, whom: Option<&Principal>, refusal: AuditRefusal, origin: Origin) {
        let account = whom.map(|principal| principal.account.id);
        let record = AuditRecord {
            actor: account.map_or(AuditActorKind::Anonymous, AuditActorKind::Account),
            subject: account,
            session: whom.map(|principal| principal.session),
            origin,
            refusal: Some(refusal),
            ..AuditRecord::new(AuditEvent::AccessDenied, self.clock.now())
        };
        self.seldom(record);
    }

    /// Records that a service lacked the scope for a request, at most once in ten minutes, without waiting.
    pub fn service_denied(&self, service: &ServiceName, origin: Origin) {
        let record = AuditRecord {
            actor: AuditActorKind::Service(service.clone()),
            origin,
            refusal: Some(AuditRefusal::ScopeMissing),
            ..AuditRecord::new(AuditEvent::AccessDenied, self.clock.now())
        };
        self.seldom(record);
    }

    /// Records that somebody read pages of the log, at most once per reader in ten minutes, without waiting.
    pub fn was_read(&self, reader: &AuditReader, origin: Origin) {
        self.seldom(self.by_reader(reader, AuditEvent::AuditRead, origin));
    }

    /// Records durably that somebody exports or follows the log.
    pub async fn is_taken(&self, reader: &AuditReader, event: AuditEvent, origin: Origin) -> Result<(), Unavailable> {
        Ok(self.store.append_audit(vec![self.by_reader(reader, event, origin)]).await?)
    }

    /// Returns a page of the log.
    pub async fn page(&self, query: AuditQuery) -> Result<AuditPage, Unavailable> {
        Ok(self.store.audit_page(query).await?)
    }

    /// Returns a summary of the log.
    pub async fn status(&self) -> Result<AuditStatus, Unavailable> {
        Ok(self.store.audit_status().await?)
    }

    /// Returns the number of the newest durable record, as a channel that follows it.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.store.audit_head()
    }

    /// Removes records that are too old or exceed the size limit, and waits until they are gone.
    #[cfg(feature = "testing")]
    pub(crate) async fn tend(&self) -> Result<(), crate::ask::AskError> {
        self.mailbox.ask(Duration::from_mins(1), |reply| Message::Tend(Some(reply))).await
    }

    /// Sends a refusal to the log: always if it cost a hash, otherwise only if none of its kind was written recently.
    pub(crate) fn refused(&self, record: AuditRecord) {
        if record.cost_a_hash() { self.record(record) } else { self.seldom(record) }
    }

    /// Sends a record to the log unless one of its kind was written recently.
    pub(crate) fn seldom(&self, record: AuditRecord) {
        let event = record.event.as_str();
        if let Err(error) = self.mailbox.tell(Message::AppendSampled(record)) {
            tracing::error!(%error, event, "an audit record was lost");
        }
    }

    /// Returns the record of something that a reader does now.
    #[must_use]
    pub fn by_reader(&self, reader: &AuditReader, event: AuditEvent, origin: Origin) -> AuditRecord {
        let (actor, session) = match reader {
            AuditReader::Admin { account, session } => (AuditActorKind::Admin(*account), Some(*session)),
            AuditReader::Service(name) => (AuditActorKind::Service(name.clone()), None),
        };
        AuditRecord { actor, session, origin, ..AuditRecord::new(event, self.clock.now()) }
    }
}

/// Batches records: while one commit is running, the next records gather, so that a burst needs only a few commits.
pub(crate) struct AuditActor {
    store: Store,
    clock: Arc<dyn Clock>,
    settings: AuditSettings,
    /// The number of leading bits of an IPv6 address that identify one client.
    ipv6_prefix: u8,
    /// The running commits, so that a stop can wait for them.
    commits: TaskTracker,
    /// Whether the wall clock can be trusted. It outlives a crash of the actor.
    clock_check: Mutex<ClockCheck>,
    leases: Leases,
    /// How many refusals are not on record since the last time they were counted there. It outlives a crash of the actor.
    left_out: Arc<AtomicU64>,
    /// Set when the actor stops. A running removal then ends after its current commit.
    stopping: Arc<AtomicBool>,
}

pub(crate) struct State {
    pending: Vec<AuditRecord>,
    committing: bool,
    waiting: Vec<Reply<()>>,
    by_known: RefusalSampler,
    denied: RefusalSampler,
    attempts: RefusalSampler,
    /// When the number of left-out refusals was last recorded, on the monotonic clock.
    counted_at: Duration,
    /// The callers that wait for the running removal; `None` if none is running.
    tending: Option<Vec<Reply<()>>>,
    mailbox: OwnMailbox<Message>,
    _timers: [Timer; 3],
}

impl Process for AuditActor {
    type Message = Message;
    type State = State;

    async fn start(&self, mailbox: &OwnMailbox<Message>) -> Result<State, String> {
        let status = self.store.audit_status().await.map_err(|failure| failure.to_string())?;
        self.believes_the_clock(status.newest_at);
        tell_head(&status);
        Ok(State {
            pending: Vec::new(),
            committing: false,
            waiting: Vec::new(),
            by_known: RefusalSampler::new(KNOWN_IN_WINDOW, self.ipv6_prefix),
            denied: RefusalSampler::new(DENIED_IN_WINDOW, self.ipv6_prefix),
            attempts: RefusalSampler::new(ATTEMPTS_IN_WINDOW, self.ipv6_prefix),
            counted_at: self.clock.monotonic(),
            tending: None,
            mailbox: mailbox.clone(),
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
            Message::AppendSampled(record) => {
                // Each group has its own limit, so that clients without a session cannot use up the limit of those with one,
                // and clients that guess cannot use up the limit of records of denied access.
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
            let (committer, mailbox) = (self.committer(), state.mailbox.clone());
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
        let (commits, clock_check) = (TaskTracker::new(), Mutex::default());
        let (left_out, stopping) = (Arc::default(), Arc::default());
        Self { store, clock, settings, ipv6_prefix, commits, clock_check, leases, left_out, stopping }
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

    /// Records the number of left-out refusals, at most once a minute.
    fn count(&self, state: &mut State) {
        let now = self.clock.monotonic();
        if now.saturating_sub(state.counted_at) >= COUNT_PERIOD
            && let Some(record) = self.counted()
        {
            state.counted_at = now;
            state.pending.push(record);
        }
    }

    /// Builds the record of the refusals that were left out since the last such record; `None` if there were none.
    fn counted(&self) -> Option<AuditRecord> {
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out == 0 {
            return None;
        }
        tracing::warn!(left_out, "too many refusals for the audit log; those left out are recorded only as a number");
        let details = Some(AuditDetails::Counted(left_out));
        Some(AuditRecord { details, ..AuditRecord::new(AuditEvent::RefusalsCounted, self.clock.now()) })
    }

    fn committer(&self) -> Committer {
        let most_refused = self.settings.max_bytes / 2;
        Committer { store: self.store.clone(), left_out: Arc::clone(&self.left_out), most_refused }
    }

    /// Begins to remove records that are too old or exceed the size limit, unless a removal is running.
    fn tend(&self, state: &mut State, reply: Option<Reply<()>>) {
        let under_way = state.tending.is_some();
        state.tending.get_or_insert_default().extend(reply);
        if under_way {
            return;
        }
        let now = self.clock.now();
        let before = self.believes_the_clock(None).then(|| now.minus(self.settings.retention));
        let (store, mailbox, leases) = (self.store.clone(), state.mailbox.clone(), self.leases.clone());
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

    /// Returns whether the wall clock can be trusted enough to delete records for their age.
    fn believes_the_clock(&self, newest: Option<Timestamp>) -> bool {
        let mut clock_check = self.clock_check.lock().unwrap_or_else(PoisonError::into_inner);
        clock_check.believes(self.clock.now(), self.clock.monotonic(), newest)
    }
}

/// Logs the head, with which `doorward audit verify --head` compares.
/// The head must reach a place that is out of reach for an attacker who edits the data directory.
/// So everything that appends to the log calls this when it begins and when it ends.
pub(crate) async fn log_head(store: &Store) {
    match store.audit_status().await {
        Ok(status) => tell_head(&status),
        Err(failure) => tracing::error!(%failure, "the head of the audit log could not be read"),
    }
}

fn tell_head(status: &AuditStatus) {
    tracing::info!(head = %status.head, first = status.checkpoint.first, bytes = status.bytes, "audit head");
}

/// Removes records that are too old or exceed the size limit, one group at a time; returns the number of removed records.
async fn prune(
    store: &Store,
    now: Timestamp,
    before: Option<Timestamp>,
    max_bytes: u64,
    stopping: &AtomicBool,
) -> Result<usize, StoreFailure> {
    let is_too_large = store.audit_status().await?.bytes > max_bytes;
    let max_bytes = if is_too_large { AuditPruning::with_margin(max_bytes) } else { max_bytes };
    let record = AuditRecord::new(AuditEvent::AuditPruned, now);
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

/// Writes the waiting records.
struct Committer {
    store: Store,
    left_out: Arc<AtomicU64>,
    /// The maximum size of the refusals in the log, in bytes.
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

/// Splits records into groups of a bounded size, in the same order.
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
            actor: AuditActorKind::Anonymous,
            ..AuditRecord::new(AuditEvent::Login, Timestamp::from_millis(number))
        };
        let records: Vec<_> = (0..1100).map(record).collect();
        let split: Vec<_> = groups(records.clone()).collect();
        assert_eq!(split.iter().map(Vec::len).collect::<Vec<_>>(), [512, 512, 76]);
        assert_eq!(split.concat(), records);
        assert_eq!(groups(Vec::new()).count(), 0);
    }
}
