//! The keys that sign access tokens: stored in files, rotated on schedule, published.
//!
//! Signing and checking read a snapshot that never changes. The keeper replaces it.
//! The actor rotates keys on schedule, removes old ones, and loads what a command line changed while the server runs.

mod actor;
mod keeper;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use actor::{KeyActor, Message};
pub(crate) use keeper::KeyKeeper;
pub use keeper::KeysError;

use crate::ask::Unavailable;
use crate::domain::account::Role;
use crate::domain::session::Origin;
use crate::domain::time::Timestamp;
use crate::domain::token::{AccessTokens, KeyId, KeyState, PublishedKeys, RotateRefusal, SigningAlgorithm};
use crate::ports::Clock;
use crate::process::Mailbox;
use crate::session::Principal;

/// The maximum time of a rotation: an RSA key takes up to some seconds on a small machine, and the commit of its record up to 10 s.
const ROTATE_DEADLINE: Duration = Duration::from_secs(25);

/// The handle of the keys.
#[derive(Clone)]
pub struct KeyHandle {
    mailbox: Arc<Mailbox<Message>>,
    tokens: Arc<AccessTokens>,
    clock: Arc<dyn Clock>,
    rotation: Option<Duration>,
}

/// A key as administrators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// Its identifier.
    pub id: KeyId,
    /// The algorithm with which it signs.
    pub algorithm: SigningAlgorithm,
    /// Its state.
    pub state: KeyState,
    /// When it was created, or a secret was first used.
    pub created_at: Timestamp,
    /// When it begins to sign.
    pub signs_from: Timestamp,
    /// When another key replaces it.
    pub retired_at: Option<Timestamp>,
    /// When its tokens cease to be accepted.
    pub accepted_until: Option<Timestamp>,
    /// Whether its tokens can be checked. False for an earlier secret that was not given as `SECRET_KEY_PREVIOUS`.
    pub at_hand: bool,
}

/// Why no key was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotateError {
    /// A rule refuses it.
    Refused(RotateRefusal),
    /// The administrator's session has ended in the meantime, or lost its role.
    Revoked,
    /// The rotation could not be made now.
    Unavailable(Unavailable),
}

impl<E: Into<Unavailable>> From<E> for RotateError {
    fn from(error: E) -> Self {
        Self::Unavailable(error.into())
    }
}

impl KeyHandle {
    pub(crate) fn new(
        mailbox: Arc<Mailbox<Message>>,
        tokens: Arc<AccessTokens>,
        clock: Arc<dyn Clock>,
        rotation: Option<Duration>,
    ) -> Self {
        Self { mailbox, tokens, clock, rotation }
    }

    /// Returns the public keys, as they are published.
    #[must_use]
    pub fn published(&self) -> PublishedKeys {
        self.tokens.keys().published.clone()
    }

    /// Returns all keys, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<KeyView> {
        let (keys, now) = (self.tokens.keys(), self.clock.now());
        let view = |key| KeyView::of(key, now, keys.is_at_hand(key));
        keys.ring.keys.iter().rev().map(view).collect()
    }

    /// Returns the age at which a new key replaces a key. `None` for never.
    #[must_use]
    pub fn rotation(&self) -> Option<Duration> {
        self.rotation
    }

    /// Creates a key and returns it. The key signs after verifiers have had the time to fetch it.
    /// If a new key is already published and does not sign yet, that one is returned.
    /// With `compromised`, the new key signs at once. All other keys are removed before this returns,
    /// which invalidates all tokens that they signed. The administrator has already proved their identity
    /// ([`prove`](crate::UserHandle::prove)).
    pub async fn rotate(&self, admin: &Principal, compromised: bool, origin: Origin) -> Result<KeyView, RotateError> {
        let by = admin.acting_proven(Role::Admin);
        let question = |reply| Message::Rotate { compromised, by, origin, reply };
        self.mailbox.ask(ROTATE_DEADLINE, question).await?
    }

    /// Does now what is due. Otherwise a timer does it.
    #[cfg(feature = "testing")]
    pub(crate) async fn tend(&self) -> Result<(), crate::ask::AskError> {
        self.mailbox.ask(ROTATE_DEADLINE, |reply| Message::Look(Some(reply))).await
    }
}

impl KeyView {
    /// Returns a key as it is at a time.
    #[must_use]
    pub fn of(key: &crate::domain::token::RingKey, now: Timestamp, at_hand: bool) -> Self {
        Self {
            id: key.id.clone(),
            algorithm: key.algorithm,
            state: key.state(now),
            created_at: key.created_at,
            signs_from: key.signs_from,
            retired_at: key.retired_at,
            accepted_until: key.accepted_until(),
            at_hand,
        }
    }
}
