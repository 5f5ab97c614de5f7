//! The outbox: a mail is a record of the store until a mail server has taken responsibility for it.
//!
//! A mail is queued in the commit of the change that it tells about, so a crash loses none and no request waits for a mail server.
//! It is removed after the transport took it, by an administrator, or with its account. Each attempt begins with a claim, so that
//! one node at a time sends a mail. If a process ends between the attempt and its outcome, the mail is sent again when the claim
//! ends, with the same `Message-ID`.
//!
//! The parts: `state` decides which mail is tried when, without any input or output; `postman` makes one attempt; `actor` carries
//! out what the state decides.

mod actor;
mod postman;
mod state;
#[cfg(test)]
mod tests;
mod turns;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use actor::{MailerActor, Message};
pub(crate) use postman::Postman;

use crate::ask::{ActingError, Unavailable};
use crate::domain::account::Role;
use crate::domain::audit::{AuditEvent, AuditRecord};
use crate::domain::email::Email;
use crate::domain::outbox::{MailId, QueuedMail, tidy_error, without_addresses};
use crate::domain::session::Origin;
use crate::domain::time::Timestamp;
use crate::health::OutboxHealth;
use crate::ports::{Clock, MailTransport};
use crate::process::Mailbox;
use crate::session::Principal;
use crate::store::{OutboxCounts, Store};

/// The settings for sending mails.
#[derive(Debug, Clone, Copy)]
pub struct MailerSettings {
    /// The maximum number of mails under way at once.
    pub concurrency: usize,
    /// The maximum time of one attempt.
    pub send_timeout: Duration,
    /// The maximum number of attempts for a mail.
    pub max_attempts: u32,
}

/// The handle of the outbox.
#[derive(Clone)]
pub struct MailerHandle {
    mailbox: Arc<Mailbox<Message>>,
    store: Store,
    transport: Arc<dyn MailTransport>,
    clock: Arc<dyn Clock>,
    troubles: Arc<Troubles>,
}

/// Why an attempt of this process last failed, without addresses, and when.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<Option<(Timestamp, String)>>);

impl Troubles {
    pub(crate) fn note(&self, at: Timestamp, error: &str) {
        // Addresses go first: a cut could leave a part of one.
        *self.lock() = Some((at, tidy_error(&without_addresses(error))));
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Timestamp, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MailerHandle {
    pub(crate) fn new(
        mailbox: Arc<Mailbox<Message>>,
        store: Store,
        transport: Arc<dyn MailTransport>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { mailbox, store, transport, clock, troubles: Arc::default() }
    }

    /// Returns where the failures of attempts are noted.
    pub(crate) fn troubles(&self) -> Arc<Troubles> {
        Arc::clone(&self.troubles)
    }

    /// Returns the health report of the outbox. `None` if the store cannot tell.
    pub(crate) async fn health(&self) -> Option<OutboxHealth> {
        let OutboxCounts { waiting, dead, oldest } = self.store.outbox_counts().await.ok()?;
        Some(OutboxHealth { waiting, dead, oldest, last_error: self.troubles.lock().clone() })
    }

    /// Returns whether mails to this address can be sent, as far as is known.
    /// False for an address outside ASCII after the mail server was seen to accept none (`SMTPUTF8`, RFC 6531).
    #[must_use]
    pub fn reaches(&self, to: &Email) -> bool {
        self.transport.reaches(to)
    }

    /// Tells the actor that a mail was queued. If the actor is down, it looks for due mails itself when it restarts.
    pub(crate) fn wake(&self) {
        let _ = self.mailbox.tell(Message::Queued);
    }

    /// Returns mails that are not delivered yet, with numbers after this one.
    pub async fn list(&self, after: Option<MailId>, limit: usize) -> Result<Vec<QueuedMail>, Unavailable> {
        Ok(self.store.mails(after, limit).await?)
    }

    /// Queues a mail again as if it had not been tried. Returns false if there is no such mail.
    pub async fn retry(&self, admin: &Principal, id: MailId, origin: Origin) -> Result<bool, ActingError> {
        let record = self.record(AuditEvent::MailRetried, admin, origin);
        let acting = Some(admin.acting(Role::Admin));
        let found = self.store.retry_mail(id, self.clock.now(), acting, record).await?;
        let _ = self.mailbox.tell(Message::Look);
        Ok(found)
    }

    /// Deletes a mail. Returns false if there is no such mail. A mail that is being sent may still arrive.
    pub async fn delete(&self, admin: &Principal, id: MailId, origin: Origin) -> Result<bool, ActingError> {
        let record = self.record(AuditEvent::MailDeleted, admin, origin);
        Ok(self.store.delete_mail(id, Some(admin.acting(Role::Admin)), record).await?)
    }

    /// Looks for due mails and waits until nothing is due or under way.
    #[cfg(feature = "testing")]
    pub(crate) async fn settle(&self) -> Result<(), crate::ask::AskError> {
        self.mailbox.ask(Duration::from_mins(1), Message::Settle).await
    }

    fn record(&self, event: AuditEvent, admin: &Principal, origin: Origin) -> AuditRecord {
        admin.record_as_admin(event, self.clock.now(), origin)
    }
}
