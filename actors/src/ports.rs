//! The ports: what the domain needs from outside, such as time, randomness and mail. The binary implements them, and so do tests.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::email::Email;
use crate::domain::mail::OutgoingMail;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::domain::token::{KeyRing, SigningKey};

/// The source of time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the wall-clock time, for values that are stored or shown.
    fn now(&self) -> Timestamp;

    /// Returns the time since a fixed moment, which never goes back, for limits and back-offs.
    fn monotonic(&self) -> Duration;
}

/// The source of unguessable bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the buffer with unguessable bytes.
    fn fill(&self, buffer: &mut [u8]);
}

/// A list of passwords from breaches of other services, which attackers try first.
pub trait BreachedPasswords: Send + Sync + 'static {
    /// Returns whether this password is on the list. Called on a hashing thread, so it may read from the disk.
    fn contains(&self, password: &Secret) -> Result<bool, BreachedListFailure>;
}

/// The list of breached passwords cannot be read. The text is for the log and contains nothing of a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the list of breached passwords cannot be read: {0}")]
pub struct BreachedListFailure(pub String);

/// The storage of the key ring and its key pairs. Every method may block for the duration of disk operations.
///
/// A command line may change the ring while a server runs; the revision keeps them from overwriting each other's changes.
pub trait KeyVault: Send + Sync + 'static {
    /// Reads the ring and its key pairs; `None` if there is none yet.
    fn load(&self) -> Result<Option<StoredKeys>, KeyVaultFailure>;

    /// Returns the revision of the stored ring, without reading any key.
    fn revision(&self) -> Result<Option<u64>, KeyVaultFailure>;

    /// Replaces the stored ring, which must have the revision of `ring`, by `ring` with the next revision; adds a new key pair, if given.
    /// Everything is durable before this returns. Key pairs that the ring does not name are deleted.
    fn replace(&self, ring: &KeyRing, new: Option<&SigningKey>) -> Result<(), ReplaceKeysError>;
}

/// The content of a [`KeyVault`].
#[derive(Debug, Clone)]
pub struct StoredKeys {
    /// The ring.
    pub ring: KeyRing,
    /// All its key pairs.
    pub pairs: Vec<SigningKey>,
}

/// The keys cannot be read or written. The text is for operators and contains nothing of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyVaultFailure(pub String);

/// Why a ring was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceKeysError {
    /// Another ring was written in the meantime.
    #[error("the ring of keys changed meanwhile")]
    Stale,
    /// The vault failed.
    #[error(transparent)]
    Failed(#[from] KeyVaultFailure),
}

/// The place where backups are made and kept.
#[async_trait]
pub trait BackupVault: Send + Sync + 'static {
    /// Returns when the newest whole backup was made, of those that were not made after `now`. Removes what a kill left unfinished.
    async fn newest(&self, now: Timestamp) -> Result<Option<Timestamp>, BackupFailure>;

    /// Makes a backup, checks it, and removes older ones that are not to be kept. Returns when it was made.
    async fn make(&self) -> Result<Timestamp, BackupFailure>;

    /// Gives up the backup under way, and makes no more.
    fn stop(&self);
}

/// No backup was made. The text is for operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BackupFailure(pub String);

/// The transport that delivers mails.
#[async_trait]
pub trait MailTransport: Send + Sync + 'static {
    /// Renders a mail and hands it over. `Ok` means that the receiver has taken responsibility for it: an SMTP server answered 250 to
    /// the whole mail, or the mail is in a file that is synced to the disk.
    async fn send(&self, mail: &OutgoingMail) -> Result<(), SendError>;

    /// Collects the information for [`reaches`](Self::reaches). Ends within the time that a mail may take.
    async fn probe(&self) {}

    /// Returns whether mails to this address can be sent, as far as is known. It makes no requests.
    fn reaches(&self, _to: &Email) -> bool {
        true
    }
}

/// Why a mail was not handed over. The texts are for operators; they contain no token and nothing of the mail but its recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// A later attempt may succeed: no connection, a time-out, a 4xx answer, a full disk.
    #[error("{0}")]
    Transient(String),
    /// No attempt can succeed: a 5xx answer, or a recipient that the transport cannot express.
    #[error("{0}")]
    Permanent(String),
}
