//! `doorward backup`, `verify-backup` and `restore`.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use doorward_actors::ports::{Clock as _, Entropy as _};
use doorward_actors::store::Engine;
use doorward_actors::{AuditEvent, AuditRecord};

use super::complain;
use crate::ambient::{SystemClock, SystemEntropy};
use crate::app::{self, BuildError};
use crate::backup::check::{Checked, Nowhere, PassError, pass};
use crate::backup::create::hex;
use crate::backup::format::Purpose;
use crate::backup::restore::{self, RestoreError, Wishes};
use crate::backup::source::{Source, kept_secret};
use crate::control::{self, CommandError, Request};
use crate::data_dir::owner;
use crate::engine::sled::{OpenError, SledEngine, moved};
use crate::files::NewFile;
use crate::offline;
use crate::run::RunError;
use crate::settings::Settings;
use crate::telemetry;

/// The name that stands for standard input or output.
const STREAM: &str = "-";

/// The arguments of `backup`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BackupArgs {
    /// The file to write. It appears when it is complete, and takes the place of an older one. `-` writes to standard output.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Leave out the generated secrets and the signing keys.
    #[arg(long)]
    pub no_secrets: bool,
    /// Move the accounts elsewhere: no program starts with this data directory any more, and a restore can keep the sessions.
    #[arg(long = "move")]
    pub moves: bool,
}

/// The arguments of `restore`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RestoreArgs {
    /// The backup to restore. `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Keep the sessions and the log of revocations. Only for a backup that `backup --move` made.
    #[arg(long)]
    pub keep_sessions: bool,
    /// Restore it although the settings or the data directory have another `SECRET_KEY` than its source.
    #[arg(long)]
    pub accept_other_secret: bool,
    /// Restore it although none of its accounts can administer the others.
    #[arg(long)]
    pub without_administrator: bool,
}

/// The arguments of `verify-backup`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct VerifyBackupArgs {
    /// The backup to check. `-` reads standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Accept that none of its accounts can administer the others.
    #[arg(long)]
    pub without_administrator: bool,
}

/// Makes a backup: of the server that uses the data directory, or of the data directory itself.
pub(super) async fn make(settings: Settings, args: BackupArgs) -> Result<(), RunError> {
    let to_stream = args.to.as_os_str() == STREAM;
    if to_stream && io::stdout().is_terminal() {
        return Err(RunError::Input { what: "--to", why: "standard output is a terminal; redirect it".to_owned() });
    }
    // An engine that is opened is made if there is none, and its empty backup would take the place of a good one.
    let data_dir = &settings.storage.data_dir;
    if !offline::has_database(data_dir) {
        let why = format!("there is no database in {}", data_dir.display());
        return Err(RunError::Input { what: "DATA_DIR", why });
    }
    let checked = match offline::open_engine(&settings).await {
        Ok(engine) => {
            let made = make_offline(&settings, &args, Arc::clone(&engine)).await;
            app::close_engine(engine, app::STOP_DEADLINE).await?;
            made?
        }
        Err(BuildError::Store(OpenError::InUse { .. })) if args.moves => {
            return Err(RunError::Input {
                what: "--move",
                why: "a server uses the data directory; stop it first".to_owned(),
            });
        }
        Err(BuildError::Store(OpenError::InUse { data_dir })) => ask_for(&data_dir, &args).await?,
        // A server that runs as the owner may be asked, because it writes nothing as root.
        Err(error @ BuildError::OtherOwner(_)) if !args.moves => match ask_for(data_dir, &args).await {
            Err(RunError::Command(CommandError::Unreachable { .. })) => return Err(error.into()),
            asked => asked?,
        },
        Err(error) => return Err(error.into()),
    };
    if checked.contents.lacks_administrator {
        telemetry::say(
            "doorward: warning: no account can administer the others; `doorward admin create` makes one. \
             A restore of this backup needs --without-administrator",
        );
    }
    report(&text(&checked), to_stream);
    Ok(())
}

/// Makes a backup of a data directory that no server uses.
async fn make_offline(settings: &Settings, args: &BackupArgs, engine: Arc<SledEngine>) -> Result<Checked, RunError> {
    let data_dir = settings.storage.data_dir.clone();
    let source = Source { engine: engine as Arc<dyn Engine>, data_dir, secret_key: settings.tokens.secret_key.clone() };
    let purpose = if args.moves { Purpose::Move } else { Purpose::Backup };
    let record = AuditRecord::new(AuditEvent::BackupMade, SystemClock::new().now());
    let begun = source.begin(purpose, !args.no_secrets, record, None).await?;
    let (header, files) = (begun.header.clone(), begun.files.len());
    let before_end = || if args.moves { moved::mark(&source.data_dir, &header.made_at) } else { Ok(()) };
    let mut out = Output::create(&args.to)?;
    let made = begun.write(&mut out, salt(), before_end).await;
    if made.is_err() && args.moves {
        // Nobody has a complete backup.
        let data_dir = &source.data_dir;
        moved::unmark(data_dir).map_err(|error| RunError::File { path: data_dir.clone(), source: error })?;
    }
    let (contents, digest) = made?;
    let completed = out.complete(&args.to);
    if completed.is_err() && args.moves && !args.to.exists() {
        // Nobody has a backup.
        let data_dir = &source.data_dir;
        moved::unmark(data_dir).map_err(|error| RunError::File { path: data_dir.clone(), source: error })?;
    }
    completed?;
    Ok(Checked { header, contents, files, digest })
}

