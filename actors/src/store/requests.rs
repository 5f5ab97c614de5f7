//! The arguments, answers and refusals of changes and queries.

use std::net::IpAddr;
use std::time::Duration;

use super::StoreFailure;
use crate::domain::account::{Account, AccountChange, AccountId};
use crate::domain::audit::AuditRecord;
use crate::domain::email::EmailKey;
use crate::domain::failures::{FailureKey, FailureRules, MustWait};
use crate::domain::import::{ImportedAccount, MAX_HASH_FORMS};
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

/// Why an account was not created.
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
    /// The account's revision differs from the one on which the change was based.
    Stale,
    /// Another account has this address (by key).
    EmailTaken,
    /// Another account has this nickname (by key).
    NicknameTaken,
    /// No unlocked administrator would be left (S58).
    LastAdmin,
    /// The one-time token is unknown, used, replaced or expired, or belongs to another account, purpose or address.
    BadToken,
    /// The change requires a mail that would exceed a limit ([`NewMail::bounds`]).
    TooManyMails,
}

/// Why an account was not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteAccountRefusal {
    /// The acting session has ended, or lost its role.
    Revoked,
    /// There is no such account.
    Unknown,
    /// The account's revision differs from the one on which the deletion was based.
    Stale,
    /// No unlocked administrator would be left while other accounts exist.
    LastAdmin,
}

/// Some accounts of an import, written in one commit.
#[derive(Debug, Clone)]
pub struct ImportBatch {
    /// The accounts.
    pub accounts: Vec<ImportedAccount>,
    /// The highest number in the whole import. All numbers up to it are kept for this import, also if it is interrupted.
    /// `None` if its accounts have no numbers.
    pub last_number: Option<AccountId>,
    /// The record of the batch, completed with the number of accounts that it created. If it creates none, nothing is recorded.
    pub audit: AuditRecord,
}

/// Why a batch of an import was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImportRefusal {
    /// An account that was not imported has this number, or had it and was deleted.
    #[error("the account number {0} is taken here by an account that was not imported")]
    NumberTaken(AccountId),
    /// There would be more than [`MAX_HASH_FORMS`] forms of password hashes.
    #[error("the passwords are hashed in more than {MAX_HASH_FORMS} ways (algorithm and cost)")]
    TooManyHashForms,
}

/// Why nothing was recorded for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordRefusal {
    /// There is no such account.
    UnknownAccount,
    /// One of the mails would exceed a limit ([`NewMail::bounds`]).
    TooManyMails,
}

/// No session can be opened for the account: it was deleted or locked, or its sessions were ended since its credentials were
/// checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSessionRefusal;

/// A presented refresh token, and what follows from each way in which it may be judged.
#[derive(Debug, Clone)]
pub struct RefreshUse {
    /// The presented token.
    pub proof: RefreshProof,
    /// The hash of the token that replaces it if it is the current one.
    pub successor: RefreshHash,
    /// The time.
    pub now: Timestamp,
    /// How long a token is still accepted after it was replaced.
    pub grace: Duration,
    /// The origin of the request, shown in the list of sessions if the token is accepted.
    pub origin: Origin,
    /// The network of that origin, and the notice to the owner if the account was never used from there.
    pub sign_in: Option<SignIn>,
    /// The effects of ending the session, if the token was replaced earlier.
    pub on_reuse: Effects,
}

/// The minimum time between two notices about a session. A network that its owner was not notified of stays unknown.
pub const NOTICE_PAUSE: Duration = Duration::from_hours(24);

/// The outcome of a refresh token that was issued to an existing session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// It was the current token or just replaced. This is the family after the use.
    Honoured(RefreshFamily),
    /// It was replaced too long ago, and its session was ended.
    Reused,
}

/// Why a refresh token was not exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshRefusal {
    /// No session has a token family in which this token was issued.
    Unknown,
    /// The account was deleted or locked, or is at another epoch than the session.
    Over,
}

/// Why a session was not labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelSessionRefusal {
    /// The acting session has ended.
    Revoked,
    /// There is no such session.
    Unknown,
}

/// The session in whose name sessions were to be ended has ended itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndSessionsRefusal;

