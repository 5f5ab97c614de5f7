//! Queries over rows.
//!
//! An engine without snapshots may apply a change between two reads of one query. Where that could matter, the row that is read last
//! decides.

use super::requests::{ListedAccount, Page, ShardOf};
use crate::domain::account::{Account, AccountId, Role};
use crate::domain::failures::{FailureKey, Failures};
use crate::domain::outbox::{MailId, MailState, QueuedMail};
use crate::domain::session::Session;
use crate::domain::time::Timestamp;
use std::ops::Bound;

use super::codec::{self, Record};
use super::engine::{Fault, Row, Rows};
use super::layout;
use super::outbox::{MAX_COUNTED_MAILS, OutboxCounts};

pub(super) mod audit;
pub(super) mod import;
pub(super) mod personal;
pub(super) mod services;

/// The number of rows that a walk fetches at once.
const AT_ONCE: usize = 256;

/// Returns the record under a key.
pub(crate) fn get<R: Record>(rows: &dyn Rows, key: &[u8]) -> Result<Option<R>, Fault> {
    rows.get_raw(key)?.map(|value| Ok(codec::decode(&value)?)).transpose()
}

/// Returns a counter; 0 until it is first written.
pub(crate) fn counter(rows: &dyn Rows, key: &[u8]) -> Result<u64, Fault> {
    Ok(get(rows, key)?.unwrap_or(0))
}

/// Iterates over the rows between two keys, in batches. It ends after an error.
pub(super) fn walk(
    rows: &dyn Rows,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
) -> impl Iterator<Item = Result<Row, Fault>> {
    let (mut next, mut part) = (Some(from), Vec::new().into_iter());
    std::iter::from_fn(move || {
        if part.len() == 0
            && let Some(from) = next.take()
        {
            let found = match rows.range_raw(bytes(&from), bytes(&to), AT_ONCE) {
                Ok(found) => found,
                Err(fault) => return Some(Err(fault)),
            };
            next = found.last().filter(|_| found.len() == AT_ONCE).map(|(key, _)| Bound::Excluded(key.clone()));
            part = found.into_iter();
        }
        part.next().map(Ok)
    })
}

fn bytes(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// Iterates over the rows whose keys begin with a prefix.
pub(super) fn walk_prefix<'a>(rows: &'a dyn Rows, prefix: &[u8]) -> impl Iterator<Item = Result<Row, Fault>> + use<'a> {
    // The first key after all of them: without the trailing bytes that are at their maximum, and with the last other byte incremented.
    let mut end = prefix.to_vec();
    while end.last() == Some(&u8::MAX) {
        end.pop();
    }
    let end = match end.last_mut() {
        Some(last) => {
            *last += 1;
            Bound::Excluded(end)
        }
        None => Bound::Unbounded,
    };
    walk(rows, Bound::Included(prefix.to_vec()), end)
}

/// Adds the last use, which is stored separately, to a session.
pub(super) fn with_last_use(mut session: Session, last_use: Option<Timestamp>) -> Session {
    session.last_active_at = last_use.map_or(session.last_active_at, |at| at.max(session.last_active_at));
    session
}

fn listed(rows: &dyn Rows, account: Account) -> Result<ListedAccount, Fault> {
    let last_active_at = get(rows, &layout::activity(account.id))?;
    Ok(ListedAccount { account, last_active_at })
}

pub(super) fn accounts(rows: &dyn Rows, page: Page) -> Result<Vec<ListedAccount>, Fault> {
    let mut accounts = Vec::new();
    let mut to_skip = page.skip;
    for row in walk_prefix(rows, layout::ALL_ACCOUNTS) {
        if accounts.len() == page.limit {
            break;
        }
        let (_, value) = row?;
        if to_skip > 0 {
            to_skip -= 1;
            continue;
        }
        accounts.push(listed(rows, codec::decode(&value)?)?);
    }
    Ok(accounts)
}

/// Returns the sessions of an account with their last use, sorted by id.
pub(super) fn sessions_of(rows: &dyn Rows, account: AccountId) -> Result<Vec<Session>, Fault> {
    let mut sessions = Vec::new();
    for row in walk_prefix(rows, &layout::sessions_of(account)) {
        // An unreadable session counts as ended, so it gives no access.
        if let Ok(session) = codec::decode::<Session>(&row?.1) {
            let last_use = get(rows, &layout::touch(account, session.id))?;
            sessions.push(with_last_use(session, last_use));
        }
    }
    Ok(sessions)
}

