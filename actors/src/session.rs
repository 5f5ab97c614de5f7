//! Live sessions: who is logged in, since when, and whether they still are.
//!
//! The store has the truth: sessions are opened, capped, labelled and ended there, by rules that hold for every writer. Shards
//! keep a copy in memory, by account number, with the idle clocks and with uses that are written behind. The feed of the store
//! tells a shard what changed, before it answers anything.

mod actor;
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
use message::Standing;
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

/// The way to the session shards.
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
    /// What a token says, if we issued it and its time is now.
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

/// Whom a live token speaks for, as of the last acknowledged change.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The account as the store has it now.
    pub account: Account,
    /// The session the token belongs to.
    pub session: SessionId,
    /// When the owner last proved in this session who they are; `None` since a new password was set in it.
    pub(crate) login: Option<LoginTime>,
    /// When the token is over, if one was shown; else when the session is. Either may end before.
    pub expires_at: Timestamp,
    /// When the session is over unless it is used before.
    pub idle_expires_at: Timestamp,
}

/// A live token and whom it speaks for.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// Whom it speaks for.
    pub principal: Principal,
    /// The `jti` claim: its name, if it has one.
    pub token_id: Option<TokenId>,
    /// The `iat` claim: when it was issued.
    pub issued_at: Timestamp,
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
}

impl Principal {
    /// The principal as the one in whose name a change is made, which needs this role.
    pub(crate) fn acting(&self, role: Role) -> Acting {
        Acting { account: self.account.id, session: self.session, role, proven_at: None }
    }
}

impl Principal {
    /// The same for what needs proof of who acts: what is known of that was looked at when this principal was found.
    pub(crate) fn acting_proven(&self, role: Role) -> Acting {
        Acting { proven_at: Some(self.account.session_epoch), ..self.acting(role) }
    }

    /// The record of something that the principal does as an administrator and that is about no account.
    pub(crate) fn record_as_admin(&self, event: AuditEvent, at: Timestamp, origin: Origin) -> AuditRecord {
        AuditRecord {
            at,
            event,
            actor: AuditActorKind::Admin(self.account.id),
            subject: None,
            session: Some(self.session),
            origin,
            refusal: None,
            details: None,
        }
    }
}

/// Why a bearer token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticateError {
    /// It is not a token of ours, or its session or account is over. Which of these is not told (S51).
    Dead,
    /// It could not be found out (S52); never to be taken for valid.
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
    /// The account is gone or locked, or its sessions were ended since its credentials were checked.
    Refused,
    Unavailable(Unavailable),
}

/// A session just opened and the token for it.
pub(crate) struct Opened {
    /// The account as it was when the session was there.
    pub(crate) account: Account,
    pub(crate) access_token: Secret,
    pub(crate) expires_in: Duration,
    pub(crate) refresh_token: Secret,
}

