//! Asking an actor: how a question can fail, and what a client is told then.

use std::time::Duration;

use crate::store::{ActingRefusal, StoreError};

/// How long a client is asked to wait before it tries again after a question that failed: an actor is back within a second.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why an actor gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// It is being restarted, or the system stops.
    #[error("the actor is not running")]
    NotRunning,
    /// It took the question and failed, or was stopped, before it answered.
    #[error("the actor ended before it answered")]
    Lost,
    /// It did not answer in time. The question may still be handled later.
    #[error("the actor did not answer in time")]
    TimedOut,
}

/// Doorward cannot do this just now; nothing may be concluded from it but that one can try again.
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
        tracing::error!(%failure, "the store did not do what it was asked");
        Self::default()
    }
}
