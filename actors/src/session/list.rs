//! The sessions of one account: lists them, ends one or many, and labels them.

use super::{Principal, SessionHandle};
use crate::ask::Unavailable;
use crate::domain::account::{Account, AccountId, Role};
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRecord};
use crate::domain::session::{Origin, Session, SessionId, SessionLabel, WhichSessions};
use crate::store::{EndSessionsRefusal, LabelSessionRefusal, StoreError};

/// Why a session was neither ended nor labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndError {
    /// The account has no live session with this id.
    Unknown,
    /// The session that made the request has ended.
    Revoked,
    /// The change could not be made now.
    Unavailable(Unavailable),
}

impl<E: Into<Unavailable>> From<E> for EndError {
    fn from(error: E) -> Self {
        Self::Unavailable(error.into())
    }
}

impl SessionHandle {
    /// Returns the live sessions of an account with their last use, the newest login first.
    pub async fn list(&self, account: &Account) -> Result<Vec<Session>, Unavailable> {
        let mut sessions = self.living(vec![account.id]).await?;
        sessions.retain(|session| session.epoch == account.session_epoch);
        sessions.sort_by_key(|session| (std::cmp::Reverse(session.created_at), session.id));
        Ok(sessions)
    }

    /// Ends live sessions of an account at the request of its owner or an administrator.
    /// When this returns, no node accepts their tokens. Returns [`EndError::Unknown`] if the named session does not exist.
    /// Having no other sessions is not an error. The commit that ends them checks the principal's permission again.
    pub async fn end(
        &self,
        by: &Principal,
        account: AccountId,
        which: WhichSessions,
        origin: Origin,
    ) -> Result<(), EndError> {
        let audit = self.told(AuditEvent::SessionEnded, by, account, None, origin);
        let role = if by.account.id == account { Role::User } else { Role::Admin };
        match self.end_which(account, which, Some(by.acting(role)), audit).await {
            Ok(0) if matches!(which, WhichSessions::One(_)) => Err(EndError::Unknown),
            Ok(_) => Ok(()),
            Err(StoreError::Refused(EndSessionsRefusal)) => Err(EndError::Revoked),
            Err(StoreError::Failed(failure)) => Err(EndError::Unavailable(failure.into())),
        }
    }

    /// Sets or removes the label of one of the principal's own sessions, and returns the session after the change.
    pub async fn label(
        &self,
        owner: &Principal,
        session: SessionId,
        label: Option<SessionLabel>,
        origin: Origin,
    ) -> Result<Session, EndError> {
        let account = owner.account.id;
        let audit = self.told(AuditEvent::SessionLabelled, owner, account, Some(session), origin);
        // An expired session counts as missing, even if the store does not know yet that it expired.
        let living = self.list(&owner.account).await?;
        let living = living.into_iter().find(|living| living.id == session).ok_or(EndError::Unknown)?;
        let acting = Some(owner.acting(Role::User));
        match self.inner.store.label_session(account, session, label, acting, audit).await {
            Ok(labelled) => Ok(Session { last_active_at: living.last_active_at, ..labelled }),
            Err(StoreError::Refused(LabelSessionRefusal::Unknown)) => Err(EndError::Unknown),
            Err(StoreError::Refused(LabelSessionRefusal::Revoked)) => Err(EndError::Revoked),
            Err(StoreError::Failed(failure)) => Err(EndError::Unavailable(failure.into())),
        }
    }

    fn told(
        &self,
        event: AuditEvent,
        by: &Principal,
        account: AccountId,
        session: Option<SessionId>,
        origin: Origin,
    ) -> AuditRecord {
        let actor = if by.account.id == account {
            AuditActorKind::Account(account)
        } else {
            AuditActorKind::Admin(by.account.id)
        };
        AuditRecord {
            actor,
            subject: Some(account),
            session,
            origin,
            ..AuditRecord::new(event, self.inner.clock.now())
        }
    }
}
