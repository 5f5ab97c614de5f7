//! The frozen forms of accounts.

use crate::domain::account::{Account, AccountOrigin, CredentialHash, CustomerAccount, ReservedEmail, Role};
use crate::domain::hash_form::HashCount;
use crate::domain::nickname::Nickname;
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::mail::{locale, locale_number};
use super::{Record, V1, account_id, email, open, open_appended};

const V2: u8 = 2;
const V3: u8 = 3;
const V4: u8 = 4;
const V5: u8 = 5;

#[derive(Serialize, Deserialize)]
struct AccountV1 {
    id: u64,
    email: String,
    nickname: String,
    password_hash: String,
    passphrase_hash: String,
    customer_account: String,
    admin: bool,
    locked: bool,
    email_verified: bool,
    created_at: i64,
    session_epoch: u64,
    revision: u64,
}

/// Adds the pending address and the language in the second version, and whether the password is known to be compromised in the third.
#[derive(Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the bytes of a flag are frozen, and none excludes another")]
struct AccountV3 {
    id: u64,
    email: String,
    nickname: String,
    password_hash: String,
    passphrase_hash: String,
    customer_account: String,
    admin: bool,
    locked: bool,
    email_verified: bool,
    created_at: i64,
    session_epoch: u64,
    revision: u64,
    pending_email: Option<String>,
    locale: u8,
    password_compromised: bool,
}

#[derive(Serialize, Deserialize)]
struct ReservedV1 {
    email: String,
    verified: bool,
    until: i64,
}

/// Lets an account have no password or no passphrase. Adds when they were set, who created the account, and the address to which it
/// can go back. The fifth version adds whether the account was imported.
#[derive(Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the bytes of a flag are frozen, and none excludes another")]
pub(crate) struct AccountV5 {
    id: u64,
    email: String,
    nickname: String,
    password_hash: Option<String>,
    password_revision: u64,
    passphrase_hash: Option<String>,
    passphrase_revision: u64,
    customer_account: String,
    admin: bool,
    made_by_admin: bool,
    locked: bool,
    email_verified: bool,
    created_at: i64,
    session_epoch: u64,
    revision: u64,
    pending_email: Option<String>,
    reserved_email: Option<ReservedV1>,
    locale: u8,
    password_compromised: bool,
    imported: bool,
}

impl From<AccountV1> for AccountV3 {
    /// The first version sent no mails, so the language is English and no address is pending. It checked no list of breached passwords.
    fn from(v1: AccountV1) -> Self {
        Self {
            id: v1.id,
            email: v1.email,
            nickname: v1.nickname,
            password_hash: v1.password_hash,
            passphrase_hash: v1.passphrase_hash,
            customer_account: v1.customer_account,
            admin: v1.admin,
            locked: v1.locked,
            email_verified: v1.email_verified,
            created_at: v1.created_at,
            session_epoch: v1.session_epoch,
            revision: v1.revision,
            pending_email: None,
            locale: locale_number(crate::Locale::En),
            password_compromised: false,
        }
    }
}

impl From<AccountV3> for AccountV5 {
    /// It is not known when the secrets were set or who created the account. Revision 0 means that no link undoes the secrets.
    fn from(v3: AccountV3) -> Self {
        Self {
            id: v3.id,
            email: v3.email,
            nickname: v3.nickname,
            password_hash: Some(v3.password_hash),
            password_revision: 0,
            passphrase_hash: Some(v3.passphrase_hash),
            passphrase_revision: 0,
            customer_account: v3.customer_account,
            admin: v3.admin,
            made_by_admin: false,
            locked: v3.locked,
            email_verified: v3.email_verified,
            created_at: v3.created_at,
            session_epoch: v3.session_epoch,
            revision: v3.revision,
            pending_email: v3.pending_email,
            reserved_email: None,
            locale: v3.locale,
            password_compromised: v3.password_compromised,
            imported: false,
        }
    }
}

impl Record for Account {
    const KIND: &'static str = "account";
    const VERSION: u8 = V5;
    const APPENDED_SINCE: u8 = V4;
    type Frozen = AccountV5;

