//! The data directory as an operator's command uses it while no server has it open.
//!
//! A command has the settings of its shell, which may differ from those of the server. So this starts nothing that would act on them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorward_actors::ports::KeyVault as _;
use doorward_actors::store::{Engine, Store};
use doorward_actors::{KeyId, Operator, OperatorPorts, OperatorSettings, Secret, StartError, Timestamp};

use crate::app::{self, Ambient, BuildError, Ended, SECRET_KEY_FILE};
use crate::data_dir::key_files::KeyFiles;
use crate::data_dir::{owner, secrets};
use crate::engine::sled::SledEngine;
use crate::settings::Settings;

/// Returns whether a data directory has a database. [`open_engine`] makes one if not.
pub(crate) fn has_database(data_dir: &Path) -> bool {
    data_dir.join("db").exists()
}

/// Opens the data directory for a command. Fails while a server has it open, and if the superuser would leave files in it that its owner
/// cannot read.
pub(crate) async fn open_engine(settings: &Settings) -> Result<Arc<SledEngine>, BuildError> {
    owner::check(&settings.storage.data_dir)?;
    app::open_engine(settings).await
}

/// A data directory that an operator's command has open.
pub(crate) struct Offline {
    engine: Arc<SledEngine>,
    operator: Operator,
}

impl Offline {
    /// Opens the data directory. Fails while a server has it open.
    pub(crate) async fn open(settings: &Settings, ambient: &Ambient) -> Result<Self, BuildError> {
        let engine = open_engine(settings).await?;
        let secret = secret_of_the_server(settings, ambient.clock.now())?;
        if secret.is_none() {
            tracing::warn!(
                "the SECRET_KEY of the server is not known here, so no mail is queued to verify the address; \
                 request one at POST /email/verify/resend when the server runs"
            );
        }
        let ports = OperatorPorts {
            store: Store::new(Arc::clone(&engine) as Arc<dyn Engine>, u64::MAX),
            clock: Arc::clone(&ambient.clock),
            entropy: Arc::clone(&ambient.entropy),
            breached: app::breached_list(settings)?,
        };
        let settings = OperatorSettings {
            hasher: app::hasher_settings(settings),
            passwords: app::password_policy(settings),
            default_locale: settings.mail.locale,
            verification_ttl: settings.accounts.verification_ttl,
            secret,
        };
        let operator = Operator::start(ports, settings).map_err(StartError::from)?;
        Ok(Self { engine, operator })
    }

    /// Returns the operator, who creates accounts.
    pub(crate) fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Makes the last commit and releases the data directory.
    pub(crate) async fn close(self, deadline: Duration) -> Result<(), Ended> {
        app::close_engine(self.engine, deadline).await
    }
}

/// Returns the secret from which the server derives the links in mails: that of the settings, or else that of the data directory.
///
/// Creates no secret, because the server may have one in an environment that this command does not see.
/// Returns `None` if the ring of signing keys uses another secret, because then this is not the server's secret.
fn secret_of_the_server(settings: &Settings, now: Timestamp) -> Result<Option<Secret>, BuildError> {
    let data_dir = &settings.storage.data_dir;
    let secret = match &settings.tokens.secret_key {
        Some(secret) => Some(secret.clone()),
        None => secrets::load(data_dir, SECRET_KEY_FILE)
            .map_err(|source| BuildError::Secret { file: SECRET_KEY_FILE, source })?,
    };
    let Some(secret) = secret else { return Ok(None) };
    let stored = match KeyFiles::in_data_dir(data_dir).load() {
        Ok(stored) => stored,
        Err(failure) => {
            tracing::warn!(%failure, "the signing keys cannot be read");
            return Ok(None);
        }
    };
    // If the signer is a key pair, the ring does not tell which secret the server uses.
    let signer = stored.as_ref().and_then(|stored| stored.ring.signer(now));
    let other = signer.is_some_and(|key| key.algorithm.is_symmetric() && key.id != KeyId::of_secret(&secret));
    Ok((!other).then_some(secret))
}
