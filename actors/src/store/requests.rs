//! What changes and questions are asked with, what they answer, and why they are refused.

use std::net::IpAddr;
use std::time::Duration;

use super::StoreFailure;
use crate::domain::account::{Account, AccountChange, AccountId};
use crate::domain::audit::AuditRecord;
use crate::domain::email::EmailKey;
use crate::domain::failures::{FailureKey, FailureRules, MustWait};
use crate::domain::one_time::{NewToken, TokenHash, TokenPurpose};
use crate::domain::outbox::NewMail;
use crate::domain::refresh::{RefreshFamily, RefreshHash, RefreshProof};
use crate::domain::session::{Acting, Origin, Session, SessionId, SessionPolicy, WhichSessions};
use crate::domain::time::Timestamp;

/// Why a change to the store was not made: a rule refused it (and nothing was written), or the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError<R> {
    /// A rule refused the change; nothing of it was written.
    #[error("refused")]
    Refused(R),
    /// The store itself failed.
    #[error(transparent)]
    Failed(#[from] StoreFailure),
}

/// Why an account was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateAccountRefusal {
    /// The acting session has ended, or lost its role.
    Revoked,
    /// Another account has this address (by key).
    EmailTaken,
    /// Another account has this nickname (by key).
    NicknameTaken,
}

/// Why an account was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateAccountRefusal {
    /// The acting session has ended, or lost its role.
    Revoked,
    /// There is no such account.
    Unknown,
    /// The account is at another revision than the change was decided on.
    Stale,
    /// Another account has this address (by key).
    EmailTaken,
    /// Another account has this nickname (by key).
    NicknameTaken,
    /// No unlocked administrator would be left (S58).
    LastAdmin,
    /// The one-time token is unknown, used, replaced, over, of another account, purpose or address.
    BadToken,
    /// A mail without which the change is not made is one too many ([`NewMail::bounds`]).
    TooManyMails,
}

/// Why an account was not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteAccountRefusal {
    /// The acting session has ended, or lost its role.
    Revoked,
    /// There is no such account.
    Unknown,
    /// The account is at another revision than the deletion was decided on.
    Stale,
    /// No unlocked administrator would be left while other accounts exist.
    LastAdmin,
}

/// Why nothing was recorded for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordRefusal {
    /// There is no such account.
    UnknownAccount,
    /// One of the mails is one too many ([`NewMail::bounds`]).
    TooManyMails,
}

/// The account cannot have a session opened: it is gone, locked, or its sessions were ended since its credentials were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSessionRefusal;

/// A refresh token that is presented, and what follows from each way in which it may be judged.
#[derive(Debug, Clone)]
pub struct RefreshUse {
    /// What is presented.
    pub proof: RefreshProof,
    /// The hash of the token that takes its place if it is the present one.
    pub successor: RefreshHash,
    /// The time.
    pub now: Timestamp,
    /// How long a token is honoured once it was replaced.
    pub grace: Duration,
    /// From where and with what the session goes on, if the token is honoured; shown in the list of sessions.
    pub origin: Origin,
    /// The network of that address, and what the owner is told if the account was never used from there.
    pub sign_in: Option<SignIn>,
    /// What goes with the end of the session, if the token was replaced before that.
    pub on_reuse: Effects,
}

/// How long after a notice about a session the next one may follow. A network that its owner was not told of stays unknown.
pub const NOTICE_PAUSE: Duration = Duration::from_hours(24);

/// What came of a refresh token that was issued to a session that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// It was the present one, or one just replaced; this is the family now.
    Honoured(RefreshFamily),
    /// It was replaced too long ago. Its session was ended.
    Reused,
}

/// Why a refresh token was not exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshRefusal {
    /// No session has a family of tokens in which this one was issued.
    Unknown,
    /// The account is gone, locked, or at another epoch than the session.
    Over,
}

/// Why a session was not labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelSessionRefusal {
    /// The session in whose name it was to be done has ended.
    Revoked,
    /// There is no such session.
    Unknown,
}

/// The session in whose name sessions were to be ended has ended itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndSessionsRefusal;

/// What the owner of the sessions of an account in memory knows of them and the store may not know yet.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Their last uses.
    pub uses: Vec<Touch>,
    /// Those that were found expired, by the last uses that are given for them.
    pub expired: Vec<SessionId>,
}

