//! Rules for one session between its opening and its end, and the check of acting sessions.

use super::super::codec::RecordError;
use super::super::engine::Fault;
use super::super::layout;
use super::super::reads;
use super::super::requests::{
    EndOfSessions, EndSessionsRefusal, LabelSessionRefusal, LastUse, NOTICE_PAUSE, OpenSessionRefusal, RefreshOutcome,
    RefreshRefusal, RefreshUse, Room, SignIn,
};
use super::super::transaction::{Abort, Transaction};
use super::audit::append;
use super::audit::append_all;
use super::{affect, bury, end, known, last_use, mails, note_activity};
use crate::domain::account::{Account, AccountId, Role};
use crate::domain::audit::{AuditEvent, AuditRecord};
use crate::domain::refresh::{RefreshFamily, RefreshProof, RefreshVerdict};
use crate::domain::session::{Acting, Origin, Session, SessionId, SessionLabel};
use crate::domain::time::Timestamp;

/// Returns the account of a session that exists at its account's epoch. `None` if there is none, or the account is locked.
fn standing(tx: &Transaction<'_>, account: AccountId, session: SessionId) -> Result<Option<Account>, Fault> {
    let Some(session) = tx.get::<Session>(&layout::session(account, session))? else {
        return Ok(None);
    };
    let account = tx.get::<Account>(&layout::account(account))?;
    Ok(account.filter(|account| !account.locked && account.session_epoch == session.epoch))
}

/// Returns whether the acting session may make a change.
pub(super) fn may_act(tx: &Transaction<'_>, acting: Option<Acting>) -> Result<bool, Fault> {
    let Some(Acting { account, session, role, proven_at }) = acting else {
        return Ok(true);
    };
    let may = |account: Account| {
        (role == Role::User || account.role == Role::Admin)
            && proven_at.is_none_or(|epoch| epoch == account.session_epoch)
    };
    Ok(standing(tx, account, session)?.is_some_and(may))
}

pub(crate) fn rotate_refresh(
    tx: &mut Transaction<'_>,
    used: RefreshUse,
) -> Result<RefreshOutcome, Abort<RefreshRefusal>> {
    let RefreshUse { proof, successor, now, grace, origin, sign_in, on_reuse } = used;
    let key = layout::refresh(proof.account, proof.session);
    let Some(family) = tx.get::<RefreshFamily>(&key)? else {
        return Err(Abort::Refused(RefreshRefusal::Unknown));
    };
    let verdict = family.judge(&proof, now, grace);
    if verdict == RefreshVerdict::Unknown {
        return Err(Abort::Refused(RefreshRefusal::Unknown));
    }
    let Some(account) = standing(tx, proof.account, proof.session)? else {
        return Err(Abort::Refused(RefreshRefusal::Over));
    };
    match verdict {
        RefreshVerdict::Reused => {
            let last_use = end(tx, proof.account, proof.session, now)?;
            note_activity(tx, proof.account, last_use)?;
            affect(tx, &account, on_reuse)?;
            Ok(RefreshOutcome::Reused)
        }
        RefreshVerdict::Current => {
            let family = family.renewed(successor, now, grace);
            let family =
                family.ok_or(RecordError::Unstorable { kind: "refresh tokens", why: "no generation is left" })?;
            tx.put(&key, &family)?;
            note_place(tx, &proof, origin, sign_in, now)?;
            Ok(RefreshOutcome::Honoured(family))
        }
        RefreshVerdict::Recent { .. } | RefreshVerdict::Unknown => {
            note_place(tx, &proof, origin, sign_in, now)?;
            Ok(RefreshOutcome::Honoured(family))
        }
    }
}

