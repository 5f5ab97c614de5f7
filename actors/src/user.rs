//! Accounts: registration, login, recovery, and what their owners and administrators do to them.

mod actor;
mod errors;
mod flows;
mod message;
mod operator;
mod refresh;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use actor::UserActor;
pub use errors::{
    ConfirmError, DeleteError, LoginError, MailedRecoveryError, ProofError, RecoverError, RegisterError, UpdateError,
};
pub(crate) use flows::{Flows, IssuedLinks};
pub(crate) use message::Message;
use message::{Creator, Request};
pub use operator::{Operator, OperatorPorts, OperatorSettings};
pub use refresh::{RefreshError, Refreshed};

use crate::ask::Unavailable;
use crate::domain::account::{Account, AccountId, CustomerAccount, Role};
use crate::domain::audit::AuditEvent;
use crate::domain::email::Email;
use crate::domain::mail::Locale;
use crate::domain::nickname::Nickname;
use crate::domain::one_time::{TokenHash, TokenPurpose};
use crate::domain::passphrase::Passphrase;
use crate::domain::password::Password;
use crate::domain::secret::Secret;
use crate::domain::session::Origin;
use crate::domain::time::Timestamp;
use crate::ports::Clock;
use crate::process::{Mailbox, Reply};
use crate::session::{Principal, SessionHandle, SessionSummary};
use crate::store::{ListedAccount, Page, Store, StoredToken};

/// The shortest pause between two mails of one purpose to one account that anybody can ask for.
pub(crate) const RESEND_PAUSE: Duration = Duration::from_mins(1);
/// The shortest pause between two verification mails that follow a login with the right password.
pub(crate) const LOGIN_RESEND_PAUSE: Duration = Duration::from_mins(10);
/// How long after a link was used its form, sent again, is answered like the first time. A second press, a reload and a lost
/// answer come within minutes; later it helps more to say when the link was used.
pub(crate) const REPEAT_WITHIN: Duration = Duration::from_mins(10);
/// How long a flow may take: two hashes, each at most its queue's deadline and itself, and two commits of at most 10 s.
const FLOW_DEADLINE: Duration = Duration::from_secs(40);

/// The rules that an operator sets for accounts.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in the settings, and none excludes another"
)]
pub struct AccountRules {
    /// Whether the first account of a data directory becomes an administrator (`FIRST_USER_IS_ADMIN`).
    pub first_user_is_admin: bool,
    /// Whether owners choose their own customer plan (`CUSTOMER_ACCOUNT_SELF_SERVICE`).
    pub customer_account_self_service: bool,
    /// How long after a login a change of credentials needs no password (`REAUTH_MINUTES`).
    pub reauth_window: Duration,
    /// How long after a login administrators change credentials and roles of others, delete them, and change service tokens and
    /// signing keys without a password (`ADMIN_REAUTH_MINUTES`).
    pub admin_reauth_window: Duration,
    /// Whether an account can log in only once its address is verified (`REQUIRE_EMAIL_VERIFICATION`). Then, too, a registration
    /// takes the place of an unverified one of the same address, and unverified ones are removed after a while.
    pub require_email_verification: bool,
    /// After how long those are removed (`UNVERIFIED_TTL_DAYS`).
    pub unverified_ttl: Duration,
    /// How a forgotten password is replaced (`RECOVERY_MODE`).
    pub recovery_mode: RecoveryMode,
    /// Whether a registration is answered alike for a free and a taken address (`ENUMERATION_SAFE_REGISTRATION`).
    pub enumeration_safe_registration: bool,
    /// How long a link to verify an address is good.
    pub verification_ttl: Duration,
    /// How long a link to choose a new password is good.
    pub recovery_ttl: Duration,
    /// How long a link to confirm a new address is good.
    pub address_change_ttl: Duration,
    /// How long a link that undoes a change of address, password or passphrase is good, and an old address stays reserved
    /// (`ADDRESS_CHANGE_UNDO_HOURS`).
    pub undo_ttl: Duration,
    /// The language of an account that chose none (`MAIL_LOCALE`).
    pub default_locale: Locale,
}

/// How a forgotten password is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryMode {
    /// By the passphrase alone, the established way. An account whose address was never verified is claimed by mail.
    Passphrase,
    /// By mail alone.
    Email,
    /// By either of the two.
    Either,
    /// By mail and passphrase together.
    EmailAndPassphrase,
}

/// Somebody who wants an account.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Its address.
    pub email: Email,
    /// Its public name.
    pub nickname: Nickname,
    /// Its password.
    pub password: Password,
    /// Its recovery passphrase.
    pub passphrase: Passphrase,
    /// Its customer plan; none if nothing is said.
    pub customer_account: Option<CustomerAccount>,
    /// The language of its mails; the operator's if nothing is said.
    pub locale: Option<Locale>,
}

