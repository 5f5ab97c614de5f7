//! Fills an empty data directory from a backup.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use doorward_actors::store::engine::Row;
use doorward_actors::store::migrations;
use doorward_actors::store::restored::{self, Restoration};
use doorward_actors::{AuditEvent, KeyId, Secret, Timestamp};

use super::check::{Checked, PassError, Refusal, Sink, pass};
use super::format::{Header, Purpose};
use crate::engine::sled::{Loader, OpenError, SledOptions};
use crate::files::{create_private_dir, write_whole};

/// Why a backup was not restored. The data directory has no database then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// The backup is refused.
    #[error("the backup is refused: {0}")]
    Refused(#[from] Refusal),
    /// The data directory cannot be filled.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A file of the backup is in the data directory already, and differs.
    #[error("{} is there already and differs from the one in the backup; take it away first", .0.display())]
    OtherFile(PathBuf),
    /// A file cannot be written.
    #[error("cannot use {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The sessions cannot be kept.
    #[error(
        "--keep-sessions takes only a backup that `doorward backup --move` made: the source of another one goes on, and nobody knows \
         which of its sessions ended since"
    )]
    SourceGoesOn,
    /// The server would have another secret than that of the backup.
    #[error(
        "the backup belongs to another SECRET_KEY than {0}. With another one, links in mails that were sent are dead; \
         say --accept-other-secret to restore it nevertheless"
    )]
    OtherSecret(&'static str),
}

/// What the operator wants.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wishes {
    /// Keep the sessions and the log of revocations.
    pub(crate) keep_sessions: bool,
    /// Restore under another secret.
    pub(crate) other_secret: bool,
    /// Restore accounts that nobody can administer.
    pub(crate) without_administrator: bool,
}

/// The data directory as it is filled.
struct Filling<'a> {
    loader: Loader,
    data_dir: &'a Path,
    files: Vec<(String, Secret)>,
}

impl Sink for Filling<'_> {
    type Error = RestoreError;

    fn file(&mut self, name: &str, content: &[u8]) -> Result<(), RestoreError> {
        let path = self.data_dir.join(name);
        let file = |source| RestoreError::File { path: path.clone(), source };
        let text = String::from_utf8(content.to_vec());
        let text = Secret::new(text.map_err(|_| file(io::Error::from(io::ErrorKind::InvalidData)))?);
        match std::fs::read(&path) {
            // An interrupted restore of this backup may have written it.
            Ok(present) if present != content => return Err(RestoreError::OtherFile(path)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(error)),
            _ => self.files.push((name.to_owned(), text)),
        }
        Ok(())
    }

    fn rows(&mut self, rows: &[Row]) -> Result<(), RestoreError> {
        Ok(self.loader.put(rows)?)
    }
}

/// Refuses a good backup that does not fit the wishes.
pub(crate) fn refuse_unwanted(checked: &Checked, wishes: Wishes) -> Result<(), RestoreError> {
    if wishes.keep_sessions && checked.header.purpose != Purpose::Move {
        return Err(RestoreError::SourceGoesOn);
    }
    if checked.contents.lacks_administrator && !wishes.without_administrator {
        return Err(Refusal::NoAdministrator.into());
    }
    Ok(())
}

/// Restores a backup into a data directory that has no database. The database appears in it when everything else is done.
///
/// `configured` is the secret of the settings, `kept` that in the data directory. The check is that of [`pass`].
pub(crate) fn restore(
    input: impl Read,
    data_dir: &Path,
    configured: Option<&Secret>,
    kept: Option<&Secret>,
    wishes: Wishes,
    (now, salt): (Timestamp, [u8; 32]),
) -> Result<Checked, RestoreError> {
    let loader = Loader::begin(data_dir, SledOptions::default())?;
    let mut filling = Filling { loader, data_dir, files: Vec::new() };
    let checked = pass(input, salt, &mut filling).map_err(|error| match error {
        PassError::Refused(refusal) => refusal.into(),
        PassError::Sink(error) => error,
    })?;
    refuse_unwanted(&checked, wishes)?;
    let Filling { mut loader, files, .. } = filling;
    let in_file = files.iter().find(|(name, _)| name == crate::app::SECRET_KEY_FILE).map(|(_, secret)| secret);
    if !wishes.other_secret {
        compare_secrets(&checked.header, configured, in_file.or(kept))?;
    }
    while loader.step(|view| migrations::step(view))? == migrations::Progress::More {}
    if !wishes.keep_sessions {
        let restoration = loader.read(|rows| Restoration::of(rows, now))?;
        while loader.step(|view| Ok(restoration.step(view)?))? == migrations::Progress::More {}
    }
    loader.step(|view| {
        restored::end_first_user_rule(view)?;
        restored::record(view, AuditEvent::BackupRestored, now)?;
        Ok(migrations::Progress::Done)
    })?;
    for (name, content) in &files {
        write_file(&data_dir.join(name), content)?;
    }
    loader.finish()?;
    Ok(checked)
}

fn write_file(path: &Path, content: &Secret) -> Result<(), RestoreError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let written = path.parent().map_or(Ok(()), create_private_dir);
    let written = written.and_then(|()| write_whole(path, Path::new(&unfinished), content.expose().as_bytes()));
    written.map_err(|source| RestoreError::File { path: path.to_owned(), source })
}

/// Compares the secret that the server will have with the one of the backup. The settings come first, as at a start.
fn compare_secrets(
    header: &Header,
    configured: Option<&Secret>,
    in_directory: Option<&Secret>,
) -> Result<(), RestoreError> {
    let (secret, whose) = match (configured, in_directory) {
        (Some(secret), _) => (secret, "that of the settings"),
        (None, Some(secret)) => (secret, "the one in the data directory"),
        (None, None) => return Ok(()),
    };
    let differs = header.secret_key.as_deref().is_some_and(|expected| KeyId::of_secret(secret).as_str() != expected);
    if differs { Err(RestoreError::OtherSecret(whose)) } else { Ok(()) }
}
