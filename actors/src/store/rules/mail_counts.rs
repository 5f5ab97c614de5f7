//! The counts of mails of a kind per account, address and client: those of today and those that wait (S75).

use super::super::engine::Fault;
use super::super::layout;
use super::super::transaction::Transaction;
use super::audit::append;
use crate::domain::account::AccountId;
use crate::domain::audit::{AuditEvent, AuditRecord, AuditRefusal};
use crate::domain::outbox::{MailCount, MailState, NewMail, QueuedMail, day_of};
use crate::domain::session::Origin;
use crate::domain::time::Timestamp;

/// Counts a mail for today and returns `true` if none of its counts is full. Otherwise records the full one, once a day,
/// and returns `false`.
pub(super) fn admit(
    tx: &mut Transaction<'_>,
    account: Option<AccountId>,
    verified: bool,
    mail: &NewMail,
) -> Result<bool, Fault> {
    let day = day_of(mail.written_at);
    let bounds = mail.bounds(account, verified);
    for bound in &bounds {
        let today = tx.counter(&layout::mails_of_day(day, &bound.count))?;
        let waiting = tx.counter(&layout::waiting_mails(&bound.count))?;
        if today >= bound.a_day || bound.waiting.is_some_and(|most| waiting >= most) {
            note_withheld(tx, account, mail, &bound.count)?;
            return Ok(false);
        }
    }
    for bound in bounds {
        let key = layout::mails_of_day(day, &bound.count);
        tx.put(&key, &tx.counter(&key)?.saturating_add(1))?;
    }
    Ok(true)
}

fn note_withheld(
    tx: &mut Transaction<'_>,
    account: Option<AccountId>,
    mail: &NewMail,
    count: &MailCount,
) -> Result<(), Fault> {
    let noted = layout::withheld_of_day(day_of(mail.written_at), count);
    if tx.has(&noted)? {
        return Ok(());
    }
    tx.put(&noted, &1_u64)?;
    append(tx, &withheld(account, mail))
}

/// Updates the counts of waiting and given-up mails when a mail appears, changes its state or is removed.
pub(super) fn changed(
    tx: &mut Transaction<'_>,
    before: Option<&QueuedMail>,
    after: Option<&QueuedMail>,
) -> Result<(), Fault> {
    let is = |mail: Option<&QueuedMail>, state| mail.is_some_and(|mail| mail.state == state);
    let Some(mail) = after.or(before) else { return Ok(()) };
    let (was, waits) = (is(before, MailState::Queued), is(after, MailState::Queued));
    for bound in mail.mail.bounds(mail.account, true).iter().filter(|bound| bound.waiting.is_some()) {
        count(tx, &layout::waiting_mails(&bound.count), was, waits)?;
    }
    count(tx, layout::GIVEN_UP, is(before, MailState::Dead), is(after, MailState::Dead))
}

/// Like [`super::count`], but mails that an older version queued were not counted, and a count of zero has no row.
fn count(tx: &mut Transaction<'_>, key: &[u8], before: bool, after: bool) -> Result<(), Fault> {
    if before == after {
        return Ok(());
    }
    let counted = tx.counter(key)?;
    match if after { counted.saturating_add(1) } else { counted.saturating_sub(1) } {
        0 => tx.remove(key),
        counted => tx.put(key, &counted)?,
    }
    Ok(())
}

/// Removes at most `limit` rows of days before yesterday. Yesterday stays, because nodes' clocks differ and a clock may be set
/// back.
pub(super) fn prune(tx: &mut Transaction<'_>, now: Timestamp, limit: usize) -> Result<usize, Fault> {
    let mut pruned = 0;
    for (first, end) in layout::mail_days_before(day_of(now).saturating_sub(1)) {
        for key in tx.keys(&first, &end, limit - pruned)? {
            tx.remove(&key);
            pruned += 1;
        }
    }
    Ok(pruned)
}

fn withheld(account: Option<AccountId>, mail: &NewMail) -> AuditRecord {
    AuditRecord {
        subject: account,
        origin: Origin::new(mail.client_address, mail.user_agent.as_deref(), None),
        refusal: Some(AuditRefusal::TooManyMails),
        ..AuditRecord::new(AuditEvent::MailWithheld, mail.written_at)
    }
}
