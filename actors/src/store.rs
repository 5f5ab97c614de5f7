//! What is kept, once: the store that flows call, with one method for each atomic change of the domain.
//!
//! The modules: `layout` (where a record is), `codec` (what it looks like), `rules` (the changes), `reads` (the questions),
//! `migrations`, `chain` (the audit log), [`engine`] (what a database has to do) and [`feed`] (what commits changed).

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

pub mod chain;
mod codec;
pub mod engine;
pub mod feed;
pub mod layout;
mod limits;
pub mod migrations;
mod outbox;
pub mod overlay;
mod reads;
mod requests;
mod rules;
mod transaction;

use codec::Record;
pub use codec::RecordError;
pub use engine::{Engine, FailureKind, StoreFailure};
use engine::{Rows, Verdict};
pub use requests::*;
use transaction::{Abort, Transaction};

/// Durable state, with one method for each atomic change of the domain. Cloning it is cheap.
///
/// A change that is answered with `Ok` is durable; its audit records are written in the same commit and numbered in commit
/// order. Rules that span records (unique names, the account counter, the last administrator, the session epoch) are checked
/// atomically with the write, so they hold for every writer. A refused change writes nothing, its audit records included; a flow
/// that wants the refusal on record appends it.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    /// How much the audit log may take, in bytes.
    audit_max_bytes: u64,
}

/// How many commits the rows have seen, for engines that count them.
pub fn commits_of(rows: &dyn Rows) -> Result<u64, engine::Fault> {
    reads::counter(rows, layout::COMMITS)
}

/// Writes how many commits the rows have seen, in the last of them.
pub fn note_commits(view: &mut dyn engine::View, commits: u64) -> Result<(), engine::Fault> {
    view.put_raw(layout::COMMITS, codec::encode(&commits)?);
    Ok(())
}

/// The refusal of a change that is never refused.
enum Never {}

impl Store {
    /// The store in an engine. A change that makes the audit log larger than this, in bytes, removes its oldest records.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, audit_max_bytes: u64) -> Self {
        Self { engine, audit_max_bytes }
    }

    /// What commits changed.
    #[must_use]
    pub fn feed(&self) -> &feed::Feed {
        self.engine.feed()
    }

    /// Whether other processes may write to this store.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.engine.is_shared()
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
        mut rule: impl FnMut(&mut Transaction<'_>) -> Result<T, Abort<R>> + Send + 'static,
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
        self.engine.commit(Box::new(change)).await?;
        taken(&answer)?.map_err(StoreError::Refused)
    }

    /// Makes a change that no rule can refuse.
    async fn note<T: Send + 'static>(
        &self,
        rule: impl FnMut(&mut Transaction<'_>) -> Result<T, Abort<Never>> + Send + 'static,
    ) -> Result<T, StoreFailure> {
        self.change(rule).await.map_err(|error| match error {
            StoreError::Refused(never) => match never {},
            StoreError::Failed(failure) => failure,
        })
    }
}

/// What a question or a change left behind, which the engine called at least once.
fn taken<T>(answer: &Mutex<Option<T>>) -> Result<T, StoreFailure> {
    let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
    answer.ok_or_else(|| StoreFailure::permanent("the engine answered without asking"))
}

/// Accounts, their one-time tokens and their failed attempts.
impl Store {
    /// The account with this number.
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreFailure> {
        self.get(&layout::account(id)).await
    }

    /// The account with this address.
    pub async fn account_by_email(&self, key: &EmailKey) -> Result<Option<Account>, StoreFailure> {
        let Some(id) = self.get(&layout::email(key)).await? else {
            return Ok(None);
        };
        // Between the two lookups the account may have taken another address.
        Ok(self.account(id).await?.filter(|account| account.email.key() == key))
    }

    /// A page of accounts.
    pub async fn accounts(&self, page: Page) -> Result<Vec<ListedAccount>, StoreFailure> {
        self.ask(move |rows| reads::accounts(rows, page)).await
    }

    /// The account with the last activity of its ended sessions.
    pub async fn listed_account(&self, id: AccountId) -> Result<Option<ListedAccount>, StoreFailure> {
        let Some(account) = self.account(id).await? else { return Ok(None) };
        let last_active_at = self.get(&layout::activity(id)).await?;
        Ok(Some(ListedAccount { account, last_active_at }))
    }

