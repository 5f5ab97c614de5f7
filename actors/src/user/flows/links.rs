//! The ends of the links that this process issued, on the monotonic clock.
//!
//! A stored token expires by the wall clock, because another process has to know its end.
//! If that clock were set back, the token would be valid for longer (R05). So each process also remembers the ends of its own links.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::one_time::TokenHash;

/// The maximum number of remembered links, of about 100 bytes each.
/// Beyond it, the oldest are forgotten and expire by the wall clock alone.
const MOST: usize = 65_536;

/// The ends of links, on the monotonic clock.
#[derive(Default)]
pub(crate) struct IssuedLinks(Mutex<Ends>);

#[derive(Default)]
struct Ends {
    of: HashMap<TokenHash, Duration>,
    /// The links in the order in which they were issued.
    issued: VecDeque<TokenHash>,
}

impl IssuedLinks {
    /// Remembers when a link ends. A known end can only move earlier; the exact end is known when the mail is handed over.
    pub(crate) fn note(&self, link: TokenHash, end: Duration) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = ends.of.get_mut(&link) {
            *known = end.min(*known);
            return;
        }
        if ends.issued.len() == MOST
            && let Some(oldest) = ends.issued.pop_front()
        {
            ends.of.remove(&oldest);
        }
        ends.issued.push_back(link);
        ends.of.insert(link, end);
    }

    /// Returns whether a link is known to have expired.
    pub(super) fn is_over(&self, link: &TokenHash, now: Duration) -> bool {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.of.get(link).is_some_and(|end| now >= *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(number: usize) -> TokenHash {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        TokenHash::from_bytes(bytes)
    }

    #[test]
    fn r05_a_link_ends_by_the_clock_that_never_jumps_and_memory_is_bounded() {
        let (links, end) = (IssuedLinks::default(), Duration::from_mins(30));
        for number in 0..=MOST {
            links.note(link(number), end);
        }
        assert!(!links.is_over(&link(1), Duration::from_mins(29)));
        assert!(links.is_over(&link(1), end));
        assert!(!links.is_over(&link(0), end), "forgotten: the wall clock decides");
        let ends = links.0.lock().unwrap();
        assert_eq!((ends.of.len(), ends.issued.len()), (MOST, MOST));
    }
}
