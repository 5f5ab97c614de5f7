//! A store in memory, written as plainly as the contract of [`Store`] allows.
//! It counts and searches where the real store keeps counters and indexes, so that the two can be compared.

use doorward_actors::{
    Account, AccountId, AccountOrigin, Acting, AuditPage, AuditPruned, AuditPruning, AuditQuery, AuditRecord,
    AuditStatus, CustomerAccount, Email, EmailKey, Locale, MailId, MailOutcome, MailState, NewAccount, NewMail,
    NewRole, QueuedMail, RefreshFamily, Role, Session, SessionId, SessionLabel, Timestamp, TokenHash, TokenPurpose,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

mod audit;
mod outbox;
mod services;
mod sessions;
mod tokens;

use crate::subject::Subject;
use async_trait::async_trait;
use services::time_of;
use tokio::sync::watch;

use doorward_actors::store::{
    AccountUpdate, CreateAccountRefusal, DeleteAccountRefusal, Effects, EndOfSessions, EndSessions, EndSessionsRefusal,
    LabelSessionRefusal, LastUse, ListedAccount, OnlyNetwork, OpenSessionRefusal, Page, RecordRefusal, RefreshOutcome,
    RefreshRefusal, RefreshUse, Room, ShardOf, SignIn, StoreError, StoreFailure, StoredToken, UpdateAccountRefusal,
    UsedToken,
};

/// The maximum number of sign-in addresses of an account.
const KNOWN_ADDRESSES: usize = 32;

/// The model.
#[derive(Debug, Default)]
pub(crate) struct Model {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accounts: BTreeMap<AccountId, Account>,
    sessions: BTreeMap<(AccountId, SessionId), Session>,
    families: BTreeMap<(AccountId, SessionId), RefreshFamily>,
    last_activity: BTreeMap<AccountId, Timestamp>,
    /// When an account was last logged in to from an address, at most 32 addresses for each account.
    known: BTreeMap<(AccountId, IpAddr), Timestamp>,
    tokens: Vec<StoredToken>,
    used: Vec<UsedToken>,
    mails: Vec<QueuedMail>,
    days: outbox::Days,
    audit: audit::Log,
    services: services::Services,
    accounts_ever: u64,
    mails_ever: u64,
    had_admin: bool,
}

impl Model {
    /// Creates an empty store.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of another test must not hide the state that it left.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::unnecessary_wraps, reason = "its methods answer as those of the store, which can fail")]
    fn working(&self) -> Result<MutexGuard<'_, State>, StoreFailure> {
        Ok(self.lock())
    }
}

impl State {
    fn was_never_taken_up(&self, account: &Account) -> bool {
        let used = self.last_activity.contains_key(&account.id)
            || self.sessions.keys().any(|(owner, _)| *owner == account.id)
            || self.known.keys().any(|(owner, _)| *owner == account.id);
        let own = account.origin == AccountOrigin::Owner;
        own && !account.email_verified && !account.locked && account.role != Role::Admin && !used
    }

    fn listed(&self, account: &Account) -> ListedAccount {
        ListedAccount { account: account.clone(), last_active_at: self.last_activity.get(&account.id).copied() }
    }

    fn is_only_active_admin(&self, account: &Account) -> bool {
        let mut admins = self.accounts.values().filter(|other| other.is_active_admin());
        admins.next().is_some_and(|admin| admin.id == account.id) && admins.next().is_none()
    }

    fn has_email(&self, key: &EmailKey, but: Option<AccountId>) -> bool {
        self.accounts.values().any(|other| Some(other.id) != but && other.email.key() == key)
    }

    fn is_reserved(&self, key: &EmailKey, but: Option<AccountId>, now: Timestamp) -> bool {
        let mut others = self.accounts.values().filter(|other| Some(other.id) != but);
        others.any(|other| other.reserved_at(now).is_some_and(|reserved| reserved.email.key() == key))
    }