/// Notes the network in which a session continues, and notifies its owner if the network is new to the account.
fn note_place(
    tx: &mut Transaction<'_>,
    proof: &RefreshProof,
    origin: Origin,
    sign_in: Option<SignIn>,
    now: Timestamp,
) -> Result<(), Fault> {
    let key = layout::session(proof.account, proof.session);
    let Some(before) = tx.get::<Session>(&key)? else { return Ok(()) };
    let mut after = Session { address: origin.address, user_agent: origin.user_agent, ..before.clone() };
    if let Some(SignIn { from, notice }) = sign_in {
        let is_known = tx.has(&layout::known(proof.account, from))?;
        let may_tell = before.notified_at.is_none_or(|at| now.since(at).max(at.since(now)) >= NOTICE_PAUSE);
        let is_news = if is_known { after.address != before.address } else { may_tell };
        if is_news && known::note(tx, proof.account, from, now)? {
            let account = tx.get::<Account>(&layout::account(proof.account))?;
            let verified = account.is_some_and(|account| account.email_verified);
            mails::queue_all(tx, Some(proof.account), verified, vec![notice])?;
            after.notified_at = Some(now);
        }
    }
    if after != before {
        tx.put(&key, &after)?;
    }
    Ok(())
}

pub(crate) fn label_session(
    tx: &mut Transaction<'_>,
    account: AccountId,
    session: SessionId,
    label: Option<SessionLabel>,
    acting: Option<Acting>,
    audit: &AuditRecord,
) -> Result<Session, Abort<LabelSessionRefusal>> {
    if !may_act(tx, acting)? {
        return Err(Abort::Refused(LabelSessionRefusal::Revoked));
    }
    let key = layout::session(account, session);
    let stored = tx.get::<Session>(&key)?.ok_or(Abort::Refused(LabelSessionRefusal::Unknown))?;
    let labelled = Session { label, ..stored };
    tx.put(&key, &labelled)?;
    append(tx, audit)?;
    Ok(labelled)
}

pub(crate) fn open_session(
    tx: &mut Transaction<'_>,
    session: &Session,
    family: Option<&RefreshFamily>,
    sign_in: Option<SignIn>,
    room: Option<&Room>,
    audit: &AuditRecord,
) -> Result<(), Abort<OpenSessionRefusal>> {
    let account = tx.get::<Account>(&layout::account(session.account))?;
    let Some(account) = account.filter(|account| !account.locked && account.session_epoch == session.epoch) else {
        return Err(Abort::Refused(OpenSessionRefusal));
    };
    // An id is random and does not repeat. If it did, the new session must not get the last use of the earlier one.
    tx.remove(&layout::touch(session.account, session.id));
    tx.remove(&layout::refresh(session.account, session.id));
    tx.put(&layout::session(session.account, session.id), session)?;
    if let Some(family) = family {
        tx.put(&layout::refresh(session.account, session.id), family)?;
    }
    if let Some(sign_in) = sign_in
        && known::note(tx, session.account, sign_in.from, session.created_at)?
    {
        mails::queue_all(tx, Some(session.account), account.email_verified, vec![sign_in.notice])?;
    }
    append(tx, audit)?;
    if let Some(room) = room {
        make_room(tx, session, room)?;
    }
    Ok(())
}

/// Ends the longest idle sessions until the account has no more than the limit. The newest session stays.
fn make_room(tx: &mut Transaction<'_>, newest: &Session, Room { policy, seen }: &Room) -> Result<(), Fault> {
    let now = newest.created_at;
    let mut living: Vec<_> = reads::sessions_of(tx.rows(), newest.account)?
        .into_iter()
        .filter(|session| session.epoch == newest.epoch && !seen.has_expired(session))
        .map(|session| Session { last_active_at: seen.last_use(&session), ..session })
        .filter(|session| policy.is_alive(session, now))
        .collect();
    living.sort_by_key(|session| {
        std::cmp::Reverse((session.id == newest.id, session.last_active_at, session.created_at))
    });
    for evicted in living.iter().skip(policy.max_per_account) {
        bury(tx, evicted.account, evicted.id, now)?;
        note_activity(tx, evicted.account, Some(evicted.last_active_at))?;
        append(tx, &AuditRecord::of_session(evicted, AuditEvent::SessionEvicted, now))?;
    }
    Ok(())
}

