//! The store on disk: [`SledStore`] keeps accounts, sessions, one-time tokens, queued mails and
//! the audit log in one embedded sled tree.
//!
//! Reads go straight to the engine, which answers from its cache in a few microseconds. Writes go through one committer
//! thread, and what is acknowledged has reached the disk. The modules: `keys` (where a record is), `codec` (what it looks
//! like), `changes` (the rules of each change), `staging` and `committer` (how changes become durable together),
//! `migrations`, `lock`, `health`, [`secrets`] and [`key_files`].

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use doorward_actors::ports::{
    AccountUpdate, Acting, CreateAccountRefusal, DeleteAccountRefusal, Effects, ListedAccount, OpenSessionRefusal,
    Page, RecordRefusal, RefreshOutcome, RefreshRefusal, RefreshUse, ShardOf, SignIn, Store, StoreError, StoreFailure,
    StoredToken, Touch, UnknownSession, UpdateAccountRefusal, UsedToken,
};
use doorward_actors::{
    Account, AccountId, AuditHead, AuditPage, AuditPruned, AuditPruning, AuditQuery, AuditRecord, AuditStatus,
    EmailKey, FailureKey, MailId, MailOutcome, NewAccount, QueuedMail, RefreshFamily, Session, SessionId, SessionLabel,
    StoredFailures, Timestamp, TokenHash, TokenPurpose,
};
use tokio::sync::watch;

mod audit;
mod changes;
mod codec;
mod committer;
#[cfg(test)]
mod committer_tests;
mod engine;
mod heads;
mod health;
pub mod key_files;
mod keys;
mod lock;
mod migrations;
pub(crate) mod permissions;
mod reads;
mod recent;
pub mod secrets;
mod services;
mod staging;
mod sync;
mod witness;

pub use audit::verify::{AuditBreak, AuditFinding, AuditReport};
use committer::{Committer, Progress, Writer};
use health::Health;
use lock::DirLock;
use recent::{Recent, RecentAccounts};
use staging::{Abort, Fault, Staging};
use witness::Witness;

use crate::files;

/// How long a caller waits for a change to be durable. A healthy disk needs milliseconds, a busy one a second; one that
/// takes this long is not coming back, and clients have given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// What the engine keeps in memory. Its own default is 1 GiB.
const CACHE_BYTES: u64 = 48 * 1024 * 1024;
/// How often the number of commits is noted outside the engine while there are commits.
const WITNESS_EVERY: Duration = Duration::from_mins(1);

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another store in this one, has it open.
    #[error("the data directory {} is in use by another doorward process; stop that one first", .data_dir.display())]
    InUse {
        /// The directory.
        data_dir: PathBuf,
    },
    /// A newer version of this program wrote it.
    #[error(
        "the data was written by a newer version of doorward (layout {found}, this one knows up to {known}); \
         run that version, or restore a backup made by this one"
    )]
    Newer {
        /// The layout of the data.
        found: u32,
        /// The newest layout that this program knows.
        known: u32,
    },
    /// An older version wrote it, and this was not to change it.
    #[error("the data has layout {found}, not {known}; let the server start with it once, which migrates it")]
    Older {
        /// The layout of the data.
        found: u32,
        /// The layout of this program.
        known: u32,
    },
    /// The engine is missing or empty, and there was one.
    #[error(
        "{} held a database, and {0}/db is missing or empty now; nothing was changed. Restore the whole data directory from \
         a backup. If the database was removed on purpose, run `doorward accept-older-data`: the next start then makes an \
         empty one, in which the first account that registers becomes an administrator", .data_dir.display()
    )]
    Lost {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The engine holds less than it did.
    #[error(
        "the database in {} is older than it was: it holds {found} commits, and {noted} were noted in witness.json; no record \
         was changed. Restore a newer backup of the whole data directory. If an older copy was put there on purpose, or \
         nothing newer is left, run `doorward accept-older-data`, and what came after it stays lost", .data_dir.display()
    )]
    OlderData {
        /// The data directory.
        data_dir: PathBuf,
        /// How many commits the engine holds.
        found: u64,
        /// How many it held at least.
        noted: u64,
    },
    /// What notes how many commits the engine held cannot be read.
    #[error("{} cannot be read; restore it from a backup, or run `doorward accept-older-data`", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
    /// The engine's writes do not reach the disk before they count as durable.
    #[error("the storage engine does not sync what it writes, as this program was linked wrongly; use another build")]
    Unsynced,
    /// What is stored is damaged.
    #[error("the data is damaged: {0}; restore a backup")]
    Corrupt(String),
    /// This process may not use it.
    #[error("no permission to use {}: {source}", .path.display())]
    Permission {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system failed.
    #[error("cannot use {}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The engine failed.
    #[error("the storage engine failed: {0}")]
    Engine(String),
}

