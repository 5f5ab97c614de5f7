//! Live sessions: who is logged in, since when, and whether they still are.
//!
//! The store has the truth. Its rules open, cap, label and end sessions, and they hold for every writer.
//! Each shard keeps a copy of the sessions of its accounts in memory, with their idle clocks and with uses that are not written
//! yet. A shard reads the store's feed of changes before it answers anything.

mod actor;
mod event;
mod list;
mod message;
mod state;
mod verified;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zeroize::Zeroizing;

pub(crate) use actor::SessionActor;
use event::Standing;
pub(crate) use message::{Message, SessionSummary};
use verified::VerifiedTokens;

#[cfg(feature = "testing")]
use crate::ask::AskError;
use crate::ask::Unavailable;
use crate::domain::account::{Account, AccountId, Role};
use crate::domain::audit::{AuditActorKind, AuditEvent, AuditRecord, ServiceName};
use crate::domain::refresh::RefreshKeys;
use crate::domain::secret::{Secret, SecretDigest};
use crate::domain::session::{Acting, LoginTime, Origin, Session, SessionId, SessionPolicy, WhichSessions};
use crate::domain::time::Timestamp;
use crate::domain::token::{AccessTokens, TokenId, VerifiedToken};
use crate::ports::{Clock, Entropy};
use crate::process::Mailbox;
use crate::store::{EndOfSessions, EndSessionsRefusal, Room, Seen, ShardOf, SignIn, Store, StoreError, StoreFailure};
pub use list::EndError;

/// How long a shard may take to say whether a session lives. It answers from memory; more means that it hangs.
const USE_DEADLINE: Duration = Duration::from_secs(2);
/// How long a shard may take to settle: a commit, which the store itself bounds at 10 s.
#[cfg(feature = "testing")]
const COMMIT_DEADLINE: Duration = Duration::from_secs(12);

/// The handle of the session shards.
#[derive(Clone)]
pub struct SessionHandle {
    inner: Arc<Inner>,
}

struct Inner {
    shards: Vec<Shard>,
    tokens: Arc<AccessTokens>,
    verified: VerifiedTokens,
    policy: SessionPolicy,
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Inner {
    /// Returns the claims of a token if this service issued it and it is valid now.
    fn verify(&self, bearer: &str) -> Option<VerifiedToken> {
        let now = self.clock.now();
        let digest = SecretDigest::of(bearer.as_bytes());
        let keys = self.tokens.keys();
        if let Some(known) = self.verified.get(&digest, keys.generation) {
            return Some(known).filter(|token| token.is_current(now));
        }
        let token = keys.verify(bearer, now).ok()?;
        self.verified.insert(digest, keys.generation, token);
        Some(token)
    }
}

/// One shard: its mailbox and how many sessions live in it.
pub(crate) struct Shard {
    pub(crate) mailbox: Arc<Mailbox<Message>>,
    pub(crate) live: Arc<AtomicUsize>,
}

/// The account and session of a live token, as of the last acknowledged change.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The account as the store has it now.
    pub account: Account,
    /// The session the token belongs to.
    pub session: SessionId,
    /// When the owner last authenticated in this session. `None` after a new password was set in it.
    pub(crate) login: Option<LoginTime>,
    /// When the token expires if one was presented, otherwise when the session expires. Either may end earlier.
    pub expires_at: Timestamp,
    /// When the session expires unless it is used before.
    pub idle_expires_at: Timestamp,
}

/// A live token and its principal.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// The principal of the token.
    pub principal: Principal,
    /// The `jti` claim, the identifier of the token, if it has one.
    pub token_id: Option<TokenId>,
    /// The `iat` claim: when it was issued.
    pub issued_at: Timestamp,
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
}

impl Principal {
    /// Returns the principal as the one who makes a change that needs this role.
    pub(crate) fn acting(&self, role: Role) -> Acting {
        Acting { account: self.account.id, session: self.session, role, proven_at: None }
    }
}

