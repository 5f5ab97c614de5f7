//! The id of a request in answers, logs and audit records.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// The header of the id, in requests and answers.
pub(in crate::http) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is accepted from a client. A UUID or a trace id is shorter.
const MAX_CHARS: usize = 64;

/// Returns the id of a request: the client's if there is exactly one and it is valid (S71), else a new one.
pub(in crate::http) fn of(headers: &HeaderMap) -> HeaderValue {
    let mut given = headers.get_all(X_REQUEST_ID).iter();
    match (given.next(), given.next()) {
        (Some(id), None) if is_sane(id.as_bytes()) => id.clone(),
        _ => new(),
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=MAX_CHARS).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
}

/// Returns a new id: 128 bits in hexadecimal. It is not a credential, so a counter under a keyed hash is enough, whose key
/// is random for each process. Such ids are unique in practice, they cannot be counted from outside, and they cost far
/// less than random bytes.
pub(in crate::http) fn new() -> HeaderValue {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    const HEX: &[u8; 16] = b"0123456789abcdef";

    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    let halves = [KEY.hash_one((n, 0_u8)), KEY.hash_one((n, 1_u8))];
    let mut text = [0; 32];
    for (half, digits) in halves.iter().zip(text.chunks_exact_mut(16)) {
        for (byte, pair) in half.to_be_bytes().iter().zip(digits.chunks_exact_mut(2)) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
    }
    // Hexadecimal digits are always valid in a header, so the fallback is never used.
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("unnamed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &[&[u8]]) -> HeaderValue {
        let mut headers = HeaderMap::new();
        for id in given {
            headers.append(X_REQUEST_ID, HeaderValue::from_bytes(id).unwrap());
        }
        of(&headers)
    }

    #[test]
    fn s71_only_a_sane_id_is_taken_over() {
        assert_eq!(id_for(&[b"Ab-1.2_3"]), "Ab-1.2_3");
        let long = [b'a'; 65];
        assert_eq!(id_for(&[&long[..64]]), std::str::from_utf8(&long[..64]).unwrap());
        for bad in [&[][..], &[b"".as_slice()], &[&long], &[b"a b"], &[b"a\tb"], &[b"\xE9"], &[b"a", b"b"], &[b"a;b"]] {
            let id = id_for(bad);
            assert_eq!(id.len(), 32);
            assert!(id.as_bytes().iter().all(u8::is_ascii_hexdigit));
        }
    }

    #[test]
    fn new_ids_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| new()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
