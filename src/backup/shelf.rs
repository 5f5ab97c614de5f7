//! The directory of the backups that a server makes on a schedule.

use std::fs;
use std::io::{self, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use doorward_actors::Timestamp;
use doorward_actors::ports::{BackupFailure, BackupVault};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::check::{Nowhere, pass};
use super::create::{CreateError, Destination};
use super::live::{Backups, file_name, in_background, time_in};
use crate::files::{NewFile, create_private_dir, free_bytes, remove_unfinished, sync_dir};

/// What the name of an unfinished backup ends with.
const UNFINISHED: &str = ".unfinished";
/// What the names of the files begin with. A backup that was made in another way and put here is not theirs.
const SCHEDULED: &str = "scheduled-";
/// Why a backup was given up at a stop.
const STOPS: &str = "the server stops";

/// Makes and keeps backups. They have the secrets, as those of the command, because they do not leave the machine.
#[derive(Clone)]
pub(crate) struct Shelf(Arc<Inner>);

struct Inner {
    backups: Arc<Backups>,
    dir: PathBuf,
    /// How many are kept.
    keep: usize,
    /// How much of the disk must stay free, in bytes.
    min_free: u64,
    stopping: watch::Sender<bool>,
}

impl Shelf {
    pub(crate) fn new(backups: Arc<Backups>, dir: PathBuf, keep: usize, min_free: u64) -> Self {
        Self(Arc::new(Inner { backups, dir, keep, min_free, stopping: watch::Sender::new(false) }))
    }
}

#[async_trait]
impl BackupVault for Shelf {
    async fn newest(&self, now: Timestamp) -> Result<Option<Timestamp>, BackupFailure> {
        let inner = Arc::clone(&self.0);
        let looked = tokio::task::spawn_blocking(move || inner.newest(now)).await;
        looked.map_err(|panic| BackupFailure(panic.to_string()))?.map_err(|error| self.0.unusable(&error))
    }

    async fn make(&self) -> Result<Timestamp, BackupFailure> {
        let mut stopping = self.0.stopping.subscribe();
        let _place = tokio::select! {
            place = self.0.backups.wait() => place,
            _ = stopping.wait_for(|stopping| *stopping) => return Err(BackupFailure(STOPS.to_owned())),
        };
        let (inner, runtime) = (Arc::clone(&self.0), Handle::current());
        let (sender, made) = oneshot::channel();
        let work = move || drop(sender.send(inner.make(&runtime)));
        in_background("backup", work).map_err(|error| BackupFailure(format!("there is no thread for it: {error}")))?;
        made.await.unwrap_or_else(|_| Err(BackupFailure("its thread ended".to_owned())))
    }

    fn stop(&self) {
        self.0.stopping.send_replace(true);
    }
}

impl Inner {
    fn unusable(&self, error: &io::Error) -> BackupFailure {
        BackupFailure(format!("BACKUP_DIR {} cannot be used: {error}", self.dir.display()))
    }

    fn newest(&self, now: Timestamp) -> io::Result<Option<Timestamp>> {
        let mut newest = None;
        for name in self.names()? {
            if let Some(whole) = name.strip_suffix(UNFINISHED)
                && time_of(whole).is_some()
            {
                match remove_unfinished(&self.dir.join(&name)) {
                    Err(error) if error.kind() != io::ErrorKind::ResourceBusy => {
                        tracing::warn!(%error, name, "an unfinished backup cannot be removed");
                    }
                    _ => {}
                }
            }
            newest = newest.max(time_of(&name).filter(|at| *at <= now));
        }
        Ok(newest)
    }

    /// Returns the names of the files in the directory. It has none if it is not there.
    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    fn make(&self, runtime: &Handle) -> Result<Timestamp, BackupFailure> {
        let unusable = |error: io::Error| self.unusable(&error);
        create_private_dir(&self.dir).map_err(unusable)?;
        let at = self.backups.now();
        let path = self.dir.join(format!("{SCHEDULED}{}", file_name(at)));
        let mut file = NewFile::create(&path).map_err(unusable)?;
        let written = runtime.block_on(async {
            let begun = self.backups.begin(true).await?;
            self.backups.write(begun, &mut Out { inner: self, file: &mut file }).await
        });
        written.map_err(|error| match error {
            CreateError::Write(error) => self.unusable(&error),
            other => BackupFailure(other.to_string()),
        })?;
        let input = BufReader::new(UntilStop { input: file.reread().map_err(unusable)?, inner: self });
        pass(input, self.backups.salt(), &mut Nowhere)
            .map_err(|error| BackupFailure(format!("{} is not what was written: {error}", path.display())))?;
        file.complete().map_err(unusable)?;
        tracing::info!(path = %path.display(), "a scheduled backup was made");
        // The new one is there, so this is no failure of it.
        if let Err(error) = self.remove_old(at) {
            tracing::warn!(%error, dir = %self.dir.display(), "older backups cannot be removed");
        }
        Ok(at)
    }

    /// Removes the oldest backups, so that as many stay as are kept. Those of the future, made by a clock that was ahead, stay.
    fn remove_old(&self, now: Timestamp) -> io::Result<()> {
        let mut names = self.names()?;
        names.retain(|name| time_of(name).is_some_and(|at| at <= now));
        names.sort_unstable();
        let surplus = names.len().saturating_sub(self.keep);
        for name in names.iter().take(surplus) {
            if let Err(error) = fs::remove_file(self.dir.join(name)) {
                tracing::warn!(%error, name, "an older backup cannot be removed");
            }
        }
        if surplus > 0 { sync_dir(&self.dir) } else { Ok(()) }
    }
}

/// The file of a backup. It leaves the disk enough room for the service.
struct Out<'a> {
    inner: &'a Inner,
    file: &'a mut NewFile,
}

impl Destination for &mut Out<'_> {
    async fn take(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        if *self.inner.stopping.borrow() {
            return Err(io::Error::other(STOPS));
        }
        if free_bytes(&self.inner.dir)? < self.inner.min_free.saturating_add(bytes.len() as u64) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "less than MIN_FREE_MIB would be free"));
        }
        self.file.write_all(&bytes)
    }
}

/// Reads a backup again until the server stops.
struct UntilStop<'a, R> {
    input: R,
    inner: &'a Inner,
}

impl<R: Read> Read for UntilStop<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if *self.inner.stopping.borrow() { Err(io::Error::other(STOPS)) } else { self.input.read(buffer) }
    }
}

/// Returns when a scheduled backup was made, by its name. `None` for other files.
fn time_of(name: &str) -> Option<Timestamp> {
    name.strip_prefix(SCHEDULED).and_then(time_in)
}
