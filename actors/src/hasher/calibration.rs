//! The measurement of how long a hash takes on this machine while all threads compute one.

use std::sync::Barrier;
use std::time::Duration;

use super::argon2id::{self, HashCost};
use super::backend::{HashBackend, Memory};
use crate::ports::{Clock, Entropy};

/// The maximum number of hashes per thread in one measurement.
const MAX_ROUNDS: u32 = 64;

/// The cost could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// The cost is outside what argon2 allows.
    #[error("this cost is not possible: {0}")]
    Cost(argon2::Error),
    /// A thread ended before it finished its measurement.
    #[error("a measuring thread failed")]
    Thread,
}

/// Measures the time of one hash of this cost while `threads` hashes are computed at once; returns the mean over all threads.
/// Each thread first computes a hash that is not counted, because a server reuses its memory.
/// It then computes for about `duration`, but at least one hash. Blocks in the meantime, and uses threads × memory.
pub fn pace_of(
    cost: HashCost,
    backend: HashBackend,
    threads: usize,
    duration: Duration,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Duration, CalibrationError> {
    let threads = threads.max(1);
    let ready = Barrier::new(threads);
    let one = || -> Result<Duration, argon2::Error> {
        let mut memory = Memory::new(backend);
        let warmed = argon2id::hash(b"calibration", cost, entropy, &mut memory);
        // Waits even after a failure, because otherwise the other threads would wait for ever.
        ready.wait();
        warmed?;
        let began = clock.monotonic();
        let mut rounds = 0;
        loop {
            argon2id::hash(b"calibration", cost, entropy, &mut memory)?;
            rounds += 1;
            let took = clock.monotonic().saturating_sub(began);
            if took >= duration || rounds == MAX_ROUNDS {
                return Ok(took / rounds);
            }
        }
    };
    let measured: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        running.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut whole = Duration::ZERO;
    for paced in measured {
        whole += paced.map_err(|_| CalibrationError::Thread)?.map_err(CalibrationError::Cost)?;
    }
    Ok(whole / u32::try_from(threads).unwrap_or(u32::MAX))
}
