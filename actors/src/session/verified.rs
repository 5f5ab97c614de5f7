//! Tokens whose signature was checked already.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::secret::SecretDigest;
use crate::domain::token::VerifiedToken;

/// Parts that are locked apart, so that threads rarely wait for each other.
const PARTS: usize = 16;
/// How many tokens one generation of a part holds. Two generations of 16 parts and some 100 bytes a token: at most 3 MB.
const GENERATION: usize = 1024;

/// Remembers what a token says, by its digest, for as long as it is asked about often.
///
/// It spares the signature check alone. A hit is still checked against the clock, its session by the shard and its
/// account by the store, so nothing that was revoked passes. The signing key does not change while a process runs.
pub(super) struct VerifiedTokens {
    parts: Vec<Mutex<Generations>>,
}

/// What was asked about lately, and what was asked about before that. When the younger is full the older goes, so that
/// what nobody asks about any more is forgotten without anyone keeping books.
#[derive(Default)]
struct Generations {
    young: HashMap<SecretDigest, VerifiedToken>,
    old: HashMap<SecretDigest, VerifiedToken>,
}

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self { parts: (0..PARTS).map(|_| Mutex::default()).collect() }
    }

    pub(super) fn get(&self, token: &SecretDigest) -> Option<VerifiedToken> {
        let mut part = self.part(token).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = part.young.get(token) {
            return Some(*known);
        }
        let known = part.old.remove(token)?;
        part.remember(*token, known);
        Some(known)
    }

    pub(super) fn insert(&self, token: SecretDigest, verified: VerifiedToken) {
        self.part(&token).lock().unwrap_or_else(PoisonError::into_inner).remember(token, verified);
    }

    fn part(&self, token: &SecretDigest) -> &Mutex<Generations> {
        &self.parts[usize::from(token.first_byte()) % PARTS]
    }
}

impl Generations {
    fn remember(&mut self, token: SecretDigest, verified: VerifiedToken) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, verified);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::AccountId;
    use crate::domain::session::SessionId;

    fn digest(n: usize) -> SecretDigest {
        SecretDigest::of(&n.to_be_bytes())
    }

    fn verified(n: usize) -> VerifiedToken {
        let account = AccountId::new(u64::try_from(n).unwrap() + 1).unwrap();
        let at = crate::domain::time::Timestamp::from_millis(0);
        VerifiedToken {
            account,
            session: SessionId::from_bytes([0; 16]),
            not_before: 0,
            expires: i64::MAX,
            issued_at: at,
            expires_at: at,
        }
    }

    #[test]
    fn it_gives_back_what_it_was_given_and_nothing_else() {
        let tokens = VerifiedTokens::new();
        tokens.insert(digest(1), verified(1));
        assert_eq!(tokens.get(&digest(1)), Some(verified(1)));
        assert_eq!(tokens.get(&digest(2)), None);
    }

    #[test]
    fn it_stays_small_and_keeps_what_is_asked_about() {
        let tokens = VerifiedTokens::new();
        tokens.insert(digest(0), verified(0));
        for n in 1..10 * PARTS * GENERATION {
            tokens.insert(digest(n), verified(n));
            assert_eq!(tokens.get(&digest(0)), Some(verified(0)));
        }
        let held = |part: &Mutex<Generations>| {
            let part = part.lock().unwrap();
            part.young.len() + part.old.len()
        };
        assert!(tokens.parts.iter().map(held).sum::<usize>() <= 2 * PARTS * GENERATION);
        assert_eq!(tokens.get(&digest(1)), None);
    }
}
