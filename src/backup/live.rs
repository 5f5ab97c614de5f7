//! The backups of a running server: by the control socket, over HTTP and on a schedule.

use std::io;
use std::sync::Arc;

use doorward_actors::ports::{Clock, Entropy};
use doorward_actors::store::integrity::Contents;
use doorward_actors::{Acting, AuditEvent, AuditRecord, Timestamp};
use rustix::process::setpriority_process;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::create::{CreateError, Destination};
use super::format::Purpose;
use super::source::{Begun, Source};

/// How many backups are made at a time. Each reads the whole store, and holds up to 64 MiB of rows that changed meanwhile.
const AT_ONCE: usize = 2;
/// What is said when there are that many already.
pub(crate) const BUSY: &str = "two backups are being made; try again when one of them is done";
/// The nice value of a thread that makes a backup or imports. The threads that answer requests run at 0.
const NICE: i32 = 10;

/// Makes backups of the store of this process.
pub(crate) struct Backups {
    source: Source,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    room: Arc<Semaphore>,
}

impl Backups {
    pub(crate) fn new(source: Source, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { source, clock, entropy, room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Takes a place among those that are made; `None` if all are taken. It is held until the backup is done.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    /// Waits for a place.
    pub(crate) async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// Returns what the wall clock shows.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns random bytes for a check of a backup.
    pub(crate) fn salt(&self) -> [u8; 32] {
        let mut salt = [0; 32];
        self.entropy.fill(&mut salt);
        salt
    }

    /// Begins a backup of the operator.
    pub(crate) async fn begin(&self, with_secrets: bool) -> Result<Begun, CreateError> {
        let record = AuditRecord::new(AuditEvent::BackupMade, self.clock.now());
        self.source.begin(Purpose::Backup, with_secrets, record, None).await
    }

    /// Begins a backup of somebody on the network, which never has secrets. `record` says who makes it; `acting` is their session.
    pub(crate) async fn begin_bare(&self, record: AuditRecord, acting: Option<Acting>) -> Result<Begun, CreateError> {
        self.source.begin(Purpose::Backup, false, record, acting).await
    }

    /// Writes a backup that was begun. Compresses on the present thread.
    pub(crate) async fn write(&self, begun: Begun, out: impl Destination) -> Result<Contents, CreateError> {
        let (contents, _) = begun.write(out, self.salt(), || Ok(())).await?;
        tracing::info!(rows = contents.rows, accounts = contents.accounts, "a backup was made");
        Ok(contents)
    }
}

/// The name of a backup before and behind its time.
const NAME: (&str, &str) = ("doorward-", ".backup");

/// Returns the name of a backup that is made now. Names sort by time.
pub(crate) fn file_name(at: Timestamp) -> String {
    format!("{}{}{}", NAME.0, at.to_rfc3339().replace(':', ""), NAME.1)
}

/// Returns when a backup with this name was made; `None` if it is no such name.
pub(crate) fn time_in(name: &str) -> Option<Timestamp> {
    let written = name.strip_prefix(NAME.0)?.strip_suffix(NAME.1)?;
    let (hour, minute) = (written.get(..13)?, written.get(13..15)?);
    let at = Timestamp::parse_rfc3339(&format!("{hour}:{minute}:{}", written.get(15..)?))?;
    (file_name(at) == name).then_some(at)
}

/// Gives the present thread, and those that it begins, a lower priority than requests.
pub(crate) fn give_way() {
    if let Err(error) = setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread runs at the priority of requests");
    }
}

/// Runs work on a thread of its own that has a lower priority than requests.
pub(crate) fn in_background(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work = move || {
        give_way();
        work();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_backup_has_its_time() {
        let at = Timestamp::from_millis(1_796_075_397_632);
        assert_eq!(file_name(at), "doorward-2026-11-30T214957.632Z.backup");
        assert_eq!(time_in(&file_name(at)), Some(at));
        for other in [
            "doorward.backup",
            "doorward-2026.backup",
            "doorward-2026-11-30T21:49:57.632Z.backup",
            "x",
            "doorward-2026-11-30T214957Z.backup",
            "doorward-2026-11-30T214957.632Z.backup.unfinished",
            "doorward-ééééééééé.backup",
        ] {
            assert_eq!(time_in(other), None, "{other}");
        }
    }
}
