use super::state::{Failed, Name, Reading};
use crate::domain::account::AccountId;
use crate::domain::session::{LoginTime, Session, SessionId};
use crate::domain::time::Timestamp;
use crate::process::Reply;
use crate::store::{Seen, Touch};

/// What a session shard is asked and told. A shard keeps a copy of what the store has and decides nothing alone: sessions are
/// opened, ended and labelled in the store, and the feed tells the shard.
pub(crate) enum Message {
    /// Is this session alive? If so, and if this counts as a use, it is in use now.
    Use { account: AccountId, session: SessionId, counts: bool, reply: Reply<Option<Standing>> },
    /// The store has been asked for these sessions.
    Read(Vec<Reading>),
    /// A session was opened.
    Opened(Session),
    /// What is known here of the sessions of this account.
    Seen { account: AccountId, reply: Reply<Seen> },
    /// Which of these sessions, as they are stored, are alive? They are given back with their last use.
    Living { stored: Vec<Session>, reply: Reply<Vec<Session>> },
    /// The feed has something to tell about this account. Answered when what it tells of was read.
    CatchUp { account: AccountId, reply: Reply<()> },
    /// The store was asked to end these expired sessions. The answer is which of them live on.
    Ended(Vec<Name>, Result<Vec<Name>, Failed>),
    /// A use that had to be durable before its answer is durable.
    Durable(Touch, Reply<Option<Standing>>),
    /// The store was asked to write these uses.
    Written(Vec<Touch>, Result<(), Failed>),
    /// End what is idle or old. Sent by a timer.
    Sweep,
    /// Write the uses since the last time. Sent by a timer.
    Flush,
    /// Answered when no commit is under way.
    #[cfg(feature = "testing")]
    Settle { reply: Reply<()> },
}

/// How a live session stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// The account's epoch when it was opened, or when a change kept it.
    pub(crate) epoch: u64,
    /// When its owner last proved who they are.
    pub(crate) login: Option<LoginTime>,
    /// When it ends, whatever happens.
    pub(crate) expires_at: Timestamp,
    /// When it expires unless it is used before.
    pub(crate) idle_expires_at: Timestamp,
}

/// The live sessions of one account, in short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionSummary {
    pub(crate) live: usize,
    pub(crate) last_active_at: Timestamp,
}