    /// Whether this data directory ever had an administrator; once true, always true.
    pub async fn had_admin(&self) -> Result<bool, StoreFailure> {
        Ok(self.counter(layout::HAD_ADMIN).await? != 0)
    }

    /// Accounts of ordinary users made before a time that nobody took up: never verified, never logged in to and not locked.
    /// By number, at most `limit`. An account that was in use before verification was asked for is not among them.
    pub async fn unverified_before(&self, time: Timestamp, limit: usize) -> Result<Vec<AccountId>, StoreFailure> {
        self.ask(move |rows| reads::unverified_before(rows, time, limit)).await
    }

    /// Whether an account was logged in to from this address, or the network that stands for it, and it is among the 32 used
    /// last.
    pub async fn knows_address(&self, account: AccountId, from: IpAddr) -> Result<bool, StoreFailure> {
        Ok(self.engine.get(&layout::known(account, from)).await?.is_some())
    }

    /// The one-time token with this hash, if it was issued and neither used nor replaced. It may be over.
    pub async fn one_time_token(&self, hash: &TokenHash) -> Result<Option<StoredToken>, StoreFailure> {
        self.get(&layout::token(hash)).await
    }

    /// The use of the one-time token with this hash. Of each purpose an account's last use is kept, until the account goes.
    pub async fn used_token(&self, hash: &TokenHash) -> Result<Option<UsedToken>, StoreFailure> {
        self.get(&layout::used_token(hash)).await
    }

    /// The token of this purpose that an account has, if any; of those that undo what was done none is found. It may be over.
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
            // Between the two lookups it was replaced by another one, or used up.
            hash = self.get(&index).await?.filter(|now| *now != looked_for);
        }
        Ok(None)
    }

    /// Makes an account: gives it the next number, revision 0 and epoch 0. Its number becomes the subject of the audit
    /// records that have none; the mails and tokens become the account's. An account that gives way to it is put on record
    /// first, as [`AuditRecord::of_replaced`] the first audit record.
    pub async fn create_account(
        &self,
        account: NewAccount,
        effects: Effects,
    ) -> Result<Account, StoreError<CreateAccountRefusal>> {
        self.change(move |tx| rules::create_account(tx, account.clone(), effects.clone())).await
    }

    /// Changes an account and ends sessions with it; the answer is the account after the change. Sessions that end
    /// leave their last stored use behind as the account's last activity. Refusals are looked for in the order in which
    /// [`UpdateAccountRefusal`] names them, but for a bad token, which comes right after an unknown account. A token that is used
    /// up or revoked withdraws its waiting mail, if that is worth nothing without it.
    pub async fn update_account(
        &self,
        update: AccountUpdate,
        effects: Effects,
    ) -> Result<Account, StoreError<UpdateAccountRefusal>> {
        self.change(move |tx| rules::update_account(tx, &update, effects.clone())).await
    }

    /// Deletes an account with its sessions, activity, one-time tokens, known sign-in addresses and mails (S60); the mails of
    /// the effects are queued after that and belong to nobody. Its number is never given again. The very last account of
    /// all may go even if it is the last administrator.
    pub async fn delete_account(
        &self,
        id: AccountId,
        expected_revision: Option<u64>,
        acting: Option<Acting>,
        effects: Effects,
    ) -> Result<(), StoreError<DeleteAccountRefusal>> {
        self.change(move |tx| rules::delete_account(tx, id, expected_revision, acting, effects.clone())).await
    }

    /// Issues tokens, queues mails and appends audit records for an account that stays as it is; refused if there is none, or if a
    /// mail would have to be withheld.
    pub async fn record(&self, account: AccountId, effects: Effects) -> Result<(), StoreError<RecordRefusal>> {
        self.change(move |tx| rules::record(tx, account, effects.clone())).await
    }

    /// Takes a lease, or renews it, until a time; false while another holder has it. Whoever holds a lease does alone what one node
    /// does for all of them.
    pub async fn lease(&self, lease: Lease, now: Timestamp, claim: LeaseClaim) -> Result<bool, StoreFailure> {
        self.note(move |tx| rules::lease(tx, lease, now, &claim)).await
    }

    /// Writes and reads a record of its own, durably, to see that the store works.
    pub async fn probe(&self) -> Result<(), StoreFailure> {
        let written = self.note(rules::probe).await?;
        let read = self.counter(layout::PROBE).await?;
        // Another probe may have come after.
        if read < written {
            return Err(self.engine.fail(format!("the probe wrote {written} and read {read}")));
        }
        Ok(())
    }
}

