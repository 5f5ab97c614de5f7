//! Each change of the domain, worked out against a view of the tree: its rules, and the rows it writes.
//!
//! These run one at a time on the committer's thread. One that returns an error has its writes forgotten, so each may
//! check and write in whatever order reads best.

use doorward_actors::ports::{
    AccountUpdate, Acting, CreateAccountRefusal, DeleteAccountRefusal, Effects, EndSessions, OnlyNetwork,
    OpenSessionRefusal, RecordRefusal, SignIn, Touch, UpdateAccountRefusal,
};
use doorward_actors::{
    Account, AccountId, AuditRecord, EmailKey, NewAccount, NewMail, NewRole, RefreshFamily, Revocation, Revoked, Role,
    Session, SessionId, Timestamp,
};

use super::codec::{self, RecordError};
use super::keys;
use super::staging::{Abort, Fault, Staging};
use audit::{append, append_all};

mod audit;
mod failures;
mod known;
mod mail_counts;
mod mails;
mod revocations;
mod service_tokens;
mod sessions;
mod tokens;

pub(super) use audit::{append_audit, append_audit_within, chain_unchained, prune_audit};
pub(super) use failures::save_failures;
pub(super) use mails::{delete_mail, prune_mails, retry_mail, settle_mail};
pub(super) use revocations::{note_token_lifetime, prune_revocations, record_keys};
pub(super) use service_tokens::{
    create_service_token, delete_service_token, rotate_service_token, touch_service_tokens,
};
pub(super) use sessions::{label_session, rotate_refresh};

pub(super) fn create_account(
    staging: &mut Staging<'_>,
    new: NewAccount,
    mut effects: Effects,
) -> Result<Account, Abort<CreateAccountRefusal>> {
    if !sessions::may_act(staging, new.acting)? {
        return Err(Abort::Refused(CreateAccountRefusal::Revoked));
    }
    let (email, nickname) = (keys::email(new.email.key()), keys::nickname(new.nickname.key()));
    if let Some(holder) = staging.get(&email)? {
        let holder = staging.get::<Account>(&keys::account(holder))?;
        match holder {
            Some(holder) if new.replaces_unverified && may_be_replaced(staging, &holder)? => {
                remove_account(staging, &holder, time_of(&effects.audit))?;
                if let Some(made) = effects.audit.first() {
                    append(staging, &made.of_replaced(holder.id))?;
                }
            }
            _ => return Err(Abort::Refused(CreateAccountRefusal::EmailTaken)),
        }
    }
    if is_reserved(staging, new.email.key(), None, new.created_at)? {
        return Err(Abort::Refused(CreateAccountRefusal::EmailTaken));
    }
    if staging.has(&nickname)? {
        return Err(Abort::Refused(CreateAccountRefusal::NicknameTaken));
    }
    let id = next(staging, keys::LAST_ACCOUNT_ID)?;
    let id = AccountId::new(id).ok_or(RecordError::Unreadable { kind: "counter", why: "account number zero" })?;
    let role = match new.role {
        NewRole::Exactly(role) => role,
        NewRole::AdminIfFirst if staging.counter(keys::HAD_ADMIN)? == 0 => Role::Admin,
        NewRole::AdminIfFirst => Role::User,
    };
    let account = Account {
        id,
        email: new.email,
        nickname: new.nickname,
        password_hash: Some(new.password_hash),
        password_revision: 0,
        passphrase_hash: Some(new.passphrase_hash),
        passphrase_revision: 0,
        customer_account: new.customer_account,
        role,
        made_by_admin: new.acting.is_some(),
        locked: false,
        email_verified: false,
        pending_email: None,
        reserved_email: None,
        locale: new.locale,
        password_compromised: false,
        created_at: new.created_at,
        session_epoch: 0,
        revision: 0,
    };
    staging.put(&email, &id)?;
    staging.put(&nickname, &id)?;
    staging.put(&keys::account(id), &account)?;
    count(staging, keys::ACCOUNTS, false, true)?;
    count_admin(staging, None, Some(&account))?;
    for record in &mut effects.audit {
        record.subject = record.subject.or(Some(id));
    }
    affect(staging, &account, effects)?;
    Ok(account)
}

