//! Writes mails to files, for a machine without a mail server. An operator or a test reads them there.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use doorward_actors::ports::SendError;

use super::message::Composed;
use crate::files::{create_private_dir, write_whole};

/// A directory of `.eml` files.
pub(super) struct Spool {
    directory: PathBuf,
    /// How many files were begun. The number keeps the names of unfinished files distinct.
    begun: Arc<AtomicU64>,
}

impl Spool {
    /// Creates the directory if it is missing. Only its owner may enter it, because the mails contain links that open accounts.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        create_private_dir(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        Ok(Self { directory, begun: Arc::default() })
    }

    /// Writes a mail to a file of its own, which is durable when this returns. A second attempt at the same mail replaces the first file.
    /// Returns the path of the file.
    pub(super) async fn keep(&self, composed: Composed) -> Result<String, SendError> {
        let stamp = composed.written_at.to_rfc3339().replace([':', '-'], "");
        let name = format!("{stamp}-{}-{}.eml", composed.name, composed.key);
        let path = self.directory.join(&name);
        let unfinished = self.directory.join(format!(
            ".{name}.{}-{}",
            std::process::id(),
            self.begun.fetch_add(1, Ordering::Relaxed)
        ));
        let failed = |error: io::Error| SendError::Transient(format!("the mail cannot be written to a file: {error}"));
        let (bytes, written) = (composed.bytes, path.clone());
        tokio::task::spawn_blocking(move || write_whole(&written, &unfinished, &bytes))
            .await
            .map_err(|error| failed(io::Error::other(error)))?
            .map_err(failed)?;
        tracing::info!(path = %path.display(), subject = %composed.subject, "a mail was written to a file");
        Ok(path.display().to_string())
    }
}