/// Sessions.
impl Store {
    /// All stored sessions of one shard, with their last stored use, in no order. Expired ones may be among them.
    pub async fn sessions(&self, shard: ShardOf) -> Result<Vec<Session>, StoreFailure> {
        self.ask(move |rows| reads::sessions(rows, shard)).await
    }

    /// The refresh tokens of a session; `None` if it has none, as those opened before there were any.
    pub async fn refresh_family(
        &self,
        account: AccountId,
        id: SessionId,
    ) -> Result<Option<RefreshFamily>, StoreFailure> {
        self.get(&layout::refresh(account, id)).await
    }

    /// One stored session, with its last stored use.
    pub async fn session(&self, account: AccountId, id: SessionId) -> Result<Option<Session>, StoreFailure> {
        let Some(session): Option<Session> = self.get(&layout::session(account, id)).await? else { return Ok(None) };
        let last_use = self.get(&layout::touch(account, id)).await?;
        Ok(Some(reads::with_last_use(session, last_use)))
    }

    /// Opens a session. Refused unless the account exists, is unlocked and is at the session's epoch. Notes from where the
    /// login came; if that is new to an account with other known addresses, the notice is queued. An account keeps the 32
    /// addresses that were used last. A session without a family cannot be refreshed.
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

    /// Takes a refresh token for what it is worth ([`RefreshFamily::judge`]), atomically with what follows: the present one is
    /// replaced by its successor, one just replaced changes no token, and one replaced before that ends its session. Mails
    /// and records of the reuse are written with the end alone. An honoured one notes from where the session goes on; a network
    /// that is new to the account becomes known when its owner is told, at most once in [`NOTICE_PAUSE`] for a session.
    pub async fn rotate_refresh(&self, used: RefreshUse) -> Result<RefreshOutcome, StoreError<RefreshRefusal>> {
        self.change(move |tx| rules::rotate_refresh(tx, used.clone())).await
    }

    /// Gives a session a label, or takes it away; the answer is the session after that.
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

    /// The sessions of these accounts with their last stored use. Ones that have expired may be among them.
    pub async fn sessions_of(&self, accounts: Vec<AccountId>) -> Result<Vec<Session>, StoreFailure> {
        self.ask(move |rows| {
            let sessions = accounts.iter().map(|account| reads::sessions_of(rows, *account));
            sessions.collect::<Result<Vec<_>, _>>().map(|sessions| sessions.concat())
        })
        .await
    }

    /// Ends sessions of an account with their refresh tokens; the answer is how many of them lived. Those that had expired end
    /// with them and are put on record as expired. Their last use becomes the account's last activity.
    pub async fn end_sessions_of(&self, end: EndOfSessions) -> Result<usize, StoreError<EndSessionsRefusal>> {
        self.change(move |tx| rules::end_sessions_of(tx, &end)).await
    }

    /// Ends sessions that were last used at these times. The answer is those that were used later, as the store knows: they live on,
    /// and their records are not written.
    pub async fn end_idle(
        &self,
        ended: Vec<(Touch, AuditRecord)>,
        at: Timestamp,
    ) -> Result<Vec<(AccountId, SessionId)>, StoreFailure> {
        self.note(move |tx| rules::end_idle(tx, &ended, at)).await
    }

    /// Ends sessions with their refresh tokens at this time, each with its last use, which becomes the account's last activity if it is newer
    /// than the one stored. Unknown sessions are passed over; an account that is gone gets no activity.
    pub async fn end_sessions(
        &self,
        ended: Vec<Touch>,
        at: Timestamp,
        audit: Vec<AuditRecord>,
    ) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::end_sessions(tx, &ended, at, &audit)).await
    }

    /// Notes the last use of sessions; unknown ones are passed over, older times than the stored one too.
    pub async fn touch_sessions(&self, touches: Vec<Touch>) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::touch_sessions(tx, &touches)).await
    }
}