impl OpenError {
    fn at(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Permission { path, source },
            _ => Self::Io { path, source },
        }
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Record(error) => Self::Corrupt(error.to_string()),
            Fault::Engine(error) => error.into(),
        }
    }
}

impl From<sled::Error> for OpenError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Corruption { .. } => Self::Corrupt(error.to_string()),
            _ => Self::Engine(error.to_string()),
        }
    }
}

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// How long a caller waits for a change to be durable; one that takes longer fails the store for good.
    pub write_deadline: Duration,
    /// How much the engine keeps in memory, in bytes.
    pub cache_bytes: u64,
    /// How often the number of commits is noted outside the engine, while there are any.
    pub witness_every: Duration,
    /// How much the audit log may take, in bytes; what makes it larger removes its oldest records in the same commit.
    pub audit_max_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            write_deadline: WRITE_DEADLINE,
            cache_bytes: CACHE_BYTES,
            witness_every: WITNESS_EVERY,
            audit_max_bytes: u64::MAX,
        }
    }
}

/// The durable store of one data directory, which it owns alone while it is open.
///
/// After the first storage error, or a write that took too long, it is *failed*: it refuses every call, reads too, as
/// those could show changes that never reached the disk. Only a restart of the process helps; see [`failed`](Self::failed).
pub struct SledStore {
    // Before the engine: it is closed first, so that what is queued still finds the engine.
    committer: Committer,
    /// `None` once closed.
    engine: Arc<RwLock<Option<Engine>>>,
    health: Arc<Health>,
    recent: Arc<RecentAccounts>,
    /// The newest durable audit record.
    audit_head: watch::Sender<u64>,
    /// The newest durable revocation.
    revocation_head: watch::Sender<u64>,
}

/// The open engine. The lock comes last, as it goes after the engine has let go of its files.
struct Engine {
    db: sled::Db,
    _lock: Arc<DirLock>,
}

impl SledStore {
    /// Opens a data directory; makes it, for its owner alone, if it does not exist. Blocks, for as long as recovery takes.
    pub fn open(data_dir: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        files::create_private_dir(data_dir).map_err(|error| OpenError::at(data_dir, error))?;
        let lock = Arc::new(DirLock::take(data_dir)?);
        let (db, commits) = engine::open_or_make(data_dir, options)?;

        let health = Arc::new(Health::new());
        let recent = Arc::new(RecentAccounts::new());
        let audit_head = watch::Sender::new(reads::counter(&db, keys::LAST_AUDIT_SEQUENCE)?);
        let revocation_head = watch::Sender::new(reads::counter(&db, keys::LAST_REVOCATION)?);
        let writer = Writer {
            db: db.clone(),
            health: Arc::clone(&health),
            recent: Arc::clone(&recent),
            heads: [(keys::LAST_AUDIT_SEQUENCE, audit_head.clone()), (keys::LAST_REVOCATION, revocation_head.clone())],
            progress: Progress::new(Witness::of(data_dir), commits, options.witness_every),
            audit_max_bytes: options.audit_max_bytes,
            _lock: Arc::clone(&lock),
        };
        let committer =
            Committer::start(writer, options.write_deadline).map_err(|error| OpenError::at(data_dir, error))?;
        let engine = Arc::new(RwLock::new(Some(Engine { db, _lock: lock })));
        Ok(Self { committer, engine, health, recent, audit_head, revocation_head })
    }

