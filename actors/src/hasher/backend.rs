//! The implementation that computes argon2id, and the memory it works in.
//!
//! There are two implementations, which compute the same hashes, so each can verify a hash of the other.
//! The crate `argon2` is portable; `argon2-rust` uses the vector instructions of the processor and takes a fraction of the time.

use std::sync::OnceLock;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use argon2_rust as fast;

use super::self_test;
use crate::ports::Entropy;

/// The minimum number of blocks to allocate: 40 MiB. From 32 MiB on, glibc maps each allocation separately and unmaps it when it is
/// freed. Smaller allocations of this size would stay with the process, and each idle period would add to them.
/// Pages that are never written take no memory. The fast implementation maps its own pages.
const OWN_MAPPING_BLOCKS: usize = 40 * 1024;

/// Which implementation may compute argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashBackendChoice {
    /// The fast implementation if the processor has the instructions for it and it passes a self-test; otherwise the portable one.
    Auto,
    /// The portable implementation.
    Portable,
}

impl HashBackendChoice {
    /// Parses `auto` or `portable`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "portable" => Some(Self::Portable),
            _ => None,
        }
    }
}

/// The implementation that computes argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashBackend {
    /// `argon2-rust`, with the widest vector instructions of this processor.
    Fast,
    /// `argon2`, which runs everywhere.
    Portable,
}

impl HashBackend {
    /// Chooses the implementation. The fast one is tested before its first use in the process, which takes some tens of milliseconds.
    /// The result is kept, because the processor stays the same.
    #[must_use]
    pub fn choose(choice: HashBackendChoice, entropy: &dyn Entropy) -> Self {
        static PASSED: OnceLock<bool> = OnceLock::new();
        if choice == HashBackendChoice::Portable || !has_vectors() {
            return Self::Portable;
        }
        Self::tested(|| *PASSED.get_or_init(|| self_test::passes(entropy, &mut Fast::default())))
    }

    /// Returns the fast implementation if it passes its self-test, otherwise the portable one.
    pub(super) fn tested(passes: impl FnOnce() -> bool) -> Self {
        if passes() {
            return Self::Fast;
        }
        tracing::warn!(
            instructions = Self::Fast.name(),
            "the fast implementation for password hashes failed its self-test; the portable implementation is used instead"
        );
        Self::Portable
    }

    /// Returns the name of the instructions that the fast implementation uses, or `portable`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => fast::detected_backend().name(),
            Self::Portable => "portable",
        }
    }
}

/// Returns whether this processor has vector instructions with which the fast implementation is faster.
fn has_vectors() -> bool {
    matches!(fast::detected_backend(), fast::Backend::Avx512 | fast::Backend::Avx2 | fast::Backend::Neon)
}

/// The input of a hash.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) password: &'a [u8],
    pub(super) salt: &'a [u8],
    /// The secret value of RFC 9106 §3.1. Doorward uses none, but a published test vector does.
    pub(super) pepper: &'a [u8],
}

/// Computes argon2id, version 0x13.
pub(super) trait Compute {
    /// Fills `out`. Its length is also a parameter of the hash.
    fn compute(&mut self, input: Input<'_>, params: &Params, out: &mut [u8]) -> Result<(), argon2::Error>;
}

/// The fast implementation and its memory, which is as large as its largest hash so far and is overwritten after each hash.
#[derive(Default)]
pub(super) struct Fast(Option<fast::Hasher>);

impl Compute for Fast {
    fn compute(&mut self, input: Input<'_>, params: &Params, out: &mut [u8]) -> Result<(), argon2::Error> {
        let Input { password, salt, pepper } = input;
        let mut hash = || {
            let length = u64::try_from(out.len()).unwrap_or(u64::MAX);
            let cost = fast::Params::builder()
                .memory(fast::params::Memory::kib(params.m_cost().into()))
                .passes(params.t_cost())
                .lanes(params.p_cost())
                // The hashing threads are the only ones; a hash starts no others.
                .threads(1)
                .tag_len(fast::params::TagLen::bytes(length))
                .build()?;
            let argon2 = fast::Argon2::new(fast::Algorithm::Argon2id, fast::Version::V0x13, cost);
            let hasher = self.0.get_or_insert_with(|| argon2.hasher());
            hasher.set_argon2(argon2);
            hasher.hash_into_with_ad(password, salt, pepper, params.data(), out)
        };
        hash().map_err(|error| match error {
            fast::Error::MemoryAllocationError => argon2::Error::OutOfMemory,
            _ => argon2::Error::AlgorithmInvalid,
        })
    }
}

/// The portable implementation and its memory, which is as large as its largest hash so far.
#[derive(Default)]
pub(super) struct Portable(Vec<Block>);

impl Compute for Portable {
    fn compute(&mut self, input: Input<'_>, params: &Params, out: &mut [u8]) -> Result<(), argon2::Error> {
        let Input { password, salt, pepper } = input;
        let blocks = params.block_count();
        if self.0.len() < blocks {
            // The old content is not needed, so it is not copied.
            self.0 = Vec::new();
            self.0.reserve_exact(blocks.max(OWN_MAPPING_BLOCKS));
            self.0.resize(blocks, Block::default());
        }
        let argon2 = Argon2::new_with_secret(pepper, Algorithm::Argon2id, Version::V0x13, params.clone())?;
        argon2.hash_password_into_with_memory(password, salt, out, &mut self.0[..blocks])
    }
}

/// The working memory of one thread: as large as its largest hash so far, and only of the implementation that is used.
pub(super) struct Memory {
    backend: HashBackend,
    fast: Fast,
    portable: Portable,
}

impl Memory {
    /// Allocates nothing; the first hash does.
    pub(super) fn new(backend: HashBackend) -> Self {
        Self { backend, fast: Fast::default(), portable: Portable::default() }
    }

