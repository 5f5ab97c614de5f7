//! One-time tokens: issued, used up, made worthless.

use doorward_actors::ports::{Redemption, StoredToken, UsedToken};
use doorward_actors::{AccountId, NewToken, Timestamp, TokenHash, TokenPurpose};

use super::super::codec;
use super::super::keys;
use super::super::staging::{Fault, Staging};
use super::mails;

/// How many tokens that undo what was done an account has at most.
const MAX_UNDOS: usize = 16;

/// Issues tokens to an account at this revision. Each replaces the one that the account had for its purpose, but for those that
/// undo what was done.
pub(super) fn issue_all(
    staging: &mut Staging<'_>,
    account: AccountId,
    revision: u64,
    tokens: Vec<NewToken>,
) -> Result<(), Fault> {
    for token in tokens {
        if token.purpose == TokenPurpose::Undo {
            make_room(staging, account, token.issued_at)?;
        }
        let stored = StoredToken { account, revision, token };
        let index = index_of(&stored);
        if let Some(older) = staging.get::<TokenHash>(&index)? {
            staging.remove(&keys::token(&older));
            mails::withdraw(staging, account, &older, true)?;
        }
        // Tokens are random and never come twice; if one did, it would be worth nothing to the earlier owner.
        let key = keys::token(&stored.token.hash);
        if let Some(same) = staging.get::<StoredToken>(&key)? {
            remove(staging, &same);
        }
        staging.put(&index, &stored.token.hash)?;
        staging.put(&key, &stored)?;
    }
    Ok(())
}

/// Makes room for another token that undoes what was done: those that are over go, and where there are too many, the newest
/// gives way, as an earlier one undoes what that one does.
fn make_room(staging: &mut Staging<'_>, account: AccountId, now: Timestamp) -> Result<(), Fault> {
    let mut living = Vec::new();
    for stored in undos(staging, account)? {
        if now < stored.token.expires_at {
            living.push(stored);
        } else {
            remove(staging, &stored);
        }
    }
    if living.len() >= MAX_UNDOS
        && let Some(newest) = living.pop()
    {
        remove(staging, &newest);
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

/// Records that a token was used and led to this revision of the account. This replaces the record of the last use for the same
/// purpose, so there is nothing to prune.
pub(super) fn note_use(
    staging: &mut Staging<'_>,
    account: AccountId,
    revision: u64,
    redeemed: &Redemption,
) -> Result<(), Fault> {
    let &Redemption { hash, purpose, now: at, .. } = redeemed;
    let index = keys::used_token_of(account, purpose);
    if let Some(before) = staging.get::<TokenHash>(&index)? {
        staging.remove(&keys::used_token(&before));
    }
    // As where tokens are issued: were there two alike, the earlier one would not be known any more.
    if let Some(same) = staging.get::<UsedToken>(&keys::used_token(&hash))? {
        staging.remove(&keys::used_token_of(same.account, same.purpose));
    }
    staging.put(&index, &hash)?;
    staging.put(&keys::used_token(&hash), &UsedToken { hash, account, revision, purpose, at })
}

/// Makes the tokens of an account worthless that depend on how it was: all but those that verify its address or undo what was
/// done.
pub(super) fn revoke(staging: &mut Staging<'_>, account: AccountId) -> Result<(), Fault> {
    let kept = keys::token_of(account, TokenPurpose::VerifyAddress);
    for (index, hash) in staging.scan(&keys::tokens_of(account))? {
        if index[..] != kept[..] {
            let hash = codec::decode(&hash)?;
            staging.remove(&keys::token(&hash));
            staging.remove(&index);
            mails::withdraw(staging, account, &hash, false)?;
        }
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

/// Makes the tokens worthless that undo what was done at this revision or later.
pub(super) fn settle(staging: &mut Staging<'_>, account: AccountId, from: u64) -> Result<(), Fault> {
    for stored in undos(staging, account)? {
        if stored.revision >= from {
            remove(staging, &stored);
        }
    }
    Ok(())
}

/// Removes all tokens of an account that goes, used ones too.
pub(super) fn remove_all(staging: &mut Staging<'_>, account: AccountId) -> Result<(), Fault> {
    for prefix in [keys::tokens_of(account), keys::undos_of(account)] {
        for (index, hash) in staging.scan(&prefix)? {
            staging.remove(&keys::token(&codec::decode(&hash)?));
            staging.remove(&index);
        }
    }
    for (index, hash) in staging.scan(&keys::used_tokens_of(account))? {
        staging.remove(&keys::used_token(&codec::decode(&hash)?));
        staging.remove(&index);
    }
    Ok(())
}

/// The tokens of an account that undo what was done, the earliest first.
fn undos(staging: &mut Staging<'_>, account: AccountId) -> Result<Vec<StoredToken>, Fault> {
    let mut found = Vec::new();
    for (_, hash) in staging.scan(&keys::undos_of(account))? {
        found.extend(staging.get::<StoredToken>(&keys::token(&codec::decode(&hash)?))?);
    }
    Ok(found)
}

fn remove(staging: &mut Staging<'_>, stored: &StoredToken) {
    staging.remove(&keys::token(&stored.token.hash));
    staging.remove(&index_of(stored));
}

/// Where the account's entry of a token is.
fn index_of(stored: &StoredToken) -> Vec<u8> {
    match stored.token.purpose {
        TokenPurpose::Undo => keys::undo_of(stored.account, stored.revision).to_vec(),
        purpose => keys::token_of(stored.account, purpose).to_vec(),
    }
}
