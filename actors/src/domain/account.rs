//! Accounts and the changes that can be made to them.

use std::fmt;
use std::num::NonZeroU64;

use super::session::Acting;
use super::{audit::AuditField, email::Email, mail::Locale, nickname::Nickname, time::Timestamp};

/// The number of an account: positive and never assigned twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(NonZeroU64);

impl AccountId {
    /// Returns the id with this number; `None` for zero, which no account has.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number.
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
    /// Returns the role as the API writes it: `user` or `admin`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

/// Who made an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountOrigin {
    /// Its owner, by registering, or the operator.
    Owner,
    /// An administrator, for its owner.
    Admin,
    /// An import from another system.
    Import,
}

impl AccountOrigin {
    /// Returns the origin as exports write it: `owner`, `admin` or `import`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Import => "import",
        }
    }
}

/// The customer plan of an account: a word that Doorward keeps for other services and does not interpret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerAccount(String);

/// The error for a text that is not a customer plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a customer account is 1 to 64 letters, digits, spaces, dots, dashes or underscores")]
pub struct CustomerAccountError;

impl CustomerAccount {
    /// Returns the plan of an account that has none.
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

    /// Returns whether this is the plan of an account that has none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0 == "none"
    }

    /// Returns the plan as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A salted hash of a password or passphrase, in PHC string format.
/// `Debug` hides it, because a leaked hash can be guessed offline.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialHash(String);

impl CredentialHash {
    /// Wraps a hash in PHC string format.
    #[must_use]
    pub fn from_phc(phc: String) -> Self {
        Self(phc)
    }

    /// Returns the PHC string. Only the hasher and the store use it.
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
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// Its address, unique by key.
    pub email: Email,
    /// Its public name, unique by key.
    pub nickname: Nickname,
    /// The hash of its password; `None` if the account has no usable password, because it was made unusable.
    pub password_hash: Option<CredentialHash>,
    /// The account revision at which the password was set.
    pub password_revision: u64,
    /// The hash of its recovery passphrase; `None` if the account has no usable one.
    pub passphrase_hash: Option<CredentialHash>,
    /// The account revision at which the passphrase was set.
    pub passphrase_revision: u64,
    /// Its customer plan.
    pub customer_account: CustomerAccount,
    /// Its role.
    pub role: Role,
    /// Who made it.
    pub origin: AccountOrigin,
    /// A locked account cannot log in and has no live session.
    pub locked: bool,
    /// Whether its owner has shown that mail to `email` arrives.
    pub email_verified: bool,
    /// The next address, once its owner has shown that mail there arrives (S33). It need not be unique until then.
    pub pending_email: Option<Email>,
    /// The address before the changes of address that can still be undone. It stays reserved for this account.
    pub reserved_email: Option<ReservedEmail>,
    /// The language of its mails.
    pub locale: Locale,
    /// Whether its password was on the list of breached passwords when it was last presented. A new password resets it.
    pub password_compromised: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// The number of times that all its sessions were ended at once.
    /// A session is alive only while it has this number, so the commit that increments it ends all sessions on every node,
    /// even if an actor still has them in memory.
    pub session_epoch: u64,
    /// The number of changes of this record.
    /// The store refuses a change that was decided on an older revision, so no decision rests on a credential that was replaced in the
    /// meantime.
    pub revision: u64,
}

/// An address to which an account can go back: the one before the earliest change that can still be undone,
/// regardless of later changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedEmail {
    /// The address.
    pub email: Email,
    /// Whether it was verified.
    pub verified: bool,
    /// When the change can no longer be undone and the address is free for others.
    pub until: Timestamp,
}

impl Account {
    /// Builds an account of its owner, without secrets and with the default for everything else.
    pub(crate) fn new(id: AccountId, email: Email, nickname: Nickname, role: Role, created_at: Timestamp) -> Self {
        Self {
            id,
            email,
            nickname,
            password_hash: None,
            password_revision: 0,
            passphrase_hash: None,
            passphrase_revision: 0,
            customer_account: CustomerAccount::none(),
            role,
            origin: AccountOrigin::Owner,
            locked: false,
            email_verified: false,
            pending_email: None,
            reserved_email: None,
            locale: Locale::default(),
            password_compromised: false,
            created_at,
            session_epoch: 0,
            revision: 0,
        }
    }

    /// Returns the address before the changes of address that can still be undone at this time.
    #[must_use]
    pub fn reserved_at(&self, now: Timestamp) -> Option<&ReservedEmail> {
        self.reserved_email.as_ref().filter(|reserved| now < reserved.until)
    }

    /// Returns whether the account must be verified by its owner where verification is required: it is not verified, and nobody made it
    /// on purpose for its owner. Such an account cannot log in, gives way to a newer registration and is removed in the end.
    #[must_use]
    pub fn awaits_verification(&self) -> bool {
        !self.email_verified && self.origin == AccountOrigin::Owner
    }

    /// Returns whether this account can act as an administrator. The last such account cannot be removed, locked or demoted (S58).
    #[must_use]
    pub fn is_active_admin(&self) -> bool {
        self.role == Role::Admin && !self.locked
    }
}

/// An account that is to be created.
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
    /// What was chosen of its other fields.
    pub profile: ProfileChange,
    /// When it is created.
    pub created_at: Timestamp,
    /// The acting session; `None` for owners and the operator.
    pub acting: Option<Acting>,
    /// How its role is determined.
    pub role: NewRole,
    /// Whether it may replace an account with the same address that nobody uses: an ordinary user that was never verified, never logged
    /// in to and is not locked.
    /// The same commit deletes that account, so that nobody can squat on an address.
    pub replaces_unverified: bool,
}