/// Whether an address is another account's, which can still go back to it.
fn is_reserved(staging: &Staging<'_>, email: &EmailKey, but: Option<AccountId>, now: Timestamp) -> Result<bool, Fault> {
    let own = but.map(|account| keys::reserved(email, account));
    for (key, until) in staging.scan(&keys::all_reserved(email))? {
        if own.as_deref() != Some(&key[..]) && now < codec::decode(&until)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An administrator who never saw a mail keeps the account: it is worth more than an address.
fn may_be_replaced(staging: &Staging<'_>, account: &Account) -> Result<bool, Fault> {
    if account.email_verified || account.locked || account.role == Role::Admin || account.made_by_admin {
        return Ok(false);
    }
    // Somebody logged in to it, when that needed no verification: it has an owner.
    let used = staging.has(&keys::activity(account.id))?
        || !staging.scan(&keys::sessions_of(account.id))?.is_empty()
        || !staging.scan(&keys::all_known(account.id))?.is_empty();
    Ok(!used)
}

pub(super) fn update_account(
    staging: &mut Staging<'_>,
    update: &AccountUpdate,
    effects: Effects,
) -> Result<Account, Abort<UpdateAccountRefusal>> {
    let refuse = |refusal| Err(Abort::Refused(refusal));
    if !sessions::may_act(staging, update.acting)? {
        return refuse(UpdateAccountRefusal::Revoked);
    }
    let Some(before) = staging.get::<Account>(&keys::account(update.id))? else {
        return refuse(UpdateAccountRefusal::Unknown);
    };
    if let Some(redemption) = &update.redeems
        && !tokens::redeem(staging, before.id, redemption)?
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
        if is_reserved(staging, email.key(), Some(before.id), at)? {
            return refuse(UpdateAccountRefusal::EmailTaken);
        }
    }
    if !rename(staging, before.id, &keys::email(before.email.key()), &keys::email(after.email.key()))? {
        return refuse(UpdateAccountRefusal::EmailTaken);
    }
    if !rename(staging, before.id, &keys::nickname(before.nickname.key()), &keys::nickname(after.nickname.key()))? {
        return refuse(UpdateAccountRefusal::NicknameTaken);
    }
    if is_last_admin(staging, &before)? && !after.is_active_admin() {
        return refuse(UpdateAccountRefusal::LastAdmin);
    }
    staging.put(&keys::account(after.id), &after)?;
    if before.reserved_email != after.reserved_email {
        release(staging, &before);
        if let Some(reserved) = &after.reserved_email {
            staging.put(&keys::reserved(reserved.email.key(), after.id), &reserved.until)?;
        }
    }
    count_admin(staging, Some(&before), Some(&after))?;
    match update.ends {
        EndSessions::None => {}
        EndSessions::All => end_all(staging, &before, None, at)?,
        EndSessions::AllBut(kept) => {
            end_all(staging, &before, Some(kept), at)?;
            let (key, family) = (keys::session(after.id, kept), keys::refresh(after.id, kept));
            if let Some(session) = staging.get::<Session>(&key)? {
                let epoch = after.session_epoch;
                staging.put(&key, &Session { epoch, authenticated_at: None, ..session })?;
                staging.remove(&family);
                if let Some(renewed) = &effects.refresh {
                    staging.put(&family, renewed)?;
                }
            }
        }
    }
    note_revocations(staging, &before, &after, at)?;
    if let Some(redeemed) = &update.redeems {
        tokens::note_use(staging, after.id, after.revision, redeemed)?;
    }
    if update.revokes_tokens {
        tokens::revoke(staging, after.id)?;
    }
    if affect(staging, &after, effects)?.iter().any(|mail| mail.kind.is_required()) {
        return refuse(UpdateAccountRefusal::TooManyMails);
    }
    Ok(after)
}

/// Lets others have the address that an account could go back to.
fn release(staging: &mut Staging<'_>, account: &Account) {
    if let Some(reserved) = &account.reserved_email {
        staging.remove(&keys::reserved(reserved.email.key(), account.id));
    }
}

pub(super) fn delete_account(
    staging: &mut Staging<'_>,
    id: AccountId,
    expected_revision: Option<u64>,
    acting: Option<Acting>,
    effects: Effects,
) -> Result<(), Abort<DeleteAccountRefusal>> {
    let refuse = |refusal| Err(Abort::Refused(refusal));
    if !sessions::may_act(staging, acting)? {
        return refuse(DeleteAccountRefusal::Revoked);
    }
    let Some(account) = staging.get::<Account>(&keys::account(id))? else {
        return refuse(DeleteAccountRefusal::Unknown);
    };
    if expected_revision.is_some_and(|expected| expected != account.revision) {
        return refuse(DeleteAccountRefusal::Stale);
    }
    if is_last_admin(staging, &account)? && staging.counter(keys::ACCOUNTS)? > 1 {
        return refuse(DeleteAccountRefusal::LastAdmin);
    }
    remove_account(staging, &account, time_of(&effects.audit))?;
    // Tokens of nobody are good for nothing: there is no account left that they could change.
    mails::queue_all(staging, None, account.email_verified, effects.mails)?;
    append_all(staging, &effects.audit)?;
    Ok(())
}

/// When a change was made: as its first audit record says. Every change has one; the age of one that had none would only let
/// its revocations go early, which their readers are told.
fn time_of(audit: &[AuditRecord]) -> Timestamp {
    audit.first().map_or(Timestamp::from_millis(0), |record| record.at)
}

/// Tells those who check tokens themselves what a change means for them, beside the sessions that it ended.
fn note_revocations(staging: &mut Staging<'_>, before: &Account, after: &Account, at: Timestamp) -> Result<(), Fault> {
    let account = after.id;
    if after.locked && !before.locked {
        revocations::note(staging, &Revocation { at, account: Some(account), what: Revoked::AccountLocked })?;
    }
    if after.role != before.role {
        revocations::note(staging, &Revocation { at, account: Some(account), what: Revoked::Role(after.role) })?;
    }
    Ok(())
}

/// Removes an account with everything that is its own.
fn remove_account(staging: &mut Staging<'_>, account: &Account, at: Timestamp) -> Result<(), Fault> {
    end_all(staging, account, None, at)?;
    revocations::note(staging, &Revocation { at, account: Some(account.id), what: Revoked::AccountDeleted })?;
    staging.remove(&keys::activity(account.id));
    known::forget_all(staging, account.id)?;
    tokens::remove_all(staging, account.id)?;
    mails::remove_all(staging, account.id)?;
    release(staging, account);
    staging.remove(&keys::email(account.email.key()));
    staging.remove(&keys::nickname(account.nickname.key()));
    staging.remove(&keys::account(account.id));
    count(staging, keys::ACCOUNTS, true, false)?;
    count_admin(staging, Some(account), None)
}

pub(super) fn record(
    staging: &mut Staging<'_>,
    account: AccountId,
    effects: Effects,
) -> Result<(), Abort<RecordRefusal>> {
    let Some(account) = staging.get::<Account>(&keys::account(account))? else {
        return Err(Abort::Refused(RecordRefusal::UnknownAccount));
    };
    if !affect(staging, &account, effects)?.is_empty() {
        return Err(Abort::Refused(RecordRefusal::TooManyMails));
    }
    Ok(())
}

/// Writes what goes with a change of an account that exists after it. The answer is the mails that are withheld, and their
/// tokens with them.
fn affect(staging: &mut Staging<'_>, account: &Account, effects: Effects) -> Result<Vec<NewMail>, Fault> {
    if let Some(OnlyNetwork(from)) = effects.networks {
        known::forget_all(staging, account.id)?;
        if let Some(from) = from {
            known::note(staging, account.id, from, time_of(&effects.audit))?;
        }
    }
    let withheld = mails::queue_all(staging, Some(account.id), account.email_verified, effects.mails)?;
    if let Some(from) = effects.settles_from {
        tokens::settle(staging, account.id, from)?;
    }
    let mut tokens = effects.tokens;
    tokens.retain(|token| !withheld.iter().any(|mail| mail.token == Some(token.hash)));
    tokens::issue_all(staging, account.id, account.revision, tokens)?;
    append_all(staging, &effects.audit)?;
    Ok(withheld)
}

pub(super) fn open_session(
    staging: &mut Staging<'_>,
    session: &Session,
    family: Option<&RefreshFamily>,
    sign_in: Option<SignIn>,
    audit: &AuditRecord,
) -> Result<(), Abort<OpenSessionRefusal>> {
    let account = staging.get::<Account>(&keys::account(session.account))?;
    let Some(account) = account.filter(|account| !account.locked && account.session_epoch == session.epoch) else {
        return Err(Abort::Refused(OpenSessionRefusal));
    };
    // An id is random and never comes twice; if it did, the use of the earlier one is not this one's.
    staging.remove(&keys::touch(session.account, session.id));
    staging.remove(&keys::refresh(session.account, session.id));
    staging.put(&keys::session(session.account, session.id), session)?;
    if let Some(family) = family {
        staging.put(&keys::refresh(session.account, session.id), family)?;
    }
    if let Some(sign_in) = sign_in
        && known::note(staging, session.account, sign_in.from, session.created_at)?
    {
        mails::queue_all(staging, Some(session.account), account.email_verified, vec![sign_in.notice])?;
    }
    append(staging, audit)?;
    Ok(())
}

pub(super) fn end_sessions<R>(
    staging: &mut Staging<'_>,
    ended: &[Touch],
    at: Timestamp,
    audit: &[AuditRecord],
) -> Result<(), Abort<R>> {
    for touch in ended {
        if let Some(stored) = end(staging, touch.account, touch.session, at)? {
            note_activity(staging, touch.account, Some(stored.max(touch.at)))?;
        }
    }
    Ok(append_all(staging, audit)?)
}

pub(super) fn touch_sessions<R>(staging: &mut Staging<'_>, touches: &[Touch]) -> Result<(), Abort<R>> {
    for touch in touches {
        if last_use(staging, touch.account, touch.session)?.is_some_and(|stored| stored < touch.at) {
            staging.put(&keys::touch(touch.account, touch.session), &touch.at)?;
        }
    }
    Ok(())
}

/// Raises the probe and returns it: the engine would not write a value that is already there.
pub(super) fn probe<R>(staging: &mut Staging<'_>) -> Result<u64, Abort<R>> {
    Ok(next(staging, keys::PROBE)?)
}

/// Raises a counter and returns it.
fn next(staging: &mut Staging<'_>, key: &[u8]) -> Result<u64, Fault> {
    let number = staging.counter(key)?.checked_add(1);
    let number = number.ok_or(RecordError::Unstorable { kind: "counter", why: "it is at its end" })?;
    staging.put(key, &number)?;
    Ok(number)
}

/// Keeps a count right when one thing changes from counting `before` to counting `after`.
fn count(staging: &mut Staging<'_>, key: &[u8], before: bool, after: bool) -> Result<(), Fault> {
    if before == after {
        return Ok(());
    }
    let counted = staging.counter(key)?;
    let counted = if after { counted.checked_add(1) } else { counted.checked_sub(1) };
    let counted = counted.ok_or(RecordError::Unreadable { kind: "counter", why: "it does not fit what it counts" })?;
    staging.put(key, &counted)
}

/// Keeps what is known about administrators right when an account changes, appears or goes.
fn count_admin(staging: &mut Staging<'_>, before: Option<&Account>, after: Option<&Account>) -> Result<(), Fault> {
    if after.is_some_and(|account| account.role == Role::Admin) && staging.counter(keys::HAD_ADMIN)? == 0 {
        staging.put(keys::HAD_ADMIN, &1)?;
    }
    let counts = |account: Option<&Account>| account.is_some_and(Account::is_active_admin);
    count(staging, keys::ACTIVE_ADMINS, counts(before), counts(after))
}

fn is_last_admin(staging: &Staging<'_>, account: &Account) -> Result<bool, Fault> {
    Ok(account.is_active_admin() && staging.counter(keys::ACTIVE_ADMINS)? <= 1)
}

/// Moves the index entry of a name; `false` if the new one is another account's.
fn rename(staging: &mut Staging<'_>, id: AccountId, from: &[u8], to: &[u8]) -> Result<bool, Fault> {
    if from == to {
        return Ok(true);
    }
    if staging.has(to)? {
        return Ok(false);
    }
    staging.remove(from);
    staging.put(to, &id)?;
    Ok(true)
}

/// Ends all sessions of an account but `kept`, and keeps the last use of those that ended.
fn end_all(staging: &mut Staging<'_>, account: &Account, kept: Option<SessionId>, at: Timestamp) -> Result<(), Fault> {
    let mut newest = None;
    for (key, value) in staging.scan(&keys::sessions_of(account.id))? {
        match codec::decode::<Session>(&value) {
            // One that an earlier epoch left behind is over already and must not be carried into the next.
            Ok(session) if Some(session.id) == kept && session.epoch == account.session_epoch => {}
            Ok(session) => newest = newest.max(end(staging, account.id, session.id, at)?),
            Err(error) => {
                tracing::error!(%error, "a stored session cannot be read and is ended");
                if let Some(session) = keys::id_of_session(&key) {
                    bury(staging, account.id, session, at)?;
                }
            }
        }
    }
    note_activity(staging, account.id, newest)
}

/// Removes a session with its refresh tokens; the answer is its last use, `None` if there is no such session.
fn end(
    staging: &mut Staging<'_>,
    account: AccountId,
    session: SessionId,
    at: Timestamp,
) -> Result<Option<Timestamp>, Fault> {
    let last_use = last_use(staging, account, session)?;
    if last_use.is_some() {
        bury(staging, account, session, at)?;
    }
    Ok(last_use)
}

/// Removes what there is of a session, and tells those who check tokens themselves.
fn bury(staging: &mut Staging<'_>, account: AccountId, session: SessionId, at: Timestamp) -> Result<(), Fault> {
    staging.remove(&keys::session(account, session));
    staging.remove(&keys::touch(account, session));
    staging.remove(&keys::refresh(account, session));
    revocations::note(staging, &Revocation { at, account: Some(account), what: Revoked::Session(session) })
}

/// When a session was last used; `None` if there is no such session.
fn last_use(staging: &Staging<'_>, account: AccountId, session: SessionId) -> Result<Option<Timestamp>, Fault> {
    let Some(opened) = staging.get::<Session>(&keys::session(account, session))? else {
        return Ok(None);
    };
    let touched = staging.get(&keys::touch(account, session))?;
    Ok(touched.max(Some(opened.last_active_at)))
}

/// Notes the last use of ended sessions as the account's last activity, unless a later one is known.
fn note_activity(staging: &mut Staging<'_>, account: AccountId, at: Option<Timestamp>) -> Result<(), Fault> {
    let key = keys::activity(account);
    match at {
        Some(at) if staging.get::<Timestamp>(&key)?.is_none_or(|known| known < at) => staging.put(&key, &at),
        _ => Ok(()),
    }
}
