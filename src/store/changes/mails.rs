//! The outbox: mails are queued with what they tell of, tried, and removed.

use doorward_actors::{
    AccountId, AuditRecord, GivenUp, MAX_GIVEN_UP, MailId, MailOutcome, MailState, NewMail, QueuedMail, Timestamp,
    TokenHash, no_longer_kept,
};

use super::super::codec::{self, RecordError};
use super::super::keys;
use super::super::staging::{Abort, Fault, Staging};
use super::audit::append;
use super::{mail_counts, next, tokens};

/// Queues mails, due at once; the answer is those that are withheld because there are too many of their kind. `verified` says
/// whether the address of the account was verified.
pub(super) fn queue_all(
    staging: &mut Staging<'_>,
    account: Option<AccountId>,
    verified: bool,
    mails: Vec<NewMail>,
) -> Result<Vec<NewMail>, Fault> {
    let mut withheld = Vec::new();
    for mail in mails {
        if mail_counts::admit(staging, account, verified, &mail)? {
            queue(staging, account, mail)?;
        } else {
            withheld.push(mail);
        }
    }
    Ok(withheld)
}

fn queue(staging: &mut Staging<'_>, account: Option<AccountId>, mail: NewMail) -> Result<(), Fault> {
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

/// Removes the mail of a token that waits: one of a token that was replaced in any case, one of another only if it is worth
/// nothing without its link.
pub(super) fn withdraw(
    staging: &mut Staging<'_>,
    account: AccountId,
    token: &TokenHash,
    replaced: bool,
) -> Result<(), Fault> {
    for (_, id) in staging.scan(&keys::mails_of(account))? {
        if let Some(waiting) = stored(staging, codec::decode(&id)?)?
            && waiting.state == MailState::Queued
            && waiting.mail.token == Some(*token)
            && (replaced || waiting.mail.kind.is_only_a_link())
        {
            remove(staging, &waiting)?;
        }
    }
    Ok(())
}

/// Removes all mails of an account.
pub(super) fn remove_all(staging: &mut Staging<'_>, account: AccountId) -> Result<(), Fault> {
    for (index, id) in staging.scan(&keys::mails_of(account))? {
        match stored(staging, codec::decode(&id)?)? {
            Some(mail) => remove(staging, &mail)?,
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
        MailOutcome::Sent { at } => {
            if let Some((token, ttl)) = before.mail.token.zip(before.mail.valid_for) {
                tokens::end_by(staging, &token, at.plus(ttl))?;
            }
            return Ok(remove(staging, &before)?);
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
    put(staging, Some(&before), &after)?;
    if after.state == MailState::Dead && staging.counter(keys::GIVEN_UP)? > MAX_GIVEN_UP as u64 {
        remove_given_up(staging, at)?;
    }
    Ok(())
}

pub(in super::super) fn prune_mails<R>(
    staging: &mut Staging<'_>,
    now: Timestamp,
    limit: usize,
) -> Result<usize, Abort<R>> {
    remove_given_up(staging, now)?;
    Ok(mail_counts::prune(staging, now, limit)?)
}

/// Removes given-up mails that are no longer kept, and counts the others anew: mails of older versions were not counted.
fn remove_given_up(staging: &mut Staging<'_>, now: Timestamp) -> Result<(), Fault> {
    let mut given_up = Vec::new();
    for (_, value) in staging.scan(keys::ALL_MAILS)? {
        // One that cannot be read is passed over here as everywhere.
        if let Ok(mail) = codec::decode::<QueuedMail>(&value)
            && mail.state == MailState::Dead
        {
            given_up.push(GivenUp { id: mail.id, at: mail.next_attempt_at, network: mail.mail.network });
        }
    }
    staging.put(keys::GIVEN_UP, &(given_up.len() as u64))?;
    for id in no_longer_kept(given_up, now) {
        if let Some(mail) = stored(staging, id)? {
            remove(staging, &mail)?;
        }
    }
    Ok(())
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
    remove(staging, &mail)?;
    append(staging, &AuditRecord { subject: mail.account, ..audit.clone() })?;
    Ok(true)
}

fn stored(staging: &Staging<'_>, id: MailId) -> Result<Option<QueuedMail>, Fault> {
    staging.get(&keys::mail(id))
}

/// Writes a mail, moves its entry in the order of attempts, where only queued ones have one, and keeps the counts right.
fn put(staging: &mut Staging<'_>, before: Option<&QueuedMail>, after: &QueuedMail) -> Result<(), Fault> {
    if let Some(before) = before {
        staging.remove(&keys::due(before.next_attempt_at, before.id));
    }
    if after.state == MailState::Queued {
        staging.put(&keys::due(after.next_attempt_at, after.id), &after.id)?;
    }
    mail_counts::changed(staging, before, Some(after))?;
    staging.put(&keys::mail(after.id), after)
}

fn remove(staging: &mut Staging<'_>, mail: &QueuedMail) -> Result<(), Fault> {
    staging.remove(&keys::mail(mail.id));
    staging.remove(&keys::due(mail.next_attempt_at, mail.id));
    if let Some(account) = mail.account {
        staging.remove(&keys::mail_of(account, mail.id));
    }
    mail_counts::changed(staging, Some(mail), None)
}
