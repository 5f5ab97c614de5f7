//! Opens the engine. Checks its files first, and refuses an engine that has lost data.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorward_actors::store::engine::View;
use doorward_actors::store::migrations::{self, Progress};
use doorward_actors::store::overlay::Overlay;
use doorward_actors::store::{self, layout};

use super::witness::Witness;
use super::{OpenError, SledOptions, Tree, heads, load, sync};
use crate::files::{create_private_dir, sync_dir};

/// How often the engine cleans up and flushes in the background, in milliseconds. Its garbage collection depends on it.
const FLUSH_EVERY_MS: u64 = 500;
/// How often and how long to wait until an engine of this same process has closed its files: 5 s in total.
const REOPEN_TRIES: u32 = 500;
const REOPEN_PAUSE: Duration = Duration::from_millis(10);
/// The shortest parameter file that the engine reads, in bytes. The engine replaces a shorter one.
const MIN_PARAMETERS: usize = 9;

/// Returns the path of the engine in a data directory.
pub(super) fn dir(data_dir: &Path) -> PathBuf {
    data_dir.join("db")
}

/// Opens the engine of a data directory and migrates it to the current layout. Creates the engine if there never was one.
/// The caller holds the lock. Returns the number of commits in the engine, all of which are durable.
pub(super) fn open_or_make(data_dir: &Path, options: SledOptions) -> Result<(sled::Db, u64), OpenError> {
    let (engine_dir, witness) = (dir(data_dir), Witness::of(data_dir));
    let db = open(data_dir, options)?;
    migrate(&db)?;
    // Each start makes one commit of its own: this write shows whether the engine syncs.
    let commits = store::commits_of(&Tree(&db))? + 1;
    let before = sync::calls();
    apply(&db, |view| Ok::<_, OpenError>(store::note_commits(view, commits)?))?;
    db.flush()?;
    if cfg!(target_os = "linux") && sync::calls() == before {
        return Err(OpenError::Unsynced);
    }
    let durable = sync_files(&engine_dir).and_then(|()| sync_dir(data_dir)).and_then(|()| witness.note(commits));
    durable.map_err(|error| OpenError::at(data_dir, error))?;
    Ok((db, commits))
}

/// Migrates the rows to the current layout. Each step is a batch of its own.
fn migrate(db: &sled::Db) -> Result<(), OpenError> {
    while apply(db, migrations::step)? != Progress::Done {}
    Ok(())
}

/// Applies what a step writes, as one batch that is not durable yet. For an engine that nobody else uses.
pub(super) fn apply<T, E>(db: &sled::Db, step: impl FnOnce(&mut dyn View) -> Result<T, E>) -> Result<T, OpenError>
where
    OpenError: From<E>,
{
    let tree = Tree(db);
    let mut overlay = Overlay::new(&tree);
    let done = step(&mut overlay)?;
    overlay.keep();
    db.apply_batch(super::batch(&overlay.into_writes()))?;
    Ok(done)
}

/// Opens the engine of a data directory. The caller holds the lock. Changes no record.
/// Refuses an engine that is missing, empty or older than it was, if possible before the engine writes to its file.
pub(super) fn open(data_dir: &Path, options: SledOptions) -> Result<sled::Db, OpenError> {
    load::check(data_dir)?;
    let (engine_dir, noted) = (dir(data_dir), Witness::of(data_dir).commits()?);
    let at = |error| OpenError::at(&engine_dir, error);
    let lost = || OpenError::Lost { data_dir: data_dir.to_owned() };
    let heads = if engine_dir.exists() { heads::check(&engine_dir).map_err(at)? } else { None }.unwrap_or_default();
    if heads.blanked > 0 {
        tracing::warn!(
            segments = heads.blanked,
            "removed the remains of changes that a power cut interrupted; none of them was acknowledged"
        );
    }
    if noted.is_some() && heads.used == 0 {
        return Err(lost());
    }
    create_private_dir(&engine_dir).map_err(at)?;
    remove_leftovers(&engine_dir).map_err(at)?;
    let db = open_files(&engine_dir, options)?;
    // If a process was killed during the first start of an older version, there may be one segment without a layout, but never more.
    if !db.contains_key(layout::FORMAT_VERSION)? && (noted.is_some() || heads.used > 1) {
        return Err(lost());
    }
    let (found, noted) = (store::commits_of(&Tree(&db))?, noted.unwrap_or(0));
    if found < noted {
        return Err(OpenError::OlderData { data_dir: data_dir.to_owned(), found, noted });
    }
    Ok(db)
}

/// Renames an engine directory that has no data. The next start then creates a new one. The caller syncs the data directory.
pub(super) fn put_aside_if_empty(data_dir: &Path) -> Result<(), OpenError> {
    let (engine_dir, aside) = (dir(data_dir), data_dir.join("db.lost"));
    if !engine_dir.exists() {
        return Ok(());
    }
    let heads = heads::check(&engine_dir).map_err(|error| OpenError::at(&engine_dir, error))?;
    if heads.unwrap_or_default().used == 0 {
        std::fs::rename(&engine_dir, &aside).map_err(|error| OpenError::at(&aside, error))?;
    }
    Ok(())
}

/// Opens the engine's files.
/// This process already holds the lock of the directory. If the files are still locked, the owner is an engine of this process
/// whose background threads have not ended yet.
pub(super) fn open_files(engine_dir: &Path, options: SledOptions) -> Result<sled::Db, OpenError> {
    let config =
        sled::Config::new().path(engine_dir).cache_capacity(options.cache_bytes).flush_every_ms(Some(FLUSH_EVERY_MS));
    for _ in 0..REOPEN_TRIES {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                std::thread::sleep(REOPEN_PAUSE);
            }
            Err(sled::Error::Io(error)) => return Err(OpenError::at(engine_dir, error)),
            other => return Ok(other?),
        }
    }
    Err(OpenError::InUse { data_dir: engine_dir.to_owned() })
}

/// Removes files that make the engine refuse to open. A kill or a power cut while the engine opens can leave such files.
/// Call it only while holding the lock: another process may be creating these files.
fn remove_leftovers(engine_dir: &Path) -> io::Result<()> {
    for path in files(engine_dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(path = %path.display(), "removing a file that an interrupted start left behind");
            std::fs::remove_file(&path)?;
        }
    }
    // The engine writes its parameters, which are always the same, in several pieces and does not sync them.
    // It creates the file again if it is missing, and fails if it is incomplete.
    let parameters = engine_dir.join("conf");
    if parameters.exists() && !is_whole(&std::fs::read(&parameters)?) {
        tracing::warn!(path = %parameters.display(), "removing a file that an interrupted start left behind");
        std::fs::remove_file(&parameters)?;
    }
    Ok(())
}

/// Returns whether the parameter file is complete. It ends with its checksum.
fn is_whole(parameters: &[u8]) -> bool {
    parameters.split_last_chunk().is_some_and(|(body, checksum)| {
        parameters.len() >= MIN_PARAMETERS && crc32fast::hash(body) == u32::from_le_bytes(*checksum)
    })
}

/// Makes the engine's files and their names durable. The engine syncs only what it writes later.
pub(super) fn sync_files(engine_dir: &Path) -> io::Result<()> {
    for path in files(engine_dir)? {
        File::open(path)?.sync_all()?;
    }
    sync_dir(engine_dir)
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}
