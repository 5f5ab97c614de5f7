//! The outbox: mails are queued with what they tell of, tried, and removed.

use doorward_actors::{AccountId, AuditRecord, MailId, MailOutcome, MailState, NewMail, QueuedMail, Timestamp};

use super::super::codec::{self, RecordError};
use super::super::keys;
use super::super::staging::{Abort, Fault, Staging};
use super::audit::append;
use super::next;

/// Queues a mail, due at once.
pub(super) fn queue(staging: &mut Staging<'_>, account: Option<AccountId>, mail: NewMail) -> Result<(), Fault> {
    let id = MailId::new(next(staging, keys::LAST_MAIL_ID)?);
    let id = id.ok_or(RecordError::Unreadable { kind: "counter", why: "mail number zero" })?;
    if let Some(account) = account {
        staging.put(&keys::mail_of(account, id), &id)?;
    }
    let next_attempt_at = mail.written_at;
    let queued =
        QueuedMail { id, account, mail, state: MailState::Queued, attempts: 0, next_attempt_at, last_error: None };
    put(staging, None, &queued)
}

pub(super) fn queue_all(
    staging: &mut Staging<'_>,
    account: Option<AccountId>,
    mails: Vec<NewMail>,
) -> Result<(), Fault> {
    mails.into_iter().try_for_each(|mail| queue(staging, account, mail))
}

/// Removes all mails of an account.
pub(super) fn remove_all(staging: &mut Staging<'_>, account: AccountId) -> Result<(), Fault> {
    for (index, id) in staging.scan(&keys::mails_of(account))? {
        match stored(staging, codec::decode(&id)?)? {
            Some(mail) => remove(staging, &mail),
            None => staging.remove(&index),
        }
    }
    Ok(())
}

pub(in super::super) fn settle_mail<R>(
    staging: &mut Staging<'_>,
    id: MailId,
    outcome: MailOutcome,
) -> Result<(), Abort<R>> {
    let Some(before) = stored(staging, id)? else {
        return Ok(());
    };
    let (state, at, error) = match outcome {
        MailOutcome::Sent => {
            remove(staging, &before);
            return Ok(());
        }
        MailOutcome::Retry { at, error } => (MailState::Queued, at, error),
        MailOutcome::Dead { at, error } => (MailState::Dead, at, error),
    };
    let after = QueuedMail {
        state,
        attempts: before.attempts.saturating_add(1),
        next_attempt_at: at,
        last_error: Some(error),
        ..before.clone()
    };
    Ok(put(staging, Some(&before), &after)?)
}

pub(in super::super) fn retry_mail<R>(
    staging: &mut Staging<'_>,
    id: MailId,
    at: Timestamp,
    audit: &AuditRecord,
) -> Result<bool, Abort<R>> {
    let Some(before) = stored(staging, id)? else {
        return Ok(false);
    };
    let after = QueuedMail { state: MailState::Queued, attempts: 0, next_attempt_at: at, ..before.clone() };
    put(staging, Some(&before), &after)?;
    append(staging, &AuditRecord { subject: before.account, ..audit.clone() })?;
    Ok(true)
}

pub(in super::super) fn delete_mail<R>(
    staging: &mut Staging<'_>,
    id: MailId,
    audit: &AuditRecord,
) -> Result<bool, Abort<R>> {
    let Some(mail) = stored(staging, id)? else {
        return Ok(false);
    };
    remove(staging, &mail);
    append(staging, &AuditRecord { subject: mail.account, ..audit.clone() })?;
    Ok(true)
}

fn stored(staging: &Staging<'_>, id: MailId) -> Result<Option<QueuedMail>, Fault> {
    staging.get(&keys::mail(id))
}

/// Writes a mail and moves its entry in the order of attempts, where only queued ones have one.
fn put(staging: &mut Staging<'_>, before: Option<&QueuedMail>, after: &QueuedMail) -> Result<(), Fault> {
    if let Some(before) = before {
        staging.remove(&keys::due(before.next_attempt_at, before.id));
    }
    if after.state == MailState::Queued {
        staging.put(&keys::due(after.next_attempt_at, after.id), &after.id)?;
    }
    staging.put(&keys::mail(after.id), after)
}

fn remove(staging: &mut Staging<'_>, mail: &QueuedMail) {
    staging.remove(&keys::mail(mail.id));
    staging.remove(&keys::due(mail.next_attempt_at, mail.id));
    if let Some(account) = mail.account {
        staging.remove(&keys::mail_of(account, mail.id));
    }
}