/// What the shard of an account knows of its sessions and the store may not know yet.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The last uses of the sessions.
    pub uses: Vec<LastUse>,
    /// The sessions that were found expired, judged by the last uses given for them.
    pub expired: Vec<SessionId>,
}

impl Seen {
    /// Returns whether a stored session was found expired and has not been used since.
    pub(crate) fn has_expired(&self, stored: &Session) -> bool {
        let judged = |touch: &LastUse| touch.session == stored.id && stored.last_active_at <= touch.at;
        self.expired.contains(&stored.id) && self.uses.iter().any(judged)
    }

    /// Returns the last use of a session: the later of the stored and the seen one.
    pub(crate) fn last_use(&self, session: &Session) -> Timestamp {
        let seen = self.uses.iter().filter(|touch| touch.session == session.id).map(|touch| touch.at).max();
        seen.map_or(session.last_active_at, |at| at.max(session.last_active_at))
    }
}

/// The limit of sessions of an account, enforced when another one is opened (S42).
#[derive(Debug, Clone)]
pub struct Room {
    /// The lifetimes of sessions and the limit per account.
    pub policy: SessionPolicy,
    /// What is known of the existing sessions.
    pub seen: Seen,
}

/// A request to end sessions of one account.
#[derive(Debug, Clone)]
pub struct EndOfSessions {
    /// The owner of the sessions.
    pub account: AccountId,
    /// Which of the sessions to end.
    pub which: WhichSessions,
    /// The acting session. `None` if the change needs no permission.
    pub acting: Option<Acting>,
    /// The lifetimes of sessions, because expired ones are recorded as expired.
    pub policy: SessionPolicy,
    /// What is known of the sessions.
    pub seen: Seen,
    /// The record for each session that was live, completed with its id.
    pub audit: AuditRecord,
}

/// A change to one account, with the revision on which it is based and its effect on sessions.
#[derive(Debug, Clone)]
pub struct AccountUpdate {
    /// The account.
    pub id: AccountId,
    /// The acting session. `None` if the client presented something other than a session.
    pub acting: Option<Acting>,
    /// The revision on which the change is based. `None` if it does not depend on the account's state.
    pub expected_revision: Option<u64>,
    /// The change.
    pub change: AccountChange,
    /// The sessions that the change ends.
    pub ends: EndSessions,
    /// The one-time token that permits the change and is consumed by it (S25).
    pub redeems: Option<Redemption>,
    /// Whether the change invalidates the account's other one-time tokens, before new ones are issued.
    /// It keeps the token that verifies the address, which concerns no credential, and the tokens that undo changes.
    pub revokes_tokens: bool,
}

/// A one-time token that a change consumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redemption {
    /// The hash of the token.
    pub hash: TokenHash,
    /// The purpose that the token must have.
    pub purpose: TokenPurpose,
    /// The address that the token must be about.
    pub address: EmailKey,
    /// The time at which the token must not have expired.
    pub now: Timestamp,
}

/// What is written with a change, in the same commit.
#[derive(Debug, Clone, Default)]
pub struct Effects {
    /// The audit records.
    pub audit: Vec<AuditRecord>,
    /// The mails. They belong to the account of the change and are deleted with it, except those of a deletion,
    /// which belong to no account. A mail beyond a limit ([`NewMail::bounds`]) is withheld, which is recorded once a day for each
    /// full count.
    pub mails: Vec<NewMail>,
    /// The one-time tokens that the account gets, except those of withheld mails.
    /// Each withdraws the waiting mail of the token that it replaces. A token that undoes changes covers this change and all later
    /// ones. An account has at most 16 of them. If there are more, the newest existing one is removed.
    pub tokens: Vec<NewToken>,
    /// Invalidates the tokens that undo changes from this revision of the account on, before new ones are issued.
    pub settles_from: Option<u64>,
    /// The refresh tokens of the session that the change keeps ([`EndSessions::AllBut`]). They replace its earlier ones.
    pub refresh: Option<RefreshFamily>,
    /// For a recovery: from now on, this is the only network from which the account is known to be used.
    pub networks: Option<OnlyNetwork>,
}

impl Effects {
    /// Counts the mails against no client: an administrator may create any number of accounts.
    pub(crate) fn count_no_client(&mut self) {
        self.mails.iter_mut().for_each(|mail| mail.network = None);
    }
}

