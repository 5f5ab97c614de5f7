//! The record of what happened: who did what to whom, from where, and how it ended (S70).

mod chain;
mod query;

use std::fmt;

pub use chain::{AuditCheckpoint, AuditHash, AuditHead, AuditPruned, AuditPruning, AuditStart, AuditStatus};
pub use query::{AuditActorFilter, AuditFilter, AuditOrder, AuditPage, AuditQuery};

use super::account::AccountId;
use super::codes::codes;
use super::session::{Origin, Session, SessionId};
use super::time::Timestamp;

/// The longest name of a service, in bytes.
const MAX_SERVICE_NAME_BYTES: usize = 64;

/// One record of the audit log. The store numbers records in the order of commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub event: AuditEvent,
    /// Who did it.
    pub actor: AuditActorKind,
    /// The account that the event is about, if known. A failed login at an address without an account has no subject.
    pub subject: Option<AccountId>,
    /// The session in which it was done, or the session that was opened or ended.
    pub session: Option<SessionId>,
    /// Where the request came from.
    pub origin: Origin,
    /// Why it was refused; `None` if it was done.
    pub refusal: Option<AuditRefusal>,
    /// Further details.
    pub details: Option<AuditDetails>,
}

/// Details of a record beyond its actor, subject and event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditDetails {
    /// The fields of the account that changed. Neither the old nor the new values are recorded.
    Changed(Vec<AuditField>),
    /// The start of the log after its oldest records were removed.
    Pruned(AuditStart),
    /// The number of refusals, or of imported accounts, for which this one record stands.
    Counted(u64),
}

/// Written as `password role`, as `FIRST:HASH`, or as a number.
impl fmt::Display for AuditDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(fields) => {
                f.write_str(&fields.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(" "))
            }
            Self::Pruned(start) => start.fmt(f),
            Self::Counted(count) => count.fmt(f),
        }
    }
}

impl AuditRecord {
    /// Builds the record of something that Doorward did by itself, about no account.
    #[must_use]
    pub fn new(event: AuditEvent, at: Timestamp) -> Self {
        Self {
            at,
            event,
            actor: AuditActorKind::System,
            subject: None,
            session: None,
            origin: Origin::default(),
            refusal: None,
            details: None,
        }
    }

    /// Builds the record of a session end that nobody requested.
    pub(crate) fn of_session(session: &Session, event: AuditEvent, at: Timestamp) -> Self {
        Self { subject: Some(session.account), session: Some(session.id), ..Self::new(event, at) }
    }

    /// Returns whether it was done or refused.
    #[must_use]
    pub fn outcome(&self) -> AuditOutcome {
        if self.refusal.is_none() { AuditOutcome::Success } else { AuditOutcome::Refused }
    }

    /// Returns whether the refusal always gets a record of its own: the client had to pay for it with a password or passphrase hash.
    /// All other refusals of one kind, account and network share one record (S75).
    #[must_use]
    pub fn cost_a_hash(&self) -> bool {
        use AuditRefusal::{Conflict, Locked, UnknownAccount, Unverified, WrongPassphrase, WrongPassword};
        matches!(
            (self.event, self.refusal),
            (_, Some(WrongPassword | WrongPassphrase))
                | (AuditEvent::Login, Some(UnknownAccount | Locked | Unverified | Conflict))
                | (AuditEvent::Recovered, Some(UnknownAccount | Locked))
        )
    }

    /// Builds the record that an unverified account was deleted and replaced by the new account that this record is about.
    #[must_use]
    pub fn of_replaced(&self, account: AccountId) -> Self {
        Self { event: AuditEvent::UnverifiedRemoved, subject: Some(account), ..self.clone() }
    }
}

/// Whether an event succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was done.
    Success,
    /// It was not done; the refusal says why.
    Refused,
}

impl AuditOutcome {
    /// Both outcomes.
    pub const ALL: [Self; 2] = [Self::Success, Self::Refused];

    /// Returns the outcome as the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
        }
    }
}

/// The name of a service: 1 to 64 bytes of text without control characters, with no space at either end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceName(String);

impl ServiceName {
    /// Parses a name; `None` if it is not valid.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let fits = (1..=MAX_SERVICE_NAME_BYTES).contains(&name.len()) && name.trim() == name;
        (fits && !name.chars().any(char::is_control)).then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who did something. Written as `anonymous`, `account:7`, `admin:3`, `system` or `service:billing`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AuditActorKind {
    /// A client that was not logged in.
    Anonymous,
    /// The owner of this account.
    Account(AccountId),
    /// An administrator, identified by their account.
    Admin(AccountId),
    /// Doorward itself, or its operator at the command line.
    System,
    /// A service, identified by its name.
    Service(ServiceName),
}

impl fmt::Display for AuditActorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Account(id) => write!(f, "account:{id}"),
            Self::Admin(id) => write!(f, "admin:{id}"),
            Self::System => f.write_str("system"),
            Self::Service(name) => write!(f, "service:{}", name.as_str()),
        }
    }
}

