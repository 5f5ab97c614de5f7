use std::net::IpAddr;

use super::list::WhichSessions;
use crate::domain::account::AccountId;
use crate::domain::audit::AuditRecord;
use crate::domain::refresh::RefreshFamily;
use crate::domain::session::{LoginTime, Session, SessionId, SessionLabel};
use crate::domain::time::Timestamp;
use crate::ports::{OpenSessionRefusal, SignIn, StoreError, StoreFailure};
use crate::process::Reply;

/// What a session shard is asked.
pub(crate) enum Message {
    /// Is this session alive? If so, and if this counts as a use, it is in use now.
    Use { account: AccountId, session: SessionId, counts: bool, reply: Reply<Option<Standing>> },
    /// Commit this session and take it in.
    Open {
        session: Session,
        family: Box<RefreshFamily>,
        sign_in: Option<Box<SignIn>>,
        audit: AuditRecord,
        reply: Reply<Result<(), StoreError<OpenSessionRefusal>>>,
    },
    /// Its commit is done: from now on it is live. Sent by the shard's own commit task, before the opener is answered.
    Opened(Session),
    /// End these sessions, durably, and say how many there were. The audit record is written for each, with its name. If it is the owner
    /// who says so, in one of the account's sessions, that must live.
    End {
        account: AccountId,
        which: WhichSessions,
        by: Option<SessionId>,
        audit: AuditRecord,
        reply: Reply<Result<usize, ChangeError>>,
    },
    /// A commit noted that this session goes on from there.
    Moved { account: AccountId, session: SessionId, address: Option<IpAddr>, user_agent: Option<String> },
    /// A commit ended this session.
    Drop { account: AccountId, session: SessionId, reply: Reply<()> },
    /// The live sessions of this account at this epoch.
    List { account: AccountId, epoch: u64, reply: Reply<Vec<Session>> },
    /// Commit this label of a live session, on the word of the owner in a session that must live. `None` is answered where there is no
    /// session to label.
    Label {
        account: AccountId,
        session: SessionId,
        by: SessionId,
        label: Option<SessionLabel>,
        audit: AuditRecord,
        reply: Reply<Result<Option<Session>, ChangeError>>,
    },
    /// Its commit is done. Sent by the shard's own commit task, before whoever asked is answered.
    Labelled { account: AccountId, session: SessionId, label: Option<SessionLabel> },
    /// A commit raised the account's epoch to this one and so ended its sessions; the spared one goes on under it.
    Forget { account: AccountId, epoch: u64, spared: Option<SessionId>, reply: Reply<()> },
    /// What is known of the live sessions of these accounts at these epochs?
    Presence { accounts: Vec<(AccountId, u64)>, reply: Reply<Vec<(AccountId, Presence)>> },
    /// End what is idle or old. Sent by a timer.
    Sweep,
    /// Write the uses since the last time. Sent by a timer.
    Flush,
    /// Answered when no commit is under way.
    #[cfg(feature = "testing")]
    Settle { reply: Reply<()> },
}

/// Why sessions were neither ended nor labelled.
#[derive(Debug)]
pub(crate) enum ChangeError {
    /// The session in whose name it was asked is over.
    Revoked,
    Failed(StoreFailure),
}

impl From<StoreFailure> for ChangeError {
    fn from(failure: StoreFailure) -> Self {
        Self::Failed(failure)
    }
}

/// How a live session stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// The account's epoch when it was opened, or when a change spared it.
    pub(crate) epoch: u64,
    /// When its owner last proved who they are.
    pub(crate) login: Option<LoginTime>,
    /// When it ends, whatever happens.
    pub(crate) expires_at: Timestamp,
    /// When it is over unless it is used before.
    pub(crate) idle_expires_at: Timestamp,
}

/// The live sessions of one account, in short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Presence {
    pub(crate) live: usize,
    pub(crate) last_active_at: Timestamp,
}
