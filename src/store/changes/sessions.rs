//! What is done to one session between its opening and its end, and in the name of one.

use doorward_actors::ports::{
    Acting, NOTICE_PAUSE, RefreshOutcome, RefreshRefusal, RefreshUse, SignIn, UnknownSession,
};
use doorward_actors::{
    Account, AccountId, AuditRecord, Origin, RefreshFamily, RefreshProof, RefreshVerdict, Role, Session, SessionId,
    SessionLabel, Timestamp,
};

use super::super::codec::RecordError;
use super::super::keys;
use super::super::staging::{Abort, Fault, Staging};
use super::audit::append;
use super::{affect, end, known, mails, note_activity};

/// The account of a session that is there and at its account's epoch; `None` if there is none, or the account is locked.
fn standing(staging: &Staging<'_>, account: AccountId, session: SessionId) -> Result<Option<Account>, Fault> {
    let Some(session) = staging.get::<Session>(&keys::session(account, session))? else {
        return Ok(None);
    };
    let account = staging.get::<Account>(&keys::account(account))?;
    Ok(account.filter(|account| !account.locked && account.session_epoch == session.epoch))
}

/// Whether a change may be made in this name.
pub(super) fn may_act(staging: &Staging<'_>, acting: Option<Acting>) -> Result<bool, Fault> {
    let Some(Acting { account, session, role, proven_at }) = acting else {
        return Ok(true);
    };
    let may = |account: Account| {
        (role == Role::User || account.role == Role::Admin)
            && proven_at.is_none_or(|epoch| epoch == account.session_epoch)
    };
    Ok(standing(staging, account, session)?.is_some_and(may))
}

pub(in super::super) fn rotate_refresh(
    staging: &mut Staging<'_>,
    used: RefreshUse,
) -> Result<RefreshOutcome, Abort<RefreshRefusal>> {
    let RefreshUse { proof, successor, now, grace, origin, sign_in, on_reuse } = used;
    let key = keys::refresh(proof.account, proof.session);
    let Some(family) = staging.get::<RefreshFamily>(&key)? else {
        return Err(Abort::Refused(RefreshRefusal::Unknown));
    };
    let verdict = family.judge(&proof, now, grace);
    if verdict == RefreshVerdict::Unknown {
        return Err(Abort::Refused(RefreshRefusal::Unknown));
    }
    let Some(account) = standing(staging, proof.account, proof.session)? else {
        return Err(Abort::Refused(RefreshRefusal::Over));
    };
    match verdict {
        RefreshVerdict::Reused => {
            let last_use = end(staging, proof.account, proof.session, now)?;
            note_activity(staging, proof.account, last_use)?;
            affect(staging, &account, on_reuse)?;
            Ok(RefreshOutcome::Reused)
        }
        RefreshVerdict::Current => {
            let family = family.renewed(successor, now, grace);
            let family =
                family.ok_or(RecordError::Unstorable { kind: "refresh tokens", why: "no generation is left" })?;
            staging.put(&key, &family)?;
            note_place(staging, &proof, origin, sign_in, now)?;
            Ok(RefreshOutcome::Honoured(family))
        }
        RefreshVerdict::Recent { .. } | RefreshVerdict::Unknown => {
            note_place(staging, &proof, origin, sign_in, now)?;
            Ok(RefreshOutcome::Honoured(family))
        }
    }
}

/// Notes from where a session goes on, and tells its owner of a network that is new to the account.
fn note_place(
    staging: &mut Staging<'_>,
    proof: &RefreshProof,
    origin: Origin,
    sign_in: Option<SignIn>,
    now: Timestamp,
) -> Result<(), Fault> {
    let key = keys::session(proof.account, proof.session);
    let Some(before) = staging.get::<Session>(&key)? else { return Ok(()) };
    let mut after = Session { address: origin.address, user_agent: origin.user_agent, ..before.clone() };
    if let Some(SignIn { from, notice }) = sign_in {
        let is_known = staging.has(&keys::known(proof.account, from))?;
        let may_tell = before.notified_at.is_none_or(|at| now.since(at).max(at.since(now)) >= NOTICE_PAUSE);
        let is_news = if is_known { after.address != before.address } else { may_tell };
        if is_news && known::note(staging, proof.account, from, now)? {
            let account = staging.get::<Account>(&keys::account(proof.account))?;
            let verified = account.is_some_and(|account| account.email_verified);
            mails::queue_all(staging, Some(proof.account), verified, vec![notice])?;
            after.notified_at = Some(now);
        }
    }
    if after != before {
        staging.put(&key, &after)?;
    }
    Ok(())
}

pub(in super::super) fn label_session(
    staging: &mut Staging<'_>,
    account: AccountId,
    session: SessionId,
    label: Option<SessionLabel>,
    audit: &AuditRecord,
) -> Result<(), Abort<UnknownSession>> {
    let key = keys::session(account, session);
    let stored = staging.get::<Session>(&key)?.ok_or(Abort::Refused(UnknownSession))?;
    staging.put(&key, &Session { label, ..stored })?;
    Ok(append(staging, audit)?)
}
