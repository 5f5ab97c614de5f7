//! One-time tokens: issued, used up, made worthless.

use doorward_actors::ports::{Redemption, StoredToken};
use doorward_actors::{AccountId, NewToken, Timestamp, TokenHash};

use super::super::codec;
use super::super::keys;
use super::super::staging::{Fault, Staging};
use super::mails;

/// Issues tokens; each replaces the one that the account had for its purpose.
pub(super) fn issue_all(staging: &mut Staging<'_>, account: AccountId, tokens: Vec<NewToken>) -> Result<(), Fault> {
    for token in tokens {
        let index = keys::token_of(account, token.purpose);
        if let Some(older) = staging.get::<TokenHash>(&index)? {
            staging.remove(&keys::token(&older));
            mails::withdraw(staging, account, &older, true)?;
        }
        // Tokens are random and never come twice; if one did, it would be worth nothing to the earlier owner.
        let key = keys::token(&token.hash);
        if let Some(same) = staging.get::<StoredToken>(&key)? {
            remove(staging, &same);
        }
        staging.put(&index, &token.hash)?;
        staging.put(&key, &StoredToken { account, token })?;
    }
    Ok(())
}

/// Uses a token up; `false` if it does not permit what it is presented for.
pub(super) fn redeem(staging: &mut Staging<'_>, account: AccountId, wanted: &Redemption) -> Result<bool, Fault> {
    let Some(stored) = staging.get::<StoredToken>(&keys::token(&wanted.hash))? else {
        return Ok(false);
    };
    let permits = stored.account == account
        && stored.token.purpose == wanted.purpose
        && stored.token.address == wanted.address
        && wanted.now < stored.token.expires_at;
    if permits {
        remove(staging, &stored);
        mails::withdraw(staging, account, &wanted.hash, false)?;
    }
    Ok(permits)
}

/// Makes all tokens of an account worthless.
pub(super) fn revoke_all(staging: &mut Staging<'_>, account: AccountId) -> Result<(), Fault> {
    for (index, hash) in staging.scan(&keys::tokens_of(account))? {
        let hash = codec::decode(&hash)?;
        staging.remove(&keys::token(&hash));
        staging.remove(&index);
        mails::withdraw(staging, account, &hash, false)?;
    }
    Ok(())
}

/// Ends a token at this time, if that is earlier than its end so far.
pub(super) fn end_by(staging: &mut Staging<'_>, hash: &TokenHash, end: Timestamp) -> Result<(), Fault> {
    let key = keys::token(hash);
    if let Some(mut stored) = staging.get::<StoredToken>(&key)?
        && end < stored.token.expires_at
    {
        stored.token.expires_at = end;
        staging.put(&key, &stored)?;
    }
    Ok(())
}

fn remove(staging: &mut Staging<'_>, stored: &StoredToken) {
    staging.remove(&keys::token(&stored.token.hash));
    staging.remove(&keys::token_of(stored.account, stored.token.purpose));
}