/// The only network from which an account is known to be used. `None` if the client has no address.
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
    /// The account that the token belongs to.
    pub account: AccountId,
    /// The revision of the account when the token was issued.
    pub revision: u64,
    /// The token's other data.
    pub token: NewToken,
}

/// What is kept of a used one-time token. It permits nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedToken {
    /// The hash by which it is found.
    pub hash: TokenHash,
    /// The account that it belonged to.
    pub account: AccountId,
    /// The revision of the account after the use.
    pub revision: u64,
    /// The purpose of the token.
    pub purpose: TokenPurpose,
    /// When it was used.
    pub at: Timestamp,
}

/// The network of a login.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// The client's address, or the network that stands for it.
    pub from: IpAddr,
    /// The notice to the owner if the account was logged in to before, but never from there.
    pub notice: NewMail,
}

/// Which sessions of an account a change ends. Ending raises the account's `session_epoch` in the same commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndSessions {
    /// None of them; the epoch stays.
    None,
    /// All of them.
    All,
    /// All but this one, in which a new password was set. If it exists, it moves to the new epoch.
    /// Its refresh tokens become invalid, and its login no longer counts as fresh.
    AllBut(SessionId),
}

/// The last use of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastUse {
    /// The account of the session.
    pub account: AccountId,
    /// The session.
    pub session: SessionId,
    /// When it was last used.
    pub at: Timestamp,
}

/// A page of accounts in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The number of accounts to skip.
    pub skip: u64,
    /// The maximum number of accounts to return.
    pub limit: usize,
}

/// An account with the last activity of its ended sessions. Live sessions may have a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAccount {
    /// The account.
    pub account: Account,
    /// The last activity of its ended sessions.
    pub last_active_at: Option<Timestamp>,
}

/// A part of all sessions: those of accounts with `id % of == index`. One session shard owns one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardOf {
    /// The number of the part, from 0.
    pub index: u64,
    /// The number of parts, at least 1.
    pub of: u64,
}

impl ShardOf {
    /// Returns whether an account's sessions belong to this part.
    #[must_use]
    pub fn owns(&self, account: AccountId) -> bool {
        account.get() % self.of == self.index
    }
}

/// The acting session has ended or lost its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActingRefusal;

/// A limit that an administrator clears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearedLimit {
    /// A limit in the memory of a process, and the account that it is about.
    InMemory(Option<AccountId>),
    /// A counter of failed attempts.
    Failures(FailureKey),
}

/// An attempt to be counted, with its counters.
#[derive(Debug, Clone)]
pub struct NewAttempt {
    /// The counters, each with the account that it is about, if there is one.
    pub counters: Vec<(FailureKey, Option<AccountId>)>,
    /// The rules of the counters.
    pub rules: FailureRules,
    /// The time of the attempt.
    pub now: Timestamp,
    /// The maximum difference between the clocks of the nodes.
    pub clock_skew: Duration,
    /// How long its outcome may take; `None` if it has failed already.
    pub under_way: Option<Duration>,
    /// Whether there are so many counters that a new one must be shared with its neighbours.
    pub full: bool,
}

/// A counter in which an attempt is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedAttempt {
    /// The counter.
    pub key: FailureKey,
    /// Whether the counter also counts other subjects, because there are too many counters.
    pub shared: bool,
    /// Whether this attempt created the counter.
    pub is_new: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The attempt failed.
    Failed,
    /// The attempt succeeded or was not made. Only this attempt is no longer counted.
    TakenBack,
    /// The attempt succeeded, and all failures before it are forgotten.
    Succeeded,
}

/// A counter refuses an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptRefusal {
    /// The counter.
    pub key: FailureKey,
    /// How long the counter asks to wait.
    pub must_wait: MustWait,
}

/// The maximum number of service tokens besides the one of the settings.
pub const MAX_SERVICE_TOKENS: usize = 256;

/// Why a service token was not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateServiceTokenRefusal {
    /// Another token has this name.
    NameTaken,
    /// [`MAX_SERVICE_TOKENS`] exist already.
    TooMany,
    /// The acting session has ended or lost its role.
    Revoked,
}

/// Why a service token was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeServiceTokenRefusal {
    /// There is no such token.
    Unknown,
    /// The acting session has ended or lost its role.
    Revoked,
}
