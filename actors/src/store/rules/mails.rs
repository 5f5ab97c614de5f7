//! The outbox: mails are queued with the change that they report, then sent or given up, and removed.

use super::super::codec::{self, RecordError};
use super::super::engine::Fault;
use super::super::layout;
use super::super::requests::ActingRefusal;
use super::super::transaction::{Abort, Transaction};
use super::audit::append;
use super::sessions::may_act;
use super::{mail_counts, next, tokens};
use crate::domain::account::AccountId;
use crate::domain::audit::AuditRecord;
use crate::domain::one_time::TokenHash;
use crate::domain::outbox::{
    GivenUp, MAX_GIVEN_UP, MailId, MailOutcome, MailState, NewMail, QueuedMail, no_longer_kept,
};
use crate::domain::session::Acting;
use crate::domain::time::Timestamp;

/// Queues mails, due at once. Returns those that are withheld because there are too many of their kind.
/// `verified` tells whether the address of the account was verified.
pub(super) fn queue_all(
    tx: &mut Transaction<'_>,
    account: Option<AccountId>,
    verified: bool,
    mails: Vec<NewMail>,
) -> Result<Vec<NewMail>, Fault> {
    let mut withheld = Vec::new();
    for mail in mails {
        if mail_counts::admit(tx, account, verified, &mail)? {
            queue(tx, account, mail)?;
        } else {
            withheld.push(mail);
        }
    }
    Ok(withheld)
}

fn queue(tx: &mut Transaction<'_>, account: Option<AccountId>, mail: NewMail) -> Result<(), Fault> {
    let id = MailId::new(next(tx, layout::LAST_MAIL_ID)?);
    let id = id.ok_or(RecordError::Unreadable { kind: "counter", why: "mail number zero" })?;
    if let Some(account) = account {
        tx.put(&layout::mail_of(account, id), &id)?;
    }
    let next_attempt_at = mail.written_at;
    let queued =
        QueuedMail { id, account, mail, state: MailState::Queued, attempts: 0, next_attempt_at, last_error: None };
    put(tx, None, &queued)
}

/// Removes the waiting mail of a token. If the token was not replaced, only a mail that has no use without its link is removed.
pub(super) fn withdraw(
    tx: &mut Transaction<'_>,
    account: AccountId,
    token: &TokenHash,
    replaced: bool,
) -> Result<(), Fault> {
    for (_, id) in tx.scan(&layout::mails_of(account))? {
        if let Some(waiting) = stored(tx, codec::decode(&id)?)?
            && waiting.state == MailState::Queued
            && waiting.mail.token == Some(*token)
            && (replaced || waiting.mail.kind.is_only_a_link())
        {
            remove(tx, &waiting)?;
        }
    }
    Ok(())
}

/// Removes all mails of an account.
pub(super) fn remove_all(tx: &mut Transaction<'_>, account: AccountId) -> Result<(), Fault> {
    for (index, id) in tx.scan(&layout::mails_of(account))? {
        match stored(tx, codec::decode(&id)?)? {
            Some(mail) => remove(tx, &mail)?,
            None => tx.remove(&index),
        }
    }
    Ok(())
}

pub(crate) fn claim_mail<R>(
    tx: &mut Transaction<'_>,
    id: MailId,
    now: Timestamp,
    until: Option<Timestamp>,
) -> Result<Option<QueuedMail>, Abort<R>> {
    let Some(mut mail) = stored(tx, id)?.filter(|mail| mail.is_due(now)) else {
        return Ok(None);
    };
    if let Some(until) = until {
        let due = mail.clone();
        mail.next_attempt_at = until;
        put(tx, Some(&due), &mail)?;
    }
    Ok(Some(mail))
}

