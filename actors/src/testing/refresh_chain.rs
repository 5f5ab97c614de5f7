//! Refresh tokens for tests of stores. A store receives proofs, never tokens.

use crate::domain::account::AccountId;
use crate::domain::refresh::{RefreshFamily, RefreshHash, RefreshKeys, RefreshProof, RefreshToken};
use crate::domain::secret::Secret;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;

/// The successive refresh tokens of one session.
pub struct RefreshChain {
    family: RefreshFamily,
    keys: RefreshKeys,
    tokens: Vec<RefreshToken>,
}

impl RefreshChain {
    /// Returns the first tokens of a session. Two chains of one session are equal.
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

    /// Returns the family as it is stored when the session is opened.
    #[must_use]
    pub fn family(&self) -> RefreshFamily {
        self.family.clone()
    }

    /// Returns the proof of the token of this generation, as a store receives it, and the hash of its successor.
    #[must_use]
    pub fn presented(&self, generation: usize) -> (RefreshProof, RefreshHash) {
        let token = &self.tokens[generation];
        (token.untagged(&self.family), self.keys.successor(token))
    }
}
