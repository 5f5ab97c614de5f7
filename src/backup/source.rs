//! A store that backups are made of, with the secrets beside it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorward_actors::store::engine::{Engine, Export};
use doorward_actors::store::integrity::Contents;
use doorward_actors::store::{ActingRefusal, Store, StoreError};
use doorward_actors::{Acting, AuditRecord, KeyId, Secret};

use super::create::{self, CreateError, Destination};
use super::format::{DIGEST, Header, Purpose};
use crate::app::{SECRET_KEY_FILE, SERVICE_TOKEN_FILE};
use crate::data_dir::key_files::KeyFiles;
use crate::data_dir::secrets;

/// What a backup is made of.
#[derive(Clone)]
pub(crate) struct Source {
    /// The rows.
    pub(crate) engine: Arc<dyn Engine>,
    /// Where the generated secrets and the keys are.
    pub(crate) data_dir: PathBuf,
    /// The secret of the settings, which comes before the one in the data directory.
    pub(crate) secret_key: Option<Secret>,
}

/// A backup that has begun: its rows are those of this moment.
pub(crate) struct Begun {
    /// Describes the backup.
    pub(crate) header: Header,
    /// The secrets and keys that are in it.
    pub(crate) files: Vec<(String, Secret)>,
    export: Box<dyn Export>,
}

impl Source {
    /// Puts a backup on record and begins it. The record, which says who makes it, is in the backup.
    ///
    /// `acting` is the session that makes it; `None` for a service and for the operator.
    pub(crate) async fn begin(
        &self,
        purpose: Purpose,
        with_secrets: bool,
        record: AuditRecord,
        acting: Option<Acting>,
    ) -> Result<Begun, CreateError> {
        let kept = kept_secret(&self.data_dir)?;
        let files = if with_secrets { secret_files(&self.data_dir)? } else { Vec::new() };
        let now = record.at;
        // The server keeps its audit log within its bounds. A backup removes nothing from it.
        let store = Store::new(Arc::clone(&self.engine), u64::MAX);
        match acting {
            Some(acting) => store.append_audit_as(acting, record).await.map_err(|error| match error {
                StoreError::Refused(ActingRefusal) => CreateError::Revoked,
                StoreError::Failed(failure) => failure.into(),
            })?,
            None => store.append_audit(vec![record]).await?,
        }
        let secret = self.secret_key.as_ref().or(kept.as_ref()).map(KeyId::of_secret);
        let header = Header::new(now, purpose, secret.as_ref(), with_secrets);
        Ok(Begun { header, files, export: self.engine.export().await? })
    }
}

impl Begun {
    /// Writes the backup. `before_end` runs when everything but its end is written.
    pub(crate) async fn write(
        self,
        out: impl Destination,
        salt: [u8; 32],
        before_end: impl FnOnce() -> io::Result<()>,
    ) -> Result<(Contents, [u8; DIGEST]), CreateError> {
        create::write(out, &self.header, &self.files, self.export, salt, before_end).await
    }
}

/// Returns the generated signing secret of the data directory, if there is one.
pub(crate) fn kept_secret(data_dir: &Path) -> Result<Option<Secret>, CreateError> {
    secrets::load(data_dir, SECRET_KEY_FILE).map_err(CreateError::Secret)
}

/// Returns the generated secrets and the signing keys of the data directory, by their names in it.
fn secret_files(data_dir: &Path) -> Result<Vec<(String, Secret)>, CreateError> {
    let mut files = Vec::new();
    for file in [SECRET_KEY_FILE, SERVICE_TOKEN_FILE] {
        let secret = secrets::load(data_dir, file).map_err(CreateError::Secret)?;
        files.extend(secret.map(|secret| (file.to_owned(), secret)));
    }
    files.extend(KeyFiles::in_data_dir(data_dir).contents()?);
    Ok(files)
}