pub(crate) fn end_sessions_of(
    tx: &mut Transaction<'_>,
    end: &EndOfSessions,
) -> Result<usize, Abort<EndSessionsRefusal>> {
    let EndOfSessions { account, which, acting, policy, seen, audit } = end;
    if !may_act(tx, *acting)? {
        return Err(Abort::Refused(EndSessionsRefusal));
    }
    let epoch = tx.get::<Account>(&layout::account(*account))?.map(|account| account.session_epoch);
    let (mut lived, mut newest, mut records) = (0, None, Vec::new());
    for session in reads::sessions_of(tx.rows(), *account)? {
        if !which.include(session.id) {
            continue;
        }
        let expired = seen.has_expired(&session);
        let session = Session { last_active_at: seen.last_use(&session), ..session };
        let alive = Some(session.epoch) == epoch && !expired && policy.is_alive(&session, audit.at);
        bury(tx, *account, session.id, audit.at)?;
        newest = newest.max(Some(session.last_active_at));
        if alive {
            records.insert(lived, AuditRecord { session: Some(session.id), ..audit.clone() });
            lived += 1;
        } else {
            records.push(AuditRecord::of_session(&session, AuditEvent::SessionExpired, audit.at));
        }
    }
    note_activity(tx, *account, newest)?;
    append_all(tx, &records)?;
    Ok(lived)
}

pub(crate) fn end_sessions<R>(
    tx: &mut Transaction<'_>,
    ended: &[LastUse],
    at: Timestamp,
    audit: &[AuditRecord],
) -> Result<(), Abort<R>> {
    for touch in ended {
        if let Some(stored) = end(tx, touch.account, touch.session, at)? {
            note_activity(tx, touch.account, Some(stored.max(touch.at)))?;
        }
    }
    Ok(append_all(tx, audit)?)
}

/// Ends idle sessions. Skips a session with a stored use that is later than the given one, because it was not idle.
pub(crate) fn end_idle<R>(
    tx: &mut Transaction<'_>,
    ended: &[(LastUse, AuditRecord)],
    at: Timestamp,
) -> Result<Vec<(AccountId, SessionId)>, Abort<R>> {
    let mut alive = Vec::new();
    for (touch, audit) in ended {
        match last_use(tx, touch.account, touch.session)? {
            Some(stored) if stored <= touch.at => {
                bury(tx, touch.account, touch.session, at)?;
                note_activity(tx, touch.account, Some(touch.at))?;
                append(tx, audit)?;
            }
            Some(_) => alive.push((touch.account, touch.session)),
            None => {}
        }
    }
    Ok(alive)
}

pub(crate) fn touch_sessions<R>(tx: &mut Transaction<'_>, touches: &[LastUse]) -> Result<(), Abort<R>> {
    for touch in touches {
        if last_use(tx, touch.account, touch.session)?.is_some_and(|stored| stored < touch.at) {
            tx.put(&layout::touch(touch.account, touch.session), &touch.at)?;
        }
    }
    Ok(())
}

/// Ends at most `limit` sessions of a restored backup, whatever their state. Returns whether there may be more.
pub(crate) fn end_restored(tx: &mut Transaction<'_>, at: Timestamp, limit: usize) -> Result<bool, Fault> {
    let sessions = tx.keys(layout::ALL_SESSIONS, &layout::after_sessions(), limit)?;
    for key in &sessions {
        if let (Some(account), Some(session)) = (layout::account_of_session(key), layout::id_of_session(key)) {
            let last_use = end(tx, account, session, at)?;
            note_activity(tx, account, last_use)?;
        }
        tx.remove(key);
    }
    Ok(!sessions.is_empty())
}
