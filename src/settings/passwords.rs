//! Password hashing and strength.

use std::path::PathBuf;
use std::time::Duration;

use doorward_actors::HashBackendChoice;

use super::reader::{Reader, documented};
use super::table;
use crate::breached::BreachedList;

/// The cost of a password hash, and the rules for a new password.
#[derive(Debug, Clone)]
pub struct PasswordSettings {
    /// How many threads hash, 1 to 64. This number times [`Self::hash_memory_kib`] is the maximum memory of hashing.
    pub hash_threads: usize,
    /// Which implementation computes a hash.
    pub hash_backend: HashBackendChoice,
    /// The memory cost of a hash in KiB, 19,456 (ASVS 11.4.2) to 1,048,576.
    pub hash_memory_kib: u32,
    /// The number of passes of a hash, 2 (ASVS 11.4.2) to 16.
    pub hash_iterations: u32,
    /// How many jobs may wait in each lane of the hashing threads, 1 to 65,536.
    pub hash_queue: usize,
    /// How long a hash may wait before it starts, 100 milliseconds to 1 minute.
    pub hash_deadline: Duration,
    /// The minimum zxcvbn score of a new password, 0 to 4.
    pub min_score: u8,
    /// The file of a list of breached passwords.
    pub breached_file: Option<PathBuf>,
}

impl PasswordSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let hash_threads = reader.integer(&table::HASH_THREADS);
        let hash_backend = reader.parse(&table::HASH_BACKEND, HashBackendChoice::from_name);
        let hash_memory_kib = reader.integer(&table::HASH_MEMORY_KIB);
        let hash_iterations = reader.integer(&table::HASH_ITERATIONS);
        let hash_queue = reader.integer(&table::HASH_QUEUE);
        let hash_deadline = reader.milliseconds(&table::HASH_DEADLINE_MS);
        let min_score = reader.integer(&table::PASSWORD_MIN_SCORE);
        let breached_file = breached_file(reader);
        Some(Self {
            hash_threads: hash_threads?,
            hash_backend: hash_backend?,
            hash_memory_kib: hash_memory_kib?,
            hash_iterations: hash_iterations?,
            hash_queue: hash_queue?,
            hash_deadline: hash_deadline?,
            min_score: min_score?,
            breached_file: breached_file?,
        })
    }
}

/// Opens and checks the list here, so that a wrong file is reported as a mistake in the settings. It is opened again where it is used.
#[expect(clippy::option_option, reason = "the outer one says whether the reading went well, as everywhere here")]
fn breached_file(reader: &mut Reader) -> Option<Option<PathBuf>> {
    let key = &table::BREACHED_PASSWORDS_FILE;
    let path = reader.optional_path(key)?;
    if let Some(Err(error)) = path.as_deref().map(BreachedList::open) {
        reader.refuse(key, format!("names a file that {error}"));
        return None;
    }
    Some(path)
}

impl Default for PasswordSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}
