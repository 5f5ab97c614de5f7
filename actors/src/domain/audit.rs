//! The record of what happened: who did what to whom, from where, and how it ended (S70).

mod chain;
mod query;

use std::fmt;

pub use chain::{AuditCheckpoint, AuditHash, AuditHead, AuditPruned, AuditPruning, AuditStart, AuditStatus};
pub use query::{AuditActorFilter, AuditFilter, AuditOrder, AuditPage, AuditQuery};

use super::account::AccountId;
use super::session::{Origin, Session, SessionId};
use super::time::Timestamp;

/// The longest name of a service, in bytes.
const MAX_SERVICE_NAME_BYTES: usize = 64;

/// One line of the audit log. The store numbers it in the order of commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub event: AuditEvent,
    /// Who did it.
    pub actor: AuditActorKind,
    /// Whose account it was done to, when that is known. A failed login at an address nobody has has no subject.
    pub subject: Option<AccountId>,
    /// The session it was done in, or that was opened or ended.
    pub session: Option<SessionId>,
    /// Where the request came from.
    pub origin: Origin,
    /// Why it was refused; `None` when it was done.
    pub refusal: Option<AuditRefusal>,
    /// What else there is to say of it.
    pub details: Option<AuditDetails>,
}

/// What a record says beyond who did what to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditDetails {
    /// What of an account is another than before; never what it was or is.
    Changed(Vec<AuditField>),
    /// Where the log began once its oldest records were removed.
    Pruned(AuditStart),
    /// How many refusals this one record stands for.
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
    /// The record of the end of a session that nobody asked for.
    pub(crate) fn of_session(session: &Session, event: AuditEvent, at: Timestamp) -> Self {
        Self {
            at,
            event,
            actor: AuditActorKind::System,
            subject: Some(session.account),
            session: Some(session.id),
            origin: Origin::default(),
            refusal: None,
            details: None,
        }
    }

    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> AuditOutcome {
        if self.refusal.is_none() { AuditOutcome::Success } else { AuditOutcome::Refused }
    }

    /// Whether it is on record by itself, however often its like happens: a refusal whose maker had to pay for it with the hash
    /// of a password or passphrase. Of every other refusal, one record stands for its like of the same account and network (S75).
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

    /// The record of an account that gave way to the one whose making this records.
    #[must_use]
    pub fn of_replaced(&self, account: AccountId) -> Self {
        Self { event: AuditEvent::UnverifiedRemoved, subject: Some(account), ..self.clone() }
    }
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was done.
    Success,
    /// It was not done; the refusal says why.
    Refused,
}

impl AuditOutcome {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Success, Self::Refused];

    /// The outcome as it is written in an answer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
        }
    }
}

/// The name of a service: 1 to 64 bytes of text without control characters, and no space at either end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceName(String);

impl ServiceName {
    /// Takes a name; `None` for anything that is not one.
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
    /// Somebody who was not logged in.
    Anonymous,
    /// The owner of this account.
    Account(AccountId),
    /// An administrator, by their account.
    Admin(AccountId),
    /// Doorward itself, or its operator at the command line.
    System,
    /// A service, by its name.
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

/// Declares a closed set of codes together with its written form and its number in storage, each said once.
macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $number:literal $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every code of the set.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as it is written in an answer or a log.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The code that is written so.
            #[must_use]
            pub fn from_text(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == text)
            }

            /// The number under which it is stored; never given to another code.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The code with this number.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

