//! The commands that need the application or an open data directory.

use std::io::BufRead as _;
use std::path::PathBuf;

use doorward_actors::ports::SendError;
use doorward_actors::{Email, Nickname, Passphrase, Password, ProfileChange, RegisterError, Registration};

use crate::app::{self, Ambient, App, BuildError, Ended};
use crate::backup::create::CreateError;
use crate::backup::restore::RestoreError;
use crate::control::CommandError;
use crate::line_end::without_line_end;
use crate::mail::MailSetupError;
use crate::offline::Offline;
use crate::reload::{self, InForce};
use crate::service_manager::{ServiceManager, Serving};
use crate::settings::Settings;
use crate::shutdown;
use crate::terminal::Hidden;

/// The variable that gives the password of a new administrator, instead of standard input.
const PASSWORD_VARIABLE: &str = "DOORWARD_ADMIN_PASSWORD";
/// The variable that gives the passphrase of a new administrator, instead of standard input.
const PASSPHRASE_VARIABLE: &str = "DOORWARD_ADMIN_PASSPHRASE";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The application did not start.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The application stopped by itself.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
    /// Mails cannot be sent with these settings.
    #[error(transparent)]
    MailSetup(#[from] MailSetupError),
    /// A mail was not sent.
    #[error("the mail was not sent: {0}")]
    Mail(#[from] SendError),
    /// No backup was made.
    #[error(transparent)]
    Backup(#[from] CreateError),
    /// The server did not do what was asked.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A backup was refused or not restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A file cannot be used.
    #[error("cannot use {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A value on the command line is not usable.
    #[error("{what}: {why}")]
    Input {
        /// Which value.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Serves until a signal stops it. `in_force` says where the settings come from.
pub(crate) async fn serve(settings: Settings, in_force: InForce) -> Result<(), RunError> {
    let stop = shutdown::requested().map_err(RunError::Signals)?;
    let hangups = shutdown::hangups().map_err(RunError::Signals)?;
    let manager = ServiceManager::of_process();
    let app = App::build(settings).await?;
    let reloading = tokio::spawn(reload::at_hangups(hangups, in_force, app.reloadable(), manager.clone()));
    manager.keep_fed(app.handles().health.clone());
    // The listener polls this for the first time when it begins to serve, and drops it when a stop begins, for whatever reason.
    let stop = async {
        let _serving = Serving::begin(manager);
        stop.await;
        reloading.abort();
    };
    app.run_until(stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Creates an administrator and does nothing else. Fails while a server has the data directory open.
pub(crate) async fn create_admin(settings: Settings, email: &str, nickname: &str) -> Result<(), RunError> {
    let registration = registration(email, nickname)?;
    let offline = Offline::open(&settings, &Ambient::default()).await?;
    let created = offline.operator().create_admin(registration).await;
    offline.close(app::STOP_DEADLINE).await?;
    let refused = |what, why: &str| Err(RunError::Input { what, why: why.to_owned() });
    match created {
        Ok(account) => {
            tracing::info!(account = account.id.get(), "the administrator was created");
            Ok(())
        }
        Err(RegisterError::Weak(weak)) => refused("the password", &weak.to_string()),
        Err(RegisterError::EmailTaken) => refused("--email", "an account has this address already"),
        Err(RegisterError::NicknameTaken) => refused("--nickname", "an account has this nickname already"),
        // This command asks for no customer plan.
        Err(RegisterError::CustomerAccountNotAllowed) => refused("the account", "it cannot have a customer plan"),
        // The operator has no session, so no session can have been revoked.
        Err(RegisterError::Unavailable(_) | RegisterError::Revoked) => {
            refused("the account", "it could not be stored; the log says why")
        }
    }
}

/// Builds the registration of the administrator. Needs a runtime, which waits for signals while this asks at a terminal.
fn registration(email: &str, nickname: &str) -> Result<Registration, RunError> {
    let wrong = |what, why: &dyn std::fmt::Display| RunError::Input { what, why: why.to_string() };
    Ok(Registration {
        email: Email::parse(email).map_err(|error| wrong("--email", &error))?,
        nickname: Nickname::parse(nickname).map_err(|error| wrong("--nickname", &error))?,
        password: Password::new(secret("the password", "Password", PASSWORD_VARIABLE)?)
            .map_err(|error| wrong("the password", &error))?,
        passphrase: Passphrase::parse(&secret("the passphrase", "Passphrase", PASSPHRASE_VARIABLE)?)
            .map_err(|error| wrong("the passphrase", &error))?,
        profile: ProfileChange::default(),
    })
}

/// Returns a secret from its environment variable; else from the terminal, where the user types it twice; else from the next line of
/// standard input.
fn secret(what: &'static str, prompt: &str, variable: &str) -> Result<String, RunError> {
    if let Ok(value) = std::env::var(variable)
        && !value.is_empty()
    {
        return Ok(without_line_end(&value).to_owned());
    }
    let unreadable = |error: std::io::Error| RunError::Input { what, why: error.to_string() };
    let missing = || RunError::Input { what, why: format!("give it as a line of standard input or in {variable}") };
    if let Some(terminal) = Hidden::begin().map_err(unreadable)? {
        let once = terminal.ask(&format!("{prompt}: ")).map_err(unreadable)?.ok_or_else(missing)?;
        let again = terminal.ask(&format!("{prompt} again: ")).map_err(unreadable)?.ok_or_else(missing)?;
        if once == again {
            return Ok(once);
        }
        return Err(RunError::Input { what, why: "it was typed differently the second time".to_owned() });
    }
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line).map_err(unreadable)? {
        0 => Err(missing()),
        _ => Ok(without_line_end(&line).to_owned()),
    }
}
