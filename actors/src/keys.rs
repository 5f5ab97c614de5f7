//! The keys that sign access tokens: kept in files, rotated in time, published.
//!
//! Who signs and checks looks at a snapshot that never changes; the keeper puts another one in its place. The actor sees to it
//! that keys are rotated, old ones go, and what a command line changed beside the server is taken up.

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

/// How long a rotation may take: an RSA key takes up to some seconds on a small machine, and the commit of its record up to 10 s.
const ROTATE_DEADLINE: Duration = Duration::from_secs(25);

/// The way to the keys.
#[derive(Clone)]
pub struct KeyHandle {
    mailbox: Arc<Mailbox<Message>>,
    tokens: Arc<AccessTokens>,
    clock: Arc<dyn Clock>,
    rotation: Option<Duration>,
}

/// A key as it is shown to those who look after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// Its name.
    pub id: KeyId,
    /// With what it signs.
    pub algorithm: SigningAlgorithm,
    /// How it stands.
    pub state: KeyState,
    /// When it was made, or a secret was first used.
    pub created_at: Timestamp,
    /// From when on it signs.
    pub signs_from: Timestamp,
    /// When another one takes its place.
    pub retired_at: Option<Timestamp>,
    /// Until when its tokens are accepted.
    pub accepted_until: Option<Timestamp>,
    /// Whether its tokens can be checked: not those of an earlier secret that was not given as `SECRET_KEY_PREVIOUS`.
    pub at_hand: bool,
}

/// Why no key was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotateError {
    /// A rule refuses it.
    Refused(RotateRefusal),
    /// The session of the administrator was ended meanwhile, or lost its role.
    Revoked,
    /// It cannot be done just now.
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

    /// The public keys, as they are published.
    #[must_use]
    pub fn published(&self) -> PublishedKeys {
        self.tokens.keys().published.clone()
    }

    /// Every key, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<KeyView> {
        let (keys, now) = (self.tokens.keys(), self.clock.now());
        let view = |key| KeyView::of(key, now, keys.is_at_hand(key));
        keys.ring.keys.iter().rev().map(view).collect()
    }

    /// After how long a key gives way to a new one; `None` for never.
    #[must_use]
    pub fn rotation(&self) -> Option<Duration> {
        self.rotation
    }

    /// Makes a new key, which signs once verifiers had the time to learn of it; the answer is that key. One that is on its way
    /// already is the answer too. With `compromised` the new key signs at once, and every other one goes with all tokens that it
    /// signed, before this returns. The administrator proved who they are ([`prove`](crate::UserHandle::prove)).
    pub async fn rotate(&self, admin: &Principal, compromised: bool, origin: Origin) -> Result<KeyView, RotateError> {
        let by = admin.acting_proven(Role::Admin);
        let question = |reply| Message::Rotate { compromised, by, origin, reply };
        self.mailbox.ask(ROTATE_DEADLINE, question).await?
    }

    /// Does now what is due, as a timer otherwise does.
    #[cfg(feature = "testing")]
    pub(crate) async fn tend(&self) -> Result<(), crate::ask::AskError> {
        self.mailbox.ask(ROTATE_DEADLINE, |reply| Message::Look(Some(reply))).await
    }
}

impl KeyView {
    /// A key as it stands at a time.
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
