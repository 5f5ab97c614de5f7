//! What is read straight from the engine, without the committer.
//!
//! A read of several records may fall between two changes; where that could show, the record read last decides.

use std::net::IpAddr;
use std::ops::Bound;

use doorward_actors::ports::{ListedAccount, Page, ShardOf, StoredToken, UsedToken};
use doorward_actors::{
    Account, AccountId, EmailKey, FailureKey, MailId, MailState, QueuedMail, RefreshFamily, Role, Session, SessionId,
    StoredFailures, Timestamp, TokenHash, TokenPurpose,
};

use super::codec::{self, Record};
use super::keys;
use super::staging::Fault;

pub(super) mod audit;
pub(super) mod services;

fn get<R: Record>(tree: &sled::Tree, key: &[u8]) -> Result<Option<R>, Fault> {
    tree.get(key)?.map(|value| Ok(codec::decode(&value)?)).transpose()
}

/// A counter; 0 until it is first written.
pub(super) fn counter(tree: &sled::Tree, key: &[u8]) -> Result<u64, Fault> {
    Ok(get(tree, key)?.unwrap_or(0))
}

/// One account.
pub(super) fn account(tree: &sled::Tree, id: AccountId) -> Result<Option<Account>, Fault> {
    get(tree, &keys::account(id))
}

/// The same; what is stored is handed over, to be kept.
pub(super) fn account_to_keep(
    tree: &sled::Tree,
    id: AccountId,
    keep: impl FnOnce(&[u8]),
) -> Result<Option<Account>, Fault> {
    let Some(stored) = tree.get(keys::account(id))? else { return Ok(None) };
    let account = codec::decode(&stored)?;
    keep(&stored);
    Ok(Some(account))
}

pub(super) fn account_by_email(tree: &sled::Tree, key: &EmailKey) -> Result<Option<Account>, Fault> {
    let Some(id) = get(tree, &keys::email(key))? else {
        return Ok(None);
    };
    // Between the two lookups the account may have taken another address.
    Ok(account(tree, id)?.filter(|account| account.email.key() == key))
}

pub(super) fn listed_account(tree: &sled::Tree, id: AccountId) -> Result<Option<ListedAccount>, Fault> {
    account(tree, id)?.map(|account| listed(tree, account)).transpose()
}

fn listed(tree: &sled::Tree, account: Account) -> Result<ListedAccount, Fault> {
    let last_active_at = get(tree, &keys::activity(account.id))?;
    Ok(ListedAccount { account, last_active_at })
}

pub(super) fn accounts(tree: &sled::Tree, page: Page) -> Result<Vec<ListedAccount>, Fault> {
    let mut accounts = Vec::new();
    let mut to_skip = page.skip;
    for row in tree.scan_prefix(keys::ALL_ACCOUNTS) {
        if accounts.len() == page.limit {
            break;
        }
        let (_, value) = row?;
        if to_skip > 0 {
            to_skip -= 1;
            continue;
        }
        accounts.push(listed(tree, codec::decode(&value)?)?);
    }
    Ok(accounts)
}

pub(super) fn sessions(tree: &sled::Tree, shard: ShardOf) -> Result<Vec<Session>, Fault> {
    let mut sessions = Vec::new();
    for row in tree.scan_prefix(keys::ALL_SESSIONS) {
        let (key, value) = row?;
        // Looked at before decoding: all but one of the shards pass a row over.
        if !keys::account_of_session(&key).is_some_and(|account| shard.owns(account)) {
            continue;
        }
        // One unreadable record ends that session, not the service of all.
        match codec::decode(&value) {
            Ok(session) => sessions.push(with_last_use(tree, session)?),
            Err(error) => tracing::error!(%error, "a stored session cannot be read and counts as ended"),
        }
    }
    Ok(sessions)
}

pub(super) fn session(tree: &sled::Tree, account: AccountId, id: SessionId) -> Result<Option<Session>, Fault> {
    get(tree, &keys::session(account, id))?.map(|session| with_last_use(tree, session)).transpose()
}

pub(super) fn refresh_family(
    tree: &sled::Tree,
    account: AccountId,
    id: SessionId,
) -> Result<Option<RefreshFamily>, Fault> {
    get(tree, &keys::refresh(account, id))
}

fn with_last_use(tree: &sled::Tree, mut session: Session) -> Result<Session, Fault> {
    if let Some(at) = get::<Timestamp>(tree, &keys::touch(session.account, session.id))? {
        session.last_active_at = session.last_active_at.max(at);
    }
    Ok(session)
}

