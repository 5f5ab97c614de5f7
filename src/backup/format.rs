//! The format of a backup, version 1. It does not depend on an engine.
//!
//! Numbers are big-endian. A file is a head, blocks, and a last block that ends it:
//!
//! ```text
//! head   magic (8 bytes), version (4), length of the header (4), header (JSON), SHA-256 of all this (32)
//! block  kind (1), length as stored (4), length as written (4), content compressed by zstd, digest (32)
//! ```
//!
//! The digest of a block is SHA-256 over the digest before it, the first 9 bytes of the block and its content as it is stored. So the last
//! digest covers the whole file, and no block can be changed, moved, repeated or left out.
//!
//! | kind | content                                                                                           |
//! | ---- | ------------------------------------------------------------------------------------------------- |
//! | 1    | a file of the data directory: length of its name (2), name, bytes. Before all rows                  |
//! | 2    | rows in the order of their keys: length of the key (2), length of the value (4), key, value; repeated |
//! | 3    | the end, in JSON: the number of rows, the number of commits, the head of the audit log                |
//!
//! What the rows mean, and in which version, is in the layout of the store; its version is in the header.

use doorward_actors::{AuditHead, KeyId, Timestamp};
use serde::{Deserialize, Serialize};

/// The first bytes of every backup. As in PNG, a transfer that changes line ends or drops the high bit breaks them.
pub const MAGIC: [u8; 8] = *b"\x89DWBK\r\n\x1a";
/// The version of the format that this program writes.
pub const VERSION: u32 = 1;
/// The maximum length of the header, in bytes.
pub const MAX_HEADER: usize = 16 * 1024;
/// The length of a digest, in bytes.
pub const DIGEST: usize = 32;
/// The length of a block before its content, in bytes.
pub const BLOCK_HEAD: usize = 9;
/// The size at which a block of rows ends, before compression, in bytes.
pub const FULL_BLOCK: usize = 512 * 1024;
/// The maximum size of the content of a block, before and after compression, in bytes.
pub const MAX_BLOCK: usize = 1024 * 1024;
/// The level of compression of zstd, its default. Higher levels gain little, because hashes do not compress.
pub const LEVEL: i32 = 3;

/// The kinds of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file of the data directory.
    File = 1,
    /// Rows.
    Rows = 2,
    /// The end.
    End = 3,
}

impl Kind {
    /// Returns the kind with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::File),
            2 => Some(Self::Rows),
            3 => Some(Self::End),
            _ => None,
        }
    }
}

/// What a backup was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To be kept. Its source went on.
    Backup,
    /// To go on elsewhere. Its source has stopped for good, so its sessions may live on.
    Move,
}

/// The header of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// When it was made, in RFC 3339.
    pub made_at: String,
    /// The version of the program that made it.
    pub program: String,
    /// What it was made for.
    pub purpose: Purpose,
    /// The fingerprint of `SECRET_KEY`, if that was known: the `kid` of the tokens that it signs. It is an HMAC of a fixed text under the
    /// secret, which every token shows anyway, and reveals nothing of a secret that cannot be guessed.
    pub secret_key: Option<String>,
    /// Whether the generated secrets and the signing keys were to be in it.
    pub with_secrets: bool,
}

impl Header {
    /// Describes a backup that is made now by this program.
    pub(crate) fn new(made_at: Timestamp, purpose: Purpose, secret_key: Option<&KeyId>, with_secrets: bool) -> Self {
        Self {
            made_at: made_at.to_rfc3339(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            purpose,
            secret_key: secret_key.map(KeyId::to_string),
            with_secrets,
        }
    }
}

/// The last block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The number of rows in the file.
    pub rows: u64,
    /// The number of commits that led to these rows.
    pub commits: u64,
    /// The head of the audit log, as `SEQUENCE:HASH`.
    pub audit_head: String,
}

impl End {
    /// Describes the end of a backup.
    #[must_use]
    pub fn new(rows: u64, commits: u64, audit_head: AuditHead) -> Self {
        Self { rows, commits, audit_head: audit_head.to_string() }
    }
}

/// Returns whether a backup may contain a file of this name. The name says where it goes in a data directory.
#[must_use]
pub fn is_known_file(name: &str) -> bool {
    let is_pair = |name: &str| {
        let kid = name.strip_prefix("keys/key-").and_then(|rest| rest.strip_suffix(".pem"));
        kid.is_some_and(|kid| KeyId::parse(kid).is_some())
    };
    matches!(name, "secret_key" | "service_token" | "keys/ring.json") || is_pair(name)
}

/// The digest of a block, which covers everything before it too.
#[must_use]
pub(super) fn digest_of(before: &[u8; DIGEST], head: &[u8; BLOCK_HEAD], stored: &[u8]) -> [u8; DIGEST] {
    sha256(&[before, head, stored])
}

/// Returns SHA-256 over parts that follow each other.
#[must_use]
pub(super) fn sha256(parts: &[&[u8]]) -> [u8; DIGEST] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut digest = [0; DIGEST];
    // A SHA-256 digest has 32 bytes.
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