    fn has_nickname(&self, key: &doorward_actors::NicknameKey, but: Option<AccountId>) -> bool {
        self.accounts.values().any(|other| Some(other.id) != but && other.nickname.key() == key)
    }

    /// Ends a session if it exists, and keeps the later of its stored use and `at`.
    fn end(&mut self, account: AccountId, session: SessionId, at: Option<Timestamp>, now: Timestamp) {
        let Some(ended) = self.sessions.remove(&(account, session)) else {
            return;
        };
        self.families.remove(&(account, session));
        self.services.ended(account, session, now);
        let last = at.map_or(ended.last_active_at, |at| at.max(ended.last_active_at));
        let activity = self.last_activity.entry(account).or_insert(last);
        *activity = last.max(*activity);
    }

    fn end_all_but(&mut self, account: AccountId, kept: Option<SessionId>, now: Timestamp) {
        let ended: Vec<SessionId> = self
            .sessions
            .keys()
            .filter(|(owner, id)| *owner == account && Some(*id) != kept)
            .map(|(_, id)| *id)
            .collect();
        for session in ended {
            self.end(account, session, None, now);
        }
    }

    fn remove(&mut self, id: AccountId, now: Timestamp) {
        self.accounts.remove(&id);
        self.end_all_but(id, None, now);
        self.services.deleted(id, now);
        self.families.retain(|(owner, _), _| *owner != id);
        self.last_activity.remove(&id);
        self.known.retain(|(owner, _), _| *owner != id);
        self.tokens.retain(|stored| stored.account != id);
        self.used.retain(|used| used.account != id);
        self.mails.retain(|mail| mail.account != Some(id));
    }

    fn affect(&mut self, account: AccountId, effects: Effects) -> Vec<NewMail> {
        if let Some(OnlyNetwork(from)) = effects.networks {
            self.known.retain(|(owner, _), _| *owner != account);
            self.known.extend(from.map(|from| ((account, from), time_of(&effects.audit))));
        }
        let verified = self.accounts.get(&account).is_some_and(|account| account.email_verified);
        let withheld = self.queue_all(Some(account), verified, effects.mails);
        self.settle_undos(account, effects.settles_from);
        let mut tokens = effects.tokens;
        tokens.retain(|token| !withheld.iter().any(|mail| mail.token == Some(token.hash)));
        self.issue(account, tokens);
        self.audit.extend(effects.audit);
        withheld
    }

    /// Notes a login and returns whether the owner is notified of it.
    fn note_sign_in(&mut self, account: AccountId, at: Timestamp, sign_in: SignIn) -> bool {
        let is_known = self.known.contains_key(&(account, sign_in.from));
        let others = self.known.keys().filter(|(owner, from)| *owner == account && *from != sign_in.from).count();
        if !is_known && others == KNOWN_ADDRESSES {
            let bytes = |from: IpAddr| match from {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            let of_account = self.known.iter().filter(|((owner, _), _)| *owner == account);
            let oldest = of_account.min_by_key(|((_, from), used)| (**used, bytes(*from))).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.known.remove(&oldest);
            }
        }
        let used = self.known.entry((account, sign_in.from)).or_insert(at);
        *used = at.max(*used);
        let is_news = !is_known && others > 0;
        if is_news {
            let verified = self.accounts.get(&account).is_some_and(|account| account.email_verified);
            self.queue_all(Some(account), verified, vec![sign_in.notice]);
        }
        is_news
    }

    fn mail(&mut self, id: MailId) -> Option<&mut QueuedMail> {
        self.mails.iter_mut().find(|mail| mail.id == id)
    }
}

#[async_trait]
impl Subject for Model {
    async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreFailure> {
        Ok(self.working()?.accounts.get(&id).cloned())
    }

    async fn account_by_email(&self, key: &EmailKey) -> Result<Option<Account>, StoreFailure> {
        Ok(self.working()?.accounts.values().find(|account| account.email.key() == key).cloned())
    }

