//! `doorward export`: writes the accounts of a data directory that no server has open as lines of JSON, for `doorward import --ndjson`.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use doorward_actors::store::{Engine, Store, StoreFailure};

use crate::app::{self, BuildError, Ended};
use crate::files::create_private;
use crate::import::AccountLine;
use crate::offline;
use crate::settings::Settings;

/// The number of accounts that are read at once.
const AT_ONCE: usize = 512;

/// What to export, and where to.
#[derive(Debug, Clone)]
pub(crate) struct ExportRequest {
    /// Whether the hashes of passwords and passphrases are exported.
    pub(crate) with_hashes: bool,
    /// The file. Standard output without one.
    pub(crate) to: Option<PathBuf>,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportFailure {
    /// The data directory cannot be opened.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The data directory could not be closed.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// There is no database.
    #[error("there is no database in {}", .0.display())]
    Nothing(PathBuf),
    /// The accounts cannot be read.
    #[error("the accounts cannot be read: {0}")]
    Store(#[from] StoreFailure),
    /// The file or standard output cannot be written.
    #[error("the export cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Exports all accounts in the order of their numbers. Returns how many.
pub(crate) async fn run(settings: Settings, request: ExportRequest) -> Result<u64, ExportFailure> {
    let data_dir = &settings.storage.data_dir;
    if !offline::has_database(data_dir) {
        return Err(ExportFailure::Nothing(data_dir.clone()));
    }
    let engine = offline::open_engine(&settings).await?;
    let store = Store::new(Arc::clone(&engine) as Arc<dyn Engine>, u64::MAX);
    let written = write_to(&store, &request).await;
    drop(store);
    app::close_engine(engine, app::STOP_DEADLINE).await?;
    written
}

/// Writes all accounts. A file of an export that failed is removed.
async fn write_to(store: &Store, request: &ExportRequest) -> Result<u64, ExportFailure> {
    let mut out: Box<dyn Write + Send> = match &request.to {
        Some(path) => Box::new(BufWriter::new(create_private(path)?)),
        None => Box::new(BufWriter::new(io::stdout())),
    };
    let written = write_all(store, request.with_hashes, &mut *out).await;
    if let (Err(_), Some(path)) = (&written, &request.to) {
        // The error of the export matters more than one of its removal.
        let _ = fs::remove_file(path);
    }
    written
}

async fn write_all(store: &Store, with_hashes: bool, out: &mut (dyn Write + Send)) -> Result<u64, ExportFailure> {
    let (mut after, mut written) = (None, 0);
    loop {
        let accounts = store.accounts_after(after, AT_ONCE).await?;
        let Some(last) = accounts.last() else { break };
        after = Some(last.id);
        for account in &accounts {
            serde_json::to_writer(&mut *out, &AccountLine::of(account, with_hashes)).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
            written += 1;
        }
    }
    out.flush()?;
    Ok(written)
}