pub(crate) fn settle_mail<R>(
    tx: &mut Transaction<'_>,
    id: MailId,
    claimed_until: Timestamp,
    outcome: MailOutcome,
) -> Result<(), Abort<R>> {
    let Some(before) = stored(tx, id)? else {
        return Ok(());
    };
    let has_claim = before.state == MailState::Queued && before.next_attempt_at == claimed_until;
    // A sent mail was sent, even if another process has claimed it since.
    if !has_claim && !matches!(outcome, MailOutcome::Sent { .. }) {
        return Ok(());
    }
    let (state, at, error) = match outcome {
        MailOutcome::Sent { at } => {
            if let Some((token, ttl)) = before.mail.token.zip(before.mail.valid_for) {
                tokens::end_by(tx, &token, at.plus(ttl))?;
            }
            return Ok(remove(tx, &before)?);
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
    put(tx, Some(&before), &after)?;
    if after.state == MailState::Dead && tx.counter(layout::GIVEN_UP)? > MAX_GIVEN_UP as u64 {
        remove_given_up(tx, at)?;
    }
    Ok(())
}

pub(crate) fn prune_mails<R>(tx: &mut Transaction<'_>, now: Timestamp, limit: usize) -> Result<usize, Abort<R>> {
    remove_given_up(tx, now)?;
    Ok(mail_counts::prune(tx, now, limit)?)
}

/// Removes given-up mails that are no longer kept, and counts the others anew, because mails of older versions were not counted.
fn remove_given_up(tx: &mut Transaction<'_>, now: Timestamp) -> Result<(), Fault> {
    let mut given_up = Vec::new();
    for (_, value) in tx.scan(layout::ALL_MAILS)? {
        // An unreadable mail is skipped, as everywhere.
        if let Ok(mail) = codec::decode::<QueuedMail>(&value)
            && mail.state == MailState::Dead
        {
            given_up.push(GivenUp { id: mail.id, at: mail.next_attempt_at, network: mail.mail.network });
        }
    }
    tx.put(layout::GIVEN_UP, &(given_up.len() as u64))?;
    for id in no_longer_kept(given_up, now) {
        if let Some(mail) = stored(tx, id)? {
            remove(tx, &mail)?;
        }
    }
    Ok(())
}

pub(crate) fn retry_mail(
    tx: &mut Transaction<'_>,
    id: MailId,
    at: Timestamp,
    acting: Option<Acting>,
    audit: &AuditRecord,
) -> Result<bool, Abort<ActingRefusal>> {
    if !may_act(tx, acting)? {
        return Err(Abort::Refused(ActingRefusal));
    }
    let Some(before) = stored(tx, id)? else {
        return Ok(false);
    };
    let after = QueuedMail { state: MailState::Queued, attempts: 0, next_attempt_at: at, ..before.clone() };
    put(tx, Some(&before), &after)?;
    append(tx, &AuditRecord { subject: before.account, ..audit.clone() })?;
    Ok(true)
}

pub(crate) fn delete_mail(
    tx: &mut Transaction<'_>,
    id: MailId,
    acting: Option<Acting>,
    audit: &AuditRecord,
) -> Result<bool, Abort<ActingRefusal>> {
    if !may_act(tx, acting)? {
        return Err(Abort::Refused(ActingRefusal));
    }
    let Some(mail) = stored(tx, id)? else {
        return Ok(false);
    };
    remove(tx, &mail)?;
    append(tx, &AuditRecord { subject: mail.account, ..audit.clone() })?;
    Ok(true)
}

fn stored(tx: &Transaction<'_>, id: MailId) -> Result<Option<QueuedMail>, Fault> {
    tx.get(&layout::mail(id))
}

/// Writes a mail, moves its entry in the order of attempts, which contains only queued mails, and updates the counts.
fn put(tx: &mut Transaction<'_>, before: Option<&QueuedMail>, after: &QueuedMail) -> Result<(), Fault> {
    if let Some(before) = before {
        tx.remove(&layout::due(before.next_attempt_at, before.id));
    }
    if after.state == MailState::Queued {
        tx.put(&layout::due(after.next_attempt_at, after.id), &after.id)?;
    }
    mail_counts::changed(tx, before, Some(after))?;
    tx.put(&layout::mail(after.id), after)
}

fn remove(tx: &mut Transaction<'_>, mail: &QueuedMail) -> Result<(), Fault> {
    tx.remove(&layout::mail(mail.id));
    tx.remove(&layout::due(mail.next_attempt_at, mail.id));
    if let Some(account) = mail.account {
        tx.remove(&layout::mail_of(account, mail.id));
    }
    mail_counts::changed(tx, Some(mail), None)
}
