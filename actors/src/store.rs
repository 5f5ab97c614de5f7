//! The store of durable state, with one method for each atomic change of the domain.
//!
//! The modules: `layout` (the keys), `codec` (the records), `rules` (the changes), `reads` (the queries), `migrations`,
//! `chain` (the audit log), [`integrity`] and [`restored`] (backups), [`engine`] (the interface of a database) and [`feed`] (what commits changed).

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::account::{Account, AccountId, NewAccount};
use crate::domain::audit::{AuditPage, AuditPruned, AuditPruning, AuditQuery, AuditRecord, AuditStatus};
use crate::domain::email::EmailKey;
use crate::domain::lease::{Lease, LeaseClaim};
use crate::domain::one_time::{TokenHash, TokenPurpose};
#[cfg(doc)]
use crate::domain::outbox::{MAX_GIVEN_UP, NewMail, no_longer_kept};
use crate::domain::refresh::RefreshFamily;
use crate::domain::revocation::{Revocation, RevocationSpan};
use crate::domain::service_token::{NewServiceToken, ServiceToken, ServiceTokenId, ServiceTokenRotation};
use crate::domain::session::{Acting, Session, SessionId, SessionLabel};
use crate::domain::time::Timestamp;
use crate::health::EngineHealth;

pub mod chain;
mod codec;
pub mod engine;
pub mod feed;
mod imports;
pub mod integrity;
pub mod layout;
mod limits;
pub mod migrations;
mod outbox;
pub mod overlay;
mod personal;
mod reads;
mod requests;
pub mod restored;
mod rules;
mod transaction;

use codec::Record;
pub use codec::RecordError;
pub use engine::{Engine, FailureKind, StoreFailure};
use engine::{Rows, Verdict};
pub use outbox::{MAX_COUNTED_MAILS, OutboxCounts};
pub use personal::{OpenLink, PersonalData};
pub use requests::*;
use transaction::{Abort, Transaction};

/// Durable state, with one method for each atomic change of the domain. Cloning it is cheap.
///
/// A change that is answered with `Ok` is durable. Its audit records are written in the same commit and numbered in commit order.
/// Rules that span records (unique names, the account counter, the last administrator, the session epoch) are checked atomically
/// with the write, so they hold for every writer. A refused change writes nothing, not even its audit records.
/// A flow that wants to record the refusal appends it.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    /// The maximum size of the audit log, in bytes.
    audit_max_bytes: u64,
}

/// Returns the number of commits that the rows contain, for engines that count them.
pub fn commits_of(rows: &dyn Rows) -> Result<u64, engine::Fault> {
    reads::counter(rows, layout::COMMITS)
}

/// Writes the number of commits, as part of the last of them.
pub fn note_commits(view: &mut dyn engine::View, commits: u64) -> Result<(), engine::Fault> {
    view.put_raw(layout::COMMITS, codec::encode(&commits)?);
    Ok(())
}

/// The refusal type of a change that is never refused.
enum Never {}