codes! {
    /// What happened.
    AuditEvent {
        /// An account was made by its owner.
        Registered = 1 "account.registered",
        /// An account was made by an administrator or at the command line.
        AccountCreated = 2 "account.created",
        /// An account was changed.
        AccountUpdated = 3 "account.updated",
        /// An account was deleted.
        AccountDeleted = 4 "account.deleted",
        /// Somebody logged in, or failed to.
        Login = 5 "session.login",
        /// A session was ended by its owner.
        Logout = 6 "session.logout",
        /// A session ended because it was idle or old.
        SessionExpired = 7 "session.expired",
        /// A session made room for a newer one of the same account.
        SessionEvicted = 8 "session.evicted",
        /// A password was replaced by way of the passphrase.
        Recovered = 9 "account.recovered",
        /// An address was shown to be its owner's.
        EmailVerified = 10 "email.verified",
        /// Another verification mail was asked for.
        VerificationSent = 11 "email.verification_sent",
        /// A new address was shown to be the owner's and took the place of the old one.
        EmailChanged = 12 "email.changed",
        /// A change of address was undone, or dropped while it was pending.
        EmailChangeCancelled = 13 "email.change_cancelled",
        /// A mail to choose a new password was asked for.
        RecoveryRequested = 14 "account.recovery_requested",
        /// An account was removed because its address was not verified in time.
        UnverifiedRemoved = 15 "account.unverified_removed",
        /// A mail was queued anew.
        MailRetried = 16 "mail.retried",
        /// A mail was deleted.
        MailDeleted = 17 "mail.deleted",
        /// The password of a login was found on the list of breached ones, and the account was marked.
        PasswordCompromised = 18 "account.password_compromised",
        /// What was counted against an account or an address was forgotten.
        LimitCleared = 22 "limit.cleared",
        /// The oldest records of the audit log were removed.
        AuditPruned = 30 "audit.pruned",
        /// Somebody read pages of the audit log; one record for each session and ten minutes.
        AuditRead = 31 "audit.read",
        /// Somebody took the audit log away as a file.
        AuditExported = 32 "audit.exported",
        /// Somebody began to follow the audit log.
        AuditFollowed = 33 "audit.followed",
        /// Somebody was kept out of what is for others; one record for each of them, reason and ten minutes.
        AccessDenied = 34 "access.denied",
        /// So many refusals are not on record by themselves, for want of room; at most one record a minute.
        RefusalsCounted = 37 "audit.refusals_counted",
        /// A new signing key was made, to sign from a time on.
        KeyRotated = 40 "key.rotated",
        /// A signing key was removed after the last of its tokens was over.
        KeyRemoved = 41 "key.removed",
        /// A new signing key took the place of all others at once; the tokens that they signed are dead.
        KeyReplaced = 42 "key.replaced",
        /// Access tokens are signed with another algorithm or secret from here on.
        KeySwitched = 43 "key.switched",
        /// A refresh token was refused. Exchanges that succeed are not on record.
        Refresh = 45 "session.refresh",
        /// A refresh token was used again after it was replaced, and its session was ended.
        RefreshReused = 46 "session.refresh_reused",
        /// A session was ended from the list of sessions, by its owner or an administrator.
        SessionEnded = 47 "session.ended",
        /// A session was given a label, or lost it.
        SessionLabelled = 48 "session.labelled",
        /// A service token was made.
        ServiceTokenCreated = 55 "service_token.created",
        /// A service token got another secret.
        ServiceTokenRotated = 56 "service_token.rotated",
        /// A service token was revoked.
        ServiceTokenRevoked = 57 "service_token.revoked",
        /// A session was ended by a service that has its token.
        SessionRevokedByService = 58 "session.revoked_by_service",
        /// A mail was not queued, as there were too many of its kind; one record a day for each count that was full.
        MailWithheld = 75 "mail.withheld",
    }
}

codes! {
    /// A part of an account that can change.
    AuditField {
        /// The address.
        Email = 1 "email",
        /// The address that waits to be confirmed.
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
        /// Whether it is locked.
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
        /// The session is too old for this and no password came along.
        ReauthenticationNeeded = 5 "reauthentication_needed",
        /// The address is taken.
        EmailTaken = 6 "email_taken",
        /// The nickname is taken.
        NicknameTaken = 7 "nickname_taken",
        /// No administrator would be left.
        LastAdmin = 8 "last_admin",
        /// The new password is too weak.
        WeakPassword = 9 "weak_password",
        /// The account changed meanwhile.
        Conflict = 10 "conflict",
        /// An administrator cannot delete the own account this way.
        OwnAccount = 11 "own_account",
        /// Owners do not choose their own customer plan here.
        CustomerAccountNotAllowed = 12 "customer_account_not_allowed",
        /// The address of the account was never verified.
        Unverified = 13 "unverified",
        /// A one-time token was not good.
        BadToken = 14 "bad_token",
        /// There were too many failed attempts before it.
        TooManyAttempts = 15 "too_many_attempts",
        /// It is for administrators.
        AdminOnly = 20 "admin_only",
        /// The access token is not live.
        DeadToken = 21 "dead_token",
        /// The service token is wrong.
        WrongServiceToken = 22 "wrong_service_token",
        /// A mail of this kind went to the account a moment ago.
        TooSoon = 23 "too_soon",
        /// The address is verified already.
        AlreadyVerified = 24 "already_verified",
        /// What was asked for is not offered here.
        NotOffered = 25 "not_offered",
        /// The refresh token is of no living session.
        BadRefreshToken = 35 "bad_refresh_token",
        /// The session in whose name it was to be done was ended meanwhile, or lost its role.
        Revoked = 36 "revoked",
        /// The service token lacks the scope.
        ScopeMissing = 40 "scope_missing",
        /// Another service token has this name.
        NameTaken = 41 "name_taken",
        /// There are as many service tokens as there may be.
        TooManyTokens = 42 "too_many_tokens",
        /// The service token is over.
        TokenOver = 43 "token_over",
        /// There is no service token with this number.
        UnknownServiceToken = 44 "unknown_service_token",
        /// Access tokens are signed with a secret, which its operator changes.
        SecretSigns = 45 "secret_signs",
        /// There are as many signing keys as there may be.
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
            assert_eq!(AuditEvent::from_number(event.number()), Some(*event));
            assert_eq!(AuditEvent::from_text(event.as_str()), Some(*event));
        }
        for field in AuditField::ALL {
            assert_eq!(AuditField::from_number(field.number()), Some(*field));
            assert_eq!(AuditField::from_text(field.as_str()), Some(*field));
        }
        for refusal in AuditRefusal::ALL {
            assert_eq!(AuditRefusal::from_number(refusal.number()), Some(*refusal));
            assert_eq!(AuditRefusal::from_text(refusal.as_str()), Some(*refusal));
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
