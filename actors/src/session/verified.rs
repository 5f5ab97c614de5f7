//! Tokens whose signature was checked already.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::secret::SecretDigest;
use crate::domain::token::VerifiedToken;

/// Parts that are locked apart, so that threads rarely wait for each other.
const PARTS: usize = 16;
/// How many tokens the younger or the older half of a part holds: what a table of 8,192 places takes before it grows. Two halves
/// of 16 parts, and up to 114,688 tokens without one check too many. All are full at some 30 MB.
const HALF: usize = 7168;

/// Remembers what a token says, by its digest, for as long as it is asked about often.
///
/// It spares the signature check alone. A hit is still checked against the clock, its session by the shard and its
/// account by the store, so nothing that was revoked passes. What was checked by keys of another generation is not known, so
/// that no token outlives its key.
pub(super) struct VerifiedTokens {
    parts: Vec<Mutex<Generations>>,
}

/// What was asked about lately, and what was asked about before that. When the younger is full the older goes, so that
/// what nobody asks about any more is forgotten without anyone keeping books.
#[derive(Default)]
struct Generations {
    young: HashMap<SecretDigest, Known>,
    old: HashMap<SecretDigest, Known>,
}

/// What a token says, and the generation of the keys that it was checked by.
type Known = (u64, VerifiedToken);

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self { parts: (0..PARTS).map(|_| Mutex::default()).collect() }
    }

    /// What a token says, if keys of this generation checked it.
    pub(super) fn get(&self, token: &SecretDigest, generation: u64) -> Option<VerifiedToken> {
        let mut part = self.part(token).lock().unwrap_or_else(PoisonError::into_inner);
        let known = if let Some(known) = part.young.get(token) {
            *known
        } else {
            let known = part.old.remove(token)?;
            part.remember(*token, known);
            known
        };
        Some(known).filter(|(checked_by, _)| *checked_by == generation).map(|(_, verified)| verified)
    }

    pub(super) fn insert(&self, token: SecretDigest, generation: u64, verified: VerifiedToken) {
        self.part(&token).lock().unwrap_or_else(PoisonError::into_inner).remember(token, (generation, verified));
    }

    fn part(&self, token: &SecretDigest) -> &Mutex<Generations> {
        &self.parts[usize::from(token.first_byte()) % PARTS]
    }
}

impl Generations {
    fn remember(&mut self, token: SecretDigest, known: Known) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::AccountId;
    use crate::domain::session::SessionId;
    use crate::domain::time::Timestamp;

    fn digest(n: usize) -> SecretDigest {
        SecretDigest::of(&n.to_be_bytes())
    }

    fn verified(n: usize) -> VerifiedToken {
        let account = AccountId::new(u64::try_from(n).unwrap() + 1).unwrap();
        VerifiedToken {
            account,
            session: SessionId::from_bytes([0; 16]),
            not_before: Timestamp::from_millis(0),
            issued_at: Timestamp::from_millis(0),
            expires_at: Timestamp::from_millis(i64::MAX),
            token_id: None,
        }
    }

    #[test]
    fn it_gives_back_what_it_was_given_and_nothing_else() {
        let tokens = VerifiedTokens::new();
        tokens.insert(digest(1), 0, verified(1));
        assert_eq!(tokens.get(&digest(1), 0), Some(verified(1)));
        assert_eq!(tokens.get(&digest(2), 0), None);
    }

    #[test]
    fn s43_what_other_keys_checked_is_not_known() {
        let tokens = VerifiedTokens::new();
        tokens.insert(digest(1), 1, verified(1));
        assert_eq!(tokens.get(&digest(1), 2), None, "by keys that are gone");
        assert_eq!(tokens.get(&digest(1), 0), None, "by keys that this asker has not heard of");
        tokens.insert(digest(1), 2, verified(2));
        assert_eq!(tokens.get(&digest(1), 2), Some(verified(2)));
    }

    #[test]
    fn it_stays_small_and_keeps_what_is_asked_about() {
        let tokens = VerifiedTokens::new();
        tokens.insert(digest(0), 0, verified(0));
        for n in 1..10 * PARTS * HALF {
            tokens.insert(digest(n), 0, verified(n));
            assert_eq!(tokens.get(&digest(0), 0), Some(verified(0)));
        }
        let held = |part: &Mutex<Generations>| {
            let part = part.lock().unwrap();
            part.young.len() + part.old.len()
        };
        assert!(tokens.parts.iter().map(held).sum::<usize>() <= 2 * PARTS * HALF);
        assert_eq!(tokens.get(&digest(1), 0), None);
    }
}
