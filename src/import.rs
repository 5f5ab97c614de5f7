//! `doorward import`: brings the accounts of another system into a data directory, by itself or through the server that has it open.
//!
//! The file is read twice. First it is checked as a whole, and if something forbids the import, nothing is written. Then its accounts
//! are written in batches, one commit after the other. An import that was interrupted is continued by the same command.

mod auth_service;
mod ndjson;
mod report;
mod server;
mod target;
mod wire;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use doorward_actors::store::engine::memory::MemoryEngine;
use doorward_actors::store::{Engine, Store};
use doorward_actors::{
    AccountId, AccountToImport, HashForm, ImportOutcome, Importer, Locale, MAX_HASH_FORMS, Nickname, NumberStanding,
    OperatorPorts, Role, StartError, Timestamp,
};
use tokio::sync::mpsc;

use crate::app::{self, Ambient, BuildError, Ended};
use crate::backup::live::give_way;
use crate::control::{self, CommandError};
use crate::engine::dry_run::DryRun;
use crate::engine::sled::{OpenError, SledEngine};
use crate::offline;
use crate::settings::Settings;
use crate::telemetry;
use auth_service::{AuthService, AuthServiceError};
pub(crate) use ndjson::AccountLine;
use ndjson::NdjsonError;
use report::{Note, Reason, Report, Subject};
pub(crate) use server::serve;
use target::{Connection, Target, TargetError};

/// The highest account number that an import accepts: the highest that every JSON reader keeps exactly.
const NUMBER_LIMIT: u64 = (1 << 53) - 1;
/// The number of account numbers that are looked up at once.
const NUMBERS_AT_ONCE: usize = 8192;
/// The number of batches that are read ahead.
const READ_AHEAD: usize = 2;

/// What to import, and how.
#[derive(Debug, Clone)]
pub(crate) struct ImportRequest {
    /// Where the accounts are.
    pub(crate) source: Source,
    /// Whether all addresses count as verified.
    pub(crate) verified: bool,
    /// Whether to report only what would be done.
    pub(crate) dry_run: bool,
    /// The file for the report. Standard output without one.
    pub(crate) report: Option<PathBuf>,
}

