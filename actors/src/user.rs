//! Accounts: registration, login, recovery, and the changes that owners and administrators make.

mod actor;
mod errors;
mod flows;
mod importer;
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
pub use importer::{AccountToImport, IMPORT_BATCH, ImportError, Importer};
use message::Creator;
pub(crate) use message::Message;
pub use operator::{Operator, OperatorPorts, OperatorSettings};
pub use refresh::{RefreshError, Refreshed};

use futures_util::FutureExt as _;

use crate::ask::Unavailable;
use crate::domain::account::{Account, AccountId, ProfileChange, Role};
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
use crate::store::{ListedAccount, Page, PersonalData, Store, StoredToken};

/// The minimum pause between two requested mails of one purpose to one account.
pub(crate) const RESEND_PAUSE: Duration = Duration::from_mins(1);
/// The minimum pause between two verification mails that follow a login with the right password.
pub(crate) const LOGIN_RESEND_PAUSE: Duration = Duration::from_mins(10);
/// How long after the use of a link a resubmitted form gets the same answer as the first time.
/// A second press, a reload or a lost answer happens within minutes; later, the answer says when the link was used.
pub(crate) const REPEAT_WITHIN: Duration = Duration::from_mins(10);
/// The maximum duration of a flow: two hashes, each limited by the deadline of its queue plus its own computation,
/// and two commits of at most 10 s each.
const FLOW_DEADLINE: Duration = Duration::from_secs(40);

/// The operator's rules for accounts.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in the settings, and none excludes another"
)]
pub struct AccountRules {
    /// Whether the first account of a data directory becomes an administrator (`FIRST_USER_IS_ADMIN`).
    pub first_user_is_admin: bool,
    /// Whether owners may choose their own customer plan (`CUSTOMER_ACCOUNT_SELF_SERVICE`).
    pub customer_account_self_service: bool,
    /// How long after a login credentials can be changed without a password (`REAUTH_MINUTES`).
    pub reauth_window: Duration,
    /// How long after a login an administrator needs no password for sensitive changes (`ADMIN_REAUTH_MINUTES`):
    /// changing the credentials or roles of others, deleting them, and changing service tokens or signing keys.
    pub admin_reauth_window: Duration,
    /// Whether an account can log in only after its address is verified (`REQUIRE_EMAIL_VERIFICATION`).
    /// If so, a registration also replaces an unverified one of the same address, and unverified accounts are removed after
    /// `unverified_ttl`.
    pub require_email_verification: bool,
    /// The age at which unverified accounts are removed (`UNVERIFIED_TTL_DAYS`).
    pub unverified_ttl: Duration,
    /// How a forgotten password is replaced (`RECOVERY_MODE`).
    pub recovery_mode: RecoveryMode,
    /// Whether a registration gets the same answer for a free and a taken address (`ENUMERATION_SAFE_REGISTRATION`).
    pub enumeration_safe_registration: bool,
    /// How long a link that verifies an address is valid.
    pub verification_ttl: Duration,
    /// How long a link for choosing a new password is valid.
    pub recovery_ttl: Duration,
    /// How long a link that confirms a new address is valid.
    pub address_change_ttl: Duration,
    /// How long a link that undoes a change of address, password or passphrase is valid, and how long an old address stays reserved
    /// (`ADDRESS_CHANGE_UNDO_HOURS`).
    pub undo_ttl: Duration,
    /// The language of an account whose owner chose none (`MAIL_LOCALE`).
    pub default_locale: Locale,
}

/// How a forgotten password is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryMode {
    /// By the passphrase alone, as in earlier versions.
    /// An account whose address was never verified can be claimed by mail.
    Passphrase,
    /// By mail alone.
    Email,
    /// By either of the two.
    Either,
    /// By mail and passphrase together.
    EmailAndPassphrase,
}

/// The data of a registration.
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
    /// What was chosen of its other fields. The language is the operator's default if not given.
    pub profile: ProfileChange,
}

/// The outcome of a registration.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one for each registration, and nearly all are the large one")]
pub enum Registered {
    /// A new account was created.
    Created(Account),
    /// The answer does not say whether an account was created; only the owner of the address learns it, by mail.
    Concealed,
}