/// Asks the server for a backup, and checks it on its way to the file.
async fn ask_for(data_dir: &Path, args: &BackupArgs) -> Result<Checked, RunError> {
    let mut input = control::command(data_dir, &Request::Backup { with_secrets: !args.no_secrets }).await?;
    let mut out = Output::create(&args.to)?;
    let checked = check(Tee { input: &mut input, out: &mut out });
    if let Some(why) = input.failure() {
        return Err(CommandError::Refused(why).into());
    }
    let checked =
        checked.map_err(|error| RunError::Input { what: "the backup that the server sent", why: error.to_string() })?;
    out.complete(&args.to)?;
    Ok(checked)
}

/// Where a backup goes.
enum Output {
    Stream(io::Stdout),
    File(NewFile),
}

impl Output {
    fn create(to: &Path) -> Result<Self, RunError> {
        if to.as_os_str() == STREAM {
            return Ok(Self::Stream(io::stdout()));
        }
        let file = NewFile::create(to).map_err(|source| RunError::File { path: to.to_owned(), source })?;
        Ok(Self::File(file))
    }

    fn complete(self, to: &Path) -> Result<(), RunError> {
        let done = match self {
            Self::Stream(mut out) => out.flush(),
            Self::File(file) => file.complete(),
        };
        done.map_err(|source| RunError::File { path: to.to_owned(), source })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(out) => out.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(out) => out.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

/// A reader that writes what it reads.
struct Tee<'a, R> {
    input: R,
    out: &'a mut Output,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.out.write_all(&buffer[..read])?;
        Ok(read)
    }
}

/// Checks a backup and prints what it contains.
pub(super) fn verify(args: &VerifyBackupArgs) -> ExitCode {
    let wishes = Wishes { without_administrator: args.without_administrator, ..Wishes::default() };
    let checked = read(&args.file).and_then(|input| accept(input, wishes));
    match checked {
        Ok(checked) => {
            super::print(&text(&checked));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn check(input: impl Read) -> Result<Checked, RunError> {
    let checked = pass(input, salt(), &mut Nowhere).map_err(|error| match error {
        PassError::Refused(refusal) => RestoreError::from(refusal),
        PassError::Sink(never) => match never {},
    });
    Ok(checked?)
}

/// Checks a backup, and whether a restore accepts it.
fn accept(input: impl Read, wishes: Wishes) -> Result<Checked, RunError> {
    let checked = check(input)?;
    restore::refuse_unwanted(&checked, wishes)?;
    Ok(checked)
}

/// Restores a backup into the data directory of the settings, which must have no database.
///
/// A file is checked as a whole before anything is written. What comes from a stream is checked on its way, and the database appears
/// after its end.
pub(super) fn restore(settings: &Settings, args: &RestoreArgs) -> Result<(), RunError> {
    let data_dir = &settings.storage.data_dir;
    owner::check(data_dir).map_err(BuildError::from)?;
    let wishes = Wishes {
        keep_sessions: args.keep_sessions,
        other_secret: args.accept_other_secret,
        without_administrator: args.without_administrator,
    };
    if args.from.as_os_str() != STREAM {
        accept(read(&args.from)?, wishes)?;
    }
    let kept = kept_secret(data_dir)?;
    let configured = settings.tokens.secret_key.as_ref();
    let moment = (SystemClock::new().now(), salt());
    let checked = restore::restore(read(&args.from)?, data_dir, configured, kept.as_ref(), wishes, moment)?;
    if checked.header.secret_key.is_some() && configured.is_none() && kept_secret(data_dir)?.is_none() {
        telemetry::say(
            "doorward: warning: the backup has no secrets. Put secret_key and keys/ of its source into the data directory, or set \
             SECRET_KEY: else the next start makes a new secret, and links in mails that were sent are dead",
        );
    }
    let sessions = match (checked.contents.sessions, wishes.keep_sessions) {
        (0, _) => "It had no sessions.".to_owned(),
        (sessions, true) => format!("Its {sessions} sessions live on."),
        (sessions, false) => format!("Its {sessions} sessions were ended."),
    };
    super::print(&format!("Restored into {}. {sessions}\n{}", data_dir.display(), text(&checked)));
    Ok(())
}

fn read(path: &Path) -> Result<Box<dyn Read>, RunError> {
    if path.as_os_str() == STREAM {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(|source| RunError::File { path: path.to_owned(), source })?;
    Ok(Box::new(BufReader::new(file)))
}

fn salt() -> [u8; 32] {
    let mut salt = [0; 32];
    SystemEntropy.fill(&mut salt);
    salt
}

fn text(checked: &Checked) -> String {
    let Checked { header, contents, files, digest } = checked;
    let what = match header.purpose {
        Purpose::Backup => "Backup",
        Purpose::Move => "Move",
    };
    format!(
        "{what} of {}: {} accounts, {} sessions, {} rows, as of commit {}, with {files} files of secrets and keys.\n\
         Audit head: {}\nDigest: {}\n",
        header.made_at,
        contents.accounts,
        contents.sessions,
        contents.rows,
        contents.commits,
        contents.audit_head,
        hex(*digest),
    )
}

/// Prints the result, beside the backup if that takes standard output.
fn report(text: &str, to_stderr: bool) {
    if to_stderr {
        telemetry::say(text.trim_end());
    } else {
        super::print(text);
    }
}
