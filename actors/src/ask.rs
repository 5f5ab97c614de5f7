//! Requests to actors: the ways in which they fail, and what the client is told then.

use std::time::Duration;

use crate::store::{ActingRefusal, StoreError};

/// How long a client is asked to wait before it tries again after a question that failed: an actor is back within a second.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why an actor gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// The actor has ended for good, or the system is stopping.
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

/// Why something was not done in the name of an administrator's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActingError {
    /// The session has ended, or lost its role.
    Revoked,
    /// It cannot be done just now.
    Unavailable(Unavailable),
}

impl From<StoreError<ActingRefusal>> for ActingError {
    fn from(error: StoreError<ActingRefusal>) -> Self {
        match error {
            StoreError::Refused(ActingRefusal) => Self::Revoked,
            StoreError::Failed(failure) => Self::Unavailable(failure.into()),
        }
    }
}

impl From<crate::store::StoreFailure> for Unavailable {
    fn from(failure: crate::store::StoreFailure) -> Self {
        tracing::error!(%failure, "a request to the store failed");
        Self::default()
    }
}
