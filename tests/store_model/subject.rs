//! The common interface of the model and the store, so that the same steps can run on both.

use std::time::Duration;

use async_trait::async_trait;
use doorward_actors::store::*;
use doorward_actors::*;
use tokio::sync::watch;

#[async_trait]
pub(crate) trait Subject: ServiceSubject {
    async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreFailure>;
    async fn account_by_email(&self, key: &EmailKey) -> Result<Option<Account>, StoreFailure>;
    async fn accounts(&self, page: Page) -> Result<Vec<ListedAccount>, StoreFailure>;
    async fn listed_account(&self, id: AccountId) -> Result<Option<ListedAccount>, StoreFailure>;
    async fn had_admin(&self) -> Result<bool, StoreFailure>;
    async fn sessions(&self, shard: ShardOf) -> Result<Vec<Session>, StoreFailure>;
    async fn refresh_family(&self, account: AccountId, id: SessionId) -> Result<Option<RefreshFamily>, StoreFailure>;
    async fn session(&self, account: AccountId, id: SessionId) -> Result<Option<Session>, StoreFailure>;
    async fn recent_audit(&self, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreFailure>;
    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreFailure>;
    async fn audit_status(&self) -> Result<AuditStatus, StoreFailure>;
    fn audit_head(&self) -> watch::Receiver<u64>;
    async fn one_time_token(&self, hash: &TokenHash) -> Result<Option<StoredToken>, StoreFailure>;
    async fn used_token(&self, hash: &TokenHash) -> Result<Option<UsedToken>, StoreFailure>;
    async fn token_of(&self, account: AccountId, purpose: TokenPurpose) -> Result<Option<StoredToken>, StoreFailure>;
    async fn unverified_before(&self, time: Timestamp, limit: usize) -> Result<Vec<AccountId>, StoreFailure>;
    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure>;
    async fn mails(&self, after: Option<MailId>, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure>;
    async fn create_account(
        &self,
        account: NewAccount,
        effects: Effects,
    ) -> Result<Account, StoreError<CreateAccountRefusal>>;
    async fn update_account(
        &self,
        update: AccountUpdate,
        effects: Effects,
    ) -> Result<Account, StoreError<UpdateAccountRefusal>>;
    async fn delete_account(
        &self,
        id: AccountId,
        expected_revision: Option<u64>,
        acting: Option<Acting>,
        effects: Effects,
    ) -> Result<(), StoreError<DeleteAccountRefusal>>;
    async fn record(&self, account: AccountId, effects: Effects) -> Result<(), StoreError<RecordRefusal>>;
    async fn open_session(
        &self,
        session: Session,
        family: Option<RefreshFamily>,
        sign_in: Option<SignIn>,
        room: Option<Room>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<OpenSessionRefusal>>;
    async fn rotate_refresh(&self, used: RefreshUse) -> Result<RefreshOutcome, StoreError<RefreshRefusal>>;
    async fn label_session(
        &self,
        account: AccountId,
        session: SessionId,
        label: Option<SessionLabel>,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<Session, StoreError<LabelSessionRefusal>>;
    async fn end_sessions_of(&self, end: EndOfSessions) -> Result<usize, StoreError<EndSessionsRefusal>>;
    async fn end_idle(
        &self,
        ended: Vec<(LastUse, AuditRecord)>,
        at: Timestamp,
    ) -> Result<Vec<(AccountId, SessionId)>, StoreFailure>;
    async fn claim_mail(
        &self,
        id: MailId,
        now: Timestamp,
        until: Option<Timestamp>,
    ) -> Result<Option<QueuedMail>, StoreFailure>;
    /// Stores the outcome of a claimed mail.
    async fn settle_mail(&self, id: MailId, outcome: MailOutcome) -> Result<(), StoreFailure>;
    async fn retry_mail(&self, id: MailId, at: Timestamp, audit: AuditRecord) -> Result<bool, StoreFailure>;
    async fn delete_mail(&self, id: MailId, audit: AuditRecord) -> Result<bool, StoreFailure>;
    async fn prune_mails(&self, now: Timestamp, limit: usize) -> Result<usize, StoreFailure>;
    async fn end_sessions(
        &self,
        ended: Vec<LastUse>,
        at: Timestamp,
        audit: Vec<AuditRecord>,
    ) -> Result<(), StoreFailure>;
    async fn touch_sessions(&self, touches: Vec<LastUse>) -> Result<(), StoreFailure>;
    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreFailure>;
    async fn prune_audit(&self, pruning: AuditPruning) -> Result<AuditPruned, StoreFailure>;
    async fn probe(&self) -> Result<(), StoreFailure>;
}

#[async_trait]
impl Subject for Store {
    async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreFailure> {
        Store::account(self, id).await
    }
    async fn account_by_email(&self, key: &EmailKey) -> Result<Option<Account>, StoreFailure> {
        Store::account_by_email(self, key).await
    }
    async fn accounts(&self, page: Page) -> Result<Vec<ListedAccount>, StoreFailure> {
        Store::accounts(self, page).await
    }
    async fn listed_account(&self, id: AccountId) -> Result<Option<ListedAccount>, StoreFailure> {
        Store::listed_account(self, id).await
    }
    async fn had_admin(&self) -> Result<bool, StoreFailure> {
        Store::had_admin(self).await
    }
    async fn sessions(&self, shard: ShardOf) -> Result<Vec<Session>, StoreFailure> {
        Store::sessions(self, shard).await
    }
    async fn refresh_family(&self, account: AccountId, id: SessionId) -> Result<Option<RefreshFamily>, StoreFailure> {
        Store::refresh_family(self, account, id).await
    }
    async fn session(&self, account: AccountId, id: SessionId) -> Result<Option<Session>, StoreFailure> {
        Store::session(self, account, id).await
    }
    async fn recent_audit(&self, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreFailure> {
        Store::recent_audit(self, limit).await
    }
    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreFailure> {
        Store::audit_page(self, query).await
    }
    async fn audit_status(&self) -> Result<AuditStatus, StoreFailure> {
        Store::audit_status(self).await
    }
    fn audit_head(&self) -> watch::Receiver<u64> {
        Store::audit_head(self)
    }
    async fn one_time_token(&self, hash: &TokenHash) -> Result<Option<StoredToken>, StoreFailure> {
        Store::one_time_token(self, hash).await
    }
    async fn used_token(&self, hash: &TokenHash) -> Result<Option<UsedToken>, StoreFailure> {
        Store::used_token(self, hash).await
    }
    async fn token_of(&self, account: AccountId, purpose: TokenPurpose) -> Result<Option<StoredToken>, StoreFailure> {
        Store::token_of(self, account, purpose).await
    }
    async fn unverified_before(&self, time: Timestamp, limit: usize) -> Result<Vec<AccountId>, StoreFailure> {
        Store::unverified_before(self, time, limit).await
    }
    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure> {
        Store::due_mails(self, now, limit).await
    }
    async fn mails(&self, after: Option<MailId>, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure> {
        Store::mails(self, after, limit).await
    }
    async fn create_account(
        &self,
        account: NewAccount,
        effects: Effects,
    ) -> Result<Account, StoreError<CreateAccountRefusal>> {
        Store::create_account(self, account, effects).await
    }
    async fn update_account(
        &self,
        update: AccountUpdate,
        effects: Effects,
    ) -> Result<Account, StoreError<UpdateAccountRefusal>> {
        Store::update_account(self, update, effects).await
    }
    async fn delete_account(
        &self,
        id: AccountId,
        expected_revision: Option<u64>,
        acting: Option<Acting>,
        effects: Effects,
    ) -> Result<(), StoreError<DeleteAccountRefusal>> {
        Store::delete_account(self, id, expected_revision, acting, effects).await
    }
    async fn record(&self, account: AccountId, effects: Effects) -> Result<(), StoreError<RecordRefusal>> {
        Store::record(self, account, effects).await
    }
    async fn open_session(
        &self,
        session: Session,
        family: Option<RefreshFamily>,
        sign_in: Option<SignIn>,
        room: Option<Room>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<OpenSessionRefusal>> {
        Store::open_session(self, session, family, sign_in, room, audit).await
    }
    async fn rotate_refresh(&self, used: RefreshUse) -> Result<RefreshOutcome, StoreError<RefreshRefusal>> {
        Store::rotate_refresh(self, used).await
    }
    async fn label_session(
        &self,
        account: AccountId,
        session: SessionId,
        label: Option<SessionLabel>,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<Session, StoreError<LabelSessionRefusal>> {
        Store::label_session(self, account, session, label, acting, audit).await
    }
    async fn end_sessions_of(&self, end: EndOfSessions) -> Result<usize, StoreError<EndSessionsRefusal>> {
        Store::end_sessions_of(self, end).await
    }
    async fn end_idle(
        &self,
        ended: Vec<(LastUse, AuditRecord)>,
        at: Timestamp,
    ) -> Result<Vec<(AccountId, SessionId)>, StoreFailure> {
        Store::end_idle(self, ended, at).await
    }
    async fn claim_mail(
        &self,
        id: MailId,
        now: Timestamp,
        until: Option<Timestamp>,
    ) -> Result<Option<QueuedMail>, StoreFailure> {
        Store::claim_mail(self, id, now, until).await
    }
    async fn settle_mail(&self, id: MailId, outcome: MailOutcome) -> Result<(), StoreFailure> {
        let claimed_until = self.mails(MailId::new(id.get() - 1), 1).await?.first().map(|mail| mail.next_attempt_at);
        Store::settle_mail(self, id, claimed_until.unwrap_or(Timestamp::from_millis(0)), outcome).await
    }
    async fn retry_mail(&self, id: MailId, at: Timestamp, audit: AuditRecord) -> Result<bool, StoreFailure> {
        unrefused(Store::retry_mail(self, id, at, None, audit).await)
    }
    async fn delete_mail(&self, id: MailId, audit: AuditRecord) -> Result<bool, StoreFailure> {
        unrefused(Store::delete_mail(self, id, None, audit).await)
    }
    async fn prune_mails(&self, now: Timestamp, limit: usize) -> Result<usize, StoreFailure> {
        Store::prune_mails(self, now, limit).await
    }
    async fn end_sessions(
        &self,
        ended: Vec<LastUse>,
        at: Timestamp,
        audit: Vec<AuditRecord>,
    ) -> Result<(), StoreFailure> {
        Store::end_sessions(self, ended, at, audit).await
    }
    async fn touch_sessions(&self, touches: Vec<LastUse>) -> Result<(), StoreFailure> {
        Store::touch_sessions(self, touches).await
    }
    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreFailure> {
        Store::append_audit(self, records).await
    }
    async fn prune_audit(&self, pruning: AuditPruning) -> Result<AuditPruned, StoreFailure> {
        Store::prune_audit(self, pruning).await
    }
    async fn probe(&self) -> Result<(), StoreFailure> {
        Store::probe(self).await
    }
}

#[async_trait]
pub(crate) trait ServiceSubject: Send + Sync {
    async fn service_tokens(&self) -> Result<Vec<ServiceToken>, StoreFailure>;
    async fn built_in_last_used(&self) -> Result<Option<Timestamp>, StoreFailure>;
    async fn create_service_token(
        &self,
        token: NewServiceToken,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<CreateServiceTokenRefusal>>;
    async fn rotate_service_token(
        &self,
        id: ServiceTokenId,
        rotation: ServiceTokenRotation,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<ChangeServiceTokenRefusal>>;
    async fn delete_service_token(
        &self,
        id: ServiceTokenId,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<ChangeServiceTokenRefusal>>;
    async fn touch_service_tokens(&self, used: Vec<(ServiceTokenId, Timestamp)>) -> Result<(), StoreFailure>;
    async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreFailure>;
    async fn revocation_span(&self) -> Result<RevocationSpan, StoreFailure>;
    fn revocation_head(&self) -> watch::Receiver<u64>;
    async fn record_keys(&self, audit: Vec<AuditRecord>, replaced_at: Option<Timestamp>) -> Result<(), StoreFailure>;
    async fn prune_revocations(
        &self,
        now: Timestamp,
        leeway: Duration,
        up_to: u64,
        limit: usize,
    ) -> Result<usize, StoreFailure>;
    async fn note_token_lifetime(&self, lifetime: Duration) -> Result<Duration, StoreFailure>;
}

#[async_trait]
impl ServiceSubject for Store {
    async fn service_tokens(&self) -> Result<Vec<ServiceToken>, StoreFailure> {
        Store::service_tokens(self).await
    }
    async fn built_in_last_used(&self) -> Result<Option<Timestamp>, StoreFailure> {
        Store::built_in_last_used(self).await
    }
    async fn create_service_token(
        &self,
        token: NewServiceToken,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<CreateServiceTokenRefusal>> {
        Store::create_service_token(self, token, audit).await
    }
    async fn rotate_service_token(
        &self,
        id: ServiceTokenId,
        rotation: ServiceTokenRotation,
        audit: AuditRecord,
    ) -> Result<ServiceToken, StoreError<ChangeServiceTokenRefusal>> {
        Store::rotate_service_token(self, id, rotation, audit).await
    }
    async fn delete_service_token(
        &self,
        id: ServiceTokenId,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<ChangeServiceTokenRefusal>> {
        Store::delete_service_token(self, id, acting, audit).await
    }
    async fn touch_service_tokens(&self, used: Vec<(ServiceTokenId, Timestamp)>) -> Result<(), StoreFailure> {
        Store::touch_service_tokens(self, used).await
    }
    async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreFailure> {
        Store::revocations(self, after, limit).await
    }
    async fn revocation_span(&self) -> Result<RevocationSpan, StoreFailure> {
        Store::revocation_span(self).await
    }
    fn revocation_head(&self) -> watch::Receiver<u64> {
        Store::revocation_head(self)
    }
    async fn record_keys(&self, audit: Vec<AuditRecord>, replaced_at: Option<Timestamp>) -> Result<(), StoreFailure> {
        Store::record_keys(self, audit, replaced_at).await
    }
    async fn prune_revocations(
        &self,
        now: Timestamp,
        leeway: Duration,
        up_to: u64,
        limit: usize,
    ) -> Result<usize, StoreFailure> {
        Store::prune_revocations(self, now, leeway, up_to, limit).await
    }
    async fn note_token_lifetime(&self, lifetime: Duration) -> Result<Duration, StoreFailure> {
        Store::note_token_lifetime(self, lifetime).await
    }
}

/// Returns the answer to a change that cannot be refused, because it has no acting session.
fn unrefused<T>(answer: Result<T, StoreError<ActingRefusal>>) -> Result<T, StoreFailure> {
    answer.map_err(|error| match error {
        StoreError::Refused(ActingRefusal) => StoreFailure::permanent("refused though nobody acted"),
        StoreError::Failed(failure) => failure,
    })
}
