//! The self-test of the fast implementation: published and recorded tags, and a comparison with the portable one on random inputs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use argon2::{AssociatedData, Params, ParamsBuilder};

use super::backend::{Compute, Input, Portable};
use crate::ports::Entropy;

/// The test vector of argon2id in RFC 9106 §5.3: four lanes, a secret value and associated data.
const RFC_9106: [u8; 32] = [
    0x0d, 0x64, 0x0d, 0xf5, 0x8d, 0x78, 0x76, 0x6c, 0x08, 0xc0, 0x37, 0xa3, 0x4a, 0x8b, 0x53, 0xc9, 0xd0, 0x1e, 0xf0,
    0x45, 0x2d, 0x75, 0xb6, 0x5e, 0xb5, 0x25, 0x20, 0xe9, 0x6b, 0x01, 0xe6, 0x59,
];
/// The output of the reference implementation in C at 19,456 KiB and two passes.
const RECORDED: [(&[u8], &[u8; 16], [u8; 32]); 2] = [
    (
        b"password",
        b"somesaltsomesalt",
        [
            0x2b, 0x5d, 0xc4, 0x05, 0x48, 0x86, 0xec, 0x95, 0x7e, 0xf5, 0x9c, 0x73, 0xb6, 0x61, 0xc5, 0x4d, 0xd6, 0xfb,
            0x27, 0x45, 0x90, 0xb2, 0x78, 0xf6, 0x57, 0xc6, 0xd9, 0x6a, 0xac, 0x8f, 0xa6, 0xd1,
        ],
    ),
    (
        "Straße 1 kanarienvogel".as_bytes(),
        &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [
            0xc3, 0x62, 0xda, 0x35, 0x8d, 0xc6, 0x81, 0x6a, 0xdc, 0x9b, 0x27, 0xc8, 0x4e, 0x9f, 0x53, 0x91, 0x0a, 0xec,
            0x7c, 0x7c, 0x81, 0x48, 0x02, 0x64, 0xea, 0x8f, 0x7e, 0x0e, 0xce, 0xd1, 0x8c, 0xa0,
        ],
    ),
];
/// Memory, passes, lanes and length of the hashes of random inputs: the cost of new hashes, the minimum, memory that is not a multiple
/// of four blocks, and shapes of imported hashes. In this order, memory is reused for smaller hashes.
const SHAPES: [(u32, u32, u32, usize); 6] =
    [(19_456, 2, 1, 32), (8, 1, 1, 32), (1_031, 2, 1, 16), (13, 3, 1, 64), (2_063, 1, 2, 32), (67, 2, 3, 24)];

/// Returns whether this implementation computes argon2id correctly. A panic counts as a failure.
pub(super) fn passes(entropy: &dyn Entropy, backend: &mut impl Compute) -> bool {
    let passed =
        || Ok::<_, argon2::Error>(knows_the_answers(backend)? && agrees_with_the_portable_one(entropy, backend)?);
    matches!(catch_unwind(AssertUnwindSafe(passed)), Ok(Ok(true)))
}

fn knows_the_answers(backend: &mut impl Compute) -> Result<bool, argon2::Error> {
    let mut out = [0; 32];
    let published = Input { password: &[1; 32], salt: &[2; 16], pepper: &[3; 8] };
    let data = AssociatedData::new(&[4; 12])?;
    let params = ParamsBuilder::new().m_cost(32).t_cost(3).p_cost(4).data(data).output_len(out.len()).build()?;
    backend.compute(published, &params, &mut out)?;
    let mut right = out == RFC_9106;
    for (password, salt, expected) in RECORDED {
        let params = Params::new(19_456, 2, 1, Some(out.len()))?;
        backend.compute(Input { password, salt, pepper: &[] }, &params, &mut out)?;
        right &= out == expected;
    }
    Ok(right)
}

fn agrees_with_the_portable_one(entropy: &dyn Entropy, backend: &mut impl Compute) -> Result<bool, argon2::Error> {
    let mut portable = Portable::default();
    for (memory_kib, iterations, lanes, length) in SHAPES {
        let mut random = [0; 17 + 255];
        entropy.fill(&mut random);
        let [shortened, random @ ..] = random;
        let (salt, password) = random.split_at(16);
        let password = password.get(usize::from(shortened)..).unwrap_or_default();
        let params = Params::new(memory_kib, iterations, lanes, Some(length))?;
        let (mut one, mut other) = (vec![0; length], vec![0; length]);
        let input = Input { password, salt, pepper: &[] };
        backend.compute(input, &params, &mut one)?;
        portable.compute(input, &params, &mut other)?;
        if one != other {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;
    use crate::hasher::backend::{Fast, HashBackend};

    /// The same bytes in each test, but different ones for each shape.
    struct Counted(AtomicU8);
    impl Entropy for Counted {
        fn fill(&self, buffer: &mut [u8]) {
            for byte in buffer {
                *byte = self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn tested(mut backend: impl Compute) -> bool {
        passes(&Counted(0.into()), &mut backend)
    }

    /// The fault in one hash of a test.
    #[derive(Clone, Copy)]
    enum Fault {
        Bit,
        Refusal,
        Panic,
    }
    struct Faulty {
        backend: Fast,
        left: usize,
        fault: Fault,
    }
    impl Compute for Faulty {
        fn compute(&mut self, input: Input<'_>, params: &Params, out: &mut [u8]) -> Result<(), argon2::Error> {
            self.backend.compute(input, params, out)?;
            self.left = self.left.wrapping_sub(1);
            match (self.left, self.fault) {
                (0, Fault::Bit) => out[out.len() - 1] ^= 1,
                (0, Fault::Refusal) => return Err(argon2::Error::AlgorithmInvalid),
                (0, Fault::Panic) => panic!("a fault of this test"),
                _ => {}
            }
            Ok(())
        }
    }

    #[test]
    fn s01_both_backends_compute_what_is_published() {
        assert!(tested(Fast::default()));
        assert!(tested(Portable::default()));
    }

    #[test]
    fn s01_a_backend_that_fails_one_hash_of_its_self_test_is_not_used() {
        let chosen = |left, fault| HashBackend::tested(|| tested(Faulty { backend: Fast::default(), left, fault }));
        let hashes = 1 + RECORDED.len() + SHAPES.len();
        for number in 1..=hashes {
            assert_eq!(chosen(number, Fault::Bit), HashBackend::Portable, "a wrong bit in hash {number}");
        }
        assert_eq!(chosen(hashes + 1, Fault::Bit), HashBackend::Fast, "there are no more hashes than these");
        for fault in [Fault::Refusal, Fault::Panic] {
            assert_eq!(chosen(hashes, fault), HashBackend::Portable);
        }
    }
}
