//! Writes a backup from an export of a store.

use std::io::{self, Write};

use doorward_actors::ports::KeyVaultFailure;
use doorward_actors::store::StoreFailure;
use doorward_actors::store::engine::Export;
use doorward_actors::store::integrity::{Contents, Integrity, Violation};
use doorward_actors::{AuditHash, Secret};

use super::format::{DIGEST, End, Header};
use super::writer::Writer;

/// Where a backup goes, as it is made.
pub(crate) trait Destination {
    /// Takes the next bytes. Waits until there is room for more. An error ends the backup.
    async fn take(&mut self, bytes: Vec<u8>) -> io::Result<()>;
}

/// A writer, which may block.
impl<W: Write> Destination for W {
    async fn take(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.write_all(&bytes)?;
        self.flush()
    }
}

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// A generated secret cannot be read.
    #[error(transparent)]
    Secret(io::Error),
    /// The session of the request has ended, or lost its role.
    #[error("its session has ended")]
    Revoked,
    /// The signing keys cannot be read.
    #[error("the signing keys cannot be read: {0}")]
    Keys(#[from] KeyVaultFailure),
    /// The backup could not be written.
    #[error("the backup cannot be written: {0}")]
    Write(#[from] io::Error),
    /// The rows of the store violate what a restore requires.
    #[error(
        "the store is damaged, and no restore would take a backup of it: {0}. Copy the whole data directory instead"
    )]
    Damaged(Violation),
}

/// Writes a backup. `before_end` runs when everything but the end is written; if it fails, so does the backup.
pub(crate) async fn write(
    mut out: impl Destination,
    header: &Header,
    files: &[(String, Secret)],
    mut export: Box<dyn Export>,
    salt: [u8; 32],
    before_end: impl FnOnce() -> io::Result<()>,
) -> Result<(Contents, [u8; DIGEST]), CreateError> {
    let mut writer = Writer::begin(Vec::new(), header)?;
    for (name, content) in files {
        writer.file(name, content.expose().as_bytes())?;
    }
    let mut integrity = Integrity::new(salt);
    loop {
        let rows = export.next().await?;
        if rows.is_empty() {
            break;
        }
        for (key, value) in &rows {
            integrity.row(key, value).map_err(CreateError::Damaged)?;
        }
        writer.rows(&rows)?;
        out.take(std::mem::take(writer.out())).await?;
    }
    let contents = integrity.finish().map_err(CreateError::Damaged)?;
    before_end()?;
    let (rest, digest) = writer.finish(&End::new(contents.rows, contents.commits, contents.audit_head))?;
    out.take(rest).await?;
    Ok((contents, digest))
}

/// Writes a digest of 32 bytes as 64 hexadecimal digits.
pub(crate) fn hex(digest: [u8; DIGEST]) -> String {
    AuditHash::from_bytes(digest).to_string()
}