codes! {
    /// What happened.
    AuditEvent {
        /// An account was created by its owner.
        Registered = 1 "account.registered",
        /// An account was created by an administrator or at the command line.
        AccountCreated = 2 "account.created",
        /// An account was changed.
        AccountUpdated = 3 "account.updated",
        /// An account was deleted.
        AccountDeleted = 4 "account.deleted",
        /// A login succeeded or failed.
        Login = 5 "session.login",
        /// A session was ended by its owner.
        Logout = 6 "session.logout",
        /// A session ended because it was idle for too long or reached its maximum lifetime.
        SessionExpired = 7 "session.expired",
        /// A session was ended to make room for a newer one of the same account.
        SessionEvicted = 8 "session.evicted",
        /// A password was replaced by means of the passphrase.
        Recovered = 9 "account.recovered",
        /// An address was verified by its owner.
        EmailVerified = 10 "email.verified",
        /// Another verification mail was requested.
        VerificationSent = 11 "email.verification_sent",
        /// A new address was verified by the owner and replaced the old one.
        EmailChanged = 12 "email.changed",
        /// A change of address was undone, or cancelled while it was pending.
        EmailChangeCancelled = 13 "email.change_cancelled",
        /// A mail for choosing a new password was requested.
        RecoveryRequested = 14 "account.recovery_requested",
        /// An account was removed because its address was not verified in time.
        UnverifiedRemoved = 15 "account.unverified_removed",
        /// A mail was queued again.
        MailRetried = 16 "mail.retried",
        /// A mail was deleted.
        MailDeleted = 17 "mail.deleted",
        /// The password of a login was found on the list of breached passwords, and the account was marked.
        PasswordCompromised = 18 "account.password_compromised",
        /// Accounts were imported from another system; one record for each batch, with the number of accounts.
        AccountsImported = 19 "accounts.imported",
        /// The owner exported what is stored about the account.
        AccountExported = 20 "account.exported",
        /// The counts of failed attempts of an account or an address were cleared.
        LimitCleared = 22 "limit.cleared",
        /// The oldest records of the audit log were removed.
        AuditPruned = 30 "audit.pruned",
        /// Pages of the audit log were read; one record per session every ten minutes.
        AuditRead = 31 "audit.read",
        /// The audit log was exported as a file.
        AuditExported = 32 "audit.exported",
        /// A client began to follow the audit log.
        AuditFollowed = 33 "audit.followed",
        /// A client was denied access; one record per client and reason every ten minutes.
        AccessDenied = 34 "access.denied",
        /// A number of refusals have no record of their own for lack of room; at most one such record a minute.
        RefusalsCounted = 37 "audit.refusals_counted",
        /// A new signing key was created, which signs from a given time on.
        KeyRotated = 40 "key.rotated",
        /// A signing key was removed after the last of its tokens had expired.
        KeyRemoved = 41 "key.removed",
        /// A new signing key replaced all others at once; the tokens that they signed are no longer valid.
        KeyReplaced = 42 "key.replaced",
        /// From now on, access tokens are signed with another algorithm or secret.
        KeySwitched = 43 "key.switched",
        /// A refresh token was refused. Successful exchanges are not recorded.
        Refresh = 45 "session.refresh",
        /// A refresh token was used again after its rotation, and its session was ended.
        RefreshReused = 46 "session.refresh_reused",
        /// A session was ended from the list of sessions, by its owner or an administrator.
        SessionEnded = 47 "session.ended",
        /// A label was added to a session or removed from it.
        SessionLabelled = 48 "session.labelled",
        /// A service token was created.
        ServiceTokenCreated = 55 "service_token.created",
        /// A service token received a new secret.
        ServiceTokenRotated = 56 "service_token.rotated",
        /// A service token was revoked.
        ServiceTokenRevoked = 57 "service_token.revoked",
        /// A session was ended by a service that holds its token.
        SessionRevokedByService = 58 "session.revoked_by_service",
        /// A backup was made.
        BackupMade = 60 "backup.made",
        /// A backup was restored, and this log goes on from what it contains.
        BackupRestored = 61 "backup.restored",
        /// A mail was not queued because a quota was used up; one record a day for each quota.
        MailWithheld = 75 "mail.withheld",
    }
}

