//! What a shard's state is told, and what it says to do.

#[cfg(doc)]
use super::state::State;
use crate::domain::account::AccountId;
use crate::domain::session::{LoginTime, Now, Session, SessionId};
use crate::domain::time::Timestamp;
use crate::store::LastUse;
use crate::store::feed::{Behind, Touches};

/// The key of a session.
pub(crate) type Name = (AccountId, SessionId);

/// An event that the state handles.
pub(super) enum Event<R, C> {
    /// The changes of the commits after [`State::position`]. This event comes before any other,
    /// so that no answer is older than an acknowledged commit.
    Feed(Result<(u64, Vec<Touches>), Behind>),
    /// A caller asks whether a session is live. If it is, and the flag says that the question counts as a use, it is used now.
    Use(Name, bool, R),
    /// The answers to [`Effect::Read`].
    Read(Vec<Reading>),
    /// A session was opened.
    Opened(Session),
    /// A caller waits until the shard has read what the feed tells of an account.
    CatchUp(AccountId, C),
    /// The answer to [`Effect::End`]: which of the sessions stay live, because the store knows of a later use.
    Ended(Vec<Name>, Result<Vec<Name>, Failed>),
    /// The use of [`Effect::WriteAndAsk`] is durable.
    Durable(LastUse, R),
    /// The answer to [`Effect::Write`].
    Written(Vec<LastUse>, Result<(), Failed>),
    /// Sessions may have expired.
    Sweep,
    /// It is time to write uses, at most this many.
    Flush(usize),
}

/// An effect that the process carries out.
#[derive(Debug)]
pub(super) enum Effect<R, C> {
    /// Answer whether a session is live, with its state.
    Answer(R, Option<Standing>),
    /// Drop the question without an answer, because the store could not be read (S52).
    NoAnswer(R),
    /// Read sessions.
    Read(Vec<Name>),
    /// Write uses.
    Write(Vec<LastUse>),
    /// Write a use, and ask again once it is durable. The session may have ended in the meantime.
    WriteAndAsk(LastUse, R),
    /// End expired sessions, unless the store knows of a later use.
    End(Vec<Session>),
    /// Answer that the shard has read the feed.
    CaughtUp(C),
}

/// The store failed to do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed;

/// The store's answer about a session.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(super) name: Name,
    pub(super) stored: Result<Option<Session>, Failed>,
}

/// The time and the feed's progress when an event happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    pub(super) now: Now,
    /// The last durable commit. What is read from now on is not older than it.
    pub(super) settled: u64,
}

/// The state of a live session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// The account's epoch when the session was opened, or when a change kept it.
    pub(crate) epoch: u64,
    /// When its owner last authenticated.
    pub(crate) login: Option<LoginTime>,
    /// When it ends, even if it is used.
    pub(crate) expires_at: Timestamp,
    /// When it expires unless it is used before.
    pub(crate) idle_expires_at: Timestamp,
}
