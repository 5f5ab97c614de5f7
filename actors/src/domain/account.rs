//! Accounts and what may be changed about them.

use std::fmt;
use std::num::NonZeroU64;

use super::session::Acting;
use super::{audit::AuditField, email::Email, mail::Locale, nickname::Nickname, time::Timestamp};

/// The number of an account: positive, given once, never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(NonZeroU64);

impl AccountId {
    /// An account number; `None` for zero, which no account has.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Manages itself.
    User,
    /// Manages every account.
    Admin,
}

impl Role {
    /// The role as it travels: `user` or `admin`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

/// The customer plan of an account, a word that Doorward keeps for other services and gives no meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerAccount(String);

/// Why a text is not a customer plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a customer account is 1 to 64 letters, digits, spaces, dots, dashes or underscores")]
pub struct CustomerAccountError;

impl CustomerAccount {
    /// The plan of an account that has none.
    #[must_use]
    pub fn none() -> Self {
        Self("none".to_owned())
    }

    /// Parses a plan: 1 to 64 ASCII letters, digits, spaces, dots, dashes or underscores.
    pub fn parse(typed: &str) -> Result<Self, CustomerAccountError> {
        let typed = typed.trim();
        let fits = |b: u8| b.is_ascii_alphanumeric() || b" ._-".contains(&b);
        if typed.is_empty() || typed.len() > 64 || !typed.bytes().all(fits) {
            return Err(CustomerAccountError);
        }
        Ok(Self(typed.to_owned()))
    }

    /// Whether this is the plan of an account that has none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0 == "none"
    }

    /// The plan as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A salted hash of a password or passphrase, in PHC string format. Not printable: a leaked hash can be guessed offline.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialHash(String);

impl CredentialHash {
    /// A hash in PHC string format.
    #[must_use]
    pub fn from_phc(phc: String) -> Self {
        Self(phc)
    }

    /// The PHC string, for the hasher and the store alone.
    #[must_use]
    pub fn as_phc(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CredentialHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialHash(***)")
    }
}

/// An account as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says something of its own, and none excludes another")]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// Its address, unique by key.
    pub email: Email,
    /// Its public name, unique by key.
    pub nickname: Nickname,
    /// The hash of its password; `None` if it has none that opens anything, because it was made unusable.
    pub password_hash: Option<CredentialHash>,
    /// At which revision the password was set.
    pub password_revision: u64,
    /// The hash of its recovery passphrase; `None` as with the password.
    pub passphrase_hash: Option<CredentialHash>,
    /// At which revision the passphrase was set.
    pub passphrase_revision: u64,
    /// Its customer plan.
    pub customer_account: CustomerAccount,
    /// What it may do.
    pub role: Role,
    /// Whether an administrator made it for somebody else. Such an account never gives way to a second registration.
    pub made_by_admin: bool,
    /// A locked account cannot log in and has no live session.
    pub locked: bool,
    /// Whether its owner showed that mail to `email` arrives.
    pub email_verified: bool,
    /// The address it will have once its owner shows that mail there arrives (S33). Not unique until then.
    pub pending_email: Option<Email>,
    /// The address that it had before the changes of address that can still be undone. It stays the account's own.
    pub reserved_email: Option<ReservedEmail>,
    /// The language of its mails.
    pub locale: Locale,
    /// Whether its password was found on the list of breached ones when it was last shown; until there is another one.
    pub password_compromised: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Counts the times all its sessions were ended at once. A session is alive only while it carries this number, so
    /// the one commit that raises it ends them everywhere, whatever an actor still remembers.
    pub session_epoch: u64,
    /// Counts every change of this record. A change that was decided on an older revision is refused, so nothing is
    /// decided on a credential that was replaced meanwhile.
    pub revision: u64,
}

/// An address that an account can go back to: the one before the earliest change that can still be undone, whatever came
/// after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedEmail {
    /// The address.
    pub email: Email,
    /// Whether it was verified.
    pub verified: bool,
    /// When the change can no longer be undone, and others may have the address.
    pub until: Timestamp,
}

impl Account {
    /// The address before the changes of address that can still be undone at this time.
    #[must_use]
    pub fn reserved_at(&self, now: Timestamp) -> Option<&ReservedEmail> {
        self.reserved_email.as_ref().filter(|reserved| now < reserved.until)
    }

    /// Whether this account can act as an administrator: the last such one cannot vanish (S58).
    #[must_use]
    pub fn is_active_admin(&self) -> bool {
        self.role == Role::Admin && !self.locked
    }
}

/// An account about to be made.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its address.
    pub email: Email,
    /// Its public name.
    pub nickname: Nickname,
    /// The hash of its password.
    pub password_hash: CredentialHash,
    /// The hash of its recovery passphrase.
    pub passphrase_hash: CredentialHash,
    /// Its customer plan.
    pub customer_account: CustomerAccount,
    /// The language of its mails.
    pub locale: Locale,
    /// When it is made.
    pub created_at: Timestamp,
    /// In whose name it is made; `None` for owners and the operator.
    pub acting: Option<Acting>,
    /// How its role is found.
    pub role: NewRole,
    /// Whether it may take the place of an account with the same address that nobody took up: of an ordinary user, never
    /// verified, never logged in to and not locked. That one is deleted in the same commit, so that nobody can squat on an
    /// address.
    pub replaces_unverified: bool,
}

