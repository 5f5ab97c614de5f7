//! Tokens whose signature was checked already.

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

use crate::domain::secret::SecretDigest;
use crate::domain::token::VerifiedToken;

/// How many tokens are remembered: some 140 bytes each as they come, and 18 MB in all.
const MOST: u32 = 131_072;
/// How many of the forgotten are noted, to know them when they come back. That takes as much room as a token, and tells little.
const NOTED: usize = 1024;

/// Remembers what a token says, by its digest, for as long as it is asked about often.
///
/// It spares the signature check alone. A hit is still checked against the clock, its session by the shard and its
/// account by the store, so nothing that was revoked passes. What was checked by keys of another generation is not known, so
/// that no token outlives its key.
pub(super) struct VerifiedTokens {
    tokens: Cache<SecretDigest, Known>,
}

/// What a token says, and the generation of the keys that it was checked by.
type Known = (u64, VerifiedToken);

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self { tokens: Cache::with_weighter(NOTED, MOST.into(), UnitWeighter) }
    }

    /// What a token says, if keys of this generation checked it.
    pub(super) fn get(&self, token: &SecretDigest, generation: u64) -> Option<VerifiedToken> {
        let known = self.tokens.get(token);
        known.filter(|(checked_by, _)| *checked_by == generation).map(|(_, verified)| verified)
    }

    pub(super) fn insert(&self, token: SecretDigest, generation: u64, verified: VerifiedToken) {
        self.tokens.insert(token, (generation, verified));
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

    /// As many as there can be, each asked about again and again: none costs its signature twice.
    #[test]
    fn it_keeps_all_of_as_many_as_it_promises_and_stays_small() {
        let tokens = VerifiedTokens::new();
        let promised = usize::try_from(MOST).unwrap() / 5 * 4;
        for round in 0..3 {
            let mut missed = 0;
            for n in 0..promised {
                if tokens.get(&digest(n), 0).is_none() {
                    missed += 1;
                    tokens.insert(digest(n), 0, verified(n));
                }
            }
            assert_eq!(missed, if round == 0 { promised } else { 0 });
        }
        for n in 0..2 * promised {
            tokens.insert(digest(promised + n), 0, verified(n));
        }
        assert!(tokens.tokens.len() <= usize::try_from(MOST).unwrap());
    }

    #[test]
    fn what_is_asked_about_stays_though_many_others_come() {
        let tokens = VerifiedTokens::new();
        tokens.insert(digest(0), 0, verified(0));
        for n in 1..2 * usize::try_from(MOST).unwrap() {
            tokens.insert(digest(n), 0, verified(n));
            assert_eq!(tokens.get(&digest(0), 0), Some(verified(0)));
        }
    }
}
