//! Why a data directory could not be opened.

use std::io;
use std::path::{Path, PathBuf};

use doorward_actors::store::engine::Fault;
use doorward_actors::store::migrations::{self, MigrationError};

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another engine in this process, has the directory open.
    #[error("the data directory {} is in use by another doorward process; stop that one first", .data_dir.display())]
    InUse {
        /// The directory.
        data_dir: PathBuf,
    },
    /// A newer version of this program wrote the data.
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
    /// An older version wrote the data, and this command must not migrate it.
    #[error("the data has layout {found}, not {known}; let the server start with it once, which migrates it")]
    Older {
        /// The layout of the data.
        found: u32,
        /// The layout of this program.
        known: u32,
    },
    /// The engine is missing or empty, but there was one before.
    #[error(
        "{} held a database, and {0}/db is missing or empty now; nothing was changed. Restore the whole data directory from \
         a backup. If the database was removed on purpose, run `doorward accept-older-data`: the next start then makes an \
         empty one, in which the first account that registers becomes an administrator", .data_dir.display()
    )]
    Lost {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The engine holds fewer commits than it did before.
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
        /// The minimum number of commits that it held before.
        noted: u64,
    },
    /// There is or was an engine where a backup was to be restored.
    #[error("{} has or had a database already; restore into an empty directory", .data_dir.display())]
    NotEmpty {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// A restore was interrupted.
    #[error(
        "a restore of a backup was interrupted, {} is left of it; run `doorward restore` again, or remove that directory to start empty",
        .path.display()
    )]
    HalfRestored {
        /// The directory that is left.
        path: PathBuf,
    },
    /// What was here went elsewhere.
    #[error(
        "this data directory was moved by `doorward backup --move` and must not be used any more: where its backup was restored, its \
         sessions live on. If that backup was never restored and never will be, remove {}", .path.display()
    )]
    Moved {
        /// The mark.
        path: PathBuf,
    },
    /// The file that notes the number of commits cannot be read.
    #[error("{} cannot be read; restore it from a backup, or run `doorward accept-older-data`", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
    /// The engine counts writes as durable before they reach the disk.
    #[error(
        "the storage engine does not sync what it writes, because this program was linked incorrectly; use another build"
    )]
    Unsynced,
    /// The stored data is damaged.
    #[error("the data is damaged: {0}; restore a backup")]
    Corrupt(String),
    /// This process lacks the permission to use a file or directory.
    #[error("no permission to use {}: {source}", .path.display())]
    Permission {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file system failed.
    #[error("cannot use {}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The engine failed.
    #[error("the storage engine failed: {0}")]
    Engine(String),
}

impl OpenError {
    pub(crate) fn at(path: &Path, source: io::Error) -> Self {
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
            Fault::Engine(error) => Self::Engine(error),
        }
    }
}

impl From<MigrationError> for OpenError {
    fn from(error: MigrationError) -> Self {
        match error {
            MigrationError::Newer(found) => Self::Newer { found, known: migrations::CURRENT },
            MigrationError::Corrupt(why) => Self::Corrupt(why.to_owned()),
            MigrationError::Fault(fault) => fault.into(),
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
