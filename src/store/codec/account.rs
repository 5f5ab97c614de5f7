//! The frozen forms of accounts.

use doorward_actors::{Account, CredentialHash, CustomerAccount, Nickname, Role, Timestamp};
use serde::{Deserialize, Serialize};

use super::mail::{locale, locale_number};
use super::{Record, V1, account_id, email, open};

const V2: u8 = 2;
const V3: u8 = 3;

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

/// Adds the pending address and the language.
#[derive(Serialize, Deserialize)]
struct AccountV2 {
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
}

/// Adds whether the password is known to be compromised.
#[derive(Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the bytes of a flag are frozen, and none excludes another")]
pub(in crate::store) struct AccountV3 {
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

impl From<AccountV1> for AccountV2 {
    /// There were no mails, so none was in another language and no address waited for one.
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
            locale: locale_number(doorward_actors::Locale::En),
        }
    }
}

impl From<AccountV2> for AccountV3 {
    /// Nobody had looked.
    fn from(v2: AccountV2) -> Self {
        Self {
            id: v2.id,
            email: v2.email,
            nickname: v2.nickname,
            password_hash: v2.password_hash,
            passphrase_hash: v2.passphrase_hash,
            customer_account: v2.customer_account,
            admin: v2.admin,
            locked: v2.locked,
            email_verified: v2.email_verified,
            created_at: v2.created_at,
            session_epoch: v2.session_epoch,
            revision: v2.revision,
            pending_email: v2.pending_email,
            locale: v2.locale,
            password_compromised: false,
        }
    }
}

impl Record for Account {
    const KIND: &'static str = "account";
    const VERSION: u8 = V3;
    type Frozen = AccountV3;

    fn freeze(&self) -> AccountV3 {
        AccountV3 {
            id: self.id.get(),
            email: self.email.as_str().to_owned(),
            nickname: self.nickname.as_str().to_owned(),
            password_hash: self.password_hash.as_phc().to_owned(),
            passphrase_hash: self.passphrase_hash.as_phc().to_owned(),
            customer_account: self.customer_account.as_str().to_owned(),
            admin: self.role == Role::Admin,
            locked: self.locked,
            email_verified: self.email_verified,
            created_at: self.created_at.as_millis(),
            session_epoch: self.session_epoch,
            revision: self.revision,
            pending_email: self.pending_email.as_ref().map(|email| email.as_str().to_owned()),
            locale: locale_number(self.locale),
            password_compromised: self.password_compromised,
        }
    }

    fn thaw(frozen: AccountV3) -> Result<Self, &'static str> {
        let nickname = Nickname::parse(&frozen.nickname).map_err(|_| "its nickname is not one")?;
        if nickname.as_str() != frozen.nickname {
            return Err("its nickname is not in its normal form");
        }
        Ok(Self {
            id: account_id(frozen.id)?,
            email: email(&frozen.email)?,
            nickname,
            password_hash: CredentialHash::from_phc(frozen.password_hash),
            passphrase_hash: CredentialHash::from_phc(frozen.passphrase_hash),
            customer_account: CustomerAccount::parse(&frozen.customer_account)
                .map_err(|_| "its customer account is not one")?,
            role: if frozen.admin { Role::Admin } else { Role::User },
            locked: frozen.locked,
            email_verified: frozen.email_verified,
            pending_email: frozen.pending_email.as_deref().map(email).transpose()?,
            locale: locale(frozen.locale)?,
            password_compromised: frozen.password_compromised,
            created_at: Timestamp::from_millis(frozen.created_at),
            session_epoch: frozen.session_epoch,
            revision: frozen.revision,
        })
    }

    fn upgrade(version: u8, body: &[u8]) -> Result<AccountV3, &'static str> {
        match version {
            V1 => Ok(AccountV2::from(open::<AccountV1>(body)?).into()),
            V2 => Ok(open::<AccountV2>(body)?.into()),
            _ => Err("unknown version byte"),
        }
    }
}
