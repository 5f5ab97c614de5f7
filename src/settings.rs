//! Settings: reads and checks everything that an operator sets, before anything else runs.
//!
//! There are four layers, and a later one overrides an earlier one: the documented defaults, a TOML file, a `.env` file, the environment.
//! [`Settings::load`] returns checked settings or all mistakes. A mistake names the setting and its source, but never a value, because
//! a secret may be in the wrong place.

mod accounts;
mod audit;
mod backup;
mod dotenv;
mod http;
mod layers;
mod limits;
mod logging;
mod mail;
mod near;
mod origins;
mod passwords;
mod reader;
mod sessions;
mod storage;
pub mod table;
mod tokens;

use std::ffi::OsString;
use std::path::PathBuf;

pub use accounts::AccountSettings;
pub use audit::AuditSettings;
pub use backup::BackupSettings;
pub use doorward_actors::Networks;
use doorward_actors::SecretDigest;
pub use http::{HttpSettings, TlsFiles};
pub use limits::{LimitSettings, Rate};
pub use logging::{LogFormat, LogSettings};
pub use mail::{MailSettings, PublicUrl, SmtpLogin, SmtpSecurity, SmtpSettings};
pub use origins::Origins;
pub use passwords::PasswordSettings;
pub use sessions::SessionSettings;
pub use storage::StorageSettings;
pub use tokens::{Algorithm, TokenSettings};

use layers::Findings;
use reader::{Reader, documented};
use table::Key;

/// The sources of settings. Only the files named here are read, so a test can specify everything.
/// It holds secrets as they were given, so it has no `Debug`.
#[derive(Default)]
pub struct Sources {
    config_file: Option<PathBuf>,
    dotenv_file: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
}

impl Sources {
    /// The sources of a normal process: its environment, `.env` in the working directory, and the file of `--config`.
    #[must_use]
    pub fn of_process(config_file: Option<PathBuf>) -> Self {
        Self { config_file, dotenv_file: Some(PathBuf::from(".env")), environment: std::env::vars_os().collect() }
    }

    /// Sets the TOML file. It must exist.
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config_file = Some(path.into());
        self
    }

    /// Sets the `.env` file. It may be missing.
    #[must_use]
    pub fn dotenv_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.dotenv_file = Some(path.into());
        self
    }

    /// Adds environment variables. Names that are not settings have no effect, because an environment holds many of them. A name that is
    /// similar to a setting causes a warning. An empty value counts as not set.
    #[must_use]
    pub fn environment<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        self.environment.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }
}

/// All settings, checked.
///
/// Only [`Settings::load`] checks them. The fields are public so that tests can build settings that it would refuse, such as a cheap
/// password hash.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The listener.
    pub http: HttpSettings,
    /// The data directory.
    pub storage: StorageSettings,
    /// Backups on a schedule.
    pub backup: BackupSettings,
    /// Access tokens and the service token.
    pub tokens: TokenSettings,
    /// Sessions.
    pub sessions: SessionSettings,
    /// Password hashing and strength.
    pub passwords: PasswordSettings,
    /// Rate limits.
    pub limits: LimitSettings,
    /// Registration.
    pub accounts: AccountSettings,
    /// Mail.
    pub mail: MailSettings,
    /// The audit log.
    pub audit: AuditSettings,
    /// The log.
    pub log: LogSettings,
}

/// The settings and their sources.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// One entry for each key of [`table::ALL`], in that order.
    pub entries: Vec<Entry>,
    /// Warnings about probable mistakes that do not stop the program. They contain no secret.
    pub warnings: Vec<String>,
}

/// One setting as it took effect.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which setting.
    pub key: &'static Key,
    /// Its value as text. `***` for a secret, and words in parentheses if it is not set.
    pub value: String,
    /// Its source.
    pub source: String,
    /// The digest of the value as it was given, secret or not; `None` if it is not set.
    digest: Option<SecretDigest>,
}

impl Entry {
    /// Returns whether both have the same value, wherever it comes from.
    pub(crate) fn has_value_of(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// One mistake in the settings. It contains no value, secret or not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem} ({origin})")]
pub struct Mistake {
    /// The setting, or the file that cannot be read.
    pub key: String,
    /// The source.
    pub origin: String,
    /// What is wrong.
    pub problem: String,
}

/// The settings cannot be used. Lists all mistakes.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the settings cannot be used:\n{}", lines(mistakes))]
pub struct SettingsError {
    /// The mistakes, at least one.
    pub mistakes: Vec<Mistake>,
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|mistake| format!("  {mistake}")).collect::<Vec<_>>().join("\n")
}

impl Settings {
    /// Reads, layers and checks the settings.
    ///
    /// # Errors
    /// All mistakes: an unreadable file, an unknown name in one of the two files, a value outside its limits, a setting that is given twice
    /// with different values.
    pub fn load(sources: &Sources) -> Result<Loaded, SettingsError> {
        let mut findings = Findings::default();
        let layers = layers::collect(sources, &mut findings);
        let Findings { mistakes, mut warnings, .. } = findings;
        let mut reader = Reader::new(layers, mistakes);
        let settings = Self::read(&mut reader);
        let entries = reader.entries();
        match (settings, reader.into_mistakes()) {
            (Some(settings), mistakes) if mistakes.is_empty() => {
                warnings.extend(settings.mail.warnings());
                Ok(Loaded { settings, entries, warnings })
            }
            (_, mistakes) => Err(SettingsError { mistakes }),
        }
    }

    /// Reads every section before it returns `None` for a missing one, so that all mistakes are found.
    fn read(reader: &mut Reader) -> Option<Self> {
        let http = HttpSettings::read(reader);
        let storage = StorageSettings::read(reader);
        let backup = BackupSettings::read(reader);
        let tokens = TokenSettings::read(reader);
        let sessions = SessionSettings::read(reader);
        let passwords = PasswordSettings::read(reader);
        let limits = LimitSettings::read(reader);
        let accounts = AccountSettings::read(reader);
        let mail = MailSettings::read(reader);
        let audit = AuditSettings::read(reader);
        let log = LogSettings::read(reader);
        Some(Self {
            http: http?,
            storage: storage?,
            backup: backup?,
            tokens: tokens?,
            sessions: sessions?,
            passwords: passwords?,
            limits: limits?,
            accounts: accounts?,
            mail: mail?,
            audit: audit?,
            log: log?,
        })
    }
}

impl Default for Settings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}