codes! {
    /// A part of an account that can change.
    AuditField {
        /// The address.
        Email = 1 "email",
        /// The address that is waiting for confirmation.
        PendingEmail = 2 "pending_email",
        /// The public name.
        Nickname = 3 "nickname",
        /// The password, or how it is hashed.
        Password = 4 "password",
        /// The passphrase.
        Passphrase = 5 "passphrase",
        /// The customer plan.
        CustomerAccount = 6 "customer_account",
        /// The language.
        Locale = 7 "locale",
        /// The role.
        Role = 8 "role",
        /// Whether the account is locked.
        Lock = 9 "lock",
    }
}

codes! {
    /// Why something was refused.
    AuditRefusal {
        /// No account has this address.
        UnknownAccount = 1 "unknown_account",
        /// The password was wrong.
        WrongPassword = 2 "wrong_password",
        /// The passphrase was wrong.
        WrongPassphrase = 3 "wrong_passphrase",
        /// The account is locked.
        Locked = 4 "locked",
        /// The login of the session is too old for this, and the request had no password.
        ReauthenticationNeeded = 5 "reauthentication_needed",
        /// The address is taken.
        EmailTaken = 6 "email_taken",
        /// The nickname is taken.
        NicknameTaken = 7 "nickname_taken",
        /// No administrator would be left.
        LastAdmin = 8 "last_admin",
        /// The new password is too weak.
        WeakPassword = 9 "weak_password",
        /// The account was changed in the meantime.
        Conflict = 10 "conflict",
        /// Administrators cannot delete their own account this way.
        OwnAccount = 11 "own_account",
        /// Owners may not choose their own customer plan here.
        CustomerAccountNotAllowed = 12 "customer_account_not_allowed",
        /// The address of the account was never verified.
        Unverified = 13 "unverified",
        /// A one-time token was not valid.
        BadToken = 14 "bad_token",
        /// There were too many failed attempts before this one.
        TooManyAttempts = 15 "too_many_attempts",
        /// Only administrators may do this.
        AdminOnly = 20 "admin_only",
        /// The access token is not valid.
        DeadToken = 21 "dead_token",
        /// The service token is wrong.
        WrongServiceToken = 22 "wrong_service_token",
        /// A mail of this kind was sent to the account shortly before.
        TooSoon = 23 "too_soon",
        /// The address is verified already.
        AlreadyVerified = 24 "already_verified",
        /// The requested function is not offered here.
        NotOffered = 25 "not_offered",
        /// The refresh token does not belong to a live session.
        BadRefreshToken = 35 "bad_refresh_token",
        /// The acting session was ended in the meantime, or its account lost the role.
        Revoked = 36 "revoked",
        /// The service token lacks the scope.
        ScopeMissing = 40 "scope_missing",
        /// Another service token has this name.
        NameTaken = 41 "name_taken",
        /// The maximum number of service tokens is reached.
        TooManyTokens = 42 "too_many_tokens",
        /// The service token has expired.
        TokenOver = 43 "token_over",
        /// There is no service token with this number.
        UnknownServiceToken = 44 "unknown_service_token",
        /// Access tokens are signed with a secret, which only the operator can change.
        SecretSigns = 45 "secret_signs",
        /// The maximum number of signing keys is reached.
        TooManyKeys = 46 "too_many_keys",
        /// There were too many mails of this kind for the account, the address or the client.
        TooManyMails = 75 "too_many_mails",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_distinct_numbers_that_read_back() {
        for event in AuditEvent::ALL {
            assert_eq!(AuditEvent::from_number(event.number()), Some(event));
            assert_eq!(AuditEvent::from_text(event.as_str()), Some(event));
        }
        for field in AuditField::ALL {
            assert_eq!(AuditField::from_number(field.number()), Some(field));
            assert_eq!(AuditField::from_text(field.as_str()), Some(field));
        }
        for refusal in AuditRefusal::ALL {
            assert_eq!(AuditRefusal::from_number(refusal.number()), Some(refusal));
            assert_eq!(AuditRefusal::from_text(refusal.as_str()), Some(refusal));
        }
    }

    #[test]
    fn the_name_of_a_service_is_short_and_visible() {
        for good in ["a", "Billing service", &"é".repeat(32)] {
            assert_eq!(ServiceName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " a", "a ", "a\nb", "\u{7f}", &"é".repeat(33)] {
            assert_eq!(ServiceName::parse(bad), None, "{bad:?}");
        }
    }
}
