//! What the commands start. REPLACE: both functions are stand-ins until the application is joined together.

use crate::cli::NewAdmin;
use crate::settings::Settings;

/// The program could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// This build does not contain the part that was asked for.
    #[error("this build cannot {0} yet")]
    NotBuilt(&'static str),
}

/// Serves until a signal ends it. Stand-in: always refuses.
pub async fn serve(_settings: Settings) -> Result<(), RunError> {
    Err(RunError::NotBuilt("serve"))
}

/// Creates an administrator. Stand-in: always refuses.
#[expect(clippy::unused_async, reason = "the real one waits")]
pub async fn create_admin(_settings: Settings, _admin: NewAdmin) -> Result<(), RunError> {
    Err(RunError::NotBuilt("create an administrator"))
}
