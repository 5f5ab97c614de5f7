//! The sessions of one account: shown, ended one by one or together, and named.

use std::time::Duration;

use super::message::{ChangeError, Message};
use super::{COMMIT_DEADLINE, Principal, SessionHandle, USE_DEADLINE};
use crate::ask::{AskError, Unavailable};
use crate::domain::account::{Account, AccountId};
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRecord};
use crate::domain::session::{Origin, Session, SessionId, SessionLabel};

/// How long to wait for a shard that is being restarted before it is told once more.
const DROP_PAUSE: Duration = Duration::from_millis(20);

/// Which of the live sessions of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichSessions {
    /// This one.
    One(SessionId),
    /// All but this one.
    AllBut(SessionId),
    /// All of them.
    All,
}

impl WhichSessions {
    pub(super) fn include(self, session: SessionId) -> bool {
        match self {
            Self::One(one) => session == one,
            Self::AllBut(kept) => session != kept,
            Self::All => true,
        }
    }
}

/// Why a session was neither ended nor named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndError {
    /// The account has no live session of this name.
    Unknown,
    /// The session in which the owner asked is over.
    Revoked,
    /// It could not be done just now.
    Unavailable(Unavailable),
}

impl<E: Into<Unavailable>> From<E> for EndError {
    fn from(error: E) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<ChangeError> for EndError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Revoked => Self::Revoked,
            ChangeError::Failed(failure) => Self::Unavailable(failure.into()),
        }
    }
}

impl SessionHandle {
    /// The live sessions of an account with their last use, the newest login first.
    pub async fn list(&self, account: &Account) -> Result<Vec<Session>, Unavailable> {
        let (account, epoch) = (account.id, account.session_epoch);
        let mut sessions =
            self.shard(account).ask(USE_DEADLINE, |reply| Message::List { account, epoch, reply }).await?;
        sessions.sort_by_key(|session| (std::cmp::Reverse(session.created_at), session.id));
        Ok(sessions)
    }

    /// Ends live sessions of an account on the word of somebody who may: its owner, or an administrator. They are dead
    /// everywhere, for good, when this returns. That one was named which is not there is told; that there were no others is
    /// not. Whether an owner may is asked of the owner's session once more by whoever ends them, so that nothing that was acknowledged
    /// before is overtaken.
    pub async fn end(
        &self,
        by: &Principal,
        account: AccountId,
        which: WhichSessions,
        origin: Origin,
    ) -> Result<(), EndError> {
        let audit = self.told(AuditEvent::SessionEnded, by, account, None, origin);
        let by = (by.account.id == account).then_some(by.session);
        let ended = self
            .shard(account)
            .ask(COMMIT_DEADLINE, |reply| Message::End { account, which, by, audit, reply })
            .await??;
        if ended == 0 && matches!(which, WhichSessions::One(_)) { Err(EndError::Unknown) } else { Ok(()) }
    }

    /// Names one of the principal's own sessions, or takes its name away; the answer is the session after that.
    pub async fn label(
        &self,
        owner: &Principal,
        session: SessionId,
        label: Option<SessionLabel>,
        origin: Origin,
    ) -> Result<Session, EndError> {
        let account = owner.account.id;
        let audit = self.told(AuditEvent::SessionLabelled, owner, account, Some(session), origin);
        let labelled = self
            .shard(account)
            .ask(COMMIT_DEADLINE, |reply| Message::Label { account, session, by: owner.session, label, audit, reply })
            .await??;
        labelled.ok_or(EndError::Unknown)
    }

    /// Tells a shard that a commit ended this session. One that is just starting may have read the store before that commit, so
    /// it is told when it runs.
    pub(crate) async fn drop_ended(&self, account: AccountId, session: SessionId) {
        let told = async {
            loop {
                match self.shard(account).ask(USE_DEADLINE, |reply| Message::Drop { account, session, reply }).await {
                    Err(AskError::NotRunning) => tokio::time::sleep(DROP_PAUSE).await,
                    told => return told,
                }
            }
        };
        if !matches!(tokio::time::timeout(COMMIT_DEADLINE, told).await, Ok(Ok(()))) {
            tracing::error!(account = account.get(), "a shard was not told that a session ended");
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
            at: self.inner.clock.now(),
            event,
            actor,
            subject: Some(account),
            session,
            origin,
            refusal: None,
            details: None,
        }
    }
}
