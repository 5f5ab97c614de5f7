//! What the domain needs from outside: storage, time, randomness and mail. The binary implements these; tests bring their own.

mod services;

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::account::{Account, AccountChange, AccountId, NewAccount, Role};
use crate::domain::audit::{AuditPage, AuditPruned, AuditPruning, AuditQuery, AuditRecord, AuditStatus};
use crate::domain::email::{Email, EmailKey};
use crate::domain::failures::{FailureKey, StoredFailures};
use crate::domain::mail::OutgoingMail;
use crate::domain::one_time::{NewToken, TokenHash, TokenPurpose};
#[cfg(doc)]
use crate::domain::outbox::{MAX_GIVEN_UP, no_longer_kept};
use crate::domain::outbox::{MailId, MailOutcome, NewMail, QueuedMail};
use crate::domain::refresh::{RefreshFamily, RefreshHash, RefreshProof};
use crate::domain::secret::Secret;
use crate::domain::session::{Origin, Session, SessionId, SessionLabel};
use crate::domain::time::Timestamp;
use crate::domain::token::{KeyRing, SigningKey};

pub use services::{ChangeServiceTokenRefusal, CreateServiceTokenRefusal, MAX_SERVICE_TOKENS, ServiceStore};

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The wall-clock time, for what is stored and shown.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment, never going back, for limits and back-offs.
    fn monotonic(&self) -> Duration;
}

/// Where unguessable bytes come from.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the buffer with bytes nobody can guess.
    fn fill(&self, buffer: &mut [u8]);
}

/// A list of passwords that became known in breaches of other services, which guessers try first.
pub trait BreachedPasswords: Send + Sync + 'static {
    /// Whether this password is on the list. Called on a hashing thread, so it may read from the disk.
    fn contains(&self, password: &Secret) -> Result<bool, BreachedListFailure>;
}

/// The list of breached passwords cannot be read. The text is for the log; it holds nothing of a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the list of breached passwords cannot be read: {0}")]
pub struct BreachedListFailure(pub String);

/// Where the ring of keys is kept, and the key pairs in it. Every method may block for as long as the disk takes.
///
/// A command line may change the ring beside a running server; the revision keeps the two from undoing each other.
pub trait KeyVault: Send + Sync + 'static {
    /// The ring and its key pairs as they are written; `None` before there is one.
    fn load(&self) -> Result<Option<StoredKeys>, KeyVaultFailure>;

    /// The revision of the ring that is written, without reading any key.
    fn revision(&self) -> Result<Option<u64>, KeyVaultFailure>;

    /// Writes a ring in place of the one with its revision, as the next one, and with it a key pair that is new. It is durable
    /// before this returns. Pairs that the ring does not name go.
    fn replace(&self, ring: &KeyRing, new: Option<&SigningKey>) -> Result<(), ReplaceKeysError>;
}

/// What a [`KeyVault`] holds.
#[derive(Debug, Clone)]
pub struct StoredKeys {
    /// The ring.
    pub ring: KeyRing,
    /// Every key pair that it names.
    pub pairs: Vec<SigningKey>,
}

/// The keys cannot be read or written. The text is for operators; it holds nothing of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyVaultFailure(pub String);

/// Why a ring was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceKeysError {
    /// Another one was written meanwhile.
    #[error("the ring of keys changed meanwhile")]
    Stale,
    /// It could not be.
    #[error(transparent)]
    Failed(#[from] KeyVaultFailure),
}

/// What carries mails out of the house.
#[async_trait]
pub trait MailTransport: Send + Sync + 'static {
    /// Writes a mail and hands it over. `Ok` means that the next in line has taken responsibility for it: an SMTP server
    /// answered 250 to the whole of it, or it is in a file that is on the disk.
    async fn send(&self, mail: &OutgoingMail) -> Result<(), SendError>;

    /// Finds out what [`reaches`](Self::reaches) answers from. Ends within the time that a mail may take.
    async fn probe(&self) {}

    /// Whether mails to this address can be sent, as far as is known; it asks nobody.
    fn reaches(&self, _to: &Email) -> bool {
        true
    }
}

/// Why a mail was not handed over. The texts are for operators; they hold no token and no more of the mail than its recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may work later: no connection, a time-out, a 4xx answer, a full disk.
    #[error("{0}")]
    Transient(String),
    /// It will never work: a 5xx answer, a recipient that the transport cannot express.
    #[error("{0}")]
    Permanent(String),
}

/// The store could not do what it was asked: the data directory failed, filled up or stopped answering.
///
/// Nothing that was asked in this call may be taken as done or as not done. The text is for the log, never for a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct StoreFailure(pub String);

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
    /// The session in whose name it was to be made is over, or lost its role.
    Revoked,
    /// Another account has this address (by key).
    EmailTaken,
    /// Another account has this nickname (by key).
    NicknameTaken,
}