impl NewAccount {
    /// Builds the account with the number and the role that the store gave it.
    pub(crate) fn into_account(self, id: AccountId, role: Role) -> Account {
        let mut account = Account {
            password_hash: Some(self.password_hash),
            passphrase_hash: Some(self.passphrase_hash),
            origin: if self.acting.is_some() { AccountOrigin::Admin } else { AccountOrigin::Owner },
            ..Account::new(id, self.email, self.nickname, role, self.created_at)
        };
        self.profile.apply(&mut account);
        account
    }
}

/// How the role of a new account is determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewRole {
    /// This role.
    Exactly(Role),
    /// Administrator if the data directory never had one, otherwise user.
    /// The store decides this atomically with the write, so two simultaneous first registrations create only one administrator.
    AdminIfFirst,
}

/// The period in which a change of address can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undoable {
    /// When the change is made.
    pub at: Timestamp,
    /// When it can no longer be undone.
    pub until: Timestamp,
}

/// The values of the fields that need neither proof nor a check against other accounts. A new account has the default for `None`, and
/// a change leaves the field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileChange {
    /// The customer plan; [`CustomerAccount::none`] by default.
    pub customer_account: Option<CustomerAccount>,
    /// The language of its mails; English by default.
    pub locale: Option<Locale>,
}

impl ProfileChange {
    /// Returns the fields of this account that the change modifies.
    fn fields(&self, account: &Account) -> impl Iterator<Item = AuditField> {
        let is_new = |new: bool, field| new.then_some(field);
        let plan = self.customer_account.as_ref().is_some_and(|new| *new != account.customer_account);
        let locale = self.locale.is_some_and(|new| new != account.locale);
        [is_new(plan, AuditField::CustomerAccount), is_new(locale, AuditField::Locale)].into_iter().flatten()
    }

    pub(crate) fn apply(&self, account: &mut Account) {
        if let Some(plan) = &self.customer_account {
            account.customer_account = plan.clone();
        }
        account.locale = self.locale.unwrap_or(account.locale);
    }
}

/// A change to an account; `None` leaves a field unchanged.
#[derive(Debug, Clone, Default)]
pub struct AccountChange {
    /// A new address.
    pub email: Option<Email>,
    /// With a new address: the period in which the change can be undone. `None` also ends the period of earlier changes.
    pub undoable: Option<Undoable>,
    /// A new public name.
    pub nickname: Option<Nickname>,
    /// The hash of a new password; the inner `None` makes the password unusable.
    /// The new password was checked, so it is not compromised unless `password_compromised` says so.
    pub password_hash: Option<Option<CredentialHash>>,
    /// The hash of the same password with other cost parameters.
    pub renewed_hash: Option<CredentialHash>,
    /// The hash of a new passphrase; the inner `None` makes the passphrase unusable.
    pub passphrase_hash: Option<Option<CredentialHash>>,
    /// New values of other fields.
    pub profile: ProfileChange,
    /// A new role.
    pub role: Option<Role>,
    /// Locks the account if true, unlocks it if false.
    pub locked: Option<bool>,
    /// Whether the address is verified. Applied after a new `email` in the same change.
    pub email_verified: Option<bool>,
    /// Sets or removes the pending address.
    pub pending_email: Option<Option<Email>>,
    /// Whether the password is known to be compromised. Applied after a new `password_hash` in the same change.
    pub password_compromised: Option<bool>,
}

impl AccountChange {
    /// Returns the fields of this account that the change modifies. A credential always counts as modified.
    #[must_use]
    pub fn fields(&self, account: &Account) -> Vec<AuditField> {
        let is_new = |new: bool, field| new.then_some(field);
        let who = [
            is_new(self.email.as_ref().is_some_and(|new| *new != account.email), AuditField::Email),
            is_new(
                self.pending_email.as_ref().is_some_and(|new| *new != account.pending_email),
                AuditField::PendingEmail,
            ),
            is_new(self.nickname.as_ref().is_some_and(|new| *new != account.nickname), AuditField::Nickname),
            is_new(self.password_hash.is_some() || self.renewed_hash.is_some(), AuditField::Password),
            is_new(self.passphrase_hash.is_some(), AuditField::Passphrase),
        ];
        let powers = [
            is_new(self.role.is_some_and(|new| new != account.role), AuditField::Role),
            is_new(self.locked.is_some_and(|new| new != account.locked), AuditField::Lock),
        ];
        let (who, powers) = (who.into_iter().flatten(), powers.into_iter().flatten());
        who.chain(self.profile.fields(account)).chain(powers).collect()
    }

    /// Returns the account after this change. The store calls it, so that every engine applies a change in the same way.
    /// A new address counts as unverified, a locked account has no pending address, the revision increases, and the session epoch
    /// increases if `ends_sessions` is true.
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
        self.profile.apply(&mut after);
        after.email_verified = self.email_verified.unwrap_or(after.email_verified);
        if let Some(pending) = &self.pending_email {
            after.pending_email.clone_from(pending);
        }
        after.password_compromised = self.password_compromised.unwrap_or(after.password_compromised);
        after.role = self.role.unwrap_or(after.role);
        after.locked = self.locked.unwrap_or(after.locked);
        if after.locked {
            after.pending_email = None;
        }
        after.session_epoch += u64::from(ends_sessions);
        after
    }

    /// Returns the address that stays reserved for the account after a change of address: the one before the earliest change that can
    /// still be undone, unless the account goes back to it.
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