/// A recovery with the link from a mail.
#[derive(Debug, Clone)]
pub struct MailedRecovery {
    /// The token of the link.
    pub token: Secret,
    /// The new password.
    pub new_password: Password,
    /// The recovery passphrase of the account, if the recovery mode requires it; otherwise a new passphrase.
    pub passphrase: Option<Passphrase>,
}

/// The effect that a one-time token would have. Reading it changes nothing (S29).
#[derive(Debug, Clone)]
pub struct TokenPreview {
    /// The nickname of the owner of the account.
    pub nickname: String,
    /// The purpose of the token.
    pub purpose: TokenPurpose,
    /// The address that the token is about.
    pub address: String,
    /// The language of the account.
    pub locale: Locale,
    /// Whether a recovery with it also requires the passphrase.
    pub asks_for_passphrase: bool,
}

/// The effect that a link from a mail had. It is shown to the holder of the link and tells nothing else about the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedLink {
    /// The purpose it was used for.
    pub purpose: TokenPurpose,
    /// When it was used.
    pub at: Timestamp,
    /// Whether the use is so recent that a resubmitted form gets the same answer as the first time.
    pub is_recent: bool,
    /// The language of the account.
    pub locale: Locale,
}

/// The effect of a confirmed token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// The account's address is verified.
    AddressVerified,
    /// The account has its new address, verified.
    AddressChanged,
}

/// The data of a login.
#[derive(Debug, Clone)]
pub struct LoginAttempt {
    /// The address of the account.
    pub email: Email,
    /// The password.
    pub password: Password,
    /// Whether the session is to stay alive through days without use.
    pub remember: bool,
}

/// A recovery with the passphrase.
#[derive(Debug, Clone)]
pub struct RecoveryAttempt {
    /// The address of the account.
    pub email: Email,
    /// The recovery passphrase.
    pub passphrase: Passphrase,
    /// The new password.
    pub new_password: Password,
}

/// A change by owners to their own account; `None` leaves a field unchanged.
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
    /// New values of other fields.
    pub profile: ProfileChange,
}

impl OwnChange {
    /// Returns whether it changes a credential or the address (S05).
    pub(crate) fn is_sensitive(&self) -> bool {
        self.email.is_some() || self.password.is_some() || self.passphrase.is_some()
    }
}

/// The outcome of a change by the owner.
#[derive(Debug, Clone)]
pub struct OwnChanged {
    /// The account after the change.
    pub account: Account,
    /// The next refresh token of the session, if the password was changed; the session's earlier ones are no longer valid.
    pub refresh_token: Option<Secret>,
}

/// A change by an administrator to an account; `None` leaves a field unchanged.
#[derive(Debug, Clone, Default)]
pub struct AdminChange {
    /// The part that the owner could change too.
    pub own: OwnChange,
    /// A new role.
    pub role: Option<Role>,
    /// Locks the account if true, unlocks it if false.
    pub locked: Option<bool>,
}

impl AdminChange {
    /// Returns whether it could give the account to somebody else or more power to the account (S77).
    pub(crate) fn is_sensitive(&self) -> bool {
        self.own.is_sensitive() || self.role.is_some()
    }
}

/// A successful login.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// The account.
    pub account: Account,
    /// The bearer token of the new session.
    pub access_token: Secret,
    /// How long the access token is valid.
    pub expires_in: Duration,
    /// The refresh token, which is exchanged for the next access token.
    pub refresh_token: Secret,
}

/// An account as it is shown to administrators.
#[derive(Debug, Clone)]
pub struct AccountOverview {
    /// The account.
    pub account: Account,
    /// When it was last active, in a live session or an ended one.
    pub last_active_at: Option<Timestamp>,
    /// The time since then.
    pub idle: Option<Duration>,
    /// The number of its live sessions.
    pub live_sessions: usize,
}

