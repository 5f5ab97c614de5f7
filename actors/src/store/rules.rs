//! The rules: each change of the domain as a function over rows, which checks conditions and writes rows.
//!
//! An engine runs them one at a time and may run one again from its start. If a rule returns an error, its writes are discarded.
//! So each rule may check and write in whatever order reads best.

use super::codec::{self, RecordError};
use super::engine::Fault;
use super::layout;
use super::reads;
use super::requests::{
    AccountUpdate, CreateAccountRefusal, DeleteAccountRefusal, Effects, EndSessions, OnlyNetwork, RecordRefusal,
    UpdateAccountRefusal,
};
use super::transaction::{Abort, Transaction};
use crate::domain::account::{Account, AccountId, AccountOrigin, NewAccount, NewRole, Role};
use crate::domain::audit::AuditRecord;
use crate::domain::email::EmailKey;
use crate::domain::hash_form::{HashCount, HashForm};
use crate::domain::outbox::NewMail;
use crate::domain::revocation::{Revocation, Revoked};
use crate::domain::session::{Acting, Session, SessionId};
use crate::domain::time::Timestamp;
use audit::{append, append_all};

mod audit;
mod failures;
mod import;
mod known;
mod leases;
mod mail_counts;
mod mails;
mod revocations;
mod service_tokens;
mod sessions;
mod tokens;

pub(super) use audit::{append_audit, append_audit_as, append_audit_within, chain_unchained, prune_audit};
pub(super) use failures::{begin_attempt, clear_limit, end_attempt, forget_failures, heed_clock, prune_failures};
pub(super) use import::import_accounts;
pub(super) use leases::lease;
pub(super) use mails::{claim_mail, delete_mail, prune_mails, retry_mail, settle_mail};
pub(super) use revocations::{note_token_lifetime, prune_revocations, record_keys};
pub(super) use service_tokens::{
    create_service_token, delete_service_token, rotate_service_token, touch_service_tokens,
};
pub(crate) use sessions::{
    end_idle, end_restored, end_sessions, end_sessions_of, label_session, open_session, rotate_refresh, touch_sessions,
};

pub(super) fn create_account(
    tx: &mut Transaction<'_>,
    new: NewAccount,
    mut effects: Effects,
) -> Result<Account, Abort<CreateAccountRefusal>> {
    if !sessions::may_act(tx, new.acting)? {
        return Err(Abort::Refused(CreateAccountRefusal::Revoked));
    }
    let (email, nickname) = (layout::email(new.email.key()), layout::nickname(new.nickname.key()));
    if let Some(holder) = tx.get(&email)? {
        let holder = tx.get::<Account>(&layout::account(holder))?;
        match holder {
            Some(holder) if new.replaces_unverified && may_be_replaced(tx, &holder)? => {
                remove_account(tx, &holder, time_of(&effects.audit))?;
                if let Some(made) = effects.audit.first() {
                    append(tx, &made.of_replaced(holder.id))?;
                }
            }
            _ => return Err(Abort::Refused(CreateAccountRefusal::EmailTaken)),
        }
    }
    if is_reserved(tx, new.email.key(), None, new.created_at)? {
        return Err(Abort::Refused(CreateAccountRefusal::EmailTaken));
    }
    if tx.has(&nickname)? {
        return Err(Abort::Refused(CreateAccountRefusal::NicknameTaken));
    }
    let id = next(tx, layout::LAST_ACCOUNT_ID)?;
    let id = AccountId::new(id).ok_or(RecordError::Unreadable { kind: "counter", why: "account number zero" })?;
    let role = match new.role {
        NewRole::Exactly(role) => role,
        NewRole::AdminIfFirst if tx.counter(layout::HAD_ADMIN)? == 0 => Role::Admin,
        NewRole::AdminIfFirst => Role::User,
    };
    let account = new.into_account(id, role);
    tx.put(&email, &id)?;
    tx.put(&nickname, &id)?;
    tx.put(&layout::account(id), &account)?;
    count(tx, layout::ACCOUNTS, false, true)?;
    count_admin(tx, None, Some(&account))?;
    for record in &mut effects.audit {
        record.subject = record.subject.or(Some(id));
    }
    affect(tx, &account, effects)?;
    Ok(account)
}