/// What came of a registration.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one for each registration, and nearly all are the large one")]
pub enum Registered {
    /// There is a new account.
    Created(Account),
    /// Whether there is, only the owner of the address learns, by mail.
    Concealed,
}

/// Somebody who forgot the password and has a link from a mail.
#[derive(Debug, Clone)]
pub struct MailedRecovery {
    /// The token of the link.
    pub token: Secret,
    /// The password from now on.
    pub new_password: Password,
    /// The recovery passphrase of the account, where it is asked for as well; elsewhere a new one.
    pub passphrase: Option<Passphrase>,
}

/// What a one-time token would do. Looking at it changes nothing (S29).
#[derive(Debug, Clone)]
pub struct TokenPreview {
    /// How the owner of the account is called.
    pub nickname: String,
    /// What it is good for.
    pub purpose: TokenPurpose,
    /// The address it is about.
    pub address: String,
    /// The language of the account.
    pub locale: Locale,
    /// Whether a recovery by it has to show the passphrase as well.
    pub asks_for_passphrase: bool,
}

/// What the link of a mail did when it was used. It is for the holder of the link, and says nothing else about the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedLink {
    /// What it was used for.
    pub purpose: TokenPurpose,
    /// When.
    pub at: Timestamp,
    /// Whether that was so lately that a form sent again is answered like the first.
    pub is_recent: bool,
    /// The language of the account.
    pub locale: Locale,
}

/// What a confirmed token did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// The account's address is verified.
    AddressVerified,
    /// The account has its new address, verified.
    AddressChanged,
}

/// Somebody who wants to log in.
#[derive(Debug, Clone)]
pub struct LoginAttempt {
    /// The address of the account.
    pub email: Email,
    /// The password.
    pub password: Password,
    /// Whether the session is to live through days without use.
    pub remember: bool,
}

/// Somebody who forgot the password and knows the passphrase.
#[derive(Debug, Clone)]
pub struct RecoveryAttempt {
    /// The address of the account.
    pub email: Email,
    /// The recovery passphrase.
    pub passphrase: Passphrase,
    /// The password from now on.
    pub new_password: Password,
}

/// What owners change about their own account; `None` leaves a field alone.
#[derive(Debug, Clone, Default)]
pub struct OwnChange {
    /// A new address.
    pub email: Option<Email>,
    /// A new public name.
    pub nickname: Option<Nickname>,
    /// A new password.
    pub password: Option<Password>,
    /// A new passphrase.
    pub passphrase: Option<Passphrase>,
    /// A new customer plan.
    pub customer_account: Option<CustomerAccount>,
    /// Another language for mails.
    pub locale: Option<Locale>,
}

impl OwnChange {
    /// Whether it changes what the owner is recognised or reached by (S05).
    pub(crate) fn is_sensitive(&self) -> bool {
        self.email.is_some() || self.password.is_some() || self.passphrase.is_some()
    }
}

/// An account that its owner changed.
#[derive(Debug, Clone)]
pub struct OwnChanged {
    /// The account after the change.
    pub account: Account,
    /// With what the session goes on from now on, if the password was changed; earlier refresh tokens of it are dead.
    pub refresh_token: Option<Secret>,
}

/// What administrators change about an account; `None` leaves a field alone.
#[derive(Debug, Clone, Default)]
pub struct AdminChange {
    /// What the owner could change too.
    pub own: OwnChange,
    /// A new role.
    pub role: Option<Role>,
    /// Lock or unlock it.
    pub locked: Option<bool>,
}

impl AdminChange {
    /// Whether it could give somebody else the account, or its account more power (S77).
    pub(crate) fn is_sensitive(&self) -> bool {
        self.own.is_sensitive() || self.role.is_some()
    }
}

/// A login that succeeded.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// Whose.
    pub account: Account,
    /// The bearer token of the new session.
    pub access_token: Secret,
    /// How long it is good for.
    pub expires_in: Duration,
    /// With what the next access token is got.
    pub refresh_token: Secret,
}

/// An account as it is shown to administrators.
#[derive(Debug, Clone)]
pub struct AccountOverview {
    /// The account.
    pub account: Account,
    /// When it was last active, in a live session or an ended one.
    pub last_active_at: Option<Timestamp>,
    /// How long ago that was.
    pub idle: Option<Duration>,
    /// How many live sessions it has.
    pub live_sessions: usize,
}

/// The way to the accounts.
#[derive(Clone)]
pub struct UserHandle {
    mailbox: Arc<Mailbox<Message>>,
    store: Store,
    sessions: SessionHandle,
    clock: Arc<dyn Clock>,
    recovery_mode: RecoveryMode,
}