impl Principal {
    /// Names the session that acts, like `acting`, for a change that needs a recent proof of identity.
    /// The proof was checked when this principal was found.
    #[must_use]
    pub fn acting_proven(&self, role: Role) -> Acting {
        Acting { proven_at: Some(self.account.session_epoch), ..self.acting(role) }
    }

    /// Returns the record of an administrator's action that concerns no account.
    pub(crate) fn record_as_admin(&self, event: AuditEvent, at: Timestamp, origin: Origin) -> AuditRecord {
        AuditRecord {
            actor: AuditActorKind::Admin(self.account.id),
            session: Some(self.session),
            origin,
            ..AuditRecord::new(event, at)
        }
    }
}

/// Why a bearer token gives no access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticateError {
    /// The token is not valid, or its session or account has ended. The client is not told which (S51).
    Dead,
    /// The check failed (S52). The token must never be taken for valid.
    Unavailable(Unavailable),
}

impl<E: Into<Unavailable>> From<E> for AuthenticateError {
    fn from(error: E) -> Self {
        Self::Unavailable(error.into())
    }
}

/// Why a session was not opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The account was deleted or locked, or its sessions were ended since its credentials were checked.
    Refused,
    Unavailable(Unavailable),
}

/// A new session and its tokens.
pub(crate) struct Opened {
    /// The account after the session was opened.
    pub(crate) account: Account,
    pub(crate) access_token: Secret,
    pub(crate) expires_in: Duration,
    pub(crate) refresh_token: Secret,
}

/// A session that was continued, and its next access token.
pub(crate) struct Renewed {
    pub(crate) principal: Principal,
    pub(crate) access_token: Secret,
    pub(crate) expires_in: Duration,
}