pub(super) fn one_time_token(tree: &sled::Tree, hash: &TokenHash) -> Result<Option<StoredToken>, Fault> {
    get(tree, &keys::token(hash))
}

pub(super) fn used_token(tree: &sled::Tree, hash: &TokenHash) -> Result<Option<UsedToken>, Fault> {
    get(tree, &keys::used_token(hash))
}

pub(super) fn token_of(
    tree: &sled::Tree,
    account: AccountId,
    purpose: TokenPurpose,
) -> Result<Option<StoredToken>, Fault> {
    let index = keys::token_of(account, purpose);
    let mut hash = get::<TokenHash>(tree, &index)?;
    while let Some(looked_for) = hash {
        let found = one_time_token(tree, &looked_for)?;
        if found.is_some() {
            return Ok(found);
        }
        // Between the two lookups it was replaced by another one, or used up.
        hash = get(tree, &index)?.filter(|now| *now != looked_for);
    }
    Ok(None)
}

/// Whether an account of an ordinary user was neither verified, nor locked, nor ever logged in to.
fn was_never_taken_up(tree: &sled::Tree, account: &Account) -> Result<bool, Fault> {
    if account.email_verified || account.locked || account.role == Role::Admin {
        return Ok(false);
    }
    let used = tree.contains_key(keys::activity(account.id))?
        || tree.scan_prefix(keys::sessions_of(account.id)).next().transpose()?.is_some()
        || tree.scan_prefix(keys::all_known(account.id)).next().transpose()?.is_some();
    Ok(!used)
}

pub(super) fn unverified_before(tree: &sled::Tree, time: Timestamp, limit: usize) -> Result<Vec<AccountId>, Fault> {
    let mut unverified = Vec::new();
    for row in tree.scan_prefix(keys::ALL_ACCOUNTS) {
        if unverified.len() == limit {
            break;
        }
        let (_, value) = row?;
        // One unreadable record keeps its account, not all others.
        match codec::decode::<Account>(&value) {
            Ok(account) if account.created_at < time && was_never_taken_up(tree, &account)? => {
                unverified.push(account.id);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "a stored account cannot be read and counts as verified"),
        }
    }
    Ok(unverified)
}

pub(super) fn due_mails(tree: &sled::Tree, now: Timestamp, limit: usize) -> Result<Vec<QueuedMail>, Fault> {
    let (first, last) = keys::due_until(now);
    let mut due = Vec::new();
    for row in tree.range(first..=last) {
        if due.len() == limit {
            break;
        }
        let (_, value) = row?;
        let mail = codec::decode(&value).map_err(Fault::from).and_then(|id| get::<QueuedMail>(tree, &keys::mail(id)));
        if let Some(mail) = readable(mail)?.flatten()
            // Between the two lookups it may have been sent or put off.
            && mail.state == MailState::Queued
            && mail.next_attempt_at <= now
        {
            due.push(mail);
        }
    }
    Ok(due)
}

pub(super) fn mails(tree: &sled::Tree, after: Option<MailId>, limit: usize) -> Result<Vec<QueuedMail>, Fault> {
    let (after, end) = keys::mails_after(after);
    let mut mails = Vec::new();
    for row in tree.range::<&[u8], _>((Bound::Excluded(after.as_slice()), Bound::Excluded(end.as_slice()))) {
        if mails.len() == limit {
            break;
        }
        let (_, value) = row?;
        mails.extend(readable(codec::decode(&value).map_err(Fault::from))?);
    }
    Ok(mails)
}

pub(super) fn knows_address(tree: &sled::Tree, account: AccountId, from: IpAddr) -> Result<bool, Fault> {
    Ok(tree.contains_key(keys::known(account, from))?)
}

/// A counter that cannot be read is passed over: without it somebody may guess a few times more.
pub(super) fn failures(tree: &sled::Tree) -> Result<Vec<(FailureKey, StoredFailures)>, Fault> {
    let mut failures = Vec::new();
    for row in tree.scan_prefix(keys::ALL_FAILURES) {
        let (key, value) = row?;
        if let (Some(key), Ok(stored)) = (keys::failures_of(&key), codec::decode(&value)) {
            failures.push((key, stored));
        } else {
            tracing::error!("a stored counter of failed attempts cannot be read and is passed over");
        }
    }
    Ok(failures)
}

/// Passes a mail over that cannot be read: it holds up none of the others.
fn readable<T>(mail: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match mail {
        Ok(mail) => Ok(Some(mail)),
        Err(Fault::Record(error)) => {
            tracing::error!(%error, "a stored mail cannot be read and is passed over");
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}
