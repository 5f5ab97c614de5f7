//! How records become bytes: the one place that names the encoder.
//!
//! A value is one version byte and then the frozen struct of that version. A struct here never changes after a release;
//! a new shape is a new struct under a new version byte, and the old one stays readable. The domain types are free to
//! change: what is read is parsed into them anew, so a record that breaks a rule of the domain is an error and never
//! travels on.

use std::net::IpAddr;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use doorward_actors::{
    Account, AccountId, CredentialHash, CustomerAccount, Email, Nickname, Role, Session, SessionId, Timestamp,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

mod audit;
#[cfg(test)]
mod golden;

/// The largest value, in bytes, its version byte included. The engine stores larger ones in files of their own, which
/// is slower and less tried.
pub(super) const MAX_VALUE_BYTES: usize = 4096;

/// The version byte of every record kind so far.
const V1: u8 = 1;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_VALUE_BYTES>> =
    bincode::config::standard().with_little_endian().with_variable_int_encoding().with_limit::<MAX_VALUE_BYTES>();

/// Why a record could not be read or written. It concerns this record alone: the store goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    /// The bytes are not a record of this kind.
    #[error("a stored {kind} record is not readable: {why}")]
    Unreadable {
        /// What it should have been.
        kind: &'static str,
        /// What is wrong with it; never a part of its content.
        why: &'static str,
    },
    /// The record is too large, or could not be read back.
    #[error("a {kind} record cannot be stored: {why}")]
    Unstorable {
        /// What it is.
        kind: &'static str,
        /// What is wrong with it; never a part of its content.
        why: &'static str,
    },
}

/// A kind of record: a domain type and its frozen form in storage.
pub(super) trait Record: Sized {
    /// Its name, for errors.
    const KIND: &'static str;
    /// The newest frozen form.
    type Frozen: Serialize + DeserializeOwned;

    /// The frozen form of this.
    fn freeze(&self) -> Self::Frozen;

    /// Checks a frozen form and makes it a domain value; the error names what is wrong with it.
    fn thaw(frozen: Self::Frozen) -> Result<Self, &'static str>;
}

/// Writes a record.
pub(super) fn encode<R: Record>(record: &R) -> Result<Vec<u8>, RecordError> {
    let unstorable = |why| RecordError::Unstorable { kind: R::KIND, why };
    let mut value = vec![V1];
    bincode::serde::encode_into_std_write(record.freeze(), &mut value, CONFIG)
        .map_err(|_| unstorable("it does not encode"))?;
    if value.len() > MAX_VALUE_BYTES {
        return Err(unstorable("it is too large"));
    }
    // What cannot be read back would be lost, so it is not written. This costs a microsecond next to a disk write.
    decode::<R>(&value).map_err(|_| unstorable("it does not read back"))?;
    Ok(value)
}

/// Reads a record.
pub(super) fn decode<R: Record>(value: &[u8]) -> Result<R, RecordError> {
    let unreadable = |why| RecordError::Unreadable { kind: R::KIND, why };
    let Some((&V1, body)) = value.split_first() else {
        return Err(unreadable("unknown version byte"));
    };
    let (frozen, read) = bincode::serde::decode_from_slice::<R::Frozen, _>(body, CONFIG)
        .map_err(|_| unreadable("it does not decode"))?;
    if read != body.len() {
        return Err(unreadable("bytes follow it"));
    }
    R::thaw(frozen).map_err(unreadable)
}

fn account_id(number: u64) -> Result<AccountId, &'static str> {
    AccountId::new(number).ok_or("account number zero")
}

#[derive(Serialize, Deserialize)]
pub(super) struct CounterV1(u64);

/// A count, a sequence number, or a flag.
impl Record for u64 {
    const KIND: &'static str = "counter";
    type Frozen = CounterV1;

    fn freeze(&self) -> CounterV1 {
        CounterV1(*self)
    }