/// The handle of the user actor.
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

    /// Returns how a forgotten password is replaced here.
    #[must_use]
    pub fn recovery_mode(&self) -> RecoveryMode {
        self.recovery_mode
    }

    /// Creates an account for its owner.
    pub async fn register(&self, registration: Registration, origin: Origin) -> Result<Registered, RegisterError> {
        self.ask(move |flows| async move { flows.register(registration, Creator::Owner, origin).await }).await?
    }

    /// Creates an account with the role user, on behalf of an administrator.
    pub async fn create_by_admin(
        &self,
        admin: &Principal,
        registration: Registration,
        origin: Origin,
    ) -> Result<AccountOverview, RegisterError> {
        let by = Creator::Admin(admin.acting(Role::Admin));
        let registered = self.ask(move |flows| async move { flows.register(registration, by, origin).await }).await??;
        let account = created(registered)?;
        Ok(AccountOverview { account, last_active_at: None, idle: None, live_sessions: 0 })
    }

    /// Opens a session if the password is right. Computes exactly one hash, whatever the outcome (S11).
    pub async fn login(&self, attempt: LoginAttempt, origin: Origin) -> Result<LoggedIn, LoginError> {
        self.ask(move |flows| async move { flows.login(attempt, origin).await }).await?
    }

    /// Replaces the password if the passphrase is right, and ends every session of the account (S31).
    pub async fn recover(&self, attempt: RecoveryAttempt, origin: Origin) -> Result<(), RecoverError> {
        self.ask(move |flows| async move { flows.recover(attempt, origin).await }).await?
    }

    /// Sends another verification mail if the address has an unverified account. The answer does not tell whether it has (S12).
    pub async fn resend_verification(&self, email: Email, origin: Origin) -> Result<(), Unavailable> {
        Ok(self.ask(move |flows| async move { flows.resend_verification(email, origin) }).await?)
    }

    /// Sends a mail for choosing a new password if the address has an account. The answer does not tell whether it has (S12).
    pub async fn request_recovery(&self, email: Email, origin: Origin) -> Result<(), Unavailable> {
        Ok(self.ask(move |flows| async move { flows.request_recovery(email, origin) }).await?)
    }

    /// Replaces the password if the link is valid, and ends every session of the account (S31).
    pub async fn recover_by_mail(&self, recovery: MailedRecovery, origin: Origin) -> Result<(), MailedRecoveryError> {
        self.ask(move |flows| async move { flows.recover_by_mail(recovery, origin).await }).await?
    }

    /// Returns whether a password is the one that was chosen with this link, if the link was used [recently](UsedLink::is_recent).
    /// Returns `BadToken` if that can no longer be known.
    /// Counts as a login attempt, so that a used link does not help to guess the password.
    pub async fn repeats_recovery(
        &self,
        token: Secret,
        password: Password,
        origin: Origin,
    ) -> Result<bool, MailedRecoveryError> {
        self.ask(move |flows| async move { flows.repeats_recovery(token, password, origin).await }).await?
    }

    /// Marks the address to which a link was mailed as verified by its owner.
    pub async fn confirm_email(&self, token: Secret, origin: Origin) -> Result<Confirmed, ConfirmError> {
        self.ask(move |flows| async move { flows.confirm_email(token, origin).await }).await?
    }

    /// Undoes the changes to an account since the mail with this link: restores the address, makes secrets set since unusable and ends
    /// sessions. Then sends a mail for choosing a new password.
    pub async fn undo(&self, token: Secret, origin: Origin) -> Result<(), ConfirmError> {
        self.ask(move |flows| async move { flows.undo(token, origin).await }).await?
    }

    /// Returns the effect that a one-time token would have; `None` if the token is not valid.
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

    /// Returns the effect that a used link had, if it was the last used link of its purpose.
    pub async fn used_link(&self, token: &str) -> Result<Option<UsedLink>, Unavailable> {
        let Some(hash) = TokenHash::of(token) else { return Ok(None) };
        let Some(used) = self.store.used_token(&hash).await? else { return Ok(None) };
        let account = self.store.account(used.account).await?;
        let is_recent = flows::is_recent(used.at, self.clock.now());
        let of = |account: Account| UsedLink { purpose: used.purpose, at: used.at, is_recent, locale: account.locale };
        Ok(account.map(of))
    }

    /// Changes the principal's own account.
    /// A new address, password or passphrase requires the current password or a recent login.
    /// A new password ends the other sessions, the refresh tokens of this session, and the recency of its login.
    pub async fn update_own(
        &self,
        principal: &Principal,
        change: OwnChange,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<OwnChanged, UpdateError> {
        let principal = principal.clone();
        self.ask(move |flows| async move { flows.update_own(&principal, change, current_password, origin).await })
            .await?
    }

    /// Deletes the principal's own account; requires the current password or a recent login.
    pub async fn delete_own(
        &self,
        principal: &Principal,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<(), DeleteError> {
        let principal = principal.clone();
        self.ask(move |flows| async move { flows.delete_own(&principal, current_password, origin).await }).await?
    }

    /// Returns what is stored about the principal's own account, except its sessions and its audit records; requires the current
    /// password or a recent login. `None` if the session ended in the meantime.
    pub async fn export_own(
        &self,
        principal: &Principal,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<Option<PersonalData>, ProofError> {
        let principal = principal.clone();
        self.ask(move |flows| async move { flows.export_own(&principal, current_password, origin).await }).await?
    }

    /// Verifies that an administrator may do something sensitive that does not change an account, and returns the administrator.
    /// Requires the current password or a login within `ADMIN_REAUTH_MINUTES` (S77).
    /// Records a refusal under `event`.
    pub async fn prove(
        &self,
        admin: &Principal,
        event: AuditEvent,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<Principal, ProofError> {
        let admin = admin.clone();
        self.ask(move |flows| async move { flows.prove(admin, event, current_password, origin).await }).await?
    }

    /// Changes any account. Locking it or giving it another password ends its sessions.
    /// Changing the role, password, passphrase or address of another account requires the current password of the administrator,
    /// or a login within `ADMIN_REAUTH_MINUTES`.
    pub async fn update_by_admin(
        &self,
        admin: &Principal,
        id: AccountId,
        change: AdminChange,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<(), UpdateError> {
        let admin = admin.clone();
        self.ask(move |flows| async move { flows.update_by_admin(&admin, id, change, current_password, origin).await })
            .await?
    }

    /// Deletes any account except the administrator's own.
    /// Requires the current password of the administrator, or a login within `ADMIN_REAUTH_MINUTES`.
    pub async fn delete_by_admin(
        &self,
        admin: &Principal,
        id: AccountId,
        current_password: Option<Password>,
        origin: Origin,
    ) -> Result<(), DeleteError> {
        let admin = admin.clone();
        self.ask(move |flows| async move { flows.delete_by_admin(&admin, id, current_password, origin).await }).await?
    }

    /// Returns a page of accounts, sorted by number.
    pub async fn list(&self, page: Page) -> Result<Vec<AccountOverview>, Unavailable> {
        self.overviews(self.store.accounts(page).await?).await
    }

    /// Returns one account.
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

    /// Removes accounts that were not verified in time, as the timer does; returns when the removal has begun.
    #[cfg(feature = "testing")]
    pub(crate) async fn remove_unverified(&self) -> Result<(), crate::ask::AskError> {
        self.mailbox.tell(Message::RemoveUnverified)?;
        crate::process::AnyMailbox::ping(&*self.mailbox, FLOW_DEADLINE).await
    }

    /// Runs a flow in the user actor, and waits for its outcome.
    async fn ask<R, F>(&self, flow: impl FnOnce(Arc<Flows>) -> F + Send + 'static) -> Result<R, crate::ask::AskError>
    where
        R: Send + 'static,
        F: Future<Output = R> + Send + 'static,
    {
        let message = |reply: Reply<R>| {
            let run = move |flows| {
                if reply.is_closed() {
                    return None;
                }
                let run = async move {
                    // The caller may have given up meanwhile; what was done stays done.
                    let _ = reply.send(flow(flows).await);
                };
                Some(run.boxed())
            };
            Message::Run { span: tracing::Span::current(), run: Box::new(run) }
        };
        self.mailbox.ask(FLOW_DEADLINE, message).await
    }
}

/// Returns the account of a registration that is not concealed. Registrations on behalf of somebody else never are.
fn created(registered: Registered) -> Result<Account, RegisterError> {
    match registered {
        Registered::Created(account) => Ok(account),
        Registered::Concealed => Err(RegisterError::Unavailable(Unavailable::default())),
    }
}
