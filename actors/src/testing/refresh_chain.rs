//! Refresh tokens for tests of stores, which are shown proofs and never tokens.

use crate::domain::account::AccountId;
use crate::domain::refresh::{RefreshFamily, RefreshHash, RefreshKeys, RefreshProof, RefreshToken};
use crate::domain::secret::Secret;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;

/// The refresh tokens that one session gets, one after the other.
pub struct RefreshChain {
    family: RefreshFamily,
    keys: RefreshKeys,
    tokens: Vec<RefreshToken>,
}

impl RefreshChain {
    /// The first tokens of a session. Two chains of one session are the same.
    #[must_use]
    pub fn begin(account: AccountId, session: SessionId, tokens: usize) -> Self {
        let keys = RefreshKeys::derive(&Secret::new("a chain of refresh tokens".to_owned()), None);
        let (family, first) = keys.begin(account, session, &[7; 64]);
        let (mut now, mut chain) = (family.clone(), vec![first]);
        while chain.len() < tokens {
            let last = &chain[chain.len() - 1];
            let renewed = now.renewed(keys.successor(last), Timestamp::from_millis(0), std::time::Duration::MAX);
            let Some((renewed, next)) = renewed.and_then(|family| Some((family.clone(), keys.present(&family, last)?)))
            else {
                break;
            };
            now = renewed;
            chain.push(next);
        }
        Self { family, keys, tokens: chain }
    }

    /// The family as it is stored when the session is opened.
    #[must_use]
    pub fn family(&self) -> RefreshFamily {
        self.family.clone()
    }

    /// What a store is shown of the token of this generation, and the hash of the one after it.
    #[must_use]
    pub fn presented(&self, generation: usize) -> (RefreshProof, RefreshHash) {
        let token = &self.tokens[generation];
        (token.untagged(&self.family), self.keys.successor(token))
    }
}
