//! Replacements of the outside world for tests (a manual clock, seeded entropy, a store in memory), and faults to
//! inject.

mod fault;
mod memory_keys;
mod memory_mail;
mod refresh_chain;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

pub use crate::store::engine::memory::MemoryEngine;
pub use fault::Fault;
pub use memory_keys::MemoryKeys;
pub use memory_mail::MemoryMail;
pub use refresh_chain::RefreshChain;
pub use settings::system_settings;

use crate::domain::account::{CredentialHash, NewAccount, NewRole, ProfileChange, Role};
use crate::domain::email::Email;
use crate::domain::nickname::Nickname;
use crate::domain::time::Timestamp;
use crate::ports::{Clock, Entropy};
use crate::store::{Engine, Store};

/// Returns a store in memory and the engine below it. Tests can make the engine fail.
#[must_use]
pub fn memory_store() -> (Store, Arc<MemoryEngine>) {
    let engine = Arc::new(MemoryEngine::default());
    (Store::new(Arc::clone(&engine) as Arc<dyn Engine>, u64::MAX), engine)
}

impl NewAccount {
    /// Builds a user with these names and with hashes that no secret has.
    #[must_use]
    pub fn sample(email: Email, nickname: Nickname) -> Self {
        Self {
            password_hash: CredentialHash::from_phc(format!("$password${nickname}")),
            passphrase_hash: CredentialHash::from_phc(format!("$passphrase${nickname}")),
            email,
            nickname,
            profile: ProfileChange::default(),
            created_at: Timestamp::from_millis(1),
            acting: None,
            role: NewRole::Exactly(Role::User),
            replaces_unverified: false,
        }
    }
}

/// The start of every [`ManualClock`]: 2025-01-01T00:00:00Z, in milliseconds since the Unix epoch.
const START_MILLIS: i64 = 1_735_689_600_000;

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    wall_millis: AtomicI64,
    monotonic_nanos: AtomicU64,
}

impl ManualClock {
    /// Returns a clock at 2025-01-01T00:00:00Z.
    #[must_use]
    pub const fn new() -> Self {
        Self { wall_millis: AtomicI64::new(START_MILLIS), monotonic_nanos: AtomicU64::new(0) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.monotonic_nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        self.wall_millis.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// Sets the wall clock forward, as an operator or NTP would. The monotonic clock does not change.
    pub fn set_forward(&self, by: Duration) {
        self.wall_millis.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// Sets the wall clock back, as an operator or NTP would. The monotonic clock does not change.
    pub fn set_back(&self, by: Duration) {
        self.wall_millis.fetch_sub(millis(by), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall_millis.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_nanos.load(Ordering::SeqCst))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A source of pseudorandom bytes. It never repeats bytes, and all sources with the same seed return the same bytes.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    blocks: AtomicU64,
}

impl SeededEntropy {
    /// Returns the source with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, blocks: AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(32) {
            let block = self.blocks.fetch_add(1, Ordering::SeqCst);
            let bytes = digest(&SHA256, &[self.seed.to_be_bytes(), block.to_be_bytes()].concat());
            chunk.copy_from_slice(&bytes.as_ref()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_by_hand_and_the_monotonic_clock_never_goes_back() {
        let clock = ManualClock::new();
        assert_eq!(clock.now().to_rfc3339(), "2025-01-01T00:00:00.000Z");
        clock.advance(Duration::from_mins(1));
        clock.set_back(Duration::from_hours(1));
        assert_eq!(clock.now().to_rfc3339(), "2024-12-31T23:01:00.000Z");
        assert_eq!(clock.monotonic(), Duration::from_mins(1));
    }

    #[test]
    fn a_seed_repeats_itself_and_never_its_bytes() {
        let take = |entropy: &SeededEntropy| {
            let mut bytes = [0; 80];
            entropy.fill(&mut bytes);
            bytes
        };
        let (one, same, other) = (SeededEntropy::new(1), SeededEntropy::new(1), SeededEntropy::new(2));
        let first = take(&one);
        assert_eq!(first, take(&same));
        assert_ne!(first, take(&one));
        assert_ne!(first, take(&other));
        assert_ne!(first[..32], first[32..64]);
    }
}
