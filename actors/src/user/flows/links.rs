//! How long the links that this process issued are good for by the clock that never jumps.
//!
//! A stored token ends by the wall clock, as another process has to know its end. One that is set back would keep it good for
//! longer (R05), so each process remembers the ends of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::one_time::TokenHash;

/// How many are remembered, of about 100 bytes each; the oldest are forgotten for more, and end by the wall clock alone.
const MOST: usize = 65_536;

/// The ends of links, on the monotonic clock.
#[derive(Default)]
pub(crate) struct IssuedLinks(Mutex<Ends>);

#[derive(Default)]
struct Ends {
    of: HashMap<TokenHash, Duration>,
    /// In the order in which they were issued.
    issued: VecDeque<TokenHash>,
}

impl IssuedLinks {
    /// Remembers when a link ends. It does not end later than was known before: its end is found when its mail is handed over.
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

    /// Whether a link is known to be over.
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
