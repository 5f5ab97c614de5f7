//! SIGHUP: the settings are read again by the code of the start, and what can change in a running process takes effect
//! ([ADR 065](../docs/adr/065-a-reload-is-all-or-nothing.md)).

use std::path::PathBuf;
use std::sync::Arc;

use doorward_actors::ports::BreachedPasswords;
use doorward_actors::{HasherHandle, RateLimiterHandle};
use tokio::signal::unix::Signal;

use crate::app::{self, BuildError};
use crate::http::{SharedCors, Tls};
use crate::mail::{MailSetupError, NewTemplates, Transport};
use crate::service_manager::ServiceManager;
use crate::settings::{Entry, Loaded, Settings, SettingsError, Sources};
use crate::telemetry::{self, TelemetryError};

/// Why nothing was reloaded.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Breached(#[from] BuildError),
    #[error(transparent)]
    Mail(#[from] MailSetupError),
    #[error(transparent)]
    Log(#[from] TelemetryError),
    #[error("the settings could not be read: {0}")]
    Reading(#[from] tokio::task::JoinError),
}

/// Where the settings of this process come from, and what they are.
pub(crate) struct InForce {
    /// The file of `--config` or `DOORWARD_CONFIG`.
    pub(crate) config: Option<PathBuf>,
    /// The settings that are in force.
    pub(crate) entries: Vec<Entry>,
}

/// The parts of the application that take new settings.
pub(crate) struct Reloadable {
    pub(crate) limits: RateLimiterHandle,
    pub(crate) hasher: HasherHandle,
    pub(crate) cors: SharedCors,
    /// `None` if the mails go elsewhere than the settings say, as in tests.
    pub(crate) mail: Option<Arc<Transport>>,
    pub(crate) tls: Option<Tls>,
}

/// Everything that is read at a reload. It exists only if all of it is usable.
struct Fresh {
    loaded: Loaded,
    breached: Option<Arc<dyn BreachedPasswords>>,
    templates: Option<NewTemplates>,
}

/// Reloads at each SIGHUP. Never returns.
pub(crate) async fn at_hangups(mut hangup: Signal, mut in_force: InForce, parts: Reloadable, manager: ServiceManager) {
    while hangup.recv().await.is_some() {
        manager.reloading();
        if let Err(error) = reload(&mut in_force, &parts).await {
            tracing::error!(%error, "nothing was reloaded, and the settings stay as they were");
        }
        if let Some(tls) = &parts.tls {
            tls.look().await;
        }
        manager.ready();
    }
}

/// Reads everything, and then applies it.
async fn reload(in_force: &mut InForce, parts: &Reloadable) -> Result<(), ReloadError> {
    let (config, mail) = (in_force.config.clone(), parts.mail.clone());
    let read = move || -> Result<Fresh, ReloadError> {
        let loaded = Settings::load(&Sources::of_process(config))?;
        let breached = app::breached_list(&loaded.settings)?;
        let templates = mail.map(|mail| mail.read_templates(&loaded.settings.mail)).transpose()?;
        Ok(Fresh { loaded, breached, templates })
    };
    let Fresh { loaded, breached, templates } = tokio::task::spawn_blocking(read).await??;
    let Loaded { settings, entries, warnings } = loaded;
    // The only step that can fail comes first.
    telemetry::set_level(&settings.log.level)?;
    parts.limits.replace(app::rate_limits(&settings));
    parts.hasher.replace_breached(breached);
    parts.cors.store(Arc::new(crate::http::Cors::new(&settings.http.cors_origins)));
    if let (Some(mail), Some(templates)) = (&parts.mail, templates) {
        mail.use_templates(templates);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    report(&in_force.take(entries));
    Ok(())
}

/// The names of the settings that are no longer as they were.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    /// They are in force now.
    taken: Vec<&'static str>,
    /// They will be after a restart.
    waiting: Vec<&'static str>,
}

fn report(Changes { taken, waiting }: &Changes) {
    let changed = taken.join(", ");
    tracing::info!(
        changed,
        "reloaded: the log level, the limits, the CORS origins, the mail templates and the list of breached passwords"
    );
    if !waiting.is_empty() {
        let settings = waiting.join(", ");
        tracing::warn!(settings, "these settings have changed and take effect after a restart");
    }
}

impl InForce {
    /// Takes over what a reload changes, and returns the names of all that differ.
    fn take(&mut self, entries: Vec<Entry>) -> Changes {
        let mut changes = Changes::default();
        for (old, new) in self.entries.iter_mut().zip(entries).filter(|(old, new)| !old.has_value_of(new)) {
            if new.key.reloads {
                changes.taken.push(new.key.name);
                *old = new;
            } else {
                changes.waiting.push(new.key.name);
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(variables: &[(&str, &str)]) -> Vec<Entry> {
        Settings::load(&Sources::default().environment(variables.iter().copied())).unwrap().entries
    }

    #[test]
    fn a_change_that_needs_a_restart_is_said_until_it_is_taken_back_and_another_one_once() {
        let secret = |letter: &str| letter.repeat(32);
        let mut in_force = InForce { config: None, entries: entries(&[("SECRET_KEY", &secret("a"))]) };
        let changed = [("SECRET_KEY", &*secret("b")), ("LOG_LEVEL", "warn"), ("PORT", "8001")];
        let waiting = vec!["PORT", "SECRET_KEY"];
        let first = Changes { taken: vec!["LOG_LEVEL"], waiting: waiting.clone() };
        assert_eq!(in_force.take(entries(&changed)), first);
        assert_eq!(in_force.take(entries(&changed)), Changes { taken: Vec::new(), waiting });
        let back = Changes { taken: vec!["LOG_LEVEL"], waiting: Vec::new() };
        assert_eq!(in_force.take(entries(&[("SECRET_KEY", &secret("a"))])), back);
    }
}