impl Store {
    /// Creates a store over an engine. A change that makes the audit log larger than `audit_max_bytes` removes its oldest records.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, audit_max_bytes: u64) -> Self {
        Self { engine, audit_max_bytes }
    }

    /// Returns the feed of what commits changed.
    #[must_use]
    pub fn feed(&self) -> &feed::Feed {
        self.engine.feed()
    }

    /// Returns whether other processes may write to this store.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.engine.is_shared()
    }

    /// Returns what the engine reports about itself.
    pub async fn health(&self) -> EngineHealth {
        let engine = Arc::clone(&self.engine);
        let asked = tokio::task::spawn_blocking(move || engine.health());
        asked.await.unwrap_or_else(|_| EngineHealth::failed("its report was cut short"))
    }

    async fn get<R: Record>(&self, key: &[u8]) -> Result<Option<R>, StoreFailure> {
        let value = self.engine.get(key).await?;
        value.map(|value| codec::decode(&value)).transpose().map_err(|error| {
            tracing::error!(%error, "a record could not be read");
            StoreFailure::permanent(error)
        })
    }

    async fn counter(&self, key: &[u8]) -> Result<u64, StoreFailure> {
        Ok(self.get(key).await?.unwrap_or(0))
    }

    async fn ask<T: Send + 'static>(
        &self,
        mut question: impl FnMut(&dyn Rows) -> Result<T, engine::Fault> + Send + 'static,
    ) -> Result<T, StoreFailure> {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        let ask = move |rows: &dyn Rows| {
            let value = question(rows)?;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            Ok(())
        };
        self.engine.ask(Box::new(ask)).await?;
        taken(&answer)
    }

    async fn change<T: Send + 'static, R: Send + 'static>(
        &self,
        rule: impl FnMut(&mut Transaction<'_>) -> Result<T, Abort<R>> + Send + 'static,
    ) -> Result<T, StoreError<R>> {
        self.make(rule, false).await
    }

    /// Makes a change that a crash may lose until the next change is durable, if it is `soon` enough.
    async fn make<T: Send + 'static, R: Send + 'static>(
        &self,
        mut rule: impl FnMut(&mut Transaction<'_>) -> Result<T, Abort<R>> + Send + 'static,
        soon: bool,
    ) -> Result<T, StoreError<R>> {
        let answer = Arc::new(Mutex::new(None));
        let (slot, audit_max_bytes) = (Arc::clone(&answer), self.audit_max_bytes);
        let change = move |view: &mut dyn engine::View| {
            let (outcome, verdict) = match rule(&mut Transaction::new(view, audit_max_bytes)) {
                Ok(value) => (Ok(value), Verdict::Keep),
                Err(Abort::Refused(refusal)) => (Err(refusal), Verdict::Discard),
                Err(Abort::Fault(fault)) => return Err(fault),
            };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            Ok(verdict)
        };
        let change = Box::new(change);
        if soon {
            self.engine.commit_soon(change).await?;
        } else {
            self.engine.commit(change).await?;
        }
        taken(&answer)?.map_err(StoreError::Refused)
    }

    /// Makes a change that no rule can refuse.
    async fn note<T: Send + 'static>(
        &self,
        rule: impl FnMut(&mut Transaction<'_>) -> Result<T, Abort<Never>> + Send + 'static,
    ) -> Result<T, StoreFailure> {
        unrefused(self.change(rule).await)
    }

    /// Makes a change that no rule can refuse, and that a crash may lose until the next change is durable.
    async fn note_soon<T: Send + 'static>(
        &self,
        rule: impl FnMut(&mut Transaction<'_>) -> Result<T, Abort<Never>> + Send + 'static,
    ) -> Result<T, StoreFailure> {
        unrefused(self.make(rule, true).await)
    }
}

fn unrefused<T>(made: Result<T, StoreError<Never>>) -> Result<T, StoreFailure> {
    made.map_err(|error| match error {
        StoreError::Refused(never) => match never {},
        StoreError::Failed(failure) => failure,
    })
}

/// Takes the answer of a query or a change. The engine has called it at least once.
fn taken<T>(answer: &Mutex<Option<T>>) -> Result<T, StoreFailure> {
    let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
    answer.ok_or_else(|| StoreFailure::permanent("the engine answered without asking"))
}

/// Accounts, their one-time tokens and their failed attempts.
impl Store {
    /// Returns the account with this number.
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreFailure> {
        self.get(&layout::account(id)).await
    }

    /// Returns the account with this address.
    pub async fn account_by_email(&self, key: &EmailKey) -> Result<Option<Account>, StoreFailure> {
        let Some(id) = self.get(&layout::email(key)).await? else {
            return Ok(None);
        };
        // The account may have changed its address between the two look-ups.
        Ok(self.account(id).await?.filter(|account| account.email.key() == key))
    }

    /// Returns a page of accounts.
    pub async fn accounts(&self, page: Page) -> Result<Vec<ListedAccount>, StoreFailure> {
        self.ask(move |rows| reads::accounts(rows, page)).await
    }

    /// Returns the account with the last activity of its ended sessions.
    pub async fn listed_account(&self, id: AccountId) -> Result<Option<ListedAccount>, StoreFailure> {
        let Some(account) = self.account(id).await? else { return Ok(None) };
        let last_active_at = self.get(&layout::activity(id)).await?;
        Ok(Some(ListedAccount { account, last_active_at }))
    }

    /// Returns whether this data directory ever had an administrator or an import. Once true, always true: then nobody becomes an
    /// administrator by registering first.
    pub async fn had_admin(&self) -> Result<bool, StoreFailure> {
        Ok(self.counter(layout::HAD_ADMIN).await? != 0)
    }

    /// Returns the unverified accounts of ordinary users that were created before a time, never logged in to and not locked.
    /// Sorted by number, at most `limit`. An account that was in use before verification was required is not included.
    pub async fn unverified_before(&self, time: Timestamp, limit: usize) -> Result<Vec<AccountId>, StoreFailure> {
        self.ask(move |rows| reads::unverified_before(rows, time, limit)).await
    }

    /// Returns whether this address, or the network that stands for it, is among the 32 that were used last for logins to an
    /// account.
    pub async fn knows_address(&self, account: AccountId, from: IpAddr) -> Result<bool, StoreFailure> {
        Ok(self.engine.get(&layout::known(account, from)).await?.is_some())
    }

    /// Returns the one-time token with this hash, if it was issued and neither used nor replaced. It may have expired.
    pub async fn one_time_token(&self, hash: &TokenHash) -> Result<Option<StoredToken>, StoreFailure> {
        self.get(&layout::token(hash)).await
    }

    /// Returns the use of the one-time token with this hash. For each purpose, an account's last use is kept until the account is
    /// deleted.
    pub async fn used_token(&self, hash: &TokenHash) -> Result<Option<UsedToken>, StoreFailure> {
        self.get(&layout::used_token(hash)).await
    }

    /// Returns the token of this purpose that an account has, if any. Never returns a token that undoes a change.
    /// The token may have expired.
    pub async fn token_of(
        &self,
        account: AccountId,
        purpose: TokenPurpose,
    ) -> Result<Option<StoredToken>, StoreFailure> {
        let index = layout::token_of(account, purpose);
        let mut hash = self.get::<TokenHash>(&index).await?;
        while let Some(looked_for) = hash {
            let found = self.one_time_token(&looked_for).await?;
            if found.is_some() {
                return Ok(found);
            }
            // Between the two look-ups the token was replaced or used.
            hash = self.get(&index).await?.filter(|now| *now != looked_for);
        }
        Ok(None)
    }

    /// Creates an account with the next number, revision 0 and epoch 0.
    /// Its number becomes the subject of the audit records that have none, and the account owns the mails and tokens.
    /// The first audit record is about an account that it replaces, if any ([`AuditRecord::of_replaced`]).
    pub async fn create_account(
        &self,
        account: NewAccount,
        effects: Effects,
    ) -> Result<Account, StoreError<CreateAccountRefusal>> {
        self.change(move |tx| rules::create_account(tx, account.clone(), effects.clone())).await
    }

    /// Changes an account, ends sessions with it and returns the account after the change.
    /// The last stored use of the ended sessions becomes the account's last activity.
    /// Refusals are checked in the order of [`UpdateAccountRefusal`], except that a bad token comes right after an unknown account.
    /// Using or revoking a token withdraws its waiting mail if the mail has no use without the token.
    pub async fn update_account(
        &self,
        update: AccountUpdate,
        effects: Effects,
    ) -> Result<Account, StoreError<UpdateAccountRefusal>> {
        self.change(move |tx| rules::update_account(tx, &update, effects.clone())).await
    }

    /// Deletes an account with its sessions, activity, one-time tokens, known sign-in addresses and mails (S60).
    /// The mails of the effects are queued afterwards and belong to no account. Its number is never reused.
    /// The very last account may be deleted even if it is the last administrator.
    pub async fn delete_account(
        &self,
        id: AccountId,
        expected_revision: Option<u64>,
        acting: Option<Acting>,
        effects: Effects,
    ) -> Result<(), StoreError<DeleteAccountRefusal>> {
        self.change(move |tx| rules::delete_account(tx, id, expected_revision, acting, effects.clone())).await
    }

    /// Issues tokens, queues mails and appends audit records for an account that does not change.
    /// Refused if the account does not exist or a mail would have to be withheld.
    pub async fn record(&self, account: AccountId, effects: Effects) -> Result<(), StoreError<RecordRefusal>> {
        self.change(move |tx| rules::record(tx, account, effects.clone())).await
    }

    /// Takes or renews a lease until a time. Returns false while another process holds it.
    /// The holder does alone what one node does for all nodes.
    pub async fn lease(&self, lease: Lease, now: Timestamp, claim: LeaseClaim) -> Result<bool, StoreFailure> {
        self.note(move |tx| rules::lease(tx, lease, now, &claim)).await
    }

    /// Writes a record of its own durably and reads it back, to check that the store works.
    pub async fn probe(&self) -> Result<(), StoreFailure> {
        let written = self.note(rules::probe).await?;
        let read = self.counter(layout::PROBE).await?;
        // Another probe may have written in the meantime.
        if read < written {
            return Err(self.engine.fail(format!("the probe wrote {written} and read {read}")));
        }
        Ok(())
    }
}

/// Sessions.
impl Store {
    /// Returns all stored sessions of one shard with their last stored use, unsorted. They may include expired ones.
    pub async fn sessions(&self, shard: ShardOf) -> Result<Vec<Session>, StoreFailure> {
        self.ask(move |rows| reads::sessions(rows, shard)).await
    }

    /// Returns the refresh tokens of a session. `None` if it has none, like sessions opened before refresh tokens existed.
    pub async fn refresh_family(
        &self,
        account: AccountId,
        id: SessionId,
    ) -> Result<Option<RefreshFamily>, StoreFailure> {
        self.get(&layout::refresh(account, id)).await
    }

    /// Returns a stored session with its last stored use.
    pub async fn session(&self, account: AccountId, id: SessionId) -> Result<Option<Session>, StoreFailure> {
        let Some(session): Option<Session> = self.get(&layout::session(account, id)).await? else { return Ok(None) };
        let last_use = self.get(&layout::touch(account, id)).await?;
        Ok(Some(reads::with_last_use(session, last_use)))
    }

    /// Opens a session. Refused unless the account exists, is unlocked and is at the session's epoch. Notes the login's address.
    /// If the address is new to an account with other known addresses, a notice is queued.
    /// An account keeps the 32 addresses that were used last. A session without a family cannot be refreshed.
    pub async fn open_session(
        &self,
        session: Session,
        family: Option<RefreshFamily>,
        sign_in: Option<SignIn>,
        room: Option<Room>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<OpenSessionRefusal>> {
        self.change(move |tx| {
            rules::open_session(tx, &session, family.as_ref(), sign_in.clone(), room.as_ref(), &audit)
        })
        .await
    }

    /// Judges a refresh token ([`RefreshFamily::judge`]) and acts on it atomically. The current token is replaced by its successor.
    /// One that was just replaced changes no token. One that was replaced earlier ends its session.
    /// Only that end writes the mails and records of the reuse. An accepted token notes the client's network.
    /// A network that is new to the account becomes known when its owner is told, at most once in [`NOTICE_PAUSE`] for a session.
    pub async fn rotate_refresh(&self, used: RefreshUse) -> Result<RefreshOutcome, StoreError<RefreshRefusal>> {
        self.change(move |tx| rules::rotate_refresh(tx, used.clone())).await
    }

    /// Sets or removes the label of a session, and returns the session after the change.
    pub async fn label_session(
        &self,
        account: AccountId,
        session: SessionId,
        label: Option<SessionLabel>,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<Session, StoreError<LabelSessionRefusal>> {
        self.change(move |tx| rules::label_session(tx, account, session, label.clone(), acting, &audit)).await
    }

    /// Returns the sessions of these accounts with their last stored use. They may include expired ones.
    pub async fn sessions_of(&self, accounts: Vec<AccountId>) -> Result<Vec<Session>, StoreFailure> {
        self.ask(move |rows| {
            let sessions = accounts.iter().map(|account| reads::sessions_of(rows, *account));
            sessions.collect::<Result<Vec<_>, _>>().map(|sessions| sessions.concat())
        })
        .await
    }

    /// Ends sessions of an account with their refresh tokens, and returns how many of them were live.
    /// Expired ones end too and are recorded as expired. Their last use becomes the account's last activity.
    pub async fn end_sessions_of(&self, end: EndOfSessions) -> Result<usize, StoreError<EndSessionsRefusal>> {
        self.change(move |tx| rules::end_sessions_of(tx, &end)).await
    }

    /// Ends sessions that were last used at these times. Returns those with a later stored use.
    /// They stay live, and their records are not written.
    pub async fn end_idle(
        &self,
        ended: Vec<(LastUse, AuditRecord)>,
        at: Timestamp,
    ) -> Result<Vec<(AccountId, SessionId)>, StoreFailure> {
        self.note(move |tx| rules::end_idle(tx, &ended, at)).await
    }

    /// Ends sessions with their refresh tokens at this time, each with its last use, which becomes the account's last activity if
    /// it is newer than the stored one. Skips unknown sessions. A deleted account gets no activity.
    pub async fn end_sessions(
        &self,
        ended: Vec<LastUse>,
        at: Timestamp,
        audit: Vec<AuditRecord>,
    ) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::end_sessions(tx, &ended, at, &audit)).await
    }

    /// Stores the last use of sessions. Skips unknown sessions and times that are older than the stored one.
    pub async fn touch_sessions(&self, touches: Vec<LastUse>) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::touch_sessions(tx, &touches)).await
    }
}

