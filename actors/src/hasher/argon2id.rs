//! The computation of argon2id: one secret, one hash, one block of memory.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Params, Version};

use super::backend::Memory;
use crate::domain::account::CredentialHash;
use crate::ports::Entropy;

/// Salt and output lengths, in bytes (RFC 9106 §4).
const SALT_BYTES: usize = 16;
const OUTPUT_BYTES: usize = 32;
/// The maximum memory cost of a stored hash that is computed, in KiB, so that an imported hash cannot choose how much memory we use.
const MAX_STORED_MEMORY_KIB: u32 = 1 << 20;
/// The maximum time cost of a stored hash that is computed.
pub(super) const MAX_STORED_ITERATIONS: u32 = 16;
/// A cost difference of less than 1/`UNNOTICEABLE` of today's cost cannot be noticed by its duration.
const UNNOTICEABLE: u64 = 50;

/// The cost of one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// The number of passes over it.
    pub iterations: u32,
}

impl HashCost {
    fn params(self) -> Result<Params, argon2::Error> {
        Params::new(self.memory_kib, self.iterations, 1, Some(OUTPUT_BYTES))
    }
}

/// The outcome of comparing a secret with a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    /// The secret is the one that was hashed.
    pub(super) matches: bool,
    /// The hash was made at a cost other than today's and should be renewed (S06).
    pub(super) outdated: bool,
}

pub(super) fn hash(
    secret: &[u8],
    cost: HashCost,
    entropy: &dyn Entropy,
    memory: &mut Memory,
) -> Result<CredentialHash, argon2::Error> {
    let mut salt = [0; SALT_BYTES];
    entropy.fill(&mut salt);
    let mut out = [0; OUTPUT_BYTES];
    let params = cost.params()?;
    memory.compute(secret, &salt, &params, &mut out)?;
    let phc = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).map_err(|_| argon2::Error::AlgorithmInvalid)?,
        salt: Some(Salt::new(&salt).map_err(|_| argon2::Error::SaltTooShort)?),
        hash: Some(Output::new(&out).map_err(|_| argon2::Error::OutputTooShort)?),
    };
    Ok(CredentialHash::from_phc(phc.to_string()))
}

/// Compares at the cost with which the hash was made. If that is less than today's, the difference is computed as well, so that the
/// duration does not tell an old account from an unknown one (S11).
///
/// `None` if the stored hash is not an argon2id hash, or costs more than the maximum.
pub(super) fn verify(secret: &[u8], against: &CredentialHash, today: HashCost, memory: &mut Memory) -> Option<Match> {
    let stored = PasswordHash::new(against.as_phc()).ok()?;
    let params = Params::try_from(&stored).ok()?;
    let (salt, expected) = (stored.salt.as_ref()?, stored.hash.as_ref()?);
    let affordable = params.m_cost() <= MAX_STORED_MEMORY_KIB && params.t_cost() <= MAX_STORED_ITERATIONS;
    if stored.algorithm != Algorithm::Argon2id.ident() || !affordable {
        return None;
    }
    let outdated = (params.m_cost(), params.t_cost(), params.p_cost()) != (today.memory_kib, today.iterations, 1);
    let made_up_for = what_is_missing(&params, today);
    let mut out = vec![0; expected.len()];
    memory.compute(secret, salt.as_ref(), &params, &mut out).ok()?;
    let matches = aws_lc_rs::constant_time::verify_slices_are_equal(&out, expected.as_bytes()).is_ok();
    if let Some(missing) = made_up_for {
        let mut nothing = [0; OUTPUT_BYTES];
        memory.compute(secret, salt.as_ref(), &missing.params().ok()?, &mut nothing).ok()?;
    }
    Some(Match { matches, outdated })
}

