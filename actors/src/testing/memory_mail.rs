use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::email::Email;
use crate::domain::mail::OutgoingMail;
use crate::ports::{MailTransport, SendError};

/// A mail transport that keeps the mails it receives or refuses them.
#[derive(Debug, Default)]
pub struct MemoryMail {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sent: Vec<OutgoingMail>,
    attempts: usize,
    refusal: Option<SendError>,
    stalls: bool,
    ascii_only: bool,
}

impl MemoryMail {
    /// Returns a transport that accepts every mail.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the accepted mails, the oldest first.
    #[must_use]
    pub fn sent(&self) -> Vec<OutgoingMail> {
        self.state().sent.clone()
    }

    /// Returns the number of attempts, successful or not.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.state().attempts
    }

    /// Refuses every mail with this error from now on. With `None` it accepts mails again.
    pub fn refuse(&self, refusal: Option<SendError>) {
        self.state().refusal = refusal;
    }

    /// With `true`, no attempt from now on ends by itself, as with a server that does not answer.
    pub fn stall(&self, stalls: bool) {
        self.state().stalls = stalls;
    }

    /// Reaches only ASCII addresses from now on.
    pub fn reach_ascii_only(&self) {
        self.state().ascii_only = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl MailTransport for MemoryMail {
    async fn send(&self, mail: &OutgoingMail) -> Result<(), SendError> {
        let stalls = {
            let mut state = self.state();
            state.attempts += 1;
            state.stalls
        };
        if stalls {
            std::future::pending::<()>().await;
        }
        let mut state = self.state();
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone());
        }
        state.sent.push(mail.clone());
        Ok(())
    }

    fn reaches(&self, to: &Email) -> bool {
        to.has_ascii_local_part() || !self.state().ascii_only
    }
}