    /// Walks over the audit log of a data directory that no process has open, in constant memory. `expected` is a head that
    /// was noted elsewhere. Changes no record; a directory of an older layout is refused, as it has no chain yet.
    pub fn verify_audit(
        data_dir: &Path,
        options: StoreOptions,
        expected: Option<AuditHead>,
    ) -> Result<AuditReport, OpenError> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "there is no database");
        if !engine::dir(data_dir).join("db").is_file() && Witness::of(data_dir).commits()?.is_none() {
            return Err(OpenError::at(&engine::dir(data_dir), missing()));
        }
        let _lock = DirLock::take(data_dir)?;
        let db = engine::open(data_dir, options)?;
        migrations::must_be_current(&db)?;
        Ok(audit::verify::walk(&db, expected)?)
    }

    /// Forgets how much the engine of a data directory held, so that the next start takes what it finds there. For an operator who
    /// put an older copy there, or removed the engine, on purpose. What is left of an engine without its data is put aside as
    /// `db.lost`. Says whether anything was known.
    pub fn accept_older_data(data_dir: &Path) -> Result<bool, OpenError> {
        let _lock = DirLock::take(data_dir)?;
        engine::put_aside_if_empty(data_dir)?;
        Witness::of(data_dir).forget(data_dir)
    }

    /// Makes the queued changes durable, refuses all further calls and gives the directory back, so that it can be opened
    /// again. Blocks, for at most the write deadline. Dropping the store does the same and swallows the error.
    pub fn close(&self) -> Result<(), StoreFailure> {
        let outcome = self.committer.close();
        drop(self.engine.write().unwrap_or_else(PoisonError::into_inner).take());
        outcome
    }

    /// Ends with the reason when the store fails; the process should then exit, to be started anew. Never ends otherwise.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        self.health.failed()
    }

    /// Reads from the engine here and now.
    fn read<T>(&self, read: impl FnOnce(&sled::Tree) -> Result<T, Fault>) -> Result<T, StoreFailure> {
        read_from(&self.engine, &self.health, read)
    }

    /// Reads many rows, on a thread that may block.
    async fn scan<T: Send + 'static>(
        &self,
        read: impl FnOnce(&sled::Tree) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreFailure> {
        let (engine, health) = (Arc::clone(&self.engine), Arc::clone(&self.health));
        tokio::task::spawn_blocking(move || read_from(&engine, &health, read))
            .await
            .unwrap_or_else(|_| Err(StoreFailure("a read was cut short".to_owned())))
    }

    /// Makes a change that no rule can refuse.
    async fn note<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Staging<'_>) -> Result<T, Abort<Never>> + Send + 'static,
    ) -> Result<T, StoreFailure> {
        self.committer.change(change).await.map_err(|error| match error {
            StoreError::Refused(never) => match never {},
            StoreError::Failed(failure) => failure,
        })
    }
}

/// The refusal of a change that is never refused.
enum Never {}

fn read_from<T>(
    engine: &RwLock<Option<Engine>>,
    health: &Health,
    read: impl FnOnce(&sled::Tree) -> Result<T, Fault>,
) -> Result<T, StoreFailure> {
    health.check()?;
    let engine = engine.read().unwrap_or_else(PoisonError::into_inner);
    let engine = engine.as_ref().ok_or_else(|| StoreFailure("it is closed".to_owned()))?;
    read(&engine.db).map_err(|fault| match fault {
        Fault::Engine(_) => health.fail(fault.to_string()),
        Fault::Record(_) => {
            tracing::error!(error = %fault, "a record could not be read");
            StoreFailure(fault.to_string())
        }
    })
}

