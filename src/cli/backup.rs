//! `doorward backup`, `verify-backup` and `restore`.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use doorward_actors::ports::{Clock as _, Entropy as _};
use doorward_actors::store::engine::{Engine as _, Verdict};
use doorward_actors::store::restored;
use doorward_actors::{AuditEvent, KeyId, Secret};

use super::complain;
use crate::ambient::{SystemClock, SystemEntropy};
use crate::app::{self, BuildError, SECRET_KEY_FILE, SERVICE_TOKEN_FILE};
use crate::backup::check::{Checked, Nowhere, PassError, pass};
use crate::backup::create::{self, hex};
use crate::backup::format::{Header, Purpose};
use crate::backup::restore::{self, RestoreError, Wishes};
use crate::data_dir::key_files::KeyFiles;
use crate::data_dir::secrets;
use crate::engine::sled::moved;
use crate::files::NewFile;
use crate::run::RunError;
use crate::settings::Settings;
use crate::telemetry;

/// The name that stands for standard input or output.
const STREAM: &str = "-";
/// How long the last commit of a command may take.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

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

/// Makes a backup of a data directory that no server has open.
pub(super) async fn make(settings: Settings, args: BackupArgs) -> Result<(), RunError> {
    let data_dir = &settings.storage.data_dir;
    let to_stream = args.to.as_os_str() == STREAM;
    if to_stream && io::stdout().is_terminal() {
        return Err(RunError::Input { what: "--to", why: "standard output is a terminal; redirect it".to_owned() });
    }
    let clock = SystemClock::new();
    let engine = app::open_engine(&settings).await?;
    let now = clock.now();
    let audit = move |view: &mut dyn doorward_actors::store::engine::View| {
        restored::record(view, AuditEvent::BackupMade, now)?;
        Ok(Verdict::Keep)
    };
    engine.commit(Box::new(audit)).await.map_err(create::CreateError::from)?;
    let export = engine.export().await.map_err(create::CreateError::from)?;
    let kept = kept_secret(data_dir)?;
    let secret = settings.tokens.secret_key.as_ref().or(kept.as_ref());
    let purpose = if args.moves { Purpose::Move } else { Purpose::Backup };
    let header = Header::new(now, purpose, secret.map(KeyId::of_secret).as_ref(), !args.no_secrets);
    let files = if args.no_secrets { Vec::new() } else { secret_files(data_dir)? };
    let before_end = || if args.moves { moved::mark(data_dir, &header.made_at) } else { Ok(()) };
    let at = |source| RunError::File { path: args.to.clone(), source };
    let made = if to_stream {
        create::write(io::stdout().lock(), &header, &files, export, salt(), before_end).await.map(|made| (made, None))
    } else {
        let mut file = NewFile::create(&args.to).map_err(at)?;
        create::write(&mut file, &header, &files, export, salt(), before_end).await.map(|made| (made, Some(file)))
    };
    if made.is_err() && args.moves {
        // Nobody has a complete backup.
        moved::unmark(data_dir).map_err(|source| RunError::File { path: data_dir.clone(), source })?;
    }
    app::close_engine(Arc::clone(&engine), STOP_DEADLINE).await?;
    let ((contents, digest), file) = made?;
    file.map_or(Ok(()), NewFile::complete).map_err(at)?;
    let checked = Checked { header, contents, files: files.len(), digest };
    if checked.contents.lacks_administrator {
        telemetry::say(
            "doorward: warning: no account can administer the others; `doorward admin create` makes one. \
             A restore of this backup needs --without-administrator",
        );
    }
    report(&text(&checked), to_stream);
    Ok(())
}

/// Checks a backup and prints what it contains.
pub(super) fn verify(args: &VerifyBackupArgs) -> ExitCode {
    let wishes = Wishes { without_administrator: args.without_administrator, ..Wishes::default() };
    let checked = read(&args.file).and_then(|input| check(input, wishes));
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

fn check(input: Box<dyn Read>, wishes: Wishes) -> Result<Checked, RunError> {
    let checked = pass(input, salt(), &mut Nowhere).map_err(|error| match error {
        PassError::Refused(refusal) => RestoreError::from(refusal),
        PassError::Sink(never) => match never {},
    })?;
    restore::refuse_unwanted(&checked, wishes)?;
    Ok(checked)
}

/// Restores a backup into the data directory of the settings, which must have no database.
///
/// A file is checked as a whole before anything is written. What comes from a stream is checked on its way, and the database appears
/// after its end.
pub(super) fn restore(settings: &Settings, args: &RestoreArgs) -> Result<(), RunError> {
    let data_dir = &settings.storage.data_dir;
    let wishes = Wishes {
        keep_sessions: args.keep_sessions,
        other_secret: args.accept_other_secret,
        without_administrator: args.without_administrator,
    };
    if args.from.as_os_str() != STREAM {
        check(read(&args.from)?, wishes)?;
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

/// Returns the generated signing secret of the data directory, if there is one.
fn kept_secret(data_dir: &Path) -> Result<Option<Secret>, BuildError> {
    secrets::load(data_dir, SECRET_KEY_FILE).map_err(|source| BuildError::Secret { file: SECRET_KEY_FILE, source })
}

/// Returns the generated secrets and the signing keys of the data directory, by their names in it.
fn secret_files(data_dir: &Path) -> Result<Vec<(String, Secret)>, RunError> {
    let mut files = Vec::new();
    for file in [SECRET_KEY_FILE, SERVICE_TOKEN_FILE] {
        let secret = secrets::load(data_dir, file).map_err(|source| BuildError::Secret { file, source })?;
        files.extend(secret.map(|secret| (file.to_owned(), secret)));
    }
    let keys = KeyFiles::in_data_dir(data_dir).contents();
    files.extend(keys.map_err(|failure| RunError::Input { what: "the signing keys", why: failure.to_string() })?);
    Ok(files)
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
