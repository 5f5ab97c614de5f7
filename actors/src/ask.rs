//! Requests to actors: the ways in which they fail, and what the client is told then.

use std::time::Duration;

/// How long a client is asked to wait after a failed request. An actor restarts within a second.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why an actor gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// The actor is restarting, or the system is stopping.
    #[error("the actor is not running")]
    NotRunning,
    /// The actor took the request, but failed or was stopped before it answered.
    #[error("the actor ended before it answered")]
    Lost,
    /// The actor did not answer in time. It may still handle the request later.
    #[error("the actor did not answer in time")]
    TimedOut,
}

/// Doorward cannot do this now. The client learns nothing else from it and may try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable {
    /// When to try again; at least one second.
    pub retry_after: Duration,
}

impl Default for Unavailable {
    fn default() -> Self {
        Self { retry_after: RETRY_AFTER }
    }
}

impl From<AskError> for Unavailable {
    fn from(error: AskError) -> Self {
        tracing::warn!(%error, "an actor gave no answer");
        Self::default()
    }
}

impl From<crate::store::StoreFailure> for Unavailable {
    fn from(failure: crate::store::StoreFailure) -> Self {
        tracing::error!(%failure, "the store did not do what it was asked");
        Self::default()
    }
}