/// The audit log.
impl Store {
    /// Returns the newest audit records, newest first, with their sequence numbers.
    pub async fn recent_audit(&self, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreFailure> {
        self.ask(move |rows| reads::audit::recent(rows, limit)).await
    }

    /// Returns the audit records that match a query. Skips unreadable ones.
    pub async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreFailure> {
        self.ask(move |rows| reads::audit::page(rows, &query)).await
    }

    /// Returns a summary of the log.
    pub async fn audit_status(&self) -> Result<AuditStatus, StoreFailure> {
        self.ask(reads::audit::status).await
    }

    /// Returns a watch on the number of the newest durable audit record. 0 if there never was one.
    #[must_use]
    pub fn audit_head(&self) -> watch::Receiver<u64> {
        self.engine.feed().audit_head()
    }

    /// Appends audit records that belong to no other change.
    pub async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::append_audit(tx, &records)).await
    }

    /// Like [`append_audit`](Self::append_audit), but omits refusals while the kept refusals take more than `most_refused` bytes.
    /// Returns how many were omitted.
    pub async fn append_audit_within(&self, records: Vec<AuditRecord>, most_refused: u64) -> Result<u64, StoreFailure> {
        self.note(move |tx| rules::append_audit_within(tx, &records, most_refused)).await
    }

    /// Removes the oldest audit records with their index entries, and notes where the rest begins.
    pub async fn prune_audit(&self, pruning: AuditPruning) -> Result<AuditPruned, StoreFailure> {
        self.note(move |tx| rules::prune_audit(tx, &pruning)).await
    }
}