    pub(super) fn compute(
        &mut self,
        password: &[u8],
        salt: &[u8],
        params: &Params,
        out: &mut [u8],
    ) -> Result<(), argon2::Error> {
        let input = Input { password, salt, pepper: &[] };
        if self.backend == HashBackend::Fast {
            match self.fast.compute(input, params, out) {
                // It refused the parameters. The portable implementation accepts them or returns the exact error.
                Err(argon2::Error::AlgorithmInvalid) => {}
                done => return done,
            }
        }
        self.portable.compute(input, params, out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A hash as it may be imported, at a small cost.
    fn hashed() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, Params)> {
        let cost = (1_u32..4, 0_u32..700, 1_u32..4, 10_usize..65, prop::collection::vec(any::<u8>(), 0..33));
        let params = cost.prop_map(|(lanes, more, passes, length, data)| {
            let data = argon2::AssociatedData::new(&data).unwrap();
            let mut params = argon2::ParamsBuilder::new();
            params.m_cost(8 * lanes + more).t_cost(passes).p_cost(lanes).output_len(length).data(data).build().unwrap()
        });
        let bytes = |length| prop::collection::vec(any::<u8>(), length);
        (bytes(0..300), bytes(8..49), params)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Computes several hashes in a row, so that memory is reused.
        #[test]
        fn s01_both_backends_compute_the_same(hashes in prop::collection::vec(hashed(), 1..4)) {
            let mut memories = [HashBackend::Fast, HashBackend::Portable].map(Memory::new);
            for (password, salt, params) in hashes {
                let [fast, portable] = memories.each_mut().map(|memory| {
                    let mut out = vec![0; params.output_len().unwrap()];
                    memory.compute(&password, &salt, &params, &mut out).unwrap();
                    out
                });
                prop_assert_eq!(fast, portable);
            }
            // Neither used the memory of the other.
            prop_assert!(memories[0].portable.0.is_empty() && memories[1].fast.0.is_none());
        }
    }

    #[test]
    fn what_the_fast_code_refuses_is_left_to_the_portable_one() {
        let params = Params::new(8, 1, 1, Some(32)).unwrap();
        let mut memory = Memory::new(HashBackend::Fast);
        assert_eq!(memory.compute(b"", b"short", &params, &mut [0; 32]), Err(argon2::Error::SaltTooShort));
        assert!(!memory.portable.0.is_empty());
    }

    #[test]
    fn the_portable_code_can_be_asked_for() {
        struct Unasked;
        impl Entropy for Unasked {
            fn fill(&self, _: &mut [u8]) {
                panic!("there is no test of the portable implementation");
            }
        }
        let choice = HashBackendChoice::from_name("portable").unwrap();
        assert_eq!(HashBackend::choose(choice, &Unasked), HashBackend::Portable);
        assert_eq!(HashBackend::Portable.name(), "portable");
        assert_eq!(HashBackendChoice::from_name("auto"), Some(HashBackendChoice::Auto));
        assert_eq!(HashBackendChoice::from_name("Auto"), None);
    }
}