    async fn accounts(&self, page: Page) -> Result<Vec<ListedAccount>, StoreFailure> {
        let state = self.working()?;
        let skip = usize::try_from(page.skip).unwrap_or(usize::MAX);
        Ok(state.accounts.values().skip(skip).take(page.limit).map(|account| state.listed(account)).collect())
    }

    async fn listed_account(&self, id: AccountId) -> Result<Option<ListedAccount>, StoreFailure> {
        let state = self.working()?;
        Ok(state.accounts.get(&id).map(|account| state.listed(account)))
    }

    async fn had_admin(&self) -> Result<bool, StoreFailure> {
        Ok(self.working()?.had_admin)
    }

    async fn sessions(&self, shard: ShardOf) -> Result<Vec<Session>, StoreFailure> {
        let state = self.working()?;
        Ok(state.sessions.values().filter(|session| shard.owns(session.account)).cloned().collect())
    }

    async fn refresh_family(&self, account: AccountId, id: SessionId) -> Result<Option<RefreshFamily>, StoreFailure> {
        Ok(self.working()?.families.get(&(account, id)).cloned())
    }

    async fn session(&self, account: AccountId, id: SessionId) -> Result<Option<Session>, StoreFailure> {
        Ok(self.working()?.sessions.get(&(account, id)).cloned())
    }