/// Service tokens and revocations.
impl Store {
    /// Returns all service tokens by number, with their last stored use.
    pub async fn service_tokens(&self) -> Result<Vec<ServiceToken>, StoreFailure> {
        self.ask(reads::services::service_tokens).await
    }

    /// Returns the last stored use of the token of the settings.
    pub async fn built_in_last_used(&self) -> Result<Option<Timestamp>, StoreFailure> {
        self.get(&layout::service_token_use(ServiceTokenId::BUILT_IN)).await
    }

    /// Creates a service token with the next number.
    pub async fn create_service_token(
        &self,
        token: NewServiceToken,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<CreateServiceTokenRefusal>> {
        self.change(move |tx| rules::create_service_token(tx, token.clone(), &audit)).await
    }

    /// Replaces the secret of a service token. The current secret becomes the replaced one.
    pub async fn rotate_service_token(
        &self,
        id: ServiceTokenId,
        rotation: ServiceTokenRotation,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<ChangeServiceTokenRefusal>> {
        self.change(move |tx| rules::rotate_service_token(tx, id, rotation, &audit)).await
    }

    /// Deletes a service token.
    pub async fn delete_service_token(
        &self,
        id: ServiceTokenId,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<ChangeServiceTokenRefusal>> {
        self.change(move |tx| rules::delete_service_token(tx, id, acting, &audit)).await
    }

    /// Stores the last use of service tokens, including that of the settings.
    /// Skips unknown tokens and times that are older than the stored one.
    pub async fn touch_service_tokens(&self, used: Vec<(ServiceTokenId, Timestamp)>) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::touch_service_tokens(tx, &used)).await
    }

    /// Returns at most `limit` revocations after this number, by number. Skips removed ones.
    pub async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreFailure> {
        self.ask(move |rows| reads::services::revocations(rows, after, limit)).await
    }

    /// Returns the span of revocations that are kept.
    pub async fn revocation_span(&self) -> Result<RevocationSpan, StoreFailure> {
        let before = self.counter(layout::REVOCATIONS_GONE).await?;
        // Read it second: it only grows, so the span never ends before it begins.
        let last = self.counter(layout::LAST_REVOCATION).await?;
        Ok(RevocationSpan { before, last })
    }

    /// Returns a watch on the number of the newest durable revocation. 0 if there never was one.
    #[must_use]
    pub fn revocation_head(&self) -> watch::Receiver<u64> {
        self.engine.feed().revocation_head()
    }

    /// Records what happened to the signing keys. If all of them were replaced at this time, the same commit adds that to the log
    /// of revocations.
    pub async fn record_keys(
        &self,
        audit: Vec<AuditRecord>,
        replaced_at: Option<Timestamp>,
    ) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::record_keys(tx, &audit, replaced_at)).await
    }

    /// Removes at most `limit` of the oldest revocations up to a number, those that at this time are older than the longest access
    /// token plus the leeway. Stops at the first younger one. Returns how many were removed.
    pub async fn prune_revocations(
        &self,
        now: Timestamp,
        leeway: Duration,
        up_to: u64,
        limit: usize,
    ) -> Result<usize, StoreFailure> {
        self.note(move |tx| rules::prune_revocations(tx, now, leeway, up_to, limit)).await
    }

    /// Returns the longest lifetime that access tokens ever had.
    pub async fn longest_token_lifetime(&self) -> Result<Duration, StoreFailure> {
        Ok(Duration::from_millis(self.counter(layout::LONGEST_TOKEN_LIFETIME).await?))
    }

    /// Notes the lifetime of access tokens from now on. Returns the longest lifetime ever noted,
    /// because tokens with that lifetime may still exist.
    pub async fn note_token_lifetime(&self, lifetime: Duration) -> Result<Duration, StoreFailure> {
        let millis = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let longest = self.note(move |tx| rules::note_token_lifetime(tx, millis)).await?;
        Ok(Duration::from_millis(longest))
    }
}
