//! What the domain needs from outside: time, randomness and mail. The binary implements these; tests bring their own.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::email::Email;
use crate::domain::mail::OutgoingMail;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::domain::token::{KeyRing, SigningKey};

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The wall-clock time, for what is stored and shown.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment, never going back, for limits and back-offs.
    fn monotonic(&self) -> Duration;
}

/// Where unguessable bytes come from.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the buffer with bytes nobody can guess.
    fn fill(&self, buffer: &mut [u8]);
}

/// A list of passwords that became known in breaches of other services, which guessers try first.
pub trait BreachedPasswords: Send + Sync + 'static {
    /// Whether this password is on the list. Called on a hashing thread, so it may read from the disk.
    fn contains(&self, password: &Secret) -> Result<bool, BreachedListFailure>;
}

/// The list of breached passwords cannot be read. The text is for the log; it holds nothing of a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the list of breached passwords cannot be read: {0}")]
pub struct BreachedListFailure(pub String);

/// Where the ring of keys is kept, and the key pairs in it. Every method may block for as long as the disk takes.
///
/// A command line may change the ring beside a running server; the revision keeps the two from undoing each other.
pub trait KeyVault: Send + Sync + 'static {
    /// The ring and its key pairs as they are written; `None` before there is one.
    fn load(&self) -> Result<Option<StoredKeys>, KeyVaultFailure>;

    /// The revision of the ring that is written, without reading any key.
    fn revision(&self) -> Result<Option<u64>, KeyVaultFailure>;

    /// Writes a ring in place of the one with its revision, as the next one, and with it a key pair that is new. It is durable
    /// before this returns. Pairs that the ring does not name go.
    fn replace(&self, ring: &KeyRing, new: Option<&SigningKey>) -> Result<(), ReplaceKeysError>;
}

/// What a [`KeyVault`] holds.
#[derive(Debug, Clone)]
pub struct StoredKeys {
    /// The ring.
    pub ring: KeyRing,
    /// Every key pair that it names.
    pub pairs: Vec<SigningKey>,
}

/// The keys cannot be read or written. The text is for operators; it holds nothing of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyVaultFailure(pub String);

/// Why a ring was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceKeysError {
    /// Another one was written meanwhile.
    #[error("the ring of keys changed meanwhile")]
    Stale,
    /// It could not be.
    #[error(transparent)]
    Failed(#[from] KeyVaultFailure),
}

/// What carries mails out of the house.
#[async_trait]
pub trait MailTransport: Send + Sync + 'static {
    /// Writes a mail and hands it over. `Ok` means that the next in line has taken responsibility for it: an SMTP server
    /// answered 250 to the whole of it, or it is in a file that is on the disk.
    async fn send(&self, mail: &OutgoingMail) -> Result<(), SendError>;

    /// Finds out what [`reaches`](Self::reaches) answers from. Ends within the time that a mail may take.
    async fn probe(&self) {}

    /// Whether mails to this address can be sent, as far as is known; it asks nobody.
    fn reaches(&self, _to: &Email) -> bool {
        true
    }
}

/// Why a mail was not handed over. The texts are for operators; they hold no token and no more of the mail than its recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may work later: no connection, a time-out, a 4xx answer, a full disk.
    #[error("{0}")]
    Transient(String),
    /// It will never work: a 5xx answer, a recipient that the transport cannot express.
    #[error("{0}")]
    Permanent(String),
}
