//! The duration and the number of repetitions of measurements.

use std::time::Duration;

/// The extent of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// The duration of one measurement of a steady load.
    pub(crate) round: Duration,
    /// The number of repetitions. The rounds of the compared loads alternate, so that a slow minute affects all of
    /// them.
    pub(crate) rounds: usize,
    /// The duration of a storm and of the quiet before it.
    pub(crate) storm: Duration,
    /// The number of storms.
    pub(crate) storms: usize,
    /// The number of samples for each kind of answer that costs a hash.
    pub(crate) samples: usize,
    /// The number of samples for each other kind of answer, which takes a hundredth of the time.
    pub(crate) quick_samples: usize,
    /// The number of keys in the filled limiter.
    pub(crate) keys: u32,
    /// The number of connections in a crowd.
    pub(crate) crowd: usize,
    /// The number of accounts in a large directory.
    pub(crate) accounts: usize,
    /// The number of sessions in a large directory.
    pub(crate) sessions: usize,
}

impl Extent {
    const FULL: Self = Self {
        round: Duration::from_secs(8),
        rounds: 5,
        storm: Duration::from_secs(20),
        storms: 3,
        samples: 300,
        quick_samples: 3000,
        keys: 1_000_000,
        crowd: 5000,
        accounts: 1_000_000,
        sessions: 100_000,
    };
    /// Shows that everything runs. Its numbers mean nothing.
    const SHORT: Self = Self {
        round: Duration::from_secs(1),
        rounds: 1,
        storm: Duration::from_secs(3),
        storms: 1,
        samples: 10,
        quick_samples: 50,
        keys: 20_000,
        crowd: 400,
        accounts: 10_000,
        sessions: 5000,
    };

    /// Returns the extent from the command line: `--short`, and `--seconds=N` for the duration of a storm.
    pub(crate) fn of_command_line() -> Self {
        let mut extent = if std::env::args().any(|argument| argument == "--short") { Self::SHORT } else { Self::FULL };
        if let Some(seconds) = std::env::args().find_map(|argument| argument.strip_prefix("--seconds=")?.parse().ok()) {
            extent.storm = Duration::from_secs(seconds);
        }
        extent
    }
}