impl UserHandle {
    pub(crate) fn new(
        mailbox: Arc<Mailbox<Message>>,
        store: Store,
        sessions: SessionHandle,
        clock: Arc<dyn Clock>,
        recovery_mode: RecoveryMode,
    ) -> Self {
        Self { mailbox, store, sessions, clock, recovery_mode }
    }

    /// How a forgotten password is replaced here.
    #[must_use]
    pub fn recovery_mode(&self) -> RecoveryMode {
        self.recovery_mode
    }

    /// Makes an account for somebody who asked for one.
    pub async fn register(&self, registration: Registration, origin: Origin) -> Result<Registered, RegisterError> {
        self.ask(origin, |reply| Request::Register { registration, by: Creator::Owner, reply }).await?
    }

    /// Makes an account on behalf of an administrator; its role is user.
    pub async fn create_by_admin(
        &self,
        admin: &Principal,
        registration: Registration,
        origin: Origin,
    ) -> Result<AccountOverview, RegisterError> {
        let by = Creator::Admin(admin.acting(Role::Admin));
        let registered = self.ask(origin, |reply| Request::Register { registration, by, reply }).await??;
        let account = created(registered)?;
        Ok(AccountOverview { account, last_active_at: None, idle: None, live_sessions: 0 })
    }

    /// Opens a session for whoever knows the password. Exactly one hash is computed, whatever the outcome (S11).
    pub async fn login(&self, attempt: LoginAttempt, origin: Origin) -> Result<LoggedIn, LoginError> {
        self.ask(origin, |reply| Request::Login { attempt, reply }).await?
    }

    /// Replaces the password for whoever knows the passphrase, and ends every session of the account (S31).
    pub async fn recover(&self, attempt: RecoveryAttempt, origin: Origin) -> Result<(), RecoverError> {
        self.ask(origin, |reply| Request::Recover { attempt, reply }).await?
    }

    /// Sends another verification mail, if there is an account to verify. Says nothing about whether there is (S12).
    pub async fn resend_verification(&self, email: Email, origin: Origin) -> Result<(), Unavailable> {
        Ok(self.ask(origin, |reply| Request::ResendVerification { email, reply }).await?)
    }

    /// Sends a mail by which a new password is chosen, if there is an account. Says nothing about whether there is (S12).
    pub async fn request_recovery(&self, email: Email, origin: Origin) -> Result<(), Unavailable> {
        Ok(self.ask(origin, |reply| Request::MailReset { email, reply }).await?)
    }

    /// Replaces the password for whoever has a good link, and ends every session of the account (S31).
    pub async fn recover_by_mail(&self, recovery: MailedRecovery, origin: Origin) -> Result<(), MailedRecoveryError> {
        self.ask(origin, |reply| Request::RecoverByMail { recovery, reply }).await?
    }

    /// Whether a password is the one that was chosen with this link, if it was used [lately](UsedLink::is_recent). `BadToken` if
    /// that can no longer be known. It counts as an attempt to log in, so that a used link helps nobody to guess.
    pub async fn repeats_recovery(
        &self,
        token: Secret,
        password: Password,
        origin: Origin,
    ) -> Result<bool, MailedRecoveryError> {
        self.ask(origin, |reply| Request::RepeatRecovery { token, password, reply }).await?
    }

    /// Takes the address that a link was mailed to as its owner's.
    pub async fn confirm_email(&self, token: Secret, origin: Origin) -> Result<Confirmed, ConfirmError> {
        self.ask(origin, |reply| Request::ConfirmEmail { token, reply }).await?
    }

    /// Takes back what was done to an account since the mail with this link: the address, the secrets that were set, the
    /// sessions. A mail by which a new password is chosen follows.
    pub async fn undo(&self, token: Secret, origin: Origin) -> Result<(), ConfirmError> {
        self.ask(origin, |reply| Request::Undo { token, reply }).await?
    }

    /// What a one-time token would do; `None` for one that is not good.
    pub async fn preview_token(&self, token: &str) -> Result<Option<TokenPreview>, Unavailable> {
        let Some(hash) = TokenHash::of(token) else { return Ok(None) };
        let Some(StoredToken { account, token, .. }) = self.store.one_time_token(&hash).await? else { return Ok(None) };
        let Some(account) = self.store.account(account).await? else { return Ok(None) };
        let now = self.clock.now();
        let address = flows::address_of(&account, &token, now).filter(|_| now < token.expires_at);
        Ok(address.map(|address| TokenPreview {
            nickname: account.nickname.as_str().to_owned(),
            purpose: token.purpose,
            address: address.as_str().to_owned(),
            locale: account.locale,
            asks_for_passphrase: flows::asks_for_passphrase(&account, self.recovery_mode),
        }))
    }

