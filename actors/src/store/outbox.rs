//! The store's methods for mails that wait to be sent.

use super::{ActingRefusal, Store, StoreError, StoreFailure, reads, rules};
use crate::domain::audit::AuditRecord;
#[cfg(doc)]
use crate::domain::outbox::{MAX_GIVEN_UP, NewMail, no_longer_kept};
use crate::domain::outbox::{MailId, MailOutcome, QueuedMail};
use crate::domain::session::Acting;
use crate::domain::time::Timestamp;

/// The maximum number of waiting mails that are counted for a report. Counting this many takes milliseconds.
pub const MAX_COUNTED_MAILS: usize = 10_000;

/// How many mails there are, and when the oldest waiting one was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    /// How many mails wait to be sent, at most [`MAX_COUNTED_MAILS`].
    pub waiting: usize,
    /// How many mails were given up.
    pub dead: u64,
    /// When the oldest waiting mail was written.
    pub oldest: Option<Timestamp>,
}

impl Store {
    /// Counts the mails of the outbox.
    pub async fn outbox_counts(&self) -> Result<OutboxCounts, StoreFailure> {
        self.ask(reads::outbox_counts).await
    }

    /// Returns queued mails that are due, the longest due first.
    pub async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure> {
        self.ask(move |rows| reads::due_mails(rows, now, limit)).await
    }

    /// Returns mails of any state with numbers after this one, by number.
    pub async fn mails(&self, after: Option<MailId>, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure> {
        self.ask(move |rows| reads::mails(rows, after, limit)).await
    }

    /// Claims a due mail. With `until` it is due again only then, so one process at a time sends it.
    /// Returns the mail, or `None` if it is not due, for example because another process claimed it.
    ///
    /// The returned mail is durable, and so is all that was committed with it. A read could show a mail that a crash still loses.
    pub async fn claim_mail(
        &self,
        id: MailId,
        now: Timestamp,
        until: Option<Timestamp>,
    ) -> Result<Option<QueuedMail>, StoreFailure> {
        self.note(move |tx| rules::claim_mail(tx, id, now, until)).await
    }

    /// Stores the outcome of an attempt to send a mail that was claimed until a time, and counts the attempt.
    /// Skips a mail that no longer exists, and also a failure if the mail was claimed or queued again since.
    /// The token of a sent mail expires [`NewMail::valid_for`] later, if that is earlier than its expiry so far.
    /// If there are more given-up mails than [`MAX_GIVEN_UP`], [some of them](no_longer_kept) are removed.
    pub async fn settle_mail(
        &self,
        id: MailId,
        claimed_until: Timestamp,
        outcome: MailOutcome,
    ) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::settle_mail(tx, id, claimed_until, outcome.clone())).await
    }

    /// Queues a mail again, due at this time, with no attempts counted. Returns false if there is no such mail.
    /// Its account becomes the subject of the audit record.
    pub async fn retry_mail(
        &self,
        id: MailId,
        at: Timestamp,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<bool, StoreError<ActingRefusal>> {
        self.change(move |tx| rules::retry_mail(tx, id, at, acting, &audit)).await
    }

    /// Deletes a mail. Returns false if there is no such mail. Its account becomes the subject of the audit record.
    pub async fn delete_mail(
        &self,
        id: MailId,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<bool, StoreError<ActingRefusal>> {
        self.change(move |tx| rules::delete_mail(tx, id, acting, &audit)).await
    }

    /// Removes given-up mails that are [no longer kept](no_longer_kept), and at most `limit` counts of mails of days before
    /// yesterday. Returns how many counts were removed.
    pub async fn prune_mails(&self, now: Timestamp, limit: usize) -> Result<usize, StoreFailure> {
        self.note(move |tx| rules::prune_mails(tx, now, limit)).await
    }
}