/// Why an account was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateAccountRefusal {
    /// The session in whose name it was to be done is over, or lost its role.
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
    /// The session in whose name it was to be done is over, or lost its role.
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

/// In whose name a change is made. It is made only if the session is there still, its account is unlocked and at its epoch, and
/// has this role: checked in the commit itself, so that a logout, a lock or a demotion that was acknowledged before stops
/// the change (S37, S38). Whether the session was idle for too long is its shard's business and not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acting {
    /// Who acts.
    pub account: AccountId,
    /// In which session.
    pub session: SessionId,
    /// What that needs: an administrator may act as a user, but not the other way round.
    pub role: Role,
    /// For what needs proof of who acts: the epoch of the account when that proof was looked at. A new password since then
    /// raised it and ended the freshness of the session, so the change is refused (S05, S77).
    pub proven_at: Option<u64>,
}

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

/// There is no such session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSession;

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

/// Durable state, with one method for each atomic change of the domain.
///
/// A change that is answered with `Ok` has reached the disk and survives a kill; its audit records are written in the
/// same commit and numbered in commit order. Rules that span records (unique names, the account counter, the last
/// administrator, the session epoch) are checked inside the method, atomically with the write, so they hold whoever
/// writes. A refused change writes nothing, its audit records included; who wants the refusal on record appends it.
#[async_trait]
pub trait Store: ServiceStore {
    /// The account with this number.
    async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreFailure>;

    /// The account with this address.
    async fn account_by_email(&self, key: &EmailKey) -> Result<Option<Account>, StoreFailure>;

    /// A page of accounts.
    async fn accounts(&self, page: Page) -> Result<Vec<ListedAccount>, StoreFailure>;

    /// The account with the last activity of its ended sessions.
    async fn listed_account(&self, id: AccountId) -> Result<Option<ListedAccount>, StoreFailure>;

    /// Whether this data directory ever had an administrator; once true, always true.
    async fn had_admin(&self) -> Result<bool, StoreFailure>;

    /// All stored sessions of one shard, with their last stored use, in no order. Ones that are over may be among them.
    async fn sessions(&self, shard: ShardOf) -> Result<Vec<Session>, StoreFailure>;

    /// The refresh tokens of a session; `None` if it has none, as those opened before there were any.
    async fn refresh_family(&self, account: AccountId, id: SessionId) -> Result<Option<RefreshFamily>, StoreFailure>;

    /// One stored session, with its last stored use.
    async fn session(&self, account: AccountId, id: SessionId) -> Result<Option<Session>, StoreFailure>;

