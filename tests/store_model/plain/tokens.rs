//! One-time tokens.

use super::State;
use doorward_actors::store::{Redemption, StoredToken, UsedToken};
use doorward_actors::{Account, AccountId, NewToken, TokenHash, TokenPurpose};

/// The maximum number of tokens that undo changes, per account.
const UNDO_TOKENS: usize = 16;

fn undoes(account: AccountId) -> impl Fn(&StoredToken) -> bool {
    move |stored| stored.account == account && stored.token.purpose == TokenPurpose::Undo
}

impl State {
    /// Returns whether a token permits what it is presented for.
    pub(super) fn is_good(&self, account: AccountId, wanted: &Redemption) -> bool {
        let permits = |stored: &StoredToken| {
            stored.account == account
                && stored.token.hash == wanted.hash
                && stored.token.purpose == wanted.purpose
                && stored.token.address == wanted.address
                && stored.token.expires_at > wanted.now
        };
        self.tokens.iter().any(permits)
    }

    /// Keeps the last use of a token for each purpose of an account.
    pub(super) fn note_use(&mut self, after: &Account, redeemed: &Redemption) {
        let &Redemption { hash, purpose, now: at, .. } = redeemed;
        self.used.retain(|used| used.hash != hash && (used.account, used.purpose) != (after.id, purpose));
        self.used.push(UsedToken { hash, account: after.id, revision: after.revision, purpose, at });
    }

    /// Removes the tokens that undo changes at this revision or later.
    pub(super) fn settle_undos(&mut self, account: AccountId, from: Option<u64>) {
        let undoes = undoes(account);
        self.tokens.retain(|old| !undoes(old) || from.is_none_or(|from| old.revision < from));
    }

    pub(super) fn issue(&mut self, account: AccountId, tokens: Vec<NewToken>) {
        let undoes = undoes(account);
        let revision = self.accounts.get(&account).map_or(0, |account| account.revision);
        for token in tokens {
            if token.purpose == TokenPurpose::Undo {
                self.tokens.retain(|old| !undoes(old) || token.issued_at < old.token.expires_at);
                let revisions = self.tokens.iter().filter(|old| undoes(old)).map(|old| old.revision);
                if let (UNDO_TOKENS.., Some(newest)) = (revisions.clone().count(), revisions.max()) {
                    self.tokens.retain(|old| !undoes(old) || old.revision != newest);
                }
                self.replace(account, |old| undoes(old) && old.revision == revision);
            } else {
                self.replace(account, |old| (old.account, old.token.purpose) == (account, token.purpose));
            }
            self.tokens.retain(|old| old.token.hash != token.hash);
            self.tokens.push(StoredToken { account, revision, token });
        }
    }

    /// Removes tokens that are replaced, and their waiting mails.
    fn replace(&mut self, account: AccountId, which: impl Fn(&StoredToken) -> bool) {
        let older: Vec<TokenHash> = self.tokens.iter().filter(|old| which(old)).map(|old| old.token.hash).collect();
        self.tokens.retain(|old| !which(old));
        for token in older {
            self.withdraw(account, &token, true);
        }
    }
}