impl Seen {
    /// Whether a stored session was found expired, and nobody used it since.
    pub(crate) fn has_expired(&self, stored: &Session) -> bool {
        let judged = |touch: &Touch| touch.session == stored.id && stored.last_active_at <= touch.at;
        self.expired.contains(&stored.id) && self.uses.iter().any(judged)
    }

    /// The last use of a session, by what is stored and by what was seen.
    pub(crate) fn last_use(&self, session: &Session) -> Timestamp {
        let seen = self.uses.iter().filter(|touch| touch.session == session.id).map(|touch| touch.at).max();
        seen.map_or(session.last_active_at, |at| at.max(session.last_active_at))
    }
}

/// How many sessions an account may have, checked when another one is opened (S42).
#[derive(Debug, Clone)]
pub struct Room {
    /// How long sessions live and how many of them an account may have.
    pub policy: SessionPolicy,
    /// What is known of the sessions that there are.
    pub seen: Seen,
}

/// An end of sessions of one account that somebody asked for.
#[derive(Debug, Clone)]
pub struct EndOfSessions {
    /// Whose sessions.
    pub account: AccountId,
    /// Which of them.
    pub which: WhichSessions,
    /// In whose name; `None` for what needs nobody's permission.
    pub acting: Option<Acting>,
    /// How long sessions live, as what has expired is put on record as that.
    pub policy: SessionPolicy,
    /// What is known of them.
    pub seen: Seen,
    /// What is put on record for each session that lived, with its name.
    pub audit: AuditRecord,
}

/// A change to one account, with what it was decided on and what it does to sessions.
#[derive(Debug, Clone)]
pub struct AccountUpdate {
    /// Which account.
    pub id: AccountId,
    /// In whose name; `None` for whoever showed something else than a session.
    pub acting: Option<Acting>,
    /// The revision the change was decided on; `None` when it does not depend on what the account was.
    pub expected_revision: Option<u64>,
    /// What to change.
    pub change: AccountChange,
    /// Which sessions the change ends.
    pub ends: EndSessions,
    /// The one-time token that permits the change and is used up by it (S25).
    pub redeems: Option<Redemption>,
    /// Whether the change makes the other one-time tokens of the account worthless, before new ones are issued: all but the one
    /// that verifies its address, which has nothing to do with any credential, and those that undo what was done.
    pub revokes_tokens: bool,
}

/// A one-time token that is used up by a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redemption {
    /// Which token.
    pub hash: TokenHash,
    /// What it has to be good for.
    pub purpose: TokenPurpose,
    /// The address it has to be about.
    pub address: EmailKey,
    /// The time, before which it must not be over.
    pub now: Timestamp,
}

/// What goes with a change, in the same commit.
#[derive(Debug, Clone, Default)]
pub struct Effects {
    /// What is put on record.
    pub audit: Vec<AuditRecord>,
    /// Who is told. The mails belong to the account of the change and go away with it, but for those of a deletion, which belong
    /// to nobody. One that is beyond a bound ([`NewMail::bounds`]) is withheld, and put on record once a day for each full count.
    pub mails: Vec<NewMail>,
    /// Which one-time tokens the account of the change gets, but for those of mails that are withheld. Each withdraws the waiting
    /// mail of the token that it replaces. Those that undo what was done are for what
    /// this change does and all after it; an account has at most 16 of them, and for more the newest gives way.
    pub tokens: Vec<NewToken>,
    /// Tokens that undo what was done at this revision of the account or later become worthless, before new ones are issued.
    pub settles_from: Option<u64>,
    /// The refresh tokens of the session that the change keeps ([`EndSessions::AllBut`]), in place of those it had.
    pub refresh: Option<RefreshFamily>,
    /// For a recovery: from now on the account is known to be used from this network alone.
    pub networks: Option<OnlyNetwork>,
}

impl Effects {
    /// Counts the mails against no client: an administrator may make as many accounts as there are people.
    pub(crate) fn count_no_client(&mut self) {
        self.mails.iter_mut().for_each(|mail| mail.network = None);
    }
}

/// The one network that an account is known to be used from; none where the client has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnlyNetwork(pub Option<IpAddr>);