    fn freeze(&self) -> AccountV5 {
        let phc = |hash: &Option<CredentialHash>| hash.as_ref().map(|hash| hash.as_phc().to_owned());
        AccountV5 {
            id: self.id.get(),
            email: self.email.as_str().to_owned(),
            nickname: self.nickname.as_str().to_owned(),
            password_hash: phc(&self.password_hash),
            password_revision: self.password_revision,
            passphrase_hash: phc(&self.passphrase_hash),
            passphrase_revision: self.passphrase_revision,
            customer_account: self.customer_account.as_str().to_owned(),
            admin: self.role == Role::Admin,
            made_by_admin: self.origin == AccountOrigin::Admin,
            locked: self.locked,
            email_verified: self.email_verified,
            created_at: self.created_at.as_millis(),
            session_epoch: self.session_epoch,
            revision: self.revision,
            pending_email: self.pending_email.as_ref().map(|email| email.as_str().to_owned()),
            reserved_email: self.reserved_email.as_ref().map(|reserved| ReservedV1 {
                email: reserved.email.as_str().to_owned(),
                verified: reserved.verified,
                until: reserved.until.as_millis(),
            }),
            locale: locale_number(self.locale),
            password_compromised: self.password_compromised,
            imported: self.origin == AccountOrigin::Import,
        }
    }

    fn thaw(frozen: AccountV5) -> Result<Self, &'static str> {
        let nickname = Nickname::parse(&frozen.nickname).map_err(|_| "its nickname is not one")?;
        if nickname.as_str() != frozen.nickname {
            return Err("its nickname is not in its normal form");
        }
        Ok(Self {
            id: account_id(frozen.id)?,
            email: email(&frozen.email)?,
            nickname,
            password_hash: frozen.password_hash.map(CredentialHash::from_phc),
            password_revision: frozen.password_revision,
            passphrase_hash: frozen.passphrase_hash.map(CredentialHash::from_phc),
            passphrase_revision: frozen.passphrase_revision,
            customer_account: CustomerAccount::parse(&frozen.customer_account)
                .map_err(|_| "its customer account is not one")?,
            role: if frozen.admin { Role::Admin } else { Role::User },
            origin: match (frozen.imported, frozen.made_by_admin) {
                (true, _) => AccountOrigin::Import,
                (false, true) => AccountOrigin::Admin,
                (false, false) => AccountOrigin::Owner,
            },
            locked: frozen.locked,
            email_verified: frozen.email_verified,
            pending_email: frozen.pending_email.as_deref().map(email).transpose()?,
            reserved_email: frozen.reserved_email.as_ref().map(reserved).transpose()?,
            locale: locale(frozen.locale)?,
            password_compromised: frozen.password_compromised,
            created_at: Timestamp::from_millis(frozen.created_at),
            session_epoch: frozen.session_epoch,
            revision: frozen.revision,
        })
    }

    fn upgrade(version: u8, body: &[u8]) -> Result<AccountV5, &'static str> {
        match version {
            V1 => Ok(AccountV3::from(open::<AccountV1>(body)?).into()),
            V2 | V3 => Ok(open_appended::<AccountV3>(body, V3 - version)?.into()),
            _ => Err("unknown version byte"),
        }
    }
}

fn reserved(frozen: &ReservedV1) -> Result<ReservedEmail, &'static str> {
    let until = Timestamp::from_millis(frozen.until);
    Ok(ReservedEmail { email: email(&frozen.email)?, verified: frozen.verified, until })
}

#[derive(Serialize, Deserialize)]
pub(crate) struct HashCountV1 {
    now: u64,
    ever: u64,
}

impl Record for HashCount {
    const KIND: &'static str = "hash count";
    type Frozen = HashCountV1;

    fn freeze(&self) -> HashCountV1 {
        HashCountV1 { now: self.now, ever: self.ever }
    }

    fn thaw(HashCountV1 { now, ever }: HashCountV1) -> Result<Self, &'static str> {
        Ok(Self { now, ever })
    }
}