impl SessionHandle {
    pub(crate) fn new(
        shards: Vec<Shard>,
        tokens: Arc<AccessTokens>,
        policy: SessionPolicy,
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner { shards, tokens, verified: VerifiedTokens::new(), policy, store, clock, entropy }),
        }
    }

    /// Returns the principal of a bearer token. Success counts as a use and restarts the session's idle clock.
    ///
    /// The token is checked here, then the session in its shard, then the account in the store.
    /// So the answer is never older than the last acknowledged change of the session or the account.
    pub async fn authenticate(&self, bearer: &str) -> Result<Principal, AuthenticateError> {
        let token = self.inner.verify(bearer).ok_or(AuthenticateError::Dead)?;
        Ok(until(self.principal(token.account, token.session).await?, token.expires_at))
    }

    /// Like [`authenticate`](Self::authenticate), but not counted as a use. For work without user activity,
    /// such as a stream that stays open.
    pub async fn look(&self, bearer: &str) -> Result<Principal, AuthenticateError> {
        let token = self.inner.verify(bearer).ok_or(AuthenticateError::Dead)?;
        Ok(until(self.find(token.account, token.session, false).await?, token.expires_at))
    }

    /// Like [`look`](Self::look), and also returns the token's own claims. Not counted as a use.
    pub async fn inspect(&self, bearer: &str) -> Result<Inspected, AuthenticateError> {
        let token = self.inner.verify(bearer).ok_or(AuthenticateError::Dead)?;
        let principal = until(self.find(token.account, token.session, false).await?, token.expires_at);
        let (issuer, audience) = self.inner.tokens.issuer_and_audience();
        Ok(Inspected {
            principal,
            token_id: token.token_id,
            issued_at: token.issued_at,
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
        })
    }

    /// Returns the principal of a session and counts a use of it.
    pub(crate) async fn principal(
        &self,
        account: AccountId,
        session: SessionId,
    ) -> Result<Principal, AuthenticateError> {
        self.find(account, session, true).await
    }

    /// Returns the principal of a session without counting a use.
    pub(crate) async fn look_at(&self, account: AccountId, session: SessionId) -> Result<Principal, AuthenticateError> {
        self.find(account, session, false).await
    }

    /// Returns the lifetimes and limits of sessions.
    pub(crate) fn policy(&self) -> &SessionPolicy {
        &self.inner.policy
    }

    /// Issues the next access token of a session and counts a use of it.
    pub(crate) async fn renew(&self, account: AccountId, session: SessionId) -> Result<Renewed, AuthenticateError> {
        let principal = self.principal(account, session).await?;
        let stored = self.inner.store.session(account, session).await?.ok_or(AuthenticateError::Dead)?;
        let (access_token, expires_in) = self.issue(&principal.account, &stored, self.inner.clock.now())?;
        Ok(Renewed { principal, access_token, expires_in })
    }

    /// Issues an access token for a session, and returns it with its lifetime.
    fn issue(&self, account: &Account, session: &Session, now: Timestamp) -> Result<(Secret, Duration), Unavailable> {
        let expires_at = self.inner.policy.access_ends_at(session, now);
        let mut id = [0; 16];
        self.inner.entropy.fill(&mut id);
        let id = TokenId::from_bytes(id);
        let token = self.inner.tokens.issue(account, session, now, expires_at, id).map_err(|error| {
            tracing::error!(%error, "an access token could not be signed");
            Unavailable::default()
        })?;
        Ok((token, expires_at.since(now)))
    }

    async fn find(&self, account: AccountId, session: SessionId, counts: bool) -> Result<Principal, AuthenticateError> {
        let mut standing = self.standing(account, session, counts).await?;
        let found = self.inner.store.account(account).await?.filter(|account| !account.locked);
        let found = found.ok_or(AuthenticateError::Dead)?;
        if standing.epoch < found.session_epoch {
            // A change ended the account's sessions after the shard answered. By now the shard knows whether this session was kept.
            standing = self.standing(account, session, false).await?;
            if standing.epoch < found.session_epoch {
                return Err(AuthenticateError::Dead);
            }
        }
        Ok(Principal {
            account: found,
            session,
            login: standing.login,
            expires_at: standing.expires_at,
            idle_expires_at: standing.idle_expires_at,
        })
    }

    async fn standing(
        &self,
        account: AccountId,
        session: SessionId,
        counts: bool,
    ) -> Result<Standing, AuthenticateError> {
        let question = |reply| Message::Use { account, session, counts, reply };
        self.shard(account).ask(USE_DEADLINE, question).await?.ok_or(AuthenticateError::Dead)
    }

    /// Returns what the shard of an account knows of its sessions. Empty while the shard restarts, because it then reads the store.
    async fn seen(&self, account: AccountId) -> Seen {
        self.shard(account).ask(USE_DEADLINE, |reply| Message::Seen { account, reply }).await.unwrap_or_default()
    }

    /// Asks the shard of an account to read the feed, so that it drops ended sessions from memory. Safety does not depend on this:
    /// a shard reads the feed before it answers anything.
    pub(crate) async fn catch_up(&self, account: AccountId) {
        if let Err(error) = self.shard(account).ask(USE_DEADLINE, |reply| Message::CatchUp { account, reply }).await {
            // A shard that is down now reads the store when it restarts.
            tracing::debug!(%error, account = account.get(), "a shard was not told that sessions ended");
        }
    }

    /// Ends the principal's session. When this returns, no node accepts its token.
    pub async fn logout(&self, principal: &Principal, origin: Origin) -> Result<(), Unavailable> {
        self.end_own(principal, AuditEvent::Logout, AuditActorKind::Account(principal.account.id), origin).await
    }

    /// Ends the principal's session at the request of a service that holds its token.
    pub async fn revoke(
        &self,
        principal: &Principal,
        service: &ServiceName,
        origin: Origin,
    ) -> Result<(), Unavailable> {
        let actor = AuditActorKind::Service(service.clone());
        self.end_own(principal, AuditEvent::SessionRevokedByService, actor, origin).await
    }

    async fn end_own(
        &self,
        principal: &Principal,
        event: AuditEvent,
        actor: AuditActorKind,
        origin: Origin,
    ) -> Result<(), Unavailable> {
        let account = principal.account.id;
        let audit = AuditRecord {
            actor,
            subject: Some(account),
            session: Some(principal.session),
            origin,
            ..AuditRecord::new(event, self.inner.clock.now())
        };
        self.end_one(account, principal.session, audit).await
    }

    /// Ends a session without an acting principal. A session that has already ended is not an error.
    async fn end_one(&self, account: AccountId, session: SessionId, audit: AuditRecord) -> Result<(), Unavailable> {
        match self.end_which(account, WhichSessions::One(session), None, audit).await {
            Ok(_) => Ok(()),
            Err(StoreError::Failed(failure)) => Err(failure.into()),
            Err(StoreError::Refused(EndSessionsRefusal)) => Err(Unavailable::default()),
        }
    }

    /// Ends sessions of an account and returns how many of them were live.
    async fn end_which(
        &self,
        account: AccountId,
        which: WhichSessions,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<usize, StoreError<EndSessionsRefusal>> {
        let (policy, seen) = (self.inner.policy, self.seen(account).await);
        let ended =
            self.inner.store.end_sessions_of(EndOfSessions { account, which, acting, policy, seen, audit }).await?;
        self.catch_up(account).await;
        Ok(ended)
    }

    /// Returns the time by which sessions are judged.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Returns the number of live sessions.
    #[must_use]
    pub fn live(&self) -> usize {
        self.inner.shards.iter().map(|shard| shard.live.load(Ordering::Relaxed)).sum()
    }

    /// Opens a session for an account whose credentials were just checked, and issues its tokens.
    /// Queues a sign-in notice if the account has never logged in from this network.
    pub(crate) async fn open(
        &self,
        account: &Account,
        remember: bool,
        origin: Origin,
        sign_in: Option<SignIn>,
        refresh_keys: &RefreshKeys,
    ) -> Result<Opened, OpenError> {
        let inner = &*self.inner;
        let now = inner.clock.now();
        let mut id = [0; 16];
        inner.entropy.fill(&mut id);
        let session = Session {
            id: SessionId::from_bytes(id),
            account: account.id,
            epoch: account.session_epoch,
            created_at: now,
            authenticated_at: Some(now),
            expires_at: now.plus(inner.policy.lifetime),
            last_active_at: now,
            address: origin.address,
            user_agent: origin.user_agent.clone(),
            notified_at: None,
            label: None,
            remembered: remember,
        };
        let mut random = Zeroizing::new([0; 64]);
        inner.entropy.fill(random.as_mut());
        let (family, refresh_token) = refresh_keys.begin(account.id, session.id, &random);
        let audit = AuditRecord {
            actor: AuditActorKind::Account(account.id),
            subject: Some(account.id),
            session: Some(session.id),
            origin,
            ..AuditRecord::new(AuditEvent::Login, now)
        };
        let room = Room { policy: inner.policy, seen: self.seen(account.id).await };
        match inner.store.open_session(session.clone(), Some(family), sign_in, Some(room), audit).await {
            Ok(()) => {}
            Err(StoreError::Refused(_)) => return Err(OpenError::Refused),
            Err(StoreError::Failed(failure)) => return Err(OpenError::Unavailable(failure.into())),
        }
        // A shard that is down now reads the session from the store when it restarts.
        let _ = self.shard(account.id).tell(Message::Opened(session.clone()));
        // Other sessions may have been ended to make room for this one.
        self.catch_up(account.id).await;
        match self.issue_newest(&session, now).await {
            Ok((account, access_token, expires_in)) => {
                Ok(Opened { account, access_token, expires_in, refresh_token: refresh_token.write() })
            }
            Err(error) => {
                // No client has its tokens, and it would count against the limit of sessions.
                let ended = AuditRecord::of_session(&session, AuditEvent::SessionEnded, inner.clock.now());
                let account = session.account;
                if let Err(error) = self.end_one(account, session.id, ended).await {
                    tracing::error!(
                        ?error,
                        account = account.get(),
                        "a session whose tokens could not be issued could not be ended"
                    );
                }
                Err(error)
            }
        }
    }

    /// Issues the first token of a session and returns it with the account. The account is read anew,
    /// because the password hash that came before may have waited for seconds.
    async fn issue_newest(&self, session: &Session, now: Timestamp) -> Result<(Account, Secret, Duration), OpenError> {
        let unavailable = |failure: StoreFailure| OpenError::Unavailable(failure.into());
        let account = self.inner.store.account(session.account).await.map_err(unavailable)?;
        let account = account.ok_or(OpenError::Refused)?;
        let (access_token, expires_in) = self.issue(&account, session, now).map_err(OpenError::Unavailable)?;
        Ok((account, access_token, expires_in))
    }

    /// Summarises the live sessions of these accounts, each given with its current epoch.
    pub(crate) async fn summaries(
        &self,
        accounts: impl IntoIterator<Item = (AccountId, u64)>,
    ) -> Result<HashMap<AccountId, SessionSummary>, Unavailable> {
        let epochs: HashMap<AccountId, u64> = accounts.into_iter().collect();
        let mut found: HashMap<AccountId, SessionSummary> = HashMap::new();
        for session in self.living(epochs.keys().copied().collect()).await? {
            if epochs.get(&session.account) == Some(&session.epoch) {
                let none = SessionSummary { live: 0, last_active_at: session.last_active_at };
                let summary = found.entry(session.account).or_insert(none);
                summary.live += 1;
                summary.last_active_at = summary.last_active_at.max(session.last_active_at);
            }
        }
        Ok(found)
    }

    /// Returns the live sessions of these accounts with their last use. They are read from the store, then judged by the shards,
    /// which know of later uses.
    async fn living(&self, accounts: Vec<AccountId>) -> Result<Vec<Session>, Unavailable> {
        let mut by_shard: HashMap<usize, Vec<Session>> = HashMap::new();
        for session in self.inner.store.sessions_of(accounts).await? {
            by_shard.entry(self.index(session.account)).or_default().push(session);
        }
        let mut living = Vec::new();
        for (index, stored) in by_shard {
            let question = |reply| Message::Living { stored, reply };
            living.extend(self.inner.shards[index].mailbox.ask(USE_DEADLINE, question).await?);
        }
        Ok(living)
    }

    /// Ends expired sessions and writes pending uses now. Otherwise timers do it.
    #[cfg(feature = "testing")]
    pub(crate) async fn tend(&self) -> Result<(), AskError> {
        for shard in &self.inner.shards {
            shard.mailbox.tell(Message::Sweep)?;
            shard.mailbox.tell(Message::Flush)?;
            shard.mailbox.ask(COMMIT_DEADLINE, |reply| Message::Settle { reply }).await?;
        }
        Ok(())
    }

    fn index(&self, account: AccountId) -> usize {
        let shards = u64::try_from(self.inner.shards.len()).unwrap_or(1);
        // The remainder is less than the number of shards, so it fits.
        usize::try_from(account.get() % shards).unwrap_or(0)
    }

    fn shard(&self, account: AccountId) -> &Mailbox<Message> {
        &self.inner.shards[self.index(account)].mailbox
    }
}

/// Limits the principal's expiry to the end of its token.
fn until(principal: Principal, end: Timestamp) -> Principal {
    Principal { expires_at: principal.expires_at.min(end), ..principal }
}

/// Returns the part of all accounts that a shard owns. It must agree with [`SessionHandle::index`].
pub(crate) fn shard_of(index: usize, of: usize) -> ShardOf {
    ShardOf { index: u64::try_from(index).unwrap_or(0), of: u64::try_from(of).unwrap_or(1).max(1) }
}

#[cfg(feature = "testing")]
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
