//! Password hashing and strength.

use std::time::Duration;

use super::keys;
use super::reader::{Reader, documented};

/// What a password hash costs, and what a new password must be like.
#[derive(Debug, Clone)]
pub struct PasswordSettings {
    /// How many threads hash, 1 to 64. Times [`Self::hash_memory_kib`] it bounds the memory of hashing.
    pub hash_threads: usize,
    /// The memory cost of a hash in KiB, 19,456 (ASVS 11.4.2) to 1,048,576.
    pub hash_memory_kib: u32,
    /// The passes of a hash, 2 (ASVS 11.4.2) to 16.
    pub hash_iterations: u32,
    /// How many hashes may wait, 1 to 65,536.
    pub hash_queue: usize,
    /// How long a hash may wait to begin, 100 milliseconds to 1 minute.
    pub hash_deadline: Duration,
    /// The lowest zxcvbn score of a new password, 0 to 4.
    pub min_score: u8,
}

impl PasswordSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let hash_threads = reader.integer(&keys::HASH_THREADS);
        let hash_memory_kib = reader.integer(&keys::HASH_MEMORY_KIB);
        let hash_iterations = reader.integer(&keys::HASH_ITERATIONS);
        let hash_queue = reader.integer(&keys::HASH_QUEUE);
        let hash_deadline = reader.milliseconds(&keys::HASH_DEADLINE_MS);
        let min_score = reader.integer(&keys::PASSWORD_MIN_SCORE);
        Some(Self {
            hash_threads: hash_threads?,
            hash_memory_kib: hash_memory_kib?,
            hash_iterations: hash_iterations?,
            hash_queue: hash_queue?,
            hash_deadline: hash_deadline?,
            min_score: min_score?,
        })
    }
}

impl Default for PasswordSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}
