use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::email::Email;
use crate::domain::mail::OutgoingMail;
use crate::ports::{MailTransport, SendError};

/// A transport that keeps what it is given, or refuses it, as a test likes.
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
    /// A transport that takes everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was sent, the oldest first.
    #[must_use]
    pub fn sent(&self) -> Vec<OutgoingMail> {
        self.state().sent.clone()
    }

    /// How often it was tried, with whatever outcome.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.state().attempts
    }

    /// From now on every mail is refused like this; `None` takes them again.
    pub fn refuse(&self, refusal: Option<SendError>) {
        self.state().refusal = refusal;
    }

    /// From now on an attempt never ends by itself, as with a server that says nothing.
    pub fn stall(&self, stalls: bool) {
        self.state().stalls = stalls;
    }

    /// From now on only addresses in ASCII are reached.
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