/// Returns whether an address is reserved for another account, which can still go back to it.
fn is_reserved(tx: &Transaction<'_>, email: &EmailKey, but: Option<AccountId>, now: Timestamp) -> Result<bool, Fault> {
    let own = but.map(|account| layout::reserved(email, account));
    for (key, until) in tx.scan(&layout::all_reserved(email))? {
        if own.as_deref() != Some(&key[..]) && now < codec::decode(&until)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether a new account may replace this one. An administrator keeps the account even with an unverified address,
/// because the account is worth more than an address.
fn may_be_replaced(tx: &Transaction<'_>, account: &Account) -> Result<bool, Fault> {
    reads::was_never_taken_up(tx.rows(), account)
}

pub(super) fn update_account(
    tx: &mut Transaction<'_>,
    update: &AccountUpdate,
    effects: Effects,
) -> Result<Account, Abort<UpdateAccountRefusal>> {
    let refuse = |refusal| Err(Abort::Refused(refusal));
    if !sessions::may_act(tx, update.acting)? {
        return refuse(UpdateAccountRefusal::Revoked);
    }
    let Some(before) = tx.get::<Account>(&layout::account(update.id))? else {
        return refuse(UpdateAccountRefusal::Unknown);
    };
    if let Some(redemption) = &update.redeems
        && !tokens::redeem(tx, before.id, redemption)?
    {
        return refuse(UpdateAccountRefusal::BadToken);
    }
    if update.expected_revision.is_some_and(|expected| expected != before.revision) {
        return refuse(UpdateAccountRefusal::Stale);
    }
    let after = update.change.apply(&before, update.ends != EndSessions::None);
    let at = time_of(&effects.audit);
    let pending = after.pending_email.as_ref().filter(|_| after.pending_email != before.pending_email);
    let moved = Some(&after.email).filter(|email| email.key() != before.email.key());
    for email in pending.into_iter().chain(moved) {
        if is_reserved(tx, email.key(), Some(before.id), at)? {
            return refuse(UpdateAccountRefusal::EmailTaken);
        }
    }
    if !rename(tx, before.id, &layout::email(before.email.key()), &layout::email(after.email.key()))? {
        return refuse(UpdateAccountRefusal::EmailTaken);
    }
    if !rename(tx, before.id, &layout::nickname(before.nickname.key()), &layout::nickname(after.nickname.key()))? {
        return refuse(UpdateAccountRefusal::NicknameTaken);
    }
    if is_last_admin(tx, &before)? && !after.is_active_admin() {
        return refuse(UpdateAccountRefusal::LastAdmin);
    }
    tx.put(&layout::account(after.id), &after)?;
    if before.reserved_email != after.reserved_email {
        release(tx, &before);
        if let Some(reserved) = &after.reserved_email {
            tx.put(&layout::reserved(reserved.email.key(), after.id), &reserved.until)?;
        }
    }
    count_admin(tx, Some(&before), Some(&after))?;
    count_hash(tx, Some(&before), Some(&after))?;
    match update.ends {
        EndSessions::None => {}
        EndSessions::All => end_all(tx, &before, None, at)?,
        EndSessions::AllBut(kept) => {
            end_all(tx, &before, Some(kept), at)?;
            let (key, family) = (layout::session(after.id, kept), layout::refresh(after.id, kept));
            if let Some(session) = tx.get::<Session>(&key)? {
                let epoch = after.session_epoch;
                tx.put(&key, &Session { epoch, authenticated_at: None, ..session })?;
                tx.remove(&family);
                if let Some(renewed) = &effects.refresh {
                    tx.put(&family, renewed)?;
                }
            }
        }
    }
    note_revocations(tx, &before, &after, at)?;
    if let Some(redeemed) = &update.redeems {
        tokens::note_use(tx, after.id, after.revision, redeemed)?;
    }
    if update.revokes_tokens {
        tokens::revoke(tx, after.id)?;
    }
    if affect(tx, &after, effects)?.iter().any(|mail| mail.kind.is_required()) {
        return refuse(UpdateAccountRefusal::TooManyMails);
    }
    Ok(after)
}

/// Frees the address that an account could go back to.
fn release(tx: &mut Transaction<'_>, account: &Account) {
    if let Some(reserved) = &account.reserved_email {
        tx.remove(&layout::reserved(reserved.email.key(), account.id));
    }
}

pub(super) fn delete_account(
    tx: &mut Transaction<'_>,
    id: AccountId,
    expected_revision: Option<u64>,
    acting: Option<Acting>,
    effects: Effects,
) -> Result<(), Abort<DeleteAccountRefusal>> {
    let refuse = |refusal| Err(Abort::Refused(refusal));
    if !sessions::may_act(tx, acting)? {
        return refuse(DeleteAccountRefusal::Revoked);
    }
    let Some(account) = tx.get::<Account>(&layout::account(id))? else {
        return refuse(DeleteAccountRefusal::Unknown);
    };
    if expected_revision.is_some_and(|expected| expected != account.revision) {
        return refuse(DeleteAccountRefusal::Stale);
    }
    if is_last_admin(tx, &account)? && tx.counter(layout::ACCOUNTS)? > 1 {
        return refuse(DeleteAccountRefusal::LastAdmin);
    }
    remove_account(tx, &account, time_of(&effects.audit))?;
    // The tokens are not issued: the account that they could change no longer exists.
    mails::queue_all(tx, None, account.email_verified, effects.mails)?;
    append_all(tx, &effects.audit)?;
    Ok(())
}

/// Returns the time of a change, taken from its first audit record. Every change has one.
/// If one had none, its revocations would only be removed too early, which their readers are told.
fn time_of(audit: &[AuditRecord]) -> Timestamp {
    audit.first().map_or(Timestamp::from_millis(0), |record| record.at)
}

/// Logs what a change means for services that check tokens themselves, besides the sessions that it ended.
fn note_revocations(tx: &mut Transaction<'_>, before: &Account, after: &Account, at: Timestamp) -> Result<(), Fault> {
    let account = after.id;
    if after.locked && !before.locked {
        revocations::note(tx, &Revocation { at, account: Some(account), what: Revoked::AccountLocked })?;
    }
    if after.role != before.role {
        revocations::note(tx, &Revocation { at, account: Some(account), what: Revoked::Role(after.role) })?;
    }
    Ok(())
}

/// Removes an account with everything that belongs to it.
fn remove_account(tx: &mut Transaction<'_>, account: &Account, at: Timestamp) -> Result<(), Fault> {
    end_all(tx, account, None, at)?;
    revocations::note(tx, &Revocation { at, account: Some(account.id), what: Revoked::AccountDeleted })?;
    tx.remove(&layout::activity(account.id));
    known::forget_all(tx, account.id)?;
    tokens::remove_all(tx, account.id)?;
    mails::remove_all(tx, account.id)?;
    release(tx, account);
    tx.remove(&layout::email(account.email.key()));
    tx.remove(&layout::nickname(account.nickname.key()));
    tx.remove(&layout::account(account.id));
    count(tx, layout::ACCOUNTS, true, false)?;
    if account.origin == AccountOrigin::Import {
        // So that a later import does not bring it back.
        tx.put_raw(&layout::import_deleted(account.id), Vec::new());
    }
    count_hash(tx, Some(account), None)?;
    count_admin(tx, Some(account), None)
}

pub(super) fn record(
    tx: &mut Transaction<'_>,
    account: AccountId,
    effects: Effects,
) -> Result<(), Abort<RecordRefusal>> {
    let Some(account) = tx.get::<Account>(&layout::account(account))? else {
        return Err(Abort::Refused(RecordRefusal::UnknownAccount));
    };
    if !affect(tx, &account, effects)?.is_empty() {
        return Err(Abort::Refused(RecordRefusal::TooManyMails));
    }
    Ok(())
}

/// Writes the effects of a change of an account that still exists. Returns the mails that are withheld.
/// Their tokens are not issued.
fn affect(tx: &mut Transaction<'_>, account: &Account, effects: Effects) -> Result<Vec<NewMail>, Fault> {
    if let Some(OnlyNetwork(from)) = effects.networks {
        known::forget_all(tx, account.id)?;
        if let Some(from) = from {
            known::note(tx, account.id, from, time_of(&effects.audit))?;
        }
    }
    let withheld = mails::queue_all(tx, Some(account.id), account.email_verified, effects.mails)?;
    if let Some(from) = effects.settles_from {
        tokens::settle(tx, account.id, from)?;
    }
    let mut tokens = effects.tokens;
    tokens.retain(|token| !withheld.iter().any(|mail| mail.token == Some(token.hash)));
    tokens::issue_all(tx, account.id, account.revision, tokens)?;
    append_all(tx, &effects.audit)?;
    Ok(withheld)
}

/// Increments the probe and returns it. A constant would not do, because the engine does not write a value that is already there.
pub(super) fn probe<R>(tx: &mut Transaction<'_>) -> Result<u64, Abort<R>> {
    Ok(next(tx, layout::PROBE)?)
}

/// Increments a counter and returns it.
fn next(tx: &mut Transaction<'_>, key: &[u8]) -> Result<u64, Fault> {
    let number = tx.counter(key)?.checked_add(1);
    let number = number.ok_or(RecordError::Unstorable { kind: "counter", why: "it is at its end" })?;
    tx.put(key, &number)?;
    Ok(number)
}

/// Updates a count when one item changes from counting `before` to counting `after`.
fn count(tx: &mut Transaction<'_>, key: &[u8], before: bool, after: bool) -> Result<(), Fault> {
    if before == after {
        return Ok(());
    }
    let counted = tx.counter(key)?;
    let counted = if after { counted.checked_add(1) } else { counted.checked_sub(1) };
    let counted = counted.ok_or(RecordError::Unreadable { kind: "counter", why: "it does not fit what it counts" })?;
    tx.put(key, &counted)
}

/// Ends the rule that the first to register becomes an administrator.
pub(super) fn end_first_user_rule(tx: &mut Transaction<'_>) -> Result<(), Fault> {
    if tx.counter(layout::HAD_ADMIN)? == 0 { tx.put(layout::HAD_ADMIN, &1) } else { Ok(()) }
}

/// Updates the counters of administrators when an account changes, appears or is removed.
fn count_admin(tx: &mut Transaction<'_>, before: Option<&Account>, after: Option<&Account>) -> Result<(), Fault> {
    if after.is_some_and(|account| account.role == Role::Admin) {
        end_first_user_rule(tx)?;
    }
    let counts = |account: Option<&Account>| account.is_some_and(Account::is_active_admin);
    count(tx, layout::ACTIVE_ADMINS, counts(before), counts(after))
}

/// Updates the counts of foreign password hashes when an account changes or is removed. Only an import adds such a hash.
fn count_hash(tx: &mut Transaction<'_>, before: Option<&Account>, after: Option<&Account>) -> Result<(), Fault> {
    let form = |account: Option<&Account>| account?.password_hash.as_ref().and_then(HashForm::of);
    let (before, after) = (form(before), form(after));
    if before == after {
        return Ok(());
    }
    let Some(form) = before else { return Ok(()) };
    let key = layout::hash_count(&form);
    let Some(count) = tx.get::<HashCount>(&key)? else { return Ok(()) };
    tx.put(&key, &HashCount { now: count.now.saturating_sub(1), ..count })?;
    // The counts of all forms go together; see `HashForms::foreign`.
    let forms = reads::import::hash_forms(tx.rows())?.foreign;
    if forms.iter().all(|(_, count)| count.now == 0) {
        for (form, _) in &forms {
            tx.remove(&layout::hash_count(form));
        }
    }
    Ok(())
}

fn is_last_admin(tx: &Transaction<'_>, account: &Account) -> Result<bool, Fault> {
    Ok(account.is_active_admin() && tx.counter(layout::ACTIVE_ADMINS)? <= 1)
}

/// Moves the index entry of a name. Returns `false` if another account has the new name.
fn rename(tx: &mut Transaction<'_>, id: AccountId, from: &[u8], to: &[u8]) -> Result<bool, Fault> {
    if from == to {
        return Ok(true);
    }
    if tx.has(to)? {
        return Ok(false);
    }
    tx.remove(from);
    tx.put(to, &id)?;
    Ok(true)
}

/// Ends all sessions of an account except `kept`, and keeps the last use of those that ended.
fn end_all(tx: &mut Transaction<'_>, account: &Account, kept: Option<SessionId>, at: Timestamp) -> Result<(), Fault> {
    let mut newest = None;
    for (key, value) in tx.scan(&layout::sessions_of(account.id))? {
        match codec::decode::<Session>(&value) {
            // A session of an earlier epoch has already ended and must not move to the next epoch.
            Ok(session) if Some(session.id) == kept && session.epoch == account.session_epoch => {}
            Ok(session) => newest = newest.max(end(tx, account.id, session.id, at)?),
            Err(error) => {
                tracing::error!(%error, "a stored session cannot be read and is ended");
                if let Some(session) = layout::id_of_session(&key) {
                    bury(tx, account.id, session, at)?;
                }
            }
        }
    }
    note_activity(tx, account.id, newest)
}

/// Removes a session with its refresh tokens. Returns its last use, or `None` if there is no such session.
fn end(
    tx: &mut Transaction<'_>,
    account: AccountId,
    session: SessionId,
    at: Timestamp,
) -> Result<Option<Timestamp>, Fault> {
    let last_use = last_use(tx, account, session)?;
    if last_use.is_some() {
        bury(tx, account, session, at)?;
    }
    Ok(last_use)
}

/// Removes all rows of a session, and logs its end for services that check tokens themselves.
fn bury(tx: &mut Transaction<'_>, account: AccountId, session: SessionId, at: Timestamp) -> Result<(), Fault> {
    tx.remove(&layout::session(account, session));
    tx.remove(&layout::touch(account, session));
    tx.remove(&layout::refresh(account, session));
    revocations::note(tx, &Revocation { at, account: Some(account), what: Revoked::Session(session) })
}

/// Returns the last use of a session. `None` if there is no such session.
fn last_use(tx: &Transaction<'_>, account: AccountId, session: SessionId) -> Result<Option<Timestamp>, Fault> {
    let Some(opened) = tx.get::<Session>(&layout::session(account, session))? else {
        return Ok(None);
    };
    let touched = tx.get(&layout::touch(account, session))?;
    Ok(touched.max(Some(opened.last_active_at)))
}

/// Stores the last use of ended sessions as the account's last activity, unless a later one is stored.
fn note_activity(tx: &mut Transaction<'_>, account: AccountId, at: Option<Timestamp>) -> Result<(), Fault> {
    let key = layout::activity(account);
    match at {
        Some(at) if tx.get::<Timestamp>(&key)?.is_none_or(|known| known < at) => tx.put(&key, &at),
        _ => Ok(()),
    }
}
