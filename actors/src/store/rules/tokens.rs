//! The rules for one-time tokens: issue, consume, invalidate.

use super::super::codec;
use super::super::engine::Fault;
use super::super::layout;
use super::super::requests::{Redemption, StoredToken, UsedToken};
use super::super::transaction::Transaction;
use super::mails;
use crate::domain::account::AccountId;
use crate::domain::one_time::{NewToken, TokenHash, TokenPurpose};
use crate::domain::time::Timestamp;

/// The maximum number of tokens that undo changes, per account.
const MAX_UNDOS: usize = 16;

/// Issues tokens to an account at this revision. Each replaces the account's token for the same purpose,
/// except those that undo changes.
pub(super) fn issue_all(
    tx: &mut Transaction<'_>,
    account: AccountId,
    revision: u64,
    tokens: Vec<NewToken>,
) -> Result<(), Fault> {
    for token in tokens {
        if token.purpose == TokenPurpose::Undo {
            make_room(tx, account, token.issued_at)?;
        }
        let stored = StoredToken { account, revision, token };
        let index = index_of(&stored);
        if let Some(older) = tx.get::<TokenHash>(&index)? {
            tx.remove(&layout::token(&older));
            mails::withdraw(tx, account, &older, true)?;
        }
        // Tokens are random and do not repeat. If one did, it must be worthless to the earlier owner.
        let key = layout::token(&stored.token.hash);
        if let Some(same) = tx.get::<StoredToken>(&key)? {
            remove(tx, &same);
        }
        tx.put(&index, &stored.token.hash)?;
        tx.put(&key, &stored)?;
    }
    Ok(())
}

/// Makes room for another token that undoes changes. Removes expired ones. If there are still too many, the newest is removed,
/// because an earlier one also undoes what the newest one does.
fn make_room(tx: &mut Transaction<'_>, account: AccountId, now: Timestamp) -> Result<(), Fault> {
    let mut living = Vec::new();
    for stored in undos(tx, account)? {
        if now < stored.token.expires_at {
            living.push(stored);
        } else {
            remove(tx, &stored);
        }
    }
    if living.len() >= MAX_UNDOS
        && let Some(newest) = living.pop()
    {
        remove(tx, &newest);
    }
    Ok(())
}

/// Consumes a token. Returns `false` if it does not permit what it is presented for.
pub(super) fn redeem(tx: &mut Transaction<'_>, account: AccountId, wanted: &Redemption) -> Result<bool, Fault> {
    let Some(stored) = tx.get::<StoredToken>(&layout::token(&wanted.hash))? else {
        return Ok(false);
    };
    let permits = stored.account == account
        && stored.token.purpose == wanted.purpose
        && stored.token.address == wanted.address
        && wanted.now < stored.token.expires_at;
    if permits {
        remove(tx, &stored);
        mails::withdraw(tx, account, &wanted.hash, false)?;
    }
    Ok(permits)
}

/// Records that a token was used and led to this revision of the account. This replaces the record of the last use for the same
/// purpose, so there is nothing to prune.
pub(super) fn note_use(
    tx: &mut Transaction<'_>,
    account: AccountId,
    revision: u64,
    redeemed: &Redemption,
) -> Result<(), Fault> {
    let &Redemption { hash, purpose, now: at, .. } = redeemed;
    let index = layout::used_token_of(account, purpose);
    if let Some(before) = tx.get::<TokenHash>(&index)? {
        tx.remove(&layout::used_token(&before));
    }
    // As when tokens are issued: if two were alike, the earlier one would no longer be known.
    if let Some(same) = tx.get::<UsedToken>(&layout::used_token(&hash))? {
        tx.remove(&layout::used_token_of(same.account, same.purpose));
    }
    tx.put(&index, &hash)?;
    tx.put(&layout::used_token(&hash), &UsedToken { hash, account, revision, purpose, at })
}

/// Invalidates the tokens of an account that depend on its earlier state: all except those that verify its address or undo changes.
pub(super) fn revoke(tx: &mut Transaction<'_>, account: AccountId) -> Result<(), Fault> {
    let kept = layout::token_of(account, TokenPurpose::VerifyAddress);
    for (index, hash) in tx.scan(&layout::tokens_of(account))? {
        if index[..] != kept[..] {
            let hash = codec::decode(&hash)?;
            tx.remove(&layout::token(&hash));
            tx.remove(&index);
            mails::withdraw(tx, account, &hash, false)?;
        }
    }
    Ok(())
}

/// Makes a token expire at this time, if that is earlier than its expiry so far.
pub(super) fn end_by(tx: &mut Transaction<'_>, hash: &TokenHash, end: Timestamp) -> Result<(), Fault> {
    let key = layout::token(hash);
    if let Some(mut stored) = tx.get::<StoredToken>(&key)?
        && end < stored.token.expires_at
    {
        stored.token.expires_at = end;
        tx.put(&key, &stored)?;
    }
    Ok(())
}

/// Invalidates the tokens that undo changes at this revision or later.
pub(super) fn settle(tx: &mut Transaction<'_>, account: AccountId, from: u64) -> Result<(), Fault> {
    for stored in undos(tx, account)? {
        if stored.revision >= from {
            remove(tx, &stored);
        }
    }
    Ok(())
}

/// Removes all tokens of an account that is deleted, including used ones.
pub(super) fn remove_all(tx: &mut Transaction<'_>, account: AccountId) -> Result<(), Fault> {
    for prefix in [layout::tokens_of(account), layout::undos_of(account)] {
        for (index, hash) in tx.scan(&prefix)? {
            tx.remove(&layout::token(&codec::decode(&hash)?));
            tx.remove(&index);
        }
    }
    for (index, hash) in tx.scan(&layout::used_tokens_of(account))? {
        tx.remove(&layout::used_token(&codec::decode(&hash)?));
        tx.remove(&index);
    }
    Ok(())
}

/// Returns the tokens of an account that undo changes, the earliest first.
fn undos(tx: &mut Transaction<'_>, account: AccountId) -> Result<Vec<StoredToken>, Fault> {
    let mut found = Vec::new();
    for (_, hash) in tx.scan(&layout::undos_of(account))? {
        found.extend(tx.get::<StoredToken>(&layout::token(&codec::decode(&hash)?))?);
    }
    Ok(found)
}

fn remove(tx: &mut Transaction<'_>, stored: &StoredToken) {
    tx.remove(&layout::token(&stored.token.hash));
    tx.remove(&index_of(stored));
}

/// Returns the key of the account's index entry of a token.
fn index_of(stored: &StoredToken) -> Vec<u8> {
    match stored.token.purpose {
        TokenPurpose::Undo => layout::undo_of(stored.account, stored.revision).to_vec(),
        purpose => layout::token_of(stored.account, purpose).to_vec(),
    }
}