    async fn recent_audit(&self, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreFailure> {
        Ok(self.working()?.audit.newest(limit))
    }

    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreFailure> {
        Ok(self.working()?.audit.page(&query))
    }

    async fn audit_status(&self) -> Result<AuditStatus, StoreFailure> {
        Ok(self.working()?.audit.status())
    }

    fn audit_head(&self) -> watch::Receiver<u64> {
        self.lock().audit.head()
    }

    async fn prune_audit(&self, pruning: AuditPruning) -> Result<AuditPruned, StoreFailure> {
        Ok(self.working()?.audit.prune(pruning))
    }

    async fn one_time_token(&self, hash: &TokenHash) -> Result<Option<StoredToken>, StoreFailure> {
        Ok(self.working()?.tokens.iter().find(|stored| stored.token.hash == *hash).cloned())
    }

    async fn used_token(&self, hash: &TokenHash) -> Result<Option<UsedToken>, StoreFailure> {
        Ok(self.working()?.used.iter().find(|used| used.hash == *hash).copied())
    }

    async fn token_of(&self, account: AccountId, purpose: TokenPurpose) -> Result<Option<StoredToken>, StoreFailure> {
        let state = self.working()?;
        let of = |stored: &&StoredToken| stored.account == account && stored.token.purpose == purpose;
        Ok(state.tokens.iter().filter(|_| purpose != TokenPurpose::Undo).find(of).cloned())
    }

    async fn unverified_before(&self, time: Timestamp, limit: usize) -> Result<Vec<AccountId>, StoreFailure> {
        let state = self.working()?;
        let unverified =
            state.accounts.values().filter(|account| account.created_at < time && state.was_never_taken_up(account));
        Ok(unverified.take(limit).map(|account| account.id).collect())
    }

    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure> {
        let state = self.working()?;
        let is_due = |mail: &&QueuedMail| mail.state == MailState::Queued && mail.next_attempt_at <= now;
        let mut due: Vec<QueuedMail> = state.mails.iter().filter(is_due).cloned().collect();
        due.sort_by_key(|mail| (mail.next_attempt_at, mail.id));
        due.truncate(limit);
        Ok(due)
    }

    async fn mails(&self, after: Option<MailId>, limit: usize) -> Result<Vec<QueuedMail>, StoreFailure> {
        let state = self.working()?;
        Ok(state.mails.iter().filter(|mail| Some(mail.id) > after).take(limit).cloned().collect())
    }

    async fn create_account(
        &self,
        new: NewAccount,
        mut effects: Effects,
    ) -> Result<Account, StoreError<CreateAccountRefusal>> {
        let mut state = self.working()?;
        if !state.may_act(new.acting) {
            return Err(StoreError::Refused(CreateAccountRefusal::Revoked));
        }
        let gives_way = |account: &Account| new.replaces_unverified && state.was_never_taken_up(account);
        let holder = state.accounts.values().find(|account| account.email.key() == new.email.key());
        let replaced = holder.filter(|account| gives_way(account)).map(|account| account.id);
        let reserved = state.is_reserved(new.email.key(), None, new.created_at);
        if state.has_email(new.email.key(), replaced) || reserved {
            return Err(StoreError::Refused(CreateAccountRefusal::EmailTaken));
        }
        if state.has_nickname(new.nickname.key(), replaced) {
            return Err(StoreError::Refused(CreateAccountRefusal::NicknameTaken));
        }
        if let Some(replaced) = replaced {
            state.remove(replaced, time_of(&effects.audit));
            state.audit.extend(effects.audit.first().map(|record| record.of_replaced(replaced)));
        }
        state.accounts_ever += 1;
        let id = AccountId::new(state.accounts_ever).ok_or_else(|| StoreFailure::permanent("no number is left"))?;
        let role = match new.role {
            NewRole::Exactly(role) => role,
            NewRole::AdminIfFirst if state.had_admin => Role::User,
            NewRole::AdminIfFirst => Role::Admin,
        };
        let account = Account {
            id,
            email: new.email,
            nickname: new.nickname,
            password_hash: Some(new.password_hash),
            password_revision: 0,
            passphrase_hash: Some(new.passphrase_hash),
            passphrase_revision: 0,
            customer_account: new.profile.customer_account.unwrap_or_else(CustomerAccount::none),
            role,
            origin: if new.acting.is_some() { AccountOrigin::Admin } else { AccountOrigin::Owner },
            locked: false,
            email_verified: false,
            pending_email: None,
            reserved_email: None,
            locale: new.profile.locale.unwrap_or(Locale::En),
            password_compromised: false,
            created_at: new.created_at,
            session_epoch: 0,
            revision: 0,
        };
        state.had_admin |= role == Role::Admin;
        state.accounts.insert(id, account.clone());
        for record in &mut effects.audit {
            record.subject.get_or_insert(id);
        }
        state.affect(id, effects);
        Ok(account)
    }

    async fn update_account(
        &self,
        update: AccountUpdate,
        effects: Effects,
    ) -> Result<Account, StoreError<UpdateAccountRefusal>> {
        let mut state = self.working()?;
        let refused = |refusal| Err(StoreError::Refused(refusal));
        if !state.may_act(update.acting) {
            return refused(UpdateAccountRefusal::Revoked);
        }
        let Some(before) = state.accounts.get(&update.id).cloned() else {
            return refused(UpdateAccountRefusal::Unknown);
        };
        if update.redeems.as_ref().is_some_and(|wanted| !state.is_good(update.id, wanted)) {
            return refused(UpdateAccountRefusal::BadToken);
        }
        if update.expected_revision.unwrap_or(before.revision) != before.revision {
            return refused(UpdateAccountRefusal::Stale);
        }
        let after = update.change.apply(&before, update.ends != EndSessions::None);
        let now = time_of(&effects.audit);
        let pending = after.pending_email.as_ref().filter(|_| after.pending_email != before.pending_email);
        let moved = Some(&after.email).filter(|email| email.key() != before.email.key());
        let reserved = |email: &Email| state.is_reserved(email.key(), Some(after.id), now);
        if state.has_email(after.email.key(), Some(after.id)) || pending.into_iter().chain(moved).any(reserved) {
            return refused(UpdateAccountRefusal::EmailTaken);
        }
        if state.has_nickname(after.nickname.key(), Some(after.id)) {
            return refused(UpdateAccountRefusal::NicknameTaken);
        }
        if state.is_only_active_admin(&before) && !after.is_active_admin() {
            return refused(UpdateAccountRefusal::LastAdmin);
        }
        let before_tokens = (state.tokens.clone(), state.mails.clone());
        if let Some(redeemed) = &update.redeems {
            state.revoke(after.id, |stored| stored.token.hash == redeemed.hash);
        }
        if update.revokes_tokens {
            let stays = [TokenPurpose::VerifyAddress, TokenPurpose::Undo];
            state.revoke(after.id, |stored| !stays.contains(&stored.token.purpose));
        }
        let (_, withheld) = state.split(Some(after.id), after.email_verified, effects.mails.clone());
        if withheld.iter().any(|(mail, _)| mail.kind.is_required()) {
            (state.tokens, state.mails) = before_tokens;
            return refused(UpdateAccountRefusal::TooManyMails);
        }
        if let Some(redeemed) = &update.redeems {
            state.note_use(&after, redeemed);
        }
        match update.ends {
            EndSessions::None => {}
            EndSessions::All => state.end_all_but(after.id, None, now),
            EndSessions::AllBut(kept) => {
                state.end_all_but(after.id, Some(kept), now);
                if let Some(session) = state.sessions.get_mut(&(after.id, kept)) {
                    session.epoch = after.session_epoch;
                    session.authenticated_at = None;
                    state.families.remove(&(after.id, kept));
                    state.families.extend(effects.refresh.clone().map(|renewed| ((after.id, kept), renewed)));
                }
            }
        }
        state.services.changed(&before, &after, now);
        state.had_admin |= after.role == Role::Admin;
        state.accounts.insert(after.id, after.clone());
        state.affect(after.id, effects);
        Ok(after)
    }

    async fn delete_account(
        &self,
        id: AccountId,
        expected_revision: Option<u64>,
        acting: Option<Acting>,
        effects: Effects,
    ) -> Result<(), StoreError<DeleteAccountRefusal>> {
        let mut state = self.working()?;
        let refused = |refusal| Err(StoreError::Refused(refusal));
        if !state.may_act(acting) {
            return refused(DeleteAccountRefusal::Revoked);
        }
        let Some(account) = state.accounts.get(&id) else {
            return refused(DeleteAccountRefusal::Unknown);
        };
        if expected_revision.unwrap_or(account.revision) != account.revision {
            return refused(DeleteAccountRefusal::Stale);
        }
        if state.is_only_active_admin(account) && state.accounts.len() > 1 {
            return refused(DeleteAccountRefusal::LastAdmin);
        }
        let verified = account.email_verified;
        state.remove(id, time_of(&effects.audit));
        state.queue_all(None, verified, effects.mails);
        state.audit.extend(effects.audit);
        Ok(())
    }

    async fn record(&self, account: AccountId, effects: Effects) -> Result<(), StoreError<RecordRefusal>> {
        let mut state = self.working()?;
        let Some(stored) = state.accounts.get(&account) else {
            return Err(StoreError::Refused(RecordRefusal::UnknownAccount));
        };
        if !state.split(Some(account), stored.email_verified, effects.mails.clone()).1.is_empty() {
            return Err(StoreError::Refused(RecordRefusal::TooManyMails));
        }
        state.affect(account, effects);
        Ok(())
    }

    async fn open_session(
        &self,
        session: Session,
        family: Option<RefreshFamily>,
        sign_in: Option<SignIn>,
        room: Option<Room>,
        audit: AuditRecord,
    ) -> Result<(), StoreError<OpenSessionRefusal>> {
        let mut state = self.working()?;
        let open_to = |account: &Account| !account.locked && account.session_epoch == session.epoch;
        if !state.accounts.get(&session.account).is_some_and(open_to) {
            return Err(StoreError::Refused(OpenSessionRefusal));
        }
        if let Some(sign_in) = sign_in {
            state.note_sign_in(session.account, session.created_at, sign_in);
        }
        let key = (session.account, session.id);
        state.families.remove(&key);
        state.families.extend(family.map(|family| (key, family)));
        state.sessions.insert(key, session.clone());
        state.audit.push(audit);
        if let Some(room) = room {
            state.make_room(&session, &room);
        }
        Ok(())
    }

    async fn rotate_refresh(&self, used: RefreshUse) -> Result<RefreshOutcome, StoreError<RefreshRefusal>> {
        self.working()?.rotate_refresh(used)
    }

    async fn label_session(
        &self,
        account: AccountId,
        session: SessionId,
        label: Option<SessionLabel>,
        acting: Option<Acting>,
        audit: AuditRecord,
    ) -> Result<Session, StoreError<LabelSessionRefusal>> {
        let mut state = self.working()?;
        if !state.may_act(acting) {
            return Err(StoreError::Refused(LabelSessionRefusal::Revoked));
        }
        let stored = state.sessions.get_mut(&(account, session));
        let stored = stored.ok_or(StoreError::Refused(LabelSessionRefusal::Unknown))?;
        stored.label = label;
        let labelled = stored.clone();
        state.audit.push(audit);
        Ok(labelled)
    }

    async fn end_sessions_of(&self, end: EndOfSessions) -> Result<usize, StoreError<EndSessionsRefusal>> {
        self.working()?.end_sessions_of(end)
    }

    async fn end_idle(
        &self,
        ended: Vec<(LastUse, AuditRecord)>,
        at: Timestamp,
    ) -> Result<Vec<(AccountId, SessionId)>, StoreFailure> {
        let mut alive = Vec::new();
        let mut state = self.working()?;
        for (touch, audit) in ended {
            let Some(session) = state.sessions.get(&(touch.account, touch.session)) else { continue };
            if session.last_active_at > touch.at {
                alive.push((touch.account, touch.session));
                continue;
            }
            state.end(touch.account, touch.session, Some(touch.at), at);
            state.audit.push(audit);
        }
        Ok(alive)
    }

    async fn claim_mail(
        &self,
        id: MailId,
        now: Timestamp,
        until: Option<Timestamp>,
    ) -> Result<Option<QueuedMail>, StoreFailure> {
        Ok(self.working()?.claim(id, now, until))
    }

    async fn settle_mail(&self, id: MailId, outcome: MailOutcome) -> Result<(), StoreFailure> {
        self.working()?.settle(id, outcome);
        Ok(())
    }

    async fn prune_mails(&self, now: Timestamp, limit: usize) -> Result<usize, StoreFailure> {
        Ok(self.working()?.prune_mails(now, limit))
    }

    async fn retry_mail(&self, id: MailId, at: Timestamp, mut audit: AuditRecord) -> Result<bool, StoreFailure> {
        let mut state = self.working()?;
        let Some(mail) = state.mail(id) else {
            return Ok(false);
        };
        audit.subject = mail.account;
        mail.state = MailState::Queued;
        mail.attempts = 0;
        mail.next_attempt_at = at;
        state.audit.push(audit);
        Ok(true)
    }

    async fn delete_mail(&self, id: MailId, mut audit: AuditRecord) -> Result<bool, StoreFailure> {
        let mut state = self.working()?;
        let Some(mail) = state.mail(id) else {
            return Ok(false);
        };
        audit.subject = mail.account;
        state.mails.retain(|mail| mail.id != id);
        state.audit.push(audit);
        Ok(true)
    }

    async fn end_sessions(
        &self,
        ended: Vec<LastUse>,
        at: Timestamp,
        audit: Vec<AuditRecord>,
    ) -> Result<(), StoreFailure> {
        let mut state = self.working()?;
        for touch in ended {
            state.end(touch.account, touch.session, Some(touch.at), at);
        }
        state.audit.extend(audit);
        Ok(())
    }

    async fn touch_sessions(&self, touches: Vec<LastUse>) -> Result<(), StoreFailure> {
        let mut state = self.working()?;
        for touch in touches {
            if let Some(session) = state.sessions.get_mut(&(touch.account, touch.session)) {
                session.last_active_at = session.last_active_at.max(touch.at);
            }
        }
        Ok(())
    }

    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreFailure> {
        self.working()?.audit.extend(records);
        Ok(())
    }

    async fn probe(&self) -> Result<(), StoreFailure> {
        self.working().map(drop)
    }
}