#[async_trait]
impl Store for SledStore {
    async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreFailure> {
        self.read(|tree| match self.recent.read(id, codec::decode) {
            Recent::Known(account) => Ok(Some(account?)),
            Recent::Unknown(number) => reads::account_to_keep(tree, id, |stored| self.recent.keep(id, number, stored)),
        })
    }

    async fn account_by_email(&self, key: &EmailKey) -> Result<Option<Account>, StoreFailure> {
        self.read(|tree| reads::account_by_email(tree, key))
    }

    async fn accounts(&self, page: Page) -> Result<Vec<ListedAccount>, StoreFailure> {
        self.scan(move |tree| reads::accounts(tree, page)).await
    }

    async fn listed_account(&self, id: AccountId) -> Result<Option<ListedAccount>, StoreFailure> {
        self.read(|tree| reads::listed_account(tree, id))
    }

    async fn had_admin(&self) -> Result<bool, StoreFailure> {
        self.read(|tree| Ok(reads::counter(tree, keys::HAD_ADMIN)? != 0))
    }

    async fn sessions(&self, shard: ShardOf) -> Result<Vec<Session>, StoreFailure> {
        self.scan(move |tree| reads::sessions(tree, shard)).await
    }

    async fn refresh_family(&self, account: AccountId, id: SessionId) -> Result<Option<RefreshFamily>, StoreFailure> {
        self.read(|tree| reads::refresh_family(tree, account, id))
    }

    async fn session(&self, account: AccountId, id: SessionId) -> Result<Option<Session>, StoreFailure> {
        self.read(|tree| reads::session(tree, account, id))
    }

