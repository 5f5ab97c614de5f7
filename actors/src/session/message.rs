use super::event::{Failed, Name, Reading, Standing};
use crate::domain::account::AccountId;
use crate::domain::session::{Session, SessionId};
use crate::domain::time::Timestamp;
use crate::process::Reply;
use crate::store::{LastUse, Seen};

/// The messages of a session shard. A shard keeps a copy of stored sessions and decides nothing alone.
/// The store opens, ends and labels sessions, and the feed tells the shard.
pub(crate) enum Message {
    /// Asks whether this session is live. If so, and if `counts` is set, uses it now.
    Use { account: AccountId, session: SessionId, counts: bool, reply: Reply<Option<Standing>> },
    /// Delivers what the store answered about these sessions.
    Read(Vec<Reading>),
    /// Tells that a session was opened.
    Opened(Session),
    /// Asks what the shard knows of the sessions of this account.
    Seen { account: AccountId, reply: Reply<Seen> },
    /// Asks which of these stored sessions are live. The answer contains them with their last use.
    Living { stored: Vec<Session>, reply: Reply<Vec<Session>> },
    /// Tells that the feed has news about this account. Answered when the shard has read it.
    CatchUp { account: AccountId, reply: Reply<()> },
    /// Delivers the store's answer to a request to end these expired sessions: which of them stay live.
    Ended(Vec<Name>, Result<Vec<Name>, Failed>),
    /// Tells that a use is durable whose answer waits for it.
    Durable(LastUse, Reply<Option<Standing>>),
    /// Delivers the store's answer to a request to write these uses.
    Written(Vec<LastUse>, Result<(), Failed>),
    /// Ends idle and expired sessions. Sent by a timer.
    Sweep,
    /// Writes the uses since the last flush. Sent by a timer.
    Flush,
    /// Is answered when no commit is under way.
    #[cfg(feature = "testing")]
    Settle { reply: Reply<()> },
}

/// A summary of the live sessions of one account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionSummary {
    pub(crate) live: usize,
    pub(crate) last_active_at: Timestamp,
}