/// A file of accounts.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// The database of the auth service that Doorward replaces.
    AuthService(PathBuf),
    /// Lines of JSON, as `doorward export` writes them.
    Ndjson(PathBuf),
}

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// A database.
    #[error(transparent)]
    AuthService(#[from] AuthServiceError),
    /// Lines of JSON.
    #[error(transparent)]
    Ndjson(#[from] NdjsonError),
}

impl Source {
    /// Opens the file, checks it, and hands over every account in it. Stops when `each` returns false.
    fn read(&self, defaults: Defaults, each: impl FnMut(Item) -> bool) -> Result<(), SourceError> {
        match self {
            Self::AuthService(file) => AuthService::open(file)?.read(defaults, each)?,
            Self::Ndjson(file) => ndjson::read(file, defaults, each)?,
        }
        Ok(())
    }
}

/// Why an import did not finish.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportFailure {
    /// The data directory cannot be opened.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The data directory could not be closed.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The file cannot be imported.
    #[error("{0}; nothing was imported")]
    Source(#[from] SourceError),
    /// The file changed or broke after it was checked.
    #[error("{source}; {done} accounts were imported before, and the same command continues")]
    Interrupted {
        /// What happened.
        source: SourceError,
        /// The accounts that were imported.
        done: u64,
    },
    /// Account numbers are taken.
    #[error("the account number {first} is taken here by an account that was not imported{more}; nothing was imported")]
    NumbersTaken {
        /// The first of them.
        first: AccountId,
        /// How many more there are, as text.
        more: String,
    },
    /// The passwords are hashed in too many ways.
    #[error(
        "the passwords are hashed in {0} ways (algorithm and cost), and at most {MAX_HASH_FORMS} are possible; nothing was imported"
    )]
    TooManyHashForms(usize),
    /// The report cannot be begun.
    #[error("the report {}: {source}; nothing was imported", .file.display())]
    Report {
        /// Its path.
        file: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The report cannot be written any more.
    #[error(
        "the report cannot be written: {source}; {done} accounts were imported before, and the same command continues"
    )]
    ReportBroken {
        /// What happened.
        source: io::Error,
        /// The accounts that were imported.
        done: u64,
    },
    /// The server that has the data directory open cannot be asked.
    #[error("{0}; nothing was imported")]
    Server(#[from] CommandError),
    /// What is there cannot be read.
    #[error("{0}; nothing was imported")]
    Target(#[from] TargetError),
    /// A batch could not be written.
    #[error("{source}; {done} accounts were imported before, and the same command continues")]
    Batch {
        /// What happened.
        source: TargetError,
        /// The accounts that were imported.
        done: u64,
    },
}

/// What is assumed of accounts whose file does not say.
#[derive(Debug, Clone, Copy)]
struct Defaults {
    verified: bool,
    locale: Locale,
    now: Timestamp,
}

/// One account of a file, as far as it can be imported.
enum Item {
    /// An account, with notes about what it could not keep.
    Account { subject: Subject, account: Box<AccountToImport>, notes: Vec<Note> },
    /// An account that cannot be imported.
    Skipped(Subject, Note),
}

/// What the first reading of a file found.
#[derive(Default)]
struct Overview {
    accounts: u64,
    numbers: Vec<AccountId>,
    forms: BTreeSet<HashForm>,
}

impl Overview {
    fn add(&mut self, item: &Item) {
        self.accounts += 1;
        if let Item::Account { account, .. } = item {
            self.numbers.extend(account.account.id);
            self.forms.extend(account.account.password_hash.as_ref().and_then(HashForm::of));
        }
    }
}

/// Imports the accounts of a file. Returns whether all of them came along with all of their parts.
pub(crate) async fn run(settings: Settings, request: ImportRequest) -> Result<bool, ImportFailure> {
    let ambient = Ambient::default();
    let defaults = Defaults { verified: request.verified, locale: settings.mail.locale, now: ambient.clock.now() };
    // Read before the data directory is opened, so that a wrong file does not even create one.
    let source = request.source.clone();
    let overview = blocking(move || {
        let mut overview = Overview::default();
        source.read(defaults, |item| {
            overview.add(&item);
            true
        })?;
        Ok::<_, SourceError>(overview)
    })
    .await?;
    let opened = match Opened::open(&settings, request.dry_run).await {
        Ok(opened) => opened,
        Err(error @ (BuildError::Store(OpenError::InUse { .. }) | BuildError::OtherOwner(_))) => {
            let connection = match control::import(&settings.storage.data_dir, request.dry_run).await {
                Ok(stream) => Connection(stream),
                // Without a server, the reason is that root may not open the directory.
                Err(CommandError::Unreachable { .. }) if matches!(error, BuildError::OtherOwner(_)) => {
                    return Err(error.into());
                }
                Err(error) => return Err(error.into()),
            };
            // The server hashes, too, for people who wait.
            give_way();
            let engine = Arc::new(MemoryEngine::default()) as Arc<dyn Engine>;
            let target = Target::There(importer(engine, &settings, &ambient)?, Box::new(connection));
            return carry_out(target, &request, defaults, overview).await;
        }
        Err(error) => return Err(error.into()),
    };
    let target = Target::Here(importer(Arc::clone(&opened.engine), &settings, &ambient)?);
    let outcome = carry_out(target, &request, defaults, overview).await;
    opened.close().await?;
    outcome
}

fn importer(engine: Arc<dyn Engine>, settings: &Settings, ambient: &Ambient) -> Result<Importer, BuildError> {
    let ports = OperatorPorts {
        store: Store::new(engine, u64::MAX),
        clock: Arc::clone(&ambient.clock),
        entropy: Arc::clone(&ambient.entropy),
        breached: None,
    };
    Importer::start(ports, app::hasher_settings(settings)).map_err(|error| StartError::from(error).into())
}

/// Runs work that blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// The rows that an import reads and writes.
struct Opened {
    engine: Arc<dyn Engine>,
    /// The engine of the data directory, to be closed.
    sled: Option<Arc<SledEngine>>,
}

impl Opened {
    /// Opens the data directory. A dry run writes to memory only, and creates no data directory.
    async fn open(settings: &Settings, dry_run: bool) -> Result<Self, BuildError> {
        if !dry_run {
            let sled = offline::open_engine(settings).await?;
            return Ok(Self { engine: Arc::clone(&sled) as Arc<dyn Engine>, sled: Some(sled) });
        }
        let sled = if offline::has_database(&settings.storage.data_dir) {
            Some(offline::open_engine(settings).await?)
        } else {
            None
        };
        let base = match &sled {
            Some(sled) => Arc::clone(sled) as Arc<dyn Engine>,
            None => Arc::new(MemoryEngine::default()),
        };
        Ok(Self { engine: Arc::new(DryRun::over(base)), sled })
    }

    async fn close(self) -> Result<(), Ended> {
        drop(self.engine);
        match self.sled {
            Some(sled) => app::close_engine(sled, app::STOP_DEADLINE).await,
            None => Ok(()),
        }
    }
}

/// Checks an import and does it. Returns whether all accounts came along with all of their parts.
async fn carry_out(
    mut target: Target,
    request: &ImportRequest,
    defaults: Defaults,
    overview: Overview,
) -> Result<bool, ImportFailure> {
    check(&mut target, &overview).await?;
    let report = Report::begin(request.report.as_deref())
        .map_err(|source| ImportFailure::Report { file: request.report.clone().unwrap_or_default(), source })?;
    let had_admin = target.had_admin().await?;
    let last_number = overview.numbers.iter().copied().max();
    let mut work = Work { target, report, last_number, admins: 0, progress: Progress::new(overview.accounts) };
    if !request.dry_run {
        work.target.log_audit_head().await;
    }
    let outcome = work.write_all(request.source.clone(), defaults).await;
    if !request.dry_run {
        work.target.log_audit_head().await;
    }
    work.progress.end();
    let done = work.report.created;
    outcome.and(work.report.flush().map_err(|source| ImportFailure::ReportBroken { source, done }))?;
    work.tell(request, had_admin);
    Ok(!work.report.is_incomplete())
}

/// Checks what forbids the whole import, before anything is written.
async fn check(target: &mut Target, overview: &Overview) -> Result<(), ImportFailure> {
    let mut taken = Vec::new();
    for numbers in overview.numbers.chunks(NUMBERS_AT_ONCE) {
        let standings = target.number_standings(numbers.to_vec()).await?;
        let is_taken =
            |(id, standing): (&AccountId, NumberStanding)| (standing == NumberStanding::Taken).then_some(*id);
        taken.extend(numbers.iter().zip(standings).filter_map(is_taken));
    }
    if let Some(first) = taken.first().copied() {
        let more = if taken.len() > 1 { format!(" (and {} more)", taken.len() - 1) } else { String::new() };
        return Err(ImportFailure::NumbersTaken { first, more });
    }
    let mut forms = overview.forms.clone();
    forms.extend(target.hash_forms().await?);
    if forms.len() > MAX_HASH_FORMS {
        return Err(ImportFailure::TooManyHashForms(forms.len()));
    }
    Ok(())
}

/// An import under way.
struct Work {
    target: Target,
    report: Report,
    last_number: Option<AccountId>,
    /// The administrators that were created.
    admins: u64,
    progress: Progress,
}

impl Work {
    /// Reads the file again, and writes its accounts batch by batch.
    async fn write_all(&mut self, source: Source, defaults: Defaults) -> Result<(), ImportFailure> {
        let (sender, mut batches) = mpsc::channel::<Vec<Item>>(READ_AHEAD);
        let size = self.target.batch();
        let reading = tokio::task::spawn_blocking(move || {
            let mut batch = Vec::with_capacity(size);
            source.read(defaults, |item| {
                batch.push(item);
                // If nobody takes batches any more, the import failed and says why.
                batch.len() < size || sender.blocking_send(std::mem::take(&mut batch)).is_ok()
            })?;
            // As above.
            let _ = sender.blocking_send(batch);
            Ok(())
        });
        while let Some(batch) = batches.recv().await {
            self.write(batch).await?;
        }
        match reading.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(ImportFailure::Interrupted { source, done: self.report.created }),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Writes a batch in one commit, and reports on it.
    async fn write(&mut self, batch: Vec<Item>) -> Result<(), ImportFailure> {
        let size = batch.len();
        let accounts = batch.iter().filter_map(|item| match item {
            Item::Account { account, .. } => Some((**account).clone()),
            Item::Skipped(..) => None,
        });
        let done = self.report.created;
        let outcomes = self.target.import(accounts.collect(), self.last_number).await;
        let outcomes = outcomes.map_err(|source| ImportFailure::Batch { source, done })?;
        // Counted before the report is written, which may fail.
        let created = outcomes.iter().filter(|outcome| matches!(outcome, ImportOutcome::Created { .. })).count();
        self.report.created += u64::try_from(created).unwrap_or(u64::MAX);
        let done = self.report.created;
        let mut outcomes = outcomes.into_iter();
        for item in batch {
            let told = match item {
                Item::Skipped(subject, note) => self.report.tell(&subject, &note),
                Item::Account { subject, account, notes } => match outcomes.next() {
                    Some(outcome) => self.settle(&subject, &account, notes, outcome),
                    None => Ok(()),
                },
            };
            told.map_err(|source| ImportFailure::ReportBroken { source, done })?;
        }
        self.progress.add(size);
        Ok(())
    }

    /// Reports what became of an account.
    fn settle(
        &mut self,
        subject: &Subject,
        account: &AccountToImport,
        notes: Vec<Note>,
        outcome: ImportOutcome,
    ) -> io::Result<()> {
        match outcome {
            ImportOutcome::Created { renamed, .. } => {
                self.admins += u64::from(account.account.role == Role::Admin && !account.account.locked);
                let renamed = renamed.map(|name| {
                    let detail = format!("another account has its nickname, and it is called {name}");
                    Note::new(Reason::NicknameTaken, detail)
                });
                notes.into_iter().chain(renamed).try_for_each(|note| self.report.tell(subject, &note))
            }
            ImportOutcome::LeftAlone { same_email } => {
                self.report.left_alone += 1;
                if same_email {
                    return Ok(());
                }
                let detail = "it was imported earlier and has another address now";
                self.report.tell(subject, &Note::new(Reason::EmailChangedSince, detail))
            }
            ImportOutcome::DeletedSince => {
                self.report.left_alone += 1;
                let detail = "it was imported earlier and deleted since";
                self.report.tell(subject, &Note::new(Reason::DeletedSince, detail))
            }
            ImportOutcome::EmailTaken { by } => {
                let detail = match by {
                    Some(by) => format!("account {by} has this address, maybe in other letter case"),
                    None => "another account can go back to this address for now".to_owned(),
                };
                self.report.tell(subject, &Note::new(Reason::EmailTaken, detail))
            }
        }
    }

    /// Tells the operator the result.
    fn tell(&self, request: &ImportRequest, had_admin: bool) {
        let Report { created, left_alone, skipped, left_out, changed, .. } = &self.report;
        let imported = if request.dry_run { "would be imported (dry run)" } else { "imported" };
        telemetry::say(&format!(
            "doorward: {created} accounts {imported}, {left_alone} imported earlier and left alone, {skipped} skipped; \
             {left_out} parts of accounts left out, {changed} changed by a rule"
        ));
        if *created > 0 && self.admins == 0 && !had_admin {
            telemetry::say(
                "doorward: no administrator came along, and nobody becomes one by registering first; \
                 create one with `doorward admin create`",
            );
        }
    }
}

/// A line on the terminal that shows how far an import is. Nothing if standard error is no terminal.
struct Progress {
    done: u64,
    all: u64,
    shows: bool,
}

impl Progress {
    fn new(all: u64) -> Self {
        Self { done: 0, all, shows: io::stderr().is_terminal() }
    }

    fn add(&mut self, accounts: usize) {
        self.done += u64::try_from(accounts).unwrap_or(0);
        if self.shows {
            // A terminal that is gone shows nothing.
            let _ = write!(io::stderr(), "\r{} of {} accounts", self.done, self.all);
        }
    }

    fn end(&self) {
        if self.shows && self.done > 0 {
            let _ = writeln!(io::stderr());
        }
    }
}

/// Returns a name without what a nickname must not have, or else the other one.
fn cleaned_nickname(typed: &str, otherwise: Nickname) -> Nickname {
    // The longest name that is read at all.
    let visible: String = typed.chars().take(1024).filter(|c| Nickname::parse(&format!("x{c}x")).is_ok()).collect();
    let short: String = visible.trim().chars().take(64).collect();
    Nickname::parse(&short).unwrap_or(otherwise)
}