    async fn recent_audit(&self, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreFailure> {
        self.scan(move |tree| reads::audit::recent(tree, limit)).await
    }

    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreFailure> {
        self.scan(move |tree| reads::audit::page(tree, &query)).await
    }

    async fn audit_status(&self) -> Result<AuditStatus, StoreFailure> {
        self.read(reads::audit::status)
    }

    fn audit_head(&self) -> watch::Receiver<u64> {
        self.audit_head.subscribe()
    }

    async fn one_time_token(&self, hash: &TokenHash) -> Result<Option<StoredToken>, StoreFailure> {
        self.read(|tree| reads::one_time_token(tree, hash))
    }

    async fn used_token(&self, hash: &TokenHash) -> Result<Option<UsedToken>, StoreFailure> {
        self.read(|tree| reads::used_token(tree, hash))
    }

    async fn token_of(&self, account: AccountId, purpose: TokenPurpose) -> Result<Option<StoredToken>, StoreFailure> {
        self.read(|tree| reads::token_of(tree, account, purpose))
    }

    async fn unverified_before(&self, time: Timestamp, limit: usize) -> Result<Vec<AccountId>, StoreFailure> {
        self.scan(move |tree| reads::unverified_before(tree, time, limit)).await
    }

    async fn knows_address(&self, account: AccountId, from: IpAddr) -> Result<bool, StoreFailure> {
        self.read(|tree| reads::knows_address(tree, account, from))
    }

    async fn failures(&self) -> Result<Vec<(FailureKey, StoredFailures)>, StoreFailure> {
        self.scan(reads::failures).await
    }

    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure> {
        self.scan(move |tree| reads::due_mails(tree, now, limit)).await
    }

    async fn mails(&self, after: Option<MailId>, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure> {
        self.scan(move |tree| reads::mails(tree, after, limit)).await
    }

    async fn create_account(
        &self,
        account: NewAccount,
        effects: Effects,
    ) -> Result<Account, StoreError<CreateAccountRefusal>> {
        self.committer.change(move |staging| changes::create_account(staging, account, effects)).await
    }

    async fn update_account(
        &self,
        update: AccountUpdate,
        effects: Effects,
    ) -> Result<Account, StoreError<UpdateAccountRefusal>> {
        self.committer.change(move |staging| changes::update_account(staging, &update, effects)).await
    }

    async fn delete_account(
        &self,
        id: AccountId,
        expected_revision: Option<u64>,
        acting: Option<Acting>,
        effects: Effects,
    ) -> Result<(), StoreError<DeleteAccountRefusal>> {
        self.committer
            .change(move |staging| changes::delete_account(staging, id, expected_revision, acting, effects))
            .await
    }

    async fn record(&self, account: AccountId, effects: Effects) -> Result<(), StoreError<RecordRefusal>> {
        self.committer.change(move |staging| changes::record(staging, account, effects)).await
    }

    async fn open_session(
        &self,
        session: Session,
        family: Option<RefreshFamily>,
        sign_in: Option<SignIn>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<OpenSessionRefusal>> {
        self.committer
            .change(move |staging| changes::open_session(staging, &session, family.as_ref(), sign_in, &audit))
            .await
    }

    async fn rotate_refresh(&self, used: RefreshUse) -> Result<RefreshOutcome, StoreError<RefreshRefusal>> {
        self.committer.change(move |staging| changes::rotate_refresh(staging, used)).await
    }

    async fn label_session(
        &self,
        account: AccountId,
        session: SessionId,
        label: Option<SessionLabel>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<UnknownSession>> {
        self.committer.change(move |staging| changes::label_session(staging, account, session, label, &audit)).await
    }

    async fn settle_mail(&self, id: MailId, outcome: MailOutcome) -> Result<(), StoreFailure> {
        self.note(move |staging| changes::settle_mail(staging, id, outcome)).await
    }

    async fn retry_mail(&self, id: MailId, at: Timestamp, audit: AuditRecord) -> Result<bool, StoreFailure> {
        self.note(move |staging| changes::retry_mail(staging, id, at, &audit)).await
    }

    async fn delete_mail(&self, id: MailId, audit: AuditRecord) -> Result<bool, StoreFailure> {
        self.note(move |staging| changes::delete_mail(staging, id, &audit)).await
    }

    async fn prune_mails(&self, now: Timestamp, limit: usize) -> Result<usize, StoreFailure> {
        self.note(move |staging| changes::prune_mails(staging, now, limit)).await
    }

    async fn end_sessions(
        &self,
        ended: Vec<Touch>,
        at: Timestamp,
        audit: Vec<AuditRecord>,
    ) -> Result<(), StoreFailure> {
        self.note(move |staging| changes::end_sessions(staging, &ended, at, &audit)).await
    }

    async fn touch_sessions(&self, touches: Vec<Touch>) -> Result<(), StoreFailure> {
        self.note(move |staging| changes::touch_sessions(staging, &touches)).await
    }

    async fn save_failures(&self, changed: Vec<(FailureKey, Option<StoredFailures>)>) -> Result<(), StoreFailure> {
        self.note(move |staging| changes::save_failures(staging, &changed)).await
    }

    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreFailure> {
        self.note(move |staging| changes::append_audit(staging, &records)).await
    }

    async fn append_audit_within(&self, records: Vec<AuditRecord>, most_refused: u64) -> Result<u64, StoreFailure> {
        self.note(move |staging| changes::append_audit_within(staging, &records, most_refused)).await
    }

    async fn prune_audit(&self, pruning: AuditPruning) -> Result<AuditPruned, StoreFailure> {
        self.note(move |staging| changes::prune_audit(staging, &pruning)).await
    }

    async fn probe(&self) -> Result<(), StoreFailure> {
        let written = self.note(changes::probe).await?;
        let read = self.read(|tree| reads::counter(tree, keys::PROBE))?;
        // Another probe may have come after.
        if read < written {
            return Err(self.health.fail(format!("the probe wrote {written} and read {read}")));
        }
        Ok(())
    }
}
