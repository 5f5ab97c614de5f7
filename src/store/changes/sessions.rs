//! What is done to one session between its opening and its end, and in the name of one.

use doorward_actors::ports::{Acting, RefreshOutcome, RefreshRefusal, RefreshUse, UnknownSession};
use doorward_actors::{
    Account, AccountId, AuditRecord, RefreshFamily, RefreshVerdict, Role, Session, SessionId, SessionLabel,
};

use super::super::codec::RecordError;
use super::super::keys;
use super::super::staging::{Abort, Fault, Staging};
use super::audit::append;
use super::{affect, end, note_activity};

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
    let Some(Acting { account, session, role }) = acting else {
        return Ok(true);
    };
    let account = standing(staging, account, session)?;
    Ok(account.is_some_and(|account| role == Role::User || account.role == Role::Admin))
}

pub(in super::super) fn rotate_refresh(
    staging: &mut Staging<'_>,
    used: RefreshUse,
) -> Result<RefreshOutcome, Abort<RefreshRefusal>> {
    let RefreshUse { proof, successor, now, grace, on_reuse } = used;
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
            Ok(RefreshOutcome::Honoured(family))
        }
        RefreshVerdict::Recent { .. } | RefreshVerdict::Unknown => Ok(RefreshOutcome::Honoured(family)),
    }
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