pub(super) fn sessions(rows: &dyn Rows, shard: ShardOf) -> Result<Vec<Session>, Fault> {
    let mut sessions = Vec::new();
    for row in walk_prefix(rows, layout::ALL_SESSIONS) {
        let (key, value) = row?;
        // Checked before decoding, because all shards but one skip the row.
        if !layout::account_of_session(&key).is_some_and(|account| shard.owns(account)) {
            continue;
        }
        // One unreadable record ends only that session, not the whole service.
        match codec::decode(&value) {
            Ok::<Session, _>(session) => {
                let last_use = get(rows, &layout::touch(session.account, session.id))?;
                sessions.push(with_last_use(session, last_use));
            }
            Err(error) => tracing::error!(%error, "a stored session cannot be read and counts as ended"),
        }
    }
    Ok(sessions)
}

/// Returns whether an account belongs to an ordinary user who registered it, and was never verified, never locked and never logged in to.
pub(super) fn was_never_taken_up(rows: &dyn Rows, account: &Account) -> Result<bool, Fault> {
    if !account.awaits_verification() || account.locked || account.role == Role::Admin {
        return Ok(false);
    }
    // If someone logged in to it when that needed no verification, it has an owner.
    let used = rows.has(&layout::activity(account.id))?
        || walk_prefix(rows, &layout::sessions_of(account.id)).next().transpose()?.is_some()
        || walk_prefix(rows, &layout::all_known(account.id)).next().transpose()?.is_some();
    Ok(!used)
}

pub(super) fn unverified_before(rows: &dyn Rows, time: Timestamp, limit: usize) -> Result<Vec<AccountId>, Fault> {
    let mut unverified = Vec::new();
    for row in walk_prefix(rows, layout::ALL_ACCOUNTS) {
        if unverified.len() == limit {
            break;
        }
        let (_, value) = row?;
        // An unreadable record keeps only its own account.
        match codec::decode::<Account>(&value) {
            Ok(account) if account.created_at < time && was_never_taken_up(rows, &account)? => {
                unverified.push(account.id);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "a stored account cannot be read and counts as verified"),
        }
    }
    Ok(unverified)
}

pub(super) fn due_mails(rows: &dyn Rows, now: Timestamp, limit: usize) -> Result<Vec<QueuedMail>, Fault> {
    let (first, last) = layout::due_until(now);
    let mut due = Vec::new();
    for row in walk(rows, Bound::Included(first.to_vec()), Bound::Included(last.to_vec())) {
        if due.len() == limit {
            break;
        }
        let (_, value) = row?;
        let mail = codec::decode(&value).map_err(Fault::from).and_then(|id| get::<QueuedMail>(rows, &layout::mail(id)));
        if let Some(mail) = readable(mail)?.flatten()
            // The mail may have been sent or postponed between the two look-ups.
            && mail.state == MailState::Queued
            && mail.next_attempt_at <= now
        {
            due.push(mail);
        }
    }
    Ok(due)
}

pub(super) fn outbox_counts(rows: &dyn Rows) -> Result<OutboxCounts, Fault> {
    let (first, last) = layout::due_until(Timestamp::from_millis(i64::MAX));
    let waiting = rows.range_raw(Bound::Included(&first), Bound::Included(&last), MAX_COUNTED_MAILS)?;
    // Numbers are given in the order in which mails are written.
    let ids = waiting.iter().filter_map(|(_, value)| codec::decode::<MailId>(value).ok());
    let oldest = match ids.min() {
        Some(id) => readable(get::<QueuedMail>(rows, &layout::mail(id)))?.flatten(),
        None => None,
    };
    Ok(OutboxCounts {
        waiting: waiting.len(),
        dead: counter(rows, layout::GIVEN_UP)?,
        oldest: oldest.map(|mail| mail.mail.written_at),
    })
}

pub(super) fn mails(rows: &dyn Rows, after: Option<MailId>, limit: usize) -> Result<Vec<QueuedMail>, Fault> {
    let (after, end) = layout::mails_after(after);
    let mut mails = Vec::new();
    for row in walk(rows, Bound::Excluded(after.to_vec()), Bound::Excluded(end.to_vec())) {
        if mails.len() == limit {
            break;
        }
        let (_, value) = row?;
        mails.extend(readable(codec::decode(&value).map_err(Fault::from))?);
    }
    Ok(mails)
}

/// Returns all counters. Skips an unreadable one, which at worst allows a few more guesses.
pub(super) fn failures(rows: &dyn Rows) -> Result<Vec<(FailureKey, Failures)>, Fault> {
    let mut failures = Vec::new();
    for row in walk_prefix(rows, layout::ALL_FAILURES) {
        let (key, value) = row?;
        if let (Some(key), Ok(stored)) = (layout::failures_of(&key), codec::decode(&value)) {
            failures.push((key, stored));
        } else {
            tracing::error!("a stored counter of failed attempts cannot be read and is skipped");
        }
    }
    Ok(failures)
}

/// Skips an unreadable mail, so that it does not block the others.
fn readable<T>(mail: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match mail {
        Ok(mail) => Ok(Some(mail)),
        Err(Fault::Record(error)) => {
            tracing::error!(%error, "a stored mail cannot be read and is skipped");
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}
