//! The hash chain of the audit log's rows: the hash of a record, and the verification of all of them.

use crate::domain::account::AccountId;
use crate::domain::audit::AuditHash;
use aws_lc_rs::digest::{SHA256, digest};

use super::layout;

pub mod verify;

/// Returns the hash of a record: SHA-256 over its number, 8 bytes big-endian, followed by its stored value byte for byte.
/// The value begins with its version byte and contains the hash of the record before.
pub(super) fn hash(sequence: u64, value: &[u8]) -> AuditHash {
    let mut bytes = Vec::with_capacity(8 + value.len());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(value);
    let mut hash = [0; 32];
    // A SHA-256 digest has 32 bytes.
    hash.copy_from_slice(digest(&SHA256, &bytes).as_ref());
    AuditHash::from_bytes(hash)
}

/// Returns the size of a record and its index entry, keys and values, in bytes.
pub(super) fn size(value: &[u8], subject: Option<AccountId>) -> u64 {
    let entry = if subject.is_some() { layout::AUDIT_OF_BYTES } else { 0 };
    u64::try_from(layout::AUDIT_BYTES + value.len() + entry).unwrap_or(u64::MAX)
}