impl From<AuditRecord> for Effects {
    fn from(record: AuditRecord) -> Self {
        Self { audit: vec![record], ..Self::default() }
    }
}

/// A one-time token as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Whose it is.
    pub account: AccountId,
    /// The revision of the account that it was issued with.
    pub revision: u64,
    /// The rest of it.
    pub token: NewToken,
}

/// What is kept of a one-time token that was used. It permits nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedToken {
    /// Under what it is found.
    pub hash: TokenHash,
    /// Whose it was.
    pub account: AccountId,
    /// The revision of the account that its use led to.
    pub revision: u64,
    /// What it was used for.
    pub purpose: TokenPurpose,
    /// When.
    pub at: Timestamp,
}

/// From where an account was logged in to.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// The client's address, or the network that stands for it.
    pub from: IpAddr,
    /// What the owner is told if the account was logged in to before, but never from there.
    pub notice: NewMail,
}

/// Which sessions of an account a change ends. Ending raises the account's `session_epoch` in the same commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndSessions {
    /// None of them; the epoch stays.
    None,
    /// All of them.
    All,
    /// All but this one, in which a new password was set. If it exists, it is carried over to the new epoch; its refresh tokens
    /// are dead, and its login no longer counts as fresh.
    AllBut(SessionId),
}

/// The last use of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Whose session.
    pub account: AccountId,
    /// Which session.
    pub session: SessionId,
    /// When it was last used.
    pub at: Timestamp,
}

/// A page of accounts in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// How many accounts to pass over.
    pub skip: u64,
    /// How many to return at most.
    pub limit: usize,
}

/// An account together with when it was last active in a session that has ended; live sessions know better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAccount {
    /// The account.
    pub account: Account,
    /// The last activity of its ended sessions.
    pub last_active_at: Option<Timestamp>,
}

/// Which part of all sessions: those of accounts with `id % of == index`. One session shard owns one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardOf {
    /// Which part, from 0.
    pub index: u64,
    /// Into how many parts, at least 1.
    pub of: u64,
}

impl ShardOf {
    /// Whether an account's sessions belong to this part.
    #[must_use]
    pub fn owns(&self, account: AccountId) -> bool {
        account.get() % self.of == self.index
    }
}

/// The session in whose name a change was to be made has ended, or lost its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActingRefusal;

/// A limit that an administrator clears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearedLimit {
    /// One that a process keeps, and the account that it is about.
    InMemory(Option<AccountId>),
    /// A counter of failed attempts.
    Failures(FailureKey),
}

/// An attempt that is about to be made, with its counters.
#[derive(Debug, Clone)]
pub struct NewAttempt {
    /// The counters, each with the account that it is about, if there is one.
    pub counters: Vec<(FailureKey, Option<AccountId>)>,
    /// The rules of the counters.
    pub rules: FailureRules,
    /// When it is made.
    pub now: Timestamp,
    /// By how much the clocks of nodes may differ.
    pub clock_skew: Duration,
    /// Whether its outcome is not known yet; otherwise it has failed.
    pub under_way: bool,
    /// Whether there are so many counters that a new one must be shared with its neighbours.
    pub full: bool,
}

/// Where an attempt is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedAttempt {
    /// The counter.
    pub key: FailureKey,
    /// Whether others are counted there too, because there are too many counters.
    pub shared: bool,
    /// Whether the counter began with this attempt.
    pub is_new: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It was wrong.
    Failed,
    /// It was right, or was not made after all: it alone is not counted any more.
    TakenBack,
    /// It was right, and all failures before it are forgotten.
    Succeeded,
}

/// A counter does not admit an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptRefusal {
    /// The counter.
    pub key: FailureKey,
    /// For how long.
    pub must_wait: MustWait,
}

/// How many service tokens there may be besides the one of the settings.
pub const MAX_SERVICE_TOKENS: usize = 256;

/// Why a service token was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateServiceTokenRefusal {
    /// Another one has this name.
    NameTaken,
    /// There are [`MAX_SERVICE_TOKENS`] already.
    TooMany,
    /// The session in whose name it was to be made does not stand any more.
    Revoked,
}

/// Why a service token was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeServiceTokenRefusal {
    /// There is no such token.
    Unknown,
    /// The session in whose name it was to be changed does not stand any more.
    Revoked,
}
