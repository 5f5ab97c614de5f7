//! Service tokens and revocations, read.

use doorward_actors::{Revocation, RevocationSpan, ServiceToken, ServiceTokenId, Timestamp};

use super::super::codec;
use super::super::keys;
use super::super::staging::Fault;
use super::{counter, get};

/// One that cannot be read opens nothing, and leaves the others alone.
pub(in crate::store) fn service_tokens(tree: &sled::Tree) -> Result<Vec<ServiceToken>, Fault> {
    let mut tokens = Vec::new();
    for row in tree.scan_prefix(keys::ALL_SERVICE_TOKENS) {
        let (_, value) = row?;
        match codec::decode::<ServiceToken>(&value) {
            Ok(token) => {
                let last_used_at = get::<Timestamp>(tree, &keys::service_token_use(token.id))?;
                tokens.push(ServiceToken { last_used_at, ..token });
            }
            Err(error) => tracing::error!(%error, "a stored service token cannot be read and opens nothing"),
        }
    }
    Ok(tokens)
}

pub(in crate::store) fn built_in_last_used(tree: &sled::Tree) -> Result<Option<Timestamp>, Fault> {
    get(tree, &keys::service_token_use(ServiceTokenId::BUILT_IN))
}

/// One that cannot be read fails all: to pass it over would keep a token alive somewhere.
pub(in crate::store) fn revocations(
    tree: &sled::Tree,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Revocation)>, Fault> {
    let (Some(first), last) = (after.checked_add(1), counter(tree, keys::LAST_REVOCATION)?) else {
        return Ok(Vec::new());
    };
    let mut revocations = Vec::new();
    if first <= last {
        for row in tree.range(keys::revocation(first)..=keys::revocation(last)).take(limit) {
            let (key, value) = row?;
            if let Some(number) = keys::number_of_revocation(&key) {
                revocations.push((number, codec::decode(&value)?));
            }
        }
    }
    Ok(revocations)
}

pub(in crate::store) fn revocation_span(tree: &sled::Tree) -> Result<RevocationSpan, Fault> {
    let before = counter(tree, keys::REVOCATIONS_GONE)?;
    // Read after the other: it only grows, so the span is never upside down.
    let last = counter(tree, keys::LAST_REVOCATION)?;
    Ok(RevocationSpan { before, last })
}
