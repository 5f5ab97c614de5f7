//! The key ring: which key signs, since when the others no longer sign, and until when each is accepted.
//!
//! It is a plain value. Other code holds the keys themselves and decides where the ring is written.

use std::time::Duration;

use super::SigningAlgorithm;
use super::key::KeyId;
use crate::domain::account::AccountId;
use crate::domain::time::Timestamp;

/// How long verifiers may cache the published key set: the `max-age` in the `Cache-Control` header of the set.
pub const KEY_SET_MAX_AGE: Duration = Duration::from_mins(5);
/// How long a new key is published before it signs.
/// This exceeds both [`KEY_SET_MAX_AGE`] and the ten minutes for which common clients cache a set whatever its headers say.
/// It also covers the 5 s until a server notices a change at the command line (ADR 020).
pub(crate) const PUBLISHED_AHEAD: Duration = Duration::from_mins(15);
/// How much longer than its last token an old key is kept, for verifiers whose clocks are slow.
const KEPT_LONGER: Duration = Duration::from_mins(1);
/// The maximum number of keys in a ring. Further rotations wait until an old key is removed.
const MAX_KEYS: usize = 32;
/// The maximum number of events that wait for the audit log.
const MAX_UNRECORDED: usize = 64;

/// One key of a ring, without the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingKey {
    /// Its id.
    pub id: KeyId,
    /// The only algorithm that it is used with (RFC 8725 §3.1).
    pub algorithm: SigningAlgorithm,
    /// When it was added to the ring.
    pub created_at: Timestamp,
    /// When it begins to sign.
    pub signs_from: Timestamp,
    /// The longest lifetime of a token that it may have signed.
    pub longest_lifetime: Duration,
    /// When another key replaces it, if that is planned or done.
    pub retired_at: Option<Timestamp>,
}

impl RingKey {
    /// Returns until when its tokens are accepted, if it retires or has retired.
    #[must_use]
    pub fn accepted_until(&self) -> Option<Timestamp> {
        self.retired_at.map(|at| at.plus(self.longest_lifetime).plus(KEPT_LONGER))
    }

    /// Returns its state at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> KeyState {
        if self.retired_by(now) {
            KeyState::Retired
        } else if self.signs_from > now {
            KeyState::Next
        } else {
            KeyState::Signing
        }
    }

    fn retired_by(&self, now: Timestamp) -> bool {
        self.retired_at.is_some_and(|at| at <= now)
    }
}

/// The state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It is published but does not sign yet.
    Next,
    /// It signs.
    Signing,
    /// It no longer signs; the tokens that it signed are accepted until they expire.
    Retired,
}

impl KeyState {
    /// Returns the state as it is written in an answer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Signing => "signing",
            Self::Retired => "retired",
        }
    }
}

/// A change of a ring that is to be recorded in the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEvent {
    /// The kind of the change.
    pub kind: KeyEventKind,
    /// When it happened.
    pub at: Timestamp,
    /// The administrator who made it; `None` for Doorward itself and its operator.
    pub by: Option<AccountId>,
}

/// The kind of a change of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEventKind {
    /// A new key was created, which signs from a given time on.
    Rotated,
    /// A key was removed after the last of its tokens had expired.
    Removed,
    /// A new key signs at once; all other keys were removed, so the tokens that they signed are no longer valid.
    Replaced,
    /// Another algorithm or secret was configured, which signs from now on.
    Switched,
}

impl KeyEventKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Rotated, Self::Removed, Self::Replaced, Self::Switched];

    /// Returns the kind as it is written in the file of the ring.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::Removed => "removed",
            Self::Replaced => "replaced",
            Self::Switched => "switched",
        }
    }
}

/// The reason why no new key is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotateRefusal {
    /// Access tokens are signed with `SECRET_KEY`, which the operator rotates.
    #[error(
        "access tokens are signed with SECRET_KEY: set a new one, set SECRET_KEY_PREVIOUS to the present one, and restart"
    )]
    Symmetric,
    /// There are too many keys whose tokens have not expired.
    #[error("there are {MAX_KEYS} keys already: wait until the tokens of one have expired")]
    Full,
}