/// How the role of a new account is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewRole {
    /// This role.
    Exactly(Role),
    /// Administrator if the data directory never had one, else user. The store decides it atomically with the write, so
    /// two first registrations make one administrator.
    AdminIfFirst,
}

/// For how long a change of address can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undoable {
    /// When the change is made.
    pub at: Timestamp,
    /// When it can no longer be undone.
    pub until: Timestamp,
}

/// What to change about an account; `None` leaves a field alone.
#[derive(Debug, Clone, Default)]
pub struct AccountChange {
    /// A new address.
    pub email: Option<Email>,
    /// With a new address: until when that can be undone. `None` ends what could be undone before as well.
    pub undoable: Option<Undoable>,
    /// A new public name.
    pub nickname: Option<Nickname>,
    /// A new password, hashed, or none that opens anything. It was judged, so it is not compromised unless
    /// `password_compromised` says so.
    pub password_hash: Option<Option<CredentialHash>>,
    /// The same password, hashed at another cost.
    pub renewed_hash: Option<CredentialHash>,
    /// A new passphrase, hashed, or none that opens anything.
    pub passphrase_hash: Option<Option<CredentialHash>>,
    /// A new customer plan.
    pub customer_account: Option<CustomerAccount>,
    /// A new role.
    pub role: Option<Role>,
    /// Lock or unlock it.
    pub locked: Option<bool>,
    /// Whether the address is verified. After a new `email` in the same change.
    pub email_verified: Option<bool>,
    /// Set or drop the pending address.
    pub pending_email: Option<Option<Email>>,
    /// A new language.
    pub locale: Option<Locale>,
    /// Whether the password is known to be compromised. After a new `password_hash` in the same change.
    pub password_compromised: Option<bool>,
}

impl AccountChange {
    /// What of this account it makes another. A credential is taken for a new one whatever it was.
    #[must_use]
    pub fn fields(&self, account: &Account) -> Vec<AuditField> {
        let is_new = |new: bool, field| new.then_some(field);
        [
            is_new(self.email.as_ref().is_some_and(|new| *new != account.email), AuditField::Email),
            is_new(
                self.pending_email.as_ref().is_some_and(|new| *new != account.pending_email),
                AuditField::PendingEmail,
            ),
            is_new(self.nickname.as_ref().is_some_and(|new| *new != account.nickname), AuditField::Nickname),
            is_new(self.password_hash.is_some() || self.renewed_hash.is_some(), AuditField::Password),
            is_new(self.passphrase_hash.is_some(), AuditField::Passphrase),
            is_new(
                self.customer_account.as_ref().is_some_and(|new| *new != account.customer_account),
                AuditField::CustomerAccount,
            ),
            is_new(self.locale.is_some_and(|new| new != account.locale), AuditField::Locale),
            is_new(self.role.is_some_and(|new| new != account.role), AuditField::Role),
            is_new(self.locked.is_some_and(|new| new != account.locked), AuditField::Lock),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The account after this change. The store calls it, so that every engine applies a change alike: a new address
    /// counts as unverified, a locked account has no address that waits to be confirmed, the revision rises, and the session
    /// epoch rises with `ends_sessions`.
    #[must_use]
    pub fn apply(&self, account: &Account, ends_sessions: bool) -> Account {
        let mut after = account.clone();
        after.revision += 1;
        if let Some(email) = &self.email {
            if email.key() != account.email.key() {
                after.email_verified = false;
                after.reserved_email = self.reserves(account, email);
            }
            after.email = email.clone();
        }
        if let Some(nickname) = &self.nickname {
            after.nickname = nickname.clone();
        }
        if let Some(hash) = &self.password_hash {
            after.password_hash.clone_from(hash);
            after.password_revision = after.revision;
            after.password_compromised = false;
        }
        if let Some(hash) = &self.renewed_hash {
            after.password_hash = Some(hash.clone());
        }
        if let Some(hash) = &self.passphrase_hash {
            after.passphrase_hash.clone_from(hash);
            after.passphrase_revision = after.revision;
        }
        if let Some(plan) = &self.customer_account {
            after.customer_account = plan.clone();
        }
        after.email_verified = self.email_verified.unwrap_or(after.email_verified);
        if let Some(pending) = &self.pending_email {
            after.pending_email.clone_from(pending);
        }
        after.locale = self.locale.unwrap_or(after.locale);
        after.password_compromised = self.password_compromised.unwrap_or(after.password_compromised);
        after.role = self.role.unwrap_or(after.role);
        after.locked = self.locked.unwrap_or(after.locked);
        if after.locked {
            after.pending_email = None;
        }
        after.session_epoch += u64::from(ends_sessions);
        after
    }

    /// The address that stays the account's own once it has another one: the one before the earliest change that can still
    /// be undone, unless the account goes back to it.
    fn reserves(&self, account: &Account, new: &Email) -> Option<ReservedEmail> {
        let undoable = self.undoable?;
        let first = match &account.reserved_email {
            Some(reserved) if undoable.at < reserved.until => reserved.clone(),
            _ => {
                ReservedEmail { email: account.email.clone(), verified: account.email_verified, until: undoable.until }
            }
        };
        (first.email.key() != new.key()).then_some(first)
    }
}
