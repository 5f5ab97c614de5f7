//! The frozen forms of one-time tokens. A token itself is never stored, only its hash.

use doorward_actors::ports::StoredToken;
use doorward_actors::{EmailKey, NewToken, Timestamp, TokenHash, TokenPurpose};
use serde::{Deserialize, Serialize};

use super::{Record, account_id};

/// Purposes are stored under the numbers that the domain gives them once and for all.
#[derive(Serialize, Deserialize)]
pub(in crate::store) struct TokenV1 {
    account: u64,
    hash: [u8; 32],
    purpose: u8,
    address: String,
    issued_at: i64,
    expires_at: i64,
}

impl Record for StoredToken {
    const KIND: &'static str = "one-time token";
    type Frozen = TokenV1;

    fn freeze(&self) -> TokenV1 {
        TokenV1 {
            account: self.account.get(),
            hash: *self.token.hash.as_bytes(),
            purpose: self.token.purpose.number(),
            address: self.token.address.as_str().to_owned(),
            issued_at: self.token.issued_at.as_millis(),
            expires_at: self.token.expires_at.as_millis(),
        }
    }

    fn thaw(frozen: TokenV1) -> Result<Self, &'static str> {
        Ok(Self {
            account: account_id(frozen.account)?,
            token: NewToken {
                hash: TokenHash::from_bytes(frozen.hash),
                purpose: TokenPurpose::from_number(frozen.purpose).ok_or("unknown purpose")?,
                address: EmailKey::from_stored(frozen.address).ok_or("its address is not one")?,
                issued_at: Timestamp::from_millis(frozen.issued_at),
                expires_at: Timestamp::from_millis(frozen.expires_at),
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(in crate::store) struct TokenHashV1([u8; 32]);

/// The entry of the index of an account's tokens.
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