    /// What a link did that was used, if it is the last of its purpose that was.
    pub async fn used_link(&self, token: &str) -> Result<Option<UsedLink>, Unavailable> {
        let Some(hash) = TokenHash::of(token) else { return Ok(None) };
        let Some(used) = self.store.used_token(&hash).await? else { return Ok(None) };
        let account = self.store.account(used.account).await?;
        let is_recent = flows::is_recent(used.at, self.clock.now());
        let of = |account: Account| UsedLink { purpose: used.purpose, at: used.at, is_recent, locale: account.locale };
        Ok(account.map(of))
    }

    /// Changes the principal's own account. A new address, password or passphrase needs the current password or a fresh
    /// login; a new password ends the other sessions, the refresh tokens of this one and the freshness of its login.
    pub async fn update_own(
        &self,
        principal: &Principal,
        change: OwnChange,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<OwnChanged, UpdateError> {
        let principal = principal.clone();
        self.ask(origin, |reply| Request::UpdateOwn { principal, change, current_password, reply }).await?
    }

    /// Deletes the principal's own account, given the current password or a fresh login.
    pub async fn delete_own(
        &self,
        principal: &Principal,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<(), DeleteError> {
        let principal = principal.clone();
        self.ask(origin, |reply| Request::DeleteOwn { principal, current_password, reply }).await?
    }

    /// Whether an administrator may do something sensitive that is no change of an account: with the current password, or a login
    /// within `ADMIN_REAUTH_MINUTES` (S77). A refusal is put on record as one of this event. The answer is the administrator.
    pub async fn prove(
        &self,
        admin: &Principal,
        event: AuditEvent,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<Principal, ProofError> {
        let admin = admin.clone();
        self.ask(origin, |reply| Request::Prove { admin, event, current_password, reply }).await?
    }

    /// Changes any account. Locking it or giving it another password ends its sessions. Another's role, password, passphrase
    /// or address needs the current password of the administrator, or a login within `ADMIN_REAUTH_MINUTES`.
    pub async fn update_by_admin(
        &self,
        admin: &Principal,
        id: AccountId,
        change: AdminChange,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<(), UpdateError> {
        let admin = admin.clone();
        self.ask(origin, |reply| Request::UpdateByAdmin { admin, id, change, current_password, reply }).await?
    }

    /// Deletes any account but the administrator's own, given the current password of the administrator or a login within
    /// `ADMIN_REAUTH_MINUTES`.
    pub async fn delete_by_admin(
        &self,
        admin: &Principal,
        id: AccountId,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<(), DeleteError> {
        let admin = admin.clone();
        self.ask(origin, |reply| Request::DeleteByAdmin { admin, id, current_password, reply }).await?
    }

    /// A page of accounts, by number.
    pub async fn list(&self, page: Page) -> Result<Vec<AccountOverview>, Unavailable> {
        self.overviews(self.store.accounts(page).await?).await
    }

    /// One account.
    pub async fn get(&self, id: AccountId) -> Result<Option<AccountOverview>, Unavailable> {
        let found = self.store.listed_account(id).await?;
        Ok(self.overviews(found.into_iter().collect()).await?.pop())
    }

    async fn overviews(&self, listed: Vec<ListedAccount>) -> Result<Vec<AccountOverview>, Unavailable> {
        let epochs = listed.iter().map(|listed| (listed.account.id, listed.account.session_epoch));
        let present: HashMap<AccountId, SessionSummary> = self.sessions.summaries(epochs).await?;
        let now = self.clock.now();
        let overview = |ListedAccount { account, last_active_at }: ListedAccount| {
            let presence = present.get(&account.id);
            let last_active_at = last_active_at.max(presence.map(|presence| presence.last_active_at));
            AccountOverview {
                last_active_at,
                idle: last_active_at.map(|at| now.since(at)),
                live_sessions: presence.map_or(0, |presence| presence.live),
                account,
            }
        };
        Ok(listed.into_iter().map(overview).collect())
    }

    /// Removes accounts that were not verified in time, as a timer otherwise does; returns when that has begun.
    #[cfg(feature = "testing")]
    pub(crate) async fn remove_unverified(&self) -> Result<(), crate::ask::AskError> {
        let origin = Origin::default();
        self.mailbox.tell(Message { origin, span: tracing::Span::none(), request: Request::RemoveUnverified })?;
        self.mailbox.ping(FLOW_DEADLINE).await
    }

    async fn ask<R>(
        &self,
        origin: Origin,
        request: impl FnOnce(Reply<R>) -> Request,
    ) -> Result<R, crate::ask::AskError> {
        self.mailbox
            .ask(FLOW_DEADLINE, |reply| Message { origin, span: tracing::Span::current(), request: request(reply) })
            .await
    }
}

/// The account of a registration that conceals nothing, as those for somebody else are.
fn created(registered: Registered) -> Result<Account, RegisterError> {
    match registered {
        Registered::Created(account) => Ok(account),
        Registered::Concealed => Err(RegisterError::Unavailable(Unavailable::default())),
    }
}