/// Returns the cost that a hash lacks compared with today's: the duration of argon2id is proportional to memory × passes.
/// `None` if the difference cannot be noticed.
fn what_is_missing(stored: &Params, today: HashCost) -> Option<HashCost> {
    let work = |memory: u32, iterations: u32| u64::from(memory) * u64::from(iterations);
    let due = work(today.memory_kib, today.iterations);
    let missing = due.saturating_sub(work(stored.m_cost(), stored.t_cost()));
    if missing <= due / UNNOTICEABLE {
        return None;
    }
    let iterations = missing.div_ceil(u64::from(today.memory_kib.max(1)));
    let memory_kib = (missing / iterations).max(u64::from(Params::MIN_M_COST));
    Some(HashCost { memory_kib: u32::try_from(memory_kib).ok()?, iterations: u32::try_from(iterations).ok()? })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::hasher::backend::HashBackend;

    struct Counter(AtomicU64);
    impl Entropy for Counter {
        fn fill(&self, buffer: &mut [u8]) {
            for byte in buffer {
                *byte = u8::try_from(self.0.fetch_add(1, Ordering::Relaxed) % 251).unwrap();
            }
        }
    }

    const CHEAP: HashCost = HashCost { memory_kib: 64, iterations: 1 };

    #[test]
    fn s01_the_same_secret_hashes_differently_each_time_and_verifies() {
        let entropy = Counter(AtomicU64::new(0));
        let mut memory = Memory::new(HashBackend::Fast);
        let one = hash(b"secret", CHEAP, &entropy, &mut memory).unwrap();
        let two = hash(b"secret", CHEAP, &entropy, &mut memory).unwrap();
        assert_ne!(one, two);
        assert!(one.as_phc().starts_with("$argon2id$v=19$m=64,t=1,p=1$"));
        for stored in [&one, &two] {
            assert_eq!(verify(b"secret", stored, CHEAP, &mut memory), Some(Match { matches: true, outdated: false }));
            assert!(!verify(b"Secret", stored, CHEAP, &mut memory).unwrap().matches);
        }
    }

    #[test]
    fn s06_a_hash_of_another_cost_verifies_and_is_outdated() {
        let entropy = Counter(AtomicU64::new(0));
        let mut memory = Memory::new(HashBackend::Fast);
        let old = hash(b"secret", CHEAP, &entropy, &mut memory).unwrap();
        for today in [HashCost { memory_kib: 128, iterations: 1 }, HashCost { memory_kib: 32, iterations: 1 }] {
            assert_eq!(verify(b"secret", &old, today, &mut memory), Some(Match { matches: true, outdated: true }));
            assert_eq!(verify(b"other", &old, today, &mut memory), Some(Match { matches: false, outdated: true }));
        }
    }

    #[test]
    fn s11_an_older_hash_costs_what_todays_does() {
        let today = HashCost { memory_kib: 19_456, iterations: 2 };
        for (memory, iterations) in [(64, 1), (8, 1), (9_000, 2), (19_456, 1), (12_288, 3), (4_096, 9)] {
            let stored = Params::new(memory, iterations, 1, Some(OUTPUT_BYTES)).unwrap();
            let missing = what_is_missing(&stored, today).unwrap();
            assert!(missing.memory_kib <= today.memory_kib, "no more memory than a hash of today: {missing:?}");
            let whole = memory * iterations + missing.memory_kib * missing.iterations;
            assert!(whole.abs_diff(38_912) < 10, "{memory} × {iterations}: {whole}");
        }
        // As expensive as today's or more, or cheaper by an unnoticeable part.
        for (memory, iterations) in [(19_456, 2), (65_536, 3), (12_900, 3)] {
            let stored = Params::new(memory, iterations, 1, Some(OUTPUT_BYTES)).unwrap();
            assert_eq!(what_is_missing(&stored, today), None);
        }
    }

    #[test]
    fn a_stored_hash_cannot_choose_a_ruinous_cost() {
        let mut memory = Memory::new(HashBackend::Fast);
        for phc in [
            "$argon2id$v=19$m=4294967295,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "$argon2id$v=19$m=64,t=4000000,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "$argon2i$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "not a hash",
            "",
        ] {
            let stored = CredentialHash::from_phc(phc.to_owned());
            assert_eq!(verify(b"secret", &stored, CHEAP, &mut memory), None, "{phc}");
        }
    }
}
