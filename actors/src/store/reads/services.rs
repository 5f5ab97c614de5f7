//! Queries of service tokens and revocations.

use std::ops::Bound;

use super::super::codec;
use super::super::engine::{Fault, Rows};
use super::super::layout;
use super::{counter, get, walk, walk_prefix};
use crate::domain::revocation::Revocation;
use crate::domain::service_token::ServiceToken;
use crate::domain::time::Timestamp;

/// Returns all service tokens. Skips an unreadable one, which then gives no access.
pub(crate) fn service_tokens(rows: &dyn Rows) -> Result<Vec<ServiceToken>, Fault> {
    let mut tokens = Vec::new();
    for row in walk_prefix(rows, layout::ALL_SERVICE_TOKENS) {
        let (_, value) = row?;
        match codec::decode::<ServiceToken>(&value) {
            Ok(token) => {
                let last_used_at = get::<Timestamp>(rows, &layout::service_token_use(token.id))?;
                tokens.push(ServiceToken { last_used_at, ..token });
            }
            Err(error) => tracing::error!(%error, "a stored service token cannot be read and is not accepted"),
        }
    }
    Ok(tokens)
}

/// Returns the revocations after a number. An unreadable one fails the query: if it were skipped, a verifier would still accept a token.
pub(crate) fn revocations(rows: &dyn Rows, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, Fault> {
    let (Some(first), last) = (after.checked_add(1), counter(rows, layout::LAST_REVOCATION)?) else {
        return Ok(Vec::new());
    };
    let mut revocations = Vec::new();
    if first <= last {
        let (first, last) = (layout::revocation(first), layout::revocation(last));
        for row in walk(rows, Bound::Included(first.to_vec()), Bound::Included(last.to_vec())).take(limit) {
            let (key, value) = row?;
            if let Some(number) = layout::number_of_revocation(&key) {
                revocations.push((number, codec::decode(&value)?));
            }
        }
    }
    Ok(revocations)
}
