//! The letters of an actor: how many wait, and for how long.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The maximum number of looks that are kept. If there are more, every second one is forgotten.
const MAX_LOOKS: usize = 64;

/// Counts the letters of an actor.
///
/// A sender does not read the clock, because that would cost more than the rest of the sending. Instead each look at the actor is
/// remembered with the number of letters sent until then. A letter that was already there at a look has waited at least since that
/// look.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    sent: AtomicU64,
    taken: AtomicU64,
    /// The times of looks, and how many letters had been sent at each. The first of them may be before the oldest waiting letter.
    looks: Mutex<VecDeque<(Duration, u64)>>,
}

impl Letters {
    /// Counts a letter before it is sent, so that the actor never takes more letters than were counted.
    pub(crate) fn sending(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back the last [`sending`](Self::sending), because the actor did not accept the letter.
    pub(crate) fn not_sent(&self) {
        self.sent.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a letter that the actor takes out of its mailbox.
    pub(crate) fn taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Looks at the letters at a time of the monotonic clock. Returns how many wait, and how long the oldest of them has waited at
    /// least, as far as earlier looks tell. Zero if none waits.
    pub(crate) fn look(&self, now: Duration) -> (u64, Duration) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken is read first: the oldest waiting letter is then never a later one than it was.
        let taken = self.taken.load(Ordering::Relaxed);
        let sent = self.sent.load(Ordering::Relaxed);
        while looks.front().is_some_and(|(_, sent_then)| *sent_then <= taken) {
            looks.pop_front();
        }
        if sent <= taken {
            return (0, Duration::ZERO);
        }
        if looks.back().is_none_or(|(_, sent_then)| *sent_then < sent) {
            if looks.len() == MAX_LOOKS {
                let mut index = 0;
                looks.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
            }
            looks.push_back((now, sent));
        }
        let seen = looks.front().map_or(now, |(at, _)| *at);
        (sent - taken, now.saturating_sub(seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(letters: &Letters, seconds: u64) -> (u64, u64) {
        let (waiting, oldest) = letters.look(Duration::from_secs(seconds));
        (waiting, oldest.as_secs())
    }

    #[test]
    fn the_oldest_letter_waits_since_the_first_look_that_found_it() {
        let letters = Letters::default();
        assert_eq!(look(&letters, 0), (0, 0));
        letters.sending();
        letters.sending();
        assert_eq!(look(&letters, 10), (2, 0));
        letters.sending();
        assert_eq!(look(&letters, 12), (3, 2));
        letters.taken();
        assert_eq!(look(&letters, 13), (2, 3), "the second letter was there at the first look too");
        letters.taken();
        assert_eq!(look(&letters, 15), (1, 3), "the third was first seen by the second look");
        letters.taken();
        assert_eq!(look(&letters, 16), (0, 0));
        letters.sending();
        assert_eq!(look(&letters, 20), (1, 0));
    }

    #[test]
    fn looks_take_bounded_memory_and_still_know_the_oldest_letter() {
        let letters = Letters::default();
        for second in 0..1_000 {
            letters.sending();
            assert_eq!(look(&letters, second), (second + 1, second));
        }
        assert!(letters.looks.lock().unwrap().len() <= MAX_LOOKS);
        for _ in 0..500 {
            letters.taken();
        }
        let (waiting, oldest) = look(&letters, 1_000);
        assert_eq!(waiting, 500);
        assert!((100..=500).contains(&oldest), "older looks are further apart: {oldest}");
    }

    #[test]
    fn a_letter_that_was_not_accepted_does_not_wait() {
        let letters = Letters::default();
        letters.sending();
        letters.not_sent();
        assert_eq!(look(&letters, 1), (0, 0));
    }
}