/// The audit log.
impl Store {
    /// The newest audit records, newest first, with their sequence numbers.
    pub async fn recent_audit(&self, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreFailure> {
        self.ask(move |rows| reads::audit::recent(rows, limit)).await
    }

    /// The records of the log that are asked for. Ones that cannot be read are passed over.
    pub async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreFailure> {
        self.ask(move |rows| reads::audit::page(rows, &query)).await
    }

    /// The log in short.
    pub async fn audit_status(&self) -> Result<AuditStatus, StoreFailure> {
        self.ask(reads::audit::status).await
    }

    /// The number of the newest audit record that is durable, as it grows. 0 when there never was one.
    #[must_use]
    pub fn audit_head(&self) -> watch::Receiver<u64> {
        self.engine.feed().audit_head()
    }

    /// Appends audit records that go with no other change.
    pub async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::append_audit(tx, &records)).await
    }

    /// The same, but for refusals while those that are kept take more than this, in bytes; the answer is how many were left out.
    pub async fn append_audit_within(&self, records: Vec<AuditRecord>, most_refused: u64) -> Result<u64, StoreFailure> {
        self.note(move |tx| rules::append_audit_within(tx, &records, most_refused)).await
    }

    /// Removes the oldest audit records with their entries in the index, and notes where the rest begins.
    pub async fn prune_audit(&self, pruning: AuditPruning) -> Result<AuditPruned, StoreFailure> {
        self.note(move |tx| rules::prune_audit(tx, &pruning)).await
    }
}

/// Services: their tokens, and what was revoked.
impl Store {
    /// All service tokens, by number, with their last stored use.
    pub async fn service_tokens(&self) -> Result<Vec<ServiceToken>, StoreFailure> {
        self.ask(reads::services::service_tokens).await
    }

    /// When the token of the settings was last used, as far as that is stored.
    pub async fn built_in_last_used(&self) -> Result<Option<Timestamp>, StoreFailure> {
        self.get(&layout::service_token_use(ServiceTokenId::BUILT_IN)).await
    }

    /// Makes a service token and gives it the next number.
    pub async fn create_service_token(
        &self,
        token: NewServiceToken,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<CreateServiceTokenRefusal>> {
        self.change(move |tx| rules::create_service_token(tx, token.clone(), &audit)).await
    }

    /// Gives a service token another secret; the present one becomes the replaced one.
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

    /// Notes the last use of service tokens, that of the settings among them; unknown ones and older times than the stored one
    /// are passed over.
    pub async fn touch_service_tokens(&self, used: Vec<(ServiceTokenId, Timestamp)>) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::touch_service_tokens(tx, &used)).await
    }

    /// What was revoked after this number, by number, at most `limit`. What was removed is passed over.
    pub async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreFailure> {
        self.ask(move |rows| reads::services::revocations(rows, after, limit)).await
    }

    /// Which revocations are kept.
    pub async fn revocation_span(&self) -> Result<RevocationSpan, StoreFailure> {
        let before = self.counter(layout::REVOCATIONS_GONE).await?;
        // Read after the other: it only grows, so the span is never upside down.
        let last = self.counter(layout::LAST_REVOCATION).await?;
        Ok(RevocationSpan { before, last })
    }

    /// The number of the newest revocation that is durable, as it grows. 0 when there never was one.
    #[must_use]
    pub fn revocation_head(&self) -> watch::Receiver<u64> {
        self.engine.feed().revocation_head()
    }

    /// Puts on record what happened to the signing keys. If all of them were replaced, at this time, the log of revocations says
    /// so in the same commit.
    pub async fn record_keys(
        &self,
        audit: Vec<AuditRecord>,
        replaced_at: Option<Timestamp>,
    ) -> Result<(), StoreFailure> {
        self.note(move |tx| rules::record_keys(tx, &audit, replaced_at)).await
    }

    /// Removes the oldest revocations up to a number, at most `limit`: those that are older, by this time, than the longest access
    /// token and the leeway. The answer is how many went. The first one that is not so old ends it.
    pub async fn prune_revocations(
        &self,
        now: Timestamp,
        leeway: Duration,
        up_to: u64,
        limit: usize,
    ) -> Result<usize, StoreFailure> {
        self.note(move |tx| rules::prune_revocations(tx, now, leeway, up_to, limit)).await
    }

    /// The longest time that access tokens were ever good for.
    pub async fn longest_token_lifetime(&self) -> Result<Duration, StoreFailure> {
        Ok(Duration::from_millis(self.counter(layout::LONGEST_TOKEN_LIFETIME).await?))
    }

    /// Notes for how long access tokens are good from now on. The answer is the longest time that was ever noted: for so long
    /// there may be tokens that were issued under it.
    pub async fn note_token_lifetime(&self, lifetime: Duration) -> Result<Duration, StoreFailure> {
        let millis = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let longest = self.note(move |tx| rules::note_token_lifetime(tx, millis)).await?;
        Ok(Duration::from_millis(longest))
    }
}
