//! The frozen forms of one-time tokens. A token itself is never stored, only its hash.

use crate::domain::email::EmailKey;
use crate::domain::one_time::{NewToken, TokenHash, TokenPurpose};
use crate::domain::time::Timestamp;
use crate::store::{StoredToken, UsedToken};
use serde::{Deserialize, Serialize};

use super::{Record, V1, account_id, open};

const V2: u8 = 2;

/// Purposes are stored under the permanent numbers that the domain assigns.
#[derive(Serialize, Deserialize)]
struct TokenV1 {
    account: u64,
    hash: [u8; 32],
    purpose: u8,
    address: String,
    issued_at: i64,
    expires_at: i64,
}

/// Adds the revision of the account with which the token was issued.
#[derive(Serialize, Deserialize)]
pub(crate) struct TokenV2 {
    account: u64,
    revision: u64,
    hash: [u8; 32],
    purpose: u8,
    address: String,
    issued_at: i64,
    expires_at: i64,
}

impl From<TokenV1> for TokenV2 {
    /// Revision 1 means that every secret set since this version counts as set after the token was issued.
    fn from(v1: TokenV1) -> Self {
        Self {
            account: v1.account,
            revision: 1,
            hash: v1.hash,
            purpose: v1.purpose,
            address: v1.address,
            issued_at: v1.issued_at,
            expires_at: v1.expires_at,
        }
    }
}

impl Record for StoredToken {
    const KIND: &'static str = "one-time token";
    const VERSION: u8 = V2;
    type Frozen = TokenV2;

    fn freeze(&self) -> TokenV2 {
        TokenV2 {
            account: self.account.get(),
            revision: self.revision,
            hash: *self.token.hash.as_bytes(),
            purpose: self.token.purpose.number(),
            address: self.token.address.as_str().to_owned(),
            issued_at: self.token.issued_at.as_millis(),
            expires_at: self.token.expires_at.as_millis(),
        }
    }

    fn thaw(frozen: TokenV2) -> Result<Self, &'static str> {
        Ok(Self {
            account: account_id(frozen.account)?,
            revision: frozen.revision,
            token: NewToken {
                hash: TokenHash::from_bytes(frozen.hash),
                purpose: TokenPurpose::from_number(frozen.purpose).ok_or("unknown purpose")?,
                address: EmailKey::from_stored(frozen.address).ok_or("its address is not one")?,
                issued_at: Timestamp::from_millis(frozen.issued_at),
                expires_at: Timestamp::from_millis(frozen.expires_at),
            },
        })
    }

    fn upgrade(version: u8, body: &[u8]) -> Result<TokenV2, &'static str> {
        match version {
            V1 => Ok(open::<TokenV1>(body)?.into()),
            _ => Err("unknown version byte"),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct TokenHashV1([u8; 32]);

/// The value of an entry in the index of an account's tokens.
impl Record for TokenHash {
    const KIND: &'static str = "token index";
    type Frozen = TokenHashV1;

    fn freeze(&self) -> TokenHashV1 {
        TokenHashV1(*self.as_bytes())
    }

    fn thaw(frozen: TokenHashV1) -> Result<Self, &'static str> {
        Ok(Self::from_bytes(frozen.0))
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct UsedTokenV1 {
    hash: [u8; 32],
    account: u64,
    revision: u64,
    purpose: u8,
    at: i64,
}

impl Record for UsedToken {
    const KIND: &'static str = "used token";
    type Frozen = UsedTokenV1;

    fn freeze(&self) -> UsedTokenV1 {
        UsedTokenV1 {
            hash: *self.hash.as_bytes(),
            account: self.account.get(),
            revision: self.revision,
            purpose: self.purpose.number(),
            at: self.at.as_millis(),
        }
    }

    fn thaw(frozen: UsedTokenV1) -> Result<Self, &'static str> {
        Ok(Self {
            hash: TokenHash::from_bytes(frozen.hash),
            account: account_id(frozen.account)?,
            revision: frozen.revision,
            purpose: TokenPurpose::from_number(frozen.purpose).ok_or("unknown purpose")?,
            at: Timestamp::from_millis(frozen.at),
        })
    }
}
