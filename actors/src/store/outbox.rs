//! The store's face for mails that wait to be sent.

use super::{ActingRefusal, Store, StoreError, StoreFailure, reads, rules};
use crate::domain::audit::AuditRecord;
#[cfg(doc)]
use crate::domain::outbox::{MAX_GIVEN_UP, NewMail, no_longer_kept};
use crate::domain::outbox::{MailId, MailOutcome, QueuedMail};
use crate::domain::session::Acting;
use crate::domain::time::Timestamp;

impl Store {
    /// Queued mails that are due, the longest due first.
    pub async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure> {
        self.ask(move |rows| reads::due_mails(rows, now, limit)).await
    }

    /// Mails of any state with numbers after this one, by number.
    pub async fn mails(&self, after: Option<MailId>, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure> {
        self.ask(move |rows| reads::mails(rows, after, limit)).await
    }

    /// Claims a mail that is due until a time: it is due again only then, so that one process at a time sends it. The answer is the
    /// mail as it was, or nothing if it is not due, for example because another process claimed it.
    pub async fn claim_mail(
        &self,
        id: MailId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<QueuedMail>, StoreFailure> {
        self.note(move |tx| rules::claim_mail(tx, id, now, until)).await
    }

    /// Notes what came of an attempt to send a mail that was claimed until a time; a mail that is gone is passed over, and a
    /// failure too if the mail was claimed or queued anew since. Counts the attempt. The token of a mail
    /// that was sent ends [`NewMail::valid_for`] later, if that is earlier than its end so far. More given-up mails than
    /// [`MAX_GIVEN_UP`] make [some of them](no_longer_kept) go.
    pub async fn settle_mail(
        &self,
        id: MailId,
        claimed_until: Timestamp,
        outcome: MailOutcome,
    ) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::settle_mail(tx, id, claimed_until, outcome.clone())).await
    }

    /// Queues a mail anew, due at this time, with no attempts counted; false if there is no such mail. Its account becomes the
    /// subject of the audit record.
    pub async fn retry_mail(
        &self,
        id: MailId,
        at: Timestamp,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<bool, StoreError<ActingRefusal>> {
        self.change(move |tx| rules::retry_mail(tx, id, at, acting, &audit)).await
    }

    /// Deletes a mail; false if there is no such mail. Its account becomes the subject of the audit record.
    pub async fn delete_mail(
        &self,
        id: MailId,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<bool, StoreError<ActingRefusal>> {
        self.change(move |tx| rules::delete_mail(tx, id, acting, &audit)).await
    }

    /// Removes given-up mails that are [no longer kept](no_longer_kept), and at most `limit` counts of mails of days before
    /// yesterday; the answer is how many counts went.
    pub async fn prune_mails(&self, now: Timestamp, limit: usize) -> Result<usize, StoreFailure> {
        self.note(move |tx| rules::prune_mails(tx, now, limit)).await
    }
}
