//! A cache of tokens whose signature was already checked.

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

use crate::domain::secret::SecretDigest;
use crate::domain::token::VerifiedToken;

/// The maximum number of cached tokens. Each takes about 140 bytes as they are added, all of them 18 MB.
const MOST: u32 = 131_072;
/// The number of evicted tokens that the cache remembers in order to recognise them when they return.
/// Each takes as much room as a token and is of little use.
const NOTED: usize = 1024;

/// Caches the claims of a token by its digest, as long as it is used often.
///
/// It saves only the signature check. On a hit, the token is still checked against the clock, its session by the shard and its
/// account by the store, so nothing that was revoked passes. An entry of another key generation is a miss,
/// so that no token outlives its key.
pub(super) struct VerifiedTokens {
    tokens: Cache<SecretDigest, Known>,
}

/// The generation of the keys that checked a token, and the token's claims.
type Known = (u64, VerifiedToken);

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self { tokens: Cache::with_weighter(NOTED, MOST.into(), UnitWeighter) }
    }

    /// Returns the claims of a token if keys of this generation checked it.
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

    /// Fills the promised number of tokens and looks each up repeatedly: none is checked twice.
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