    fn thaw(frozen: CounterV1) -> Result<Self, &'static str> {
        Ok(frozen.0)
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct TimestampV1(i64);

/// A last use or a last activity.
impl Record for Timestamp {
    const KIND: &'static str = "time";
    type Frozen = TimestampV1;

    fn freeze(&self) -> TimestampV1 {
        TimestampV1(self.as_millis())
    }

    fn thaw(frozen: TimestampV1) -> Result<Self, &'static str> {
        Ok(Self::from_millis(frozen.0))
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct AccountIdV1(u64);

/// The entry of an index.
impl Record for AccountId {
    const KIND: &'static str = "index";
    type Frozen = AccountIdV1;

    fn freeze(&self) -> AccountIdV1 {
        AccountIdV1(self.get())
    }

    fn thaw(frozen: AccountIdV1) -> Result<Self, &'static str> {
        account_id(frozen.0)
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct AccountV1 {
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

impl Record for Account {
    const KIND: &'static str = "account";
    type Frozen = AccountV1;

    fn freeze(&self) -> AccountV1 {
        AccountV1 {
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
        }
    }

    fn thaw(frozen: AccountV1) -> Result<Self, &'static str> {
        let email = Email::parse(&frozen.email).map_err(|_| "its address is not one")?;
        let nickname = Nickname::parse(&frozen.nickname).map_err(|_| "its nickname is not one")?;
        // Another spelling would have another key, and the index would no longer lead here.
        if email.as_str() != frozen.email || nickname.as_str() != frozen.nickname {
            return Err("its names are not in their normal form");
        }
        Ok(Self {
            id: account_id(frozen.id)?,
            email,
            nickname,
            password_hash: CredentialHash::from_phc(frozen.password_hash),
            passphrase_hash: CredentialHash::from_phc(frozen.passphrase_hash),
            customer_account: CustomerAccount::parse(&frozen.customer_account)
                .map_err(|_| "its customer account is not one")?,
            role: if frozen.admin { Role::Admin } else { Role::User },
            locked: frozen.locked,
            email_verified: frozen.email_verified,
            created_at: Timestamp::from_millis(frozen.created_at),
            session_epoch: frozen.session_epoch,
            revision: frozen.revision,
        })
    }
}

/// A client's address, with variants numbered in this order.
#[derive(Serialize, Deserialize)]
enum AddressV1 {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl From<IpAddr> for AddressV1 {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => Self::V6(v6.octets()),
        }
    }
}

impl From<AddressV1> for IpAddr {
    fn from(address: AddressV1) -> Self {
        match address {
            AddressV1::V4(octets) => octets.into(),
            AddressV1::V6(octets) => octets.into(),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct SessionV1 {
    id: [u8; 16],
    account: u64,
    epoch: u64,
    created_at: i64,
    expires_at: i64,
    last_active_at: i64,
    address: Option<AddressV1>,
    user_agent: Option<String>,
}

impl Record for Session {
    const KIND: &'static str = "session";
    type Frozen = SessionV1;

    fn freeze(&self) -> SessionV1 {
        SessionV1 {
            id: *self.id.as_bytes(),
            account: self.account.get(),
            epoch: self.epoch,
            created_at: self.created_at.as_millis(),
            expires_at: self.expires_at.as_millis(),
            last_active_at: self.last_active_at.as_millis(),
            address: self.address.map(AddressV1::from),
            user_agent: self.user_agent.clone(),
        }
    }

    fn thaw(frozen: SessionV1) -> Result<Self, &'static str> {
        Ok(Self {
            id: SessionId::from_bytes(frozen.id),
            account: account_id(frozen.account)?,
            epoch: frozen.epoch,
            created_at: Timestamp::from_millis(frozen.created_at),
            expires_at: Timestamp::from_millis(frozen.expires_at),
            last_active_at: Timestamp::from_millis(frozen.last_active_at),
            address: frozen.address.map(Into::into),
            user_agent: frozen.user_agent,
        })
    }
}