/// The keys, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRing {
    /// The number of changes of its file, so that two writers do not overwrite each other's changes.
    pub revision: u64,
    /// The keys.
    pub keys: Vec<RingKey>,
    /// The changes that are not in the audit log yet.
    pub unrecorded: Vec<KeyEvent>,
}

impl KeyRing {
    /// Returns the key that signs at `now`.
    #[must_use]
    pub fn signer(&self, now: Timestamp) -> Option<&RingKey> {
        let newest = self.keys.iter().rev().find(|key| key.state(now) == KeyState::Signing);
        // After the clock was set back, the first key that is not retired yet.
        newest.or_else(|| self.keys.iter().find(|key| !key.retired_by(now)))
    }

    /// Returns the key that signs next.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<&RingKey> {
        let signer = self.signer(now)?;
        self.keys.iter().rev().find(|key| key.state(now) == KeyState::Next && key.id != signer.id)
    }

    /// Brings forward times that lie too far in the future, which means that they were planned while the clock was ahead.
    /// A new key still signs only after the publication time, counted from now, and its predecessor signs until then.
    /// Returns the latest planned time if it was too late.
    pub fn put_right(&mut self, now: Timestamp) -> Option<Timestamp> {
        let latest = now.plus(PUBLISHED_AHEAD);
        let planned = self.keys.iter().flat_map(|key| [Some(key.signs_from), key.retired_at]).flatten().max();
        let too_late = planned.filter(|planned| *planned > latest)?;
        for key in &mut self.keys {
            key.signs_from = key.signs_from.min(latest);
            key.retired_at = key.retired_at.map(|at| at.min(latest));
        }
        Some(too_late)
    }

    /// Returns whether the current signer has this algorithm and, if a secret is given, this secret.
    #[must_use]
    pub fn signs_with(&self, algorithm: SigningAlgorithm, secret: Option<&KeyId>, now: Timestamp) -> bool {
        self.signer(now).is_some_and(|key| key.algorithm == algorithm && secret.is_none_or(|secret| *secret == key.id))
    }

    /// Notes the lifetime of tokens that are signed from now on; returns whether that changes anything.
    pub fn note_lifetime(&mut self, lifetime: Duration, now: Timestamp) -> bool {
        let mut news = false;
        for key in self.keys.iter_mut().filter(|key| !key.retired_by(now) && key.longest_lifetime < lifetime) {
            key.longest_lifetime = lifetime;
            news = true;
        }
        news
    }

    /// Adds a secret to a new ring that signed tokens before there was a ring.
    pub fn assume(&mut self, id: KeyId, algorithm: SigningAlgorithm, lifetime: Duration, now: Timestamp) {
        self.keys.push(RingKey {
            id,
            algorithm,
            created_at: now,
            signs_from: now,
            longest_lifetime: lifetime,
            retired_at: Some(now),
        });
    }

    /// Lets another key sign at once. The present one retires, and a key that was planned as the next one is removed.
    pub fn switch(&mut self, id: KeyId, algorithm: SigningAlgorithm, lifetime: Duration, now: Timestamp) {
        let next = self.next(now).map(|key| key.id.clone());
        let signed_before = self.signer(now).is_some();
        // A secret that signs again may have signed longer-lived tokens before.
        let again = self.keys.iter().find(|key| (key.algorithm, &key.id) == (algorithm, &id));
        let lifetime = again.map_or(lifetime, |key| key.longest_lifetime.max(lifetime));
        self.keys.retain(|key| Some(&key.id) != next.as_ref() && (key.algorithm, &key.id) != (algorithm, &id));
        for key in self.keys.iter_mut().filter(|key| !key.retired_by(now)) {
            key.retired_at = Some(now);
        }
        self.push(id, algorithm, lifetime, now, now);
        if signed_before {
            self.note(KeyEventKind::Switched, now, None);
        }
    }

    /// Returns the algorithm for a new key that is to replace all others.
    ///
    /// # Errors
    /// Access tokens are signed with a secret, so there are no key pairs to create.
    pub fn may_replace(&self, now: Timestamp) -> Result<SigningAlgorithm, RotateRefusal> {
        let algorithm = self.signer(now).map(|key| key.algorithm).filter(|algorithm| !algorithm.is_symmetric());
        algorithm.ok_or(RotateRefusal::Symmetric)
    }

    /// Returns the algorithm for a new key that is to sign next.
    ///
    /// # Errors
    /// Access tokens are signed with a secret, or there are too many keys.
    pub fn may_rotate(&self, now: Timestamp) -> Result<SigningAlgorithm, RotateRefusal> {
        let algorithm = self.may_replace(now)?;
        if self.keys.len() < MAX_KEYS { Ok(algorithm) } else { Err(RotateRefusal::Full) }
    }

    /// Returns whether the signing key has reached this age, or will within the publication time, and no next key is planned.
    #[must_use]
    pub fn is_due(&self, rotation: Duration, now: Timestamp) -> bool {
        let old =
            |key: &RingKey| !key.algorithm.is_symmetric() && key.signs_from.plus(rotation) <= now.plus(PUBLISHED_AHEAD);
        self.signer(now).is_some_and(old) && self.next(now).is_none()
    }

    /// Adds a new key, which signs once verifiers have had the time to fetch it.
    pub fn rotate(
        &mut self,
        id: KeyId,
        algorithm: SigningAlgorithm,
        lifetime: Duration,
        now: Timestamp,
        by: Option<AccountId>,
    ) {
        let from = now.plus(PUBLISHED_AHEAD);
        for key in self.keys.iter_mut().filter(|key| !key.retired_by(from)) {
            key.retired_at = Some(from);
        }
        self.push(id, algorithm, lifetime, now, from);
        self.note(KeyEventKind::Rotated, now, by);
    }

    /// Replaces all keys by a new one, because one of them is no longer secret.
    pub fn replace(
        &mut self,
        id: KeyId,
        algorithm: SigningAlgorithm,
        lifetime: Duration,
        now: Timestamp,
        by: Option<AccountId>,
    ) {
        self.keys.clear();
        self.push(id, algorithm, lifetime, now, now);
        self.note(KeyEventKind::Replaced, now, by);
    }

    /// Removes the keys whose tokens have all expired; returns whether there were any.
    pub fn prune(&mut self, now: Timestamp) -> bool {
        let before = self.keys.len();
        self.keys.retain(|key| key.accepted_until().is_none_or(|until| until > now));
        let removed = before - self.keys.len();
        for _ in 0..removed {
            self.note(KeyEventKind::Removed, now, None);
        }
        removed > 0
    }

    fn push(&mut self, id: KeyId, algorithm: SigningAlgorithm, lifetime: Duration, now: Timestamp, from: Timestamp) {
        self.keys.push(RingKey {
            id,
            algorithm,
            created_at: now,
            signs_from: from,
            longest_lifetime: lifetime,
            retired_at: None,
        });
    }

    fn note(&mut self, kind: KeyEventKind, at: Timestamp, by: Option<AccountId>) {
        if self.unrecorded.len() < MAX_UNRECORDED {
            self.unrecorded.push(KeyEvent { kind, at, by });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::secret::Secret;

    const LIFETIME: Duration = Duration::from_mins(30);
    const DAY: Duration = Duration::from_hours(24);
    const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn id(n: usize) -> KeyId {
        KeyId::of_secret(&Secret::new(n.to_string()))
    }

    fn ring() -> KeyRing {
        let mut ring = KeyRing::default();
        ring.switch(id(0), SigningAlgorithm::EdDsa, LIFETIME, START);
        ring
    }

    fn signer(ring: &KeyRing, now: Timestamp) -> KeyId {
        ring.signer(now).unwrap().id.clone()
    }

    #[test]
    fn a_new_key_is_published_before_it_signs_and_the_old_one_outlives_its_tokens() {
        let mut ring = ring();
        assert!(ring.unrecorded.is_empty(), "the first key takes nobody's place");
        ring.rotate(id(1), SigningAlgorithm::EdDsa, LIFETIME, START, None);
        assert_eq!(ring.next(START).unwrap().id, id(1));
        let turn = START.plus(PUBLISHED_AHEAD);
        assert!(PUBLISHED_AHEAD > KEY_SET_MAX_AGE);
        assert_eq!(signer(&ring, turn.minus(Duration::from_millis(1))), id(0));
        assert_eq!(signer(&ring, turn), id(1));
        assert_eq!(ring.keys[0].state(turn), KeyState::Retired);
        let end = turn.plus(LIFETIME).plus(KEPT_LONGER);
        assert!(!ring.prune(end.minus(Duration::from_millis(1))));
        assert!(ring.prune(end));
        assert_eq!(ring.keys.iter().map(|key| &key.id).collect::<Vec<_>>(), [&id(1)]);
        let kinds: Vec<_> = ring.unrecorded.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [KeyEventKind::Rotated, KeyEventKind::Removed]);
    }

    #[test]
    fn a_key_is_due_in_time_and_only_once() {
        let mut ring = ring();
        assert!(!ring.is_due(DAY, START.plus(DAY).minus(PUBLISHED_AHEAD).minus(Duration::from_millis(1))));
        let due = START.plus(DAY).minus(PUBLISHED_AHEAD);
        assert!(ring.is_due(DAY, due));
        ring.rotate(id(1), SigningAlgorithm::EdDsa, LIFETIME, due, None);
        assert!(!ring.is_due(DAY, due), "one is on its way");
        assert_eq!(signer(&ring, START.plus(DAY)), id(1));
        let mut secret = KeyRing::default();
        secret.switch(id(0), SigningAlgorithm::Hs256, LIFETIME, START);
        assert!(!secret.is_due(DAY, START.plus(DAY * 9)), "a secret is its operator's");
        assert_eq!(secret.may_rotate(START), Err(RotateRefusal::Symmetric));
    }

    #[test]
    fn another_algorithm_signs_at_once_and_what_was_to_be_next_goes() {
        let mut ring = ring();
        ring.rotate(id(1), SigningAlgorithm::EdDsa, LIFETIME, START, None);
        ring.switch(id(2), SigningAlgorithm::Hs256, LIFETIME, START);
        assert!(ring.signs_with(SigningAlgorithm::Hs256, Some(&id(2)), START));
        assert!(!ring.signs_with(SigningAlgorithm::Hs256, Some(&id(3)), START));
        assert!(!ring.signs_with(SigningAlgorithm::Hs512, Some(&id(2)), START));
        assert_eq!(ring.keys.len(), 2);
        assert_eq!(ring.keys[0].accepted_until(), Some(START.plus(LIFETIME).plus(KEPT_LONGER)));
        // Back again: a secret that signs again is no longer retired.
        let later = START.plus(Duration::from_mins(1));
        ring.switch(id(3), SigningAlgorithm::EdDsa, LIFETIME, later);
        ring.switch(id(2), SigningAlgorithm::Hs256, LIFETIME, later);
        assert_eq!(signer(&ring, later), id(2));
        assert_eq!(ring.keys.iter().filter(|key| key.id == id(2)).count(), 1);
        assert_eq!(ring.keys.last().unwrap().accepted_until(), None);
    }

    #[test]
    fn a_longer_lifetime_counts_for_the_keys_that_still_sign() {
        let mut ring = ring();
        ring.rotate(id(1), SigningAlgorithm::EdDsa, LIFETIME, START, None);
        assert!(ring.note_lifetime(DAY, START));
        assert!(!ring.note_lifetime(LIFETIME, START), "a shorter one ends no token sooner");
        let turn = START.plus(PUBLISHED_AHEAD);
        assert_eq!(ring.keys[0].accepted_until(), Some(turn.plus(DAY).plus(KEPT_LONGER)));
        assert!(ring.note_lifetime(DAY * 2, turn));
        assert_eq!(ring.keys[0].longest_lifetime, DAY, "it signs no more");
        assert_eq!(ring.keys[1].longest_lifetime, DAY * 2);
    }

    #[test]
    fn r05_what_a_clock_that_was_ahead_planned_is_brought_forward_and_no_further() {
        let (mut ring, ahead) = (ring(), START.plus(DAY * 1461));
        ring.rotate(id(1), SigningAlgorithm::EdDsa, LIFETIME, ahead, None);
        let now = START.plus(DAY);
        assert_eq!(ring.put_right(now), Some(ahead.plus(PUBLISHED_AHEAD)));
        let turn = now.plus(PUBLISHED_AHEAD);
        assert_eq!(ring.next(now).unwrap().signs_from, turn);
        assert_eq!(signer(&ring, turn.minus(Duration::from_millis(1))), id(0));
        assert_eq!(signer(&ring, turn), id(1));
        assert_eq!(ring.keys[0].accepted_until(), Some(turn.plus(LIFETIME).plus(KEPT_LONGER)));
        // Times that are planned correctly stay, however often they are checked.
        let right = ring.clone();
        for later in [now, now.plus(Duration::from_secs(5)), turn, turn.plus(DAY)] {
            assert_eq!(ring.put_right(later), None);
            assert_eq!(ring, right);
        }
        // It is due again after its own signing period, not when the time of the fast clock arrives.
        let due = turn.plus(DAY * 90).minus(PUBLISHED_AHEAD);
        assert!(!ring.is_due(DAY * 90, due.minus(Duration::from_millis(1))) && ring.is_due(DAY * 90, due));
    }

    #[test]
    fn r05_a_key_that_is_alone_signs_on_and_is_due_in_time_after_the_clock_was_put_right() {
        let (mut ring, ahead) = (ring(), START.plus(DAY * 1461));
        ring.replace(id(1), SigningAlgorithm::EdDsa, LIFETIME, ahead, None);
        assert_eq!(signer(&ring, START), id(1));
        assert_eq!(ring.put_right(START), Some(ahead));
        assert_eq!(signer(&ring, START), id(1));
        assert!(ring.is_due(DAY, START.plus(DAY)));
        // Two rotations by a clock that was ahead: the newest key signs, and the one between them never does.
        ring.rotate(id(2), SigningAlgorithm::EdDsa, LIFETIME, ahead, None);
        ring.rotate(id(3), SigningAlgorithm::EdDsa, LIFETIME, ahead.plus(DAY * 90), None);
        let now = START.plus(DAY);
        assert!(ring.put_right(now).is_some());
        assert_eq!(signer(&ring, now), id(1));
        assert_eq!(signer(&ring, now.plus(PUBLISHED_AHEAD)), id(3));
    }

    #[test]
    fn a_ring_does_not_grow_for_ever() {
        let mut ring = ring();
        let mut now = START;
        for n in 1..MAX_KEYS {
            assert_eq!(ring.may_rotate(now), Ok(SigningAlgorithm::EdDsa));
            ring.rotate(id(n), SigningAlgorithm::EdDsa, DAY * 365, now, None);
            now = now.plus(PUBLISHED_AHEAD);
        }
        assert_eq!(ring.may_rotate(now), Err(RotateRefusal::Full));
        ring.replace(id(99), SigningAlgorithm::EdDsa, LIFETIME, now, AccountId::new(7));
        assert_eq!((ring.keys.len(), signer(&ring, now)), (1, id(99)));
        assert_eq!(ring.unrecorded.last().unwrap().by, AccountId::new(7));
    }

    proptest! {
        /// Whatever happens to a ring and however the clock steps, one key always signs.
        /// No key is removed before the expiry of the last token that it can have signed on a clock that does not step back.
        #[test]
        fn there_is_always_a_key_that_signs_and_none_goes_before_its_tokens(
            steps in proptest::collection::vec((0_u8..5, 0_u64..3_000), 1..60),
            back in proptest::option::of(0_u64..100_000),
        ) {
            let mut ring = ring();
            let mut now = START;
            let mut signed: Vec<(KeyId, Timestamp)> = Vec::new();
            for (n, (step, seconds)) in steps.into_iter().enumerate() {
                signed.push((signer(&ring, now), now.plus(LIFETIME)));
                now = now.plus(Duration::from_secs(seconds));
                match step {
                    0 if ring.next(now).is_none() && ring.may_rotate(now).is_ok() => {
                        ring.rotate(id(n + 1), SigningAlgorithm::EdDsa, LIFETIME, now, None);
                    }
                    1 => ring.switch(id(n + 1), SigningAlgorithm::Es256, LIFETIME, now),
                    2 => ring.switch(id(1000), SigningAlgorithm::Hs256, LIFETIME, now),
                    3 => _ = ring.prune(now),
                    _ => {}
                }
                signed.push((signer(&ring, now), now.plus(LIFETIME)));
                for (key, until) in signed.iter().filter(|(_, until)| *until > now) {
                    prop_assert!(ring.keys.iter().any(|held| held.id == *key), "{key} went before {until:?}");
                }
            }
            if let Some(back) = back {
                prop_assert!(ring.signer(now.minus(Duration::from_secs(back))).is_some());
            }
        }

        /// Keys are created while the clock is ahead; then it is corrected, and the ring is checked, any number of times.
        /// After each check, no key waits longer than its publication time, none signs earlier, and none is removed before the expiry of a
        /// token that was signed under the correct clock.
        #[test]
        fn r05_a_clock_that_was_ahead_delays_no_key_and_hurries_none(
            steps in proptest::collection::vec((0_u8..4, 0_u64..3_000, 0_u64..100_000_000), 1..40),
        ) {
            let mut ring = ring();
            let mut now = START;
            let mut signed: Vec<(KeyId, Timestamp)> = Vec::new();
            let mut published: Vec<(KeyId, Timestamp)> = vec![(id(0), START.minus(PUBLISHED_AHEAD))];
            for (n, (step, seconds, ahead)) in steps.into_iter().enumerate() {
                now = now.plus(Duration::from_secs(seconds));
                let wrong = now.plus(Duration::from_secs(ahead));
                let at = if step % 2 == 0 { wrong } else { now };
                if step < 2 && ring.next(at).is_none() && ring.may_rotate(at).is_ok() {
                    ring.rotate(id(n + 1), SigningAlgorithm::EdDsa, LIFETIME, at, None);
                    published.push((id(n + 1), now));
                }
                let before = signer(&ring, now);
                ring.put_right(now);
                prop_assert_eq!(&signer(&ring, now), &before, "what signs does not change when it is put right");
                prop_assert_eq!(ring.put_right(now), None);
                prop_assert!(ring.keys.iter().all(|key| key.signs_from <= now.plus(PUBLISHED_AHEAD)));
                ring.prune(now);
                let since = published.iter().find(|(key, _)| *key == before).unwrap().1;
                prop_assert!(since.plus(PUBLISHED_AHEAD) <= now, "{before} signs too soon");
                signed.push((before, now.plus(LIFETIME)));
                for (key, until) in signed.iter().filter(|(_, until)| *until > now) {
                    prop_assert!(ring.keys.iter().any(|held| held.id == *key), "{key} went before {until:?}");
                }
            }
        }
    }
}