    /// The newest audit records, newest first, with their sequence numbers.
    async fn recent_audit(&self, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreFailure>;

    /// The records of the log that are asked for. Ones that cannot be read are passed over.
    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreFailure>;

    /// The log in short.
    async fn audit_status(&self) -> Result<AuditStatus, StoreFailure>;

    /// The number of the newest audit record that is durable, as it grows. 0 when there never was one.
    fn audit_head(&self) -> watch::Receiver<u64>;

    /// The one-time token with this hash, if it was issued and neither used nor replaced. It may be over.
    async fn one_time_token(&self, hash: &TokenHash) -> Result<Option<StoredToken>, StoreFailure>;

    /// The use of the one-time token with this hash. Of each purpose an account's last use is kept, until the account goes.
    async fn used_token(&self, hash: &TokenHash) -> Result<Option<UsedToken>, StoreFailure>;

    /// The token of this purpose that an account has, if any; of those that undo what was done none is found. It may be over.
    async fn token_of(&self, account: AccountId, purpose: TokenPurpose) -> Result<Option<StoredToken>, StoreFailure>;

    /// Accounts of ordinary users made before a time that nobody took up: never verified, never logged in to and not locked.
    /// By number, at most `limit`. An account that was in use before verification was asked for is not among them.
    async fn unverified_before(&self, time: Timestamp, limit: usize) -> Result<Vec<AccountId>, StoreFailure>;

    /// Whether an account was logged in to from this address, or the network that stands for it, and it is among the 32 used
    /// last.
    async fn knows_address(&self, account: AccountId, from: IpAddr) -> Result<bool, StoreFailure>;

    /// All stored counters of failed attempts, in no order.
    async fn failures(&self) -> Result<Vec<(FailureKey, StoredFailures)>, StoreFailure>;

    /// Queued mails that are due, the longest due first.
    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure>;

    /// Mails of any state with numbers after this one, by number.
    async fn mails(&self, after: Option<MailId>, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure>;

    /// Makes an account: gives it the next number, revision 0 and epoch 0. Its number becomes the subject of the audit
    /// records that have none; the mails and tokens become the account's. An account that gives way to it is put on record
    /// first, as [`AuditRecord::of_replaced`] the first audit record.
    async fn create_account(
        &self,
        account: NewAccount,
        effects: Effects,
    ) -> Result<Account, StoreError<CreateAccountRefusal>>;

    /// Changes an account and ends sessions with it; the answer is the account after the change. Sessions that end
    /// leave their last stored use behind as the account's last activity. Refusals are looked for in the order in which
    /// [`UpdateAccountRefusal`] names them, but for a bad token, which comes right after an unknown account. A token that is used
    /// up or revoked withdraws its waiting mail, if that is worth nothing without it.
    async fn update_account(
        &self,
        update: AccountUpdate,
        effects: Effects,
    ) -> Result<Account, StoreError<UpdateAccountRefusal>>;

    /// Deletes an account with its sessions, activity, one-time tokens, known sign-in addresses and mails (S60); the mails of
    /// the effects are queued after that and belong to nobody. Its number is never given again. The very last account of
    /// all may go even if it is the last administrator.
    async fn delete_account(
        &self,
        id: AccountId,
        expected_revision: Option<u64>,
        acting: Option<Acting>,
        effects: Effects,
    ) -> Result<(), StoreError<DeleteAccountRefusal>>;

    /// Issues tokens, queues mails and appends audit records for an account that stays as it is; refused if there is none, or if a
    /// mail would have to be withheld.
    async fn record(&self, account: AccountId, effects: Effects) -> Result<(), StoreError<RecordRefusal>>;

    /// Opens a session. Refused unless the account exists, is unlocked and is at the session's epoch. Notes from where the
    /// login came; if that is new to an account with other known addresses, the notice is queued. An account keeps the 32
    /// addresses that were used last. A session without a family cannot be refreshed.
    async fn open_session(
        &self,
        session: Session,
        family: Option<RefreshFamily>,
        sign_in: Option<SignIn>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<OpenSessionRefusal>>;

    /// Takes a refresh token for what it is worth ([`RefreshFamily::judge`]), atomically with what follows: the present one is
    /// replaced by its successor, one just replaced changes no token, and one replaced before that ends its session. Mails
    /// and records of the reuse are written with the end alone. An honoured one notes from where the session goes on; a network
    /// that is new to the account becomes known when its owner is told, at most once in [`NOTICE_PAUSE`] for a session.
    async fn rotate_refresh(&self, used: RefreshUse) -> Result<RefreshOutcome, StoreError<RefreshRefusal>>;

    /// Gives a session a label, or takes it away.
    async fn label_session(
        &self,
        account: AccountId,
        session: SessionId,
        label: Option<SessionLabel>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<UnknownSession>>;

    /// Notes what came of an attempt to send a mail; a mail that is gone is passed over. Counts the attempt. The token of a mail
    /// that was sent ends [`NewMail::valid_for`] later, if that is earlier than its end so far. More given-up mails than
    /// [`MAX_GIVEN_UP`] make [some of them](no_longer_kept) go.
    async fn settle_mail(&self, id: MailId, outcome: MailOutcome) -> Result<(), StoreFailure>;

    /// Queues a mail anew, due at this time, with no attempts counted; false if there is no such mail. Its account becomes the
    /// subject of the audit record.
    async fn retry_mail(&self, id: MailId, at: Timestamp, audit: AuditRecord) -> Result<bool, StoreFailure>;

    /// Deletes a mail; false if there is no such mail. Its account becomes the subject of the audit record.
    async fn delete_mail(&self, id: MailId, audit: AuditRecord) -> Result<bool, StoreFailure>;

    /// Removes given-up mails that are [no longer kept](no_longer_kept), and at most `limit` counts of mails of days before
    /// yesterday; the answer is how many counts went.
    async fn prune_mails(&self, now: Timestamp, limit: usize) -> Result<usize, StoreFailure>;

    /// Ends sessions with their refresh tokens at this time, each with its last use, which becomes the account's last activity if it is newer
    /// than the one stored. Unknown sessions are passed over; an account that is gone gets no activity.
    async fn end_sessions(&self, ended: Vec<Touch>, at: Timestamp, audit: Vec<AuditRecord>)
    -> Result<(), StoreFailure>;

    /// Notes the last use of sessions; unknown ones are passed over, older times than the stored one too.
    async fn touch_sessions(&self, touches: Vec<Touch>) -> Result<(), StoreFailure>;

    /// Stores counters of failed attempts as they are now; deletes those given as `None`.
    async fn save_failures(&self, changed: Vec<(FailureKey, Option<StoredFailures>)>) -> Result<(), StoreFailure>;

    /// Appends audit records that go with no other change.
    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreFailure>;

    /// The same, but for refusals while those that are kept take more than this, in bytes; the answer is how many were left out.
    async fn append_audit_within(&self, records: Vec<AuditRecord>, most_refused: u64) -> Result<u64, StoreFailure>;

    /// Removes the oldest audit records with their entries in the index, and notes where the rest begins.
    async fn prune_audit(&self, pruning: AuditPruning) -> Result<AuditPruned, StoreFailure>;

    /// Writes and reads a record of its own, durably, to see that the store works.
    async fn probe(&self) -> Result<(), StoreFailure>;
}