/// A session that goes on, and its next access token.
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

    /// Whom a bearer token speaks for; a success counts as a use and restarts the session's idle clock.
    ///
    /// The token is checked here, the session in its shard, and the account in the store, in this order: so the answer is
    /// never older than the last acknowledged change of either.
    pub async fn authenticate(&self, bearer: &str) -> Result<Principal, AuthenticateError> {
        let token = self.inner.verify(bearer).ok_or(AuthenticateError::Dead)?;
        Ok(until(self.principal(token.account, token.session).await?, token.expires_at))
    }

    /// The same without counting as a use: for what goes on while nobody does anything, such as a stream that stays open.
    pub async fn look(&self, bearer: &str) -> Result<Principal, AuthenticateError> {
        let token = self.inner.verify(bearer).ok_or(AuthenticateError::Dead)?;
        Ok(until(self.find(token.account, token.session, false).await?, token.expires_at))
    }

    /// The same with what the token itself says. Not a use either.
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

    /// Whom a session speaks for now; a use of it.
    pub(crate) async fn principal(
        &self,
        account: AccountId,
        session: SessionId,
    ) -> Result<Principal, AuthenticateError> {
        self.find(account, session, true).await
    }

    /// Whom a session speaks for now; no use of it.
    pub(crate) async fn look_at(&self, account: AccountId, session: SessionId) -> Result<Principal, AuthenticateError> {
        self.find(account, session, false).await
    }

    /// How long sessions live.
    pub(crate) fn policy(&self) -> &SessionPolicy {
        &self.inner.policy
    }

    /// Issues the next access token of a session; a use of it.
    pub(crate) async fn renew(&self, account: AccountId, session: SessionId) -> Result<Renewed, AuthenticateError> {
        let principal = self.principal(account, session).await?;
        let stored = self.inner.store.session(account, session).await?.ok_or(AuthenticateError::Dead)?;
        let (access_token, expires_in) = self.issue(&principal.account, &stored, self.inner.clock.now())?;
        Ok(Renewed { principal, access_token, expires_in })
    }

    /// A token for a session from now on, and how long it is good for.
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
            // A change ended the account's sessions after the shard answered. It knows by now whether this one was kept.
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

    /// What the shard of an account knows of its sessions. Nothing while it is being restarted: it reads the store then.
    async fn seen(&self, account: AccountId) -> Seen {
        self.shard(account).ask(USE_DEADLINE, |reply| Message::Seen { account, reply }).await.unwrap_or_default()
    }

    /// Lets the shard of an account read what the feed tells of it, so that what was ended leaves its memory. Safety does not hang
    /// on it: a shard reads the feed before it answers anything.
    pub(crate) async fn catch_up(&self, account: AccountId) {
        if let Err(error) = self.shard(account).ask(USE_DEADLINE, |reply| Message::CatchUp { account, reply }).await {
            // One that is down just now reads the store when it starts again.
            tracing::debug!(%error, account = account.get(), "a shard was not told that sessions ended");
        }
    }

    /// Ends the principal's session. Its token is dead everywhere when this returns.
    pub async fn logout(&self, principal: &Principal, origin: Origin) -> Result<(), Unavailable> {
        self.end_own(principal, AuditEvent::Logout, AuditActorKind::Account(principal.account.id), origin).await
    }

    /// Ends the principal's session because a service that has its token says so.
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
            at: self.inner.clock.now(),
            event,
            actor,
            subject: Some(account),
            session: Some(principal.session),
            origin,
            refusal: None,
            details: None,
        };
        self.end_one(account, principal.session, audit).await
    }

    /// Ends a session in nobody's name: nobody is refused the end of what has ended already.
    async fn end_one(&self, account: AccountId, session: SessionId, audit: AuditRecord) -> Result<(), Unavailable> {
        match self.end_which(account, WhichSessions::One(session), None, audit).await {
            Ok(_) => Ok(()),
            Err(StoreError::Failed(failure)) => Err(failure.into()),
            Err(StoreError::Refused(EndSessionsRefusal)) => Err(Unavailable::default()),
        }
    }

    /// Ends sessions of an account; the answer is how many of them lived.
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

    /// The time by which sessions live.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// How many sessions live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.inner.shards.iter().map(|shard| shard.live.load(Ordering::Relaxed)).sum()
    }

    /// Opens a session for an account whose credentials were just checked, and issues its token. The notice of the
    /// sign-in is queued if the account was never logged in to from there.
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
            at: now,
            event: AuditEvent::Login,
            actor: AuditActorKind::Account(account.id),
            subject: Some(account.id),
            session: Some(session.id),
            origin,
            refusal: None,
            details: None,
        };
        let room = Room { policy: inner.policy, seen: self.seen(account.id).await };
        match inner.store.open_session(session.clone(), Some(family), sign_in, Some(room), audit).await {
            Ok(()) => {}
            Err(StoreError::Refused(_)) => return Err(OpenError::Refused),
            Err(StoreError::Failed(failure)) => return Err(OpenError::Unavailable(failure.into())),
        }
        // A shard that is down just now reads the session from the store when it starts again.
        let _ = self.shard(account.id).tell(Message::Opened(session.clone()));
        // Some may have made room for it.
        self.catch_up(account.id).await;
        match self.issue_newest(&session, now).await {
            Ok((account, access_token, expires_in)) => {
                Ok(Opened { account, access_token, expires_in, refresh_token: refresh_token.write() })
            }
            Err(error) => {
                // Nobody has its tokens, and it would take the place of one that somebody has.
                let ended = AuditRecord::of_session(&session, AuditEvent::SessionEnded, inner.clock.now());
                let account = session.account;
                if let Err(error) = self.end_one(account, session.id, ended).await {
                    tracing::error!(
                        ?error,
                        account = account.get(),
                        "a session whose token could not be issued goes on without it"
                    );
                }
                Err(error)
            }
        }
    }

    /// The first token of a session, and the account that it tells of: as it is after its hash was computed, which may have
    /// waited for seconds.
    async fn issue_newest(&self, session: &Session, now: Timestamp) -> Result<(Account, Secret, Duration), OpenError> {
        let unavailable = |failure: StoreFailure| OpenError::Unavailable(failure.into());
        let account = self.inner.store.account(session.account).await.map_err(unavailable)?;
        let account = account.ok_or(OpenError::Refused)?;
        let (access_token, expires_in) = self.issue(&account, session, now).map_err(OpenError::Unavailable)?;
        Ok((account, access_token, expires_in))
    }

    /// What is known of the live sessions of these accounts, each given with its present epoch.
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

    /// The live sessions of these accounts with their last use: what the store has, judged by those who know of later uses.
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

    /// Ends what is over and writes what is unwritten, now; otherwise timers do it.
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
        // A remainder of a number of shards fits where the number did.
        usize::try_from(account.get() % shards).unwrap_or(0)
    }

    fn shard(&self, account: AccountId) -> &Mailbox<Message> {
        &self.inner.shards[self.index(account)].mailbox
    }
}

/// The principal of a token that is over at this time at the latest.
fn until(principal: Principal, end: Timestamp) -> Principal {
    Principal { expires_at: principal.expires_at.min(end), ..principal }
}

/// The part of all accounts that a shard owns; must agree with [`SessionHandle::index`].
pub(crate) fn shard_of(index: usize, of: usize) -> ShardOf {
    ShardOf { index: u64::try_from(index).unwrap_or(0), of: u64::try_from(of).unwrap_or(1).max(1) }
}

#[cfg(feature = "testing")]
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
