//! The encoding of records; the only place that names the encoder.
//!
//! A value is one version byte followed by the frozen struct of that version. A struct here never changes after a release.
//! A new shape is a new struct with a new version byte, and the old one stays readable. Only a field that is appended needs no new struct;
//! see [`Record::APPENDED_SINCE`].
//! The domain types may change freely: a value that is read is parsed into them, so a record that violates a rule of the domain is an
//! error and goes no further.

use crate::domain::account::AccountId;
use crate::domain::email::Email;
use crate::domain::time::Timestamp;
use std::net::IpAddr;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

mod account;
mod audit;
mod failures;
#[cfg(test)]
mod golden;
mod lease;
mod mail;
mod one_time;
mod services;
mod session;

pub(super) use audit::{Chained, LogEnd, Refusals, chain, put_aside, put_aside_after};

/// The maximum size of a value in bytes, including its version byte.
/// The engine stores larger values in separate files, which is slower and less tested.
pub(super) const MAX_VALUE_BYTES: usize = 4096;

/// The version byte of the first form of each kind of record.
const V1: u8 = 1;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_VALUE_BYTES>> =
    bincode::config::standard().with_little_endian().with_variable_int_encoding().with_limit::<MAX_VALUE_BYTES>();

/// Why a record could not be read or written. It concerns only this record; the store stays usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not a record of this kind.
    #[error("a stored {kind} record is not readable: {why}")]
    Unreadable {
        /// The expected kind.
        kind: &'static str,
        /// The fault; never a part of the content.
        why: &'static str,
    },
    /// The record is too large, or could not be read back.
    #[error("a {kind} record cannot be stored: {why}")]
    Unstorable {
        /// The kind of the record.
        kind: &'static str,
        /// The fault; never a part of the content.
        why: &'static str,
    },
}

/// A kind of record: a domain type and its frozen form in storage.
pub(crate) trait Record: Sized {
    /// Its name, for errors.
    const KIND: &'static str;
    /// The version byte of the newest frozen form.
    const VERSION: u8 = V1;
    /// The version since which each newer one only appended one field to the frozen form. The field must have a default whose encoding
    /// is one zero byte: `None`, `false`, 0, or an empty text or list. Records of those versions get it when they are read.
    const APPENDED_SINCE: u8 = Self::VERSION;
    /// The newest frozen form.
    type Frozen: Serialize + DeserializeOwned;

    /// Converts the value to its frozen form.
    fn freeze(&self) -> Self::Frozen;

    /// Writes the version byte and the frozen form: the newest one, or an older one if it holds everything.
    fn put(&self, value: &mut Vec<u8>) -> Result<(), &'static str> {
        write(Self::VERSION, &self.freeze(), value)
    }

    /// Validates a frozen form and converts it to a domain value. The error names the fault.
    fn thaw(frozen: Self::Frozen) -> Result<Self, &'static str>;

    /// Converts a record of an older version to the newest frozen form.
    fn upgrade(version: u8, body: &[u8]) -> Result<Self::Frozen, &'static str> {
        let _ = (version, body);
        Err("unknown version byte")
    }
}

/// Encodes a record.
pub(crate) fn encode<R: Record>(record: &R) -> Result<Vec<u8>, RecordError> {
    let unstorable = |why| RecordError::Unstorable { kind: R::KIND, why };
    let mut value = Vec::new();
    record.put(&mut value).map_err(unstorable)?;
    if value.len() > MAX_VALUE_BYTES {
        return Err(unstorable("it is too large"));
    }
    // A value that cannot be read back would be lost, so it is not written. The check costs a microsecond, little next to a disk write.
    decode::<R>(&value).map_err(|_| unstorable("it does not read back"))?;
    Ok(value)
}

fn write<F: Serialize>(version: u8, frozen: &F, value: &mut Vec<u8>) -> Result<(), &'static str> {
    value.push(version);
    let written = bincode::serde::encode_into_std_write(frozen, value, CONFIG);
    written.map(drop).map_err(|_| "it does not encode")
}

/// Decodes a record.
pub(crate) fn decode<R: Record>(value: &[u8]) -> Result<R, RecordError> {
    let unreadable = |why| RecordError::Unreadable { kind: R::KIND, why };
    let (&version, body) = value.split_first().ok_or_else(|| unreadable("it is empty"))?;
    let frozen = if (R::APPENDED_SINCE..=R::VERSION).contains(&version) {
        open_appended(body, R::VERSION - version)
    } else {
        R::upgrade(version, body)
    };
    frozen.and_then(R::thaw).map_err(unreadable)
}

/// Decodes a frozen form, which must use all of these bytes.
fn open<F: DeserializeOwned>(body: &[u8]) -> Result<F, &'static str> {
    let (frozen, read) = bincode::serde::decode_from_slice(body, CONFIG).map_err(|_| "it does not decode")?;
    if read == body.len() { Ok(frozen) } else { Err("bytes follow it") }
}

/// Decodes a frozen form from a record that lacks this many of its last fields. They get their defaults.
fn open_appended<F: DeserializeOwned>(body: &[u8], lacking: u8) -> Result<F, &'static str> {
    if lacking == 0 { open(body) } else { open(&[body, &vec![0; usize::from(lacking)]].concat()) }
}

fn account_id(number: u64) -> Result<AccountId, &'static str> {
    AccountId::new(number).ok_or("account number zero")
}

/// Parses an address in its stored spelling. Another spelling would have another key, which the index would not find.
fn email(stored: &str) -> Result<Email, &'static str> {
    let email = Email::parse(stored).map_err(|_| "its address is not one")?;
    if email.as_str() == stored { Ok(email) } else { Err("its address is not in its normal form") }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CounterV1(u64);

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
pub(crate) struct TimestampV1(i64);

/// The time of a last use or a last activity.
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
pub(crate) struct AccountIdV1(u64);

/// The value of an index entry.
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
